"""A regularizer looks at its model as it is at each call."""

import copy
import pickle
import warnings

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize

from comhe.errors import UsageError
from comhe.regularizers import RegularizerWarning, create_regularizer, list_regularizers, regularizer_options
from comhe.regularizers.attachment import Attachment

SMALL = {"rp-comhe": {"dim": 4, "count": 3}, "ap-comhe": {"dim": 4}, "adv-comhe": {"dim": 4, "steps": 2}}
PENALTIES = pytest.mark.parametrize("name", [name for name in list_regularizers() if name != "none"])
LEARN = pytest.mark.parametrize("name", ["ap-comhe", "adv-comhe", "mhp"])


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(12, 6), nn.Tanh(), nn.Linear(12, 8), nn.Tanh(), nn.Linear(8, 4)).double()


def small(name, model, **options):
    return create_regularizer(name, model, **SMALL.get(name, {}), **options)


def agree(regularizer, model, name, **options):
    """The value and the gradient are those of a regularizer that is attached now."""
    fresh = small(name, model, **options)
    fresh.step = regularizer.step
    value, other = regularizer(), fresh()
    assert value.item() == pytest.approx(other.item(), rel=1e-9)
    parameters = [p for p in model.parameters() if p.requires_grad]
    grads, others = (torch.autograd.grad(v, parameters, allow_unused=True) for v in (value, other))
    for a, b in zip(grads, others, strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-9 * float(b.abs().max()))


def replace_head(model):
    model[4] = nn.Linear(8, 7).double()


def replace_with_like(model):
    model[4] = nn.Linear(8, 4).double()


def append(model):
    model.append(nn.Linear(4, 5).double())


def delete(model):
    del model[2:]


def new_parameter(model):
    model[2].weight = nn.Parameter(torch.randn(9, 12).double())


def resize_in_place(model):
    model[4].weight.data = torch.randn(9, 8).double()


def tie(model):
    model[0].weight = model[2].weight


MUTATIONS = {
    replace_head: "replaced: 4 (7 x 8, was 4 x 8)",
    replace_with_like: "replaced: 4",
    append: "new: 5; replaced: 4 (hidden, was output)",
    delete: "gone: 2, 4; replaced: 0 (output, was hidden)",
    new_parameter: "replaced: 2 (9 x 12, was 8 x 12)",
    resize_in_place: "replaced: 4 (9 x 8, was 4 x 8)",
    tie: "gone: 2; replaced: 0 (8 x 12, was 6 x 12)",
}


@pytest.mark.parametrize("mutation", MUTATIONS)
@pytest.mark.parametrize("name", ["hs-mhe", "rp-comhe", "ap-comhe", "so", "mhp"])
def test_a_changed_model_is_followed_with_one_warning(name, mutation):
    model = network()
    regularizer = small(name, model)
    mutation(model)
    with pytest.warns(RegularizerWarning) as told:
        agree(regularizer, model, name)
    assert [str(w.message).partition("changed: ")[2] for w in told] == [MUTATIONS[mutation]]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        regularizer()
    assert [row.name for row in regularizer.report().layers] == [layer.name for layer in small(name, model).layers]


def silent(model):
    parametrizations.weight_norm(model[0])
    yield
    parametrize.remove_parametrizations(model[0], "weight")
    yield
    model.float().bfloat16().double()
    yield
    model.load_state_dict(network().state_dict(), assign=True)
    yield
    model[1] = nn.ReLU()
    yield
    model[2] = torch.compile(model[2], backend="eager")
    yield
    model.insert(5, nn.Dropout())
    yield


@pytest.mark.parametrize("name", ["hs-mhe", "rp-comhe", "ocnn"])
def test_what_leaves_the_layers_as_they_are_is_not_told(name):
    model = network()
    regularizer = small(name, model)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in silent(model):
            agree(regularizer, model, name)


