"""What the penalties share that look at the neurons from a learned pole."""

from collections.abc import Callable
from typing import ClassVar

from torch import Tensor

from comhe.errors import UsageError, check_at_least
from comhe.regularizers.draws import Draws, random_matrix
from comhe.regularizers.energies.checks import check_neurons, upcast
from comhe.regularizers.energies.cosines import directions
from comhe.regularizers.selection import Layer

from .penalty import Penalty


class PolePenalty(Penalty):
    """A penalty with a pole for each layer, which takes ``steps`` gradient steps on the sphere before each value."""

    state_name = "pole"
    ascends: ClassVar[bool] = False
    penalty: Callable[[Tensor, Tensor], Tensor]  # neurons [..., N, d] and poles [..., d] -> [...]
    pull: Callable[[Tensor], Tensor]  # its derivative in each neuron's squared distance from the pole, [..., N]

    def __init__(self, *, steps: int = 1, rate: float = 0.1) -> None:
        check_at_least("steps", steps, 1)
        if not rate > 0:
            raise UsageError(f"rate must be > 0, not {rate!r}")
        self.steps, self.rate = steps, rate

    def init(self, w: Tensor, layer: Layer, seed: int) -> Tensor:
        shape = (*w.shape[:-2], w.shape[-1])
        return directions(random_matrix(shape, "gaussian", "cpu", seed, layer.name)).to(w)

    def update(self, w: Tensor, layer: Layer, state: Tensor, draws: Draws) -> Tensor:
        pole, u = state, directions(w)
        for _ in range(self.steps):
            gradient = (self.pull(2 - 2 * (u @ pole[..., None])[..., 0])[..., None] * -2 * u).sum(-2)
            gradient = gradient - pole * (gradient * pole).sum(-1, keepdim=True)  # along the sphere
            pole = directions(pole + (self.rate if self.ascends else -self.rate) * gradient)
        return pole

    def value(self, w: Tensor, layer: Layer, state: Tensor | None, draws: Draws) -> Tensor:
        assert state is not None  # init() has one for every layer
        return self.penalty(w, state)


def squared_distances(w: Tensor, pole: Tensor) -> Tensor:
    """Squared distances [..., N] of the directions of neurons [..., N, d] from that of a pole [..., d]."""
    check_neurons(w)
    w = upcast(w)
    if pole.shape[-1] != w.shape[-1]:
        raise UsageError(f"the pole must have d = {w.shape[-1]} entries, not {pole.shape[-1]}")
    return 2 - 2 * (directions(w) @ directions(pole.to(w.dtype))[..., None])[..., 0]
