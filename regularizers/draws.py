"""What one step draws: random tensors that are functions of seed, step and key alone, and scheduled numbers."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Literal

import torch
from torch import Tensor

from .selection import Layer

Distribution = Literal["gaussian", "ternary"]
DISTRIBUTIONS = ("gaussian", "ternary")
Key = int | str | tuple[int | str, ...]
_WEIGHTS = ("comhe", "weights")


def generator(device: torch.device | str, *key: int | str) -> torch.Generator:
    """A generator seeded by a hash of the key: nothing has to be stored to draw the same numbers again.

    Ranks that share the key share the numbers, and a restarted run needs no generator state. The numbers depend on the
    kind of device (CPU or CUDA), as torch's generators do.

    Example:
        >>> torch.randperm(4, generator=generator("cpu", 0, "layer")).tolist()
        [1, 0, 3, 2]
    """
    digest = hashlib.blake2b(repr(key).encode(), digest_size=8).digest()
    return torch.Generator(device).manual_seed(int.from_bytes(digest, "little") >> 1)


def random_matrix(
    shape: Sequence[int], distribution: Distribution, device: torch.device | str, *key: int | str
) -> Tensor:
    r"""Independent entries of mean 0 and variance 1, float32.

    ``"gaussian"`` draws N(0, 1). ``"ternary"`` draws :math:`\pm\sqrt 3` with probability 1/6 each and 0 with 2/3; its
    probabilities are exact to :math:`2^{-16}`.

    Example:
        >>> random_matrix((2, 3), "ternary", "cpu", 0, "layer").unique().numel() <= 3
        True

    Source: Achlioptas, *Database-friendly Random Projections*, 2003.
    """
    out = torch.empty(tuple(shape), device=device)
    _fill(out, distribution, key)
    return out


def _fill(out: Tensor, distribution: Distribution, key: tuple[int | str, ...]) -> None:
    if out.is_meta:
        return
    source = generator(out.device, *key)
    if distribution == "gaussian":
        torch.randn(out.shape, generator=source, out=out)
        return
    count = math.prod(out.shape)
    words = torch.empty((count + 3) // 4, dtype=torch.int64, device=out.device)
    words.random_(-(2**63), 2**63 - 1, generator=source)  # one word yields four entries
    sixteen = words.view(torch.int16)[:count].view(out.shape)
    third = round(2**15 / 3)
    out.copy_(sixteen < -(2**15) + third).neg_().add_(sixteen >= 2**15 - third).mul_(math.sqrt(3))


class Draws:
    """The random tensors, scheduled numbers and weights of one step, by key.

    A penalty asks for them in its ``draw`` and reads them back with ``draws[key]``. With ``capturable`` they live in the
    same device memory in every step, so that a CUDA graph recorded in one step can be replayed in another; then numbers
    are 0-dimensional tensors.

    Attributes:
        layers: all regularized layers of the model, whether or not this step needs them.
        seed, step: what the random tensors depend on besides their keys.
        device: where they are.
        capturable: whether they keep their memory.

    Example:
        >>> draws = Draws(seed=0, step=3)
        >>> draws.normal("start", (2, 3))
        >>> draws["start"].equal(random_matrix((2, 3), "gaussian", "cpu", 0, 3, "start"))
        True
    """

    def __init__(
        self,
        seed: int,
        step: int,
        layers: Sequence[Layer] = (),
        weights: Sequence[float] = (),
        device: torch.device | str = "cpu",
        capturable: bool = False,
        memory: dict[Any, tuple[Any, Tensor]] | None = None,
    ) -> None:
        self.seed, self.step, self.layers = seed, step, tuple(layers)
        self.device, self.capturable = torch.device(device), capturable
        self._memory = {} if memory is None else memory  # of earlier steps: key -> (content, tensor)
        self._values: dict[Key, float | Tensor] = {}
        self._weights = dict(zip((layer.name for layer in self.layers), weights, strict=True))
        self._index = {layer.name: index for index, layer in enumerate(self.layers)}
        self._weight_tensor: Tensor | None = None
        if capturable and weights:
            before, self._weight_tensor = self._memory.get(_WEIGHTS, ((), None))
            if self._weight_tensor is None or self._weight_tensor.device != self.device:
                before, self._weight_tensor = weights, torch.tensor(tuple(weights), device=self.device)
            for index, (old, new) in enumerate(zip(before, weights, strict=True)):
                if old != new:
                    self._weight_tensor[index].fill_(new)  # the number travels with the launch; a copy would wait
            self._memory[_WEIGHTS] = tuple(weights), self._weight_tensor

    def __getitem__(self, key: Key) -> Any:
        return self._values[key]

    def __contains__(self, key: Key) -> bool:
        return key in self._values

    def normal(self, key: Key, shape: Sequence[int], every: int = 1) -> None:
        """Draw independent standard normal entries, new ones every so many steps."""
        self.pool(key, {key: shape}, every=every)

    def pool(
        self,
        name: Key,
        shapes: Mapping[Any, Sequence[int]],
        distribution: Distribution = "gaussian",
        every: int = 1,
    ) -> None:
        """Draw a tensor for each key in ``shapes``; they lie one after another in the memory of ``draws[name]``."""
        sizes = [math.prod(shape) for shape in shapes.values()]

        def fill(flat: Tensor) -> None:
            for key, part in zip(shapes, flat.split(sizes), strict=True):
                _fill(part.view(tuple(shapes[key])), distribution, self._stamp(every) + _as_tuple(key))

        flat = self._kept(name, (sum(sizes),), torch.float32, (*self._stamp(every), tuple(shapes)), fill)
        self._values[name] = flat
        for (key, shape), part in zip(shapes.items(), flat.split(sizes), strict=True):
            self._values[key] = part.view(tuple(shape))

    def permutation(self, key: Key, count: int, every: int = 1) -> None:
        """Draw a random order of 0 ... count - 1, a new one every so many steps."""
        self._values[key] = self._kept(
            key, (count,), torch.int64, self._stamp(every), lambda out: self._permute(out, key, every)
        )

    def subset(self, key: Key, count: int, size: int) -> None:
        """Draw ``size`` different numbers of 0 ... count - 1, in ascending order."""

        def fill(out: Tensor) -> None:
            order = torch.empty(count, dtype=torch.int64, device=self.device)
            self._permute(order, key, 1)
            out.copy_(order[:size].sort().values)

        self._values[key] = self._kept(key, (size,), torch.int64, self._stamp(1), fill)

    def scalar(self, key: Key, number: float) -> None:
        """Keep a number that depends on the step, such as a learning rate; if ``capturable``, as a tensor."""
        if self.capturable:
            self._values[key] = self._kept(key, (), torch.float32, number, lambda out: out.fill_(number))
        else:
            self._values[key] = number

    def weight(self, layer: Layer) -> float | Tensor:
        """The factor of the layer's penalty in this step; if ``capturable``, a tensor."""
        if self._weight_tensor is None:
            return self._weights[layer.name]
        return self._weight_tensor[self._index[layer.name]]

    def is_weighted(self, layer: Layer) -> bool:
        """Whether the layer's penalty counts in this step."""
        return self._weights[layer.name] > 0

    def weights(self, layers: Sequence[Layer]) -> Tensor:
        """The factors of several layers, ``[len(layers)]``, on the device."""
        if self._weight_tensor is not None:
            return torch.stack([self._weight_tensor[self._index[layer.name]] for layer in layers])
        return _on_device(tuple(self._weights[layer.name] for layer in layers), self.device)

    def _stamp(self, every: int) -> tuple[int, int]:
        return self.seed, self.step // every

    def _permute(self, out: Tensor, key: Key, every: int) -> None:
        if not out.is_meta:
            source = generator(out.device, *self._stamp(every), *_as_tuple(key))
            torch.randperm(len(out), generator=source, out=out)

    def _kept(
        self, key: Key, shape: tuple[int, ...], dtype: torch.dtype, content: Any, fill: Callable[[Tensor], object]
    ) -> Tensor:
        """A tensor with this content: the last step's if that has it, else filled, in the same memory if need be."""
        before, tensor = self._memory.get(key, (None, None))
        fits = tensor is not None and tensor.shape == shape and tensor.device == self.device
        if tensor is None or not fits or (before != content and not self.capturable):
            before, tensor = None, torch.empty(shape, dtype=dtype, device=self.device)
        if before != content:
            fill(tensor)
        self._memory[key] = content, tensor
        return tensor


def _as_tuple(key: Key) -> tuple[int | str, ...]:
    return key if isinstance(key, tuple) else (key,)


@lru_cache(maxsize=32)
def _on_device(values: tuple[float, ...], device: torch.device) -> Tensor:
    """A constant tensor; copying the numbers in every step would wait for the device."""
    return torch.tensor(values, device=device)
