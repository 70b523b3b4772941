"""Every file format that is read as data, whole and crafted; run by test_hostile.py through tests/hostile.py."""

import gzip
import io
import json
import os
import pickle
import shutil
import struct
import tarfile
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
from PIL import Image

from comhe.datasets import AlteredDataWarning, load_graph, load_images
from comhe.datasets.graphs import planetoid
from comhe.datasets.images import cifar
from comhe.datasets.images.tree import list_tree
from comhe.datasets.io.cache import Decoded, cached
from comhe.datasets.io.files import read_lines
from comhe.datasets.points import modelnet
from comhe.datasets.points.hdf5 import read_h5
from comhe.inputs.pixels import decode
from comhe.inputs.shapes import read_cloud

from ..hostile import Crafted, Format
from ..inputs.test_meshes import VERTICES, colored, obj, off, ply, stl, stl_text
from ..inputs.test_scans import CLOUDS, npy, npz, pcd
from .conftest import as_bytes, python2, tiny_parts
from .image_sources import SPEC, archive, contents, write_tree

PICKLES, ARCHIVES, H5 = "pickles (Planetoid, CIFAR)", "archives (tar, gzip, zip)", "h5"
SHAPES, CACHES = "shapes (meshes, clouds and tables) and lists", "caches of decoded data, which are then made anew"


def quietly(read: Callable) -> Callable:
    def reader(folder: Path, path: Path) -> object:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", AlteredDataWarning)
            warnings.simplefilter("ignore", UserWarning)  # Pillow's on odd metadata
            return read(folder, path)

    return reader


def shape(folder: Path, path: Path) -> bytes:
    return read_cloud(path, 64, path.name).tobytes()


def annotated() -> dict[str, bytes]:
    """Tiny ImageNet's layout; what is read are lists, so the images may be empty."""
    files = {f"train/{name}/images/{name}_{i}.JPEG": b"" for name in ("n01", "n02") for i in range(2)}
    files |= {"val/images/val_0.JPEG": b"", "val/images/val_1.JPEG": b"", "wnids.txt": b"n02\nn01\n"}
    table = b"val_0.JPEG\tn02\t0\t0\t62\t62\nval_1.JPEG\tn01\t0\t0\t62\t62\n"
    return files | {"val/val_annotations.txt": table, "words.txt": b"n01\tcrane, machine\nn02\tgoldfish\nn03\tx\n"}


def tabled(name: str) -> dict[str, bytes]:
    """Images in one folder, of which only the names matter here, and their table."""
    rows = [(f"{i}.png", f"{i % 2}", "test" if i > 5 else "train") for i in range(8)]
    lines = [",".join(row) for row in [("file", "label", "split"), *rows]]
    if name.endswith(".jsonl"):
        lines = [json.dumps(dict(zip(("file_name", "label", "split"), row, strict=True))) for row in rows]
    return dict.fromkeys((row[0] for row in rows), b"") | {name: "\n".join(lines).encode()}


def listed(folder: Path, path: Path) -> object:
    try:
        return list_tree(folder).files
    except ValueError as error:  # it names what it found first: the table, or the folder that it does not fit
        raise ValueError(f"{path.name}: {error}") from error


def batches() -> dict[str, bytes]:
    return {name: python2(value) for name, value in contents().items()}


def extracted(folder: Path, path: Path) -> bytes:
    (folder / SPEC.folder).mkdir(exist_ok=True)
    for file in batches():
        shutil.copy(folder / file, folder / SPEC.folder / file)
    return (
        quietly(lambda *_: load_images(f"folder:{folder / SPEC.folder}", folder, workers=0))(folder, path)
        .train.pixels.numpy()
        .tobytes()
    )


def graph(folder: Path, path: Path) -> bytes:
    return load_graph("cora", folder).edge_index.numpy().tobytes()


def cifar100(folder: Path, path: Path) -> bytes:
    return load_images("cifar100", folder, workers=0).train.pixels.numpy().tobytes()


