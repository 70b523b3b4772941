"""Train graph networks on citation graphs: ``python -m comhe.train.graphs`` or ``comhe train graphs``."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from comhe.datasets import Graph, load_graph
from comhe.errors import UsageError, check_at_least
from comhe.zoo.preprocessing import GraphTransform

from .choices import chosen
from .engine.batch_task import parameter_groups
from .engine.distributed import SINGLE_PROCESS, DistributedContext
from .recipe import WHAT, Recipe, cell_settings, setting
from .runs.fingerprint import data_stamp
from .task import Task

Batch = tuple[Any, Any, Tensor | None, Tensor]  # features, graph, rows of the logits (None: all), labels
LARGE = 1_000_000  # stored features that a step reads, from which on two threads help (benchmarks/threads.csv)


@dataclass(frozen=True)
class GraphRecipe(Recipe):
    """All settings of one run on a graph; the defaults are Kipf & Welling's for a GCN."""

    example_sizes: ClassVar[Mapping[str, int]] = {"in_channels": 8, "num_classes": 4}

    domain: str = setting("graphs", "domain of the model", WHAT)
    model: str = setting("gcn", "a name of `comhe list models`", WHAT)
    data: str = setting("cora", "a name of `comhe list datasets`", WHAT)
    hidden_channels: int = setting(16, "width of the hidden layers")
    dropout: float = setting(0.5, "probability of dropping an input or hidden value")
    decay: str = setting(
        "first",
        "weight decay on the `first` layer (Kipf), the `convs` (GCNII) or `all` parameters",
        choices=("first", "convs", "all"),
    )
    other_decay: float = setting(0.0, "weight decay of all other parameters")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least("hidden_channels", self.hidden_channels, 1)
        self.require(lambda value: value >= 0, "must not be negative", "other_decay")

    def model_arguments(self, **sizes: Any) -> dict[str, Any]:
        settings = {"hidden_channels": self.hidden_channels, "dropout": self.dropout}
        return super().model_arguments(**settings | sizes)


