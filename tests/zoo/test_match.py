"""What frameworks and wrappers put around a state dict, and heads of other names."""

import itertools

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.optim.swa_utils import AveragedModel

from comhe.errors import WeightsError
from comhe.zoo import create_model, list_models, load_weights, read_state

from .conftest import same

WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "ema", "state_dict_ema", "params", "weights", "network")
PREFIXES = (
    "module.",
    "_orig_mod.",
    "model.",
    "net.",
    "backbone.",
    "encoder.",
    "student.",
    "module.encoder_q.",
    "a.b.c.",
)


def build(classes=5, **options):
    return create_model("resnet8", num_classes=classes, **options)


@pytest.fixture(scope="module")
def state():
    torch.manual_seed(0)
    return build().state_dict()


@pytest.mark.parametrize("prefix", ["", *PREFIXES, "module._orig_mod.", "_orig_mod.module.", "model._orig_mod.net."])
def test_prefixes_in_any_nesting(state, prefix, tmp_path):
    named = {prefix + name: tensor for name, tensor in state.items()}
    for content in (named, {"state_dict": named, "epoch": 3, "best": torch.tensor(0.9)}, {"a": {"b": {"c": named}}}):
        model = build()
        load_weights(model, content)
        assert same(model, state)
        torch.save(content, tmp_path / "file.pt")
        assert same(create_model("resnet8", tmp_path / "file.pt", num_classes=5), state)


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_wrappers(state, wrapper, tmp_path):
    torch.save({wrapper: {f"module.{name}": t for name, t in state.items()}, "epoch": 1}, tmp_path / "file.pt")
    model = build()
    load_weights(model, tmp_path / "file.pt")
    assert same(model, state)
    assert same(read_state(tmp_path / "file.pt"), state)


def test_several_state_dicts_are_asked_about(state, tmp_path):
    averaged = {name: tensor + 1 if tensor.is_floating_point() else tensor for name, tensor in state.items()}
    torch.save({"state_dict": state, "state_dict_ema": averaged}, tmp_path / "file.pt")
    with pytest.raises(WeightsError, match=r"several.*key='state_dict' or 'state_dict_ema'"):
        load_weights(build(), tmp_path / "file.pt")
    with pytest.raises(WeightsError, match="several state dicts; choose one by key='state_dict' or 'state_dict_ema'"):
        read_state(tmp_path / "file.pt")
    with pytest.raises(WeightsError, match="no state dict at key='ema'; its keys are state_dict, state_dict_ema"):
        load_weights(build(), tmp_path / "file.pt", key="ema")
    model = create_model("resnet8", tmp_path / "file.pt", key="state_dict_ema", num_classes=5)
    assert same(model, averaged)
    assert same(read_state(tmp_path / "file.pt", "state_dict"), state)
    torch.save({"state_dict": state, "state_dict_ema": state}, tmp_path / "file.pt")  # equal: nothing to ask
    load_weights(build(), tmp_path / "file.pt")
    both = {f"{who}.{name}": t for who, s in (("student", state), ("teacher", averaged)) for name, t in s.items()}
    model = build()
    load_weights(model, both, key="teacher")
    assert same(model, averaged)
    query = {
        k.replace("student", "module.encoder_q").replace("teacher", "module.encoder_k"): t for k, t in both.items()
    }
    done = load_weights(model, query | {"module.queue": torch.zeros(3, 4)})  # MoCo's query network was trained
    assert same(model, state)
    assert "module.queue" in done.ignored


def plus_one(state):
    return {name: tensor + 1 if tensor.is_floating_point() else tensor for name, tensor in state.items()}


@pytest.mark.parametrize("average", ["ema_model.", "averaged_model.module.", "model_ema.module.", "swa_model."])
def test_a_module_that_averages_the_network_is_told_and_taken_on_request(state, average):
    other = {f"{average}{name}": tensor for name, tensor in plus_one(state).items()}
    for prefix in ("model.", ""):
        content = {"state_dict": {prefix + name: t for name, t in state.items()} | other, "epoch": 1}
        content["state_dict"][average.split(".")[0] + ".n_averaged"] = torch.tensor(3)
        model = build()
        (note,) = load_weights(model, content).notes
        assert same(model, state)
        key = f"state_dict.{average[:-1]}"
        assert f"taken; for those kept beside them, pass key={key!r}" in note
        load_weights(model, content, key=key)
        assert same(model, plus_one(state))
    told = f"the weights at key={average[:-1]!r} were taken, because nothing else fits"
    assert told in load_weights(model, other).notes


