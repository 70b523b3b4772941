"""Runs that are killed, stopped or run out of disk end as the uninterrupted ones, bit for bit."""

import json
import random
import time
from pathlib import Path

import pytest

from ..forks import server
from .killing import KINDS

SAME = "gone on with to the same bits"
SAVED = f"one line, no half file, then {SAME}"
CASES = 50  # random moments for each kind of run
SHORT = {  # the boundaries at which one session after the other is killed
    "graphs": (3, 8, 9, 10, 11, 13, 15, 21),
    "images": (10, 14, 18),
    "points": (11, 21),
}


@pytest.fixture(scope="module")
def ask():
    """Asks a process of :mod:`.killing` for runs."""
    with server(Path(__file__).with_name("killing.py")) as process:
        yield lambda **request: process(request)


@pytest.fixture(scope="module")
def uninterrupted(ask, tmp_path_factory):
    """The uninterrupted run of a kind: what it has left, its boundaries, and the folder."""
    known = {}

    def find(kind):
        if kind not in known:
            folder = tmp_path_factory.mktemp("uninterrupted")
            answer = ask(kind=kind, folder=str(folder))
            assert answer["status"] == 0, answer
            known[kind] = contents(folder), answer["boundaries"]
        return known[kind]

    return find


def contents(folder: Path, name: str = "") -> dict:
    """All that the one run in a folder (or the one with that regularizer) has left, without times."""
    (run,) = folder.glob(f"*/*-{name}*/seed0")
    found = {path.name: path.read_bytes() for path in run.iterdir()}
    result = json.loads(found.pop("result.json"))
    return found | {
        "result": {name: value for name, value in result.items() if not name.endswith(("seconds", "_cores"))}
    }


def goes_on(ask, kind, folder, expected):
    """The next session ends, as if none had been cut."""
    answer = ask(kind=kind, folder=str(folder))
    assert answer["status"] == 0, answer
    assert contents(folder) == expected


@pytest.mark.parametrize("kind", SHORT)
def test_killed_again_and_again_it_is_the_uninterrupted_run(ask, uninterrupted, tmp_path, kind, tally):
    expected, boundaries = uninterrupted(kind)
    assert boundaries > 40
    for at in SHORT[kind]:
        assert ask(kind=kind, folder=str(tmp_path), at=at)["status"] == -9
    goes_on(ask, kind, tmp_path, expected)
    tally(f"{kind}: SIGKILL within, before and after a write, a removal or a step", SAME, len(SHORT[kind]))


@pytest.mark.parametrize(("kind", "what", "at"), [("graphs", "SIGINT", 20), ("images", "SIGTERM", 31)])
def test_a_signal_saves_and_says_how_to_go_on(ask, uninterrupted, tmp_path, kind, what, at, tally):
    answer = ask(kind=kind, folder=str(tmp_path), at=at, what=what)
    assert answer["status"] == {"SIGINT": 130, "SIGTERM": 143}[what]
    (line,) = answer["output"].splitlines()
    assert line.startswith("comhe: ")
    assert line.endswith("saved; the same command goes on from there")
    assert list(tmp_path.glob("*/*/*/checkpoint.pt"))
    assert not list(tmp_path.glob("*/*/*/*.part"))
    goes_on(ask, kind, tmp_path, uninterrupted(kind)[0])
    tally(f"{kind}: {what}", SAVED)


def test_on_a_full_disk_the_last_checkpoint_stays(ask, uninterrupted, tmp_path, tally):
    for at in (9, 19, 22, 27):
        answer = ask(kind="graphs", folder=str(tmp_path), at=at, what="ENOSPC")
        assert answer["status"] == 2
        (line,) = answer["output"].splitlines()
        assert "cannot be written (No space left on device)" in line
        assert not list(tmp_path.glob("*/*/*/*.part"))
        tally("graphs: a full disk", SAVED)
    goes_on(ask, "graphs", tmp_path, uninterrupted("graphs")[0])


def compare(folder: Path, regularizers: str) -> list[str]:
    argv = f"compare --data citations --regularizers {regularizers} --seeds 1 --settings epochs=60 --jobs 2"
    return [*argv.split(), "--runs", str(folder)]


def train(ask, folder: Path, regularizer: str) -> dict:
    argv = f"train graphs --data citations --regularizer {regularizer} --epochs 60 --runs {folder}"
    assert ask(argv=argv.split())["status"] == 0
    return contents(folder, regularizer)


