"""Files that ``torch.save`` wrote of PyTorch Geometric's ``Data``: read without running what they name.

Neither PyTorch Geometric nor anything that a file names is imported or called: an object in it is a record of its
class's name and of its attributes, whatever version wrote it, and in which protocol of pickles.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from comhe.errors import DataError
from comhe.inputs.arrays import BUILD
from comhe.inputs.checkpoints import Checkpoint, open_checkpoint
from comhe.inputs.pickles import Record, Unreadable, plain

from .fields import NAMES, SPLITS

SEVERAL_KINDS = ("HeteroData", "HeteroDataBatch", "TemporalData", "TemporalDataBatch")
DATA = ("_data", "data")  # what a data set has its graphs in
FIELDS = {name for names in NAMES.values() for name in names}  # what is read of a graph


def read_pt(path: Path) -> dict[str, Any]:
    """Read the attributes of a ``Data``, of a dictionary, or of the one graph of a processed data set.

    They are tensors, arrays, and plain values. What else a graph has, such as a path or a date, is left out.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file" if not path.exists() else f"{path}: not a regular file")
    try:
        checkpoint = open_checkpoint(path)
        attributes = _attributes(checkpoint, path)
        found = {
            key: (_values if key in FIELDS or key in SPLITS else _value)(checkpoint, value)
            for key, value in attributes.items()
        }
    except DataError:
        raise
    except (Unreadable, OSError, KeyError, ValueError, TypeError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise DataError(f"{path}: not a Data of PyTorch Geometric written by torch.save ({reason})") from error
    for key, value in found.items():
        inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else (value,)
        if any(isinstance(each, Tensor) and each.is_meta for each in inside):
            raise DataError(f"{path}: {key[:40]!r} is not a tensor that is stored in full")
        if isinstance(value, Record) and (key in FIELDS or key in SPLITS):
            how = "; save words as a list, by .tolist()" if value.name in BUILD else ""
            raise DataError(f"{path}: {key!r} is a {value.name[:100]}, not an array of numbers{how}")
    fields = {key: value for key, value in found.items() if value is not None and not isinstance(value, Record)}
    if not any(isinstance(value, Tensor) for value in fields.values()):
        raise DataError(f"{path}: has no tensors, but {', '.join(map(repr, [*found][:5]))[:200] or 'nothing'}")
    return fields


def _value(checkpoint: Checkpoint, value: Any) -> Any:
    """A tensor or an array as a tensor; anything else as it is."""
    for read in (checkpoint.sparse, checkpoint.tensor, checkpoint.array):
        if (tensor := read(value)) is not None:
            return tensor
    return value


def _values(checkpoint: Checkpoint, value: Any) -> Any:
    """The same of a dictionary, such as OGB's of splits, or of a tuple, such as DGL's of the ends of edges.

    Scalars of numpy in it, and in lists in it, are plain values. Each list is read once: a small file may repeat one.
    """
    if not isinstance(value, dict | tuple | list):
        return _value(checkpoint, plain(value))
    inside = [*value.values()] if isinstance(value, dict) else value
    lists = {id(each): each for each in inside if isinstance(each, tuple | list)}
    lists = {key: [*map(plain, each)] for key, each in lists.items()}
    read = [lists[id(each)] if id(each) in lists else _value(checkpoint, plain(each)) for each in inside]
    return dict(zip(value, read, strict=True)) if isinstance(value, dict) else read


def _is_graph(checkpoint: Checkpoint, value: Any) -> bool:
    """Whether this is a graph, and not what stands next to one: where each of several begins, or a class."""
    if isinstance(value, Record):
        return isinstance(value.state, dict)
    edges = (value.get(name) for name in NAMES["edge_index"]) if isinstance(value, Mapping) else ()
    return any(isinstance(each := _value(checkpoint, one), Tensor) and each.dim() == 2 for one in edges)


def _kind(content: Any) -> str:
    """The name of a class. Of a batch, PyTorch Geometric 2 makes one of two: DataBatch of Batch and Data."""
    if not isinstance(content, Record):
        return type(content).__name__
    is_made = content.name.endswith(".DynamicInheritanceGetter") and content.args
    classes = [each for each in content.args or () if isinstance(each, Record)][::-1] if is_made else [content]
    return "".join(each.name.rpartition(".")[2] for each in classes)


def _attributes(checkpoint: Checkpoint, path: Path) -> dict[str, Any]:
    """What a graph has, wherever a version of PyTorch Geometric puts it."""
    content = checkpoint.content
    if isinstance(content, tuple | list) and content:  # a processed data set: the graphs, joined, and where each begins
        first, *slices = content
        if any(_is_graph(checkpoint, each) for each in slices):
            raise DataError(f"{path}: a data set of several graphs; save the one to train on by itself")
        if slices and isinstance(slices[0], Mapping):
            ends = [_value(checkpoint, each) for each in slices[0].values()]
            if any(isinstance(each, Tensor | list) and len(each) > 2 for each in ends):
                raise DataError(f"{path}: a data set of several graphs; save the one to train on by itself")
        content = first
    kind = _kind(content)
    if kind in SEVERAL_KINDS:
        raise DataError(f"{path}: its nodes are of several kinds; save HeteroData.to_homogeneous()")
    if isinstance(content, Record) and isinstance(content.state, dict):
        if any(isinstance(each := content.state.get(key), Record) and _is_graph(checkpoint, each) for key in DATA):
            raise DataError(f"{path}: has a data set, {kind[:60]}, not a graph of it; save dataset[0]")
        store = content.state.get("_store")
        inner = store.state if isinstance(store, Record) else None
        content = inner.get("_mapping", inner) if isinstance(inner, dict) else content.state
    if not isinstance(content, Mapping) or not all(type(key) is str for key in content):
        raise DataError(f"{path}: has a {kind}, not a Data of PyTorch Geometric or a dictionary")
    if kind.endswith("Batch"):
        ends = _value(checkpoint, content.get("ptr"))  # where each graph begins, and the last one ends
        if not (isinstance(ends, Tensor | list) and len(ends) == 2):
            raise DataError(f"{path}: a batch of several graphs; save the one to train on by itself")
    return dict(content)
