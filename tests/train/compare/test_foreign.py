"""Evaluation of files of others: what is found, what is asked for, and the figures of the same weights as a run."""

import pytest
import torch

from comhe.errors import UsageError
from comhe.train.cli.main import main
from comhe.train.compare.foreign import evaluate_file, find_normalization
from comhe.train.engine.loop import fit
from comhe.train.images import NORMALIZATIONS, ImageRecipe
from comhe.train.runs.run import Run
from comhe.train.task import make_task
from comhe.zoo import create_model

RECIPE = ImageRecipe(recipe="test", model="resnet8", data="glyphs", epochs=1, batch_size=128)


@pytest.mark.parametrize("name", ["set", "imagenet", "kuangliu", "unit"])
def test_the_normalization_is_found(name):
    task = make_task(RECIPE.replace(normalization=name))
    torch.manual_seed(0)
    model = task.model()
    model.bn1.momentum = None
    with torch.no_grad():
        for step, inputs in enumerate(task.inputs(0)):
            model.train()(task.collate(*inputs)[0])
            if step == 5:
                break
    found, error = find_normalization(model, task)
    assert found == name
    assert error < 0.02


def test_what_cannot_be_found_is_asked_for():
    task = make_task(RECIPE)
    for name in ("resnet8", "cnn6"):
        with pytest.raises(UsageError, match="do not tell how images were normalized; name it with --normalization"):
            find_normalization(create_model(name, num_classes=task.data.num_classes), task)
    model = task.model()
    model.bn1.running_mean += 50
    with pytest.raises(UsageError, match=r"error .*means/deviations"):
        find_normalization(model, task)


def test_a_file_has_the_figures_of_its_run(tmp_path, capsys):
    run = Run(tmp_path / "run")
    fit(make_task(RECIPE), run)
    state = {f"module.{n.replace('fc.', 'linear.')}": t for n, t in run.weights("last").items()}
    torch.save({"net": state, "acc": 0.5, "epoch": 1}, tmp_path / "ckpt.pth")
    file, said = tmp_path / "ckpt.pth", f"accuracy {100 * run.result()['last']['test_accuracy']:.2f} %"
    notes, metrics = evaluate_file(RECIPE.replace(model_options={"shortcut": "pad"}), file, "set")
    assert metrics["accuracy"] == run.result()["last"]["test_accuracy"]
    assert notes[0].endswith("tensors loaded")
    command = ["evaluate", str(file), "--model", "resnet8", "--data", "glyphs", "--model-options", "shortcut=pad"]
    assert main([*command, "--normalization", "set"]) == 0
    assert f"glyphs test: {said}" in capsys.readouterr().out
    for more in ([], ["--normalization", "imagenet"], ["--normalization", "0.5,0.5,0.5/0.2,0.2,0.2"], ["--key", "net"]):
        assert main([*command, *more]) == 0
        capsys.readouterr()


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "of a file of others say the --model and the --data"),
        (["--model", "resnet8"], "say with --data what to evaluate"),
        (["--model", "resnet20", "--data", "glyphs"], "they are weights of resnet8"),
        (["--model", "resnet8", "--data", "glyphs", "--normalization", "imagnet"], "normalization must be 'set' or"),
        (["--model", "resnet8", "--data", "glyphs", "--key", "ema"], "no state dict at key='ema'"),
        (["--model", "gcn", "--data", "citations", "--normalization", "set"], "normalization is for images"),
        (["--model", "gcn", "--data", "citations"], "do not fit this GCN"),
    ],
)
def test_a_mistake_is_one_line(argv, message, tmp_path, capsys):
    classes = make_task(RECIPE).data.num_classes
    torch.save(create_model("resnet8", num_classes=classes).state_dict(), tmp_path / "ckpt.pth")
    assert main(["evaluate", str(tmp_path / "ckpt.pth"), *argv]) == 2
    error = capsys.readouterr().err
    assert error.startswith("comhe: ")
    assert error.count("\n") == 1
    assert message in error


def test_graphs_need_no_normalization(tmp_path, capsys):
    task = make_task(RECIPE)
    assert set(NORMALIZATIONS) > {"centered", "imagenet"}
    assert task.normalization == (task.data.mean, task.data.std)
    data = main(["evaluate", "gcn.citations-none"])
    assert data == 0
    said = capsys.readouterr().out.splitlines()[-1].split(",")[0]
    from comhe.zoo import get_weights

    weights = get_weights("gcn.citations-none")
    torch.save({"state_dict": weights.state_dict()}, tmp_path / "gcn.pt")
    assert main(["evaluate", str(tmp_path / "gcn.pt"), "--model", "gcn", "--data", "citations"]) == 0
    assert said in capsys.readouterr().out
