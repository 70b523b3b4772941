"""Graph convolutional networks in the layouts of others."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch_geometric.nn import GCNConv

from comhe.zoo import create_model, load_weights


class PyG(nn.Module):
    """PyTorch Geometric's usual example."""

    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = GCNConv(6, 5), GCNConv(5, 3)

    def forward(self, x, edge_index):
        return self.conv2(F.relu(self.conv1(x, edge_index)), edge_index)


LAYOUTS = {
    "example": lambda state: state,
    "old example": lambda state: {
        key.replace(".lin", ""): value.t() if "lin" in key else value for key, value in state.items()
    },
    "old models.GCN": lambda state: {
        key.replace(".lin", "").replace("conv1", "convs.0").replace("conv2", "convs.1"): value.t()
        if "lin" in key
        else value
        for key, value in state.items()
    },
    "pygcn": lambda state: {
        key.replace(".lin", "").replace("conv", "gc"): value.t() if "lin" in key else value
        for key, value in state.items()
    },
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_graph_convolutional_networks(layout):
    torch.manual_seed(0)
    theirs = PyG().eval()
    for conv in (theirs.conv1, theirs.conv2):
        nn.init.uniform_(conv.bias)
    model = create_model("gcn", num_classes=3, **SIZES).eval()
    done = load_weights(model, LAYOUTS[layout](theirs.state_dict()))
    assert len(done.loaded) == 4
    x, edges = torch.rand(8, 6), torch.randint(8, (2, 20))
    torch.testing.assert_close(model(x, edges), theirs(x, edges))
    with pytest.raises(ValueError, match=r"for 3 classes, this GCN has 4"):
        load_weights(create_model("gcn", num_classes=4, **SIZES), LAYOUTS[layout](theirs.state_dict()))


SIZES = {"in_channels": 6, "hidden_channels": 5}
