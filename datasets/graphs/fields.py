"""A graph's features, edges and labels as others write them, checked and brought to one form."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from comhe.datasets.io.cells import MISSING, PERHAPS, WHOLE, whole
from comhe.datasets.io.layouts import LIKE_A_SPLIT, PARTS, SPLIT_NAMES
from comhe.errors import DataError, few, warn

MAX_CLASSES = 1000  # or as many as nodes: a label is the number of a class, and each class has an output
MAX_SIDE = 1 << 26  # of a sparse matrix, whose rows take memory even where they are empty
MASKS = ("{}_mask", "{}", "{}_idx", "{}_index", "{}_indices", "{}_ids", "idx_{}", "{}_masks")  # of a split
# The names that arrays of a graph have in PyTorch Geometric, in OGB, in DGL and in published .npz files.
NAMES = {
    "x": ("x", "features", "feat", "feats", "attr", "attr_matrix", "node_feat", "node_features"),
    "y": ("y", "labels", "label", "node_label", "node_labels"),
    "edge_index": ("edge_index", "edges", "edge", "edge_list", "edge_indices"),
    "edge_weight": ("edge_weight", "edge_weights"),
    "adj": ("adj", "adj_matrix", "adjacency", "adj_t"),
    **{
        split: tuple(form.format(word) for word in words for form in MASKS)
        for split, words in SPLIT_NAMES.items()
    },
    "node_names": ("node_names",),
    "feature_names": ("feature_names",),
}  # fmt: skip
SPLITS = ("split_idx", "split", "splits")  # of dictionaries of node numbers, as OGB gives them, or of words
OF_SPLITS = {name for split in SPLIT_NAMES for name in NAMES[split]}
ARRAYS = {*SPLITS}.union(*NAMES.values()) - {"node_names", "feature_names"}
_HUMP = re.compile(r"(?<=[a-z])(?=[A-Z])")  # where a word begins in isTrain


def rename(given: Mapping[str, Any], name: str, labeled: bool = True) -> dict[str, Any]:
    """Return the arrays of a graph under PyTorch Geometric's names; an adjacency becomes edges.

    Without ``labeled``, labels and splits are neither needed nor read.
    """
    given, found = expanded(given), dict[str, Any]()
    counts: dict[str, int] = {}
    for key in SPLITS if labeled and not _has_masks(given) else ():
        if (words := _words(given.get(key))) is not None:
            given |= split_masks(words, name)
            counts[key] = len(words)
    transposed = False
    for key, known in NAMES.items():
        if key in ("node_names", "feature_names") or (not labeled and key in ("y", "train", "val", "test")):
            continue  # names have their own reading, which refuses nothing
        present = [each for each in known if given.get(each) is not None]
        if len(present) > 1:
            raise DataError(f"{name}: has both {present[0]} and {present[1]}; leave one of them out")
        if present:
            found[key] = as_array(given[present[0]], f"{name}: {present[0]}")
            transposed |= present[0] == "adj_t"
            if key not in ("x", "adj") and not isinstance(array := found[key], np.ndarray):
                what = f"{name}: {present[0]} is a sparse matrix {list(array.shape)}"
                raise DataError(f"{what}, as only features and an adjacency (adj) may be; save it as a dense array")
            is_half = getattr(given[present[0]], "dtype", None) in (torch.float16, torch.bfloat16)  # made wider here
            if key in ("edge_index", *SPLIT_NAMES) and not is_half:
                found[key] = as_integers(array)
    if (adjacency := found.pop("adj", None)) is not None and "edge_index" not in found:
        found |= _edges_of(adjacency, transposed=transposed, name=name)
    if missing := [" or ".join(NAMES[key][:2]) for key in ("x", "edge_index", *["y"] * labeled) if key not in found]:
        hint = "; of a graph without features, give each node's degree or a one-hot number" if "x" not in found else ""
        others = few((repr(str(key)[:40]) for key in unused(given)), 8)
        raise DataError(f"{name}: has no {', no '.join(missing)}{others and f', but {others}'}{hint}")
    for key, count in counts.items():
        if count != (nodes := found["x"].shape[0]):
            raise DataError(f"{name}: {key} is {list(np.shape(given[key]))}, not a word for each of the {nodes} nodes")
    return found


def expanded(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arrays of a graph, with those of a dictionary of splits among them; names of splits in lower case.

    A single value, such as an accuracy on ``test`` or ``training=True``, is not an array, and gets another name.
    """
    splits = {key: _lowered(value) for key, value in given.items() if key in SPLITS and isinstance(value, Mapping)}
    splits = {key: value for key, value in splits.items() if _has_masks(value)}
    found = {key: value for key, value in given.items() if key not in splits}
    for value in splits.values():
        found |= value
    found = _lowered(found)
    single = {key for key in ARRAYS.intersection(found) if _is_single(found[key])}
    return {f"{key} (a single value)" if key in single else key: value for key, value in found.items()}