class GraphTask(Task):
    """Transductive node classification: one step an epoch, on all training nodes at once, by one process."""

    recipe: GraphRecipe
    steps = 1

    def __init__(
        self, recipe: Any, root: str | None = None, device: str = "cpu", context: DistributedContext = SINGLE_PROCESS
    ) -> None:
        if context.is_distributed:
            divided = f"a graph is one batch, which {context.world_size} processes cannot divide"
            hint = "start it without torchrun, and several seeds at once with comhe compare --jobs"
            raise UsageError(f"{divided}: {hint}")
        self.recipe, self.context = recipe, context
        self.device = torch.device(device)
        graph = _graph(recipe.dataset, root, device, data_stamp(recipe.dataset, recipe.domain))
        self.graph = graph.with_labels(recipe.labels_per_class, recipe.label_noise, recipe.seed)

    @property
    def threads(self) -> int | None:  # type: ignore[override]
        features = self.views["train"][0]
        stored = features if isinstance(features, Tensor) else features.values
        return 1 if stored.numel() < LARGE else None

    @property
    def options(self) -> dict[str, Any]:
        sizes = {"in_channels": self.graph.num_features, "num_classes": self.graph.num_classes}
        return self.recipe.arguments_for(**sizes)

    @property
    def classes(self) -> Sequence[str]:
        return self.graph.classes

    def transforms(self) -> GraphTransform:
        graph = self.graph
        return GraphTransform(graph.num_features, graph.normalized, graph.undirected, graph.feature_names)

    def adopt(self, transform: Any) -> str:
        """Divide features by their sums, and add the other direction of edges, where the weights' graph had it so."""
        graph, done = self.graph, []
        if len(transform.names) == graph.num_features:
            graph = graph.with_features(transform.names)
        if transform.normalize and not graph.normalized:
            features = transform.divided(graph.features)
            features = features.to_sparse_csr() if features.is_sparse else features
            graph = replace(graph, features=features, normalized=True)
            done.append("features are divided by their sum")
        if transform.undirected and not graph.undirected:
            edges, weight = transform.edges(graph.edge_index, graph.num_nodes, graph.edge_weight)
            graph = replace(graph, edge_index=edges, edge_weight=weight, undirected=True)
            done.append("edges go both ways, without duplicates and self-loops")
        self.graph = graph
        self.__dict__.pop("views", None)
        return f"{self.recipe.data}: as in the graph of these weights, {' and '.join(done)}" if done else ""

    @cached_property
    def views(self) -> dict[str, Batch]:
        """What each split's logits depend on, and its labels: the full graph's outputs and gradients, in less time."""
        from comhe.zoo.graphs import prepare_graph  # here, because it registers the graph networks

        # How the graph is read depends on the layers, not on their weights; tensors have to serve training as well.
        with torch.random.fork_rng(devices=[]), torch.inference_mode(False):
            model, graph, views = self.model(), self.graph, {}
            for split in ("train", "val", "test"):
                nodes = getattr(graph, split)
                view = prepare_graph(model, graph.features, graph.edge_index, nodes, graph.edge_weight)
                views[split] = (*view, graph.labels[nodes])
        return views

    def optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        prefix = {"all": "", "convs": "convs.", "first": _first_layer(model)}[self.recipe.decay]
        groups = parameter_groups(self.recipe, model, lambda name, _: name.startswith(prefix))
        for group in groups:
            group["weight_decay"] = group["weight_decay"] or self.recipe.other_decay
        return torch.optim.Adam(groups, lr=self.recipe.lr, fused=True, capturable=next(model.parameters()).is_cuda)

    def inputs(self, epoch: int, first: int = 0) -> Iterable[tuple[Tensor, ...]]:
        return [()][first:]  # nothing differs from step to step

    def collate(self, *inputs: Tensor) -> Batch:
        return self.views["train"]

    def loss(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
        logits = _logits(model, batch)
        return F.cross_entropy(logits, batch[-1]), logits

    def example(self) -> tuple:
        return self.views["test"][:2]

    @torch.inference_mode()
    def evaluate(self, model: nn.Module, split: str) -> dict[str, float]:
        model.eval()
        batch = self.views[split]
        logits, labels = _logits(model, batch), batch[-1]
        correct = (logits.argmax(1) == labels).sum().item()
        return {"accuracy": correct / len(labels), "loss": F.cross_entropy(logits, labels).item()}


def _logits(model: nn.Module, batch: Batch) -> Tensor:
    x, graph, rows, _ = batch
    logits = model(x, graph)
    return logits if rows is None else logits[rows]


@lru_cache(maxsize=4)
def _graph(name: str, root: str | None, device: str, stamp: object) -> Graph:
    return load_graph(name, root).to(device)


def _first_layer(model: nn.Module) -> str:
    """Prefix of the names of the first layer's parameters: ``convs.0.`` or ``lin1.``."""
    name, child = next((name, child) for name, child in model.named_children() if any(True for _ in child.parameters()))
    return f"{name}.0." if isinstance(child, nn.ModuleList) else f"{name}."


@chosen
def kipf(model: str, data: str, regularizer: str) -> GraphRecipe:
    """Return the published settings of the network and its training, with the regularizer's chosen for the cell."""
    return GraphRecipe(**cell_settings(model, data, regularizer))


@chosen
def tuned(model: str, data: str, regularizer: str) -> GraphRecipe:
    """Return settings that were all chosen for the cell, starting from the published ones."""
    return GraphRecipe(**cell_settings(model, data, regularizer))


@chosen
def few_labels(model: str, data: str, regularizer: str) -> GraphRecipe:
    """Return settings that were all chosen for the cell with five labels of each class in place of twenty."""
    return GraphRecipe(**cell_settings(model, data, regularizer), labels_per_class=5)


@chosen
def deep(model: str, data: str, regularizer: str) -> GraphRecipe:
    """Return settings that were all chosen for the cell with four layers in place of two."""
    return GraphRecipe(**cell_settings(model, data, regularizer), model_options={"num_layers": 4})


@chosen
def noisy_labels(model: str, data: str, regularizer: str) -> GraphRecipe:
    """Return settings that were all chosen for the cell with 40 % wrong training labels."""
    return GraphRecipe(**cell_settings(model, data, regularizer), label_noise=0.4)


@chosen
def published(model: str, data: str, regularizer: str) -> GraphRecipe:
    """Return the training of each network's own paper on the public split; of a GCN, Kipf & Welling's.

    GraphSAGE's paper has no citation graphs: it is trained as a GCN, with 64 channels.
    """
    recipe = GraphRecipe(**cell_settings(model, data, regularizer), **PUBLISHED.get(model, {}))
    own = OWN.get((model, data.partition("-")[0]), {})
    return recipe.replace(**own)


# Velickovic et al., 2018, section 3.3; Gasteiger et al., 2019, section 5; Chen et al., 2020, table 7 and
# github.com/chennnM/GCNII. All wait for 100 epochs without an improvement; the first two set no end.
PUBLISHED: dict[str, dict[str, Any]] = {
    "sage": {"hidden_channels": 64},
    "gat": {"hidden_channels": 8, "dropout": 0.6, "lr": 0.005, "decay": "all", "epochs": 10_000, "patience": 100},
    "appnp": {"hidden_channels": 64, "weight_decay": 5e-3, "epochs": 10_000, "patience": 100},
    "gcn2": {
        "hidden_channels": 64, "dropout": 0.6, "decay": "convs", "weight_decay": 0.01, "other_decay": 5e-4,
        "epochs": 1500, "patience": 100, "model_options": {"num_layers": 64},
    },
}  # fmt: skip
OWN: dict[tuple[str, str], dict[str, Any]] = {  # what differs by data set
    ("gat", "pubmed"): {"lr": 0.01, "weight_decay": 1e-3, "model_options": {"output_heads": 8}},
    ("gcn2", "citeseer"): {
        "hidden_channels": 256, "dropout": 0.7, "model_options": {"num_layers": 32, "theta": 0.6},
    },
    ("gcn2", "pubmed"): {
        "hidden_channels": 256, "dropout": 0.5, "weight_decay": 5e-4,
        "model_options": {"num_layers": 16, "theta": 0.4},
    },
}  # fmt: skip


if __name__ == "__main__":
    import sys

    from .cli.main import main

    sys.exit(main(["train", "graphs", *sys.argv[1:]]))
