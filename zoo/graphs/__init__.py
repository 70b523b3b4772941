"""Graph networks, and the sparse operators they run on."""

import warnings

with warnings.catch_warnings():  # its imports warn of torch.jit, which is no concern of a user of ours
    warnings.simplefilter("ignore", FutureWarning)
    import torch_geometric.nn  # noqa: F401

from .appnp import APPNP
from .gat import GAT
from .gcn import GCN
from .gcn2 import GCN2
from .operators import GraphModel, Operators, gcn_norm, mean_norm, receptive_field
from .sage import SAGE
from .sparse import SparseMatrix

__all__ = [
    "APPNP",
    "GAT",
    "GCN",
    "GCN2",
    "SAGE",
    "GraphModel",
    "Operators",
    "SparseMatrix",
    "gcn_norm",
    "mean_norm",
    "receptive_field",
]
