"""An exponential average of a model's weights."""

from __future__ import annotations

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from .ranks import local


class Average(AveragedModel):
    r"""What :math:`\bar w \leftarrow \beta \bar w + (1 - \beta) w` makes of a model, from the first step on.

    As torch's own, without its copies of the step count to the device, which a CUDA graph cannot hold.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        super().__init__(model, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)
        self._begun = False

    @torch.no_grad()
    def update_parameters(self, model: nn.Module) -> None:
        first = not self._begun and self.n_averaged == 0  # a value on the device, before anything is recorded
        self._begun = True
        kinds: dict[torch.dtype, tuple[list, list]] = {}
        for part in (nn.Module.parameters, nn.Module.buffers):
            for own, new in zip(part(self.module), part(model), strict=True):
                mine, theirs = kinds.setdefault(own.dtype, ([], []))
                mine.append(local(own))
                theirs.append(local(new))
        for mine, theirs in kinds.values():
            if first:
                torch._foreach_copy_(mine, theirs)
            else:
                self.multi_avg_fn(mine, theirs, None)
        self.n_averaged += 1