def _is_single(value: Any) -> bool:
    return isinstance(value, str | int | float) or getattr(value, "ndim", None) == 0


def _lowered(given: Mapping[str, Any]) -> dict[str, Any]:
    free = OF_SPLITS - given.keys()
    return {lower if (lower := str(key).lower()) in free else key: value for key, value in given.items()}


def split_masks(words: np.ndarray, name: str) -> dict[str, np.ndarray]:
    """Return the masks of the splits that a word for each node names; a node that is in none has an empty one."""
    plain = np.char.lower(np.char.strip(words))
    known = np.array([PARTS.get(word, word) for word in plain.tolist()])
    if odd := {*known.tolist()} - {*PARTS.values(), *MISSING, "none"}:
        raise DataError(f"{name}: a node's split is train, val, test or empty, not {min(odd)[:40]!r}")
    return {f"{split}_mask": known == split for split in SPLIT_NAMES if (known == split).any()}


def _has_masks(given: Mapping[str, Any]) -> bool:
    return any(given.get(name) is not None for split in SPLIT_NAMES for name in NAMES[split])


def _words(value: Any) -> np.ndarray | None:
    """The words of an array, a list or a column of pandas, in a vector; None for anything else."""
    is_array = hasattr(value, "__array__") and not isinstance(value, Tensor) and value.ndim > 0
    items = np.asarray(value).ravel().tolist() if is_array else value
    return _texts(items) if isinstance(items, list | tuple) else None


def _texts(items: Sequence[Any]) -> np.ndarray | None:
    """Words in an array, empty where None or NaN says that one is missing, as in pandas; None if there are others."""
    found = [each if isinstance(each, str) else "" if _is_missing(each) else None for each in items]
    return np.array(found) if any(found) and None not in found else None


def _is_missing(value: Any) -> bool:
    return value is None or type(value).__name__ == "NAType" or (isinstance(value, float) and math.isnan(value))


def unused(given: Mapping[str, Any]) -> list[str]:
    """Return the names of what a graph has and nothing here uses; ``num_nodes`` is what ``x`` says.

    Example:
        >>> unused({"x": [[1.0]], "edge_index": [[0], [0]], "y": [0], "edge_attr": [[2.0]], "pos": [[0, 0]]})
        ['edge_attr (name it edge_weight if it is one)', 'pos']
    """
    present = {key: value for key, value in expanded(given).items() if value is not None}
    known = {name for names in NAMES.values() for name in names}
    edges = any(name in present for name in NAMES["edge_index"])
    words = [key for key in SPLITS if not _has_masks(present) and _words(present.get(key)) is not None]
    known |= {"num_nodes", *words}
    found = [key for key in present if key not in known]
    found += [f"{key} (its edges are)" for key in NAMES["adj"] if key in present and edges]
    hint = "edge_attr (name it edge_weight if it is one)"
    weighted = any(name in present for name in NAMES["edge_weight"])
    return [hint if key == "edge_attr" and not weighted else str(key)[:60] for key in found]


def warn_of_unused(given: Mapping[str, Any], name: str, drawn: bool) -> None:
    """Warn of what nothing here uses; a split among it is an error where one is ``drawn``."""
    found = unused(given)
    if drawn and (key := next((key for key in found if key in SPLITS), None)):
        value = expanded(given)[key]
        said = f"{getattr(value, 'dtype', type(value).__name__)} {list(getattr(value, 'shape', ()))}"
        if isinstance(value, Mapping | list | tuple):
            keys = [repr(str(each)[:20]) for each in value] if isinstance(value, Mapping) else []
            kinds = keys or sorted({type(each).__name__ for each in value})
            said = f"a {type(value).__name__} of {few(kinds) or 'nothing'}"
        form = "train, val or test for each node, or a dictionary of these words with node numbers or masks"
        raise DataError(f"{name}: {key} is {said}; a split is {form}")
    if found:
        hint = drawn_hint(found, "train_mask, val_mask and test_mask, or split") if drawn else ""
        warn(f"{name}: not used: {few(found, 8)}{hint}")


