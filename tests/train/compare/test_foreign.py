"""Evaluation of files of others: what is found, what is asked for, and the figures of the same weights as a run."""

import pytest
import torch

from comhe.errors import UsageError
from comhe.train.cli.main import main
from comhe.train.compare.foreign import evaluate_file, find_normalization
from comhe.train.images import ImageRecipe
from comhe.train.recipe import get_recipe
from comhe.train.task import make_task
from comhe.zoo import create_model, get_weights


@pytest.fixture
def recipe(folder):
    return ImageRecipe(recipe="test", model="resnet8", data=f"folder:{folder}", batch_size=8)


@pytest.fixture
def model(recipe):
    """A network whose batch norms have the statistics of the training images, normalized as ImageNet's."""
    task = make_task(recipe.replace(normalization="imagenet"))
    torch.manual_seed(0)
    model = task.model()
    model.bn1.momentum = 1.0
    with torch.no_grad():
        model.train()(next(task.batches("train", 24))[0])
    return model


def test_the_normalization_is_found(recipe, model):
    name, error = find_normalization(model, make_task(recipe))
    assert name == "imagenet"
    assert error < 0.01


def test_what_cannot_be_found_is_asked_for(recipe, model):
    task = make_task(recipe)
    for name in ("resnet8", "vgg16_bn"):
        with pytest.raises(UsageError, match="do not tell how images were normalized; name it with --normalization"):
            find_normalization(create_model(name, num_classes=3), task)
    model.bn1.running_mean += 50
    with pytest.raises(UsageError, match=r"error .*means/deviations"):
        find_normalization(model, task)


def test_a_file_has_the_figures_of_its_network(recipe, model, tmp_path, capsys):
    state = {f"module.{n.replace('fc.', 'linear.')}": t for n, t in model.state_dict().items()}
    torch.save({"net": state, "acc": 0.5, "epoch": 1}, tmp_path / "ckpt.pth")
    recipe = recipe.replace(model_options={"shortcut": "pad"})
    expected = make_task(recipe.replace(normalization="imagenet")).evaluate(model, "test")
    for normalization in (None, "imagenet", "0.485,0.456,0.406/0.229,0.224,0.225"):
        notes, metrics = evaluate_file(recipe, tmp_path / "ckpt.pth", normalization)
        assert metrics == expected
        assert len(notes) == 1 + (normalization is None)
    command = ["evaluate", str(tmp_path / "ckpt.pth"), "--model", "resnet8", "--data", recipe.data]
    assert main([*command, "--model-options", "shortcut=pad", "--key", "net"]) == 0
    said = "".join(capsys.readouterr())
    assert "normalization imagenet: of those known" in said
    assert f"test: accuracy {100 * expected['accuracy']:.2f} %" in said


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "of a file of others say the --model and the --data"),
        (["--model", "resnet8"], "say with --data what to evaluate"),
        (
            ["--model", "resnet8", "--data", "digits"],
            "for 3 classes, this CifarResNet has 10; evaluate them on data with",
        ),
        (["--model", "resnet20", "--data", "FOLDER"], "they are weights of resnet8"),
        (["--model", "resnet8", "--data", "FOLDER", "--normalization", "imagnet"], "normalization must be 'set' or"),
        (["--model", "resnet8", "--data", "FOLDER", "--key", "ema"], "no state dict at key='ema'"),
        (["--model", "gcn", "--data", "citations", "--normalization", "set"], "normalization is for images"),
        (["--model", "gcn", "--data", "citations"], "do not fit this GCN"),
        (["--model", "resnet8", "--data", "digits", "--points", "64"], "points is for point clouds"),
    ],
)
def test_a_mistake_is_one_line(argv, message, folder, tmp_path, capsys):
    torch.save(create_model("resnet8", num_classes=3).state_dict(), tmp_path / "ckpt.pth")
    assert main(["evaluate", str(tmp_path / "ckpt.pth"), *(a.replace("FOLDER", f"folder:{folder}") for a in argv)]) == 2
    error = capsys.readouterr().err.splitlines()[-1]  # the first use of the folder is told, too
    assert error.startswith("comhe: ")
    assert message in error


def test_weights_of_a_graph_network(tmp_path, capsys):
    weights = get_weights("gcn.citations-none")
    torch.save({"state_dict": weights.state_dict()}, tmp_path / "gcn.pt")
    assert main(["evaluate", str(tmp_path / "gcn.pt"), "--model", "gcn", "--data", "citations"]) == 0
    assert f"test: accuracy {100 * weights.card['metrics']['test']['accuracy']:.2f} %" in capsys.readouterr().out


def test_options_are_advised_by_their_names_on_the_command_line(tmp_path, capsys):
    weights = get_weights("gcn.citations-none")
    sizes = {name: weights.options[name] for name in ("in_channels", "num_classes")}
    torch.save(create_model("gcn", **sizes, hidden_channels=24).state_dict(), tmp_path / "wide.pt")
    command = ["evaluate", str(tmp_path / "wide.pt"), "--model", "gcn", "--data", "citations"]
    assert main(command) == 2
    assert "; build the model with --model-options hidden_channels=24\n" in capsys.readouterr().err
    assert main([*command, "--model-options", "hidden_channels=24"]) == 0
    net = create_model("gcn", **sizes).state_dict()
    torch.save({"a": net, "b": {name: tensor + 1 for name, tensor in net.items()}}, tmp_path / "two.pt")
    command[1] = str(tmp_path / "two.pt")
    assert main(command) == 2
    assert "choose one by --key 'a' or 'b'\n" in capsys.readouterr().err
    assert main([*command, "--key", "a"]) == 0


def test_clouds_have_as_many_points_as_were_asked_for(tmp_path, capsys):
    recipe = get_recipe(None, "pointnet_t", "solids", "none", points=16)
    task = make_task(recipe)
    model = create_model("pointnet_t", **task.options)
    file = tmp_path / "ckpt.pth"
    torch.save(model.state_dict(), file)
    assert main(["evaluate", str(file), "--model", "pointnet_t", "--data", "solids", "--points", "16"]) == 0
    said = " ".join(capsys.readouterr())
    assert "clouds have 16 points; pass --points 2048 for weights that were trained on so many" in said
    assert f"accuracy {100 * task.evaluate(model, 'test')['accuracy']:.2f} %" in said