def cached_images(folder: Path, path: Path) -> bytes:
    same_times(folder / "set")
    return load_images(f"folder:{folder / 'set'}", folder, workers=0).train.pixels.numpy().tobytes()


def cached_clouds(folder: Path, path: Path) -> bytes:
    same_times(folder / "set")
    splits = {"train": (np.ones((4, 3)), np.zeros(4, int))}
    decoded = cached("shapes", folder / "set", ["a", "b"], folder, lambda: Decoded(splits, ("a",)))
    return decoded.splits["train"][0].tobytes()


def unpacked(folder: Path, path: Path) -> None:
    target = folder / modelnet.HDF5.folder
    try:
        modelnet._unpack(path, target)
        assert set(os.listdir(target)) <= {"train_files.txt", "test_files.txt", "shape_names.txt", "ply_data_test0.h5"}
    finally:
        for file in target.glob("*"):
            file.unlink()
        if target.exists():
            target.rmdir()


def clouds_h5(compression: str | None, **how) -> bytes:
    buffer = io.BytesIO()
    with h5py.File(buffer, "w", **how) as file:
        points = np.random.default_rng(0).normal(size=(4, 16, 3)).astype(np.float32)
        file.create_dataset("data", data=points, compression=compression)
        file.create_dataset("label", data=[[0], [1], [0], [1]], compression=compression)
    return buffer.getvalue()


def picture(form: str, **how) -> bytes:
    buffer = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (3, 4, 3), dtype=np.uint8)
    Image.fromarray(pixels).resize((40, 30), Image.Resampling.BICUBIC).save(buffer, form, **how)
    return buffer.getvalue()


