"""States of regularizers: restored where they fit, refused with the reason where they do not."""

import pytest
import torch
from torch import nn

from comhe.errors import UsageError
from comhe.regularizers import create_regularizer


def network(classes=3, layers=2):
    return nn.Sequential(*(nn.Linear(40, 40) for _ in range(layers)), nn.Linear(40, classes))


def attached(name="ap-comhe", **sizes):
    return (
        create_regularizer(name, network(**sizes), dim=10) if "comhe" in name else create_regularizer(name, network())
    )


WRONG = {
    "it is empty": {},
    "it has 0.bias, 0.weight": network().state_dict(),
    "not the state of a regularizer": {"_extra_state": 3},
    "mhe is the penalty, not ap-comhe; projection:0.* are missing": attached("mhe").state_dict(),
    "adv-comhe is the penalty, not ap-comhe": attached("adv-comhe").state_dict(),
    "projection:2 have no layer here": attached(layers=3).state_dict(),
    "projection:1 are missing": attached(layers=1).state_dict(),
    "epoch have no layer here": attached().state_dict() | {"epoch": 3},
    "projection:0 have another shape here": attached().state_dict() | {"projection:0": torch.ones(2, 2)},
}


@pytest.mark.parametrize("message", WRONG)
def test_states_of_others_are_refused(message):
    regularizer = attached()
    before = {key: value for key, value in regularizer.state_dict().items() if isinstance(value, torch.Tensor)}
    with pytest.raises(UsageError, match=message):
        regularizer.load_state_dict(WRONG[message])
    assert regularizer.step == 0
    assert all(regularizer.state_dict()[key].equal(value) for key, value in before.items())


def test_a_penalty_that_learns_nothing_does_not_take_the_state_of_another():
    state = attached("so").state_dict()
    with pytest.raises(UsageError, match="so is the penalty, not mhe"):
        attached("mhe").load_state_dict(state)
    attached("so").load_state_dict(state)


def test_each_layer_has_a_state_of_its_own_whatever_its_name():
    model = nn.ModuleDict({"a/b": nn.Linear(40, 8), "a": nn.ModuleDict({"b": nn.Linear(40, 8)})})
    regularizer = create_regularizer("ap-comhe", model, dim=10, output=None)
    assert {regularizer.state_name(layer) for layer in regularizer.layers} == {"projection:a//b", "projection:a/b"}


def test_states_of_earlier_versions_do_not_tell_their_penalty():
    saved, regularizer = attached(), attached()
    saved()
    state = saved.state_dict() | {"_extra_state": {"step": 1, "seed": 0}}
    regularizer.load_state_dict(state)
    assert regularizer.step == 1
    assert regularizer.state_dict()["projection:0"].equal(state["projection:0"])


def test_what_fits_is_loaded_on_request():
    saved, regularizer = attached(layers=3), attached()
    saved()
    found = regularizer.load_state_dict(saved.state_dict() | {"projection:1": torch.ones(2)}, strict=False)
    assert found.unexpected_keys == ["projection:2"]
    assert found.missing_keys == ["projection:1"]
    assert regularizer.state_dict()["projection:0"].equal(saved.state_dict()["projection:0"])


@pytest.mark.parametrize("capturable", [False, True])
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["ap-comhe", "adv-comhe", "mhp"])
def test_a_step_with_weights_that_are_not_finite_teaches_nothing(name, bad, capturable):
    model = network()
    regularizer = create_regularizer(name, model, output=None, **({"dim": 10} if "comhe" in name else {}))
    regularizer.capturable = capturable
    regularizer()
    before = {key: value.clone() for key, value in regularizer.named_buffers()}
    good = model[1].weight.detach().clone()
    model[1].weight.data[0, 0] = bad
    regularizer()
    after = dict(regularizer.named_buffers())
    assert [key for key, value in before.items() if value.equal(after[key])] == [key for key in before if ":1" in key]
    model[1].weight.data.copy_(good)
    regularizer().backward()
    assert all(
        value.isfinite().all()
        for value in (*regularizer.buffers(), *(p.grad for p in model[1:2].parameters() if p.grad is not None))
    )


def test_the_state_of_a_model_with_its_regularizer_is_made_of_tensors(tmp_path):
    torch_files = pytest.importorskip("safetensors.torch")

    class Module(nn.Module):
        def __init__(self):
            super().__init__()
            self.network = network()
            self.regularizer = create_regularizer("ap-comhe", self.network, dim=10, seed=2**70)

    saved, restored = Module(), Module()
    saved.regularizer()
    shape = restored.regularizer.get_extra_state().shape
    saved.regularizer.step = 10**9
    assert saved.regularizer.get_extra_state().shape == shape
    torch_files.save_model(saved, str(tmp_path / "model.safetensors"))
    torch_files.load_model(restored, str(tmp_path / "model.safetensors"))
    assert (restored.regularizer.step, restored.regularizer.seed) == (10**9, 2**70)
    for one, other in zip(saved.regularizer.buffers(), restored.regularizer.buffers(), strict=True):
        assert one.equal(other)


def test_states_that_a_module_loads_are_checked_too():
    regularizer = attached()
    with pytest.raises(UsageError, match="step and seed in _extra_state"):
        nn.ModuleDict({"r": regularizer}).load_state_dict({"r._extra_state": torch.zeros(8)}, strict=False)
