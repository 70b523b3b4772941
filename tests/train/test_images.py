"""Training on images: the loop against one written out by hand, and what the task adds to it."""

import copy
import csv

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from comhe.datasets.sampling import Share
from comhe.errors import DivergedError
from comhe.regularizers import create_regularizer, diagnose, neurons
from comhe.train.cli.main import main
from comhe.train.engine import loop
from comhe.train.engine.batch_task import evaluate_batches, make_optimizer, split_batch
from comhe.train.engine.loop import fit
from comhe.train.images import ImageRecipe, ImageTask, released_loss
from comhe.train.recipe import get_recipe
from comhe.train.runs.run import Run


@pytest.fixture
def recipe(folder, tmp_path):
    return ImageRecipe(recipe="test", model="resnet20", data=f"folder:{folder}", epochs=2, batch_size=9, lr=0.02)


def make(recipe, tmp_path):
    return ImageTask(recipe, str(tmp_path))


def batches(task, epoch):
    return (task.collate(*inputs) for inputs in task.inputs(epoch))


REGULARIZED = {"regularizer": "rp-comhe", "regularizer_options": {"dim": 8, "count": 2, "span": True}, "weight": 0.1}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        REGULARIZED | {"clip": 0.5, "schedule": "cosine", "warmup": 0.3},
        REGULARIZED | {"ema": 0.7, "decay": "all", "nesterov": False, "channels_last": False},
        {"accumulate": 2, "optimizer": "adamw", "label_smoothing": 0.1, "precision": "bf16"},
        {"loss": "released", "label_smoothing": 0.01, "pad_mode": "symmetric", "normalization": "centered"},
    ],
)
def test_the_loop_against_one_written_out(recipe, tmp_path, changes):
    recipe = recipe.replace(**changes)
    task = make(recipe, tmp_path)
    run = Run(tmp_path / "run")
    fit(task, run)

    torch.manual_seed(recipe.seed)
    model = task.model()
    options = dict(recipe.regularizer_options) | ({"weight": recipe.weight} if recipe.weight is not None else {})
    regularizer = create_regularizer(recipe.regularizer, model, seed=recipe.seed, **options)
    optimizer = make_optimizer(recipe, model)
    average, step = None, 0
    for epoch in range(recipe.epochs):
        model.train()
        for x, y in batches(task, epoch):
            assert len(y) == 9  # 24 images: two full batches
            for group in optimizer.param_groups:
                group["lr"] = recipe.lr_at(step, 4)
            optimizer.zero_grad()
            regularizer().backward() if recipe.regularizer != "none" else None
            halves = [slice(0, 9)] if recipe.accumulate == 1 else [slice(0, 5), slice(5, 9)]
            for part in halves:
                with torch.autocast("cpu", torch.bfloat16, enabled=recipe.precision == "bf16"):
                    logits = model(x[part]).float()
                if recipe.loss == "released":
                    loss = released_loss(logits, y[part], recipe.label_smoothing)
                else:
                    loss = F.cross_entropy(logits, y[part], label_smoothing=recipe.label_smoothing)
                (loss * len(y[part]) / 9).backward()
            if recipe.clip:
                norm = torch.stack([p.grad.norm() for p in model.parameters()]).norm()
                for p in model.parameters():
                    p.grad *= min(1.0, recipe.clip / norm)
            optimizer.step()
            step += 1
            state = {name: tensor.double() for name, tensor in copy.deepcopy(model.state_dict()).items()}
            d = recipe.ema
            average = {n: d * average[n] + (1 - d) * t for n, t in state.items()} if average and d else state
    for name, tensor in run.weights("last").items():
        if "num_batches" not in name:
            torch.testing.assert_close(tensor.double(), average[name], rtol=1e-3, atol=1e-4)


