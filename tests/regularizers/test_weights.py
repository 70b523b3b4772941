import warnings

import numpy as np
import pytest
import torch
from torch import nn

from comhe.errors import UsageError
from comhe.regularizers import MHE, Penalty, RegularizerWarning, check_regularizer, create_regularizer
from comhe.regularizers.weights import check_number, check_weights


def test_defaults():
    def schedule(step):
        return 0.5 * step

    assert check_weights(MHE(), None, "default") == (1.0, 10.0)
    assert check_weights(Penalty(), None, "default") == (1.0, 1.0)
    assert check_weights(MHE(), 2, None) == (2.0, 2.0)
    assert check_weights(MHE(), schedule, "default") == (schedule, 10.0)
    assert check_weights(MHE(), schedule, None) == (schedule, schedule)
    assert check_weights(MHE(), None, 0.0) == (1.0, 0.0)


@pytest.mark.parametrize("number", [np.float32(0.5), np.int64(2), np.float64(0.5)])
def test_numbers_of_numpy(number):
    assert check_number(number, "x") == number
    assert type(check_number(number, "x")) is float


def test_a_table_has_globs():
    with pytest.raises(UsageError, match="a table of weights has globs on the names of layers, given as text, not 0"):
        check_weights(MHE(), {"1": 2.0, 0: 1.0}, None)


@pytest.mark.parametrize("weight", [-1, float("nan"), float("inf"), True, "1", None])
def test_wrong_numbers(weight):
    with pytest.raises(UsageError, match="x must be a finite number >= 0 or a function of the step"):
        check_number(weight, "x")


def test_a_table_of_weights_by_layer():
    torch.manual_seed(0)
    model = nn.ModuleDict({name: nn.Linear(6, 5) for name in ("stem", "block1", "block2", "head")})
    single = {row.name: row.penalty for row in create_regularizer("so", model, weight=1.0).report().layers}

    def value(weight, **options):
        regularizer = create_regularizer("so", model, weight=weight, **options)
        return {row.name: row.weight for row in regularizer.report().layers}, regularizer().item()

    for weight, options, expected in (
        ({"block*": 0.5, "head": 3}, {}, (0.01, 0.5, 0.5, 3.0)),  # the others have the penalty's default
        ({"block1": 2.0, "block*": 0.5, "*": 0.0}, {}, (0.0, 2.0, 0.5, 0.0)),  # the first that matches
        ({"block*": 0.5}, {"output_weight": 4.0}, (0.01, 0.5, 0.5, 4.0)),
        ({"*": 1.0}, {"output_weight": 4.0}, (1.0, 1.0, 1.0, 1.0)),
        ({"stem": lambda step: step + 2.0}, {"output_weight": None}, (2.0, 0.01, 0.01, 0.01)),
    ):
        weights, total = value(weight, **options)
        assert tuple(weights.values()) == expected
        assert total == pytest.approx(sum(weights[name] * single[name] for name in single), rel=1e-5)


def test_schedules_in_a_table_are_called_with_each_step():
    model = nn.Sequential(nn.Linear(6, 5), nn.Linear(5, 3))
    regularizer = create_regularizer("mhe", model, weight={"0": lambda step: float(step), "1": 0.0})
    values = [regularizer().item() for _ in range(3)]
    assert values == pytest.approx([0.0, values[1], 2 * values[1]])
    regularizer.capturable = True
    assert regularizer().item() == pytest.approx(3 * values[1])


def test_a_glob_that_names_no_layer_is_an_error_with_the_nearest_names():
    model = nn.ModuleDict({"blocks": nn.Linear(6, 5), "head": nn.Linear(5, 3)})
    with pytest.raises(UsageError, match=r"weight\['haed'\] names no regularized layer; did you mean head"):
        create_regularizer("mhe", model, weight={"haed": 10.0})
    with pytest.raises(UsageError, match=r"weight\['head'\] must be a finite number >= 0"):
        create_regularizer("mhe", model, weight={"head": -1.0})
    with pytest.raises(UsageError, match=r"weight\['x'\] must be"):
        check_regularizer("mhe", weight={"x": "much"})
    model["head"].requires_grad_(False)  # it may thaw
    regularizer = create_regularizer("mhe", model, weight={"head": 2.0})
    model["head"] = nn.Identity()
    with pytest.warns(RegularizerWarning, match=r"weight\['head'\] of mhe names no layer any more"):
        regularizer()


def test_a_glob_whose_layer_has_gone_is_told_once():
    model = nn.Sequential(nn.Linear(6, 5), nn.Linear(5, 4), nn.Linear(4, 3))
    regularizer = create_regularizer("mhe", model, weight={"2": 5.0, "*": 1.0})

    def said(function):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            function()
        return [str(each.message) for each in caught if "names no layer any more" in str(each.message)]

    assert said(regularizer) == []
    model[2] = nn.Linear(4, 7)
    assert said(regularizer.refresh) == []  # its successor has its weight
    assert {row.name: row.weight for row in regularizer.report().layers} == {"0": 1.0, "1": 1.0, "2": 5.0}
    model[2] = nn.Sequential(nn.Linear(4, 3))
    assert said(regularizer) == []  # so has what is within it
    assert {row.name: row.weight for row in regularizer.report().layers} == {"0": 1.0, "1": 1.0, "2.0": 5.0}
    model[2] = nn.Identity()
    (message,) = said(regularizer)
    assert message == "weight['2'] of mhe names no layer any more, since the model has changed"
    assert said(regularizer) == said(regularizer.refresh) == []
    model[2] = nn.Linear(4, 3)
    assert said(regularizer) == []
    model[2] = nn.Identity()
    assert len(said(regularizer.refresh)) == 1


@pytest.mark.parametrize(("name", "options"), [("mhe", {"output_weight": None}), ("so", {})])
def test_the_output_layer_follows_the_weight_of_the_others(name, options):
    model = nn.Sequential(nn.Linear(6, 5), nn.Linear(5, 4))
    regularizer = create_regularizer(name, model, weight=0.5, **options)
    assert [regularizer.weight_of(layer) for layer in regularizer.layers] == [0.5, 0.5]
    regularizer.weight = 2.0
    assert [regularizer.weight_of(layer) for layer in regularizer.layers] == [2.0, 2.0]
    regularizer.output_weight = 3.0
    regularizer.weight = 1.0
    assert [regularizer.weight_of(layer) for layer in regularizer.layers] == [1.0, 3.0]
    regularizer.output_weight = None
    regularizer.weight = 4.0
    assert [regularizer.weight_of(layer) for layer in regularizer.layers] == [4.0, 4.0]
