"""The callbacks against a training loop written out, and inside torch's own transformations."""

import pickle

import pytest
import torch
from torch import nn

from comhe.regularizers import create_regularizer, hyperspherical_energy, list_regularizers

DATA = [(torch.randn(4, 50, generator=torch.Generator().manual_seed(i)), torch.arange(4) % 3) for i in range(6)]
OPTIONS = {"weight": 2.0, "output_weight": 3.0, "dim": 8}


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(50, 12), nn.Tanh(), nn.Linear(12, 3))


def written_out(accumulate, epochs=2):
    """SGD with the penalty in the loss, once per step."""
    model = network()
    regularizer = create_regularizer("rp-comhe", model, **OPTIONS)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(epochs):
        for first in range(0, len(DATA), accumulate):
            batches = DATA[first : first + accumulate]
            loss = sum(nn.functional.cross_entropy(model(x), y) for x, y in batches) / accumulate
            optimizer.zero_grad()
            (loss + regularizer()).backward()
            optimizer.step()
    return model


def same(model, other):
    for a, b in zip(model.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_lightning_trainer(tmp_path, accumulate):
    lightning = pytest.importorskip("lightning.pytorch")
    from comhe.regularizers.integrations.lightning import RegularizerCallback

    class Module(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.network = network()

        def training_step(self, batch, index):
            return nn.functional.cross_entropy(self.network(batch[0]), batch[1])

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.1)

    def trainer(epochs):
        return lightning.Trainer(
            max_epochs=epochs,
            accumulate_grad_batches=accumulate,
            callbacks=[RegularizerCallback("rp-comhe", **OPTIONS)],
            default_root_dir=tmp_path,
            accelerator="cpu",
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            enable_checkpointing=False,
        )

    module, first = Module(), trainer(1)
    loader = torch.utils.data.DataLoader(DATA, batch_size=None)
    first.fit(module, loader)
    first.save_checkpoint(tmp_path / "half.ckpt")
    resumed = Module()
    trainer(2).fit(resumed, loader, ckpt_path=tmp_path / "half.ckpt", weights_only=False)
    same(resumed.network, written_out(accumulate))


@pytest.mark.parametrize("accumulate", [1, 2])
def test_hugging_face_trainer(tmp_path, monkeypatch, accumulate):
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("accelerate")
    # In a checkout, its folder of the same name is taken for Hugging Face's datasets.
    monkeypatch.setattr("transformers.trainer.is_datasets_available", lambda: False)
    from comhe.regularizers.integrations.transformers import RegularizerCallback

    class Module(nn.Module):
        def __init__(self):
            super().__init__()
            self.network = network()

        def forward(self, x, labels):
            return {"loss": nn.functional.cross_entropy(self.network(x), labels)}

    def trainer(module, epochs):
        arguments = transformers.TrainingArguments(
            output_dir=str(tmp_path),
            num_train_epochs=epochs,
            per_device_train_batch_size=1,
            gradient_accumulation_steps=accumulate,
            learning_rate=0.1,
            lr_scheduler_type="constant",
            optim="sgd",
            max_grad_norm=0.0,
            save_strategy="epoch",
            logging_steps=1,
            report_to=[],
            use_cpu=True,
            disable_tqdm=True,
            train_sampling_strategy="sequential",
        )
        return transformers.Trainer(
            module,
            arguments,
            train_dataset=DATA,
            data_collator=lambda batch: {"x": batch[0][0], "labels": batch[0][1]},
            callbacks=[RegularizerCallback("rp-comhe", **OPTIONS)],
        )

    trainer(Module(), 1).train()
    resumed = Module()
    done = trainer(resumed, 2)
    done.train(resume_from_checkpoint=True)
    same(resumed.network, written_out(accumulate))
    assert any("penalty" in entry for entry in done.state.log_history)


def test_energy_compiles_as_one_graph():
    w = torch.randn(8, 12, requires_grad=True)
    compiled = torch.compile(lambda w: hyperspherical_energy(w, 2, True), backend="aot_eager", fullgraph=True)
    expected = hyperspherical_energy(w, 2, True)
    torch.testing.assert_close(compiled(w), expected)
    (grad,) = torch.autograd.grad(compiled(w), w)
    torch.testing.assert_close(grad, torch.autograd.grad(expected, w)[0])


def test_a_compiled_step_is_the_eager_one():
    model, x = network(), DATA[0][0]
    regularizers = [create_regularizer("rp-comhe", model, dim=8) for _ in range(2)]
    compiled = torch.compile(lambda x: model(x).square().mean() + regularizers[0](), backend="aot_eager")
    values = [(compiled(x).item(), (model(x).square().mean() + regularizers[1]()).item()) for _ in range(3)]
    assert values[0][0] != values[1][0]  # the draw advances inside the compiled step
    for compiled_value, eager in values:
        assert compiled_value == pytest.approx(eager, rel=1e-5)


@pytest.mark.parametrize("name", list_regularizers())
def test_substituted_parameters_pickling_and_meta(name):
    model = network()
    regularizer, other = (create_regularizer(name, model) for _ in range(2))
    moved = {key: value.detach() + 0.3 for key, value in model.named_parameters()}
    value = regularizer(moved)
    grads = torch.func.grad(lambda p: other(p))(moved)
    before = create_regularizer(name, model)()
    model.load_state_dict(moved)
    again = create_regularizer(name, model)()
    assert value.item() == pytest.approx(again.item(), rel=1e-5)
    if name != "none":
        assert value.item() != pytest.approx(before.item(), rel=1e-6)
        (grad,) = torch.autograd.grad(again, model[0].weight)
        torch.testing.assert_close(grads["0.weight"], grad, rtol=1e-3, atol=1e-3 * float(grad.abs().max()))

    copied = pickle.loads(pickle.dumps(regularizer))
    assert copied().item() == pytest.approx(regularizer().item(), rel=1e-6)

    with torch.device("meta"):
        empty = nn.Sequential(nn.Linear(50, 12), nn.Linear(12, 3))
    attached = create_regularizer(name, empty)
    attached()
    empty.to_empty(device="cpu").load_state_dict({key.replace("2.", "1."): value for key, value in moved.items()})
    fresh = create_regularizer(name, empty)
    fresh.step = attached.step
    assert attached().item() == pytest.approx(fresh().item(), rel=1e-5)


def test_sampling_estimates_the_mean(normal):
    model = nn.Sequential(nn.Linear(9, 40), nn.Linear(40, 2)).double()
    whole = hyperspherical_energy(model[0].weight).item()
    regularizer = create_regularizer("mhe", model, sample=15, output_weight=0.0)
    values = torch.tensor([regularizer().item() for _ in range(400)])
    assert abs(values.mean() - whole) < 4 * values.std() / 20
    assert values.unique().numel() > 390
    with pytest.raises(ValueError, match="sample"):
        create_regularizer("mhe", model, sample=1)
