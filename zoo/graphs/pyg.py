"""PyTorch Geometric, whose layers hold the parameters of the graph networks."""

import warnings
from functools import cache
from typing import Any


@cache
def pyg_nn() -> Any:
    """Return ``torch_geometric.nn``, imported with the first graph network that is built.

    Its import takes seconds, which neither a list of the models nor a network of another domain should cost.

    Example:
        >>> pyg_nn().Linear(3, 2)
        Linear(3, 2, bias=True)
    """
    with warnings.catch_warnings():  # its imports warn of torch.jit: nothing a user can change
        warnings.simplefilter("ignore", FutureWarning)
        import torch_geometric.nn
    return torch_geometric.nn
