"""One process at a time works on a folder."""

import subprocess
import sys
import threading

import pytest

from comhe.errors import BusyError, StorageError
from comhe.train.engine.loop import fit
from comhe.train.graphs import GraphTask
from comhe.train.runs import lock
from comhe.train.runs.lock import locked
from comhe.train.runs.run import Run


def test_one_process_at_a_time(tmp_path, recipe, monkeypatch):
    monkeypatch.setattr(lock, "PATIENCE", 0.0)
    run = Run(tmp_path)
    hold = "import sys; from pathlib import Path; from comhe.train.runs.lock import locked\n"
    hold += "with locked(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    holder = subprocess.Popen(
        [sys.executable, "-c", hold, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(BusyError, match=f"is in use by process {holder.pid} on .*--runs"):
        fit(GraphTask(recipe), run)
    assert {path.name for path in tmp_path.iterdir()} == {"lock"}
    holder.kill()  # the file stays, the lock does not
    holder.wait()
    fit(GraphTask(recipe), run)
    assert run.done
    assert not (tmp_path / "lock").exists()


def test_whoever_waits_gets_the_lock_though_its_file_was_removed(tmp_path):
    order = []

    def wait():
        with locked(tmp_path):
            order.append("second")

    with locked(tmp_path):
        thread = threading.Thread(target=wait)
        thread.start()
        thread.join(0.3)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]
    assert list(tmp_path.iterdir()) == []


def test_on_a_file_system_without_locks_everybody_goes_ahead(tmp_path, monkeypatch):
    def refuse(self, **options):
        raise OSError("no locks available")

    monkeypatch.setattr(lock.FileLock, "acquire", refuse)
    with locked(tmp_path), locked(tmp_path):
        pass


def test_a_folder_that_cannot_be_written(tmp_path, monkeypatch):
    def refuse(self, **options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(lock.FileLock, "acquire", refuse)
    monkeypatch.setattr(lock.os, "access", lambda path, mode: False)
    with pytest.raises(StorageError, match="cannot be written to: Permission denied"), locked(tmp_path):
        pass