def test_what_lightning_keeps_next_to_the_state_dict(state, tmp_path):
    beside = {
        "callbacks.EMA{'decay': 0.9}.ema_weights": {
            "callbacks": {"EMA{'decay': 0.9}": {"ema_weights": plus_one(state)}}
        },
        "current_model_state": {"current_model_state": plus_one(state), "averaging_state": {"n": torch.tensor(4)}},
    }
    for key, content in beside.items():
        torch.save(
            {"state_dict": state, "loops": {}, "pytorch-lightning_version": "2.6"} | content, tmp_path / "x.ckpt"
        )
        model = build()
        (note,) = load_weights(model, tmp_path / "x.ckpt").notes
        assert note.startswith("the weights at key='state_dict' were taken")
        assert repr(key) in note
        assert same(model, state)
        load_weights(model, tmp_path / "x.ckpt", key=key)
        assert same(model, plus_one(state))
    content = {
        "state_dict": state,
        "callbacks": {"ModelCheckpoint": {"best": torch.ones(1), "all": {"a": torch.tensor(1.0)}}},
    }
    assert load_weights(model, content).ignored == ()


def test_what_belongs_to_other_modules_is_told(state):
    content = {"model." + name: tensor for name, tensor in state.items()} | {"criterion.weight": torch.ones(5)}
    done = load_weights(build(), content)
    assert done.ignored == ("criterion.weight",)
    assert str(done).endswith("; ignored: criterion.weight")
    with pytest.raises(WeightsError, match="unexpected: extra"):
        load_weights(build(), state | {"extra": torch.ones(1)})
    with pytest.raises(WeightsError, match=r"unexpected: layer1\.0\.se\.weight"):
        load_weights(build(), {"model." + n: t for n, t in (state | {"layer1.0.se.weight": torch.ones(1)}).items()})


def test_counters_may_come_or_lack(state):
    zero = torch.zeros(1, dtype=torch.float64)
    counted = state | {"total_ops": zero, "layer1.0.total_params": zero}
    for content in (counted, AveragedModel(build()).state_dict() | {f"module.{n}": t for n, t in counted.items()}):
        model = build()
        load_weights(model, content)
        assert same(model, state)


@pytest.mark.parametrize(
    "name", ["linear", "classifier", "head", "fc", "last_linear", "output", "head.fc", "classifier.1"]
)
def test_heads_of_other_names(state, name):
    renamed = {key.replace("fc.", f"{name}.", 1) if key.startswith("fc.") else key: t for key, t in state.items()}
    model = build()
    load_weights(model, renamed)
    assert same(model, state)
    with pytest.raises(WeightsError, match="for 5 classes, this CifarResNet has 7"):
        load_weights(build(7), renamed)
    beside = {f"{name}.{key[3:]}" if key.startswith("fc.") else f"backbone.{key}": t for key, t in state.items()}
    model = build()
    load_weights(model, beside)
    assert same(model, state)


@pytest.mark.parametrize("heads", [(), ("fc.0.weight", "fc.0.bias", "fc.2.weight"), ("head.mlp.weight",)])
def test_a_trunk_gets_a_new_head_on_request(state, heads):
    trunk = {key: t for key, t in state.items() if not key.startswith("fc.")}
    content = trunk | {key: torch.ones(4, 4) for key in heads}
    model = build(7)
    before = {key: t.clone() for key, t in model.state_dict().items()}
    if "head.mlp.weight" in heads:
        with pytest.raises(WeightsError, match=r"unexpected: head\.mlp\.weight"):
            load_weights(model, content, swap_head=True)
        return
    with pytest.raises(WeightsError, match=r"where this CifarResNet has fc.weight, fc.bias; pass swap_head=True"):
        load_weights(model, content)
    done = load_weights(model, content, swap_head=True)
    assert done.initialized == ("fc.weight", "fc.bias")
    assert all(t.equal(before[k] if k.startswith("fc.") else state[k]) for k, t in model.state_dict().items())
    without = {key: t for key, t in trunk.items() if key != "layer2.0.bn1.weight"}
    with pytest.raises(WeightsError, match=r"missing: layer2.0.bn1.weight"):
        load_weights(model, without, swap_head=True)


def test_half_precision_is_widened(state):
    for dtype in (torch.float16, torch.bfloat16, torch.float64):
        model = build()
        load_weights(model, {n: t.to(dtype) if t.is_floating_point() else t for n, t in state.items()})
        assert all(t.dtype != dtype for t in model.state_dict().values())
        torch.testing.assert_close(model.state_dict(), dict(state), atol=1e-2, rtol=1e-2)


