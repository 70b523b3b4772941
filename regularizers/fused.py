"""Queries, keys and values in one projection are sets of their own: whether a layer is such a projection, and how.

A layer counts as fused by its own name (``qkv``, ``Wqkv``, ``c_attn``, ``query_key_value``, ...; ``kv`` for keys and
values alone) together with its shape: it has three times (two times) as many rows as its module's output projection
has inputs, or, where there is none, as it has inputs itself. The rows of the parts follow one another, but in the
classes of ``_INTERLEAVED`` they do so within each head. Parts of unequal size (grouped queries) are not taken apart,
since every network orders them differently, nor are they mixed: such a layer is skipped with its reason.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor, nn

from .neurons import NoNeuronsError

_PARTS = {"qkv": 3, "to_qkv": 3, "Wqkv": 3, "qkv_proj": 3, "in_proj_qkv": 3, "attn_qkv": 3, "w_qkv": 3, "qkv_conv": 3}
_PARTS |= {"query_key_value": 3, "W_pack": 3, "c_attn": 3, "in_proj": 3}
_PARTS |= {"kv": 2, "to_kv": 2, "Wkv": 2, "kv_proj": 2, "key_value": 2}
_OUTPUTS = ("proj", "out_proj", "o_proj", "to_out", "out", "dense", "c_proj", "attn_out", "Wo", "wo", "merge")
# The class of the attention, and the attribute with the number of blocks in which the three parts alternate.
_INTERLEAVED = {
    "BloomAttention": "num_heads",
    "DisentangledSelfAttention": "num_attention_heads",
    "FalconAttention": "num_heads",
    "FalconFlashAttention2": "num_heads",
    "GPTBigCodeAttention": "num_heads",
    "GPTNeoXAttention": "num_attention_heads",
    "GPTNeoXJapaneseAttention": "num_attention_heads",
    "MiniMaxLightningAttention": "num_attention_heads",
    "PersimmonAttention": "num_heads",
}


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


def fused(name: str, parent: nn.Module, w: Tensor) -> Fused | None:
    """The sets of the layer ``name`` (its last part) of ``parent``, whose view is ``w``; None if it is one matrix.

    Raises:
        NoNeuronsError: the parts are not of equal size.

    Example:
        >>> fused("qkv", nn.ModuleDict({"proj": nn.Linear(4, 8)}), nn.Linear(4, 12).weight)
        Fused(parts=3, blocks=1)
    """
    parts = _PARTS.get(name)
    attention = [base.__name__ for base in type(parent).__mro__]
    if parts is None or w.dim() != 2 or (name == "in_proj" and "ttention" not in attention[0]):
        return None
    rows, inner = w.shape[0], _inner(parent)
    if name == "c_attn" and rows == 2 * (inner or w.shape[1]):  # of a cross attention
        parts = 2
    if rows == parts * (inner or w.shape[1]):
        if "CodeGenAttention" in attention:
            return Fused(parts, 4)  # the model was trained on four devices
        heads = [number for cls, number in _INTERLEAVED.items() if cls in attention]
        return Fused(parts, int(getattr(parent, heads[0])) if heads else 1)
    if inner is not None and parts == 3 and rows > inner:
        raise NoNeuronsError(
            f"queries, keys and values in one matrix and of unequal sizes ({rows} rows, of which {inner} would be "
            f"queries); add a view of {attention[0]} that takes them apart with register_neurons"
        )
    return None


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
    yield from module.modules() if isinstance(module, nn.Module) else ()
