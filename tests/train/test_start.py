"""Runs that start from weights."""

import json
from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from comhe.errors import ComheWarning, RunError, UsageError, WeightsError
from comhe.train import Run, fit, get_recipe
from comhe.train.cli.main import main
from comhe.train.cli.train import train_command
from comhe.train.compare.publish import evaluate
from comhe.train.engine.batch_task import parameter_groups
from comhe.train.points import PointTask
from comhe.train.start import keep_frozen_norms, layer_scales, load_start, start_weights, with_start
from comhe.train.task import make_task
from comhe.zoo import create_model, get_weights
from comhe.zoo.preprocessing import GraphTransform


def graph_recipe(weights="", **changes):
    return get_recipe(
        "kipf", "gcn", "citations", "none", **{"epochs": 3, "lr": 1e-3, "weights": str(weights)} | changes
    )


def start_of(recipe):
    """A network as it is before its first step."""
    torch.manual_seed(0)
    model = create_model(recipe.model, **recipe.model_arguments(num_classes=5))
    load_start(model, recipe)
    return model


IMAGES = {"weights": "resnet8.glyphs-none", "swap_head": True}


def image_recipe(**changes):
    return with_start(get_recipe("short", "resnet8", "glyphs", "none", **IMAGES | changes))


def test_a_new_head_on_a_trunk_with_the_weights():
    model, state = start_of(image_recipe()), get_weights("resnet8.glyphs-none").state_dict()
    assert model.fc.weight.shape[0] == 5
    for name, tensor in model.state_dict().items():
        assert name.startswith("fc.") or torch.equal(tensor, state[name])
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_a_frozen_trunk_keeps_its_statistics_too():
    model = start_of(image_recipe(freeze="trunk"))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model.train()
    keep_frozen_norms(model)
    recipe = image_recipe(freeze="trunk")
    optimizer = torch.optim.SGD(parameter_groups(recipe, model, lambda *_: True), lr=0.1)
    model(torch.randn(4, 3, 28, 28)).logsumexp(1).sum().backward()
    optimizer.step()
    moved = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert moved == {"fc.weight", "fc.bias"}
    assert model.fc.training


def test_earlier_layers_learn_slower():
    model = create_model("resnet8", num_classes=5)
    scales = layer_scales(model, 0.5)
    assert scales["fc.weight"] == 1
    assert scales["layer3.0.conv1.weight"] == scales["layer3.0.bn2.bias"] == 0.5
    assert scales["conv1.weight"] < scales["layer1.0.conv1.weight"] < scales["layer2.0.conv1.weight"]
    groups = parameter_groups(image_recipe(layer_decay=0.5), model, lambda _, p: p.dim() > 1)
    assert sum(len(group["params"]) for group in groups) == len(list(model.parameters()))
    named = {id(p): name for name, p in model.named_parameters()}
    for group in groups:
        for parameter in group["params"]:
            assert group["lr_scale"] == scales[named[id(parameter)]]
            assert (group["weight_decay"] > 0) == (parameter.dim() > 1)
    assert len(parameter_groups(image_recipe(), model, lambda _, p: p.dim() > 1)) == 2


def test_the_rate_of_a_layer_is_scaled_in_training(tmp_path):
    first = fit(graph_recipe(weight_decay=0.0), tmp_path / "first")
    at = {}
    for decay in (1.0, 1e-6):
        changes = {"epochs": 1, "weight_decay": 0.0, "dropout": 0.0, "layer_decay": decay}
        run = fit(graph_recipe(first.folder, **changes), tmp_path / f"decay{decay}")
        at[decay] = run.weights("last")
    start = first.weights("best")
    for name, tensor in start.items():
        assert not torch.equal(at[1.0][name], tensor)
        is_head = name.startswith("convs.1")
        assert ((at[1e-6][name] - tensor).abs().max() > 1e-4) == is_head


