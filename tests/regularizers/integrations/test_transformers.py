from types import SimpleNamespace

import pytest
import torch
from torch import nn

from comhe.errors import RunError, UsageError
from comhe.regularizers import combine, create_regularizer


@pytest.fixture
def trainer(loop, monkeypatch):
    """``trainer(folder, *callbacks, epochs=2)``, on a model with a fixed start."""
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("accelerate")
    # In a checkout, its folder of the same name is taken for Hugging Face's datasets.
    monkeypatch.setattr("transformers.trainer.is_datasets_available", lambda: False)

    class Module(nn.Module):
        def __init__(self):
            super().__init__()
            self.network = loop.network()

        def forward(self, x, labels):
            return {"loss": nn.functional.cross_entropy(self.network(x), labels)}

    def make(folder, *callbacks, epochs, accumulate=1, clip=0.0):
        arguments = transformers.TrainingArguments(
            output_dir=str(folder),
            num_train_epochs=epochs,
            per_device_train_batch_size=1,
            gradient_accumulation_steps=accumulate,
            learning_rate=0.1,
            lr_scheduler_type="constant",
            optim="sgd",
            max_grad_norm=clip,
            save_strategy="epoch",
            logging_steps=1,
            report_to=[],
            use_cpu=True,
            disable_tqdm=True,
            train_sampling_strategy="sequential",
        )
        return transformers.Trainer(
            Module(),
            arguments,
            train_dataset=loop.data,
            data_collator=lambda batch: {"x": batch[0][0], "labels": batch[0][1]},
            callbacks=list(callbacks),
        )

    return make


def callback(source="rp-comhe", **options):
    from comhe.regularizers.integrations.transformers import RegularizerCallback

    return RegularizerCallback(source, **options)


@pytest.mark.parametrize(("accumulate", "clip"), [(1, 0.0), (2, 0.0), (2, 0.05)])
def test_hugging_face_trainer(loop, trainer, tmp_path, accumulate, clip):
    options = {"accumulate": accumulate, "clip": clip}
    trainer(tmp_path, callback(**loop.options), epochs=1, **options).train()
    resumed = trainer(tmp_path, callback(**loop.options), epochs=2, **options)
    resumed.train(resume_from_checkpoint=True)
    loop.same(resumed.model.network, loop.written_out(accumulate, clip=clip))
    assert any("penalty" in entry for entry in resumed.state.log_history)


def test_two_regularizers_resume_from_a_folder_that_was_renamed(loop, trainer, tmp_path):
    def callbacks():
        return callback("ap-comhe", dim=8, include="*.0", output=None), callback("mhp", include="*.2", weight=0.1)

    whole = trainer(tmp_path / "whole", *callbacks(), epochs=2)
    whole.train()
    trainer(tmp_path / "half", *callbacks(), epochs=1).train()
    (tmp_path / "half" / f"checkpoint-{len(loop.data)}").rename(tmp_path / "kept")
    resumed = trainer(tmp_path / "other", *callbacks(), epochs=2)
    resumed.train(resume_from_checkpoint=str(tmp_path / "kept"))
    loop.same(resumed.model, whole.model)
    assert {key for entry in resumed.state.log_history for key in entry if "penalty" in key} == {
        "penalty/ap-comhe",
        "penalty/mhp",
    }


def test_callbacks_that_differ_in_their_weight_have_files_of_their_own(loop, trainer, tmp_path):
    def callbacks(*weights):
        return [callback("ap-comhe", dim=8, weight=weight) for weight in weights]

    both = callbacks(0.1, 0.2)
    trainer(tmp_path, *both, epochs=1).train()
    folder = tmp_path / f"checkpoint-{len(loop.data)}"
    assert {each.file for each in both} == {path.name for path in folder.glob("regularizer-*")}
    assert len({each.file for each in both}) == 2
    again = callbacks(0.2, 0.1)
    trainer(tmp_path, *again, epochs=2).train(resume_from_checkpoint=str(folder))
    assert {each.regularizer.step for each in again} == {2 * len(loop.data)}
    with pytest.raises(RunError, match="resume with the weights that were saved"):
        trainer(tmp_path, *callbacks(0.3), epochs=2).train(resume_from_checkpoint=str(folder))
    (folder / both[0].file).unlink()
    trainer(tmp_path / "other", *callbacks(0.3), epochs=2).train(resume_from_checkpoint=str(folder))
    with pytest.raises(UsageError, match="two callbacks are ap-comhe"):
        trainer(tmp_path / "twice", *callbacks(0.1, 0.1), epochs=1).train()


def test_a_function_makes_the_regularizer_of_the_model(loop, trainer, tmp_path):
    def both(model):
        first = create_regularizer("ocnn", model, include="*.0", output=None)
        return combine(first, create_regularizer("mhe", model, exclude="*.0"))

    one = callback(both)
    trainer(tmp_path, one, epochs=1).train()
    assert one.regularizer.step == len(loop.data)
    with pytest.raises(UsageError, match="options \\(weight\\) belong to a name"):
        callback(both, weight=1.0)


def test_the_gradient_is_scaled_as_that_of_the_batches():
    """With fp16 the gradients are unscaled before they are clipped, the penalty's with them."""
    pytest.importorskip("transformers")
    one, model = callback("mhe"), nn.Linear(4, 3)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    one.on_train_begin(None, SimpleNamespace(global_step=0), None, model=model)
    one.on_step_begin(None, None, None, optimizer=SimpleNamespace(scaler=scaler))
    scaled = model.weight.grad.clone()
    model.zero_grad()
    create_regularizer("mhe", model)().backward()
    torch.testing.assert_close(scaled, 1024 * model.weight.grad)


def test_a_run_without_the_callback_cannot_be_resumed_with_it(loop, tmp_path):
    pytest.importorskip("transformers")
    arguments, state = SimpleNamespace(output_dir=str(tmp_path)), SimpleNamespace(global_step=3)
    with pytest.raises(RunError, match=r"regularizer-rp-comhe-.*\.pt is missing.*train without resume_from_checkpoint"):
        callback(**loop.options).on_train_begin(arguments, state, None, model=loop.network())


def test_a_trial_of_a_search_is_saved_in_its_own_folder(tmp_path):
    pytest.importorskip("transformers")
    penalty = callback("mhe")
    penalty.regularizer = create_regularizer("mhe", nn.Linear(4, 3))
    arguments, state = SimpleNamespace(output_dir=str(tmp_path)), SimpleNamespace(global_step=2)
    state.is_world_process_zero = True

    class Search:
        def _get_output_dir(self, trial):
            return str(tmp_path / f"run-{trial}")

        def save(self, trial):
            penalty.on_save(arguments, state, None)

    with pytest.warns(UserWarning, match=r"run-7/checkpoint-2: no such folder, .* mhe\(\) has learned is not saved"):
        Search().save(7)
    (tmp_path / "run-7" / "checkpoint-2").mkdir(parents=True)
    Search().save(7)
    assert [path.name for path in (tmp_path / "run-7" / "checkpoint-2").iterdir()] == [penalty.file]


def test_the_former_name_still_works():
    pytest.importorskip("transformers")
    from comhe.regularizers.integrations.transformers import RegularizerCallback

    with pytest.warns(DeprecationWarning, match=r"comhe\.regularizers\.integrations\.transformers"):
        from comhe.regularizers.transformers import RegularizerCallback as Former
    assert Former is RegularizerCallback