def test_a_resumed_run_is_the_uninterrupted_one(recipe, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0.0)
    recipe = recipe.replace(epochs=3, regularizer="ap-comhe", ema=0.9, energies=1, log_steps=1, schedule="one-cycle")
    whole, cut = Run(tmp_path / "whole"), Run(tmp_path / "cut")
    fit(make(recipe, tmp_path), whole)

    def stop(row, epochs):
        if row["epoch"] == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(make(recipe, tmp_path), cut, stop)
    assert not cut.done
    assert (cut.folder / "metrics.csv").exists()  # what there is can be looked at
    fit(make(recipe, tmp_path), cut)
    for table in ("metrics.csv", "energies.csv", "steps.csv"):
        assert (whole.folder / table).read_text() == (cut.folder / table).read_text()
    for which in ("last", "best"):
        first, second = whole.weights(which), cut.weights(which)
        assert all(tensor.equal(second[name]) for name, tensor in first.items())


def test_energies_and_steps_are_those_of_the_weights(recipe, tmp_path):
    recipe = recipe.replace(regularizer="hs-mhe", energies=1, log_steps=3)
    task, run = make(recipe, tmp_path), Run(tmp_path / "run")
    fit(task, run)
    rows = list(csv.DictReader((run.folder / "energies.csv").open()))
    layers = len({row["layer"] for row in rows})
    assert [int(row["epoch"]) for row in rows] == [e for e in range(3) for _ in range(layers)]
    torch.manual_seed(recipe.seed)
    start, end = task.model(), task.model()
    end.load_state_dict(run.weights("last"))
    for row in rows:
        model = {0: start, 2: end}.get(int(row["epoch"]))
        if model is not None:
            expected = diagnose(neurons(model.get_submodule(row["layer"])).detach())
            assert float(row["half_space_energy"]) == pytest.approx(expected.half_space_energy, rel=1e-4)
            assert float(row["smallest_angle"]) == pytest.approx(expected.smallest_angle, rel=1e-4)
    steps = list(csv.DictReader((run.folder / "steps.csv").open()))
    assert [int(row["step"]) for row in steps] == [0, 3]
    x, y = next(batches(task, 0))
    logits = start.train()(x)
    assert float(steps[0]["loss"]) == pytest.approx(F.cross_entropy(logits, y).item(), rel=1e-3)
    assert float(steps[0]["accuracy"]) == pytest.approx((logits.argmax(1) == y).double().mean().item())
    assert float(steps[0]["largest_logit"]) == pytest.approx(logits.abs().max().item(), rel=1e-3)
    output = next(row for row in rows if row["role"] == "output")
    assert float(steps[0]["output_energy"]) == pytest.approx(float(output["energy"]), rel=1e-4)


def test_learned_projections_move_at_the_networks_rate(recipe, tmp_path):
    recipe = recipe.replace(regularizer="ap-comhe", schedule="one-cycle", warmup=0.5)
    task = make(recipe, tmp_path)
    regularizer = task.regularizer(task.model())
    rates = []
    for step in range(4):
        regularizer.step = step
        rates.append(regularizer._rate())
    assert rates == pytest.approx([1e-12, 0.01, 0.02, 0.01])


