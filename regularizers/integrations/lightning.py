"""A callback for Lightning's Trainer: ``Trainer(callbacks=[RegularizerCallback("rp-comhe", weight=1.0)])``."""

from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.optim import Optimizer

from comhe.regularizers.regularizer import Regularizer

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

    An optimizer that evaluates its closure several times, as LBFGS does, has the same penalty in each evaluation of one
    step. Lightning's closure returns the loss without it: a line search does not see the penalty.

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
        self._iterations: dict[int, tuple[int, Any, Any, Any]] = {}  # of each optimizer, what its step began with
        self._penalty: Any = 0.0

    @property
    def state_key(self) -> str:
        return self.blueprint.full_key

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        self.blueprint.check_alone(other.blueprint for other in _alike(trainer))
        if self.regularizer is None or self._module is not pl_module:
            self.regularizer, self._module = self.blueprint.build(pl_module), pl_module
            self._served, self._penalty = set(), 0.0
        self._iterations = {}
        self.regularizer.draw()  # warns if nothing is left to be regularized
        if self._state is not None:
            self.regularizer.load_state_dict(self._state)
            self._state = None

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Optimizer) -> None:
        assert self.regularizer is not None  # since on_fit_start
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        begun = self._iterations.get(id(optimizer))
        if begun is not None and begun[0] == trainer.global_step:  # one more closure of the same step
            _, draws, states, before = begun
            for part, kept in states:
                part._buffers.update(kept)
        else:
            draws = self._begin(parameters)
            if draws is None:
                return
            states, before = _states(self.regularizer), self._penalty
            self._iterations[id(optimizer)] = trainer.global_step, draws, states, before
        penalty = self.regularizer.total(draws)
        if penalty.requires_grad:
            (_scale(trainer, optimizer) * penalty).backward(inputs=[p for p in parameters if p.requires_grad])
        self._penalty = before + penalty.detach()
        pl_module.log(self._log_name(trainer), self._penalty)

    def _begin(self, parameters: list[Any]) -> Any:
        """The draws of a step for the layers of an optimizer; None if it has none of them."""
        assert self.regularizer is not None
        owned = set(map(id, parameters))
        layers = {x for x in self.regularizer.layers if any(id(p) in owned for p in x.module.parameters())}
        if not layers:
            return None
        names = {layer.name for layer in layers}
        if not self._served or names & self._served:
            self._served, self._penalty = set(), 0.0
        else:
            self.regularizer.step -= 1  # the step that another optimizer has begun
        self._served |= names
        draws = self.regularizer.draw(layers)
        self.regularizer.step += 1
        return draws

    def state_dict(self) -> dict[str, Any]:
        return {} if self.regularizer is None else dict(self.regularizer.state_dict())

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._state = state_dict or None  # arrives before the regularizer exists

    def on_load_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        states = checkpoint.get("callbacks", {})
        key = self.blueprint.find(key for key in states if isinstance(key, str))
        if key is not None:
            self.load_state_dict(states[key])  # else saved with other weights, so that Lightning would not find it

    def _log_name(self, trainer: Any) -> str:
        others = [c.blueprint for c in _alike(trainer) if c is not self]
        if not others:
            return "penalty"
        for name in ("name", "key"):
            if getattr(self.blueprint, name) not in [getattr(other, name) for other in others]:
                return f"penalty/{getattr(self.blueprint, name)}"
        return f"penalty/{self.blueprint.full_key}"


def _alike(trainer: Any) -> list[RegularizerCallback]:
    return [callback for callback in trainer.callbacks if isinstance(callback, RegularizerCallback)]


def _states(regularizer: AnyRegularizer) -> list[tuple[Regularizer, dict[str, Any]]]:
    """What each regularizer has learned before a step."""
    return [(part, dict(part._buffers)) for part in regularizer.modules() if isinstance(part, Regularizer)]


def _scale(trainer: Any, optimizer: Optimizer) -> float | Tensor:
    """What gradients are still multiplied by: only fused optimizers unscale them within their step."""
    scaler = getattr(trainer.precision_plugin, "scaler", None)
    if scaler is None or not getattr(optimizer, "_step_supports_amp_scaling", False):
        return 1.0
    return scaler.get_scale()
