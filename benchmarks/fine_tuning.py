"""Fine-tuning and training from scratch on small sets, one in each domain.

    python -m benchmarks.fine_tuning --out benchmarks/fine_tuning.csv

Images: airbench94 of CIFAR-100, on 20 images of each class of CIFAR-10. Points: PointNet of ModelNet-40, on 5 clouds of
each class of the built-in solids. Graphs: the GCN of one half of PubMed, on 3 labeled nodes of each class of the other
half. Both ways have the same epochs and the same two learning rates, between which validation accuracy chooses.
"""

from __future__ import annotations

import argparse
import tempfile
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from comhe.datasets import Clouds, Graph, Images, load_graph, load_images, load_points, register_dataset
from comhe.train import fit, get_recipe
from comhe.train.compare.statistics import paired

from .output import save

SIZES = {"train": 20, "val": 20, "test": 100}  # images of each class
HALF = 300  # nodes of PubMed that the network of the first half learns from, and as many for its validation and test


def few(labels: Tensor, each: int, draw: int) -> Tensor:
    """Numbers of ``each`` samples of every class, or of all that there are."""
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(draw))
    return torch.cat([order[labels[order] == label][:each] for label in range(int(labels.max()) + 1)])


@register_dataset("cifar10-few", "images")
def few_images(root: Path) -> Images:
    data: Any = load_images("cifar10", root)
    splits = {}
    for draw, (name, each) in enumerate(SIZES.items()):
        split = data.get_split(name)
        index = few(split.labels, each, draw)
        splits[name] = (split.pixels[index], split.labels[index])
    return Images.from_arrays("cifar10-few", **splits, classes=data.classes)


@register_dataset("solids-few", "points")
def few_clouds() -> Clouds:
    data = load_points("solids")
    splits = {}
    for name, each in (("train", 5), ("val", 5), ("test", 84)):
        split = data.get_split(name)
        index = few(split.labels, each, 0)
        splits[name] = (split.points[index], split.labels[index])
    return Clouds.from_arrays("solids-few", **splits, classes=data.classes, up=data.up)


def half_of_pubmed(name: str, root: Path, which: int, train: int) -> Graph:
    """One of two halves of the nodes, without links between them; ``train`` nodes of each class are labeled."""
    full = load_graph("pubmed", root)
    side = torch.randperm(full.num_nodes, generator=torch.Generator().manual_seed(0)) % 2 == which
    nodes = side.nonzero()[:, 0]
    number = torch.full((full.num_nodes,), -1).index_copy_(0, nodes, torch.arange(len(nodes)))
    edges = number[full.edge_index]
    labels = full.labels[nodes]
    labeled = few(labels, train, 1)
    rest = torch.ones(len(nodes), dtype=torch.bool).index_fill_(0, labeled, False).nonzero()[:, 0]
    rest = rest[torch.randperm(len(rest), generator=torch.Generator().manual_seed(2))]
    features = full.features.to_dense()[nodes]
    split = {"train": labeled, "val": rest[:HALF], "test": rest[HALF : HALF + 1000]}
    return Graph.from_arrays(name, features.numpy(), edges[:, (edges >= 0).all(0)], labels, **split)


@register_dataset("pubmed-first", "graphs")
def first_half(root: Path) -> Graph:
    return half_of_pubmed("pubmed-first", root, 0, HALF)


@register_dataset("pubmed-second", "graphs")
def second_half(root: Path) -> Graph:
    return half_of_pubmed("pubmed-second", root, 1, 3)


IMAGES: dict[str, Any] = {"epochs": 20, "batch_size": 50, "precision": "fp32"}
POINTS: dict[str, Any] = {"epochs": 30, "batch_size": 20}
CASES: dict[str, tuple[str, str, str, str, dict[str, Any], tuple[float, float]]] = {
    "images": ("short", "airbench94", "cifar10-few", "airbench94.cifar100-none", IMAGES, (0.1, 0.01)),
    "points": ("short", "pointnet", "solids-few", "pointnet.modelnet40-none", POINTS, (1e-3, 1e-4)),
    "graphs": ("kipf", "gcn", "pubmed-second", "", {"epochs": 100}, (0.01, 0.001)),
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--root", default=None, help="folder of the data sets, by default $COMHE_DATA")
    parser.add_argument("--runs", type=Path, default=None, help="folder of runs; those that it has are not repeated")
    flags = parser.parse_args()
    rows: list[dict[str, Any]] = []
    with nullcontext(flags.runs) if flags.runs else tempfile.TemporaryDirectory() as folder:
        first = get_recipe("kipf", "gcn", "pubmed-first", "none")
        pretrained = fit(first, runs=folder, root=flags.root).folder
        for domain, (name, model, data, weights, settings, rates) in CASES.items():
            for seed in range(flags.seeds):
                for way in ("scratch", "fine-tuned"):
                    start = {"weights": weights or str(pretrained), "swap_head": True} if way == "fine-tuned" else {}
                    recipes = [
                        get_recipe(name, model, data, "none", **settings, **start, lr=lr, seed=seed) for lr in rates
                    ]
                    found = [fit(recipe, runs=folder, root=flags.root).result()["best"] for recipe in recipes]
                    best = max(range(len(rates)), key=lambda i: (found[i]["val_accuracy"], -found[i]["val_loss"]))
                    rows.append(
                        {"domain": domain, "model": model, "data": data, "way": way, "seed": seed, "lr": rates[best]}
                        | {f"{split}_accuracy": found[best][f"{split}_accuracy"] for split in ("val", "test")}
                    )
            figures = {
                way: [100 * row["test_accuracy"] for row in rows if (row["domain"], row["way"]) == (domain, way)]
                for way in ("scratch", "fine-tuned")
            }
            print(domain, paired(figures["scratch"], figures["fine-tuned"]), flush=True)
    save(flags.out, rows)


if __name__ == "__main__":
    main()
