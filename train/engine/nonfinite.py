"""Where a run that diverged went wrong: its last steps are repeated, and every value is checked."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from comhe.errors import DivergedError

from .distributed import DistributedContext


class NonFiniteError(Exception):
    """A value that is not finite, found at one of the few points where the loop waits for its device anyway."""

    def __init__(self, message: str, epoch: int) -> None:
        super().__init__(message)
        self.epoch = epoch


def require_finite_means(epoch: int, loss: float, penalty: float) -> tuple[float, float]:
    """Return the means of an epoch's steps so far, or raise NonFiniteError if one is not finite."""
    if not math.isfinite(loss + penalty):
        raise NonFiniteError(f"loss {loss}, penalty {penalty} in epoch {epoch + 1}", epoch)
    return loss, penalty


def require_finite_parameters(model: nn.Module, epoch: int, context: DistributedContext) -> None:
    """Raise NonFiniteError if a parameter is not finite, on any rank."""
    names, parameters = zip(*model.named_parameters(), strict=True)
    flags = context.maximum(torch.stack([~p.detach().isfinite().all() for p in parameters]).int()).tolist()
    for name, is_wrong in zip(names, flags, strict=True):
        if is_wrong:
            raise NonFiniteError(f"{name} is not finite in epoch {epoch + 1}", epoch)


class NonFiniteTracer:
    """Raises DivergedError, with step and layer, at the first value of a step that is not finite.

    Operations between modules may return infinite values on purpose, as masks do; of those it checks what reads a
    parameter. On the CPU all is as in the run; on a GPU sums may differ, and it gives up after the run's last epoch.
    """

    def __init__(self, epoch: int) -> None:
        self.last_epoch = epoch
        self._epoch = 0
        self._position = ""  # no step: validation is not checked

    def attach(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Check a model's outputs, gradients and updates from now on."""
        self._names = {p.untyped_storage().data_ptr(): name for name, p in model.named_parameters()}
        for name, module in model.named_modules():
            what = f"the output of {name}" if name else "the network's output"
            module.register_forward_hook(lambda _, inputs, output, what=what: self.check(output, what))

        def gradients(*_: Any) -> None:
            for name, parameter in parameters.items():
                self.check(parameter.grad, f"the gradient of {name}")

        def updates(*_: Any) -> None:
            for name, parameter in parameters.items():
                self.check(parameter, f"{name} after the update")

        parameters = dict(model.named_parameters())
        for name, parameter in parameters.items():
            what = f"the gradient of {name}"
            parameter.register_post_accumulate_grad_hook(lambda p, what=what: self.check(p.grad, what))
        optimizer.register_step_pre_hook(gradients)  # also those that were not accumulated in a backward pass
        optimizer.register_step_post_hook(updates)

    def begin_epoch(self, epoch: int) -> None:
        """Raise DivergedError after the last epoch to trace."""
        if epoch > self.last_epoch:
            raise DivergedError("when it was run again from the last checkpoint, everything stayed finite")
        self._epoch = epoch

    @contextmanager
    def tracing(self, step: int, steps: int) -> Iterator[None]:
        """Check values in this block, which is one of an epoch's steps."""
        self._position = f"epoch {self._epoch + 1} step {step + 1} of {steps}"
        yield
        self._position = ""

    def tracing_operations(self) -> TorchFunctionMode:
        """Check what operations compute from parameters; some layers only hold them and are never called."""
        return _Operations(self._names, self.check)

    def check(self, values: Any, what: str) -> None:
        """Raise DivergedError, within a step, if a tensor in ``values`` is not finite."""
        for tensor in _tensors(values) if self._position else ():
            if not tensor.isfinite().all():
                count = (~tensor.isfinite()).sum().item()
                kind = "NaN" if tensor.isnan().any() else "infinite"
                raise DivergedError(f"{self._position}: {what} is the first with {kind} values ({count:,})")


class _Operations(TorchFunctionMode):
    def __init__(self, names: dict[int, str], check: Callable[[Any, str], None]) -> None:
        super().__init__()
        self._names, self._check = names, check

    def __torch_function__(self, function: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        result = function(*args, **(kwargs or {}))
        for tensor in _tensors(args):
            if name := self._names.get(tensor.untyped_storage().data_ptr()):
                self._check(result, f"what {function.__name__} computes from {name}")
        return result


def _tensors(values: Any) -> Iterator[Tensor]:
    if isinstance(values, Tensor):
        if values.is_floating_point() and values.layout == torch.strided:
            yield values.detach()
    elif isinstance(values, tuple | list):
        for value in values:
            yield from _tensors(value)
