"""What the penalties share that look at the neurons from a learned pole."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from comhe.errors import UsageError, check_count
from comhe.regularizers.draws import Draws, random_matrix
from comhe.regularizers.energies.checks import check_neurons, upcast
from comhe.regularizers.energies.cosines import directions
from comhe.regularizers.selection import Layer

from .directional import HalfSpaceDirectional


class PolePenalty(HalfSpaceDirectional):
    r"""A game :math:`\min_W \max_v P(W, v)` with a pole v for each layer, which moves before each value.

    The pole makes ``steps`` gradient steps with momentum, as in the authors' code. There it is any vector with weight
    decay, at the network's learning rate; here it moves on the sphere, at most 1 a step, and its momentum starts at
    zero in every call, for the neurons have moved since the last one.

    Args:
        steps: gradient steps of the pole for each of the neurons. Few of them let neurons catch up with the pole.
        rate: length of a step of the pole.
        momentum: of the pole's steps, from zero in every call.
        options: see :class:`HalfSpaceDirectional`.
    """

    state_name = "pole"
    ordered = True  # as the pole is
    formula: Callable[..., Tensor]  # (neurons [..., N, d], poles [..., d], *, half_space, min_norm) -> [...]
    pull: Callable[[Tensor], Tensor]  # derivative of P in the squared distances [..., points] from the pole

    def __init__(self, *, steps: int = 10, rate: float = 0.1, momentum: float = 0.9, **options: Any) -> None:
        super().__init__(**options)
        check_count("steps", steps, 1)
        if not rate > 0:
            raise UsageError(f"rate must be > 0, not {rate!r}")
        if not 0 <= momentum < 1:
            raise UsageError(f"momentum must be at least 0 and less than 1, not {momentum!r}")
        self.steps, self.rate, self.momentum = steps, rate, momentum

    def init(self, w: Tensor, layer: Layer, seed: int) -> Tensor:
        shape = (*w.shape[:-2], w.shape[-1])
        return directions(random_matrix(shape, "gaussian", "cpu", seed, layer.name)).to(w)

    def update(self, w: Tensor, layer: Layer, state: Tensor, draws: Draws) -> Tensor:
        pole, u, velocity = state, directions(w, self.min_norm), torch.zeros_like(state)
        lengths = _lengths(u)
        for _ in range(self.steps):
            c = lengths * (u @ pole[..., None])[..., 0]
            if self.in_half_space(layer):
                near, far = self.pull(torch.cat((2 - 2 * c, 2 + 2 * c), -1)).chunk(2, -1)
                push = near - far
            else:
                push = self.pull(2 - 2 * c)
            gradient = -2 * ((lengths * push)[..., None, :] @ u)[..., 0, :]
            velocity = self.momentum * velocity + gradient
            velocity = velocity - pole * (velocity * pole).sum(-1, keepdim=True)  # along the sphere
            velocity = velocity / (self.rate * torch.linalg.vector_norm(velocity, dim=-1, keepdim=True)).clamp_min(1)
            pole = directions(pole + self.rate * velocity)
        return pole

    def value(self, w: Tensor, layer: Layer, state: Tensor | None, draws: Draws) -> Tensor:
        assert state is not None  # init() has one for every layer
        return self.formula(w, state, half_space=self.in_half_space(layer), min_norm=self.min_norm)


def squared_distances(w: Tensor, pole: Tensor, half_space: bool, min_norm: float) -> Tensor:
    """Squared distances 2 - 2c [..., N] of the directions of neurons [..., N, d] from that of a pole [..., d].

    In the half space [..., 2N], those of their negatives behind. From differences: a neuron at the pole has exactly 0.
    The cosine of a neuron shorter than ``min_norm`` falls with the square of its length, as that of two such neurons
    does: a pole is always of full length, and would send all neurons of a zeroed layer its way at once.
    """
    check_neurons(w)
    w = upcast(w)
    if pole.shape[-1] != w.shape[-1]:
        raise UsageError(f"the pole must have d = {w.shape[-1]} entries, not {pole.shape[-1]}")
    u, v = directions(w, min_norm), directions(pole.to(w.dtype))[..., None, :]
    lengths = _lengths(u)
    c = lengths * (u @ v.mT)[..., 0]
    near = torch.where(lengths < 1, 2 - 2 * c, (u - v).square().sum(-1))
    return torch.cat((near, torch.where(lengths < 1, 2 + 2 * c, (u + v).square().sum(-1))), -1) if half_space else near


def _lengths(u: Tensor) -> Tensor:
    """Lengths [..., N] of directions: 1, or less for those of short neurons."""
    lengths = torch.linalg.vector_norm(u, dim=-1)
    return torch.where(lengths > 1 - 16 * torch.finfo(u.dtype).eps, 1.0, lengths)
