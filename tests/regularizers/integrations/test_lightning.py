import pytest
import torch
from torch import nn


@pytest.mark.parametrize("accumulate", [1, 2])
def test_lightning_trainer(loop, tmp_path, accumulate):
    lightning = pytest.importorskip("lightning.pytorch")
    from comhe.regularizers.integrations.lightning import RegularizerCallback

    class Module(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.network = loop.network()

        def training_step(self, batch, index):
            return nn.functional.cross_entropy(self.network(batch[0]), batch[1])

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.1)

    def trainer(epochs):
        return lightning.Trainer(
            max_epochs=epochs,
            accumulate_grad_batches=accumulate,
            callbacks=[RegularizerCallback("rp-comhe", **loop.options)],
            default_root_dir=tmp_path,
            accelerator="cpu",
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            enable_checkpointing=False,
        )

    module, first = Module(), trainer(1)
    loader = torch.utils.data.DataLoader(loop.data, batch_size=None)
    first.fit(module, loader)
    first.save_checkpoint(tmp_path / "half.ckpt")
    resumed = Module()
    trainer(2).fit(resumed, loader, ckpt_path=tmp_path / "half.ckpt", weights_only=False)
    loop.same(resumed.network, loop.written_out(accumulate))


def test_the_former_name_still_works():
    pytest.importorskip("lightning.pytorch")
    from comhe.regularizers.integrations.lightning import RegularizerCallback

    with pytest.warns(DeprecationWarning, match=r"comhe\.regularizers\.integrations\.lightning"):
        from comhe.regularizers.lightning import RegularizerCallback as Former
    assert Former is RegularizerCallback
