"""A download is the whole published file, or nothing."""

import hashlib
import os
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from comhe.datasets import MissingDataError
from comhe.datasets.io import files
from comhe.datasets.io.files import fetch

BODY = bytes(range(256)) * 1000
SHA256 = hashlib.sha256(BODY).hexdigest()
LIMIT = 1 << 20


class Mirror(BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/missing":
            self.send_error(404)
            return
        self.send_response(200)
        if self.path != "/endless":
            self.send_header("Content-Length", str(len(BODY)))
        self.end_headers()
        if self.path == "/good":
            self.wfile.write(BODY)
        elif self.path == "/altered":
            self.wfile.write(BODY[:-1] + b"x")
        elif self.path == "/truncated":
            self.wfile.write(BODY[: len(BODY) // 2])
        elif self.path == "/endless":
            self.wfile.write(BODY * 8)

    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def mirror():
    with ThreadingHTTPServer(("127.0.0.1", 0), Mirror) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_good_download(mirror, tmp_path, capsys):
    path = fetch(tmp_path / "new" / "file", [f"{mirror}/good"], SHA256, LIMIT, "set: no file")
    assert path.read_bytes() == BODY
    assert [p.name for p in path.parent.iterdir()] == ["file"]
    assert capsys.readouterr().err == "file: 0.3 MB\n"


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("altered", "sha256 of the 256,000 bytes"),
        ("truncated", "sha256 of the 128,000 bytes"),
        ("endless", "more than 1,048,576 bytes"),
        ("missing", "404"),
    ],
)
def test_bad_download_leaves_nothing(mirror, tmp_path, address, reason):
    with pytest.raises(MissingDataError, match=reason) as caught:
        fetch(tmp_path / "file", [f"{mirror}/{address}"], SHA256, LIMIT, "set: no file")
    assert f"{mirror}/{address}" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_next_mirror_is_used(mirror, tmp_path):
    urls = [f"{mirror}/missing", "no address", (tmp_path / "none").as_uri(), f"{mirror}/altered", f"{mirror}/good"]
    assert fetch(tmp_path / "file", urls, SHA256, LIMIT, "set: no file").read_bytes() == BODY


def test_file_is_never_seen_unfinished(mirror, tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    seen = []

    @contextmanager
    def track(label, total, unit, always):
        yield lambda done: seen.append(path.read_bytes())

    monkeypatch.setattr(files, "track", track)
    fetch(path, [f"{mirror}/good"], SHA256, LIMIT, "set: no file")
    assert set(seen) == {b"old"}
    assert path.read_bytes() == BODY


def test_interrupt_leaves_nothing(mirror, tmp_path, monkeypatch):
    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(files, "track", interrupt)
    with pytest.raises(KeyboardInterrupt):
        fetch(tmp_path / "file", [f"{mirror}/good"], SHA256, LIMIT, "set: no file")
    assert list(tmp_path.iterdir()) == []


def test_what_killed_downloads_left_is_removed_once_nobody_writes_it(mirror, tmp_path):
    for name, age in ((".file.a.part", 7200), (".file.b.part", 60), (".other.c.part", 7200)):
        (tmp_path / name).write_bytes(BODY[:1000])
        stamp = time.time() - age
        os.utime(tmp_path / name, (stamp, stamp))
    fetch(tmp_path / "file", [f"{mirror}/good"], SHA256, LIMIT, "set: no file")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".file.b.part", ".other.c.part", "file"]
