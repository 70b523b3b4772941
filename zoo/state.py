"""State dicts from files, whatever they were wrapped in."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

WRAPPERS = ("state_dict", "model_state_dict", "model")  # of torchvision's references, yanx27's, timm's checkpoints
PREFIXES = ("module.", "_orig_mod.")  # of DataParallel and of torch.compile


def read_state(path: str | Path) -> dict[str, Tensor]:
    """The state dict in a safetensors file, or in a checkpoint of ``torch.save``, which is not unpickled freely.

    Errors: ValueError, one line, for a file that is missing, damaged, or holds no state dict.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        found = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, OSError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"{path}: not a safetensors file or a checkpoint of tensors ({reason})") from error
    return plain(found, str(path))


def plain(state: Any, source: str = "the weights") -> dict[str, Tensor]:
    """Names and tensors alone: out of a checkpoint's dict, without the prefixes that all names share.

    Errors: ValueError where these are not tensors by name.
    """
    for wrapper in WRAPPERS:
        if isinstance(state, Mapping) and isinstance(state.get(wrapper), Mapping):
            state = state[wrapper]
    if not isinstance(state, Mapping) or not state or not all(isinstance(t, Tensor) for t in state.values()):
        kind = type(state).__name__
        found = f" of {', '.join(map(str, list(state)[:4]))}" if isinstance(state, Mapping) else ""
        raise ValueError(f"{source}: no state dict but {kind}{found}; give tensors by name")
    while prefix := next((p for p in PREFIXES if all(name.startswith(p) for name in state)), None):
        state = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
    return dict(state)
