"""Files that ``torch.save`` wrote of PyTorch Geometric's ``Data``: read without running what they name.

``torch.load(weights_only=True)`` builds tensors and containers; the few classes that a ``Data`` is made of are replaced
by records here, so that neither PyTorch Geometric nor anything that a file names is imported or called.
"""

import mmap
import re
import zipfile
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from comhe.errors import DataError

_DEFAULTDICT = b"ccollections\ndefaultdict\n"
# What torch.load(weights_only=True) still calls, on arguments of any size: a small file could fill the memory.
REFUSED = (b"bytearray", b"_codecs")


class Record:
    """What a file says of an object: its attributes. It takes the place of the object's class.

    Where PyTorch Geometric is imported, torch's reader may build its classes instead, which it has declared to be safe.
    """

    def __init__(self, *arguments: object) -> None:
        pass


class Heterogeneous(Record):
    """A graph with several kinds of nodes, or several graphs."""


_DATA = "torch_geometric.data."
RECORDS = [
    *((Record, f"{_DATA}data.{name}") for name in ("Data", "DataEdgeAttr", "DataTensorAttr")),
    *((Record, f"{_DATA}storage.{name}") for name in ("BaseStorage", "NodeStorage", "GlobalStorage", "AttrType")),
    *((Record, f"{_DATA}{name}") for name in ("feature_store.TensorAttr", "graph_store.EdgeAttr")),
    *((Record, f"{_DATA}{name}") for name in ("graph_store.EdgeLayout", "feature_store._FieldStatus")),
    *((Heterogeneous, f"{_DATA}{name}") for name in ("hetero_data.HeteroData", "temporal.TemporalData", "batch.Batch")),
]


def read_pt(path: Path) -> dict[str, Any]:
    """Read the attributes of a ``Data``, of a dictionary, or of the one graph of a processed data set."""
    if not path.is_file():
        raise DataError(f"{path}: no such file" if not path.exists() else f"{path}: not a regular file")
    try:
        _check_claims(path)
        with torch.serialization.safe_globals([*RECORDS, (_no_cache, "comhe.cache")]):
            content = torch.load(_without_caches(path), map_location="cpu", weights_only=True)
    except Exception as error:  # torch's reader raises whatever the damage makes it raise
        named = re.search(r"GLOBAL (\S+)", str(error))  # torch's own text advises to run what the file asks for
        reason = (
            f"it asks for {named[1][:100]}" if named else " ".join(str(error).split())[:200] or type(error).__name__
        )
        raise DataError(f"{path}: not a Data of PyTorch Geometric written by torch.save ({reason})") from error
    fields = {key: value for key, value in _attributes(content, path).items() if value is not None}
    for key, value in fields.items():
        parts = [value] if isinstance(value, Tensor) and value.layout == torch.strided else []
        if any(part.numel() * part.itemsize > part.untyped_storage().nbytes() for part in parts):
            raise DataError(f"{path}: {str(key)[:40]!r} is not a tensor that is stored in full")
    return fields


def _check_claims(path: Path) -> None:
    """Raise an error for an archive that is larger than its file, or a pickle that could fill the memory."""
    if not zipfile.is_zipfile(path):
        raise ValueError("not an archive, as torch has written since 1.6; load it where it is from, and save it again")
    with zipfile.ZipFile(path) as archive:
        claimed = sum(member.file_size for member in archive.infolist())
        if claimed > path.stat().st_size:
            raise ValueError(f"its members are compressed or overlap: they claim {claimed:,} bytes")
        if damaged := archive.testzip():  # torch.load does not look at the checksums
            raise ValueError(f"{damaged} in it does not match its checksum")
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        for name in REFUSED:
            if data.find(name) >= 0:
                raise ValueError(f"asks for {name.decode()}, which tensors do not need")


def _no_cache(*_: object) -> dict:
    return {}


def _without_caches(path: Path) -> Path | BytesIO:
    """The file, or a copy in memory in which the caches of a ``Data`` that was worked on are dictionaries.

    Its methods leave lists of its attributes in a defaultdict, which torch's reader does not fill.
    """
    with zipfile.ZipFile(path) as archive:
        members = archive.namelist()
        pickled = next(name for name in members if name.endswith("data.pkl"))
        data = archive.read(pickled)
        if _DEFAULTDICT not in data:
            return path
        copy = BytesIO()
        with zipfile.ZipFile(copy, "w") as target:
            for name in members:
                whole = data.replace(_DEFAULTDICT, b"ccomhe\ncache\n") if name == pickled else archive.read(name)
                target.writestr(name, whole)
    copy.seek(0)
    return copy


def _attributes(content: Any, path: Path) -> dict[str, Any]:
    """What a graph has, wherever a version of PyTorch Geometric puts it."""
    if isinstance(content, tuple | list) and content:  # a processed data set: the graphs, joined, and where each begins
        first, *slices = content
        if slices and isinstance(slices[0], Mapping) and any(len(each) > 2 for each in slices[0].values()):
            raise DataError(f"{path}: a data set of several graphs; save the one to train on by itself")
        content = first
    if type(content).__name__ in ("Heterogeneous", "HeteroData", "TemporalData", "Batch"):
        raise DataError(f"{path}: its nodes are of several kinds; save HeteroData.to_homogeneous()")
    if isinstance(content, Record) or type(content).__name__ == "Data":
        store = vars(content).get("_store", content)
        content = vars(store).get("_mapping", vars(content))
    if not isinstance(content, Mapping) or not all(type(key) is str for key in content):
        raise DataError(f"{path}: has a {type(content).__name__}, not a Data of PyTorch Geometric or a dictionary")
    if not any(isinstance(value, Tensor) for value in content.values()):
        raise DataError(f"{path}: has no tensors, but {', '.join(map(repr, [*content][:5]))[:200] or 'nothing'}")
    return dict(content)
