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