def test_the_first_layer_is_adapted_on_request():
    torch.manual_seed(0)
    source = build().eval()
    gray = torch.randn(2, 1, 16, 16)
    for channels in (1, 2, 4, 6):
        model = build(in_channels=channels).eval()
        with pytest.raises(WeightsError, match="in_channels=3, or pass adapt_input=True"):
            load_weights(model, source.state_dict())
        done = load_weights(model, source.state_dict(), adapt_input=True)
        assert f"to make {channels}" in done.notes[0]
        if channels in (1, 6):  # the same image in every channel gives the same logits
            torch.testing.assert_close(model(gray.repeat(1, channels, 1, 1)), source(gray.repeat(1, 3, 1, 1)))
    assert load_weights(build(), source.state_dict(), adapt_input=True).notes == ()
    graph = create_model("gcn", in_channels=4, num_classes=2)
    other = create_model("gcn", in_channels=5, num_classes=2).state_dict()
    with pytest.raises(WeightsError, match="in_channels=5"):
        load_weights(graph, other)
    before = graph.convs[0].lin.weight.clone()
    done = load_weights(graph, other, adapt_input=True)
    assert done.initialized == ("convs.0.lin.weight",)
    assert done.notes[0] == "input adapted: convs.0.lin.weight begins anew, for 4 features; the weights were for 5"
    assert torch.equal(graph.convs[0].lin.weight, before)
    assert torch.equal(graph.convs[1].lin.weight, other["convs.1.lin.weight"])
    clouds, normals = create_model("pointnet"), create_model("pointnet", in_channels=6)
    notes = load_weights(normals, clouds.state_dict(), adapt_input=True).notes
    assert notes[0].endswith("begins anew, for 6 features; the weights were for 3")


def test_names_of_a_models_own_are_not_taken_for_wrappers():
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = nn.Linear(2, 3)

    load_weights(Own(), Own().state_dict())


@pytest.mark.usefixtures("without_values")
@pytest.mark.parametrize("wrapper", ["module", "_orig_mod", "_fsdp_wrapped_module", "_orig_mod.module"])
def test_a_part_of_the_network_may_be_wrapped(wrapper):
    model = sized("vgg16_bn")
    state = {name.replace("features.", f"features.{wrapper}."): t for name, t in model.state_dict().items()}
    assert len(load_weights(model, state).loaded) == len(state)


def test_advice_names_what_can_be_done(state):
    beside = state | {"criterion.centers": torch.ones(5, 64)}
    with pytest.raises(WeightsError, match=r"unexpected: criterion\.centers\); give the state dict without these"):
        load_weights(build(), beside)
    with pytest.raises(WeightsError, match=r"fc\.bias \[5\], not \[7\]\); give the state dict without these"):
        load_weights(build(7), beside)
    with pytest.raises(WeightsError, match=r"fc\.weight \[7, 9\], .*; build the model with the options that they were"):
        load_weights(build(), state | {"fc.weight": torch.ones(7, 9), "fc.bias": torch.ones(7)}, swap_head=True)
    inside = state | {"layer1.0.se.fc1.weight": torch.ones(2, 16, 1, 1)}
    with pytest.raises(WeightsError, match=r"layer1\.0\.se\.fc1\.weight\); build the model with the options"):
        load_weights(build(), inside)
    with pytest.raises(WeightsError, match="they are of another network"):
        load_weights(build(), {f"blocks.{i}.attn.qkv.weight": torch.ones(3, 4) for i in range(9)})
    with pytest.raises(WeightsError, match=r"to swap its head, Linear has to name its last layer .* output_layer"):
        load_weights(nn.Linear(4, 3), nn.Linear(4, 5).state_dict(), swap_head=True)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64, torch.int32])
def test_counters_are_read_whatever_a_conversion_made_of_them(state, kind):
    """``{name: t.half() ...}`` converts them, too, and formats without numbers alone make them arrays of one."""
    counted = {n: torch.tensor(8) if n.endswith("num_batches_tracked") else t for n, t in state.items()}
    model = build()
    load_weights(model, {n: t[None].to(kind) if n.endswith("num_batches_tracked") else t for n, t in counted.items()})
    assert same(model, counted)
    lost = {n: torch.tensor(torch.inf) if n.endswith("num_batches_tracked") else t for n, t in state.items()}
    assert all(name.endswith("num_batches_tracked") for name in load_weights(build(), lost).missing)


