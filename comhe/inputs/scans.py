"""Clouds and meshes in arrays of numpy, and clouds in PCD files. Sizes are checked before memory is taken for them."""

import math
import zipfile
from io import BytesIO
from pathlib import Path

import numpy as np

from comhe.errors import DataError

from .columns import find_axes
from .files import ARCHIVE_ERRORS
from .meshes import MAX_TRIANGLES, Mesh
from .tables import parse_table

COLUMNS = range(3, 16)  # of a cloud; those after the third (normals, colors) are not used
# Names of the points in an .npz of several arrays, whatever their case.
CLOUDS = ("points", "xyz", "pos", "position", "positions", "coord", "coords", "pc", "cloud")
VERTICES = ("vertices", "verts", "v")
FACES = ("faces", "face", "triangles", "f")
KEYS = (*CLOUDS, *VERTICES, "data", "arr_0")
VOLUME = ("occupancies", "occupancy", "occ", "sdf", "sdfs", "neg")  # beside points inside and outside of a shape
MAX_BYTES = 1 << 28
MAX_HEADER = 1 << 12  # of PCD
MAX_ROW = 1 << 16  # bytes of a point in PCD
EXPANSION = 100  # LZF makes 264 bytes of 3 at most


def rows_of(points: np.ndarray, name: object) -> np.ndarray:
    """Return a cloud with its points as rows: [n, 3 or more] is unchanged, and [3 or more, n] is transposed.

    Three is the number of columns if the last or else the first size is 3, then six likewise; otherwise any number that
    a cloud may have, the last size first. What is transposed has no fewer points than columns.
    """
    if points.ndim == 3 and len(points) == 1:
        points = points[0]
    if points.ndim == 2 and points.dtype.kind in "fiu":
        for columns in ((3,), (6,), COLUMNS):
            for cloud in (points, points.T):
                if cloud.shape[1] in columns and (cloud is points or len(cloud) >= cloud.shape[1]):
                    return cloud
    kind = str(points.dtype)[:40]
    raise DataError(f"{name}: an array of {kind} {str(points.shape)[:40]}, not of numbers [n, 3] or [3, n]")


def parse_npy(data: bytes, path: Path) -> np.ndarray:
    """Read an array; its size is checked against the file before numpy allocates it."""
    file = BytesIO(data)
    try:
        version = np.lib.format.read_magic(file)
        read_header = {1: np.lib.format.read_array_header_1_0, 2: np.lib.format.read_array_header_2_0}[version[0]]
        shape, _, kind = read_header(file)
        axes = find_axes(kind.names, path) if kind.names and not kind.hasobject else None
        fields = [kind.names[axis] for axis in axes] if kind.names and axes else []
        if any(kind[field].kind not in "fiu" for field in fields) or (not fields and kind.kind not in "fiu"):
            raise DataError(f"{path}: an array of {str(kind)[:40]} {str(shape)[:40]}, not of numbers [n, 3] or [3, n]")
        if math.prod(shape) * kind.itemsize != len(data) - file.tell():
            raise DataError(f"{path}: truncated or damaged: {len(data) - file.tell():,} bytes for {kind} {shape}")
        file.seek(0)
        array = np.load(file, allow_pickle=False)
        return np.stack([array[field].ravel() for field in fields], 1) if fields else array
    except DataError:
        raise
    except Exception as error:  # numpy parses the header as a Python literal, and raises whatever the damage causes
        raise DataError(f"{path}: not a .npy file of numbers [n, 3] ({type(error).__name__})") from error


