"""State dicts from files, whatever they were wrapped in."""

from __future__ import annotations

import mmap
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

WRAPPERS = ("state_dict", "model_state_dict", "model")  # of torchvision's references, yanx27's, timm's checkpoints
PREFIXES = ("module.", "_orig_mod.")  # of DataParallel and of torch.compile
# What torch.load(weights_only=True) still calls, on arguments of any size: a small file could fill the memory.
REFUSED = (b"bytearray", b"_codecs")


def read_state(path: str | Path) -> dict[str, Tensor]:
    """The state dict in a safetensors file, or in a checkpoint of ``torch.save``, which is not unpickled freely.

    Errors: ValueError, one line, for a file that is missing, damaged, claims more than it has, or holds no state dict.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        _check_claims(path)
        found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch's reader raises whatever the damage makes it raise
        reason = str(error).splitlines()[0][:300] if str(error) else type(error).__name__
        raise ValueError(f"{path}: not a safetensors file or a checkpoint of tensors ({reason})") from error
    state = plain(found, str(path))
    for name, tensor in state.items():
        if tensor.layout != torch.strided or tensor.numel() * tensor.itemsize > tensor.untyped_storage().nbytes():
            raise ValueError(f"{path}: {shown(name)} is no plain tensor with numbers of its own in the file")
    return state


def _check_claims(path: Path) -> None:
    """ValueError for a checkpoint with more in its parts than it has itself, or a pickle that could fill memory."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            claimed = sum(part.file_size for part in archive.infolist())
            if claimed > path.stat().st_size:
                raise ValueError(f"its parts are compressed or overlap: they claim {claimed:,} bytes")
            if damaged := archive.testzip():  # torch.load does not look at the checksums
                raise ValueError(f"{damaged} in it does not have its checksum")
    if not path.stat().st_size:
        raise ValueError("empty")  # which mmap does not take
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        for name in REFUSED:
            if data.find(name) >= 0:
                raise ValueError(f"asks for {name.decode()}, which tensors do not need; save the state dict alone")


def plain(state: Any, source: str = "the weights") -> dict[str, Tensor]:
    """Names and tensors alone: out of a checkpoint's dict, without the prefixes that all names share.

    Errors: ValueError where these are not tensors by name.
    """
    for wrapper in WRAPPERS:
        if isinstance(state, Mapping) and isinstance(state.get(wrapper), Mapping):
            state = state[wrapper]
    if (
        not isinstance(state, Mapping)
        or not state
        or {type(name) for name in state} != {str}
        or not all(isinstance(tensor, Tensor) for tensor in state.values())
    ):
        kind = type(state).__name__
        found = f" of {', '.join(map(shown, list(state)[:4]))}" if isinstance(state, Mapping) else ""
        raise ValueError(f"{source}: no state dict but {kind}{found}; give tensors by name")
    while prefix := next((p for p in PREFIXES if all(name.startswith(p) for name in state)), None):
        state = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
    return dict(state)


def shown(name: object) -> str:
    """A name as it stands in an error: a file may hold any text for one."""
    text = str(name)
    return text if text.isprintable() and len(text) < 100 else repr(text[:60])
