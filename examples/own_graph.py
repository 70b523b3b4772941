"""PyTorch Geometric: a network and a graph of one's own: `python examples/own_graph.py`.

Replace `communities()` by your `Data`, and `Net` by your module.
"""

import torch
from torch import nn
from torch.nn import functional as F
from torch_geometric.data import Data
from torch_geometric.nn import GCNConv
from torch_geometric.utils import to_undirected

from comhe.regularizers import create_regularizer


def communities(nodes: int = 300, classes: int = 3, features: int = 32) -> Data:
    """A graph whose nodes have most of their neighbors in their own class, and noisy features; ten labels a class."""
    draw = torch.Generator().manual_seed(0)
    y = torch.arange(nodes) % classes
    pairs = torch.combinations(torch.arange(nodes))
    chance = torch.where(y[pairs[:, 0]] == y[pairs[:, 1]], 0.05, 0.01)
    edges = pairs[torch.rand(len(pairs), generator=draw) < chance].T
    centers = torch.randn(classes, features, generator=draw)
    x = centers[y] + 3 * torch.randn(nodes, features, generator=draw)
    order = torch.arange(nodes)
    train, val = order < 10 * classes, (order >= 10 * classes) & (order < 100)
    return Data(x=x, y=y, edge_index=to_undirected(edges), train_mask=train, val_mask=val, test_mask=order >= 100)


class Net(nn.Module):
    """Two graph convolutions."""

    def __init__(self, features: int, classes: int, width: int = 16) -> None:
        super().__init__()
        self.conv1 = GCNConv(features, width)
        self.conv2 = GCNConv(width, classes)

    def forward(self, x: torch.Tensor, edge_index: torch.Tensor) -> torch.Tensor:
        x = F.dropout(F.relu(self.conv1(x, edge_index)), 0.5, self.training)
        return self.conv2(x, edge_index)


def main(epochs: int = 100) -> dict[str, float]:
    """Train, and return accuracies of the epoch that the validation nodes choose; the test nodes choose nothing."""
    torch.manual_seed(0)
    data = communities()
    model = Net(data.num_features, int(data.y.max()) + 1)
    regularizer = create_regularizer("hs-mhe", model, weight=1.0, output_weight=1.0)
    print(regularizer.report())
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01, weight_decay=5e-4)
    best = {"val": -1.0, "test": -1.0}
    for _ in range(epochs):
        model.train()
        logits = model(data.x, data.edge_index)
        loss = F.cross_entropy(logits[data.train_mask], data.y[data.train_mask]) + regularizer()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        model.eval()
        with torch.no_grad():
            hits = (model(data.x, data.edge_index).argmax(1) == data.y).float()
        found = {split: 100 * hits[data[f"{split}_mask"]].mean().item() for split in best}
        best = found if found["val"] > best["val"] else best
    print(f"validation {best['val']:.1f} %, test {best['test']:.1f} %")
    return best


if __name__ == "__main__":
    main()
