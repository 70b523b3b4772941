"""Damaged and crafted files, read in a process of their own that watches what reading them does.

A case ends well if the file is read after all, or in one ValueError or OSError of one line that names the file. It ends
badly, in a breach, with any other exception or a longer message, if it runs for a minute, if it needs more memory than
BUDGET, or if anything is started, connected to, executed, written or removed outside the case's folder.

The cases of a module are its FORMATS (whole files, damaged here in all sorts of ways) and its CRAFTED ones.
"""

import faulthandler
import importlib
import itertools
import json
import os
import random
import re
import resource
import shutil
import signal
import sys
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

NO_MEMORY = re.compile("alloc\\w+ (memory|failed)|(unable|can't|cannot) (to )?allocate|out of memory", re.IGNORECASE)
BUDGET = 512 << 20  # bytes of address space that a case may need
SECONDS = 60
# A package of the tests' own name, whatever else is called "tests" on the path.
BOOT = "import sys, types; p = sys.modules['cases'] = types.ModuleType('cases'); p.__path__ = [sys.argv[1]]; \
import importlib; importlib.import_module('cases.hostile').main(*sys.argv[2:])"


@dataclass(frozen=True)
class Format:
    """Whole files by their paths in a folder, which of them are damaged, and how the folder is read.

    `read` gets the folder and the path of the damaged file. `wrap`, if given, makes a file's contents from what is
    damaged: what is inside an archive whose checksums would notice all the rest.
    """

    kind: str
    files: dict[str, bytes]
    read: Callable[[Path, Path], object]
    victims: tuple[str, ...] = ()
    wrap: Callable[[bytes], bytes] | None = None
    named: str = ""  # what an error has to name, if that is not the file itself
    reserves: bool = False  # a library asks for memory of whatever size the file claims, and leaves it untouched
    checked: bool = False  # a checksum covers all of it: what is read must be what was written


@dataclass(frozen=True)
class Crafted:
    """One file, or a function that makes something of a folder, and how the folder is read; refused always."""

    kind: str
    name: str
    data: bytes | Callable[[Path], None]
    read: Callable[[Path, Path], object]
    named: str = ""
    says: str = ""  # part of the message


# Damage -----------------------------------------------------------------------------------------------------------


def truncate(data: bytes, draw: random.Random) -> bytes:
    return data[: draw.randrange(len(data))]


