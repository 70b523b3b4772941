"""Several processes that make one run: the run that one process makes, and what becomes of it when one of them dies."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file

from ..forks import server
from .killing import SETTINGS

SERVER = Path(__file__).with_name("ranks.py")
IMAGES = (
    "train images --model resnet8 --data digits --epochs 2 --batch-size 15 --accumulate 2 --lr 0.02 --clip 0.5 "
    "--ema 0.9 --cutout 4 --schedule one-cycle --regularizer ap-comhe --energies 1 --log-steps 1"
)
POINTS = (
    "train points --model pointnet_t --data solids --points 24 --epochs 2 --batch-size 23 --optimizer sgd --lr 0.001 "
    "--norm-decay 0.3 --augmentation pointnet2 --votes 2 --regularizer rp-comhe --log-steps 1 "
    "--regularizer-options dim=8 count=2 exclude=*_transform.*,head.linears.* "
    "--model-options dropout=0.0"
)
SAME = "the curves of one process, to rounding"


@pytest.fixture(scope="module")
def ask():
    """Asks a process of :mod:`.ranks` for runs."""
    with server(SERVER) as process:

        def request(size: int, argv: str, folder: Path, **more) -> list[dict]:
            return process({"size": size, "argv": [*argv.split(), "--runs", str(folder)]} | more)

        yield request


@pytest.fixture(scope="module")
def completed(ask, tmp_path_factory):
    """The folder of an uninterrupted run on so many processes."""
    known = {}

    def find(size: int, argv: str) -> Path:
        if (size, argv) not in known:
            folder = tmp_path_factory.mktemp("completed")
            ranks = ask(size, argv, folder)
            assert [rank["status"] for rank in ranks] == [0] * size, ranks
            assert [bool(rank["output"]) for rank in ranks] == [True] + [False] * (size - 1), ranks
            known[size, argv] = run_in(folder)
        return known[size, argv]

    return find


def run_in(folder: Path) -> Path:
    (run,) = folder.glob("*/*/seed0")
    return run


def close(found: Path, expected: Path, rel: float) -> None:
    """The same files with the same figures: losses, penalties, energies, accuracies, weights."""
    assert {path.name for path in found.iterdir()} == {path.name for path in expected.iterdir()}
    assert not (found / "checkpoint.pt").exists()
    for table in expected.glob("*.csv"):
        rows, wanted = (list(csv.DictReader(path.open())) for path in (found / table.name, table))
        assert len(rows) == len(wanted) > 0
        for row, want in zip(rows, wanted, strict=True):
            for name, value in want.items():
                same = row[name] == value
                assert same or float(row[name]) == pytest.approx(float(value), rel=rel, abs=1e-4), (table.name, name)
    results = [json.loads((path / "result.json").read_text()) for path in (found, expected)]
    for which in ("last", "best"):
        ours, theirs = (result[which] for result in results)
        assert ours.keys() == theirs.keys()
        for name, value in theirs.items():
            if name == "energy":
                for layer, each in value.items():
                    assert ours[name][layer] == {"role": each["role"]} | {
                        kind: pytest.approx(each[kind], rel=rel) for kind in ("full", "half")
                    }
            else:
                assert ours[name] == pytest.approx(value, rel=rel, abs=1e-4)
        weights = [load_file(path / f"{which}.safetensors") for path in (found, expected)]
        assert weights[0].keys() == weights[1].keys()
        for name, tensor in weights[1].items():
            largest = tensor.double().abs().max().item()
            assert (weights[0][name] - tensor).double().abs().max().item() <= rel * max(1.0, largest), name


def long(*values):
    return pytest.param(*values, marks=pytest.mark.long)


@pytest.mark.parametrize("how", ["", " --shard-penalty"])
def test_images_on_two_processes_are_those_on_one(completed, tally, how):
    """Eight samples of a microbatch to four and four, and seven to four and three; 32 to validate to 16 and 16."""
    close(completed(2, IMAGES + how), completed(1, IMAGES), 2e-4)
    tally(f"images, resnet8, ap-comhe, 2 processes{how}", SAME)


@pytest.mark.parametrize("how", ["", long(" --shard-penalty")])
def test_points_on_two_processes_are_those_on_one(completed, tally, how):
    close(completed(2, POINTS + how), completed(1, POINTS), 1e-3)  # the transforms amplify rounding
    tally(f"points, pointnet_t, rp-comhe, 2 processes{how}", SAME)


@pytest.mark.parametrize("how", [" --shard-penalty", long("")])
def test_a_rank_that_dies_takes_the_others_along_and_the_run_goes_on(ask, completed, tmp_path, tally, how):
    argv = IMAGES + how
    for what, which, step in (("SIGKILL", 1, 2), ("error", 0, 1), ("SIGTERM", 1, 1)):
        ranks = ask(2, argv, tmp_path, rank=which, step=step, what=what)
        dead, other = ranks[which], ranks[1 - which]
        if what == "SIGTERM":  # reaches one, and stops both after the same step
            assert [rank["status"] for rank in ranks] == [143, 143], ranks
            assert len({rank["output"].split(": ")[2] for rank in ranks}) == 1
            assert all(rank["output"].startswith(f"comhe: rank {i} of 2: ") for i, rank in enumerate(ranks))
            assert "saved" in dead["output"]
        else:
            assert other["status"] == 3, ranks
            assert f"rank {1 - which} of 2: another rank is gone" in other["output"]
            assert dead["status"] == {"SIGKILL": -9, "error": 2}[what]
            if what == "error":
                assert dead["output"] == f"comhe: rank {which} of 2: a worker has thrown a spanner\n"
        assert (run_in(tmp_path) / "checkpoint.pt").exists()
        tally(f"2 processes{how}: {what} to one", "both end, and the next session goes on")
    folder = completed(2, argv)
    assert [rank["status"] for rank in ask(2, argv, tmp_path)] == [0, 0]
    for name in ("metrics.csv", "steps.csv", "energies.csv", "last.safetensors", "best.safetensors"):
        assert (run_in(tmp_path) / name).read_bytes() == (folder / name).read_bytes(), name


@pytest.mark.parametrize(("first", "then", "how"), [(1, 2, ""), long(2, 1, " --shard-penalty"), long(3, 2, "")])
def test_another_number_of_processes_goes_on_too(ask, completed, tmp_path, tally, first, then, how):
    def argv(size):
        return IMAGES + (how if size > 1 else "")

    ask(first, argv(first), tmp_path, rank=0, step=3, what="SIGTERM")
    assert (run_in(tmp_path) / "checkpoint.pt").exists()
    ranks = ask(then, argv(then), tmp_path)
    assert {rank["status"] for rank in ranks} == {0}, ranks
    close(run_in(tmp_path), completed(1, IMAGES), 2e-4)
    tally(f"saved by {first}, gone on with by {then}{how}", SAME)


@pytest.mark.parametrize(
    ("size", "argv", "reason"),
    [
        (2, "train graphs --data citations", "a graph is one batch, which 2 processes cannot divide"),
        (2, "compare --data citations", "torchrun is for comhe train, not for comhe compare"),
        (
            2,
            IMAGES.replace("--batch-size 15", "--batch-size 3"),
            "batch_size=3 with accumulate=2 has too few samples for 2",
        ),
        (2, f"{IMAGES} --device cuda:0", "2 processes cannot share cuda:0"),
        (1, f"{IMAGES} --shard-penalty", "--shard-penalty is for several processes"),
        (2, IMAGES.replace("--lr 0.02", "--lr 1e30 --schedule constant --clip 0"), "lower lr"),
    ],
)
def test_what_cannot_be_is_one_line_of_each(ask, tmp_path, tally, size, argv, reason):
    ranks = ask(size, argv, tmp_path)
    assert {rank["status"] for rank in ranks} in ({2}, {2, 3})  # 3 where the other one has left already
    for rank in ranks:
        (line,) = rank["output"].splitlines()
        assert (reason if rank["status"] == 2 else "another rank is gone") in line
    tally(f"{size} process{'es' * (size > 1)}: {reason}", "one line of each")


def test_under_torchrun_the_first_failure_has_its_name_and_reason(tmp_path):
    request = {"argv": [*IMAGES.split(), "--runs", str(tmp_path)], "rank": 1, "step": 2, "what": "error"}
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    argv = [*torchrun, str(SERVER), json.dumps(request)]
    ended = subprocess.run(argv, capture_output=True, text=True, timeout=300, env=os.environ | SETTINGS)
    assert ended.returncode != 0
    assert "comhe: rank 1 of 2: a worker has thrown a spanner" in ended.stderr
    summary = ended.stderr[ended.stderr.index("Root Cause") :]
    assert "rank      : 1 " in summary
    assert "a worker has thrown a spanner" in summary
    assert (run_in(tmp_path) / "checkpoint.pt").exists()
