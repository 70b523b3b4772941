"""Moving averages of weights: what they are called, and lists of them that have no names."""

import re
from collections.abc import Mapping, Sequence

from torch import Tensor

AVERAGE = re.compile(r"(^|.*_)(ema|swa|avg|averaged?|shadow)(_.*|$)")  # a module or an entry that averages weights
BUFFERS = ("running_mean", "running_var", "num_batches_tracked")


def named_averages(tensors: Sequence[Tensor], state: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
    """Name averages by a network's state dict, whose order they are in: all tensors, or the parameters alone.

    Those that are not averaged are the network's own. None if the shapes do not fit.

    Example:
        >>> import torch
        >>> named_averages([torch.ones(2)], {"weight": torch.zeros(2), "running_mean": torch.zeros(2)})
        {'weight': tensor([1., 1.]), 'running_mean': tensor([0., 0.])}
    """
    for names in ([*state], [name for name in state if not name.endswith(BUFFERS)]):
        if [state[name].shape for name in names] == [tensor.shape for tensor in tensors]:
            return {**state, **dict(zip(names, tensors, strict=True))}
    return None
