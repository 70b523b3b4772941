"""The run folder when something is wrong with it: each case is one clear line, and what was saved is not lost."""

import errno
import os
import subprocess
import warnings

import pytest
import torch

from comhe.errors import ComheWarning, RunError, StorageError
from comhe.train.cli.main import main
from comhe.train.engine import loop
from comhe.train.engine.loop import fit
from comhe.train.graphs import GraphTask
from comhe.train.runs import run as run_module
from comhe.train.runs.files import open_atomic
from comhe.train.runs.run import Run


@pytest.fixture
def cut(tmp_path, recipe, monkeypatch):
    """A run with a checkpoint after its second epoch."""
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0.0)

    def stop(row, epochs):
        if row["epoch"] == 1:
            raise KeyboardInterrupt

    run = Run(tmp_path / "run")
    with pytest.raises(KeyboardInterrupt):
        fit(GraphTask(recipe), run, stop)
    return run


def refused(run, recipe) -> str:
    """Return why the run is refused; the checkpoint stays as it is."""
    before = (run.folder / "checkpoint.pt").read_bytes()
    with pytest.raises((RunError, StorageError)) as caught:
        fit(GraphTask(recipe), run)
    assert (run.folder / "checkpoint.pt").read_bytes() == before
    (line,) = str(caught.value).splitlines()
    assert str(run.folder) in line
    return line


@pytest.mark.parametrize("size", [0, 10, 1000, -300])
def test_a_truncated_checkpoint(cut, recipe, size):
    path = cut.folder / "checkpoint.pt"
    path.write_bytes(path.read_bytes()[:size])
    assert "is damaged" in refused(cut, recipe)


def test_no_flipped_bit_goes_unseen(cut, recipe):
    path = cut.folder / "checkpoint.pt"
    good = path.read_bytes()
    state = cut.load_checkpoint()["model"]
    draw = torch.Generator().manual_seed(0)
    found = 0
    for index in torch.randint(len(good), (60,), generator=draw).tolist():
        bad = bytearray(good)
        bad[index] ^= 1 << int(torch.randint(8, (1,), generator=draw))
        path.write_bytes(bad)
        try:
            loaded = cut.load_checkpoint()["model"]
        except RunError as error:
            assert str(path) in str(error)  # noqa: PT017
            found += 1
        else:  # in the padding between two records
            assert all(tensor.equal(loaded[name]) for name, tensor in state.items())
    assert found > 40


def test_every_bit_of_a_small_checkpoint(cut):
    """Names, offsets and flags of the archive too, whatever Python's reader of archives raises."""
    path = cut.folder / "checkpoint.pt"
    torch.save({"format": 99, "recipe": "", "model": {"w": torch.ones(3)}}, path)
    good = path.read_bytes()
    with path.open("r+b", buffering=0) as file:
        for index in range(0, 8 * len(good), 7):
            place, byte = index // 8, good[index // 8]
            write_at(file, place, byte ^ 1 << index % 8)
            with pytest.raises(RunError, match=r"is damaged|has format"):
                cut.load_checkpoint()
            write_at(file, place, byte)


def write_at(file, place, byte):
    file.seek(place)
    file.write(bytes([byte]))


def test_garbage_and_foreign_pickles(cut, recipe):
    path = cut.folder / "checkpoint.pt"
    path.write_bytes(os.urandom(5000))
    assert "is damaged" in refused(cut, recipe)
    torch.save([1, 2], path)
    assert "has format None" in refused(cut, recipe)
    torch.save({"format": 5, "call": print}, path)
    assert "is damaged" in refused(cut, recipe)


def test_a_newer_format(cut, recipe):
    path = cut.folder / "checkpoint.pt"
    torch.save(cut.load_checkpoint() | {"format": 99}, path)
    assert "has format 99" in refused(cut, recipe)


def test_a_checkpoint_of_another_recipe(cut, recipe, tmp_path):
    other = recipe.replace(lr=0.5)
    run = Run(tmp_path / "other")
    run.start(other)
    (run.folder / "checkpoint.pt").write_bytes((cut.folder / "checkpoint.pt").read_bytes())
    assert "of another recipe" in refused(run, other)


def test_a_full_disk_while_a_large_file_is_written(tmp_path, monkeypatch):
    """Also where the error is torch.save's, caused by the system's."""
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(b"the last good one")

    class Full:
        def __init__(self, file):
            self.file = file

        def __getattr__(self, name):
            return getattr(self.file, name)

        def write(self, data):
            if self.file.tell() > 100_000:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return self.file.write(data)

    with (
        pytest.raises(StorageError, match=r"checkpoint.pt cannot be written \(No space left on device\)"),
        open_atomic(path) as f,
    ):
        torch.save({f"{i}": torch.zeros(10_000) for i in range(9)}, Full(f))
    assert path.read_bytes() == b"the last good one"
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint.pt"]
    with pytest.raises(RuntimeError, match="other"), open_atomic(path):
        raise RuntimeError("other")  # no error of the system's


