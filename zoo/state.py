"""Restricted reading of state dicts from files, and from the dicts that checkpoints wrap them in."""

import mmap
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from comhe.errors import WeightsError

WRAPPERS = ("state_dict", "model_state_dict", "model")  # of torchvision's references, yanx27's, timm's checkpoints
PREFIXES = ("module.", "_orig_mod.")  # of DataParallel and of torch.compile
# What torch.load(weights_only=True) still calls, on arguments of any size: a small file could fill the memory.
REFUSED = (b"bytearray", b"_codecs")


def read_state(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """Read the state dict in a safetensors file or in a checkpoint of ``torch.save``, which is not unpickled freely.

    Example:
        >>> read_state("no/such/file.pt")
        Traceback (most recent call last):
        comhe.errors.WeightsError: no/such/file.pt: no such file
    """
    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"{path}: no such file")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        _check_claims(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch's reader raises whatever the damage makes it raise
        reason = str(error).splitlines()[0][:300] if str(error) else type(error).__name__
        raise WeightsError(f"{path}: not a safetensors file or a checkpoint of tensors ({reason})") from error
    state = unwrap_state(content, str(path))
    for name, tensor in state.items():
        if tensor.layout != torch.strided or tensor.numel() * tensor.itemsize > tensor.untyped_storage().nbytes():
            raise WeightsError(f"{path}: {printable(name)} is not a dense tensor that is stored in full")
    return state


def _check_claims(path: Path) -> None:
    """Raise an error for an archive that is larger than its file, or a pickle that could fill the memory."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            claimed = sum(member.file_size for member in archive.infolist())
            if claimed > path.stat().st_size:
                raise ValueError(f"its members are compressed or overlap: they claim {claimed:,} bytes")
            if damaged := archive.testzip():  # torch.load does not look at the checksums
                raise ValueError(f"{damaged} in it does not match its checksum")
    if not path.stat().st_size:
        raise ValueError("empty")  # which mmap does not take
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        for name in REFUSED:
            if data.find(name) >= 0:
                raise ValueError(f"asks for {name.decode()}, which tensors do not need; save the state dict alone")


def unwrap_state(content: Any, source: str = "the weights") -> dict[str, Tensor]:
    """Take the state dict out of a checkpoint's dict, and drop the prefixes that all of its names share."""
    state = content
    for wrapper in WRAPPERS:
        if isinstance(state, Mapping) and isinstance(state.get(wrapper), Mapping):
            state = state[wrapper]
    mapping = state.items() if isinstance(state, Mapping) else ()
    if not mapping or not all(type(name) is str and isinstance(tensor, Tensor) for name, tensor in mapping):
        keys = f" with the keys {', '.join(map(printable, list(state)[:4]))}" if isinstance(state, Mapping) else ""
        raise WeightsError(f"{source}: not a state dict but a {type(state).__name__}{keys}; give tensors by name")
    while prefix := next((p for p in PREFIXES if all(name.startswith(p) for name in state)), None):
        state = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
    return dict(state)


def printable(name: object) -> str:
    """A name for an error message: a file may contain any text as one."""
    text = str(name)
    return text if text.isprintable() and len(text) < 100 else repr(text[:60])
