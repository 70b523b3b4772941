"""One training step, the same on every device; on a GPU it is captured."""

import warnings
from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from comhe.regularizers import Regularizer
from comhe.regularizers.draws import Draws
from comhe.train.task import Task

from .capture import CUDAGraphRecorder, CUDAGraphStep, SideStream
from .distributed import no_sync
from .ema import ExponentialMovingAverage
from .nonfinite import NonFiniteTracer

Gradients = list[tuple[nn.Parameter, Tensor]]


class Step:
    """Augmentation, forward, loss, penalty, backward, clipping, optimizer, moving average: on a GPU one CUDA graph.

    The penalty, which does not depend on the batch, runs concurrently with the network. Ranks average their gradients
    in the last backward pass, to which the penalty's have been added.
    """

    def __init__(
        self,
        task: Task,
        model: nn.Module,
        regularizer: Regularizer,
        optimizer: torch.optim.Optimizer,
        ema: ExponentialMovingAverage | None = None,
        parallel_model: nn.Module | None = None,
        recorder: CUDAGraphRecorder | None = None,
        tracer: NonFiniteTracer | None = None,
    ) -> None:
        device, on_gpu = task.device, task.device.type == "cuda"
        self.task, self.context, self.tracer = task, task.context, tracer
        self.model, self.regularizer, self.optimizer, self.ema = model, regularizer, optimizer, ema
        self.parallel_model = model if parallel_model is None else parallel_model
        self.forward: Any = torch.compile(self.parallel_model) if task.recipe.compile else self.parallel_model
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
        self.side_stream = SideStream(device)
        number: Any = partial(torch.zeros, (), dtype=torch.float32 if on_gpu else torch.float64, device=device)
        self.lrs = {group.setdefault("lr_scale", 1.0): number() for group in optimizer.param_groups}
        self.sums, self.count = torch.zeros(2, dtype=torch.float64, device=device), 0
        if on_gpu:
            torch.backends.cudnn.benchmark = True  # all batches are of one shape
            # Adam warns where it is not captured; the steps before the recording are not.
            warnings.filterwarnings("ignore", "This instance was constructed with capturable=True")
        regularizer.capturable = recorder is not None
        self.draws: Draws | None = None  # of the current step
        self.work: Any = self._work
        if recorder is not None:
            self.work = CUDAGraphStep(self._work, recorder, lambda: tuple(norm.momentum for norm in norms))

    def __call__(self, inputs: Sequence[Tensor], lr: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Take a step; return loss, penalty, logits and labels of the last microbatch, for the time until the next."""
        for scale, number in self.lrs.items():
            number.fill_(scale * lr)
        for group in self.optimizer.param_groups:
            group["lr"] = self.lrs[group.get("lr_scale", 1.0)]  # a tensor, which a graph reads
        with self.tracer.tracing(self.count, self.task.steps) if self.tracer else nullcontext():
            self.draws = self.regularizer.draw()
            result = self.work(*inputs)
        self.regularizer.step += 1
        if self.ema is not None:
            self.ema.count()
        self.count += 1
        return result

    def means(self) -> tuple[float, float]:
        """Return the mean loss and penalty of the steps since :meth:`reset`, of all ranks. Waits for the device."""
        loss, penalty = (self.context.mean(self.sums) / self.count).tolist()
        return loss, penalty

    def reset(self) -> None:
        self.sums.zero_()
        self.count = 0

    def state_dict(self) -> dict[str, Any]:
        return {"sums": self.sums.cpu(), "count": self.count}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.sums.copy_(state["sums"])
        self.count = state["count"]

    def _work(self, *inputs: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        self.optimizer.zero_grad(set_to_none=True)
        penalty, gradients = self.side_stream.start(self._penalty)
        batch = self.task.collate(*inputs)
        if self.tracer:
            self.tracer.check(batch, "the batch")
        total: Any = 0.0
        microbatches = list(self.task.microbatches(batch))
        for index, (factor, microbatch) in enumerate(microbatches):
            is_last = index == len(microbatches) - 1
            with nullcontext() if is_last else no_sync(self.parallel_model):
                loss, logits = self._loss(microbatch)
                if is_last and self.context.is_distributed:
                    gradients = self._add(gradients)  # they are averaged with the others
                (factor * loss).backward()
            total = total + factor * loss.detach()
            gradients = self._add(gradients)  # the penalty counts once a step, however many microbatches there are
        if self.task.recipe.clip:
            nn.utils.clip_grad_norm_(self.parameters, self.task.recipe.clip)
        self.optimizer.step()
        if self.ema is not None:
            self.ema.update_parameters(self.model)
        self.sums += torch.stack((total.double(), penalty.double()))
        return loss.detach(), penalty, logits.detach(), microbatch[-1]

    def _loss(self, microbatch: tuple) -> tuple[Tensor, Tensor]:
        with (
            torch.autocast(self.task.device.type, torch.bfloat16, enabled=self.task.bf16),
            self.tracer.tracing_operations() if self.tracer else nullcontext(),
        ):
            loss, logits = self.task.loss(self.forward, microbatch)
        if self.tracer:
            self.tracer.check(loss, "the loss")
        return loss, logits

    def _penalty(self) -> tuple[Tensor, Gradients]:
        draws = self.draws
        assert draws is not None
        if self.tracer:
            for layer, _, value in self.regularizer.layer_penalties(draws):
                self.tracer.check(value, f"the penalty of {layer.name}")
        penalty, gradients = self.regularizer.value_and_grad(self.parameters, draws)
        pairs = zip(self.parameters, gradients, strict=True)
        return penalty, [(parameter, gradient) for parameter, gradient in pairs if gradient is not None]

    def _add(self, gradients: Gradients | None) -> Gradients | None:
        """Wait for the penalty and add its gradients to the parameters', unless that has been done; return None."""
        if gradients is None:
            return None
        self.side_stream.join()
        pairs = [(parameter.grad, gradient) for parameter, gradient in gradients if parameter.grad is not None]
        for parameter, gradient in gradients:
            if parameter.grad is None:  # in the parameter's layout, which DistributedDataParallel wants
                same = gradient.stride() == parameter.stride()
                parameter.grad = gradient if same else torch.empty_like(parameter).copy_(gradient)
        if pairs:
            sums, terms = map(list, zip(*pairs, strict=True))
            torch._foreach_add_(sums, terms)
        return None
