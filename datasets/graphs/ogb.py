"""The node sets of the Open Graph Benchmark, by its own loader (``pip install 'comhe[ogb]'``).

Source: Hu et al., Open Graph Benchmark: Datasets for Machine Learning on Graphs, NeurIPS 2020, ogb.stanford.edu.
"""

from functools import partial
from pathlib import Path

from comhe.datasets.registry import register_dataset
from comhe.errors import DataError, needs
from comhe.inputs.checkpoints import open_checkpoint
from comhe.inputs.pickles import Unreadable

from .graph import Graph

LICENSES = {"ogbn-arxiv": "ODC-BY 1.0", "ogbn-products": "Amazon's license, see ogb.stanford.edu"}


def load_ogb(name: str, root: Path) -> Graph:
    """Load ROOT/<set> with OGB's split, after OGB has downloaded it. Edges go both ways, as in OGB's own baselines."""
    with needs("ogb", name):
        from ogb.nodeproppred import NodePropPredDataset

    class Nodes(NodePropPredDataset):
        """OGB 1.3.6 reads what it wrote by torch.load, which takes no arrays of NumPy since torch 2.6."""

        def pre_process(self) -> None:
            written = Path(self.root, "processed", "data_processed")
            if not written.is_file():
                return super().pre_process()
            try:
                checkpoint = open_checkpoint(written)
                graph = {key: checkpoint.array(value) for key, value in checkpoint.content["graph"].items()}
                self.graph, self.labels = graph, checkpoint.array(checkpoint.content["labels"])
            except (Unreadable, LookupError, TypeError, AttributeError) as error:
                reason = f"not what OGB writes, or damaged ({error})"
                raise DataError(f"{written}: {reason}; move it away, and OGB makes it again") from error

    try:
        data = Nodes(name=name, root=str(root))
        (graph, labels), split = data[0], data.get_idx_split()
    except DataError:
        raise
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