def test_parameters_without_buffers_lack_running_means():
    model = create_model("resnet8")
    with pytest.raises(
        WeightsError, match=r"running means and variances are in state_dict\(\), not in named_parameters"
    ):
        load_weights(model, dict(model.named_parameters()))


def test_weights_of_another_graph_network_are_told():
    sizes = {"in_channels": 6, "num_classes": 3}
    for theirs, ours in itertools.permutations(("gcn", "gat", "sage"), 2):
        state = create_model(theirs, **sizes).state_dict()
        with pytest.raises(WeightsError, match=rf"; they are weights of {theirs}\b"):
            load_weights(create_model(ours, **sizes), state)


def sized(name, in_channels=6, num_classes=3, **options):
    with torch.device("meta"):
        return create_model(name, in_channels=in_channels, num_classes=num_classes, **options)


@pytest.mark.usefixtures("without_values")
@pytest.mark.parametrize("name", list_models())
def test_every_option_that_differs_is_told_at_once_and_building_with_them_helps(name):
    depths = [{"num_layers": n, "hidden_channels": 5} for n in (1, 3)] if name in ("gat", "gcn", "gcn2", "sage") else []
    shortcuts = [{"shortcut": "projection"}] if name in ("resnet8", "resnet32_wide") else []
    for options in ({}, *depths, *shortcuts):
        theirs = sized(name, 7, 5, **options)
        with pytest.raises(WeightsError, match="; build the model with ") as error:
            load_weights(sized(name), theirs.state_dict())
        assert {"in_channels": 7, "num_classes": 5}.items() <= error.value.build.items()
        load_weights(sized(name, **error.value.build), theirs.state_dict())


@pytest.mark.usefixtures("without_values")
@pytest.mark.parametrize("domain", ["images", "points", "graphs"])
def test_weights_of_another_network_of_the_same_kind_are_told(domain):
    models = {name: sized(name) for name in list_models(domain=domain) if name not in ("resnet1001", "resnet110")}
    for (theirs, model), (ours, other) in itertools.pairwise([*models.items(), *models.items()]):
        same_kind = type(model) is type(other) or domain != "images"
        if theirs != ours and same_kind:
            with pytest.raises(WeightsError, match=rf"; they are weights of {theirs}\b"):
                load_weights(other, model.state_dict())


ADVISED = {3: "adapt_input=True"}


@pytest.mark.parametrize("name", ["airbench94", "cnn6", "gat", "pointnet2_ssg", "pointnet_cls", "resnet8", "vgg16_bn"])
def test_an_input_is_adapted_where_an_error_says_so(name):
    model = create_model(name, in_channels=4, num_classes=3)
    for classes in (3, 5, None):
        theirs = create_model(name, in_channels=6, num_classes=classes or 3).state_dict()
        if classes is None:
            theirs = {key: t for key, t in theirs.items() if not key.startswith(model.output_layer)}
        with pytest.raises(WeightsError, match="build the model with in_channels=6") as error:
            load_weights(model, theirs)
        assert error.value.build.keys() <= {"in_channels", "num_classes"}
        advised = next(iter(error.value.load), "")
        assert advised == (
            ""
            if name in ("airbench94", "pointnet_cls")
            else ADVISED.get(classes, "adapt_input=True and swap_head=True")
        )
        if advised:
            load_weights(model, theirs, adapt_input=True, swap_head=classes != 3)
        else:
            with pytest.raises(WeightsError, match="build the model with in_channels=6"):
                load_weights(model, theirs, adapt_input=True, swap_head=classes != 3)


def test_one_of_several_files_of_a_state_dict_is_told(tmp_path):
    state = create_model("resnet8").state_dict()
    part = {name: tensor.contiguous() for name, tensor in list(state.items())[:9]}
    save_file(part, tmp_path / "model-00001-of-00003.safetensors")
    with pytest.raises(WeightsError, match=r"it is one of the 3 parts of a state dict; give the index next to it"):
        load_weights(create_model("resnet8"), tmp_path / "model-00001-of-00003.safetensors")


def test_a_compiled_module_may_be_pickled_whole(tmp_path):
    model = create_model("resnet8")
    torch.save({"net": torch.compile(model)}, tmp_path / "whole.pt")
    restored = create_model("resnet8")
    assert not same(restored, model.state_dict())
    load_weights(restored, tmp_path / "whole.pt")
    assert same(restored, model.state_dict())
