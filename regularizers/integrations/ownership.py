"""Which layers the parameters of an optimizer belong to."""

from collections.abc import Iterable

from torch import Tensor, nn

from comhe.regularizers.regularizer import Regularizer
from comhe.regularizers.selection import Layer

from .blueprint import AnyRegularizer

Key = tuple[nn.Module, int]  # a parameter by its place in a layer's module: trainers may replace the tensor itself


class Ownership:
    """Traces which parameters each layer's weight is computed from, once for as long as these are the same tensors.

    Example:
        >>> from comhe.regularizers import create_regularizer
        >>> model = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 3))
        >>> own = Ownership().of(create_regularizer("so", model), [model[0].bias, model[1].weight])
        >>> [layer.name for layer in own]
        ['1']
    """

    def __init__(self) -> None:
        self._known: dict[Layer, tuple[list[nn.Parameter], dict[int, Key]]] = {}

    def of(self, regularizer: AnyRegularizer, parameters: Iterable[Tensor]) -> dict[Layer, set[Key]]:
        """The regularized layers whose weights are computed from any of the parameters, and from which of them."""
        layers, owned = regularizer.layers, set(map(id, parameters))
        stale = [layer for layer in layers if not self._is_known(layer)]
        if stale:
            parts = (part for part in regularizer.modules() if isinstance(part, Regularizer))
            selected = {layer for part in parts for layer in part._attached.layers}  # frozen ones may thaw again
            known = {layer: found for layer, found in self._known.items() if layer in selected}
            self._known = known | {layer: _read(layer) for layer in stale}
        own = {layer: {key for p, key in self._known[layer][1].items() if p in owned} for layer in layers}
        return {layer: keys for layer, keys in own.items() if keys}

    def _is_known(self, layer: Layer) -> bool:
        if layer not in self._known:
            return False
        before, present = self._known[layer][0], layer.parameters
        return len(before) == len(present) and all(p is q for p, q in zip(before, present, strict=True))


def _read(layer: Layer) -> tuple[list[nn.Parameter], dict[int, Key]]:
    """The parameters of a layer's module, and by its id the key of each that the weight is computed from."""
    present = layer.parameters
    places = {id(p): place for place, p in enumerate(present)}
    return present, {id(p): (layer.module, places.get(id(p), id(p))) for p in layer.sources}
