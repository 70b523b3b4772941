"""Where a run that diverged went wrong: its last steps are made again, with a look at every value."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from comhe.datasets.sampling import Batches
from comhe.regularizers import Regularizer

from .ranks import here, local


class NotFinite(FloatingPointError):
    """Found at one of the few places where the loop waits for its device anyway."""

    def __init__(self, message: str, epoch: int) -> None:
        super().__init__(message)
        self.epoch = epoch


def finite(epoch: int, loss: float, penalty: float) -> tuple[float, float]:
    """Both, of an epoch's steps so far; NotFinite if one is not finite."""
    if not math.isfinite(loss + penalty):
        raise NotFinite(f"loss {loss}, penalty {penalty} in epoch {epoch + 1}", epoch)
    return loss, penalty


def require_finite(model: nn.Module, epoch: int) -> None:
    """NotFinite if a parameter is not, on any rank."""
    names, parameters = zip(*model.named_parameters(), strict=True)
    wrong = here().largest(torch.stack([~local(p).isfinite().all() for p in parameters]).int()).tolist()
    for name, is_wrong in zip(names, wrong, strict=True):
        if is_wrong:
            raise NotFinite(f"{name} is not finite in epoch {epoch + 1}", epoch)


class Witness:
    """A task that raises FloatingPointError, with step and layer, at the first value that is not finite.

    In the order of a step it looks at the batch, at each layer's penalty, at what each operation makes of a parameter
    and at the output of each module (the innermost first), at the loss, at each parameter's gradient (from the output
    on) and at the parameters after the update. What else an operation makes may be infinite for good: masks are.
    Random numbers and arithmetic are those of the run, so on the CPU it finds what has happened; on a GPU, whose sums
    may come out otherwise, it gives up after ``epoch``, in which the run went wrong.
    """

    def __init__(self, task: Any, epoch: int) -> None:
        self._task, self._epoch = task, epoch
        self._place = ""  # no step under way: validation does not count

    def __getattr__(self, name: str) -> Any:
        return getattr(self._task, name)

    def model(self) -> nn.Module:
        self._model = model = self._task.model()
        for name, module in model.named_modules():
            module.register_forward_hook(self._output(f"the output of {name}" if name else "the network's output"))
        return model

    def regularizer(self, model: nn.Module) -> Regularizer:
        regularizer = self._task.regularizer(model)
        penalty = regularizer.penalty

        def seen(layer: Any) -> Tensor:
            value = penalty(layer)
            self._look(value, f"the penalty of {layer.name}")
            return value

        regularizer.penalty = seen
        return regularizer

    def optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        optimizer = self._task.optimizer(model)
        for name, parameter in model.named_parameters():
            parameter.register_post_accumulate_grad_hook(self._gradient(f"the gradient of {name}"))

        def before(*_: Any) -> None:  # gradients that were not accumulated in a backward pass
            for name, parameter in model.named_parameters():
                self._look(parameter.grad, f"the gradient of {name}")

        def after(*_: Any) -> None:
            for name, parameter in model.named_parameters():
                self._look(parameter, f"{name} after the update")

        optimizer.register_step_pre_hook(before)
        optimizer.register_step_post_hook(after)
        return optimizer

    def batches(self, epoch: int, first: int = 0) -> Batches:
        if epoch > self._epoch:
            raise FloatingPointError("when it was run again from the last good state, everything stayed finite")
        batches = self._task.batches(epoch, first)
        return Batches(self._placed(batches.inputs, epoch, first), self._made(batches.make))

    def _placed(self, inputs: Iterable[tuple[Tensor, ...]], epoch: int, first: int) -> Iterator[tuple[Tensor, ...]]:
        for step, each in enumerate(inputs, start=first):
            self._place = f"epoch {epoch + 1} step {step + 1} of {self._task.steps}"
            yield each
        self._place = ""

    def _made(self, make: Callable[..., tuple]) -> Callable[..., tuple]:
        def seen(*inputs: Tensor) -> tuple:
            batch = make(*inputs)
            self._look(batch, "the batch")
            return batch

        return seen

    def loss(self, model: nn.Module, batch: tuple) -> tuple[Tensor, Tensor]:
        with _Operations(self._model, self._look):
            loss, logits = self._task.loss(model, batch)
        self._look(loss, "the loss")
        return loss, logits

    # Plain functions: a copy of the model for its average copies them as they are.
    def _output(self, what: str) -> Any:
        return lambda module, inputs, output: self._look(output, what)

    def _gradient(self, what: str) -> Any:
        return lambda parameter: self._look(parameter.grad, what)

    def _look(self, values: Any, what: str) -> None:
        for tensor in _tensors(values) if self._place else ():
            if not tensor.isfinite().all():
                bad = (~tensor.isfinite()).sum().item()
                kind = "NaN" if tensor.isnan().any() else "infinite"
                raise FloatingPointError(f"{self._place}: {what} is the first with {kind} values ({bad:,})")


class _Operations(TorchFunctionMode):
    """Looks at what operations make of parameters; a layer may be a mere holder of them that is never called."""

    def __init__(self, model: nn.Module, look: Callable[[Any, str], None]) -> None:
        super().__init__()
        self._names = {p.untyped_storage().data_ptr(): name for name, p in model.named_parameters()}
        self._look = look

    def __torch_function__(self, function: Any, types: Any, args: tuple = (), options: dict | None = None) -> Any:
        made = function(*args, **(options or {}))
        for tensor in _tensors(args):
            if name := self._names.get(tensor.untyped_storage().data_ptr()):
                self._look(made, f"what {function.__name__} makes of {name}")
        return made


def _tensors(values: Any) -> Iterable[Tensor]:
    if isinstance(values, Tensor):
        if values.is_floating_point() and values.layout == torch.strided:
            yield values.detach()
    elif isinstance(values, tuple | list):
        for value in values:
            yield from _tensors(value)