@PENALTIES
def test_frozen_layers_count_nothing_and_learn_nothing_until_they_thaw(name):
    model = network()
    regularizer = small(name, model)
    regularizer()
    state = {key: value.clone() for key, value in regularizer.named_buffers()}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model[0].requires_grad_(False)
        value = regularizer()
        assert [layer.name for layer in regularizer.layers] == ["2", "4"]
        assert [(s.name, s.reason) for s in regularizer.report().skipped] == [("0", "frozen (requires_grad is False)")]
        assert [layer.name for layer, _, _ in regularizer.layer_penalties(regularizer.draw())] == ["2", "4"]
        assert torch.autograd.grad(value, model[2].weight)[0].count_nonzero()
        for key, before in state.items():
            assert before.equal(regularizer.get_buffer(key)) == key.endswith(":0"), key
        model[0].requires_grad_(True)
        regularizer().backward()
    assert model[0].weight.grad.count_nonzero() > 0
    assert regularizer.skipped == []


def test_layers_that_were_frozen_at_first_count_once_they_thaw():
    model = network()
    model.requires_grad_(False)
    model[4].requires_grad_(True)
    regularizer = small("ap-comhe", model)
    for index in (2, 0):  # from the head down, as in fine-tuning
        model[index].requires_grad_(True)
        model.zero_grad()
        regularizer().backward()
        assert model[index].weight.grad is not None
    assert [layer.name for layer in regularizer.layers] == ["0", "2", "4"]


@pytest.mark.parametrize("name", ["mhe", "ap-comhe"])
def test_nothing_left_is_zero_and_told_once(name):
    model = network()
    regularizer = small(name, model)
    model.requires_grad_(False)
    with pytest.warns(RegularizerWarning, match=f"{name} is 0: all its layers are frozen") as told:
        values = [regularizer() for _ in range(3)]
    assert len(told) == 1
    sum(values).backward()
    assert all(value.item() == 0 for value in values)
    assert all(p.grad is None for p in model.parameters())
    assert len(regularizer.report().skipped) == 3
    regularizer.value_and_grad(list(model.parameters()), regularizer.draw())
    model.requires_grad_(True)
    assert regularizer().item() > 0
    del model[:]
    with pytest.warns(RegularizerWarning) as told:
        assert regularizer().item() == regularizer().item() == 0
    assert [str(w.message).split(": ", 1)[1] for w in told] == ["gone: 0, 2, 4", "its model has no layer left"]
    model.append(nn.Linear(5, 4))
    with pytest.warns(RegularizerWarning, match="new: 0"):
        assert regularizer().item() > 0


def test_toggling_costs_no_warning_and_leaves_each_part_its_penalty():
    """A GAN's loop: while one network trains, the other's parameters want no gradient."""
    model = nn.ModuleDict({"g": network(), "d": network()})
    regularizer = small("hs-mhe", model, output=None)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(2):
            for on, off in (("g", "d"), ("d", "g")):
                model.zero_grad()
                model[on].requires_grad_(True)
                model[off].requires_grad_(False)
                value = regularizer()
                value.backward()
                assert all(p.grad is None for p in model[off].parameters())
                assert value.item() == pytest.approx(small("hs-mhe", model[on], output=None)().item())


@LEARN
def test_layers_that_stay_keep_what_they_learned(name):
    model = network()
    regularizer = small(name, model)
    regularizer(), regularizer()
    before = {key: value.clone() for key, value in regularizer.named_buffers()}
    model[2] = nn.Linear(12, 10).double()
    assert regularizer.refresh() is regularizer
    after, fresh = dict(regularizer.named_buffers()), dict(small(name, model).named_buffers())
    for key, value in after.items():
        assert value.equal(fresh[key] if key.endswith(":2") else before[key]), key
    assert after.keys() == before.keys()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        regularizer()


def test_an_output_layer_that_has_gone_is_told_and_the_rest_goes_on():
    model = nn.ModuleDict({"body": nn.Linear(4, 5), "fc": nn.Linear(5, 3)})
    regularizer = create_regularizer("mhe", model, output="fc")
    model["fc"] = nn.Identity()
    with pytest.warns(RegularizerWarning, match=r"gone: fc.*output='fc' names no layer"):
        assert regularizer().item() > 0


