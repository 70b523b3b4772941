"""What attention modules say of their fused projections: how many rows of which part, in which order.

Most put all queries first, then all keys and all values. Others repeat a block with a few rows of each: for each head
(BLOOM, GPT-NeoX, LeViT, ...), or for each group of query heads that share their keys and values (Falcon). Classes are
known by name, as nothing of other libraries is imported.
"""

from collections.abc import Callable
from typing import Any

from torch import nn

from .computed import attribute

# The parts of a fused projection by its name, in order.
PROJECTIONS = dict.fromkeys(
    ("qkv", "to_qkv", "Wqkv", "wqkv", "qkv_proj", "in_proj_qkv", "attn_qkv", "w_qkv", "qkv_conv", "qkvs", "qkv_linear"),
    "qkv",
)
PROJECTIONS |= dict.fromkeys(("query_key_value", "queries_keys_values", "W_pack", "c_attn", "in_proj"), "qkv")
PROJECTIONS |= {"att_proj": "qkv", "pwise": "qkv", "kqv_lin": "kqv", "linear_qkv": "qkv"}
PROJECTIONS |= {"in_proj_qkvz": "qkvz", "qkv_opreact": "qkvo"}
PROJECTIONS |= dict.fromkeys(("kv", "to_kv", "Wkv", "wkv", "kv_proj", "key_value", "keys_values", "kv_b_proj"), "kv")
PROJECTIONS |= {"qk": "qk", "to_qk": "qk"}
PROJECTIONS |= dict.fromkeys(("to_added_qkv", "img_attn_qkv", "txt_attn_qkv", "img_qkv_proj"), "qkv")  # diffusers
PROJECTIONS |= dict.fromkeys(("to_added_kv", "kv_linear", "txt_kv_proj", "emb_to_key_value"), "kv")  # and torchaudio

HEADS: tuple[str, ...] = ("num_heads", "num_attention_heads", "n_heads", "n_head", "num_q_heads")
KEY_VALUE_HEADS: tuple[str, ...] = ("num_key_value_heads", "num_kv_heads", "kv_heads", "n_kv_heads", "n_kv_head")
KEY_VALUE_HEADS += ("num_heads_kv", "n_local_heads", "n_query_groups", "num_query_groups", "n_head_kv")
HEAD_DIM: tuple[str, ...] = (
    "head_dim",
    "head_size",
    "dim_head",
    "attention_head_size",
    "d_head",
    "hidden_size_per_head",
)

# Classes that repeat a block for each group of heads: its queries, then its key and its value.
_GROUPED = (
    "BloomAttention",
    "DisentangledSelfAttention",
    "FalconAttention",
    "GPTBigCodeAttention",
    "GPTNeoXAttention",
    "GPTNeoXJapaneseAttention",
    "InternLM2Attention",
    "MiniMaxLightningAttention",
    "PersimmonAttention",
)


def _equal(size: int) -> tuple[int, ...]:
    return (size,) * 3


def _delta_net(net: Any) -> tuple[int, ...]:
    values = net.num_v_heads // net.num_k_heads * net.head_v_dim
    return net.head_k_dim, net.head_k_dim, values, values


# One block of the other classes that are not plain.
_BLOCKS: dict[str, Callable[[Any], tuple[int, ...] | None]] = {
    "AAttn": lambda a: _equal(a.head_dim),
    "Attention2d": lambda a: _equal(a.dim_head) if a.head_first else None,
    "AttentionCl": lambda a: _equal(a.dim_head) if a.head_first else None,
    "BottleneckAttn": lambda a: (a.dim_out_qk, a.dim_out_qk, a.dim_out_v),
    "CodeGenAttention": lambda a: _equal(a.embed_dim // getattr(a, "mp_num", 4)),  # trained on four devices
    "ConvAttention": lambda a: _equal(a.head_dim),
    "DiffParallelScalingBlock": lambda a: tuple(a.in_split),
    "HaloAttn": lambda a: (a.dim_head_qk, a.dim_head_v),
    "LambdaLayer": lambda a: (a.num_heads * a.dim_qk, a.dim_qk, a.dim_v),
    "LevitAttention": lambda a: (a.key_dim, a.key_dim, a.attention_ratio * a.key_dim),
    "LevitAttentionSubsample": lambda a: (a.key_dim, a.attention_ratio * a.key_dim),
    "LinearSelfAttention": lambda a: (1, a.embed_dim, a.embed_dim),
    "LiteMLA": lambda a: _equal(a.dim),
    "MobileViTV2LinearSelfAttention": lambda a: (1, a.embed_dim, a.embed_dim),
    "ParallelScalingBlock": lambda a: tuple(a.in_split),
    "SHSA": lambda a: (a.qk_dim, a.qk_dim, a.pdim),
}
# One block of any class that tells these numbers, by the projection's name.
_TELLING: dict[str, Callable[[Any], tuple[int, ...] | None]] = {
    "in_proj_qkv": lambda a: (a.key_dim, a.key_dim, a.value_dim),
    "in_proj_qkvz": _delta_net,
    "kv": lambda a: (a.key_dim, a.val_dim),
    "kv_b_proj": lambda a: (a.qk_nope_head_dim, a.v_head_dim),
    "qkv": lambda a: (a.key_dim, a.key_dim, a.val_dim if hasattr(a, "val_dim") else a.head_dim),
    "qkv_opreact": lambda a: (a.qk_dim, a.qk_dim, a.v_dim, a.v_dim),
    "qkvs": lambda a: (a.key_dim, a.key_dim, a.val_dim),
}


def block_sizes(attention: Any, projection: str, rows: int) -> tuple[int, ...] | None:
    """How many rows of each part one block of the projection has; None if neither its class nor its numbers tell.

    Example:
        >>> class FalconAttention(nn.Module):
        ...     num_heads, num_kv_heads = 8, 2
        >>> block_sizes(FalconAttention(), "query_key_value", rows=192)
        (64, 16, 16)
    """
    classes = [base.__name__ for base in type(attention).__mro__]
    for rule in (*(_BLOCKS.get(name) for name in classes), _TELLING.get(projection)):
        try:
            sizes = None if rule is None else rule(attention)
        except (AttributeError, TypeError):  # another class of this name
            continue
        if sizes is not None:
            return sizes
    heads, head_dim = told(attention, HEADS), told(attention, HEAD_DIM)
    for groups in (told(attention, KEY_VALUE_HEADS), heads) if any(name in _GROUPED for name in classes) else ():
        if heads and groups:
            size = head_dim or rows // (heads + 2 * groups)
            if (heads + 2 * groups) * size == rows:
                return heads // groups * size, size, size
    return None


def told(attention: nn.Module, names: tuple[str, ...]) -> int | None:
    """The first of these numbers that a module has, or else its configuration.

    Example:
        >>> class Attention(nn.Module):
        ...     n_head = 4
        >>> told(Attention(), HEADS)
        4
    """
    config = attribute(attention, "config")
    numbers = [attribute(attention, name) for name in names] + [getattr(config, name, None) for name in names]
    return next((number for number in numbers if isinstance(number, int) and not isinstance(number, bool)), None)