def test_released_loss():
    logits = torch.tensor([[2.0, -1.0, 0.5], [1e4, -1e4, 0.0]], dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([1, 1])
    p = torch.softmax(logits, 1)
    y = torch.full((2, 3), 0.03 / 3, dtype=torch.float64)
    y[:, 1] += 0.97
    expected = -(y * (p + 1e-4).log()).sum(1).mean()
    value = released_loss(logits, labels, 0.03)
    torch.testing.assert_close(value, expected)
    value.backward()
    assert logits.grad.isfinite().all()
    assert logits.grad[1].abs().max() == 0  # the dead phase: certain and wrong, and no way back


def test_evaluation_counts_samples():
    torch.manual_seed(0)
    scores, labels = torch.randn(23, 7), torch.randint(7, (23,))
    model = torch.nn.Identity()
    batches = zip(scores.split(10), labels.split(10), strict=True)
    figures = evaluate_batches(model, batches, bf16=False)
    order = scores.argsort(1, descending=True)
    assert figures["accuracy"] == pytest.approx(sum(o[0] == y for o, y in zip(order, labels, strict=True)).item() / 23)
    assert figures["top5"] == pytest.approx(sum((o[:5] == y).any() for o, y in zip(order, labels, strict=True)) / 23)
    each = [(order[labels == c, 0] == c).double().mean().item() for c in labels.unique()]
    assert figures["class_accuracy"] == pytest.approx(sum(each) / len(each))
    assert figures["loss"] == pytest.approx(F.cross_entropy(scores, labels).item(), rel=1e-6)


@pytest.mark.parametrize(("size", "count"), [(9, 1), (9, 2), (9, 9), (3, 5)])
def test_parts_are_the_batch(size, count):
    x, y = torch.randn(size, 2), torch.arange(size)
    parts = list(split_batch((x, y), Share(parts=min(size, count)), size))
    assert len(parts) == min(size, count)
    assert sum(share for share, _ in parts) == pytest.approx(1)
    assert torch.cat([labels for _, (_, labels) in parts]).equal(y)


def test_matrices_decay_and_nothing_else(recipe, tmp_path):
    model = make(recipe, tmp_path).model()
    decayed, others = make_optimizer(recipe, model).param_groups
    assert decayed["weight_decay"] == recipe.weight_decay
    assert others["weight_decay"] == 0
    names = {id(p): name for name, p in model.named_parameters()}
    assert {names[id(p)].split(".")[-1] for p in decayed["params"]} == {"weight"}
    assert all("bn" in names[id(p)] or names[id(p)] == "fc.bias" for p in others["params"])
    assert len(make_optimizer(recipe.replace(decay="all"), model).param_groups) == 1


def test_a_run_that_explodes_says_so(recipe, tmp_path):
    with pytest.raises(DivergedError, match="lower lr"):
        fit(make(recipe.replace(lr=1e30), tmp_path), Run(tmp_path / "run"))


@pytest.mark.parametrize("name", ["paper", "modern", "short"])
@pytest.mark.parametrize("regularizer", ["none", "rp-comhe", "ap-comhe", "so"])
def test_named_recipes_build(name, regularizer, folder, tmp_path):
    recipe = get_recipe(name, "cnn9", "glyphs", regularizer)
    assert recipe == type(recipe).from_json(recipe.to_json())
    task = ImageTask(recipe)
    assert task.regularizer(task.model())().isfinite()


def test_files_of_all_sizes_and_kinds_from_end_to_end(tmp_path, monkeypatch, capsys):
    """The ImageNet path: generated JPEGs of mixed sizes and modes, training and torchvision's evaluation."""
    draw = np.random.default_rng(1)
    for part, count in (("train", 4), ("val", 2)):
        for label, mode in enumerate(("RGB", "L")):
            place = tmp_path / "tree" / part / f"n0{label}"
            place.mkdir(parents=True)
            for i in range(count):
                size = (120 + 40 * i, 200 - 30 * i)
                pixels = draw.integers(0, 256, (size[1], size[0], 3)).astype(np.uint8)
                Image.fromarray(pixels).convert("CMYK" if (label, i) == (0, 1) else mode).save(place / f"{i}.JPEG")
    monkeypatch.chdir(tmp_path)
    words = f"train images --model resnet18 --data folder:{tmp_path}/tree --recipe modern --epochs 1 --batch-size 3"
    assert main([*words.split(), "--data-root", str(tmp_path)]) == 0
    told = capsys.readouterr().out
    (result,) = (tmp_path / "runs").glob("modern/*/seed0")
    assert main(["evaluate", str(result), "--data-root", str(tmp_path)]) == 0
    again = capsys.readouterr().out
    accuracy = next(line for line in told.splitlines() if "validation-selected" in line).split("test ")[1]
    assert f"accuracy {accuracy}" in again


def test_a_model_of_another_domain(capsys):
    assert main(["train", "graphs", "--model", "cnn9"]) == 2
    assert "comhe train images" in capsys.readouterr().err
