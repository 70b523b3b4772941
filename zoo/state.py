"""State dicts from files, and from what checkpoints and wrappers put around them."""

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from comhe.errors import WeightsError, first_line
from comhe.inputs.checkpoints import REBUILD, Sharded, open_checkpoint
from comhe.inputs.pickles import Record, Unreadable
from comhe.inputs.signatures import listed_parts, named_kind, named_part

from .averages import AVERAGE, named_averages

State = Mapping[str, Tensor]

PREFIXES = ("module.", "_orig_mod.")  # of DataParallel and of torch.compile
# What a state dict is called in a checkpoint.
WRAPPERS = (
    "state_dict", "model_state_dict", "model_state", "model", "net", "network", "weights", "params", "module",
    "state_dict_ema", "model_ema", "ema_state_dict", "ema", "ema_model", "params_ema",
)  # fmt: skip
NEST = "\x1f"  # between the key of a dict and the names in it
COUNTERS = ("n_averaged", "total_ops", "total_params")  # of torch.optim.swa_utils and thop
BESIDE = ("optim", "lr_sched", "sched", "scaler", "amp", "hyper_parameters", "loops", "rng")
CALLBACKS = f"callbacks{NEST}"  # of Lightning, some of which keep averaged weights
# Files of save_pretrained, ours and that of Hugging Face's packages, which may divide a state dict and write an index.
SAVED = tuple(f"{name}{end}" for name in ("model.safetensors", "pytorch_model.bin") for end in ("", ".index.json"))
NOT_DENSE = "is not a dense tensor that is stored in full; save its to_dense() or contiguous()"
MAX_VALUES, MAX_DEPTH = 200_000, 12


def read_state(path: str | os.PathLike[str], key: str | None = None) -> dict[str, Tensor]:
    """Read the state dict in a safetensors file or in a checkpoint of ``torch.save``, of which nothing is executed.

    Wrappers (``state_dict`` ...) are dropped, and prefixes that all names share (``module.``, ``_orig_mod.``).

    Args:
        key: which state dict to take of a checkpoint that has several: ``"state_dict_ema"``, ``"teacher.backbone"``.

    Raises:
        WeightsError: The file is missing or damaged, or has no tensors by name, or several state dicts.

    Example:
        >>> read_state("no/such/file.pt")
        Traceback (most recent call last):
        comhe.errors.WeightsError: no/such/file.pt: no such file
    """
    state = whole(unwrap_state(read_tensors(path), f"{path}: ", key), f"{path}: ")
    for name, tensor in state.items():
        if tensor.is_meta:
            raise WeightsError(f"{path}: {printable(name)} {NOT_DENSE}")
    return state


def weights_file(path: str | os.PathLike[str]) -> Path:
    """Return the file in a folder of one model's weights, as ``save_pretrained`` writes it; any other path as it is.

    Raises:
        WeightsError: It is a folder of the parts that processes have written, which have to be joined.

    Example:
        >>> _ = (Path("resnet").mkdir(), Path("resnet/model.safetensors").touch())
        >>> weights_file("resnet").name
        'model.safetensors'
    """
    path = Path(path)
    if any((path / name).is_file() for name in ("recipe.json", "best.safetensors")):
        return path
    found = next((file for name in SAVED if (file := path / name).is_file()), path)
    if found.is_dir() and (kind := named_part(found)):
        raise WeightsError(f"{path}: {kind}")
    return found


def parts_of(path: Path) -> list[Path]:
    """Return the files next to it that the index of a divided state dict lists; of any other file, the file itself."""
    names = listed_parts(path) if path.suffix == ".json" and path.is_file() else None
    for name in names or ():
        if not re.fullmatch(r"[^/\\\0]{1,200}", name):
            raise WeightsError(f"{path}: it lists {printable(name)!r}, which is not the name of a file next to it")
        if not (path.parent / name).is_file():
            raise WeightsError(f"{path}: its part {printable(name)} is missing; download or copy it into this folder")
    return [path] if names is None else [path.parent / name for name in names]