def zipped(members: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def tarred(*members: tuple[tarfile.TarInfo, bytes], form: int = tarfile.PAX_FORMAT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as tar:
        for member, data in members:
            tar.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def formats(place: Path) -> dict[str, Format]:
    planetoid.SETS["cora"] = replace(
        planetoid.SETS["cora"], folder="Tiny", prefix="tiny", nodes=13, features=5, classes=3, validation=4
    )
    planetoid.MIRRORS = cifar.MIRRORS = ((place / "no-mirror").as_uri(),)
    cifar.SETS["cifar100"] = SPEC
    cifar.MAX_BYTES = 8 << 20
    pickles = {f"Tiny/raw/{name}": data for name, data in as_bytes(tiny_parts()).items()}
    packed = archive(contents())
    inner = python2(contents()["train"])
    others = contents()
    layout = {f"{modelnet.HDF5.folder}/{name}": data for name, data in LAYOUT.items()}
    found = {
        "Planetoid pickle": Format(PICKLES, pickles, quietly(graph), named="ind.tiny"),
        "CIFAR pickle": Format(
            PICKLES,
            {SPEC.archive: inner},
            quietly(cifar100),
            (SPEC.archive,),
            lambda data: archive({**others, "train": data}),
        ),
        "CIFAR tar": Format(
            ARCHIVES, {SPEC.archive: gzip.decompress(packed)}, quietly(cifar100), (SPEC.archive,), quick_gzip
        ),
        "CIFAR gzip": Format(ARCHIVES, {SPEC.archive: packed}, quietly(cifar100)),
        "ModelNet zip": Format(ARCHIVES, {"a.zip": zipped(layout)}, unpacked),
        "h5": Format(H5, {"a.h5": clouds_h5(None)}, lambda folder, path: read_h5(path, 2)),
        "h5, compressed": Format(H5, {"a.h5": clouds_h5("gzip")}, lambda folder, path: read_h5(path, 2)),
        "h5, new version": Format(
            H5, {"a.h5": clouds_h5(None, libver="latest")}, lambda folder, path: read_h5(path, 2)
        ),
        "list of files": Format(SHAPES, {"train_files.txt": b"a.h5\nb.h5\n"}, lambda folder, path: read_lines(path)),
        "annotations": Format(SHAPES, annotated(), listed, ("val/val_annotations.txt", "words.txt")),
        "table of images": Format(SHAPES, tabled("labels.csv"), quietly(listed), ("labels.csv",)),
        "table of images, JSON": Format(SHAPES, tabled("metadata.jsonl"), quietly(listed), ("metadata.jsonl",)),
        "CIFAR, extracted": Format(PICKLES, batches(), extracted, ("train", "meta"), named=SPEC.folder),
        "npz": Format(SHAPES, {"a.npz": npz(points=VERTICES, normals=VERTICES)}, shape),
        "obj": Format(SHAPES, {"a.obj": obj("%d/1/1")}, shape),
        "stl": Format(SHAPES, {"a.stl": stl()}, shape),
        "stl, text": Format(SHAPES, {"a.stl": stl_text()}, shape),
        "pcd": Format(SHAPES, {"a.pcd": pcd("ascii"), "b.pcd": pcd("binary")}, shape),
        "pcd, compressed": Format(SHAPES, {"a.pcd": pcd("binary_compressed")}, shape),
        "off, colors": Format(SHAPES, {"a.off": colored("COFF\n{} {} 0\n", "1 0 0 1")}, shape),
        "off, one line": Format(SHAPES, {"a.off": off().replace(b"\n", b" ")}, shape),
        "tables": Format(
            SHAPES, {name: CLOUDS[name] for name in ("count.pts", "index.csv", "cloudcompare.asc")}, shape
        ),
        "npy": Format(SHAPES, {"a.npy": npy(VERTICES)}, shape),
        "off": Format(SHAPES, {"a.off": off()}, shape),
        "ply": Format(SHAPES, {"a.ply": ply()}, shape),
        "ply, binary": Format(SHAPES, {"a.ply": ply("<"), "b.ply": ply("<", "double", "int", "uint")}, shape),
        "xyz": Format(SHAPES, {"a.xyz": b"".join(b"%.6f,%.6f,%.6f\n" % tuple(v) for v in VERTICES)}, shape),
        "xyz, any numbers": Format(SHAPES, {"a.txt": b"".join(b"%g %g %g 1\n" % tuple(v) for v in VERTICES)}, shape),
        "cache of clouds": cloud_copy(place),
        "cache of images": image_copy(place),
    }
    for form, how in PICTURES.items():
        found[form] = Format(
            "images (PNG, JPEG, GIF, BMP, PPM, WEBP, TIFF)",
            {"a.png": picture(form.split()[0], **how)},
            quietly(lambda folder, path: decode(str(path))),
            reserves=True,  # up to a GiB, for as many pixels as are allowed
        )
    return found


PICTURES = {
    "PNG": {},
    "JPEG": {},
    "JPEG progressive": {"progressive": True},
    "BMP": {},
    "PPM": {},
    "WEBP": {},
    "GIF": {},
    "TIFF": {},
    "TIFF deflate": {"compression": "tiff_adobe_deflate"},
}
LAYOUT = {
    "train_files.txt": b"ply_data_train0.h5\n",
    "test_files.txt": b"ply_data_test0.h5\n",
    "shape_names.txt": b"airplane\nxbox\n",
    "ply_data_test0.h5": bytes(range(256)),
}


def quick_gzip(data: bytes) -> bytes:
    return gzip.compress(data, 1)


def cloud_copy(place: Path) -> Format:
    write_all(place / "work" / "set", {"a": b"", "b": b""})
    return cache_format(place / "work", cached_clouds)


def image_copy(place: Path) -> Format:
    write_tree(place / "work" / "set")
    return cache_format(place / "work", cached_images)


def cache_format(work: Path, read: Callable) -> Format:
    """The files in a folder and the cache that reading them leaves, which is what is damaged."""
    read(work, work)
    files = {str(p.relative_to(work)): p.read_bytes() for p in work.rglob("*") if p.is_file()}
    shutil.rmtree(work)
    kept = tuple(name for name in files if name.endswith(".safetensors"))
    assert kept
    return Format(CACHES, files, read, kept, checked=True)


def same_times(folder: Path) -> None:
    """Give all files the times that they had when the cache was written, or it would not be current."""
    for path in folder.rglob("*"):
        os.utime(path, (1, 1))


# Crafted ----------------------------------------------------------------------------------------------------------


class Call:
    def __init__(self, function: Callable, *args: object) -> None:
        self.call = function, args

    def __reduce__(self) -> tuple:
        return self.call


def calls(outside: Path) -> dict[str, object]:
    import subprocess

    marker = str(outside / "was-here")
    return {
        "os.system": Call(os.system, f"mkdir {marker}"),
        "subprocess.Popen": Call(subprocess.Popen, ["mkdir", marker]),
        "eval": Call(eval, f"__import__('os').mkdir({marker!r})"),
        "exec": Call(exec, f"import os; os.mkdir({marker!r})"),
        "os.mkdir": Call(os.mkdir, marker),
        "open": Call(open, marker, "w"),
        "getattr": Call(getattr, "os", "system"),
        "nested": {b"data": [Call(os.system, f"mkdir {marker}")]},
    }


def crafted(place: Path, cases: int) -> Iterator[Crafted]:
    outside = place / "outside"
    outside.mkdir(exist_ok=True)
    pickles = as_bytes(tiny_parts())
    for name, call in calls(outside).items():
        for protocol in (2, 4, 5):
            for part in ("x", "ally", "graph"):
                files = {**pickles, f"ind.tiny.{part}": pickle.dumps(call, protocol)}
                yield Crafted(
                    "pickle that would run code",
                    f"{name}, Planetoid {part} {protocol}",
                    lambda folder, files=files: write_all(folder / "Tiny" / "raw", files),
                    quietly(graph),
                    f"ind.tiny.{part}",
                )
            data = archive({**contents(), "meta": pickle.dumps(call, protocol)})
            yield Crafted(
                "pickle that would run code", f"{name}, CIFAR {protocol}", data, quietly(cifar100), SPEC.archive
            )
            array = np.empty(3, dtype=object)
            array[0] = call
            yield Crafted("pickle that would run code", f"{name}, npy {protocol}", npy(array), shape, "a.npy")
    yield from archives(outside)
    yield from h5_files(outside)
    yield from shapes(1 << 20 if cases < 100 else 8 << 20)
    yield from pictures()


def write_all(folder: Path, files: dict[str, bytes]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)


def archives(outside: Path) -> Iterator[Crafted]:
    def regular(name: str, data: bytes, **headers: str) -> tuple[tarfile.TarInfo, bytes]:
        member = tarfile.TarInfo(name)
        member.size, member.pax_headers = len(data), headers
        return member, data

    def link(name: str, kind: bytes, target: str) -> tuple[tarfile.TarInfo, bytes]:
        member = tarfile.TarInfo(name)
        member.type, member.linkname = kind, target
        return member, b""

    good = [regular(f"{SPEC.folder}/{name}", python2(value)) for name, value in contents().items()]
    train, rest = f"{SPEC.folder}/train", [m for m in good if not m[0].name.endswith("train")]
    tars = {
        "a member above the folder": [regular(f"{SPEC.folder}/../../x", b"x"), *rest],
        "a member at an absolute path": [regular(str(outside / "x"), b"x"), *rest],
        "a symbolic link": [link(train, tarfile.SYMTYPE, "/etc/passwd"), *rest],
        "a hard link": [link(train, tarfile.LNKTYPE, "/etc/passwd"), *rest],
        "a device": [link(train, tarfile.CHRTYPE, ""), *rest],
        "a folder for a file": [link(train, tarfile.DIRTYPE, ""), *rest],
        "a link to a folder, and a file in it": [
            link(SPEC.folder, tarfile.SYMTYPE, str(outside)), *rest, regular(f"{SPEC.folder}/x", b"x")
        ],
        "a name by a pax header": [regular("x", b"x", path=str(outside / "x")), *rest],
    }  # fmt: skip
    for name, members in tars.items():
        yield Crafted("tar that leaves its folder", name, quick_gzip(tarred(*members)), quietly(cifar100), SPEC.archive)
    many = b"".join(tarfile.TarInfo(f"{i % 10}").tobuf() for i in range(10)) * 1000
    keys = b"".join(b"%d %07x=1\n" % (13, i) for i in range(300_000))
    bombs = {
        "zeros": gzip_zeros(1 << 30),
        "zeros in many parts": gzip.compress(bytes(1 << 20)) * 1000,
        "10,000 members": quick_gzip(many),
        "300,000 pax keys": quick_gzip(pax(keys)),
        "a sparse member of 2^50 bytes": quick_gzip(
            tarred(
                regular(train, b"0\n" + bytes(510), **{
                    "GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": str(1 << 50)
                }), *rest
            )
        ),
    }  # fmt: skip
    for name, data in bombs.items():
        says = "headers have more than" if "0,000" in name else ""
        yield Crafted("tar bomb", name, data, quietly(cifar100), SPEC.archive, says)
    folder = modelnet.HDF5.folder
    climbing = {f"{folder}/../../x.txt": b"x", str(outside / "train_files.txt"): b"x", "../train_files.txt": b"x"}
    for name in climbing:
        yield Crafted("zip that leaves its folder", name, zipped({name: b"x"}), unpacked, "a.zip")
    yield Crafted(
        "zip bomb", "2 GiB of zeros", zip_bomb(f"{folder}/train_files.txt", 2 << 30, 2 << 30), unpacked, "a.zip"
    )
    shortened = zip_bomb(f"{folder}/train_files.txt", 1 << 30, 100)
    yield Crafted("zip bomb", "1 GiB that claims 100 bytes", shortened, unpacked, "a.zip")
    encrypted = bytearray(zipped({f"{folder}/{name}": data for name, data in LAYOUT.items()}))
    for mark, at in ((b"PK\x01\x02", 8), (b"PK\x03\x04", 6)):
        start = 0
        while (start := encrypted.find(mark, start) + 1) > 0:
            encrypted[start - 1 + at] |= 1
    yield Crafted("zip, odd", "encrypted", bytes(encrypted), unpacked, "a.zip")


def pax(records: bytes) -> bytes:
    header = tarfile.TarInfo("pax")
    header.type, header.size = tarfile.XHDTYPE, len(records)
    return header.tobuf() + records + bytes(-len(records) % 512) + tarfile.TarInfo("a").tobuf() + bytes(1024)


def zeros(size: int) -> bytes:
    """Deflated zeros, made without making the zeros."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return (packer.compress(bytes(1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)) * (size >> 20) + b"\x03\x00"


def zlib_zeros(size: int) -> bytes:
    return b"\x78\xda" + zeros(size) + struct.pack(">HH", size % 65521, 1)  # Adler's checksum of zeros


def gzip_zeros(size: int) -> bytes:
    return b"\x1f\x8b\x08" + bytes(7) + zeros(size) + struct.pack("<2I", 0, size)


def zip_bomb(name: str, size: int, claim: int) -> bytes:
    """A member of zeros that claims to have another size."""
    body = zeros(size)
    fields = (0, 8, 0, 0, 0, len(body), claim, len(name), 0)
    local = struct.pack("<4s5H3I2H", b"PK\x03\x04", 20, *fields) + name.encode() + body
    central = struct.pack("<4s6H3I5H2I", b"PK\x01\x02", 20, 20, *fields, 0, 0, 0, 0, 0) + name.encode()
    return local + central + struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, 1, 1, len(central), len(local), 0)


def h5_files(outside: Path) -> Iterator[Crafted]:
    points = np.random.default_rng(0).normal(size=(4, 16, 3)).astype(np.float32)
    secret = outside / "secret"
    secret.write_bytes(points.tobytes())
    with h5py.File(outside / "other.h5", "w") as file:
        file["data"], file["label"] = points, [0, 1, 0, 1]

    def virtual(file: h5py.File, key: str) -> None:
        made = h5py.VirtualLayout(points.shape if key == "data" else (4,), np.float32 if key == "data" else int)
        made[:] = h5py.VirtualSource(outside / "other.h5", key, made.shape)
        file.create_virtual_dataset(key, made)

    def external(file: h5py.File, key: str) -> None:
        shape, kind = (points.shape, np.float32) if key == "data" else ((4,), np.int64)
        file.create_dataset(key, shape, kind, external=[(str(secret), 0, 4 * 16 * 12)])

    ways = {
        "external link": lambda file, key: file.__setitem__(key, h5py.ExternalLink(str(outside / "other.h5"), key)),
        "soft link": lambda file, key: file.__setitem__(key, h5py.SoftLink("/elsewhere")),
        "a soft link to itself": lambda file, key: file.__setitem__(key, h5py.SoftLink(f"/{key}")),
        "virtual data set": virtual,
        "external storage": external,
    }

    def make(fill: Callable[[h5py.File], None]) -> Callable[[Path], None]:
        def written(folder: Path) -> None:
            with h5py.File(folder / "a.h5", "w") as file:
                fill(file)

        return written

    def referring(way: Callable, key: str) -> Callable[[h5py.File], None]:
        def fill(file: h5py.File) -> None:
            way(file, key)
            other, value = ("label", [0, 1, 0, 1]) if key == "data" else ("data", points)
            file[other] = value

        return fill

    def claims(shape: tuple[int, ...], **how: object) -> Callable[[h5py.File], None]:
        def fill(file: h5py.File) -> None:
            file.create_dataset("data", shape, np.float32, **how)
            file.create_dataset("label", shape[:1], np.uint8, chunks=True)

        return fill

    def wide_chunk(file: h5py.File) -> None:
        made = file.create_dataset(
            "data", (4, 16, 3), "<f4", chunks=(1 << 14, 1 << 12, 3), maxshape=(None, None, 3), compression="gzip"
        )
        made.id.write_direct_chunk((0, 0, 0), zlib_zeros(12 << 26))
        file["label"] = [0, 1, 0, 1]

    fills = {
        f"h5 that refers elsewhere: {name}, {key}": referring(way, key)
        for name, way in ways.items()
        for key in ("data", "label")
    } | {
        "h5 bomb: 2^80 values": claims((1 << 40, 1 << 38, 3), chunks=(1, 1 << 10, 3)),
        "h5 bomb: 2^28 values, none stored": claims((1 << 16, 1 << 10, 3), chunks=(1, 1 << 10, 3)),
        "h5 bomb: 200,000,000 values, none stored": claims((66_000, 1000, 3)),
        "h5 bomb: a chunk of 768 MiB": wide_chunk,
        "h5 bomb: 2^31 clouds of no points": claims((1 << 31, 0, 3), chunks=(1, 1, 3), maxshape=(None, None, 3)),
        "h5, odd: strings": lambda f: f.update({"data": np.full((4, 16, 3), b"ab"), "label": [0, 1, 0, 1]}),
        "h5, odd: records": lambda f: f.update({"data": np.zeros((4, 16, 3), [("a", "f4")]), "label": [0, 1, 0, 1]}),
        "h5, odd: references": lambda f: f.update(
            {"data": np.full((4, 16, 3), f.ref, dtype=h5py.ref_dtype), "label": [0, 1, 0, 1]}
        ),
        "h5, odd: groups": lambda f: (f.create_group("data"), f.create_group("label")),
        "h5, odd: empty": lambda f: f.update({"data": h5py.Empty("f4"), "label": h5py.Empty("i4")}),
        "h5, odd: named types": lambda f: f.update({"data": np.dtype("f4"), "label": np.dtype("i4")}),
    }
    for name, fill in fills.items():
        yield Crafted(*name.split(": "), make(fill), lambda folder, path: read_h5(path, 2), "a.h5")


def header(rows: str, columns: str = "3", kind: str = "<f8") -> bytes:
    text = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': ({rows}, {columns}), }}\n".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


def shapes(many: int) -> Iterator[Crafted]:
    million = 1 << 20
    fan = f"{million}" + " 0 1 2 3 4 5 6 7" * (million // 8)
    vertices = "\n".join(" ".join(map(str, v)) for v in VERTICES)
    files = {
        "a.npy, 10^12 rows": header("999999999999") + bytes(24),
        "a.npy, 10^12 rows of no columns": header("999999999999", "0"),
        "b.npy, 10^400 rows": header("9" * 400) + bytes(24),
        "c.npy, a power": header("9**9**9") + bytes(24),
        "d.npy, a call": header("__import__('os').system('id')") + bytes(24),
        "e.npy, header of 4 GiB": b"\x93NUMPY\x02\x00\xff\xff\xff\xff" + bytes(100),
        "a.off, vertices": off(head="OFF\n999999999 3 0\n"),
        "b.off, faces": off(head="OFF\n8 999999999 0\n"),
        "c.off, digits": off(head="OFF\n" + "9" * 5000 + " 3 0\n"),
        "d.off, corners": off().replace(b"3 0 1 2", b"999999999 0 1 2"),
        "e.off, corner of many digits": off().replace(b"3 0 1 2", b"3 0 1 " + b"9" * 10_000),
        "f.off, unicode digits": "OFF\n²³ 3 0\n".encode("latin-1"),
        "g.off, lines": b"OFF\n1 0 0\n" + b"1\n" * many,
        "h.off, a polygon of a million corners, eight times": (f"OFF\n8 8 0\n{vertices}\n" + f"{fan}\n" * 8).encode(),
        "i.off, one line": f"OFF 999999 999999 0 {'0 ' * 4000}".encode(),
        "j.off, one long line": b"OFF 8 8 0 " + b"0 " * many,
        "k.off, a polygon of -1 corners in one line": off().replace(b"\n", b" ").replace(b" 3 0 1 2 ", b" -1 0 1 2 "),
        "a.obj, digits": b"v 1 2 3\nf 1 1 " + b"9" * 10_000 + b"\n",
        "b.obj, corners": b"v 1 2 3\nv 1 2 4\nv 1 3 4\n" + b"f" + b" 1" * 40_000 + b"\n",
        "c.obj, a line without end": b"v 1 2 3 \\\n" * many,
        "d.obj, infinity": b"v 1 2 1e999\nv 1 2 3\nv 0 0 0\nf 1 2 3\n",
        "a.stl, triangles": bytes(80) + b"\xff\xff\xff\x7f" + bytes(50),
        "b.stl, text": b"solid a\n" + b"vertex 1 2\n" * 3 + b"endsolid a\n",
        "c.stl, not a number": bytes(80) + struct.pack("<I", 1) + b"\xff" * 50,
        "a.pcd, points": pcd("binary").replace(b"POINTS 8", b"POINTS " + b"9" * 18),
        "b.pcd, digits": pcd("binary").replace(b"POINTS 8", b"POINTS " + b"9" * 5000),
        "c.pcd, fields": pcd("binary").replace(b"COUNT 1 1 1 5 1", b"COUNT 1 1 1 2147483647 1"),
        "d.pcd, copies of copies": pcd("binary_compressed", b"\x00a" + b"\xe0\xff\x00" * (many // 8)),
        "e.pcd, a size of 4 GiB": pcd("binary_compressed")[:-9] + b"\xff" * 9,
        "f.pcd, header without end": b"VERSION 0.7\n" * many,
        "g.pcd, negative": pcd("binary").replace(b"POINTS 8", b"POINTS -8"),
        "a.npz, 2 GiB of zeros": zip_bomb("points.npy", 2 << 30, 2 << 30),
        "b.npz, 1 GiB that claims 100 bytes": zip_bomb("points.npy", 1 << 30, 100),
        "c.npz, a pickle": npz(points=np.array([{}, {}, {}])),
        "d.npz, a climbing name": zipped({"../points.txt": b"x"}),
        "a.pts, a count": b"999999999999\n1 2 3\n4 5 6\n",
        "b.pts, digits": b"9" * many + b"\n1 2 3\n",
        "a.csv, names": b"x" * many + b",y,z\n",
        "b.csv, semicolons": b";" * many,
        "a.ply, vertices": ply("<").replace(b"vertex 8", b"vertex 99999999999"),
        "b.ply, faces": ply("<").replace(b"face 3", b"face 99999999999"),
        "c.ply, vertices in text": ply().replace(b"vertex 8", b"vertex 99999999999"),
        "d.ply, faces in text": ply().replace(b"face 3", b"face 99999999999"),
        "e.ply, digits": ply().replace(b"vertex 8", b"vertex " + b"9" * 5000),
        "f.ply, list of 2^31": ply("<", length="int", extra=False)[:-20] + b"\xff\xff\xff\x7f" * 5,
        "g.ply, list of -1": ply("<", length="int", extra=False)[:-20] + b"\xff" * 20,
        "h.ply, index of many digits": ply().replace(b"4 4 5 6 7 0.5", b"4 4 5 6 " + b"9" * 10_000 + b" 1"),
        "i.ply, header without end": b"ply\n" + b"comment\n" * million,
        "j.ply, elements": ply_of(b"element vertex 0\nproperty float x\n" * 1500),
        "k.ply, properties": ply_of(b"element vertex 9\n" + b"property float x\n" * 3500),
        "a.xyz, one number a line": b"1\n" * many,
        "b.xyz, numbers in one line": b"1 " * many,
        "c.xyz, a number of many digits": b"9" * many + b" 1 1\n",
        "d.xyz, comments": b"#\n" * many,
        "e.xyz, infinity": b"1 2 3\n1e999 0 0\n",
    }
    for name, data in files.items():
        yield Crafted("absurd counts in shapes", name, data, shape, name.split(",")[0])


def ply_of(elements: bytes) -> bytes:
    return b"ply\nformat binary_little_endian 1.0\n" + elements + b"end_header\n" + bytes(64)


def png(width: int, height: int, body: bytes, *chunks: tuple[bytes, bytes]) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    start = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = [(b"IHDR", start), *chunks, (b"IDAT", body), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


def pictures() -> Iterator[Crafted]:
    side = 13_000  # 169 million pixels, below the number from which Pillow itself refuses
    jpeg = bytearray(picture("JPEG"))
    at = jpeg.index(b"\xff\xc0")
    jpeg[at + 5 : at + 9] = struct.pack(">HH", 65500, 65500)
    bmp = bytearray(picture("BMP"))
    bmp[18:26] = struct.pack("<ii", 30_000, 30_000)
    tiff = picture("TIFF")
    text = zlib_zeros(1 << 30)
    good = zlib.compress((b"\0" + bytes(range(120))) * 30)
    files = {
        "169 million pixels, png": png(side, side, good),
        "4 billion pixels, png": png(65_535, 65_535, good),
        "2^62 pixels, png": png(2**31 - 1, 2**31 - 1, good),
        "65,500 x 65,500, jpeg": bytes(jpeg),
        "30,000 x 30,000, bmp": bytes(bmp),
        "169 million pixels, ppm": b"P6\n13000 13000\n255\n" + bytes(1000),
        "10^18 pixels, ppm": b"P6\n999999999 999999999\n255\n" + bytes(1000),
        "a claim in tiff": tiff.replace(struct.pack("<HHII", 256, 4, 1, 40), struct.pack("<HHII", 256, 4, 1, 2**31)),
    }
    for name, data in files.items():
        yield Crafted("image bomb", name, data, quietly(lambda folder, path: decode(str(path))), "a.png")
    chunks = {
        "text of 1 GiB": (b"zTXt", b"k\0\0" + text),
        "profile of 1 GiB": (b"iCCP", b"k\0\0" + text),
        "international text of 1 GiB": (b"iTXt", b"k\0\1\0\0\0" + text),
    }
    for name, chunk in chunks.items():
        data = png(40, 30, good, chunk)
        yield Crafted("image bomb", name, data, quietly(lambda folder, path: decode(str(path))), "a.png")