def test_a_run_starts_from_a_run_a_file_and_a_name_alike(tmp_path):
    first = fit(graph_recipe(hidden_channels=8), tmp_path / "first")
    for source in (first.folder, first.folder / "best.safetensors"):
        recipe = with_start(graph_recipe(source, hidden_channels=8))
        model = create_model("gcn", **recipe.model_arguments(in_channels=1000, num_classes=7))
        is_file = source != first.folder  # which does not say of which network it is
        with pytest.warns(UserWarning, match="which tensors do not tell") if is_file else nullcontext():
            load_start(model, recipe)
        assert all(torch.equal(t, first.weights("best")[name]) for name, t in model.state_dict().items())
    # A run, a published file and a name also say how the network is built.
    assert with_start(graph_recipe(first.folder)).model_arguments()["hidden_channels"] == 8
    short, full = (with_start(graph_recipe(name)) for name in ("cora-none", "gcn.cora-none"))
    assert short.model_options == full.model_options
    assert full.model_arguments()["hidden_channels"] == get_weights("gcn.cora-none").options["hidden_channels"]
    own = with_start(graph_recipe("gcn.cora-none", model_options={"hidden_channels": 64}))
    assert own.model_arguments()["hidden_channels"] == 64


def test_the_run_stands_on_its_own_once_it_is_trained(tmp_path):
    first = fit(graph_recipe(hidden_channels=8), tmp_path / "first")
    second = fit(graph_recipe(first.folder), tmp_path / "second")
    for path in first.folder.iterdir():
        path.unlink()
    _, metrics = evaluate(Run(second.folder).recipe(), second.weights("best"))
    assert metrics["test"]["accuracy"] == second.result()["best"]["test_accuracy"]


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"swap_head": True}, UsageError, "swap_head is for a run that starts from weights"),
        ({"freeze": "trunk"}, UsageError, "freeze is for a run that starts from weights"),
        ({"adapt_input": True}, UsageError, "adapt_input is for a run that starts from weights"),
        (
            {"weights": "gcn.cora-none"},
            WeightsError,
            r"\[32, 1000\]\); pass adapt_input=True to fit the first layer to these data$",
        ),
        ({"weights": __file__}, WeightsError, r"test_start\.py: not a safetensors file or a checkpoint"),
        ({"layer_decay": 0.5}, UsageError, "layer_decay is for a run that starts from weights"),
        ({"freeze": "all"}, UsageError, "freeze must be 'none' or 'trunk', not 'all'"),
        ({"layer_decay": 0}, UsageError, "layer_decay must be greater than 0 and at most 1, but is 0"),
        ({"weights": "gat.cora-none"}, UsageError, "has weights of gat, not of gcn; train gat"),
        ({"weights": "gcn.coda-none"}, WeightsError, "did you mean gcn.cora-none"),
        ({"weights": "./no.safetensors"}, WeightsError, "no.safetensors: no such file"),
        ({"weights": "."}, RunError, r"\. is not a run folder: it has no recipe\.json"),
    ],
)
def test_mistakes_are_told_before_anything_is_written(tmp_path, monkeypatch, changes, error, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=message):
        fit(graph_recipe(**changes))
    assert not list(tmp_path.iterdir())


def test_the_command_takes_the_network_of_the_weights():
    command = train_command("images", ["--weights", "resnet8.glyphs-none"])
    assert command.base.model == "resnet8"
    assert train_command("images", ["--weights", "resnet8.glyphs-none", "--model", "cnn6"]).base.model == "cnn6"
    assert train_command("images", []).base.model == "resnet20"


def test_another_file_under_the_same_name_is_another_run(tmp_path):
    first = fit(graph_recipe(epochs=1), tmp_path / "first")
    path = tmp_path / "a.safetensors"
    path.write_bytes((first.folder / "best.safetensors").read_bytes())
    recipe = with_start(graph_recipe(path, epochs=1))
    assert len(recipe.weights_digest) == 12
    assert with_start(recipe) == recipe
    one = fit(recipe, runs=tmp_path / "runs")
    assert fit(graph_recipe(path, epochs=1), runs=tmp_path / "runs").folder == one.folder
    state = {name: tensor + 1 for name, tensor in first.weights("best").items()}
    save_file(state, path)
    two = fit(graph_recipe(path, epochs=1), runs=tmp_path / "runs")
    assert two.folder != one.folder
    assert not torch.equal(two.weights("last")["convs.0.bias"], one.weights("last")["convs.0.bias"])
    with pytest.raises(WeightsError, match=r"a\.safetensors has changed since this recipe was made"):
        with_start(recipe)
    assert with_start(graph_recipe("gcn.cora-none")).weights_digest == ""


