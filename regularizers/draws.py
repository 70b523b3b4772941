"""What one step draws: random tensors that are functions of seed, step and key, and scheduled numbers."""

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from .energies.tables import device_table
from .energies.transforms import untransformed
from .selection import Layer

Distribution = Literal["gaussian", "ternary"]
DISTRIBUTIONS = ("gaussian", "ternary")
Key = int | str | tuple[int | str, ...]
Memory = dict[Any, tuple[Any, Tensor]]  # key -> (what the tensor holds, the tensor)


class Draws:
    """The random tensors, scheduled numbers and weights of one step, by key.

    ``layers`` are all that are selected, whose draws are the same whichever of them count in this step: ``active``.

    A penalty asks for them in its ``draw`` and reads them back with ``draws[key]``. If ``capturable``, they stay in the
    same memory in every step and numbers are tensors, so that a CUDA graph recorded in one can be replayed in another.
    """

    def __init__(
        self,
        seed: int,
        step: int,
        layers: Sequence[Layer] = (),
        weights: Sequence[float] = (),
        device: torch.device | str = "cpu",
        capturable: bool = False,
        memory: Memory | None = None,
    ) -> None:
        self.seed, self.step, self.layers = seed, step, tuple(layers)
        self.active: Sequence[Layer] = self.layers
        self.device, self.capturable = torch.device(device), capturable
        self._memory = {} if memory is None else memory
        self._values: dict[Key, float | Tensor] = {}
        self._weights = {layer.name: weight for layer, weight in zip(self.layers, weights, strict=True)}
        if capturable:
            for name, weight in self._weights.items():
                self.scalar((name, "weight"), weight)

    def __getitem__(self, key: Key) -> Any:
        return self._values[key]

    def __contains__(self, key: Key) -> bool:
        return key in self._values

    def normal(self, key: Key, shape: Sequence[int], every: int = 1) -> None:
        """Draw independent standard normal entries, new ones every so many steps."""
        self.pool(key, {key: shape}, every=every)

    def pool(
        self, name: Key, shapes: Mapping[Any, Sequence[int]], distribution: Distribution = "gaussian", every: int = 1
    ) -> None:
        """Draw a tensor for each key in ``shapes``; they lie one after another in the memory of ``draws[name]``."""
        sizes = [math.prod(shape) for shape in shapes.values()]
        number = self.seed, self.step // every

        def fill(flat: Tensor) -> None:
            for (key, shape), numbers in zip(shapes.items(), flat.split(sizes), strict=True):
                _fill(numbers.view(tuple(shape)), distribution, (*number, *_as_tuple(key)))

        flat = self._keep(name, torch.float32, (sum(sizes),), (number, tuple(shapes)), fill)
        for (key, shape), numbers in zip(shapes.items(), flat.split(sizes), strict=True):
            self._values[key] = numbers.view(tuple(shape))

    def permutation(self, key: Key, count: int, every: int = 1) -> None:
        """Draw a random order of 0 ... count - 1, a new one every so many steps."""
        number = self.seed, self.step // every
        self._keep(key, torch.int64, (count,), number, lambda out: out.copy_(_order(count, out.device, number, key)))

    def subset(self, key: Key, count: int, size: int) -> None:
        """Draw ``size`` different numbers of 0 ... count - 1, in ascending order."""
        number = self.seed, self.step

        def fill(out: Tensor) -> None:
            out.copy_(_order(count, out.device, number, key)[:size].sort().values)

        self._keep(key, torch.int64, (size,), number, fill)

    def scalar(self, key: Key, number: float) -> None:
        """Keep a number that depends on the step, such as a learning rate; if ``capturable``, as a tensor."""
        self._values[key] = number
        if self.capturable:  # the number travels with the launch; a copy would wait
            self._keep(key, torch.float32, (), number, lambda out: out.fill_(number))

    def is_weighted(self, layer: Layer) -> bool:
        """Whether the layer's penalty counts in this step."""
        return self._weights[layer.name] > 0

    def weight(self, layer: Layer) -> float | Tensor:
        """The factor of the layer's penalty in this step; if ``capturable``, a tensor."""
        return self._values.get((layer.name, "weight"), self._weights[layer.name])

    def weights(self, layers: Sequence[Layer]) -> Tensor:
        """The factors of several layers, ``[len(layers)]``, on the device."""
        if self.capturable:
            return torch.stack([self[layer.name, "weight"] for layer in layers])
        return _constants(tuple(self._weights[layer.name] for layer in layers), self.device)

    def _keep(
        self, key: Key, dtype: torch.dtype, shape: tuple[int, ...], content: Any, fill: Callable[[Tensor], object]
    ) -> Tensor:
        """A tensor that holds ``content``: the last step's if it does already, else filled, in place if need be."""
        held, tensor = self._memory.get(key, (None, None))
        # A transform allows no random operation, or wraps what is kept for other steps; so does inference mode.
        with untransformed(), torch.inference_mode(False):
            if tensor is None or tensor.shape != shape or tensor.device != self.device:
                held, tensor = None, torch.empty(shape, dtype=dtype, device=self.device)
            elif held != content and not self.capturable:
                tensor = torch.empty_like(tensor)
            if held != content and not tensor.is_meta:
                fill(tensor)
        self._memory[key], self._values[key] = (content, tensor), tensor
        return tensor


def generator(device: torch.device | str, *key: int | str) -> torch.Generator:
    """A generator seeded by a hash of the key: ranks and restarted runs on the same kind of device draw the same."""
    plain = tuple(part if isinstance(part, str) else int(part) for part in key)  # 3 and NumPy's 3 are the same
    digest = hashlib.blake2b(repr(plain).encode(), digest_size=8).digest()
    return torch.Generator(device).manual_seed(int.from_bytes(digest, "little") >> 1)


def random_matrix(
    shape: Sequence[int], distribution: Distribution, device: torch.device | str, *key: int | str
) -> Tensor:
    r"""Independent entries of mean 0 and variance 1, float32: N(0, 1), or ``"ternary"`` ones, :math:`\pm\sqrt 3` with
    probability 1/6 each and 0 with 2/3, exact to :math:`2^{-16}`.

    Source: Achlioptas, *Database-friendly Random Projections*, 2003.
    """
    out = torch.empty(tuple(shape), device=device)
    if not out.is_meta:
        with untransformed():
            _fill(out, distribution, key)
    return out


def _fill(out: Tensor, distribution: Distribution, key: tuple[int | str, ...]) -> None:
    source = generator(out.device, *key)
    if distribution == "gaussian":
        torch.randn(out.shape, generator=source, device=out.device, out=out)  # the default one may be another
        return
    count = math.prod(out.shape)
    words = torch.empty((count + 3) // 4, dtype=torch.int64, device=out.device)
    words.random_(-(2**63), 2**63 - 1, generator=source)  # one word yields four entries
    sixteen = words.view(torch.int16)[:count].view(out.shape)
    third = round(2**15 / 3)
    out.copy_(sixteen < -(2**15) + third).neg_().add_(sixteen >= 2**15 - third).mul_(math.sqrt(3))


def _order(count: int, device: torch.device, number: tuple[int, int], key: Key) -> Tensor:
    return torch.randperm(count, generator=generator(device, *number, *_as_tuple(key)), device=device)


def _as_tuple(key: Key) -> tuple[int | str, ...]:
    return key if isinstance(key, tuple) else (key,)


@device_table
def _constants(values: tuple[float, ...], device: torch.device) -> Tensor:
    """Kept by value: to copy them in every step would wait for the device."""
    return torch.tensor(values, device=device)
