"""Queries, keys and values in one projection are sets of their own: whether a layer is such a projection, and how.

A layer counts as fused by its name or that of a module that wraps it (``qkv``, ``Wqkv``, ``c_attn``,
``query_key_value``, ...; ``kv`` and ``qk`` for two of the three) together with its shape: it has three times (two
times) as many rows as the attention's output projection has inputs, or, if there is none, as it has inputs itself. The
rows of the parts follow one another; in BLOOM, GPT-NeoX and the other classes of ``_INTERLEAVED`` they do so within
each head. Parts of unequal sizes (grouped queries) are not taken apart, since every network orders them differently,
nor are they mixed: such a layer is skipped with its reason.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from .computed import walk
from .neurons import NoNeuronsError

_PARTS = {"qkv": 3, "to_qkv": 3, "Wqkv": 3, "qkv_proj": 3, "in_proj_qkv": 3, "attn_qkv": 3, "w_qkv": 3, "qkv_conv": 3}
_PARTS |= {"query_key_value": 3, "W_pack": 3, "c_attn": 3, "in_proj": 3}
_PARTS |= {"kv": 2, "to_kv": 2, "Wkv": 2, "kv_proj": 2, "key_value": 2, "qk": 2, "to_qk": 2}
_PARTS |= {"qkvs": 3, "kqv_lin": 3}
_OUTPUTS = ("proj", "out_proj", "o_proj", "c_proj", "attn_out", "to_out", "out", "out_lin", "dense", "wo", "merge")
_INTERLEAVED = (
    "BloomAttention",
    "DisentangledSelfAttention",
    "FalconAttention",
    "GPTBigCodeAttention",
    "GPTNeoXAttention",
    "GPTNeoXJapaneseAttention",
    "MiniMaxLightningAttention",
    "PersimmonAttention",
)


@dataclass(frozen=True)
class Fused:
    """How the rows of a fused projection are put into sets: ``parts`` of them, alternating within each of ``blocks``.

    Example:
        >>> Fused(parts=3)(nn.Linear(4, 12).weight).shape
        torch.Size([3, 4, 4])
    """

    parts: int
    blocks: int = 1

    def __call__(self, w: Tensor) -> Tensor:
        return w.unflatten(0, (self.blocks, self.parts, -1)).transpose(0, 1).flatten(1, 2)


def fused(name: str, modules: Mapping[str, nn.Module], w: Tensor) -> Fused | None:
    """The sets of the layer ``name``, one of a model's ``modules``, whose view is ``w``; None if it is one matrix.

    Raises:
        NoNeuronsError: the parts are not of equal sizes.

    Example:
        >>> attention = nn.ModuleDict({"qkv": nn.Linear(4, 12), "proj": nn.Linear(4, 8)})
        >>> fused("qkv", dict(attention.named_modules()), attention["qkv"].weight)
        Fused(parts=3, blocks=1)
    """
    path = name.split(".")
    place = next((place for place in (-1, -2, -3) if -place <= len(path) and path[place] in _PARTS), 0)
    if not place or w.dim() != 2:
        return None
    attention, parts = modules[".".join(path[:place])], _PARTS[path[place]]
    classes = [base.__name__ for base in type(attention).__mro__]
    if path[place] == "in_proj" and "ttention" not in classes[0]:
        return None
    rows, inner = w.shape[0], _inner(attention)
    unit = inner or w.shape[1]
    if rows in (parts * unit, 2 * unit):  # queries of a cross attention come from elsewhere
        if "CodeGenAttention" in classes:
            return Fused(parts, 4)  # the released model was trained on four devices
        return Fused(rows // unit, _heads(attention) if any(known in classes for known in _INTERLEAVED) else 1)
    if inner is not None and rows > inner:
        raise NoNeuronsError(
            f"queries, keys and values of unequal sizes in one matrix ({rows} rows, and {inner} inputs of the output "
            f"projection); add a view of {classes[0]} that takes them apart with register_neurons"
        )
    return None


def _heads(attention: nn.Module) -> int:
    for owner in (attention, getattr(attention, "config", None)):
        for name in ("num_heads", "num_attention_heads"):
            if isinstance(heads := getattr(owner, name, None), int):
                return heads
    raise NoNeuronsError(f"{type(attention).__name__} does not tell its number of heads, in which the parts alternate")


def _inner(parent: nn.Module) -> int | None:
    """The width of what the attention's heads give together: the inputs of its output projection."""
    for name in _OUTPUTS:
        for module in _first(getattr(parent, name, None)):
            for attribute in ("in_features", "in_channels", "nx"):
                if isinstance(width := getattr(module, attribute, None), int):
                    return width
            if type(module).__name__ == "Conv1D" and isinstance(w := getattr(module, "weight", None), Tensor):
                return w.shape[0]
    return None


def _first(module: object) -> Iterator[nn.Module]:
    yield from (m for _, m in walk(module)) if isinstance(module, nn.Module) else ()