def parse_npz(data: bytes, path: Path) -> Mesh:
    """Read the only array of an archive, the one with the name of a cloud, or x, y and z; next to faces, it is a mesh.

    Where there are a cloud and a mesh, the cloud is read.
    """
    try:
        with zipfile.ZipFile(BytesIO(data)) as archive:
            members = {m.filename.removesuffix(".npy"): m for m in archive.infolist() if m.filename.endswith(".npy")}
            known = [name for key in KEYS for name in members if name.lower() == key]
            known = known or [name for name in members if len(members) == 1 and name.lower() not in FACES]
            if volume := [key for key in VOLUME if key in members]:
                raise DataError(
                    f"{path}: has {volume[0]!r}: its points fill a volume and are not on a surface; give a cloud of "
                    "the surface, for example the file pointcloud.npz next to it"
                )
            names = known[:1] or [[*members][axis] for axis in find_axes([*members], path) or ()]
            if not names:
                found = ", ".join(repr(name[:40]) for name in list(members)[:9]) or "no array"
                raise DataError(f"{path}: has {found}; name the array of the points {KEYS[0]!r}")
            if len(clouds := [name for name in known if name.lower() in CLOUDS]) > 1:
                both = f"{clouds[0]!r} and {clouds[1]!r}"
                raise DataError(f"{path}: has both {both}, either of which may be its points; leave one of them out")
            points = [_member(archive, members[name], path) for name in names]
            is_mesh = not clouds or not any(name.lower() in VERTICES for name in known)
            faces = [_member(archive, members[name], path) for name in members if is_mesh and name.lower() in FACES]
    except DataError:
        raise
    except ARCHIVE_ERRORS as error:
        raise DataError(f"{path}: not an .npz file ({' '.join(str(error).split())[:160]})") from error
    polygons = _polygons(parse_npy(faces[0], path), path, bool(clouds)) if faces else np.empty((0, 3), int)
    if len(polygons) > MAX_TRIANGLES:
        raise DataError(f"{path}: {len(polygons):,} faces, more than {MAX_TRIANGLES:,}; simplify the mesh")
    first, *others = (parse_npy(each, path) for each in points)
    if any(each.size != first.size for each in others):
        raise DataError(f"{path}: x, y and z have different numbers of values")
    if others:
        first = np.stack([each.ravel() for each in (first, *others)], 1)
    return rows_of(first, path), [*map(tuple, polygons.tolist())]


def _polygons(faces: np.ndarray, path: Path, may_differ: bool) -> np.ndarray:
    """Faces as integers [m, 3 or 4]; from PyTorch Geometric's [3, m] and MATLAB's whole floats, too.

    Next to a cloud they may be something else (``may_differ``): features, or the number of the face of each point.
    """
    if faces.ndim == 2 and len(faces) == 3 and faces.shape[1] not in (3, 4):
        faces = faces.T
    if not faces.size:
        return np.empty((0, 3), int)
    if faces.dtype.kind == "f" and (faces == np.floor(faces)).all():
        faces = faces.astype(np.int64)
    if faces.ndim != 2 or faces.shape[1] not in (3, 4) or faces.dtype.kind not in "iu":
        if may_differ:
            return np.empty((0, 3), int)
        raise DataError(f"{path}: its faces are {faces.dtype} {list(faces.shape)}, not vertex numbers [m, 3]")
    if faces.shape[1] == 4 and len(faces) > 1 and (faces[:, 0] == 3).all():  # as VTK has them
        raise DataError(f"{path}: each of its faces begins with their number of corners, 3; leave out that column")
    return faces


def _member(archive: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path) -> bytes:
    """The bytes of one array, no more than it claims; without a bound, it would unpack more."""
    name, size = member.filename.removesuffix(".npy"), member.file_size
    if size > MAX_BYTES:
        raise DataError(f"{path}: {name!r} claims {size:,} bytes, more than {MAX_BYTES:,}")
    if size > EXPANSION * 11 * (member.compress_size + 1):  # deflate's limit is 1032
        raise DataError(f"{path}: {name!r} claims {size:,} bytes, more than the archive can have")
    with archive.open(member) as file:
        return file.read(size + 1)