def test_compare_stops_all_its_processes(ask, tmp_path, tally):
    """The signal goes to all of them, as Ctrl-C does and SLURM's SIGTERM."""
    names = "none,hs-mhe"
    folder = tmp_path / "cut"
    until = f"{str(folder)[1:]}/*/*/*/checkpoint.pt"
    answer = ask(argv=compare(folder, names), until=until, group=True, what="SIGTERM")
    assert answer["status"] == 143, answer
    assert "of 2 runs done and the others saved" in answer["output"].splitlines()[-1]
    assert "Traceback" not in answer["output"]
    begun = list(folder.glob("*/*/*"))
    assert begun
    for run in begun:
        assert {"checkpoint.pt", "result.json"} & {path.name for path in run.iterdir()}
        assert not (run / "lock").exists()
    for name in names.split(","):
        assert train(ask, folder, name) == train(ask, tmp_path / "uninterrupted", name)
    tally("compare, two jobs: SIGTERM to all its processes", SAME)


# The long form: `make trust`.


@pytest.mark.long
@pytest.mark.parametrize("kind", KINDS)
def test_killed_at_every_boundary(ask, uninterrupted, tmp_path, kind, tally):
    expected, boundaries = uninterrupted(kind)
    for at in range(1, boundaries + 1):
        folder = tmp_path / str(at)
        assert ask(kind=kind, folder=str(folder), at=at)["status"] == -9
        goes_on(ask, kind, folder, expected)
    tally(f"{kind}: SIGKILL within, before and after every write, removal and step", SAME, boundaries)


@pytest.mark.long
@pytest.mark.parametrize("kind", KINDS)
def test_killed_at_random_moments(ask, uninterrupted, tmp_path, kind, tally):
    """Sessions of random length, one after the other until one gets to the end; then from the start again."""
    expected, _ = uninterrupted(kind)
    draw, kills, runs = random.Random(kind), 0, 0
    began = time.monotonic()
    goes_on(ask, kind, tmp_path / "timed", expected)
    seconds = time.monotonic() - began
    while kills < CASES:
        folder, status = tmp_path / str(runs), -9
        while status == -9:
            status = ask(kind=kind, folder=str(folder), seconds=draw.uniform(0, 1.2 * seconds))["status"]
            kills += status == -9
        assert status == 0
        assert contents(folder) == expected
        runs += 1
    tally(f"{kind}: SIGKILL at random moments, several a run", SAME, kills)


@pytest.mark.long
@pytest.mark.parametrize("what", ["SIGINT", "SIGTERM", "ENOSPC"])
@pytest.mark.parametrize("kind", KINDS)
def test_ended_at_every_boundary(ask, uninterrupted, tmp_path, kind, what, tally):
    expected, boundaries = uninterrupted(kind)
    for at in range(1, boundaries + 1):
        folder = tmp_path / str(at)
        answer = ask(kind=kind, folder=str(folder), at=at, what=what)
        # There is no write after the last one.
        assert answer["status"] in {"SIGINT": (130,), "SIGTERM": (143,), "ENOSPC": (2, 0)}[what], answer
        assert len(answer["output"].splitlines()) == (answer["status"] != 0)
        assert not list(folder.glob("*/*/*/*.part"))
        goes_on(ask, kind, folder, expected)
        if answer["status"]:
            where = "a full disk at every write" if what == "ENOSPC" else f"{what} at every such moment"
            tally(f"{kind}: {where}", SAVED)


@pytest.mark.long
@pytest.mark.parametrize(
    ("what", "group"), [("SIGKILL", True), ("SIGKILL", False), ("SIGTERM", True), ("SIGTERM", False), ("SIGINT", True)]
)
def test_compare_ended_at_random_moments(ask, tmp_path, what, group, tally):
    names = "none,hs-mhe,rp-comhe,ap-comhe"
    expected = {name: train(ask, tmp_path / "uninterrupted", name) for name in names.split(",")}
    began = time.monotonic()
    assert ask(argv=compare(tmp_path / "timed", names))["status"] == 0
    seconds = time.monotonic() - began
    draw, ended, runs = random.Random(f"{what} {group}"), 0, 0
    while ended < CASES // 5:
        folder, status = tmp_path / str(runs), -1
        while status:
            after = draw.uniform(0.2, 1.2) * seconds
            answer = ask(argv=compare(folder, names), seconds=after, group=group, what=what)
            status = answer["status"]
            assert status in (0, {"SIGKILL": -9, "SIGTERM": 143, "SIGINT": 130}[what]), answer
            ended += status != 0
            if what != "SIGKILL":
                assert "Traceback" not in answer["output"]
        assert {name: contents(folder, name) for name in expected} == expected
        runs += 1
    who = "all its processes" if group else "its first process"
    tally(f"compare, two jobs: {what} to {who} at random moments", SAME, ended)
