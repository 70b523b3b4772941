"""Training on images: the loop against one written out by hand, and what the task adds to it."""

import copy

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from comhe.errors import DivergedError
from comhe.regularizers import create_regularizer
from comhe.regularizers.penalties.energy_penalty import EnergyPenalty
from comhe.regularizers.registry import _REGISTRY
from comhe.train.cli.main import main
from comhe.train.engine import loop
from comhe.train.engine.batch_task import make_optimizer
from comhe.train.engine.loop import fit
from comhe.train.images import ImageRecipe, ImageTask, released_loss
from comhe.train.recipe import get_recipe, list_recipes
from comhe.train.runs.run import Run
from comhe.zoo import create_model
from comhe.zoo.images.airbench import Whitening


@pytest.fixture
def recipe(folder, tmp_path):
    return ImageRecipe(recipe="test", model="resnet8", data=f"folder:{folder}", epochs=2, batch_size=9, lr=0.02)


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
            for half in halves:
                with torch.autocast("cpu", torch.bfloat16, enabled=recipe.precision == "bf16"):
                    logits = model(x[half]).float()
                if recipe.loss == "released":
                    loss = released_loss(logits, y[half], recipe.label_smoothing)
                else:
                    loss = F.cross_entropy(logits, y[half], label_smoothing=recipe.label_smoothing)
                (loss * len(y[half]) / 9).backward()
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
    uninterrupted, cut = Run(tmp_path / "uninterrupted"), Run(tmp_path / "cut")
    fit(make(recipe, tmp_path), uninterrupted)

    def stop(row, epochs):
        if row["epoch"] == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(make(recipe, tmp_path), cut, stop)
    assert not cut.done
    assert (cut.folder / "metrics.csv").exists()  # what there is can be looked at
    fit(make(recipe, tmp_path), cut)
    for table in ("metrics.csv", "energies.csv", "steps.csv"):
        assert (uninterrupted.folder / table).read_text() == (cut.folder / table).read_text()
    for which in ("last", "best"):
        first, second = uninterrupted.weights(which), cut.weights(which)
        assert all(tensor.equal(second[name]) for name, tensor in first.items())


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


def test_a_run_that_explodes_says_so(recipe, tmp_path):
    with pytest.raises(DivergedError, match="lower lr"):
        fit(make(recipe.replace(lr=1e30), tmp_path), Run(tmp_path / "run"))


@pytest.mark.parametrize("name", list_recipes("images"))
@pytest.mark.parametrize("regularizer", ["none", "rp-comhe", "ap-comhe", "so"])
def test_named_recipes_build(name, regularizer, folder, tmp_path):
    recipe = get_recipe(name, "cnn9", "glyphs", regularizer)
    assert recipe == type(recipe).from_json(recipe.to_json())
    task = ImageTask(recipe)
    assert task.regularizer(task.model())().isfinite()


def test_the_papers_recipe_takes_an_energy_without_its_constant(monkeypatch):
    class Fixed(EnergyPenalty):
        """An energy of one's own that has no option ``eps``."""

        def __init__(self):
            super().__init__(s=1.0)

        def value(self, w, layer, state, draws):
            return w.square().sum((-2, -1))

    monkeypatch.setitem(_REGISTRY, "fixed", Fixed)
    assert get_recipe("paper", "cnn6", "glyphs", "fixed").regularizer_options == {}
    assert get_recipe("paper", "cnn6", "glyphs", "hs-mhe").regularizer_options == {"eps": 1e-4}


def test_training_fits_the_whitening_to_normalized_images(tmp_path, folder):
    recipe = get_recipe("airbench", "airbench94", f"folder:{folder}", "rp-comhe", epochs=1, precision="fp32")
    task = make(recipe, tmp_path)
    expected = Whitening(3)
    expected.fit(next(task.batches("train", 5000))[0])
    fit(task, Run(tmp_path))
    model = create_model("airbench94", num_classes=3, weights=str(tmp_path / "best.safetensors"))
    assert torch.equal(model.whitening.weight, expected.weight)


def test_files_of_all_sizes_and_kinds_from_end_to_end(tmp_path, monkeypatch, capsys):
    """The ImageNet path: generated JPEGs of mixed sizes and modes, training and torchvision's evaluation."""
    draw = np.random.default_rng(1)
    for split, count in (("train", 4), ("val", 2)):
        for label, mode in enumerate(("RGB", "L")):
            class_folder = tmp_path / "tree" / split / f"n0{label}"
            class_folder.mkdir(parents=True)
            for i in range(count):
                size = (120 + 40 * i, 200 - 30 * i)
                pixels = draw.integers(0, 256, (size[1], size[0], 3)).astype(np.uint8)
                Image.fromarray(pixels).convert("CMYK" if (label, i) == (0, 1) else mode).save(
                    class_folder / f"{i}.JPEG"
                )
    monkeypatch.chdir(tmp_path)
    argv = f"train images --model resnet8 --data folder:{tmp_path}/tree --recipe modern --epochs 1 --batch-size 3"
    assert main([*argv.split(), "--data-root", str(tmp_path)]) == 0
    output = capsys.readouterr().out
    (result,) = (tmp_path / "runs").glob("modern/*/seed0")
    assert main(["evaluate", str(result), "--data-root", str(tmp_path)]) == 0
    again = capsys.readouterr().out
    accuracy = next(line for line in output.splitlines() if "validation-selected" in line).split("test ")[1]
    assert f"accuracy {accuracy}" in again


def test_a_model_of_another_domain(capsys):
    assert main(["train", "graphs", "--model", "cnn9"]) == 2
    assert "comhe train images" in capsys.readouterr().err