def drawn_hint(names: Sequence[str], known: str) -> str:
    """Return a hint for the user if something unused has a name like that of a split."""
    is_like = any(LIKE_A_SPLIT.search(_HUMP.sub("_", each)) or re.search("mask|split", each.lower()) for each in names)
    return f"; a random split is drawn, so name one of your own {known}" if is_like else ""


def as_array(value: Any, what: str) -> Any:
    """Return a tensor, dense or sparse, as an array; a scipy matrix as a CSR array; anything else as numpy has it."""
    from scipy.sparse import coo_array, csr_array, issparse  # half a second that an import should not take

    if isinstance(value, Tensor):
        value = value.detach().cpu()
        if value.layout != torch.strided:
            if max(value.shape, default=0) > MAX_SIDE:
                raise DataError(f"{what} is {list(value.shape)}: more than {MAX_SIDE:,} rows or columns")
            value = value.to_sparse_coo().coalesce()
            entries = (_numpy(value.values()), tuple(value.indices().numpy()))
            return coo_array(entries, shape=tuple(value.shape)).tocsr()
        return _numpy(value)
    if issparse(value):
        return csr_array(value)
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise DataError(f"{what} has rows of different lengths") from error
    if array.dtype.kind == "O" and array.ndim and (words := _texts(array.ravel().tolist())) is not None:
        return words.reshape(array.shape)
    if array.dtype.kind not in "biufU":
        raise DataError(f"{what} is {array.dtype} {list(array.shape)}, not numbers")
    return array


def as_vector(array: Any) -> Any:
    """Return one row or one column, the form of every vector in MATLAB, as a vector; other arrays as they are."""
    return array.reshape(-1) if isinstance(array, np.ndarray) and array.ndim == 2 and 1 in array.shape else array


def as_integers(array: np.ndarray) -> np.ndarray:
    """Return floats that are all whole numbers, as MATLAB's are, as integers; other arrays as they are."""
    if array.dtype.kind != "f" or not array.size:
        return array
    exact = 2.0 ** np.finfo(array.dtype).nmant  # larger ones may have been rounded
    is_whole = ((np.abs(array) < exact) & (array == np.floor(array))).all()
    return array.astype(np.int64) if is_whole else array


def _numpy(tensor: Tensor) -> np.ndarray:
    # numpy has no bfloat16, and scipy no float16
    return (tensor.float() if tensor.is_floating_point() and tensor.itemsize < 4 else tensor).numpy()


def _edges_of(adjacency: Any, transposed: bool, name: str) -> dict[str, Any]:
    """The edges of an adjacency, row to column; those of PyG's ``adj_t`` go from column to row."""
    if adjacency.ndim != 2 or adjacency.shape[0] != adjacency.shape[1]:
        raise DataError(f"{name}: the adjacency is {list(adjacency.shape)}, not square")
    if isinstance(adjacency, np.ndarray):
        row, column = adjacency.nonzero()
        values = adjacency[row, column]
    else:
        entries = adjacency.tocoo()
        row, column, values = (array[entries.data != 0] for array in (entries.row, entries.col, entries.data))
    edges = {"edge_index": np.stack([column, row] if transposed else [row, column]).astype(np.int64)}
    return edges if (values == 1).all() else edges | {"edge_weight": values}  # all of them 1: that there is an edge


def check_features(x: Any, name: str) -> Any:
    """Return features [n, f] as float32, dense or CSR; they must be finite numbers."""
    if x.ndim != 2 or x.dtype.kind not in "biuf" or 0 in x.shape:
        raise DataError(f"{name}: x is {x.dtype} {list(x.shape)}, not numbers [nodes, features]")
    with np.errstate(over="ignore"):
        x = x.astype(np.float32)
    if not (finite := np.isfinite(x if isinstance(x, np.ndarray) else x.data)).all():
        first = np.argwhere(~finite)[0][0]
        node = first if isinstance(x, np.ndarray) else np.searchsorted(x.indptr, first, side="right") - 1
        how = "give numbers, such as 0, for what is missing"
        raise DataError(f"{name}: a feature of node {node} is not finite in float32; {how}")
    return x