def flip(data: bytes, draw: random.Random) -> bytes:
    result = bytearray(data)
    for _ in range(draw.choice((1, 1, 2, 8))):
        result[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    return bytes(result)


def overwrite(data: bytes, draw: random.Random) -> bytes:
    """Extreme numbers where lengths, counts and offsets may be; most of these are near the beginning."""
    piece = draw.choice((b"\xff", b"\xff\xff", b"\xff" * 4, b"\xff" * 8, b"\xff\xff\xff\x7f", b"\x7f\xff\xff\xff"))
    piece = draw.choice((piece, bytes(len(piece)), b"\x00\x00\x00\x80", draw.randbytes(4), b"9" * len(piece)))
    at = draw.randrange(min(len(data), 256)) if draw.random() < 0.5 else draw.randrange(len(data))
    return data[:at] + piece + data[at + len(piece) :]


def shift(data: bytes, draw: random.Random) -> bytes:
    """A piece is gone, or there twice, or somewhere else."""
    a, b, c = sorted(draw.randrange(len(data) + 1) for _ in range(3))
    b = min(b, a + 64)
    return draw.choice((data[:a] + data[b:], data[:b] + data[a:], data[:a] + data[b:c] + data[a:b] + data[c:]))


DAMAGE = {"truncated": truncate, "bits flipped": flip, "numbers overwritten": overwrite, "pieces moved": shift}


# The watched process ----------------------------------------------------------------------------------------------


class Breach(BaseException):
    """What no reader may do; no `except Exception` swallows it."""


STARTS = ("os.system", "os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "subprocess.Popen")
CONNECTS = ("socket.connect", "socket.bind", "socket.getaddrinfo", "socket.sendto", "ctypes.dlopen")
CHANGES = ("os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.chmod", "os.link", "os.symlink", "os.truncate")
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC


class Watch:
    """While it is on, an audit hook raises Breach at what must not happen. Hooks cannot be taken off again."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.on = os.path.realpath(folder), False
        sys.addaudithook(self)

    def __call__(self, event: str, args: tuple) -> None:
        if not self.on:
            return
        if event in STARTS or event in CONNECTS:
            bad = True
        elif event == "exec":  # of a module that is imported late, or of what was in the file
            bad = not os.path.exists(getattr(args[0], "co_filename", "")) and "importlib._bootstrap" not in "".join(
                frame.filename for frame in traceback.extract_stack()
            )
        elif event == "open":
            path, _, flags = args
            bad = not isinstance(path, int) and bool((flags or 0) & WRITES) and self.outside(path)
        elif event in CHANGES:
            bad = any(self.outside(path, args[-1]) for path in args[:2] if isinstance(path, str | bytes | os.PathLike))
        else:
            return
        if bad:
            self.on = False  # or the report of it would be watched too
            raise Breach(f"{event} {args!r}\n" + "".join(traceback.format_stack()[-9:]))

    def outside(self, path: str | bytes | os.PathLike, base: object = -1) -> bool:
        """Whether a path, relative to the folder with the descriptor `base` if that is one, is not in ours."""
        start = os.readlink(f"/proc/self/fd/{base}") if isinstance(base, int) and base >= 0 else os.getcwd()
        real = os.path.realpath(os.path.join(start, os.fsdecode(path)))
        return os.path.commonpath([real, self.folder]) != self.folder and not real.startswith("/dev/")


def outcome(read: Callable[[], object], named: str, says: str, reserves: bool, watch: Watch) -> tuple[str, object]:
    """How a case ended, in words, and what it gave. Raises Breach where it ended badly."""

    def late(*_) -> None:
        raise Breach(f"still busy after {SECONDS} seconds")

    signal.signal(signal.SIGALRM, late)
    signal.alarm(SECONDS)
    watch.on = True
    try:
        return "read", read()
    except (ValueError, OSError) as error:
        text, cause = str(error), error
        while cause is not None and not reserves:
            if isinstance(cause, MemoryError) or NO_MEMORY.search(str(cause)):
                raise Breach(f"memory ran out: {text}") from error
            cause = cause.__cause__ or cause.__context__
        if "\n" in text or len(text) > 2000 or named not in text or says not in text:
            raise Breach(f"not one line that names {named} {says}: {type(error).__name__}: {text[:3000]!r}") from error
        return f"refused ({type(error).__name__})", None
    except Exception as error:
        raise Breach("".join(traceback.format_exception(error)[-6:])) from error
    finally:
        watch.on = False
        signal.alarm(0)


def put(folder: Path, name: str, data: bytes) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)  # to write over a file takes five times as long
    path.write_bytes(data)
    return path


class Bench:
    """Where cases are judged and counted."""

    def __init__(self, place: Path) -> None:
        self.place, self.work, self.watch = place, place / "work", Watch(place)
        self.counts: Counter = Counter()
        self.breaches: list[str] = []

    def judge(self, kind: str, case: str, read: Callable, named: str, says: str = "", reserves: bool = False) -> object:
        """What a case gives; None where it is refused."""
        put(self.place, "current.txt", f"{kind}: {case}".encode())
        try:
            end, value = outcome(read, named, says, reserves, self.watch)
        except Breach as breach:
            self.breaches.append(f"{kind}: {case}: {breach}")
            end, value = "breach", None
        self.counts[kind, end] += 1
        return value

    def lay(self, form: Format) -> None:
        shutil.rmtree(self.work, ignore_errors=True)
        for file, data in form.files.items():
            put(self.work, file, form.wrap(data) if form.wrap and file in form.victims else data)

    def damage(self, name: str, form: Format, reference: object, cases: int) -> None:
        """So many damaged files of each kind of damage."""
        victims = form.victims or tuple(form.files)
        self.lay(form)
        for (how, damaged), i in itertools.product(DAMAGE.items(), range(cases)):
            file = victims[i % len(victims)]
            whole = form.files[file]
            data = damaged(whole, random.Random(f"{name} {how} {i}"))
            path = put(self.work, file, form.wrap(data) if form.wrap else data)
            case, read = f"{name}, {how} {i}", partial(form.read, self.work, path)
            value = self.judge(f"damaged {form.kind}", case, read, form.named or path.name, "", form.reserves)
            if form.checked and value not in (None, reference):
                self.breaches.append(f"{case}: read as something else")
            put(self.work, file, form.wrap(whole) if form.wrap else whole)

    def craft(self, case: Crafted) -> None:
        shutil.rmtree(self.work, ignore_errors=True)
        self.work.mkdir(parents=True)
        path = self.work / (case.named or "file")
        path.write_bytes(case.data) if isinstance(case.data, bytes) else case.data(self.work)
        read, before = partial(case.read, self.work, path), self.counts[case.kind, "read"]
        self.judge(case.kind, case.name, read, case.named or "file", case.says)
        if self.counts[case.kind, "read"] > before:
            self.breaches.append(f"{case.kind}: {case.name}: was read")


def main(modules: str, folder: str, cases: str) -> None:
    """Run the cases of modules in `folder`: `cases` damaged files of every format and kind of damage, and crafted ones.

    Leaves report.json there, and current.txt with the case that was under way.
    """
    faulthandler.enable()
    bench = Bench(Path(folder))
    found = [importlib.import_module(module) for module in modules.split(",")]
    formats = {name: form for module in found for name, form in module.formats(bench.place).items()}
    references = {}
    for name, form in formats.items():  # what is imported late is imported now, before memory is bounded
        bench.lay(form)
        references[name] = form.read(bench.work, bench.work / (form.victims or tuple(form.files))[0])
    bound_memory()
    for name, form in formats.items():
        bench.damage(name, form, references[name], int(cases))
    for module in found:
        for case in module.crafted(bench.place, int(cases)):
            bench.craft(case)
    rows = [[kind, end, count] for (kind, end), count in bench.counts.items() if count]
    (bench.place / "report.json").write_text(json.dumps({"counts": rows, "breaches": bench.breaches}))


def bound_memory() -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + BUDGET
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))


# The tests' side --------------------------------------------------------------------------------------------------


def run(modules: tuple[str, ...], folder: Path, cases: int, tally: Callable[[str, str, int], None]) -> None:
    """Run modules' cases in a process of their own, count them, and fail if there was a breach."""
    from .forks import python  # here: it starts a server of forks, which the watched process has no use for

    words = "-c", BOOT, Path(__file__).parent, ",".join(modules), folder, cases
    environment = os.environ | {"XDG_CACHE_HOME": str(folder / "user"), "TORCH_HOME": str(folder / "torch")}
    done = python(*words, env=environment, timeout=3600)
    current = folder / "current.txt"
    assert done.returncode == 0, f"{current.read_text() if current.exists() else 'before all'}\n{done.stderr[-3000:]}"
    report = json.loads((folder / "report.json").read_text())
    for kind, end, count in report["counts"]:
        tally(kind, end, count)
    assert not report["breaches"], f"{len(report['breaches'])} breaches\n" + "\n".join(report["breaches"][:20])
