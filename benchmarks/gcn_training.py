"""200 epochs of a GCN on a citation graph: the zoo's sparse engine beside the same training written in plain PyG.

    python -m benchmarks.gcn_training --data-root DATA --out benchmarks/gcn_training.csv

Every epoch is one training step and the accuracy on val and test. The clock runs from the loaded graph to the last
accuracy, so preparing operators is paid for. Implementations take turns within each repeat, whose number is the seed;
ratios are medians of the ratios within repeats.

    comhe       sparse features and dropout, receptive fields, fused Adam
    pyg         dense features, GCNConv, default Adam, full forward: PyG's introduction by example
    pyg-cached  the same with GCNConv(cached=True), which normalizes the adjacency once
"""

from __future__ import annotations

import argparse
import csv
import platform
import statistics
import time
from pathlib import Path

import torch
from torch.nn import functional as F
from torch_geometric.nn import GCNConv

from comhe.datasets import load_graph
from comhe.train.runs.run import processor
from comhe.zoo import create_model
from comhe.zoo.graphs import SparseMatrix

LR, WEIGHT_DECAY, DROPOUT, HIDDEN = 0.01, 5e-4, 0.5, 16


def train_comhe(graph, epochs: int) -> tuple[float, float]:
    model = create_model("gcn", in_channels=graph.features.shape[1], num_classes=graph.num_classes)
    groups = [
        {"params": model.convs[0].parameters(), "weight_decay": WEIGHT_DECAY},
        {"params": model.convs[1].parameters()},
    ]
    optimizer = torch.optim.Adam(groups, lr=LR, fused=True)
    features = SparseMatrix.from_torch(graph.features)
    step_view = model.prepare(graph.edge_index, graph.num_nodes, nodes=graph.train)
    held_out = torch.cat([graph.val, graph.test])  # one forward evaluates both
    eval_view = model.prepare(graph.edge_index, graph.num_nodes, nodes=held_out)
    step_x, eval_x = step_view.inputs(features), eval_view.inputs(features)
    step_y, eval_y = graph.labels[graph.train], graph.labels[held_out]
    for _ in range(epochs):
        model.train()
        optimizer.zero_grad()
        F.cross_entropy(model(step_x, step_view), step_y).backward()
        optimizer.step()
        model.eval()
        with torch.no_grad():
            correct = (model(eval_x, eval_view).argmax(1) == eval_y).float()
            val, test = (part.mean().item() for part in correct.split([len(graph.val), len(graph.test)]))
    return val, test


class PlainGCN(torch.nn.Module):
    def __init__(self, in_channels: int, num_classes: int, cached: bool):
        super().__init__()
        self.conv1 = GCNConv(in_channels, HIDDEN, cached=cached)
        self.conv2 = GCNConv(HIDDEN, num_classes, cached=cached)

    def forward(self, x: torch.Tensor, edge_index: torch.Tensor) -> torch.Tensor:
        x = F.dropout(x, DROPOUT, self.training)
        x = F.relu(self.conv1(x, edge_index))
        x = F.dropout(x, DROPOUT, self.training)
        return self.conv2(x, edge_index)


def train_pyg(graph, epochs: int, cached: bool = False) -> tuple[float, float]:
    x = graph.features.to_dense()
    model = PlainGCN(x.shape[1], graph.num_classes, cached)
    groups = [{"params": model.conv1.parameters(), "weight_decay": WEIGHT_DECAY}, {"params": model.conv2.parameters()}]
    optimizer = torch.optim.Adam(groups, lr=LR)
    for _ in range(epochs):
        model.train()
        optimizer.zero_grad()
        F.cross_entropy(model(x, graph.edge_index)[graph.train], graph.labels[graph.train]).backward()
        optimizer.step()
        model.eval()
        with torch.no_grad():
            correct = (model(x, graph.edge_index).argmax(1) == graph.labels).float()
            val, test = (correct[part].mean().item() for part in (graph.val, graph.test))
    return val, test


IMPLEMENTATIONS = {
    "comhe": train_comhe,
    "pyg": train_pyg,
    "pyg-cached": lambda graph, epochs: train_pyg(graph, epochs, cached=True),
}


def measure(graph, names: list[str], threads: int, epochs: int, repeats: int) -> list[dict]:
    """One row per run, the implementations taking turns."""
    torch.set_num_threads(threads)
    for name in names:  # outside the clock: lazy imports, thread pools, allocator
        IMPLEMENTATIONS[name](graph, 3)
    rows = []
    for seed in range(repeats):
        for name in names[seed % len(names) :] + names[: seed % len(names)]:
            torch.manual_seed(seed)
            start = time.perf_counter()
            val, test = IMPLEMENTATIONS[name](graph, epochs)
            seconds = time.perf_counter() - start
            row = {"graph": graph.name, "implementation": name, "threads": threads, "epochs": epochs, "seed": seed}
            rows.append({**row, "seconds": round(seconds, 4), "val_accuracy": val, "test_accuracy": test})
    return rows


def summarise(rows: list[dict]) -> None:
    names = list(dict.fromkeys(r["implementation"] for r in rows))
    by_name = {n: sorted((r for r in rows if r["implementation"] == n), key=lambda r: r["seed"]) for n in names}
    for name, runs in by_name.items():
        seconds, accuracy = [r["seconds"] for r in runs], [100 * r["test_accuracy"] for r in runs]
        median, spread = statistics.median(seconds), statistics.stdev(accuracy) if len(accuracy) > 1 else 0.0
        line = f"{runs[0]['graph']:9s} threads {runs[0]['threads']}  {name:11s} {median:7.3f} s (median of {len(runs)})"
        line += f"  {1000 * median / runs[0]['epochs']:8.3f} ms/epoch"
        line += f"  test {statistics.mean(accuracy):.2f} ± {spread:.2f} %"
        if name != "comhe":
            ratios = [r["seconds"] / o["seconds"] for r, o in zip(runs, by_name["comhe"], strict=True)]
            line += f"  {statistics.median(ratios):.1f} x comhe's time ({min(ratios):.1f} to {max(ratios):.1f})"
        print(line, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", default=None, help="folder of the data sets, as load_graph takes it")
    parser.add_argument("--out", type=Path, default=None, help="CSV file to write, one row per run")
    parser.add_argument("--epochs", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()

    default_threads = torch.get_num_threads()
    machine = f"{processor()}, torch {torch.__version__}, {platform.platform()}"
    print(f"{machine}, default threads {default_threads}")
    rows = []
    jobs = [("cora", list(IMPLEMENTATIONS), threads) for threads in sorted({1, default_threads})]
    jobs += [(name, ["comhe"], 1) for name in ("citeseer", "pubmed")]
    for name, implementations, threads in jobs:
        graph = load_graph(name, arguments.data_root)
        done = measure(graph, implementations, threads, arguments.epochs, arguments.repeats)
        summarise(done)
        rows += [{**row, "machine": machine} for row in done]
    if arguments.out is not None:
        with arguments.out.open("w", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        print(f"wrote {arguments.out}")


if __name__ == "__main__":
    main()
