"""Predicting the classes of files with a run, a published file or named weights."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from comhe.datasets import Graph, load_graph
from comhe.datasets.graphs.files import load_unlabeled
from comhe.datasets.io.layouts import files_below
from comhe.errors import ComheError, DataError, RunError, UsageError, check_choice, check_count, warn
from comhe.inputs.pixels import EXTENSIONS
from comhe.inputs.shapes import AXES, SUFFIXES
from comhe.zoo import Weights, get_weights
from comhe.zoo.preprocessing import GraphTransform
from comhe.zoo.state import weights_file

from .hardware import choose_device
from .runs.run import Run

INPUTS = {"images": (frozenset(EXTENSIONS), "an image"), "points": (frozenset(SUFFIXES), "a shape")}  # by kind
BATCH = 64  # files that go through the network at once


@dataclass(frozen=True, repr=False)
class RunWeights(Weights):
    """The weights of a run, which has recorded what a card says; ``path`` is its folder."""

    which: str = "best"

    def state_dict(self) -> dict[str, Tensor]:
        return Run(self.path).weights(self.which)


@dataclass(frozen=True)
class Prediction:
    """The likeliest classes of a file, or of a node of a graph, with their probabilities; or why there are none."""

    name: str
    classes: tuple[str, ...] = ()
    probabilities: tuple[float, ...] = ()
    error: str = ""


def open_weights(source: str | Path, which: str = "best") -> Weights:
    """Return named weights, those of a published file, or those of the run in a folder.

    Example:
        >>> open_weights("gcn.cora-none").model
        'gcn'
    """
    folder = weights_file(source)
    if not folder.is_dir():
        return get_weights(source)
    run = Run(folder)
    result, recipe = run.result(), run.recipe()
    if "preprocessing" not in result:
        raise RunError(f"{folder} is of an earlier version, which recorded no preprocessing; publish it and use that")
    card = {"model": recipe.model, "options": result["options"], "preprocessing": result["preprocessing"]}
    return RunWeights(recipe.label, folder, card | {"data": {"class names": result["classes"]}}, which=which)


def predict_files(
    weights: Weights,
    paths: str | Path | Iterable[str | Path],
    top: int = 5,
    up: str | None = None,
    device: str = "auto",
) -> Iterator[Prediction]:
    """Predict images or clouds, a batch at a time; a folder stands for its files of the network's kind.

    What cannot be read is told; a warning counts the files of a folder that are of another kind.

    Args:
        paths: one path, or several.
        top: how many classes of each.
        up: axis that points up in clouds, ``x``, ``y`` or ``z``, if it is not the one that the card names.

    Example:
        >>> _ = Path("cube.xyz").write_text("0 0 0\\n0 0 1\\n0 1 0\\n1 0 0\\n1 1 1\\n")
        >>> [len(found.classes) for found in predict_files(open_weights("pointnet.solids-none"), ["cube.xyz"], top=2)]
        [2]
    """
    check_count("top", top, 1)
    kind = weights.card["preprocessing"]["kind"]
    if up is not None and kind != "points":
        raise UsageError(f"up={up!r} is for point clouds, which {weights.name} does not take")
    if up is not None:
        check_choice("up", up, tuple(AXES))
    if kind == "graphs":
        raise UsageError(f"{weights.name} is a network for graphs: give a graph to predict_nodes")
    paths = [paths] if isinstance(paths, str | Path) else paths
    files = [file for path in paths for file in files_of(Path(path), kind)]
    device = choose_device(device)
    model = weights.build().eval().to(device)
    transform: Any = weights.transforms()
    arguments = () if up is None else (up,)
    for start in range(0, len(files), BATCH):
        read: list[tuple[str, Tensor]] = []
        for file in files[start : start + BATCH]:
            try:
                read.append((str(file), transform(file, *arguments)))
            except ComheError as error:
                yield Prediction(str(file), error=str(error))
        if read:
            with torch.inference_mode():
                probabilities = model(torch.cat([x for _, x in read]).to(device)).softmax(-1)
            yield from ranked(weights, [name for name, _ in read], probabilities, top)


def predict_nodes(
    weights: Weights, graph: Any, top: int = 5, nodes: Sequence[int] | np.ndarray | Tensor | None = None
) -> Iterator[Prediction]:
    """Predict nodes of a graph, each under the name that the graph has for it, or under its number.

    Args:
        graph: ours, PyTorch Geometric's ``Data`` or a dictionary of such arrays, of which only features, edges and
            ``node_names`` are used.
        nodes: the numbers of some of them, in this order, or a bool mask [N]; all of them by default.

    Example:
        >>> from comhe.datasets import load_graph
        >>> next(predict_nodes(open_weights("gcn.citations-none"), load_graph("citations"), top=1, nodes=[7])).name
        '7'
    """
    from comhe.zoo.graphs.sparse import as_index  # here, because it registers the graph networks

    check_count("top", top, 1)
    if not isinstance(transform := weights.transforms(), GraphTransform):
        raise UsageError(f"{weights.name} is not a network for graphs: give files to predict_files")
    if not isinstance(graph, Graph):
        graph = Graph.from_pyg(graph, undirected=is_undirected(weights), labeled=False)
    graph = graph.with_features(transform.names)
    try:
        found = range(graph.num_nodes) if nodes is None else nodes
        index = torch.as_tensor(found if isinstance(found, np.ndarray | Tensor) else [*found]).cpu()
    except (TypeError, ValueError, RuntimeError) as error:
        raise UsageError(f"nodes must be numbers of nodes or a mask, not {nodes!r:.80}") from error
    index = as_index(index if index.numel() else index.long(), graph.num_nodes, "node")  # no numbers at all are floats
    names = [graph.node_names[node] if graph.node_names else str(node) for node in index.tolist()]
    return ranked(weights, names, weights.predict(graph)[index], top)


def open_graph(weights: Weights, source: str, root: str | Path | None = None) -> Graph:
    """Load the graph that is to be predicted: a file or folder of one's own, labeled or not, or a data set's name.

    Example:
        >>> open_graph(open_weights("gcn.citations-none"), "citations").num_nodes
        2500
    """
    return load_unlabeled(source, is_undirected(weights)) or load_graph(source, root)


def is_undirected(weights: Weights) -> bool:
    """Return whether a graph network was trained with both directions of every edge."""
    return isinstance(transform := weights.transforms(), GraphTransform) and transform.undirected


def ranked(weights: Weights, names: Sequence[str], probabilities: Tensor, top: int) -> Iterator[Prediction]:
    """Yield the likeliest classes of each row of probabilities [len(names), classes]."""
    values, classes = probabilities.float().cpu().topk(min(top, probabilities.shape[1]))
    for name, row, indices in zip(names, values.tolist(), classes.tolist(), strict=True):
        yield Prediction(name, tuple(weights.classes[index] for index in indices), tuple(row))


def files_of(path: Path, kind: str) -> list[Path]:
    """Return a file, or those in a folder and its folders that are ``images`` or ``points``, in order of their names.

    A warning counts the others.
    """
    if not path.is_dir():
        return [path]
    known, what = INPUTS[kind]
    suffixes = {name: Path(name).suffix.lower() for name in files_below(path)}
    others = Counter(suffix or "no suffix" for suffix in suffixes.values() if suffix not in known)
    counts = ", ".join(f"{count:,} of {suffix}" for suffix, count in others.most_common(8))
    if len(found := [path / name for name, suffix in suffixes.items() if suffix in known]) == 0:
        has = f", only {counts}" if others else ""
        raise DataError(f"{path} contains no file of {what} ({', '.join(sorted(known))}){has}")
    if others:
        count = f"{others.total():,} file{'s are' if others.total() > 1 else ' is'}"
        warn(f"{path}: {count} not of {what} and passed over: {counts}")
    return found
