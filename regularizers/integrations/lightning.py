"""A callback for Lightning's Trainer: ``Trainer(callbacks=[RegularizerCallback("rp-comhe", weight=1.0)])``."""

from typing import Any

from comhe.regularizers.registry import create_regularizer
from comhe.regularizers.regularizer import Regularizer

try:
    from lightning.pytorch.callbacks import Callback
except ImportError:
    try:
        from pytorch_lightning.callbacks import Callback  # type: ignore[assignment]
    except ImportError as error:
        raise ImportError("comhe.regularizers.integrations.lightning needs Lightning: pip install lightning") from error


class RegularizerCallback(Callback):
    """Adds a regularizer's gradient to the model's just before every optimizer step: once a step, however many batches
    are accumulated, and after gradients have been unscaled and reduced over ranks.

    The penalty is logged as ``penalty``; the regularizer's state travels in Lightning's checkpoints. Arguments:
    see :func:`create_regularizer`; the model is the LightningModule.
    """

    def __init__(self, name: str, **options: Any) -> None:
        self.name, self.options = name, options
        self.regularizer: Regularizer | None = None
        self._state: dict[str, Any] | None = None

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        if self.regularizer is None:
            self.regularizer = create_regularizer(self.name, pl_module, **self.options)
        if self._state is not None:
            self.regularizer.load_state_dict(self._state)
            self._state = None

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        assert self.regularizer is not None  # since on_fit_start
        penalty = self.regularizer()
        if penalty.requires_grad:
            penalty.backward()
        pl_module.log("penalty", penalty.detach())

    def state_dict(self) -> dict[str, Any]:
        return {} if self.regularizer is None else dict(self.regularizer.state_dict())

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._state = state_dict or None  # arrives before the regularizer exists
