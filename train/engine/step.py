"""One training step, the same on every device; on a GPU it is captured."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from comhe.regularizers import Regularizer

from .capture import Beside, Captured, Recorder
from .ema import Average
from .ranks import Replicated, here, unreduced

if TYPE_CHECKING:
    from comhe.train.task import Task


class Step:
    """Augmentation, forward, loss, penalty, backward, clipping, optimizer, average.

    On a GPU all of that is one CUDA graph, in which the penalty, in which the batch has no part, runs beside
    the network. Of several ranks each takes its share of the batch; the gradients are averaged in the last backward
    pass, to which the penalty's have been added.

    Args:
        spread: the model as :meth:`.ranks.Ranks.spread` has it called, where there are several ranks.
        recorder: of the graph, see :class:`.capture.Captured`; None to take steps as they are written here.
    """

    def __init__(
        self,
        task: Task,
        model: nn.Module,
        regularizer: Regularizer,
        optimizer: torch.optim.Optimizer,
        average: Average | None = None,
        recorder: Recorder | None = None,
        spread: nn.Module | None = None,
    ) -> None:
        device, on_gpu = task.device, task.device.type == "cuda"
        self.task, self.model, self.regularizer, self.optimizer, self.average = (
            task, model, regularizer, optimizer, average
        )  # fmt: skip
        self.ranks = here()
        self.spread = model if spread is None else spread
        self.forward = torch.compile(self.spread) if task.recipe.compile else self.spread
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self.norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
        self.beside = Beside(device)
        self.rate = torch.zeros((), dtype=torch.float32 if on_gpu else torch.float64, device=device)
        self.sums, self.count = torch.zeros(2, dtype=torch.float64, device=device), 0
        self.make: Callable[..., tuple] | None = None
        if on_gpu:
            torch.backends.cudnn.benchmark = True  # all batches are of one shape
            # Adam warns where it is not captured; the steps before the recording are not.
            warnings.filterwarnings("ignore", "This instance was constructed with capturable=True")
        regularizer.static = recorder is not None
        self.work = self._work if recorder is None else Captured(self._work, recorder, self._constants)

    def __call__(
        self, make: Callable[..., tuple], inputs: Iterable[Tensor], rate: float
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Take a step on the batch ``make(*inputs)``, at a learning rate.

        Returns loss, penalty, logits and labels of the batch's last part, which the next step overwrites.
        """
        self.make = self.make or make  # the same function in every epoch, of which a graph holds the first
        self.rate.fill_(rate)
        for group in self.optimizer.param_groups:
            group["lr"] = rate if self.ranks.parallel == "fsdp" else self.rate  # a tensor, that a graph reads
        self.regularizer.draw()
        result = self.work(*inputs)
        self.regularizer.step += 1
        self.count += 1
        return result

    def means(self) -> tuple[float, float]:
        """Mean loss and mean penalty of the steps since :meth:`reset`, of all ranks. Waits for the device."""
        loss, penalty = (self.ranks.mean(self.sums) / self.count).tolist()
        return loss, penalty

    def reset(self) -> None:
        """Begin new means."""
        self.sums.zero_()
        self.count = 0

    def state_dict(self) -> dict[str, Any]:
        return {"sums": self.sums.cpu(), "count": self.count}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.sums.copy_(state["sums"])
        self.count = state["count"]

    def _work(self, *inputs: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        task, recipe = self.task, self.task.recipe
        self.optimizer.zero_grad(set_to_none=True)
        penalty, slopes = self.beside.start(self._penalty)
        total = 0.0
        parts = list(task.parts(self.make(*inputs)))
        for left, (share, part) in zip(reversed(range(len(parts))), parts, strict=True):
            with unreduced(self.spread) if left else nullcontext():
                with torch.autocast(task.device.type, torch.bfloat16, enabled=recipe.precision == "bf16"):
                    loss, logits = task.loss(self.forward, part)
                if not left and isinstance(self.spread, Replicated):
                    self._join(slopes)  # they are averaged with the others
                    slopes = None
                (share * loss).backward()
            total = total + share * loss.detach()
            self._join(slopes)
            slopes = None  # the penalty counts once a step, however many parts there are
        if recipe.clip:
            nn.utils.clip_grad_norm_(self.parameters, recipe.clip)
        self.optimizer.step()
        if self.average is not None:
            self.average.update_parameters(self.model)
        self.sums += torch.stack((total.double(), penalty.double()))
        return loss.detach(), penalty, logits.detach(), part[-1]

    def _penalty(self) -> tuple[Tensor, list[tuple[nn.Parameter, Tensor]]]:
        """The penalty and its gradient."""
        penalty, slopes = self.regularizer.slopes(self.parameters)
        pairs = zip(self.parameters, slopes, strict=True)
        return penalty, [(parameter, slope) for parameter, slope in pairs if slope is not None]

    def _join(self, slopes: list[tuple[nn.Parameter, Tensor]] | None) -> None:
        """Add the penalty's gradient, once it is made, unless that has been done."""
        if slopes is not None:
            self.beside.join()
            _add(slopes)

    def _constants(self) -> tuple[float | None, ...]:
        return tuple(norm.momentum for norm in self.norms)


def _add(slopes: list[tuple[nn.Parameter, Tensor]]) -> None:
    """Add to the gradients."""
    for parameter, slope in slopes:
        if parameter.grad is None:
            parameter.grad = slope
    if rest := [(parameter.grad, slope) for parameter, slope in slopes if parameter.grad is not slope]:
        gradients, slopes = map(list, zip(*rest, strict=True))
        torch._foreach_add_(gradients, slopes)