def test_another_part_of_a_divided_state_dict_is_another_run(tmp_path):
    places = {}
    for name, tensor in create_model("gcn", in_channels=4, num_classes=2).state_dict().items():
        places[name] = f"{name}.safetensors"
        save_file({name: tensor}, tmp_path / places[name])
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    recipe = with_start(graph_recipe(tmp_path))
    assert len(recipe.weights_digest) == 12
    save_file({name: tensor + 1}, tmp_path / places[name])
    with pytest.raises(WeightsError, match="has changed since this recipe was made"):
        with_start(recipe)


def test_one_of_several_state_dicts_is_chosen(tmp_path):
    first, second = (create_model("resnet8", num_classes=10) for _ in range(2))
    path = tmp_path / "both.pt"
    torch.save({"student": first.state_dict(), "mentor": second.state_dict()}, path)
    recipe = get_recipe("short", "resnet8", "digits", "none", weights=str(path))
    with pytest.raises(WeightsError, match="choose one by weights_key='mentor' or 'student'"):
        load_start(create_model("resnet8", num_classes=10), recipe)
    for key, chosen in (("student", first), ("mentor", second)):
        model = create_model("resnet8", num_classes=10)
        load_start(model, recipe.replace(weights_key=key))
        assert model.fc.weight.equal(chosen.fc.weight)
    assert recipe.replace(weights_key="mentor").label != recipe.label
    with pytest.raises(UsageError, match="weights_key is for a run that starts from weights"):
        with_start(recipe.replace(weights="", weights_key="mentor"))


def test_features_of_another_number_begin_anew(tmp_path):
    recipe = graph_recipe("gcn.cora-none", adapt_input=True, freeze="trunk", epochs=1)
    with pytest.warns(
        UserWarning, match="convs.0.lin.weight begins anew, for 1000 features; the weights were for 1433"
    ):
        run = fit(recipe, tmp_path / "run")
    trained = get_weights("gcn.cora-none").state_dict()
    assert torch.equal(run.weights("last")["convs.0.bias"], trained["convs.0.bias"])
    model = create_model("gcn", **with_start(recipe).model_arguments(in_channels=1000, num_classes=7))
    with pytest.warns(UserWarning, match="begins anew"):
        load_start(model, recipe)
    learns = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert learns == {"convs.0.lin.weight", "convs.1.lin.weight", "convs.1.bias"}


def test_clouds_of_other_axes_are_turned_for_the_weights():
    recipe = get_recipe("short", "pointnet", "solids", "none", points=32, weights="pointnet.solids-none")
    transform = start_weights(with_start(recipe)).transforms()
    task = PointTask(recipe)
    before = task.data
    assert task.adopt(transform) == ""
    assert "y points up, but z in the clouds of these weights" in task.adopt(replace(transform, up="z"))
    assert torch.equal(task.data.test.points, before.turned("z").test.points)
    assert task.transforms().up == "z"
    assert torch.equal(next(iter(task.batches("test", 4)))[0], before.turned("z").test.points[:4, :32])
    assert task.loader.up == 2, "the augmentation turns clouds about the same axis"
    assert task.loader.data is task.data.train


def test_classes_of_other_names_are_told_unless_the_head_is_new(tmp_path, recwarn):
    def recipe(*names, **changes):
        arrays = {"x": np.eye(12), "edge_index": np.arange(24).reshape(2, 12) % 12, "y": np.repeat(names, 6)}
        np.savez(tmp_path / f"{names[0]}.npz", **arrays)
        data = f"graph-undirected:{tmp_path / names[0]}.npz"
        return get_recipe("kipf", "gcn", data, "none", epochs=1, **changes)

    weights = str(fit(recipe("a", "b"), tmp_path / "first").folder)
    for folder, swap_head in (("swapped", True), ("same", False)):
        again = recipe(*("cd" if swap_head else "ab"), weights=weights, swap_head=swap_head)
        fit(again, tmp_path / folder)
    assert not [each for each in recwarn if "in the data of these weights" in str(each.message)]
    with pytest.warns(
        ComheWarning, match="class 0 is 'c', but 'a' in the data of these weights; swap the head, unless"
    ):
        fit(recipe("c", "d", weights=weights), tmp_path / "other")


