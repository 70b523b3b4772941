"""State dicts into models: strictly, with another head only on request."""

import pytest
import torch
from torch import nn

from comhe.errors import WeightsError
from comhe.zoo import create_model, load_weights

from .conftest import same


def snapshot(model):
    return {key: value.clone() for key, value in model.state_dict().items()}


@pytest.fixture
def model():
    torch.manual_seed(0)
    return create_model("resnet20", num_classes=10)


def test_all_that_fits_is_loaded(model):
    state = snapshot(create_model("resnet20", num_classes=10))
    for swap_head in (False, True):
        model.reset_parameters()
        done = load_weights(model, state, swap_head)
        assert (done.loaded, done.missing, done.initialized) == (tuple(state), (), ())
        assert same(snapshot(model), state)


def test_expanded_tensors_load_from_a_file_as_from_memory_and_others_that_are_not_dense_are_told(model, tmp_path):
    state = snapshot(model) | {"bn1.weight": torch.full((1,), 2.0).expand(16)}
    torch.save(state, tmp_path / "expanded.pth")
    load_weights(model, tmp_path / "expanded.pth")
    assert same(snapshot(model), state)
    with pytest.raises(WeightsError, match=r"bn1\.weight is not a dense tensor that .*; save its to_dense\(\)"):
        load_weights(model, state | {"bn1.weight": torch.eye(16)[0].to_sparse()})


def test_a_head_for_other_classes_is_swapped_only_on_request(model):
    state, before = snapshot(create_model("resnet20", num_classes=100)), snapshot(model)
    with pytest.raises(ValueError) as error:
        load_weights(model, state)
    assert str(error.value) == (
        "the weights are for 100 classes, this CifarResNet has 10; build the model with num_classes=100, or "
        "pass swap_head=True to keep the initial fc.weight, fc.bias"
    )
    assert same(snapshot(model), before)
    done = load_weights(model, state, swap_head=True)
    assert done.initialized == ("fc.weight", "fc.bias")
    assert done.loaded == tuple(key for key in state if not key.startswith("fc."))
    assert str(done) == f"{len(state) - 2} tensors loaded; initialized: fc.weight, fc.bias"
    after = snapshot(model)
    for key in after:
        assert after[key].equal(before[key] if key.startswith("fc.") else state[key]), key


@pytest.mark.parametrize("swap_head", [False, True])
@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda state: state.pop("conv1.weight"), "missing: conv1.weight"),
        (lambda state: state.pop("fc.weight"), "missing: fc.weight"),
        (lambda state: state.update(extra=torch.ones(1)), "unexpected: extra"),
        (
            lambda state: state.update({"conv1.weight": torch.ones(16, 1, 3, 3)}),
            r"of another shape: conv1.weight \[16, 1, 3, 3\], not \[16, 3, 3, 3\]",
        ),
        (
            lambda state: state.update({"fc.weight": torch.ones(10, 32)}),
            r"of another shape: fc.weight \[10, 32\], not \[10, 64\]",
        ),
        (
            lambda state: state.update({f"{key}_": state.pop(key) for key in list(state)}),
            r"missing: conv1.weight, .* and \d+ more; unexpected: conv1.weight_, .* and \d+ more",
        ),
    ],
)
def test_everything_else_is_one_error(model, swap_head, change, fault):
    before = snapshot(model)
    for classes in (10, 100):
        state = snapshot(create_model("resnet20", num_classes=classes))
        change(state)
        with pytest.raises(ValueError, match=rf"do not fit this CifarResNet \(.*{fault}") as error:
            load_weights(model, state, swap_head)
        assert "\n" not in str(error.value)
        assert same(snapshot(model), before)


def test_counters_of_batches_may_be_missing(model):
    full = snapshot(create_model("resnet20", num_classes=10))
    state = {key: value for key, value in full.items() if not key.endswith("num_batches_tracked")}
    done = load_weights(model, state)
    assert {*done.loaded, *done.missing} == full.keys()
    assert all(name.endswith("num_batches_tracked") for name in done.missing)
    assert "missing: bn1.num_batches_tracked, " in str(done)
    assert same(snapshot(model), full)


def test_wrapped_models_are_loaded_inside():
    state = {f"module.{key}": value for key, value in create_model("cnn6", num_classes=3).state_dict().items()}
    model = create_model("cnn6", num_classes=3)
    for wrapped in (nn.DataParallel(model), torch.compile(model)):
        model.reset_parameters()
        load_weights(wrapped, state)
        assert all(value.equal(state[f"module.{key}"]) for key, value in model.state_dict().items())


@pytest.mark.parametrize("kind", [torch.int8, torch.uint8, torch.bool])
def test_integers_are_no_weights(model, kind):
    before = snapshot(model)
    state = snapshot(model) | {"conv1.weight": torch.ones_like(model.conv1.weight).to(kind)}
    with pytest.raises(
        WeightsError, match=rf"^conv1\.weight is of type {kind}, not torch\.float32: it is quantized, or"
    ):
        load_weights(model, state)
    assert same(snapshot(model), before)


def test_a_quantized_network_is_told_as_such(model, tmp_path):
    quantized = {f"fc.{name}": torch.tensor(0.5) for name in ("scale", "zero_point")}
    state = {name: tensor for name, tensor in snapshot(model).items() if not name.startswith("fc.")}
    torch.save(state | quantized, tmp_path / "q.pt")
    with pytest.raises(WeightsError, match=r"the weights are quantized \(they have fc\.zero_point\); give") as error:
        load_weights(model, tmp_path / "q.pt")
    assert "swap_head" not in str(error.value)
    assert load_weights(model, tmp_path / "q.pt", swap_head=True).initialized == ("fc.weight", "fc.bias")


@pytest.mark.parametrize("kind", [RuntimeError, KeyboardInterrupt])
def test_whatever_stops_the_loading_leaves_the_model_as_it_was(model, kind):
    def stop(*args):
        raise kind("stop")

    state = {name: tensor + 1 for name, tensor in snapshot(model).items()}
    before = snapshot(model)
    hook = model.fc.register_load_state_dict_post_hook(stop)
    with pytest.raises(kind):
        load_weights(model, state)
    hook.remove()
    assert same(snapshot(model), before)
    load_weights(model, state)
    assert same(snapshot(model), state)
