"""A callback for Lightning's Trainer: ``Trainer(callbacks=[RegularizerCallback("rp-comhe", weight=1.0)])``."""

from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.optim import Optimizer

from .blueprint import AnyRegularizer, Blueprint

try:
    from lightning.pytorch.callbacks import Callback
except ImportError:
    try:
        from pytorch_lightning.callbacks import Callback  # type: ignore[assignment]
    except ImportError as error:
        raise ImportError("comhe.regularizers.integrations.lightning needs Lightning: pip install lightning") from error


class RegularizerCallback(Callback):
    """Adds a regularizer's gradient to the model's once an optimizer step, however many batches are accumulated: after
    gradients have been unscaled and reduced over ranks, and before they are clipped.

    Each of several optimizers adds the gradient for its own layers. They share a step of the regularizer until one of
    them steps again. A callback that is used for another model, as in cross-validation, starts anew with it.

    The penalty is logged as ``penalty``, or ``penalty/<name>`` if the Trainer has several of these callbacks. The
    regularizer's state travels in Lightning's checkpoints.

    Args:
        source: a regularizer's name, with the options of :func:`create_regularizer`; or a function of the
            LightningModule that returns a regularizer, such as one of :func:`combine`.
    """

    def __init__(self, source: str | Callable[[Any], AnyRegularizer], **options: Any) -> None:
        self.blueprint = Blueprint(source, options)
        self.regularizer: AnyRegularizer | None = None
        self._module: Any = None
        self._state: dict[str, Any] | None = None
        self._served: set[str] = set()  # the layers that have counted in the regularizer's present step
        self._penalty: Any = 0.0

    @property
    def state_key(self) -> str:
        return self.blueprint.key

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        if self.regularizer is None or self._module is not pl_module:
            self.regularizer, self._module = self.blueprint.build(pl_module), pl_module
            self._served, self._penalty = set(), 0.0
        self.regularizer.draw()  # warns if nothing is left to be regularized
        if self._state is not None:
            self.regularizer.load_state_dict(self._state)
            self._state = None

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Optimizer) -> None:
        assert self.regularizer is not None  # since on_fit_start
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        owned = set(map(id, parameters))
        layers = {x for x in self.regularizer.layers if any(id(p) in owned for p in x.module.parameters())}
        if not layers:
            return
        names = {layer.name for layer in layers}
        if not self._served or names & self._served:
            self._served, self._penalty = set(), 0.0
        else:
            self.regularizer.step -= 1  # the step that another optimizer has begun
        self._served |= names
        draws: Any = self.regularizer.draw(layers)
        penalty = self.regularizer.total(draws)
        self.regularizer.step += 1
        if penalty.requires_grad:
            (_scale(trainer, optimizer) * penalty).backward(inputs=[p for p in parameters if p.requires_grad])
        self._penalty = self._penalty + penalty.detach()
        pl_module.log(self._log_name(trainer), self._penalty)

    def state_dict(self) -> dict[str, Any]:
        return {} if self.regularizer is None else dict(self.regularizer.state_dict())

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._state = state_dict or None  # arrives before the regularizer exists

    def _log_name(self, trainer: Any) -> str:
        names = [c.blueprint.name for c in trainer.callbacks if isinstance(c, RegularizerCallback)]
        if len(names) == 1:
            return "penalty"
        alike = names.count(self.blueprint.name) > 1
        return f"penalty/{self.blueprint.key if alike else self.blueprint.name}"


def _scale(trainer: Any, optimizer: Optimizer) -> float | Tensor:
    """What gradients are still multiplied by: only fused optimizers unscale them within their step."""
    scaler = getattr(trainer.precision_plugin, "scaler", None)
    if scaler is None or not getattr(optimizer, "_step_supports_amp_scaling", False):
        return 1.0
    return scaler.get_scale()
