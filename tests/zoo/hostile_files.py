"""Weights and their cards, intact and crafted; run by test_hostile.py through tests/hostile.py."""

import argparse
import hashlib
import io
import json
import os
import pickle
import struct
import subprocess
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save

from comhe.zoo import cards, create_model, get_weights
from comhe.zoo.points import model_from_state

from ..hostile import Crafted, Format

OPTIONS = {"in_channels": 5, "num_classes": 3, "hidden_channels": 4, "dropout": 0.5}
NAME = "gcn.cora-mhe"
OURS, OTHERS = "weights with their cards", "weights of others (safetensors, checkpoints)"
ARRAYS = "weights of others (pickles, npy, npz)"


def state() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return create_model("gcn", **OPTIONS).state_dict()


def card_of(data: bytes, /, **changes: object) -> bytes:
    card = {field: {} for field in cards.FIELDS} | {
        "name": NAME,
        "model": "gcn",
        "options": OPTIONS,
        "preprocessing": {"kind": "graphs", "features": 5},
        "file": f"{NAME}.safetensors",
        "sha256": hashlib.sha256(data).hexdigest(),
        "url": None,
    }
    return json.dumps({key: value for key, value in (card | changes).items() if value != "absent"}).encode()


def checkpoint(content: object, **how: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, **how)
    return buffer.getvalue()


def numbers(model: torch.nn.Module) -> bytes:
    return b"".join(tensor.numpy().tobytes() for tensor in model.state_dict().values())


def arrays() -> dict[str, np.ndarray]:
    return {name: tensor.numpy() for name, tensor in state().items()}


def of_numpy(save: Callable | None = None) -> bytes:
    buffer = io.BytesIO()
    if save is None:
        np.save(buffer, np.array(arrays(), dtype=object), allow_pickle=True)
    else:
        save(buffer, **arrays())
    return buffer.getvalue()


def weight_normed() -> dict[str, torch.Tensor]:
    weights = state()
    for name in [name for name in weights if name.endswith(".weight")]:
        weights[f"{name}_v"] = weights.pop(name)
        weights[f"{name}_g"] = weights[f"{name}_v"].norm(dim=1, keepdim=True)
    return weights


def published(folder: Path, path: Path) -> bytes:
    cards.FOLDER = folder
    model = create_model("gcn", weights=NAME)
    assert model.num_classes == 3
    get_weights(NAME).transforms()
    return numbers(model)


def foreign(folder: Path, path: Path) -> bytes:
    return numbers(create_model("gcn", weights=path, **OPTIONS))


def everything() -> dict:
    """What checkpoints hold beside a network's tensors, under the names of others."""
    names = {"convs.0": "module.conv1", "convs.1": "module.conv2"}
    tensors = {names[key[:7]] + key[7:]: value for key, value in state().items()}
    namespace = argparse.Namespace(lr=0.1, path=Path("a/b"), sizes=[1, (2, {3})])
    beside = {"args": namespace, "acc": np.float64(0.5), "history": np.arange(9.0), "best": torch.tensor(0.5)}
    return beside | {
        "model": tensors,
        "optimizer": {"state": {0: {"exp_avg": torch.zeros(3)}}},
        "layer": torch.nn.ReLU(),
    }


def with_pickle(data: bytes) -> bytes:
    """A checkpoint with this pickle, checksums right."""
    return repacked(checkpoint(everything()), zipfile.ZIP_STORED, data_pkl=data)


def formats(folder: Path) -> dict[str, Format]:
    data, content = save(state()), {"epoch": 3, "model_state_dict": state()}
    card = card_of(data)
    pickled = zipfile.ZipFile(io.BytesIO(checkpoint(everything()))).read("archive/data.pkl")
    both = {f"{NAME}.safetensors": data, f"{NAME}.json": card}
    return {
        "published weights": Format(OURS, both, published, (f"{NAME}.safetensors",), named=NAME, checked=True),
        "card of published weights": Format(OURS, both, published, (f"{NAME}.json",), named=NAME),
        "safetensors": Format(OTHERS, {"own.safetensors": data}, foreign),
        "checkpoint": Format(OTHERS, {"own.pt": checkpoint(content)}, foreign, checked=True),
        "checkpoint of many things": Format(OTHERS, {"own.pt": checkpoint(everything())}, foreign, checked=True),
        "pickle in a checkpoint": Format(OTHERS, {"own.pt": pickled}, foreign, ("own.pt",), with_pickle),
        "many things, old format": Format(OTHERS, 
            {"own.pt": checkpoint(everything(), _use_new_zipfile_serialization=False, pickle_protocol=4)}, foreign
        ),
        "checkpoint, old format": Format(OTHERS, 
            {"own.pt": checkpoint(content, _use_new_zipfile_serialization=False)}, foreign
        ),
        "arrays in a pickle": Format(ARRAYS, {"own.pkl": pickle.dumps({"model": arrays()}, 4)}, foreign),
        "arrays in an old pickle": Format(ARRAYS, {"own.pkl": pickle.dumps(arrays(), 2)}, foreign),
        "tensors in a pickle": Format(ARRAYS, {"own.pkl": pickle.dumps(state(), 4)}, foreign),
        "npz": Format(ARRAYS, {"own.npz": of_numpy(np.savez)}, foreign, checked=True),
        "npz, compressed": Format(ARRAYS, {"own.npz": of_numpy(np.savez_compressed)}, foreign, checked=True),
        "npy of a dictionary": Format(ARRAYS, {"own.npy": of_numpy()}, foreign),
        "weight norm": Format(OTHERS, {"own.pt": checkpoint(weight_normed())}, foreign, checked=True),
    }  # fmt: skip


