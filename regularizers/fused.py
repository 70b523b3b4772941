"""Queries, keys and values in one projection are sets of their own: whether a layer is such a projection, and how.

A layer counts as fused by its name or that of a module that wraps it (``qkv``, ``Wqkv``, ``c_attn``, ``kv``, ...). The
attention that owns it says which rows are whose: by its class (:mod:`.fused_orders`), else by its numbers of heads,
else by its shape, if that is three times the inputs of the output projection (two times for ``kv`` and ``qk``). Parts
of equal sizes are the sets of one layer; others, as grouped queries have them, are layers: ``qkv_proj.q``.

Where the attention does not tell, the matrix is regularized as one set, and the report says so.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from .computed import attribute, walk
from .fused_orders import HEAD_DIM, HEADS, KEY_VALUE_HEADS, PROJECTIONS, block_sizes, told
from .heads import Heads, averaged

_OUTPUTS = (
    "proj",
    "out_proj",
    "o_proj",
    "c_proj",
    "attn_out",
    "to_out",
    "out",
    "out_lin",
    "dense",
    "wo",
    "merge",
    "Wo",
)
_OTHERS_TOO = ("in_proj", "pwise")  # names that modules other than attentions have, too
_QUERIES = ("q", "q_attn", "q_proj", "to_q", "query", "q_lin", "Wq", "wq")


@dataclass(frozen=True)
class Fused:
    """Which rows of a fused projection are a layer: in each of ``blocks`` as many of each part as ``sizes`` says.

    Without ``index`` the parts are of equal sizes, and each is a set; else the layer is this part alone.

    Example:
        >>> w = nn.Linear(4, 12).weight
        >>> Fused((4, 4, 4))(w).shape, Fused((4, 1, 1), blocks=2, index=0)(w).shape
        (torch.Size([3, 4, 4]), torch.Size([8, 4]))
    """

    sizes: tuple[int, ...]
    blocks: int = 1
    index: int | None = None

    def __call__(self, w: Tensor) -> Tensor:
        blocks = w.unflatten(0, (self.blocks, -1))
        if self.index is None:
            return blocks.unflatten(1, (len(self.sizes), -1)).transpose(0, 1).flatten(1, 2)
        return blocks.narrow(1, sum(self.sizes[: self.index]), self.sizes[self.index]).flatten(0, 1)


@dataclass(frozen=True)
class Split:
    """The layers of a projection by what is added to its name, and what a report says of a projection that is one."""

    layers: Mapping[str, Fused | Heads | None]
    note: str = ""


WHOLE = Split({"": None})


def split(name: str, modules: Mapping[str, nn.Module], w: Tensor) -> Split:
    """How the layer ``name``, one of a model's ``modules``, is taken apart, given its view ``w``.

    Example:
        >>> attention = nn.ModuleDict({"qkv": nn.Linear(4, 12), "proj": nn.Linear(4, 8)})
        >>> split("qkv", dict(attention.named_modules()), attention["qkv"].weight).layers
        {'': Fused(sizes=(4, 4, 4), blocks=1, index=None)}
    """
    owner = modules.get(name.rpartition(".")[0])
    if owner is not None and w.dim() == 2 and (heads := averaged(owner, w.shape[0])):
        return Split({"": heads})
    path = name.split(".")
    place = next((place for place in (-1, -2, -3) if -place <= len(path) and path[place] in PROJECTIONS), 0)
    if not place or w.dim() != 2:
        return WHOLE
    attention, parts = modules[".".join(path[:place])], PROJECTIONS[path[place]]
    rows, unit = w.shape[0], _inner(attention) or w.shape[1]
    sizes = block_sizes(attention, path[place], rows)
    if sizes is None and path[place] in _OTHERS_TOO and "ttention" not in type(attention).__name__:
        return WHOLE
    if sizes is None or rows % sum(sizes):
        sizes = _by_heads(attention, parts, rows, unit) if sizes is None else ()
    if not sizes:
        return Split({"": None}, _untold(attention, w)) if rows > unit else WHOLE
    blocks = rows // sum(sizes)
    if len(set(sizes)) == 1:
        return Split({"": Fused(sizes, blocks)})
    names = parts if len(parts) == len(sizes) else ("mlp", *parts)  # which some blocks have in the same matrix
    return Split({f".{part}": Fused(sizes, blocks, index) for index, part in enumerate(names)})


def _by_heads(attention: Any, parts: str, rows: int, unit: int) -> tuple[int, ...]:
    """Sizes of parts that follow one another: as the numbers of heads say, else equal ones; empty if unknown."""
    heads, key_value_heads = told(attention, HEADS), told(attention, KEY_VALUE_HEADS)
    if heads and key_value_heads and key_value_heads != heads:
        number = {"q": heads, "k": key_value_heads, "v": key_value_heads}
        head_dim = told(attention, HEAD_DIM) or unit // heads
        sizes = tuple(number[part] * head_dim for part in parts)
        return sizes if sum(sizes) == rows else ()
    if len(parts) == 3 and rows == 2 * unit and _is_cross(attention):
        return unit, unit
    return (unit,) * len(parts) if rows == len(parts) * unit else ()


def _is_cross(attention: Any) -> bool:
    """Whether the queries come from elsewhere, so that the projection has keys and values alone."""
    flagged = any(attribute(attention, name) is True for name in ("is_cross_attention", "use_global"))
    return flagged or any(isinstance(attribute(attention, name), nn.Module) for name in _QUERIES)


def _untold(attention: nn.Module, w: Tensor) -> str:
    kind = type(attention).__name__
    return (
        f"regularized as one set: {kind} does not tell which of its {w.shape[0]} rows are queries, keys and values; "
        f"add a view of {kind} that takes them apart with register_neurons"
    )


def _inner(parent: nn.Module) -> int | None:
    """The width of what the attention's heads give together: the inputs of its output projection."""
    for name in _OUTPUTS:
        for module in _first(attribute(parent, name)):
            for size in ("in_features", "in_channels", "nx"):
                if isinstance(width := attribute(module, size), int):
                    return width
            if type(module).__name__ == "Conv1D" and isinstance(w := attribute(module, "weight"), Tensor):
                return w.shape[0]
    return None


def _first(module: object) -> Iterator[nn.Module]:
    yield from (m for _, m in walk(module)) if isinstance(module, nn.Module) else ()
