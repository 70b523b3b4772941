"""The node sets of the Open Graph Benchmark, by its own loader (``pip install 'comhe[ogb]'``).

Source: Hu et al., Open Graph Benchmark: Datasets for Machine Learning on Graphs, NeurIPS 2020, ogb.stanford.edu.
"""

from functools import partial
from pathlib import Path

from comhe.datasets.registry import register_dataset
from comhe.errors import DataError, needs

from .graph import Graph

LICENSES = {"ogbn-arxiv": "ODC-BY 1.0", "ogbn-products": "Amazon's license, see ogb.stanford.edu"}


def load_ogb(name: str, root: Path) -> Graph:
    """Load ROOT/<set> with OGB's split, after OGB has downloaded it. Edges go both ways, as in OGB's own baselines."""
    with needs("ogb", name):
        from ogb.nodeproppred import NodePropPredDataset
    try:
        data = NodePropPredDataset(name=name, root=str(root))
        (graph, labels), split = data[0], data.get_idx_split()
    except Exception as error:  # of ogb, of pandas and of the network
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise DataError(f"{name}: OGB's loader failed in {root}: {reason}") from error
    fields = {"x": graph["node_feat"], "edge_index": graph["edge_index"], "y": labels}
    fields |= {"train": split["train"], "val": split["valid"], "test": split["test"]}
    return Graph.from_fields(name, fields, "ogb.stanford.edu", undirected=True)


ABOUT = {
    "ogbn-arxiv": "OGB: 169,343 papers with 128 features, 40 classes (extra ogb)",
    "ogbn-products": "OGB: 2,449,029 products with 100 features, 47 classes (extra ogb)",
}

for _name, _license in LICENSES.items():
    register_dataset(_name, "graphs", partial(load_ogb, _name), license=_license, about=ABOUT[_name])
