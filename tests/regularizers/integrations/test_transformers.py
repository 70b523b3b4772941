import pytest
from torch import nn

from comhe.errors import RunError


@pytest.mark.parametrize("accumulate", [1, 2])
def test_hugging_face_trainer(loop, tmp_path, monkeypatch, accumulate):
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("accelerate")
    # In a checkout, its folder of the same name is taken for Hugging Face's datasets.
    monkeypatch.setattr("transformers.trainer.is_datasets_available", lambda: False)
    from comhe.regularizers.integrations.transformers import RegularizerCallback

    class Module(nn.Module):
        def __init__(self):
            super().__init__()
            self.network = loop.network()

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
            train_dataset=loop.data,
            data_collator=lambda batch: {"x": batch[0][0], "labels": batch[0][1]},
            callbacks=[RegularizerCallback("rp-comhe", **loop.options)],
        )

    trainer(Module(), 1).train()
    resumed = Module()
    done = trainer(resumed, 2)
    done.train(resume_from_checkpoint=True)
    loop.same(resumed.network, loop.written_out(accumulate))
    assert any("penalty" in entry for entry in done.state.log_history)


def test_a_run_without_the_callback_cannot_be_resumed_with_it(loop, tmp_path):
    pytest.importorskip("transformers")
    from types import SimpleNamespace

    from comhe.regularizers.integrations.transformers import RegularizerCallback

    callback = RegularizerCallback("rp-comhe", **loop.options)
    arguments, state = SimpleNamespace(output_dir=str(tmp_path)), SimpleNamespace(global_step=3)
    with pytest.raises(RunError, match=r"regularizer\.pt is missing"):
        callback.on_train_begin(arguments, state, None, model=loop.network())


def test_the_former_name_still_works():
    pytest.importorskip("transformers")
    from comhe.regularizers.integrations.transformers import RegularizerCallback

    with pytest.warns(DeprecationWarning, match=r"comhe\.regularizers\.integrations\.transformers"):
        from comhe.regularizers.transformers import RegularizerCallback as Former
    assert Former is RegularizerCallback