def parse_pcd(data: bytes, path: Path) -> np.ndarray:
    """Parse a PCD file, ASCII, binary or compressed; points that a scanner marked as invalid (NaN) are dropped."""
    head, body = _pcd_header(data, path)
    try:
        fields = head.get("FIELDS") or head["COLUMNS"]  # the word of version 0.5
        sizes, kinds = [*map(int, head["SIZE"])], head["TYPE"]
        counts = [*map(int, head.get("COUNT", ["1"] * len(fields)))]
        count = int(head["POINTS"][0]) if "POINTS" in head else int(head["WIDTH"][0]) * int(head["HEIGHT"][0])
        if min(counts) < 0 or sum(map(abs, map(int.__mul__, sizes, counts))) > MAX_ROW:  # numpy would not notice
            raise ValueError("counts")
        formats = [f"<{kind.lower()}{size}" for kind, size in zip(kinds, sizes, strict=True)]
        names = [f"{i} {name}" for i, name in enumerate(fields)]  # padding is called "_" any number of times
        row = np.dtype([(n, f, (c,)) for n, f, c in zip(names, formats, counts, strict=True)])
        if (found := find_axes(fields, path)) is None:
            raise KeyError("xyz")
        axes = [names[axis] for axis in found]
    except (KeyError, ValueError, TypeError, IndexError, OverflowError, SyntaxError) as error:
        raise DataError(f"{path}: not a PCD file with fields x, y and z ({type(error).__name__})") from error
    if any(np.dtype(f).kind not in "fiu" for f in formats) or not 0 <= count * max(row.itemsize, 1) <= MAX_BYTES:
        raise DataError(
            f"{path}: {count:,} points of {row.itemsize:,} bytes, more than {MAX_BYTES:,} bytes, or no numbers"
        )
    kind = head["DATA"][0]
    if kind == "ascii":
        columns = dict(zip(names, np.cumsum([0, *counts[:-1]]), strict=True))
        table = parse_table(body, path, (sum(counts),)) if count else np.empty((0, sum(counts)))
        if len(table) != count:
            raise DataError(f"{path}: truncated: {len(table):,} points, not {count:,}")
        points = table[:, [columns[axis] for axis in axes]]
    else:
        if kind == "binary_compressed":
            packed, size = (int.from_bytes(body[i : i + 4], "little") for i in (0, 4))
            if size != count * row.itemsize or packed != len(body[8 : 8 + packed]) or size > EXPANSION * packed:
                raise DataError(f"{path}: truncated or damaged: {packed:,} bytes for {size:,} of {count:,} points")
            body = lzf_decompress(body[8 : 8 + packed], size, path)
        if len(body) < count * row.itemsize:
            raise DataError(f"{path}: truncated: {len(body):,} bytes for {count:,} points of {row.itemsize}")
        if kind == "binary_compressed":  # all values of one field after the other
            starts = np.cumsum([0, *(count * row[name].itemsize for name in names)])
            columns = dict(zip(names, starts, strict=False))
            points = np.stack([np.frombuffer(body, row[a].base, count, int(columns[a])) for a in axes], 1)
        else:
            records = np.frombuffer(body, row, count)
            points = np.stack([records[axis][:, 0] for axis in axes], 1)
    points = points.astype(np.float64)
    return points[~np.isnan(points).any(1)]


def _pcd_header(data: bytes, path: Path) -> tuple[dict[str, list[str]], bytes]:
    """The words of each line of the header, which ends with ``DATA``, and what follows it."""
    head: dict[str, list[str]] = {}
    start = 0
    while start < min(len(data), MAX_HEADER):
        end = data.find(b"\n", start) + 1 or len(data)
        words = data[start:end].decode("latin-1").partition("#")[0].split()
        start = end
        if words:
            head[words[0].upper()] = words[1:]
            if words[0].upper() == "DATA" and words[1:] and words[1] in ("ascii", "binary", "binary_compressed"):
                return head, data[start:]
    raise DataError(f"{path}: does not begin with a PCD header, up to 'DATA ascii', 'binary' or 'binary_compressed'")


def lzf_decompress(data: bytes, size: int, path: Path) -> bytes:
    """Unpack LZF: runs of literal bytes, and copies of what was unpacked before.

    Source: Lehmann, LibLZF, http://oldhome.schmorp.de/marc/liblzf.html.
    """
    result, i = bytearray(), 0
    try:
        while i < len(data) and len(result) <= size:
            control = data[i]
            i += 1
            if control < 32:
                result += data[i : i + control + 1]
                i += control + 1
                continue
            length, back = control >> 5, (control & 31) << 8
            if length == 7:
                length += data[i]
                i += 1
            start = len(result) - (back | data[i]) - 1
            i += 1
            if start < 0:
                raise IndexError
            length += 2
            while length > 0:  # a copy may overlap what it appends
                piece = result[start : start + length]
                result += piece
                start, length = start + len(piece), length - len(piece)
    except IndexError:
        raise DataError(f"{path}: its compressed points are damaged") from None
    if len(result) != size:
        raise DataError(f"{path}: its compressed points are {len(result):,} bytes, not {size:,}")
    return bytes(result)
