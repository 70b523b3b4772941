"""Heads that a layer averages or sums are sets of their own; heads that it concatenates are one set.

A channel of the output is the mean of one neuron of each head. These neurons do the same work, and training aligns
them: in GAT on PubMed, whose eight output heads are averaged, the neurons of a class have a mean cosine of 0.98. A
penalty on all heads as one set would drive them apart, and the class with them.
"""

from dataclasses import dataclass

from torch import Tensor, nn

from .computed import attribute

_ALWAYS = ("EGConv", "FeaStConv", "GeneralConv")  # these have no choice


@dataclass(frozen=True)
class Heads:
    """Takes a matrix ``[..., heads * out, in]`` as ``[..., heads, out, in]``.

    Example:
        >>> Heads(8)(nn.Linear(64, 24).weight).shape
        torch.Size([8, 3, 64])
    """

    number: int

    def __call__(self, w: Tensor) -> Tensor:
        return w.unflatten(-2, (self.number, -1))


def averaged(owner: nn.Module, rows: int) -> Heads | None:
    """The heads of a matrix with so many rows, if the module that owns it averages them: ``concat=False``.

    The owner has ``heads`` and ``out_channels``, as the convolutions of PyTorch Geometric do. A matrix may hold some of
    the heads, as a block does.

    Example:
        >>> class Conv(nn.Module):
        ...     heads, out_channels, concat = 8, 3, False
        >>> averaged(Conv(), rows=24)
        Heads(number=8)
    """
    heads, channels = attribute(owner, "heads"), attribute(owner, "out_channels")
    if isinstance(bases := attribute(owner, "num_bases"), int) and isinstance(channels, int) and heads is None:
        heads, channels = bases, channels // (attribute(owner, "num_heads") or 1)  # of EGConv, which adds them up
    if not isinstance(heads, int) or not isinstance(channels, int) or heads < 2 or channels < 1:
        return None
    number, rest = divmod(rows, channels)
    if rest or number < 2 or heads % number:
        return None
    always = any(base.__name__ in _ALWAYS for base in type(owner).__mro__)
    return Heads(number) if always or attribute(owner, "concat") is False else None