@LEARN
def test_the_state_of_other_layers_is_refused_by_name_unless_told_otherwise(name):
    model, other = network(), network()
    del other[0]
    other.append(nn.Linear(4, 3).double())  # 1 and 3 for 2 and 4; 4 has another shape
    saved, regularizer = small(name, model), small(name, other)
    saved(), saved()
    state = saved.state_dict()
    with pytest.raises(UsageError, match=r":0.*have no layer here.*strict=False"):
        regularizer.load_state_dict(state)
    assert regularizer.step == 0
    regularizer.load_state_dict(state, strict=False)
    assert regularizer.step == 2
    regularizer()


@LEARN
def test_the_state_of_frozen_layers_is_saved_and_restored(name):
    model = network()
    saved, again = small(name, model), small(name, model, seed=5)
    saved()
    model[0].requires_grad_(False)
    again.load_state_dict(saved.state_dict())
    model[0].requires_grad_(True)
    assert again().item() == saved().item()


def test_copies_follow_their_own_model():
    model = network()
    regularizer = small("ap-comhe", model)
    twin_model, twin = copy.deepcopy((model, regularizer))
    alone, pickled = copy.deepcopy(regularizer), pickle.loads(pickle.dumps(regularizer))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert twin().item() == alone().item() == pickled().item() == regularizer().item()
    twin_model[4] = nn.Linear(8, 9).double()
    with pytest.warns(RegularizerWarning, match="replaced: 4"):
        twin()
    assert all(regularizer.layers[2].shape == other.layers[2].shape == (4, 8) for other in (alone, pickled))
    assert not {id(layer.module) for layer in alone.layers} & {id(module) for module in model.modules()}


@pytest.mark.parametrize("wrap", [torch.compile, nn.DataParallel, lambda m: torch.compile(nn.DataParallel(m))])
def test_wrapped_models_have_the_names_of_the_plain_one(wrap):
    model = network()
    plain = small("ap-comhe", model, weight={"0": 0.5})
    wrapped_model = wrap(model)
    wrapped = small("ap-comhe", wrapped_model, weight={"0": 0.5})
    assert [layer.name for layer in wrapped.layers] == ["0", "2", "4"]
    wrapped.load_state_dict(plain.state_dict())
    moved = {name: p.detach() + 0.1 for name, p in wrapped_model.named_parameters()}
    expected = plain({name: p.detach() + 0.1 for name, p in model.named_parameters()})
    assert wrapped(moved).item() == expected.item()
    model[4] = nn.Linear(8, 9).double()
    with pytest.warns(RegularizerWarning, match="replaced: 4"):
        wrapped().backward()
    assert model[4].weight.grad is not None


def test_given_parameters_decide_whether_their_layers_count():
    model = network().requires_grad_(False)
    given = {name: p.detach().clone().requires_grad_(name.startswith("2.")) for name, p in model.named_parameters()}
    regularizer = small("mhe", model)
    regularizer(given).backward()
    assert [name for name, p in given.items() if p.grad is not None] == ["2.weight"]
    grads = torch.func.grad(regularizer)({name: p.detach() for name, p in given.items()})
    assert all(grads[f"{index}.weight"].count_nonzero() for index in (0, 2, 4))


def test_a_tied_weight_is_given_once():
    """``named_parameters()`` lists it under the first of its names, which may be that of an embedding."""
    model = nn.ModuleDict({"words": nn.Embedding(12, 6), "body": nn.Linear(6, 6), "head": nn.Linear(6, 12, bias=False)})
    model["head"].weight = model["words"].weight
    expected = create_regularizer("mhe", model)().item()
    model.requires_grad_(False)
    given = {name: p.detach().clone().requires_grad_() for name, p in model.named_parameters()}
    assert "head.weight" not in given
    value = create_regularizer("mhe", model)(given)
    assert value.item() == pytest.approx(expected)
    assert torch.autograd.grad(value, given["words.weight"])[0].count_nonzero()