def check_edges(edges: np.ndarray, weight: np.ndarray | None, nodes: int, name: str) -> tuple[Any, Any]:
    """Return edges as int64 [2, m] and weights as float32 [m]; a list of pairs [m, 2] is transposed."""
    if edges.ndim == 2 and edges.shape[1] == 2 and edges.shape[0] != 2:
        edges = edges.T
    if edges.ndim != 2 or len(edges) != 2 or (edges.size and edges.dtype.kind not in "iu"):
        raise DataError(f"{name}: edge_index is {edges.dtype} {list(edges.shape)}, not node numbers [2, edges]")
    if edges.size and not 0 <= edges.min() <= edges.max() < nodes:
        wrong = edges.max() if edges.min() >= 0 else edges.min()
        raise DataError(f"{name}: edge_index has the node {wrong}, but x has rows for the nodes 0..{nodes - 1}")
    if weight is not None:
        weight = as_vector(weight)
        if weight.shape != edges.shape[1:] or weight.dtype.kind not in "iuf":
            shape = f"{weight.dtype} {list(weight.shape)}"
            raise DataError(f"{name}: edge_weight is {shape}, not a number for each of the {edges.shape[1]} edges")
        weight = weight.astype(np.float32)
        if not (np.isfinite(weight) & (weight >= 0)).all():
            raise DataError(f"{name}: a weight of an edge is negative or not finite")
    return edges.astype(np.int64), weight


def check_labels(y: np.ndarray, nodes: int, name: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return labels as int64 [n], -1 for a node without one, and the names of the classes if labels are words.

    One-hot rows are numbered. A label is missing where it is negative, NaN, an empty word, or a row of zeros.
    """
    y = as_vector(y)
    if (
        y.ndim == 2
        and y.dtype.kind != "U"
        and y.shape[1]
        and (np.sort(y, 1)[:, :-1] == 0).all()
        and np.isin(y.max(1), (0, 1)).all()
    ):
        y = np.where(y.max(1) == 1, y.argmax(1), -1)
    if y.ndim == 2:
        shape = f"y is {y.dtype} {list(y.shape)}"
        raise DataError(f"{name}: {shape}: several labels a node cannot be learned here, only one class a node")
    if y.shape != (nodes,):
        raise DataError(f"{name}: y is {list(y.shape)}, but x has {nodes} nodes; give -1 to those without a label")
    classes: tuple[str, ...] = ()
    if y.dtype.kind == "U":
        y, classes = _numbered(np.char.strip(y), name)
    elif y.dtype.kind == "f":
        y = np.where(np.isnan(y), -1, y)
        if (y != np.floor(y)).any():
            raise DataError(f"{name}: y has {y[y != np.floor(y)][0]:g}, which is not the number of a class")
    if y.dtype.kind != "b" and (y >= max(nodes, MAX_CLASSES)).any():
        raise DataError(f"{name}: y has {y.max():g}; number the classes from 0")
    if np.unique(y).tolist() == [-1, 1]:
        raise DataError(f"{name}: y is -1 or 1, and -1 means without a label; number the two classes 0 and 1")
    y = np.maximum(y.astype(np.int64), -1)
    if not (y >= 0).any():
        raise DataError(f"{name}: no node has a label")
    return y, classes


def names_of(value: Any, nodes: int, name: str) -> tuple[str, ...]:
    """Return what the nodes are called: a word or a whole number for each, no two the same.

    Invalid names do not invalidate a graph: its nodes are called by their numbers then, with a warning.
    """
    if value is None:
        return ()
    try:
        names = as_vector(as_array(value, "node_names"))
    except ValueError as error:
        warn(f"{name}: node_names are not used ({error})")
        return ()
    if names.shape != (nodes,) or names.dtype.kind not in "iuU" or len({*names.tolist()}) < nodes:
        found = f"{names.dtype} {list(names.shape)}"
        warn(f"{name}: node_names are not used: not a word or a number of its own for each node, but {found}")
        return ()
    return tuple(map(str, names.tolist()))


def _numbered(words: np.ndarray, name: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """Number words in their order; numbers that were written as words stay what they are."""
    plain = np.array([whole(word) for word in words.tolist()])
    known = ~np.isin(np.char.lower(plain), (*MISSING, *PERHAPS))
    names = np.unique(words[known])
    if doubtful := {*np.unique(words[np.isin(np.char.lower(words), PERHAPS)]).tolist()}:
        count = int(np.isin(words, [*doubtful]).sum())
        verb, hint = "has" if count == 1 else "have", "a class of this name needs another one"
        warn(f"{name}: {count:,} of the nodes {verb} {few(sorted(doubtful))} and count as without a label; {hint}")
    if all(map(WHOLE.fullmatch, plain[known].tolist())):
        return np.where(known, plain, "-1").astype(np.int64), ()
    if len(names) > max(MAX_CLASSES, len(words) // 2):
        raise DataError(f"{name}: y has {len(names):,} different words for {len(words):,} nodes, which are not classes")
    numbers = np.searchsorted(names, np.where(known, words, names[0]))
    return np.where(known, numbers, -1), tuple(names.tolist())
