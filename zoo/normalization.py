"""Normalization of images inside the weights of others: a layer before the network that keeps means and deviations."""

import re
from typing import NamedTuple

from torch import Tensor

from .state import NEST, State

PARTNERS = {
    "mean": "std", "mu": "sigma", "_mean": "_std", "means": "sds", "img_mean": "img_std", "pixel_mean": "pixel_std",
}  # fmt: skip
LAYER = re.compile(rf"(?P<where>(.*[.{NEST}])?)(?P<mean>{'|'.join(PARTNERS)})", re.DOTALL)


class Stated(NamedTuple):
    """Means and standard deviations of the channels, on the scale 0..1."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __str__(self) -> str:
        """Return them as ``comhe evaluate --normalization`` reads them."""
        return "/".join(",".join(f"{value:g}" for value in values) for values in self)


def stated_normalization(tensors: State, expected: State) -> tuple[State, Stated | None]:
    """Return the tensors of the network itself, and what a layer before it normalizes images with, if there is one.

    Such a layer has ``mean`` and ``std``, or ``mu`` and ``sigma``, one number or one for each input channel. Those on
    the scale 0..255 are divided by 255. Of two layers that differ, neither is taken.

    Example:
        >>> import torch
        >>> state = {"conv1.weight": torch.zeros(16, 3, 3, 3)}
        >>> layer = {"mu": torch.tensor([0.5, 0.4, 0.3]).view(1, 3, 1, 1), "sigma": torch.full((1, 3, 1, 1), 0.25)}
        >>> print(stated_normalization(state | layer, state)[1])
        0.5,0.4,0.3/0.25,0.25,0.25
    """
    channels = next((tensor.shape[1] for tensor in expected.values() if tensor.dim() == 4), None)
    found: dict[Stated, list[str]] = {}
    for name in tensors:
        if channels is None or name in expected or not (match := LAYER.fullmatch(name)):
            continue
        partner = f"{match['where']}{PARTNERS[match['mean']]}"
        mean, std = (_per_channel(tensors.get(each), channels) for each in (name, partner))
        if mean and std and min(std) > 0:
            scale = 255 if max(mean) > 1 or min(std) > 2 else 1
            stated = Stated(*(tuple(float(f"{v / scale:.6g}") for v in values) for values in (mean, std)))
            found.setdefault(stated, []).extend((name, partner))
    if len(found) != 1:
        return tensors, None
    ((stated, names),) = found.items()
    return {name: tensor for name, tensor in tensors.items() if name not in names}, stated


def _per_channel(tensor: Tensor | None, channels: int) -> tuple[float, ...]:
    """The numbers of a tensor, one a channel; none if it is another kind of tensor."""
    if tensor is None or tensor.is_meta or not tensor.is_floating_point() or tensor.numel() not in (1, channels):
        return ()
    if max(tensor.shape, default=1) != tensor.numel() or not tensor.isfinite().all():
        return ()
    return tuple(tensor.double().flatten().expand(channels).tolist())
