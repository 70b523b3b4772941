"""An exponential moving average of a model's weights."""

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn


class ExponentialMovingAverage(AveragedModel):
    r"""The average :math:`\bar w \leftarrow \beta \bar w + (1 - \beta) w` of a model's weights, from the first step on.

    Unlike torch's it can be part of a CUDA graph, after each replay of which :meth:`count` is called.
    """

    n_averaged: Tensor

    def __init__(self, model: nn.Module, decay: float) -> None:
        super().__init__(model, use_buffers=True)
        self._average = get_ema_multi_avg_fn(decay)
        self._has_begun = False

    @torch.no_grad()
    def update_parameters(self, model: nn.Module) -> None:
        copies = not self._has_begun and self.n_averaged == 0  # read from the tensor before anything is recorded
        self._has_begun = True
        by_dtype: dict[torch.dtype, tuple[list[Tensor], list[Tensor]]] = {}
        for tensors in (nn.Module.parameters, nn.Module.buffers):
            for mean, new in zip(tensors(self.module), tensors(model), strict=True):
                means, news = by_dtype.setdefault(mean.dtype, ([], []))
                means.append(mean.detach())
                news.append(new.detach())
        for means, news in by_dtype.values():
            if copies:
                torch._foreach_copy_(means, news)
            else:
                self._average(means, news, self.n_averaged)

    def count(self) -> None:
        self.n_averaged += 1