def test_a_disk_that_is_really_full(cut, recipe, tmp_path):
    """A file system with room for one checkpoint and a half, where the machine lets us have one."""
    small = tmp_path / "small"
    small.mkdir()
    good = (cut.folder / "checkpoint.pt").read_bytes()
    size = f"size={3 * len(good) // 2}"
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", size, "none", str(small)], capture_output=True)
    if mounted.returncode:
        pytest.skip("mounting a tmpfs is not permitted")
    try:
        run = Run(small / "run")
        run.start(recipe)
        (run.folder / "checkpoint.pt").write_bytes(good)
        assert "No space left on device" in refused(run, recipe)
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_a_folder_that_cannot_be_written(tmp_path, monkeypatch, capsys):
    folder = tmp_path / "runs"
    folder.mkdir(mode=0o555)
    argv = ["train", "graphs", "--data", "citations", "--epochs", "1", "--runs", str(folder)]
    root = os.geteuid() == 0
    tmp_path.chmod(0o755)
    if root:
        monkeypatch.setattr(os, "mkdir", _denied)
    assert main(argv) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "Permission denied" in line
    assert str(folder) in line


def _denied(path, mode=0o777, *, dir_fd=None):
    raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), os.fspath(path))


def test_what_a_kill_has_left_behind_goes(tmp_path, recipe):
    run = Run(tmp_path)
    fit(GraphTask(recipe), run)
    files = {path.name for path in tmp_path.iterdir()}
    for name in ("checkpoint.pt", "metrics.csv.part"):
        (tmp_path / name).write_bytes(b"half")
    run.tidy()
    assert {path.name for path in tmp_path.iterdir()} == files


@pytest.mark.parametrize("text", ["", "[1]", '{"model": "gcn"}', '{"model": 3}', "not json"])
def test_a_recipe_that_is_none_of_ours(tmp_path, text):
    (tmp_path / "recipe.json").write_text(text)
    with pytest.raises(RunError, match=r"recipe\.json: "):
        Run(tmp_path).recipe()
    with pytest.raises(RunError, match="other: no such folder"):
        Run(tmp_path / "other").recipe()


@pytest.mark.parametrize("content", ["{", "[]"])
def test_damaged_results_are_one_line(tmp_path, content):
    (tmp_path / "result.json").write_text(content)
    with pytest.raises(RunError, match=r"result\.json is damaged"):
        Run(tmp_path).result()


def test_a_folder_of_runs_or_of_weights_names_one_of_them(tmp_path):
    run, weights = tmp_path / "runs/kipf/gcn/seed0", tmp_path / "published/gcn.safetensors"
    for file in (run / "recipe.json", weights):
        file.parent.mkdir(parents=True)
        file.touch()
    for folder, found in ((run.parent, run), (run.parent.parent, run), (weights.parent, weights)):
        with pytest.raises(
            RunError, match=f"{folder} is not a run folder: .*; name one of the .* in it, such as {found}"
        ):
            Run(folder).result()
    with pytest.raises(RunError, match="runs/kpif: no such folder"):
        Run(tmp_path / "runs/kpif").weights("best")
    with pytest.raises(RunError, match=r"has no result\.json: the run is not done"):
        Run(run).result()


@pytest.mark.parametrize("method", ["start", "regularizer", "loss", "collate"])
def test_what_fails_before_the_first_epoch_leaves_no_folder(tmp_path, recipe, monkeypatch, method):
    def fail(*_):
        raise ValueError("as if something did not fit")

    folder = tmp_path / "runs" / "of" / "mine"
    task = GraphTask(recipe)
    monkeypatch.setattr(task, method, fail)
    with pytest.raises(ValueError, match="as if"):
        fit(task, Run(folder))
    assert not list(tmp_path.iterdir())
    folder.mkdir(parents=True)
    (folder / "notes.txt").write_text("")
    with pytest.raises(ValueError, match="as if"):
        fit(task, Run(folder))
    assert (folder / "notes.txt").exists()


def test_a_run_of_other_code_of_the_users_is_told(tmp_path, recipe, monkeypatch):
    sources = {"my_module": "a1", "another": "b1"}
    monkeypatch.setattr(run_module, "sources", sources)
    fit(GraphTask(recipe.replace(epochs=1)), Run(tmp_path / "cell" / "seed0"))
    run = Run(tmp_path / "cell" / "seed0")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run.check(run.recipe())
        sources |= {"third": "c1"}  # the run did without
        run.check(run.recipe())
    sources["my_module"] = "a2"
    with pytest.warns(
        ComheWarning, match=r"since runs in .*cell were started, my_module has changed; .* remove the runs"
    ):
        run.check(run.recipe())