# Crafted ----------------------------------------------------------------------------------------------------------


class Call:
    def __init__(self, function: Callable, *args: object) -> None:
        self.call = function, args

    def __reduce__(self) -> tuple:
        return self.call


def with_header(header: object, body: bytes = b"", length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + body


def entry(shape: list, dtype: str = "F32", offsets: tuple[int, int] = (0, 16)) -> dict:
    return {"dtype": dtype, "shape": shape, "data_offsets": list(offsets)}


def repacked(data: bytes, compression: int, **replaced: bytes) -> bytes:
    """A checkpoint with its parts packed in another way, and perhaps other ones."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(buffer, "w", compression) as new:
        for part in old.infolist():
            name = part.filename.partition("/")[2].replace("/", "_").replace(".", "_")
            new.writestr(part.filename, replaced.get(name, old.read(part)))
    return buffer.getvalue()


def crafted(folder: Path, cases: int) -> Iterator[Crafted]:
    outside = folder / "outside"
    outside.mkdir(exist_ok=True)
    marker = str(outside / "was-here")
    calls = {
        "os.system": Call(os.system, f"mkdir {marker}"),
        "subprocess.Popen": Call(subprocess.Popen, ["mkdir", marker]),
        "eval": Call(eval, f"__import__('os').mkdir({marker!r})"),
        "exec": Call(exec, f"import os; os.mkdir({marker!r})"),
        "os.mkdir": Call(os.mkdir, marker),
        "open": Call(open, marker, "w"),
        "torch.load": Call(torch.load, marker),
        "nested": {"state_dict": {"convs.0.bias": Call(os.system, f"mkdir {marker}")}},
    }
    for name, call in calls.items():
        for how in ({}, {"_use_new_zipfile_serialization": False}):
            yield Crafted(
                "pickle that would run code",
                f"{name}, checkpoint {len(how)}",
                checkpoint(call, **how),
                foreign,
                "own.pt",
            )
        yield Crafted("pickle that would run code", f"{name}, bare", pickle.dumps(call, 2), foreign, "own.pt")
        yield Crafted(
            "pickle that would run code", f"{name}, as safetensors", pickle.dumps(call, 2), foreign, "own.safetensors"
        )
    yield from bombs()
    yield from wrong_numbers()
    yield from headers()
    yield from wrong_cards(outside)
    yield from public_layouts()


def bombs() -> Iterator[Crafted]:
    good = checkpoint({"a": torch.zeros(4)})
    pickled = zipfile.ZipFile(io.BytesIO(good)).read("archive/data.pkl")
    huge = {"a": torch.zeros(1).expand(1 << 20, 1 << 20)}
    zeros = checkpoint({"a": torch.zeros(1 << 20)})
    text = pickle.dumps("x" * 100_000, 2)[2:-1]  # with its index in the memo, 0
    encode = b"0" + b"c_codecs\nencode\n(h\x00X\x06\x00\x00\x00latin1tR" * 20_000
    # A dict of two references to a dict of two references ...
    laughs = b"".join(b"}q%c(U\x01ah%cU\x01bh%cu" % (i + 1, i, i) for i in range(60))
    laughs = b"0" + laughs.replace(b"u}", b"u0}")
    files = {
        "bytearray of 10 GB": checkpoint(Call(bytearray, 10_000_000_000)),
        "bytearray of 10 GB, bare": pickle.dumps(Call(bytearray, 10_000_000_000), 2),
        "2 GB of encoded text": repacked(good, 0, data_pkl=b"\x80\x02" + text + encode + b"0" * 19_999 + b"."),
        "deflated parts": repacked(zeros, zipfile.ZIP_DEFLATED),
        "one number for 2^40": checkpoint(huge),
        "storage of 2^50 numbers": repacked(
            good, 0, data_pkl=pickled.replace(b"K\x04", b"\x8a\x07" + bytes(6) + b"\x04")
        ),
        "sparse, 2^60 numbers": checkpoint({"a": torch.sparse_coo_tensor([[0], [0]], [1.0], (1 << 30, 1 << 30))}),
        "meta": checkpoint({"a": torch.empty(1 << 40, device="meta")}),
        "deep lists": b"\x80\x02" + b"]" * 50_000 + b"a" * 49_999 + b".",
        "lists of lists of lists": repacked(good, 0, data_pkl=b"\x80\x02]q\x00" + laughs + b"."),
        "a dict in itself": repacked(good, 0, data_pkl=b"\x80\x02}q\x00U\x01ah\x00s."),
        "memo of 2^32": repacked(good, 0, data_pkl=b"\x80\x02Nr\xff\xff\xff\xff."),
        "bytes of 2^62": repacked(good, 0, data_pkl=b"\x80\x04\x8e" + bytes(7) + b"\x40."),
        "a prefix of a megabyte": checkpoint({"x." * (1 << 19) + "weight": torch.zeros(2)}),
        "deep tuples": b"\x80\x02)" + b"\x85" * 50_000 + b".",
    }  # fmt: skip
    for name, data in files.items():
        yield Crafted("checkpoint bomb", name, data, foreign, "own.pt")
    many = {f"a{i}": {"model": arrays()} for i in range(9)} | {"x": np.broadcast_to(np.float32(0), (1 << 20,))}
    array = pickle.dumps(np.zeros(1 << 16, np.float32), 2)
    start = pickle.dumps({"a": np.zeros(3, np.float32)}, 4)
    claims = {
        "an array of 2^40 numbers": start.replace(b"K\x03\x85", b"\x8a\x06" + bytes(5) + b"\x01\x85"),
        "an array of a type of 2^30 bytes": start.replace(b"\x02f4", b"\x08V1000000"),
        "the same array 20,000 times": array[:2] + b"](" + array[2:-1] + b"q\x63" + b"h\x63" * 20_000 + b"e.",
        "several networks": pickle.dumps(many, 2)[:-1],
    }
    for name, data in claims.items():
        yield Crafted("checkpoint bomb", f"{name}, pickle", data, foreign, "own.pkl")
    for shape in ("999999999999,", "9**9**9,", "-1,", "1" * 40 + ","):
        text = f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({shape}), }}"
        start = np.lib.format.magic(1, 0) + struct.pack("<H", len(text)) + text.encode()
        yield Crafted("checkpoint bomb", f"npy of ({shape[:20]})", start + bytes(64), foreign, "own.npy")
    zeros = io.BytesIO()
    np.savez_compressed(zeros, a=np.zeros(1 << 25, np.uint8))
    yield Crafted("checkpoint bomb", "npz of zeros", zeros.getvalue(), foreign, "own.npz")


def wrong_numbers() -> Iterator[Crafted]:
    def changed(**changes: object) -> dict:
        return {key: changes.get(key.replace(".", "_"), value) for key, value in state().items()}

    bias = state()["convs.0.bias"]
    nan = bias.clone()
    nan[1] = float("nan")
    states = {
        "one NaN": changed(convs_0_bias=nan),
        "all NaN": {key: torch.full_like(value, float("nan")) for key, value in state().items()},
        "infinite": changed(convs_0_bias=bias + float("inf")),
        "infinite in half precision": changed(convs_0_bias=(bias + float("inf")).half()),
        "transposed": changed(convs_0_lin_weight=state()["convs.0.lin.weight"].t().contiguous()),
        "flat": changed(convs_0_lin_weight=state()["convs.0.lin.weight"].flatten()),
        "a scalar": changed(convs_0_bias=torch.tensor(1.0)),
        "no numbers": changed(convs_0_bias=torch.empty(0)),
        "one missing": {key: value for key, value in state().items() if key != "convs.0.bias"},
        "one too many": {**state(), "convs.9.bias": bias},
        "none": {},
        "other names": {f"x{i}": value for i, value in enumerate(state().values())},
        "another head": {**state(), "convs.1.lin.weight": torch.zeros(9, 4), "convs.1.bias": torch.zeros(9)},
        "a head for 10 classes": create_model("gcn", **OPTIONS | {"num_classes": 10}).state_dict(),
    }
    odd = {
        "complex": changed(convs_0_bias=bias + 1j),
        "sparse": changed(convs_0_lin_weight=state()["convs.0.lin.weight"].to_sparse()),
        "quantized": changed(convs_0_bias=torch.quantize_per_tensor(bias, 0.1, 0, torch.qint8)),
        "meta": changed(convs_0_bias=bias.to("meta")),
        "a name of two lines": state() | {"one\ntwo": bias},
        "a name of a megabyte": state() | {"x" * (1 << 20): bias},
        "a name of two lines for no tensor": {"one\ntwo": 1},
        "a list": changed(convs_0_bias=bias.tolist()),
        "a number": changed(convs_0_bias=1.0),
        "names that are numbers": dict(enumerate(state().values())),
        "a tensor alone": bias,
        "text": "state",
        "nothing": None,
    }
    for name, content in states.items():
        yield Crafted("wrong numbers or shapes", f"{name}, safetensors", save(content), foreign, "own.safetensors")
        with_card = partial_published(content)
        yield Crafted("wrong numbers or shapes", f"{name}, published", with_card, published, NAME)
    for name, content in (states | odd).items():
        for how in ({}, {"_use_new_zipfile_serialization": False}):
            data = checkpoint(content, **how)
            yield Crafted("wrong numbers or shapes", f"{name}, checkpoint {len(how)}", data, foreign, "own.pt")


def partial_published(content: dict[str, torch.Tensor]) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        data = save(content)
        (folder / f"{NAME}.safetensors").write_bytes(data)
        (folder / f"{NAME}.json").write_bytes(card_of(data))

    return write


def headers() -> Iterator[Crafted]:
    body = bytes(16)
    files = {
        "empty": b"",
        "seven bytes": bytes(7),
        "header of 2^63 bytes": with_header({}, length=2**63),
        "header of 200 MB": with_header(b"{}" + b" " * 1000, length=200_000_000),
        "header longer than the file": with_header({"a": entry([4])}, body, 10_000),
        "header of spaces": with_header(b" " * 1000),
        "header of brackets": with_header(b"[" * 100_000),
        "header that nests": with_header(b'{"a":' * 50_000 + b"1" + b"}" * 50_000),
        "header that is a list": with_header([1, 2]),
        "header that is no text": with_header(b"\xff" * 100),
        "shape of 2^60": with_header({"a": entry([1 << 60])}, body),
        "shape that overflows": with_header({"a": entry([1 << 33, 1 << 33])}, body),
        "shape of 2^64": with_header({"a": entry([1 << 64])}, body),
        "negative shape": with_header({"a": entry([-4])}, body),
        "shape of a fraction": with_header({"a": entry([4.5])}, body),
        "no numbers, offsets beyond": with_header({"a": entry([0], offsets=(1 << 40, 1 << 40))}, body),
        "offsets beyond the end": with_header({"a": entry([8], offsets=(0, 32))}, body),
        "offsets backwards": with_header({"a": entry([4], offsets=(16, 0))}, body),
        "overlap": with_header({"a": entry([4]), "b": entry([4])}, body),
        "a hole": with_header({"a": entry([2], offsets=(8, 16))}, body),
        "unknown type": with_header({"a": entry([4], "X9")}, body),
        "a type of four bits": with_header({"a": entry([32], "F4")}, body),
        "a type of six bits": with_header({"a": entry([4, 4], "F6_E2M3", (0, 12))}, bytes(12)),
        "a type of exponents": with_header({"a": entry([16], "F8_E8M0")}, body),
        "a name twice": with_header(b'{"a":%b,"a":%b}' % ((json.dumps(entry([4])).encode(),) * 2), body),
        "metadata that is a number": with_header({"__metadata__": 1, "a": entry([4])}, body),
        "bytes after the end": with_header({"a": entry([4])}, body + b"more"),
    }

    def write(data: bytes) -> Callable[[Path], None]:
        def written(folder: Path) -> None:
            (folder / f"{NAME}.safetensors").write_bytes(data)
            (folder / f"{NAME}.json").write_bytes(card_of(data))

        return written

    for name, data in files.items():
        yield Crafted("safetensors header", name, data, foreign, "own.safetensors")
        yield Crafted("safetensors header", f"{name}, published", write(data), published, NAME)


def wrong_cards(outside: Path) -> Iterator[Crafted]:
    data = save(state())
    (outside / f"{NAME}.safetensors").write_bytes(data)
    fields = {f"no {field}": {field: "absent"} for field in cards.FIELDS}
    kinds = {f"{field} is a number": {field: 7} for field in cards.FIELDS}
    files = (f"../outside/{NAME}.safetensors", str(outside / f"{NAME}.safetensors"), "..", ".", "", "a\0b", "x" * 500)
    paths = {f"file is {file[:12]!r}": {"file": file} for file in files}
    sums = ("", "0" * 64, "0" * 63, hashlib.sha256(data).hexdigest()[:8], hashlib.sha256(data).hexdigest().upper())
    others = {
        **{f"sha256 is {digest[:9]!r}": {"sha256": digest} for digest in sums},
        "another model": {"model": "gat"},
        "an unknown model": {"model": "gcm"},
        "options of another model": {"options": {"heads": 3}},
        "an option too many": {"options": OPTIONS | {"heads": 3}},
        "an option too few": {"options": {"in_channels": 5}},
        "an option of another type": {"options": OPTIONS | {"num_classes": "three"}},
        "10^15 classes": {"options": OPTIONS | {"num_classes": 10**15}},
        "10^9 classes": {"options": OPTIONS | {"num_classes": 10**9}},
        "10^30 classes": {"options": OPTIONS | {"num_classes": 10**30}},
        "no classes": {"options": OPTIONS | {"num_classes": 0}},
        "-1 classes": {"options": OPTIONS | {"num_classes": -1}},
        "more layers": {"options": OPTIONS | {"num_layers": 5}},
        "10^9 layers": {"options": OPTIONS | {"num_layers": 10**9}},
        "dropout 2": {"options": OPTIONS | {"dropout": 2}},
        "an option called weights": {"options": OPTIONS | {"weights": "cora-mhe"}},
        "unknown preprocessing": {"preprocessing": {"kind": "x"}},
        "no preprocessing": {"preprocessing": {}},
        "preprocessing of another kind": {"preprocessing": {"kind": "images", "features": 5}},
        "an address, file missing": {"file": "x.safetensors", "url": (outside / "none").as_uri()},
        "an address of another file": {"file": "x.safetensors", "url": Path("/etc/passwd").as_uri()},
        "an address that is none": {"file": "x.safetensors", "url": "x"},
        "an address that is a number": {"file": "x.safetensors", "url": 7},
    }
    texts = {
        "empty": b"",
        "no text": b"\xff\xfe\xfd",
        "a list": b"[1, 2]",
        "a number": b"7",
        "a word": json.dumps(" ".join(cards.FIELDS)).encode(),
        "null": b"null",
        "deep lists": b"[" * 200_000,
        "a number of 5,000 digits": b'{"a": ' + b"9" * 5000 + b"}",
        "64 MB": b'{"a": "' + b"x" * (64 << 20) + b'"}',
        "NaN": card_of(data, options=OPTIONS | {"dropout": float("nan")}),
    }

    def write(card: bytes) -> Callable[[Path], None]:
        def written(folder: Path) -> None:
            (folder / f"{NAME}.safetensors").write_bytes(data)
            (folder / f"{NAME}.json").write_bytes(card)

        return written

    for name, changes in (fields | kinds | paths | others).items():
        yield Crafted("altered card", name, write(card_of(data, **changes)), published, NAME)
    for name, text in texts.items():
        yield Crafted("altered card", name, write(text), published, NAME)
    yield Crafted(
        "altered card",
        "missing",
        lambda folder: write(b"")(folder) or (folder / f"{NAME}.json").unlink(),
        published,
        NAME,
    )


def public_layouts() -> Iterator[Crafted]:
    """State dicts in a public layout with a tensor missing or of another shape; there is no file to name."""
    torch.manual_seed(0)
    tensors = {key: torch.zeros(2, 2) for key in create_model("pointnet").state_dict()} | {
        key: torch.zeros(3, 3, 1)
        for key in (
            "feat.stn.conv1.weight",
            "feat.conv1.weight",
            "sa1.mlp_convs.0.weight",
            "conv5.0.weight",
            "fc3.weight",
        )
    }
    marks = ("feat.stn.conv1.weight", "sa1.mlp_convs.0.weight", "sa1.conv_blocks.0.0.weight", "conv5.0.weight")
    for mark in marks:
        for name, value in {
            "alone": {mark: torch.zeros(3, 3, 1)},
            "flat": {mark: torch.zeros(3)},
            "a scalar": {mark: torch.tensor(1.0)},
            "others of wrong shapes": tensors | {mark: torch.zeros(3, 3, 1), "linear3.weight": torch.zeros(3)},
        }.items():
            yield Crafted(
                "state dict of a port",
                f"{mark} {name}",
                b"",
                lambda folder, path, value=value: model_from_state(value),
                "state dict",
            )
