"""A network that is not trained beside one that is has no output layer of the model."""

import pytest
import torch
from torch import nn

from comhe.regularizers.selection import select


class Wrapped(nn.Module):
    def __init__(self, **modules):
        super().__init__()
        for name, module in modules.items():
            self.add_module(name, module)


def network():
    return Wrapped(body=nn.Linear(6, 8), fc=nn.Linear(8, 3))


def frozen():
    return network().requires_grad_(False)


AVERAGED = torch.optim.swa_utils.AveragedModel
MODELS = {
    "after": (Wrapped(student=network(), teacher=frozen()), ["student.fc"]),
    "before": (Wrapped(teacher=frozen(), student=network()), ["student.fc"]),
    "in a list": (nn.ModuleList([network(), frozen()]), ["0.fc"]),
    "in a loss": (Wrapped(net=network(), loss=Wrapped(teacher=frozen())), ["net.fc"]),
    "in a module below": (Wrapped(method=Wrapped(q=network(), k=frozen())), ["method.q.fc"]),
    "averaged": (Wrapped(net=network(), ema=AVERAGED(network())), ["net.fc"]),
    "perceptual": (Wrapped(vgg=frozen(), net=nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 6))), ["net.1"]),
    "a frozen backbone": (Wrapped(backbone=frozen(), top=nn.Linear(3, 4)), ["top"]),
    "a frozen head": (Wrapped(body=nn.Linear(6, 8), neck=nn.Linear(8, 8), fc=frozen().fc), ["fc"]),
    "nothing is trained": (frozen(), ["fc"]),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("what", MODELS)
def test_the_trained_network_has_the_output_layer(what):
    model, expected = MODELS[what]
    assert [layer.name for layer in select(model).layers if layer.role == "output"] == expected


def test_a_trained_head_comes_before_a_frozen_one():
    model = Wrapped(net=network(), loss=Wrapped(teacher=frozen(), projection=nn.Linear(8, 8)))
    with pytest.warns(UserWarning, match=r"any of net.fc, loss.teacher.fc; net.fc is taken"):
        select(model)


def deep():
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))


class ModelEmaV3(nn.Module):
    """As timm's."""

    def __init__(self, model):
        super().__init__()
        self.module = model


FOLLOWERS = {
    "torch's average": (Wrapped(net=deep(), mean=AVERAGED(deep())), ["mean"]),
    "timm's average": (Wrapped(net=deep(), mean=ModelEmaV3(deep())), ["mean"]),
    "in a module below": (Wrapped(method=Wrapped(net=deep(), net_ema=deep())), ["method.net_ema"]),
    "registered first": (Wrapped(teacher=deep(), student=deep()), ["teacher"]),
    "of another name": (Wrapped(backbone=deep(), ema=deep()), ["ema"]),
    "of BYOL": (Wrapped(online_encoder=deep(), target_encoder=deep()), ["target_encoder"]),
    "of DQN": (Wrapped(q_net=deep(), target_net=deep(), q_target=deep()), ["target_net", "q_target"]),
    "of DQN, by the tutorial": (Wrapped(policy_net=deep(), target_net=deep()), ["target_net"]),
    "of DQN, local": (Wrapped(qnetwork_local=deep(), qnetwork_target=deep()), ["qnetwork_target"]),
    "of DQN, evaluated": (Wrapped(eval_net=deep(), target_net=deep()), ["target_net"]),
    "of MoCo": (Wrapped(base_encoder=deep(), momentum_encoder=deep()), ["momentum_encoder"]),
    "of PPO": (Wrapped(policy=deep(), policy_old=deep()), ["policy_old"]),
    "two domains": (Wrapped(source_net=deep(), target_net=deep()), []),
    "of TD3": (Wrapped(qf1=deep(), qf2=deep(), qf1Target=deep(), qf2Target=deep()), ["qf1Target", "qf2Target"]),
    "parallel branches": (Wrapped(main=deep(), avg=deep()), []),
    "projections": (Wrapped(q=nn.Linear(6, 8), target=nn.Linear(6, 8)), []),
    "single layers": (Wrapped(main=nn.Linear(6, 8), target=nn.Linear(6, 8)), []),
    "projections of two boxes": (Wrapped(base_proj=nn.Linear(6, 8), target_proj=nn.Linear(6, 8)), []),
    "of now and before": (Wrapped(current_fc=nn.Linear(6, 8), old_fc=nn.Linear(6, 8)), []),
    "a single layer of DQN": (Wrapped(q=nn.Linear(6, 8), q_target=nn.Linear(6, 8)), ["q_target"]),
    "a single layer of BYOL": (Wrapped(online_proj=nn.Linear(6, 8), target_proj=nn.Linear(6, 8)), ["target_proj"]),
    "a single teacher": (Wrapped(main_fc=nn.Linear(6, 8), teacher_fc=nn.Linear(6, 8)), ["teacher_fc"]),
    "two towers": (Wrapped(source_encoder=deep(), target_encoder=deep()), []),
    "two physical heads": (Wrapped(body=nn.Linear(6, 8), position=nn.Linear(8, 3), momentum=nn.Linear(8, 3)), []),
    "of other layers": (Wrapped(student=deep(), teacher=nn.Linear(6, 3)), []),
    "frozen": (Wrapped(student=network(), teacher=frozen()), []),
}


@pytest.mark.filterwarnings("ignore:the output layer may be", "ignore:.* is not regularized")
@pytest.mark.parametrize("what", FOLLOWERS)
def test_what_follows_another_network_is_left_alone(what):
    """Nothing but the penalty would give it a gradient, and an optimizer of all parameters would use it."""
    model, expected = FOLLOWERS[what]
    layers, skipped = select(model)
    reasons = {item.name: item.reason for item in skipped}
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear):
            followed = any(name.startswith(path) for path in expected)
            assert followed == ("nothing else trains it" in reasons.get(name, ""))
            assert followed != (name in [layer.name for layer in layers])


def test_a_network_with_the_name_of_a_copy_can_be_included():
    model = Wrapped(student=deep(), teacher=deep())
    with pytest.warns(UserWarning, match="teacher is not regularized: by its name it follows student, and nothing"):
        assert "student" in select(model).skipped[0].reason
    for include in ("teacher,student", "teacher.*,student.0,student.2"):
        names = [layer.name for layer in select(model, include=include, output=None).layers]
        assert names == ["student.0", "student.2", "teacher.0", "teacher.2"]
    with pytest.warns(UserWarning, match="teacher is not regularized"):
        assert [layer.name for layer in select(model, include="*.0", output=None).layers] == ["student.0"]


@pytest.mark.parametrize("name", ["EmailHead", "EMANet", "EmaModel"])
def test_a_class_that_is_called_like_an_average_is_none_alone(name):
    """Expectation-maximization attention is no exponential moving average; without a network like it, neither is."""
    head = type(name, (Wrapped,), {})(body=nn.Linear(8, 8), last=nn.Linear(8, 3))
    layers, skipped = select(Wrapped(stem=nn.Linear(6, 8), head=head))
    assert [(layer.name, layer.role) for layer in layers][-1] == ("head.last", "output")
    assert skipped == []
