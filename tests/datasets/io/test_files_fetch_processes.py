"""Processes that fetch one set at once, or are killed while they do: it is whole afterwards, or not there."""

import hashlib
import os
import random
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from comhe.datasets import load_points
from comhe.datasets.points import modelnet

from ...forks import FORKS

SECONDS = 60
LOAD = """
from dataclasses import replace
from comhe.datasets import load_points
from comhe.datasets.points import modelnet
modelnet.HDF5 = replace(modelnet.HDF5, **changes)
modelnet.CENSUS, modelnet.CLASSES = ((30, 6),), 2
pipe.send("ready")
pipe.recv()
load_points("modelnet40", root)
pipe.send("loaded")
"""


class Mirror(BaseHTTPRequestHandler):
    """`/whole` waits until as many ask for it as the barrier says; `/half` stops in the middle for good."""

    def do_GET(self):
        server = self.server
        self.send_response(200)
        self.send_header("Content-Length", str(len(server.body)))
        self.end_headers()
        if self.path == "/whole":
            server.barrier.wait(SECONDS)
            self.wfile.write(server.body)
        else:
            self.wfile.write(server.body[: len(server.body) // 2])
            self.wfile.flush()
            server.half.set()
            server.over.wait(SECONDS)

    def log_message(self, *args):
        pass


@pytest.fixture
def mirror(published):
    with ThreadingHTTPServer(("127.0.0.1", 0), Mirror) as server:
        server.body = published.read_bytes()
        server.half, server.over, server.barrier = threading.Event(), threading.Event(), threading.Barrier(1)
        server.address = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield server
        server.over.set()
        server.shutdown()


@pytest.fixture
def start(mirror, tmp_path):
    """`start(path)`: a process that is about to load the set from that address into tmp_path/root."""
    root = tmp_path / "root"
    root.mkdir()
    started = []

    def begin(path):
        changes = {
            "mirrors": [f"{mirror.address}{path}"],
            "sha256": hashlib.sha256(mirror.body).hexdigest(),
            "max_bytes": len(mirror.body),
        }
        pipe, theirs = FORKS.Pipe()
        process = FORKS.Process(target=exec, args=(LOAD, {"pipe": theirs, "root": str(root), "changes": changes}))
        process.start()
        started.append(process)
        return process, pipe

    yield begin
    for process in started:
        process.kill()
        process.join()


def go(pipe):
    assert pipe.recv() == "ready"
    pipe.send("go")


def names(folder):
    return sorted(os.listdir(folder))


def digest(root):
    return hashlib.sha256(load_points("modelnet40", root).train.points.numpy().tobytes()).hexdigest()


def test_processes_that_fetch_at_once_agree(mirror, start, tmp_path, layout, monkeypatch, tally):
    mirror.barrier = threading.Barrier(2)  # both this process and the other have begun before either has a byte
    expected, (process, pipe) = digest(layout.parent), start("/whole")
    go(pipe)
    monkeypatch.setattr(modelnet, "HDF5", replace(modelnet.HDF5, mirrors=(f"{mirror.address}/whole",)))
    assert digest(tmp_path / "root") == expected
    assert pipe.poll(SECONDS)
    assert pipe.recv() == "loaded"
    process.join()
    assert names(tmp_path / "root") == [layout.name]
    tally("processes that fetch a set at once", "both read the same set, nothing else left", 2)


def test_a_process_killed_while_it_fetches_leaves_nothing_that_counts(mirror, start, tmp_path, layout, tally):
    (process, pipe), root = start("/half"), tmp_path / "root"
    go(pipe)
    assert mirror.half.wait(SECONDS)
    process.kill()
    process.join()
    assert all(name.startswith(".") and name.endswith(".part") for name in names(root))
    assert digest(root) == digest(layout.parent)  # from the mirror in a folder
    assert [name for name in names(root) if not name.endswith(".part")] == [layout.name]
    tally("processes killed while they fetch", "the next one fetches it whole")


@pytest.mark.long
def test_processes_killed_at_random_moments(mirror, start, tmp_path, layout, tally):
    """Three at once, of which two are killed within the milliseconds that fetching and unpacking take."""
    root, draw = tmp_path / "root", random.Random(0)
    for _ in range(30):
        processes = [start("/whole") for _ in range(3)]
        for process in processes:
            go(process)
        for process in processes[:2]:
            threading.Event().wait(draw.uniform(0, 0.05))
            process.kill()
        assert processes[2].communicate(timeout=SECONDS)[0] == "loaded\n"
        assert digest(root) == digest(layout.parent)
        assert [name for name in names(root) if not name.endswith(".part")] in (
            [layout.name],
            sorted([layout.name, f"{layout.name}.zip"]),
        )
        tally("processes killed while they fetch", "the others read it whole", 2)
        for path in (root / layout.name).iterdir():
            path.unlink()
        (root / layout.name).rmdir()
        (root / f"{modelnet.HDF5.folder}.zip").unlink(missing_ok=True)
