"""What several tests of graph networks use."""

import pytest
import torch

from comhe.zoo import create_model

NODES, FEATURES, CLASSES = 60, 30, 4


@pytest.fixture
def graph():
    """Sparse features [60, 30] as a dense tensor, and an undirected edge_index with an isolated last node."""
    g = torch.Generator().manual_seed(0)
    x = torch.rand(NODES, FEATURES, generator=g) * (torch.rand(NODES, FEATURES, generator=g) < 0.2)
    half = torch.randint(NODES - 1, (2, 70), generator=g)
    half = half[:, half[0] != half[1]]
    return x, torch.cat([half, half.flip(0)], 1).unique(dim=1)


def build(name, **kwargs):
    torch.manual_seed(0)
    model = create_model(name, in_channels=FEATURES, num_classes=CLASSES, **kwargs)
    with torch.no_grad():  # zero biases would hide a bias that is not added
        for p in model.parameters():
            if p.ndim == 1:
                p.uniform_(-0.5, 0.5)
    return model


def random_sparse(rows, columns, density=0.3, dtype=torch.float64, seed=0):
    g = torch.Generator().manual_seed(seed)
    dense = torch.randn(rows, columns, generator=g, dtype=dtype)
    return dense * (torch.rand(rows, columns, generator=g) < density)


def random_graph(num_nodes=40, edges=60, seed=0):
    g = torch.Generator().manual_seed(seed)
    half = torch.randint(num_nodes, (2, edges), generator=g)
    return torch.cat([half, half.flip(0)], 1).unique(dim=1)
