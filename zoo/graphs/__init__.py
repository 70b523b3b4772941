"""Graph networks, and the sparse operators they run on."""

from comhe.errors import needs

with needs("zoo", __name__, "torch_geometric"):  # imported with the first network
    from .appnp import APPNP
    from .edges import EdgeMatrix
    from .gat import GAT
    from .gcn import GCN
    from .gcn2 import GCN2
    from .model import GraphModel, prepare_graph
    from .operators import Operators, gcn_norm, mean_norm, receptive_field
    from .sage import SAGE
    from .sparse import SparseMatrix

__all__ = [
    "APPNP",
    "GAT",
    "GCN",
    "GCN2",
    "SAGE",
    "EdgeMatrix",
    "GraphModel",
    "Operators",
    "SparseMatrix",
    "gcn_norm",
    "mean_norm",
    "prepare_graph",
    "receptive_field",
]  # fmt: skip