def read_tensors(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """Read all tensors of a file, by name; keys of the dicts around a state dict come before it.

    Of a folder, those of the file that ``save_pretrained`` wrote there; of an index, those of the files that it lists.
    """
    if re.match(r"\w+://", str(path)):
        raise WeightsError(f"{path}: an address; download the file first and give its path")
    path = weights_file(path)
    if path.is_dir():
        raise WeightsError(f"{path}: a folder; give the file of weights in it")
    if not path.is_file():
        raise WeightsError(f"{path}: no such file")
    found: dict[str, Tensor] = {}
    for part in parts_of(path):
        tensors = _read_file(part)
        if twice := next(iter(found.keys() & tensors.keys()), None):
            raise WeightsError(f"{path}: two of its parts have {printable(twice)}; copy the parts of one save there")
        found |= tensors
    return found


def _read_file(path: Path) -> dict[str, Tensor]:
    try:
        if _is_safetensors(path):
            content: Any = load_file(path)
            tensors = content
        else:
            checkpoint = open_checkpoint(path)
            content = checkpoint.content
            tensors = flatten(content, checkpoint.tensor) or flatten(content, checkpoint.array)
    except (Unreadable, SafetensorError, OSError, KeyError, ValueError, TypeError, RuntimeError) as error:
        reason = first_line(error)[:300]
        raise WeightsError(f"{path}: not a safetensors file or a checkpoint of tensors ({reason})") from error
    if not tensors:
        is_object = isinstance(content, Record) and not content.name.startswith(REBUILD)
        advice = "save its state_dict() where it can be loaded" if is_object else "give tensors by name"
        raise WeightsError(f"{path}: not a state dict but {_shown(content)}; {advice}")
    return tensors


def _is_safetensors(path: Path) -> bool:
    """Whether a file begins as one of safetensors does, or is called one and begins as nothing else that is known."""
    with path.open("rb") as file:
        start = file.read(10)
    begins = start[8:9] == b"{" and int.from_bytes(start[:8], "little") < path.stat().st_size
    known = start.startswith((b"PK", b"\x80")) or named_kind(path)
    return begins or (path.suffix == ".safetensors" and not known)


def tensors_of(content: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return all tensors in a state dict or a checkpoint's dict, as :func:`read_tensors` does of a file."""
    try:
        tensors = flatten(content, lambda value: value if isinstance(value, Tensor) else None)
        tensors = tensors or flatten(content, _as_tensor)
    except Unreadable as error:
        raise WeightsError(f"the weights: {error}") from error
    if not tensors:
        raise WeightsError(f"the weights: not a state dict but {_shown(content)}; give tensors by name")
    return tensors


def is_sharded(tensor: Tensor) -> bool:
    """Whether a tensor is divided among processes: FSDP2's DTensor, FSDP1's ShardedTensor, or a file's part of one."""
    return isinstance(tensor, Sharded) or hasattr(tensor, "full_tensor") or hasattr(tensor, "local_shards")


def whole(tensors: State, source: str = "") -> dict[str, Tensor]:
    """Return tensors as this process has them; WeightsError for one of which it has a part: nothing is gathered."""
    result = dict(tensors)
    for name, tensor in tensors.items():
        if not is_sharded(tensor):
            continue
        summed = any(placement.is_partial() for placement in getattr(tensor, "placements", ()))
        result[name] = tensor.to_local() if hasattr(tensor, "to_local") and not summed else tensor.new_empty(0)
        if result[name].shape != tensor.shape:
            how = "get_model_state_dict(model, options=StateDictOptions(full_state_dict=True))"
            raise WeightsError(
                f"{source}{printable(name)} is sharded over processes, and only a part of it is here; give what {how} "
                "of torch.distributed.checkpoint.state_dict returns, or full_tensor() of each tensor"
            )
    return result


def _as_tensor(value: Any) -> Tensor | None:
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "biufc":
        return None
    return torch.from_numpy(np.ascontiguousarray(value, value.dtype.newbyteorder("="))).reshape(value.shape)


def flatten(content: Any, tensor: Callable[[Any], Tensor | None]) -> dict[str, Tensor]:
    """Return the tensors in nested dicts and pickled modules; those of optimizers and the like are left out."""
    if isinstance(content, Mapping) and all(type(key) is int for key in content):  # state dicts by epoch
        content = {str(key): value for key, value in content.items()}
    found: dict[str, Tensor] = {}
    lists: dict[str, list[Tensor]] = {}  # averages without names
    pending: list[tuple[str, str, int, Any]] = [("", NEST, 0, content)]
    visited = 0
    while pending:
        name, dot, depth, value = pending.pop()
        visited += 1
        if visited > MAX_VALUES:
            raise Unreadable(f"more than {MAX_VALUES:,} values in dicts")
        if name and (data := tensor(value)) is not None:
            found[name] = data
        elif isinstance(value, list | tuple) and AVERAGE.match(re.split(f"[{NEST}.]", name)[-1]):
            lists[name] = [data for each in value if (data := tensor(each)) is not None]
        elif depth < MAX_DEPTH:
            inner = "." if isinstance(value, Record) else NEST  # of modules in modules, of dicts in dicts
            for key, child in reversed(_children(value)):
                if not (isinstance(child, Mapping | Record) and key.lower().startswith(BESIDE)):
                    pending.append((f"{name}{dot}{key}" if name else key, inner, depth + 1, child))
    groups: dict[str, dict[str, Tensor]] = {}
    for name, data in found.items():
        groups.setdefault(name.rpartition(NEST)[0], {})[name.rpartition(NEST)[2]] = data
    for name, data_list in lists.items():
        fitting = [named for state in groups.values() if (named := named_averages(data_list, state))]
        found |= {f"{name}{NEST}{key}": data for key, data in (fitting[0] if len(fitting) == 1 else {}).items()}
    averages = {name.rpartition(NEST)[0] for name, t in found.items() if t.dim() and name.count(NEST) > 2}
    return {n: t for n, t in found.items() if not n.startswith(CALLBACKS) or n.rpartition(NEST)[0] in averages}


def _children(value: Any) -> list[tuple[str, Any]]:
    if isinstance(value, Record):
        if value.name.endswith(".OptimizedModule") and value.args:  # it is pickled as torch.compile(module)
            return [("_orig_mod", value.args[0])]
        inner = value.state if isinstance(value.state, dict) else {}
        if "_modules" in inner and "_parameters" in inner:  # a whole module that was pickled
            parts = (inner.get(part) for part in ("_parameters", "_buffers", "_modules"))
            inner = {name: child for part in parts if isinstance(part, dict) for name, child in part.items()}
        value = value.items or inner
    if isinstance(value, list | tuple) and len(value) <= 16:  # a checkpoint may be a tuple of state dict and epoch
        return [(str(i), child) for i, child in enumerate(value) if isinstance(child, Mapping)]
    return [(key, child) for key, child in value.items() if type(key) is str] if isinstance(value, Mapping) else []


def unwrap_state(tensors: State, source: str = "", key: str | None = None) -> dict[str, Tensor]:
    """Drop the dicts and the prefixes around the one state dict among these tensors."""
    state = select(tensors, key, source) if key else dict(tensors)
    while wrappers := [w for w in WRAPPERS if any(name.startswith(w + NEST) for name in state)]:
        if len(wrappers) > 1:
            raise WeightsError(f"{source}there are several state dicts; choose one by key={alternatives(wrappers)}")
        state = select(state, wrappers[0])
    while prefix := next((p for p in PREFIXES if all(name.startswith(p) for name in state)), None):
        state = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
    return {name.replace(NEST, "."): tensor for name, tensor in state.items()}


def select(tensors: State, key: str, source: str = "") -> dict[str, Tensor]:
    """Return the tensors below a key, such as ``"state_dict_ema"`` or ``"teacher.backbone"``, by their names there."""
    length = len(key) + 1
    found = {name[length:]: t for name, t in tensors.items() if name[:length].replace(NEST, ".") == f"{key}."}
    if not found:
        levels = dict.fromkeys(part for name in tensors for part in _levels(name))
        inside = [level for level in levels if level.endswith(f".{key.strip('.')}") or level == key.strip(".")]
        known = map(printable, dict.fromkeys(re.split(f"[{NEST}.]", name)[0] for name in tensors))
        hint = f"did you mean key={alternatives(inside[:4])}?" if inside else f"its keys are {', '.join([*known][:8])}"
        raise WeightsError(f"{source}there is no state dict at key={key!r}; {hint}")
    return found


def _levels(name: str) -> list[str]:
    """The keys and prefixes that stand before a name, the outermost first."""
    ends = [match.start() for match in re.finditer(f"[{NEST}.]", name[:300])][:MAX_DEPTH]
    return [name[:end].replace(NEST, ".") for end in ends]


def alternatives(values: Any) -> str:
    """Values as an error message offers them: ``'a' or 'b'``."""
    return " or ".join(repr(value) for value in values)


def _shown(content: Any) -> str:
    kind = content.name if isinstance(content, Record) else type(content).__name__
    kind = "torch.Tensor" if kind.startswith(REBUILD) else kind
    keys = [printable(key) for key in list(content)[:4]] if isinstance(content, Mapping) else []
    return f"a {printable(kind)}" + (f" with the keys {', '.join(keys)}" if keys else "")


def printable(name: object) -> str:
    """A name for an error message: a file may contain any text as one."""
    text = str(name)
    return text if text.isprintable() and len(text) < 100 else repr(text[:60])
