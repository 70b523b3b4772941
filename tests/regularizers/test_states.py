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
