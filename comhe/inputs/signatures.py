"""What a file is that is not what was expected: told by its first bytes, in one line that says what to do."""

import json
import re
from collections.abc import Collection
from pathlib import Path

_KERAS = "weights of Keras; load them there, transpose them to torch's layout, and save tensors by name"
_ONNX = "a graph of ONNX, whose weights have no names of layers; save the state_dict() of the torch model instead"
_DCP = (
    "a distributed checkpoint, in parts; torch.distributed.checkpoint.format_utils.dcp_to_torch_save(FOLDER, FILE) "
    "joins them"
)
_DEEPSPEED = "a checkpoint of DeepSpeed, in parts; the script zero_to_fp32.py in its folder joins them"
_UNPACK = "unpack it, and give the file in it"
SIGNATURES: tuple[tuple[bytes, str], ...] = (
    (b"version https://git-lfs.github.com", "a pointer of Git LFS, not the file; run git lfs pull to get it"),
    (b"\x89HDF\r\n\x1a\n", f"an HDF5 file: {_KERAS}"),
    (b"GGUF", "a GGUF file of quantized weights; give the weights that it was made from"),
    (b"\x1f\x8b", f"compressed by gzip; {_UNPACK}"),
    (b"BZh", f"compressed by bzip2; {_UNPACK}"),
    (b"\xfd7zXZ", f"compressed by xz; {_UNPACK}"),
    (b"\x28\xb5\x2f\xfd", f"compressed by zstd; {_UNPACK}"),
    (b"7z\xbc\xaf\x27\x1c", f"a 7z archive; {_UNPACK}"),
    (b"Rar!", f"a rar archive; {_UNPACK}"),
    (b"PK", "an archive that is cut off: it has no table of contents; download or copy it again"),
)
HEAD = 512  # bytes that tell what a file is
MARKUP = (b"<!doctype html", b"<html", b"<?xml", b"<head", b"<body")
# Members of a zip file, by their ends.
MEMBERS = {
    "model.weights.h5": f"an archive of Keras: {_KERAS}",
    "MANIFEST.json": f"an archive of TorchServe; {_UNPACK}",
    "archive_format": "a program of torch.export; load it with torch.export.load and save its state_dict",
    "models/model.json": "a program of torch.export; load it with torch.export.load and save its state_dict",
    **dict.fromkeys((".bin", ".ckpt", ".pt", ".pth", ".tar", ".safetensors"), f"an archive; {_UNPACK}"),
}
SUFFIXES = {
    ".onnx": _ONNX,
    ".h5": f"{_KERAS}",
    ".keras": f"{_KERAS}",
    ".pb": "a graph of TensorFlow; save its weights as tensors by name, in torch's layout",
    ".index": "a part of a checkpoint of TensorFlow; save its weights as tensors by name, in torch's layout",
    ".tflite": "a program of TensorFlow Lite; give the weights that it was made from",
    ".msgpack": "weights of Flax; save them as tensors by name, in torch's layout",
}  # fmt: skip
# Files of one process each, known by their names: they begin as others of torch do.
PARTS = {r"\.metadata|.+\.distcp": _DCP, r"(bf16_)?zero_pp_rank_\d+_.*_states\.pt": _DEEPSPEED}


def named_stand_in(head: bytes) -> str:
    """Say by its first bytes what lies in a file's place, whatever it was to be: a web page, a pointer; else nothing.

    Example:
        >>> named_stand_in(b"")
        'an empty file; download or copy it again'
    """
    if not head:
        return "an empty file; download or copy it again"
    if head.lstrip().lower().startswith(MARKUP):
        return "a web page, not the file; its address asks for a login, or has moved: download the file itself"
    return next((kind for signature, kind in SIGNATURES[:1] if head.startswith(signature)), "")


def stand_in(path: Path) -> str:
    """Say the same of a file; nothing of one that cannot be read."""
    try:
        with path.open("rb") as file:
            return named_stand_in(file.read(HEAD))
    except OSError:
        return ""


def named_part(path: Path) -> str:
    """Say what checkpoint a folder is, or a file belongs to, of which each process has written a part; else nothing.

    Example:
        >>> named_part(Path("step_10/__0_0.distcp")).partition(";")[0]
        'a distributed checkpoint, in parts'
    """
    is_step = path.name.startswith("global_step") and path.is_dir()
    if (path.parent if is_step else path).joinpath("zero_to_fp32.py").is_file():
        return _DEEPSPEED
    if any(path.glob("*.distcp")):
        return _DCP
    return next((kind for pattern, kind in PARTS.items() if re.fullmatch(pattern, path.name)), "")


def named_kind(path: Path) -> str:
    """Say what a file is by its first bytes, or else by its name; nothing if neither tells.

    Example:
        >>> _ = Path("page.pt").write_text("<!DOCTYPE html>")
        >>> named_kind(Path("page.pt"))
        'a web page, not the file; its address asks for a login, or has moved: download the file itself'
    """
    with path.open("rb") as file:
        head = file.read(HEAD)
    if stand_in := named_stand_in(head):
        return stand_in
    if head[257:262] == b"ustar":
        return f"a tar archive; {_UNPACK}"
    if head[:2] == b"\x08\x01" and path.suffix == ".onnx":
        return _ONNX
    for signature, kind in SIGNATURES:
        if head.startswith(signature):
            return kind
    if path.suffix == ".data-00000-of-00001":
        return SUFFIXES[".index"]
    if head[:1] == b"{" and listed_parts(path) is not None:
        return "a list of the parts of a state dict; give one file that has all of them"
    return SUFFIXES.get(path.suffix.lower()) or named_part(path)


def named_archive(names: Collection[str]) -> str:
    """Say what a zip file is by the names in it; nothing if they do not tell."""
    return next((kind for end, kind in MEMBERS.items() if any(name.endswith(end) for name in names)), "")


def listed_parts(path: Path) -> list[str] | None:
    """Return the names of the files of a state dict that an index of Hugging Face's lists; None for any other file."""
    try:
        content = json.loads(path.read_bytes()) if path.stat().st_size < 1 << 26 else {}
        return sorted({str(name) for name in content["weight_map"].values()}) or None
    except (ValueError, RecursionError, TypeError, KeyError, AttributeError):
        return None