@pytest.mark.parametrize("is_sparse", [False, True])
def test_a_graph_is_prepared_as_the_weights_graph_was(is_sparse, tmp_path):
    x = torch.tensor([[2.0, 2.0], [0.0, 0.0], [1.0, 3.0], [5.0, 0.0]])
    x = torch.cat([x, torch.zeros(4, 8)], 1) if is_sparse else x  # stored as CSR
    arrays = {"x": x.numpy(), "edge_index": [[0, 1, 2, 2], [1, 2, 3, 3]], "y": [0, 1, 0, 1], "train": [0, 1]}
    np.savez(tmp_path / "a.npz", **arrays, val=[2], test=[3])
    with pytest.warns(UserWarning, match="one direction only"):
        task = make_task(get_recipe(None, "gcn", f"graph:{tmp_path / 'a.npz'}", "none"))
    note = task.adopt(GraphTransform(x.shape[1], normalize=True, undirected=True))
    assert note.endswith("features are divided by their sum and edges go both ways, without duplicates and self-loops")
    assert (task.graph.features.layout == torch.sparse_csr) == is_sparse
    assert task.graph.features.to_dense()[:, :2].tolist() == [[0.5, 0.5], [0, 0], [0.25, 0.75], [1, 0]]
    assert task.graph.edge_index.tolist() == [[0, 1, 1, 2, 2, 3], [1, 0, 2, 1, 3, 2]]
    assert task.transforms() == GraphTransform(x.shape[1], normalize=True, undirected=True)
    assert task.adopt(GraphTransform(x.shape[1], normalize=False, undirected=False)) == ""


def test_the_command_advises_what_it_has(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    gray, three = (create_model("resnet8", **sizes) for sizes in ({"in_channels": 1}, {"num_classes": 3}))
    torch.save(create_model("resnet8", in_channels=1, num_classes=10).state_dict(), "ten.pt")
    torch.save(gray.state_dict(), "gray.pt")
    torch.save(three.state_dict(), "three.pt")
    torch.save({"student": three.state_dict(), "mentor": create_model("resnet8", num_classes=3).state_dict()}, "two.pt")
    torch.save(create_model("gcn", in_channels=1000, num_classes=5, hidden_channels=24).state_dict(), "wide.pt")
    images = ["train", "images", "--model", "resnet8", "--data", "digits", "--recipe", "short", "--weights"]
    graphs = ["train", "graphs", "--data", "citations", "--weights"]
    torch.save(create_model("pointnet_t", in_channels=6, num_classes=5).state_dict(), "clouds.pt")
    points = ["train", "points", "--model", "pointnet_t", "--data", "solids", "--swap-head", "--weights"]
    for command, message in (
        ([*images, "three.pt"], "this CifarResNet has 10; pass --swap-head to keep the initial fc.weight, fc.bias"),
        ([*images, "two.pt"], "choose one by --weights-key 'mentor' or 'student'"),
        ([*images, "ten.pt"], "; pass --adapt-input to fit the first layer to these data"),
        ([*images, "gray.pt"], "; pass --adapt-input and --swap-head to keep the initial fc.weight, fc.bias"),
        ([*graphs, "wide.pt"], "; build the model with --hidden-channels 24"),
        ([*graphs, "gcn.cora-none"], "; pass --adapt-input to fit the first layer to these data"),
        ([*points, "clouds.pt"], "; they are for data with 6 channels or features"),
    ):
        assert main([*command, "--epochs", "1"]) == 2
        assert capsys.readouterr().err.endswith(f"{message}\n")


def test_a_network_without_a_named_head_is_told_what_to_name(tmp_path, monkeypatch):
    recipe = get_recipe(
        "short", "resnet8", "digits", "none", epochs=1, swap_head=True, weights=str(tmp_path / "three.pt")
    )
    torch.save(create_model("resnet8", num_classes=3).state_dict(), recipe.weights)
    model = create_model("resnet8")
    monkeypatch.setattr(model, "output_layer", None)
    with pytest.raises(UsageError, match="CifarResNet has to name its last layer in its attribute output_layer"):
        load_start(model, recipe)


def test_tensors_without_a_place_are_told(tmp_path):
    state = {f"net.{name}": tensor for name, tensor in create_model("resnet8").state_dict().items()}
    state["criterion.centers"] = torch.zeros(4, 4)
    recipe = get_recipe("short", "resnet8", "glyphs", "none", weights=str(tmp_path / "more.pt"))
    torch.save(state, recipe.weights)
    with pytest.warns(ComheWarning, match=r"more\.pt: criterion\.centers ignored: the network has no place for"):
        load_start(create_model("resnet8"), recipe)
