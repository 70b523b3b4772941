"""PyTorch Geometric's convolutions: which of their matrices make the output.

Most convolutions have several. Those that multiply the features of nodes and add up to the output belong together: if
the convolution is a model's last layer, all of them are its output layer. The others make attention, gates, or
messages of edges, and are never the output. In ``SAGEConv``, ``lin_l`` and ``lin_r`` make the output; in ``GATv2Conv``,
``lin_l`` does, and ``lin_r`` makes attention.
"""

from collections.abc import Mapping
from dataclasses import replace
from fnmatch import fnmatchcase

from torch import nn

from comhe.regularizers.branches import Matrix, below

_MAKERS: dict[str, tuple[str, ...]] = {
    "ARMAConv": ("init_weight", "weight", "root_weight"),
    "ChebConv": ("lins.*",),
    "ClusterGCNConv": ("lin_out", "lin_root"),
    "DenseGraphConv": ("lin_rel", "lin_root"),
    "DenseSAGEConv": ("lin_rel", "lin_root"),
    "DirGNNConv": ("conv_in*", "conv_out*", "lin"),
    "EGConv": ("bases_lin",),
    "FeaStConv": ("lin",),
    "FiLMConv": ("lins.*", "lin_skip"),
    "GATConv": ("lin", "lin_src", "res"),
    "GATv2Conv": ("lin_l", "res"),
    "GMMConv": ("", "root"),
    "GeneralConv": ("lin_msg", "lin_msg_i", "lin_self"),
    "GraphConv": ("lin_rel", "lin_root"),
    "GravNetConv": ("lin_out1", "lin_out2"),
    "HANConv": ("proj*",),
    "HGTConv": ("out_lin*",),
    "LEConv": ("lin1", "lin2", "lin3"),
    "MFConv": ("lins_l.*", "lins_r.*"),
    "PDNConv": ("lin",),
    "PNAConv": ("lin",),
    "PointTransformerConv": ("lin",),
    "RGATConv": ("",),
    "RGCNConv": ("", "root"),
    "ResGatedGraphConv": ("lin_value", "lin_skip"),
    "SAGEConv": ("lin_l", "lin_r"),
    "SignedConv": ("lin_pos_*", "lin_neg_*"),
    "SplineConv": ("", "lin"),
    "TAGConv": ("lins.*",),
    "TransformerConv": ("lin_value", "lin_skip"),
}


def makers(module: nn.Module) -> tuple[str, ...]:
    """Globs of the matrices of a convolution that make its output, by their names in it; empty for other modules.

    Example:
        >>> makers(nn.Linear(4, 3))
        ()
    """
    bases = (base.__name__ for base in type(module).__mro__ if base.__module__.startswith("torch_geometric.nn."))
    return next((_MAKERS[name] for name in bases if name in _MAKERS), ())


def placed(matrix: Matrix, convolutions: Mapping[str, tuple[str, ...]]) -> Matrix:
    """The matrix with its part in the convolutions that it is in, given by their names and those of :func:`makers`.

    Example:
        >>> conv = {"conv": ("lin_l", "res")}
        >>> names = ("conv.lin_l", "conv.lin_r", "fc")
        >>> [(m.group, m.role) for m in (placed(Matrix(n, frozenset(), frozenset()), conv) for n in names)]
        [('conv', 'layer'), (None, 'inner'), (None, 'layer')]
    """
    around = [name for name in convolutions if below(matrix.name, name)]  # the outermost one first
    for name in around:
        within = matrix.name[len(name) :].removeprefix(".")
        if not any(fnmatchcase(within, glob) for glob in convolutions[name]):
            return replace(matrix, role="inner")
    return replace(matrix, group=around[0]) if around else matrix