def test_sharded_layers_that_stay_keep_their_rank():
    model = network()
    shards = [small("ap-comhe", model) for _ in range(2)]
    for rank, shard in enumerate(shards):
        shard.shard(rank, 2)
    before = [{layer.name for layer in shard.local_layers} for shard in shards]
    model.append(nn.Linear(4, 5).double())
    with pytest.warns(RegularizerWarning, match="new: 5"):
        after = [{layer.name for layer in shard.local_layers} for shard in shards]
    assert before[0] | before[1] | {"5"} == after[0] | after[1]
    assert not after[0] & after[1]
    assert before[0] <= after[0]
    assert before[1] <= after[1]


def test_steps_of_fixed_memory_follow_too():
    model = network()
    regularizer = small("rp-comhe", model)
    regularizer.capturable = True
    regularizer.draw()
    replace_head(model)
    with pytest.warns(RegularizerWarning, match="replaced: 4"):
        draws = regularizer.draw()
    assert draws.layers[-1].shape == (7, 8)
    assert regularizer.total(draws).item() == pytest.approx(small("rp-comhe", model)().item(), rel=1e-6)


@pytest.mark.parametrize("name", list_regularizers())
def test_a_model_may_change_its_dtype_between_steps(name):
    model = nn.Sequential(nn.Linear(32, 16), nn.Linear(16, 4))
    options = {"dim": 3} if "dim" in regularizer_options(name) else {}
    regularizer = create_regularizer(name, model, **options)
    for dtype in (torch.float32, torch.float64, torch.bfloat16, torch.float32):
        model.to(dtype)
        assert torch.isfinite(regularizer())


def test_a_weight_that_is_no_parameter_any_more_is_not_called_frozen():
    model = network()
    regularizer = small("hs-mhe", model)
    weight = model[2].weight.detach()
    del model[2].weight
    model[2].register_buffer("weight", weight)
    regularizer().backward()
    (skipped,) = regularizer.skipped
    assert skipped.name == "2"
    assert skipped.reason.startswith("its weight is not a parameter")


def averaged(model):
    return torch.optim.swa_utils.AveragedModel(model)


def fabric(model):
    return pytest.importorskip("lightning.fabric").Fabric(accelerator="cpu", devices=1).setup(model)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("wrap", [nn.DataParallel, averaged, fabric, lambda m: fabric(torch.compile(m))])
def test_wrappers_leave_the_names_of_the_model(wrap):
    model = network()
    options = {"output": "4", "weight": {"0": 0.1}, "dim": 4}
    saved = create_regularizer("ap-comhe", model, **options)
    regularizer = create_regularizer("ap-comhe", wrap(model), **options)
    assert [layer.name for layer in regularizer.layers] == ["0", "2", "4"]
    regularizer.load_state_dict(saved.state_dict())
    regularizer().backward()


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning", "ignore:the output layer")
def test_a_model_compiled_by_torch_jit_is_refused_and_a_part_of_it_skipped():
    part = torch.jit.script(nn.Sequential(nn.Linear(4, 5), nn.ReLU()))
    with pytest.raises(UsageError, match=r"compiled by torch\.jit; attach the regularizer to the model before"):
        create_regularizer("mhe", part)
    regularizer = create_regularizer("mhe", nn.Sequential(part, torch.jit.script(nn.ReLU()), nn.Linear(5, 3)))
    assert [(x.name, x.role) for x in regularizer.layers] == [("2", "output")]
    assert "compiled by torch.jit" in regularizer.skipped[0].reason
    regularizer().backward()


@pytest.mark.filterwarnings("ignore:the output layer")
def test_an_exported_module_is_told_as_one():
    model = torch.export.export(nn.Sequential(nn.Linear(6, 4), nn.Linear(4, 3)), (torch.randn(2, 6),)).module()
    with pytest.raises(UsageError, match=r"0: Module.weight \[4, 6\] is of no class, as after torch.export"):
        create_regularizer("mhe", model)


def test_frozen_layers_come_and_go_unnoticed():
    model = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 3))
    attachment = Attachment(model, {})
    model.average = copy.deepcopy(model[0]).requires_grad_(False)
    assert attachment.look() == ""
    model[0] = nn.Sequential(model[0].requires_grad_(False), nn.Identity())
    assert attachment.look() == "gone: 0"
