"""Several regularizers as one: what the sum does is what its parts do."""

import copy
import pickle
import warnings

import pytest
import torch
from torch import nn

from comhe.errors import UsageError
from comhe.regularizers import RegularizerWarning, combine, create_regularizer


def network():
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 10, 3, groups=2), nn.Flatten(), nn.Linear(40, 12), nn.Linear(12, 5)
    return nn.Sequential(*layers).double()


def parts(model):
    return (
        create_regularizer("ap-comhe", model, dim=6, include=["0", "1"], output=None),
        create_regularizer("rp-comhe", model, dim=6, count=2, exclude=["0", "1"], weight={"3": 0.5}),
    )


def test_it_is_the_sum_of_its_parts_in_every_way_it_can_be_called():
    model = network()
    both, alone = combine(*parts(model)), parts(model)
    parameters = list(model.parameters())
    for _ in range(3):
        expected = [part.value_and_grad(parameters, part.draw()) for part in alone]
        for part in alone:
            part.step += 1
        draws = both.draw()
        listed = [(layer.name, float(weight)) for layer, weight, _ in both.layer_penalties(draws)]
        assert listed == [("0", 1.0), ("1", 1.0), ("3", 0.5), ("4", 10.0)]
        value, grads = both.value_and_grad(parameters, draws)
        both.step += 1
        assert value.item() == pytest.approx(sum(v.item() for v, _ in expected))
        for grad, *terms in zip(grads, *(g for _, g in expected), strict=True):
            terms = [term for term in terms if term is not None]
            assert (grad is None) == (not terms)
            if terms:
                torch.testing.assert_close(grad, sum(terms))
    assert both().item() == pytest.approx(sum(part().item() for part in alone))
    given = {name: p.detach() for name, p in model.named_parameters()}
    assert both(given).item() == pytest.approx(sum(part(given).item() for part in alone))
    assert both.step == 5 == both.parts[1].step
    both.capturable = True
    assert all(part.capturable for part in both.parts)


def test_the_report_says_which_penalty_a_layer_has():
    model = network()
    text = str(combine(*parts(model)).report())
    assert text.splitlines()[0].startswith("ap-comhe(")
    table = [line.split()[:3] for line in text.splitlines()[1:]]
    assert table == [
        ["layer", "regularizer", "role"],
        ["0", "ap-comhe", "hidden"],
        ["1", "ap-comhe", "hidden"],
        ["3", "rp-comhe", "hidden"],
        ["4", "rp-comhe", "output"],
    ]
    assert combine(*parts(model)).name == "ap-comhe + rp-comhe"


def test_state_copies_and_changes_of_the_model():
    model = network()
    both = combine(*parts(model))
    both()
    again = combine(*parts(model))
    again.load_state_dict(both.state_dict())
    assert again().item() == both().item()
    other = combine(create_regularizer("so", model, include="0", output=None), parts(model)[1])
    with pytest.raises(UsageError, match=r"projection:0, projection:1 have no layer here"):
        other.load_state_dict(both.state_dict())
    with pytest.raises(UsageError, match=r"part 0, so: .*ap-comhe is the penalty, not so"):
        other.load_state_dict(both.state_dict())
    twin_model, twin = copy.deepcopy((model, both))
    assert twin().item() == pickle.loads(pickle.dumps(both))().item() == both().item()
    twin_model[4] = nn.Linear(12, 7).double()
    with pytest.warns(RegularizerWarning, match="rp-comhe follows its model"):
        twin()
    twin_model[3] = nn.Linear(40, 12).double()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        twin.refresh()()
    assert [layer.name for layer in twin.layers] == ["0", "1", "3", "4"]
    assert twin.skipped == []


def test_shards_of_all_parts_make_up_the_sum():
    model = network()
    alone, shards = combine(*parts(model)), [combine(*parts(model)) for _ in range(2)]
    for rank, shard in enumerate(shards):
        shard.shard(rank, 2)
    assert sum(shard().item() for shard in shards) / 2 == pytest.approx(alone().item())
    names = [layer.name for shard in shards for layer in shard.local_layers]
    assert sorted(names) == ["0", "1", "3", "4"]


def test_a_layer_in_two_of_them_is_told():
    model = network()
    with pytest.warns(RegularizerWarning, match="^3, 4: penalized by several"):
        combine(create_regularizer("so", model, exclude=["0", "1"]), create_regularizer("mhe", model))
    with pytest.raises(UsageError, match="not nothing"):
        combine()
    late = create_regularizer("so", model, include="0", output=None)
    late()
    with pytest.raises(UsageError, match="not steps 1, 0"):
        combine(late, parts(model)[1])


def test_states_of_other_parts_are_refused_whole():
    model = network()
    both, alone = combine(*parts(model)), parts(model)[1]
    both()
    state = both.state_dict()
    other = combine(*parts(model), create_regularizer("none", model))
    before = {key: copy.deepcopy(value) for key, value in other.state_dict().items()}
    wrong = {
        "the state has 2 parts, but this regularizer has 3": (other, state),
        "the state has no parts": (both, {}),
        "the state has no parts, as one": (both, alone.state_dict()),
        "the state has epoch, which": (both, state | {"epoch": 3}),
        "part 0, rp-comhe: .*ap-comhe is the penalty": (combine(*parts(model)[::-1]), state),
        "not the state of a regularizer.*see combine": (alone, state),
    }
    for message, (regularizer, saved) in wrong.items():
        with pytest.raises(UsageError, match=message):
            regularizer.load_state_dict(saved)
    assert other.step == 0
    assert all(str(value) == str(before[key]) for key, value in other.state_dict().items())
    found = other.load_state_dict(state, strict=False)
    assert found.missing_keys == ["parts.2._extra_state"]
    assert {part.step for part in other.parts} == {1}


def test_combined_ones_are_taken_apart_and_nothing_else_is_taken():
    model = network()
    one, other = parts(model)
    third = create_regularizer("so", model, include="4", output=None)
    expected = sum(part().item() for part in (*parts(model), create_regularizer("so", model, include="4", output=None)))
    with pytest.warns(RegularizerWarning, match="penalized by several"):
        nested = combine(combine(one, other), third)
    assert list(nested.parts) == [one, other, third]
    assert nested().item() == pytest.approx(expected)
    for wrong in ("mhe", [one, other], None):
        with pytest.raises(
            TypeError, match=f"combine takes regularizers, one after another, not a {type(wrong).__name__}"
        ):
            combine(wrong)


def test_each_part_has_its_own_weights():
    both = combine(*parts(network()))
    assert both.weight == [part.weight for part in both.parts]
    for name in ("weight", "output_weight"):
        with pytest.raises(UsageError, match=rf"set parts\[0\]\.{name}, not 0\.5 for all"):
            setattr(both, name, 0.5)
    for part in both.parts:
        part.weight = part.output_weight = 0.0
    assert both().item() == 0
