"""A run that diverges: the layer and the step are named, and what is kept is of before."""

import pytest
import torch

from comhe.errors import DivergedError
from comhe.train.engine import loop
from comhe.train.engine.loop import fit
from comhe.train.graphs import GraphRecipe, GraphTask
from comhe.train.images import ImageRecipe, ImageTask
from comhe.train.runs.run import Run

AVERAGED = GraphRecipe(
    recipe="test", data="citations", epochs=6, regularizer="rp-comhe", regularizer_options={"dim": 8}, ema=0.9
)


class Poisoned(GraphTask):
    """Something goes wrong in step 4."""

    def __init__(self, recipe, what):
        super().__init__(recipe)
        self.what, self.step = what, 0

    def model(self):
        model = super().model()
        self.step = 0
        if self.what == "gradient":
            model.convs[0].lin.weight.register_hook(lambda slope: slope * self.factor(model))
        return model

    def factor(self, model, bad=float("nan")):
        return bad if self.step == 4 and model.training else 1.0

    def regularizer(self, model):
        regularizer = super().regularizer(model)
        if self.what == "penalty":
            values, bad = regularizer.penalty.values, float("inf")
            regularizer.penalty.values = lambda *arguments: [
                (value * self.factor(model, bad), state) for value, state in values(*arguments)
            ]
        return regularizer

    def optimizer(self, model):
        optimizer = super().optimizer(model)
        if self.what == "update":

            def spoil(*_):
                if self.step == 4:
                    model.convs[1].bias.data[0] = float("inf")

            optimizer.register_step_post_hook(spoil)
        return optimizer

    def inputs(self, epoch, first=0):
        self.step = epoch + 1
        return super().inputs(epoch, first)

    def loss(self, model, batch):
        loss, logits = super().loss(model, batch)
        return loss * (self.factor(model) if self.what == "loss" else 1.0), logits


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """A run in which nothing is wrong."""
    run = Run(tmp_path_factory.mktemp("sound"))
    fit(GraphTask(AVERAGED), run)
    return run


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("gradient", r"epoch 4 step 1 of 1: the gradient of convs\.0\.lin\.weight is the first with NaN values"),
        ("penalty", r"epoch 4 step 1 of 1: the penalty of convs\.0\.lin is the first with infinite values \(1\)"),
        ("update", r"epoch 4 step 1 of 1: convs\.1\.bias after the update is the first with infinite values \(1\)"),
        ("loss", r"epoch 4 step 1 of 1: the loss is the first with NaN values \(1\)"),
    ],
)
@pytest.mark.parametrize("every", [0.0, 1e9])
def test_the_first_value_that_is_not_finite_is_named(tmp_path, sound, monkeypatch, what, message, every):
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", every)
    run = Run(tmp_path)
    with pytest.raises(DivergedError, match=message) as caught:
        fit(Poisoned(AVERAGED, what), run)
    (line,) = str(caught.value).splitlines()
    assert "lower lr 0.01" in line
    assert (tmp_path / "failure.txt").read_text() == f"{line}\n"
    state = run.load_checkpoint()
    assert (state is None) == (every > 0)
    if state is not None:  # of before the step, or before its update
        assert all(tensor.isfinite().all() for tensor in state["model"].values())
        assert (len(state["log"]["epochs"]), state["done"]) == (2, 1)
    # Whoever mends the cause goes on from there, to the bits of a run in which nothing was wrong.
    fit(GraphTask(AVERAGED), run)
    assert not (tmp_path / "failure.txt").exists()
    assert all(tensor.equal(sound.weights("last")[name]) for name, tensor in run.weights("last").items())


def test_the_last_update_counts(tmp_path, recipe):
    with pytest.raises(DivergedError, match=r"epoch 4 step 1 of 1: convs\.1\.bias after the update"):
        fit(Poisoned(recipe.replace(epochs=4), "update"), Run(tmp_path))
    assert not Run(tmp_path).done


def test_a_rate_that_nothing_survives(folder, tmp_path, recipe):
    images = ImageRecipe(model="resnet8", data=f"folder:{folder}", epochs=2, batch_size=6, lr=1e25, regularizer="mhe")
    with pytest.raises(DivergedError, match=r"step 2 of 4: what conv2d computes from layer1\.0\.conv1\.weight is"):
        fit(ImageTask(images, str(tmp_path)), Run(tmp_path / "images"))
    # Its layers hold parameters and are never called.
    with pytest.raises(DivergedError, match=r"epoch 2 step 1 of 1: what \w+ computes from convs\.1\.lin\.weight is"):
        fit(GraphTask(recipe.replace(lr=1e25, regularizer="none", regularizer_options={})), Run(tmp_path / "graphs"))


def test_what_does_not_happen_again_is_said(tmp_path, recipe):
    class Once(GraphTask):
        broken = False

        def loss(self, model, batch):
            loss, logits = super().loss(model, batch)
            bad, self.broken = not self.broken, True
            return loss * (float("nan") if bad else 1.0), logits

    with pytest.raises(DivergedError, match=r"loss nan, penalty .* in epoch 1; when it was run again .* finite"):
        fit(Once(recipe), Run(tmp_path))
    assert torch.is_grad_enabled()
