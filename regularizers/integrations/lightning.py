"""A callback for Lightning's Trainer: ``Trainer(callbacks=[RegularizerCallback("rp-comhe", weight=1.0)])``."""

from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.optim import Optimizer

from comhe.errors import needs, warn
from comhe.regularizers.regularizer import Regularizer
from comhe.regularizers.selection import Layer
from comhe.regularizers.structure import RegularizerWarning

from .blueprint import AnyRegularizer, Blueprint
from .ownership import Key, Ownership

with needs("lightning", __name__):
    try:
        from lightning.pytorch.callbacks import Callback
    except ModuleNotFoundError as error:
        try:
            from pytorch_lightning.callbacks import Callback  # type: ignore[assignment]
        except ModuleNotFoundError:
            raise error from None


class RegularizerCallback(Callback):
    """Adds a regularizer's gradient to the model's once an optimizer step, however many batches are accumulated: after
    gradients have been unscaled and reduced over ranks, and before they are clipped.

    An optimizer that evaluates its closure several times, as LBFGS does, has the same penalty in each evaluation of one
    step. Lightning's closure returns the loss without it: a line search does not see the penalty.

    Each of several optimizers adds the gradient for its own parameters. They share a step of the regularizer until one
    of these is due again. An optimizer that steps without Lightning, as those of ``optimizers(use_pl_optimizer=False)``
    do, has no penalty, and a warning says so. A callback that is used for another model, as in cross-validation, starts
    anew with it.

    The penalty is logged as ``penalty``, or ``penalty/<name>`` if the Trainer has several of these callbacks, with the
    options of those that have one name. The regularizer's state travels in Lightning's checkpoints. A run that is
    resumed from one without it starts at the regularizer's step 0, with a warning.

    Args:
        source: a regularizer's name, with the options of :func:`create_regularizer`; or a function of the
            LightningModule that returns a regularizer, such as one of :func:`combine`.
    """

    def __init__(self, source: str | Callable[[Any], AnyRegularizer], **options: Any) -> None:
        self.blueprint = Blueprint(source, options)
        self.regularizer: AnyRegularizer | None = None
        self._module: Any = None
        self._state: dict[str, Any] | None = None
        self._ownership = Ownership()
        self._served: set[Key] = set()  # the parameters that have had their gradient in the regularizer's present step
        self._counted: set[Layer] = set()  # the layers of these
        self._states: list[Any] = []  # what had been learned before that step
        self._iterations: dict[int, tuple[int, Any, Any, Any]] = {}  # of each optimizer, what its step began with
        self._penalty: Any = 0.0
        self._called = self._batches = self._warned = False  # since an optimizer stepped; since the fit started
        self._handles: list[Any] = []

    @property
    def state_key(self) -> str:
        return self.blueprint.full_key

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        self.blueprint.check_alone(other.blueprint for other in _alike(trainer))
        if self.regularizer is None or self._module is not pl_module:
            self.regularizer, self._module, self._penalty = self.blueprint.build(pl_module), pl_module, 0.0
        self._served, self._counted, self._iterations = set(), set(), {}
        self._called = self._batches = self._warned = self._is_skipped = False
        self.regularizer.draw()  # warns if nothing is left to be regularized
        self._restore()

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        self._restore()  # what a callback that tries out learning rates has put back
        hooked = [x for x in trainer.optimizers if hasattr(x, "register_step_post_hook")]
        self._handles = [optimizer.register_step_post_hook(self._stepped) for optimizer in hooked]

    def on_train_batch_start(self, *args: Any, **kwargs: Any) -> None:
        self._is_skipped = True  # until there is a loss

    def on_before_backward(self, *args: Any, **kwargs: Any) -> None:
        self._is_skipped = False

    def on_train_batch_end(self, *args: Any, **kwargs: Any) -> None:
        self._batches = True

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        if self._batches and not self._served and self.regularizer is not None and self.regularizer.layers:
            self._warn_unserved("no optimizer has stepped through Lightning")

    def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles, self._state = [], None  # what a test has loaded is not for the next fit

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Optimizer) -> None:
        assert self.regularizer is not None  # since on_fit_start
        self._called = True
        parameters = _parameters(optimizer)
        if self._is_skipped and pl_module.automatic_optimization and all(p.grad is None for p in parameters):
            return
        begun = self._iterations.get(id(optimizer))
        if begun is not None and begun[0] == trainer.global_step:  # one more closure of the same step
            _, draws, states, self._penalty = begun
            for part, kept in states:
                part._buffers.update(kept)
        else:
            draws = self._begin(parameters)
            if not draws:
                return
            states = _states(self.regularizer)
            self._iterations[id(optimizer)] = trainer.global_step, draws, states, self._penalty
        for each, counted in draws:
            penalty = self.regularizer.total(each)
            if penalty.requires_grad:
                (_scale(trainer, optimizer) * penalty).backward(inputs=parameters)
            if counted:
                self._penalty = self._penalty + penalty.detach()
        others = (each.blueprint for each in _alike(trainer) if each is not self)
        pl_module.log(self.blueprint.log_name(others), self._penalty)

    def _begin(self, parameters: list[Tensor]) -> list[tuple[Any, bool]]:
        """The draws of a step for the layers of an optimizer, and whether these have not counted in it yet.

        They have if another optimizer has a part of the same weight, such as the length and the direction of weight
        norm: both parts have the gradient of the same step, in which the layer learns once.
        """
        assert self.regularizer is not None
        own = self._ownership.of(self.regularizer, parameters)
        if not own:
            return []
        due = set[Key]().union(*own.values())
        if not self._served or due & self._served:
            self._served, self._counted, self._penalty = set(), set(), 0.0
            self._states = _states(self.regularizer)
        else:
            self.regularizer.step -= 1  # the step that another optimizer has begun
        again, new = own.keys() & self._counted, own.keys() - self._counted
        for part, kept in self._states if again else ():
            names = {part.state_name(layer) for layer in part.layers if layer in again}
            part._buffers.update({name: state for name, state in kept.items() if name in names})
        self._served, self._counted = self._served | due, self._counted | new
        draws = [(self.regularizer.draw(layers), counts) for layers, counts in ((new, True), (again, False)) if layers]
        self.regularizer.step += 1
        return draws

    def _stepped(self, optimizer: Optimizer, *args: Any) -> None:
        """After each step of an optimizer, whoever has called it."""
        called, self._called = self._called, False
        if called or self._warned or self.regularizer is None:
            return
        if self._ownership.of(self.regularizer, _parameters(optimizer)):
            self._warn_unserved(f"{type(optimizer).__name__} has stepped without Lightning")

    def _warn_unserved(self, reason: str) -> None:
        if not self._warned:
            self._warned = True
            hint = "step the optimizers that self.optimizers() returns, or add the regularizer to the loss yourself"
            warn(f"{self.blueprint.key}: the penalty has not been added, since {reason}; {hint}", RegularizerWarning)

    def _restore(self) -> None:
        if self.regularizer is not None and self._state is not None:
            self.regularizer.load_state_dict(self._state)
            self._state = None

    def state_dict(self) -> dict[str, Any]:
        if self._state is not None:
            return self._state
        return {} if self.regularizer is None else dict(self.regularizer.state_dict())

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._state = state_dict or None  # arrives before the regularizer exists

    def on_load_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        states = checkpoint.get("callbacks", {})
        key = self.blueprint.find(key for key in states if isinstance(key, str))
        if key is not None:
            self.load_state_dict(states[key])  # if saved with other weights, Lightning does not find it
        elif checkpoint.get("global_step", 0) > 0 and trainer.state.fn == "fit":
            others = ", ".join(key for key in states if isinstance(key, str)) or "of no callback"
            warn(
                f"the checkpoint has no state of {self.blueprint.key}, which starts at step 0: the run to be resumed "
                f"did not use this callback, or with other options. Its states: {others}",
                RegularizerWarning,
            )


def _alike(trainer: Any) -> list[RegularizerCallback]:
    return [callback for callback in trainer.callbacks if isinstance(callback, RegularizerCallback)]


def _parameters(optimizer: Optimizer) -> list[Tensor]:
    return [p for group in optimizer.param_groups for p in group["params"] if p.requires_grad]


def _states(regularizer: AnyRegularizer) -> list[tuple[Regularizer, dict[str, Any]]]:
    """What each regularizer has learned before a step."""
    return [(part, dict(part._buffers)) for part in regularizer.modules() if isinstance(part, Regularizer)]


def _scale(trainer: Any, optimizer: Optimizer) -> float | Tensor:
    """What gradients are still multiplied by: only fused optimizers unscale them within their step."""
    scaler = getattr(trainer.precision_plugin, "scaler", None)
    if scaler is None or not getattr(optimizer, "_step_supports_amp_scaling", False):
        return 1.0
    return scaler.get_scale()
