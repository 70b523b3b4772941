"""Threads, devices and precisions are chosen by what the machine offers and by what the user says."""

import os
import subprocess
import sys

import pytest
import torch

from comhe.errors import ComheWarning, UsageError
from comhe.train import get_recipe, hardware, make_task
from comhe.train.hardware import choose_device, has_bf16, limited_threads, set_threads, usable_cores, uses_bf16


@pytest.fixture
def membership(tmp_path, monkeypatch):
    """A machine of 64 cores, with a folder of control groups; the function says which one the process is in."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)), raising=False)
    root = tmp_path / "groups"
    found = tmp_path / "membership"

    def write(text, **files):
        found.write_text(text)
        for name, content in files.items():
            path = root / name.replace("__", "/").replace("_max", ".max").replace("cfs", "cpu.cfs")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
        return int(min(64, hardware._quota(root, found)))

    return write


@pytest.mark.parametrize(
    ("groups", "files", "cores"),
    [
        ("0::/\n", {"cpu_max": "400000 100000\n"}, 4),
        ("0::/\n", {"cpu_max": "max 100000\n"}, 64),
        ("0::/a/b\n", {"cpu_max": "max 100000", "a__cpu_max": "250000 100000", "a__b__cpu_max": "max 100000"}, 2),
        ("0::/not/seen/from/inside\n", {"cpu_max": "300000 100000"}, 3),
        (
            "3:cpuset:/\n2:cpu,cpuacct:/x\n",
            {"cpu__x__cfs_quota_us": "500000\n", "cpu__x__cfs_period_us": "100000\n"},
            5,
        ),
        ("2:cpu:/\n", {"cpu__cfs_quota_us": "-1", "cpu__cfs_period_us": "100000"}, 64),
        ("2:memory:/x\n", {"memory__x__cpu_max": "100000 100000"}, 64),
        ("0::/\n", {"cpu_max": "nonsense"}, 64),
        ("", {}, 64),
    ],
)
def test_the_quota_of_a_container_counts(membership, groups, files, cores):
    assert membership(groups, **files) == cores


def test_less_than_one_core_is_one(tmp_path, monkeypatch):
    monkeypatch.setattr(hardware, "_quota", lambda *_: 0.5)
    assert usable_cores() == 1


@pytest.fixture
def many_cores(monkeypatch):
    """Eight usable cores, as many threads, and nothing that the user has said."""
    before = torch.get_num_threads()
    for name in hardware.EXPLICIT:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(hardware, "usable_cores", lambda: 8)
    torch.set_num_threads(8)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("options", "threads"),
    [({}, 8), ({"most": 1}, 1), ({"processes": 2}, 4), ({"most": 3, "processes": 2}, 3), ({"processes": 99}, 1)],
)
def test_threads_are_the_usable_cores_that_help(many_cores, options, threads):
    with limited_threads(**options) as number:
        assert number == torch.get_num_threads() == threads
    assert torch.get_num_threads() == 8


def test_a_number_that_was_lowered_is_not_raised(many_cores):
    torch.set_num_threads(2)
    with limited_threads() as number:
        assert number == 2


def test_what_the_user_says_is_above_all(many_cores, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "")  # so that it is restored
    set_threads(3)
    assert os.environ["OMP_NUM_THREADS"] == "3"  # which processes started from here on inherit
    with limited_threads(most=1, processes=8) as number:
        assert number == 3
    with pytest.raises(UsageError, match="threads must be at least 1, not 0"):
        set_threads(0)


def test_a_small_graph_gets_one_thread_and_the_run_says_so(many_cores, tmp_path):
    from comhe.train import fit

    recipe = get_recipe("kipf", "gcn", "citations", "none", epochs=1)
    assert make_task(recipe).threads == 1
    environment = fit(recipe, runs=tmp_path).environment()
    assert (environment["threads"], environment["device"], environment["precision"]) == (1, "cpu", "fp32")
    assert torch.get_num_threads() == 8


def test_waiting_threads_sleep_in_commands_unless_the_user_says_otherwise():
    code = "import os, sys, comhe.train; print(os.environ['OMP_WAIT_POLICY'])"
    for given, expected in ((None, "PASSIVE"), ("ACTIVE", "ACTIVE")):
        env = {k: v for k, v in os.environ.items() if k != "OMP_WAIT_POLICY"} | (
            {"OMP_WAIT_POLICY": given} if given else {}
        )
        done = subprocess.run([sys.executable, "-P", "-c", code], env=env, capture_output=True, text=True, check=True)
        assert done.stdout.strip() == expected


def test_the_device_is_a_gpu_where_there_is_one(monkeypatch):
    assert choose_device("cpu") == "cpu"
    for available, expected in ((True, "cuda"), (False, "cpu")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda available=available: available)
        assert choose_device("auto") == expected
    with pytest.raises(UsageError, match="device 'nonsense' cannot be used"):
        choose_device("nonsense")


@pytest.mark.parametrize(
    ("units", "precision", "bf16"), [(True, "auto", True), (False, "auto", False), (True, "fp32", False)]
)
def test_auto_takes_bf16_where_there_are_units_for_it(monkeypatch, units, precision, bf16):
    monkeypatch.setattr(hardware, "has_bf16", lambda kind: units)
    assert uses_bf16(precision, "cpu") is bf16


def test_bf16_without_units_warns_with_its_factor(monkeypatch):
    monkeypatch.setattr(hardware, "has_bf16", lambda kind: False)
    with pytest.warns(ComheWarning, match=r"takes [0-9]+ times as long as in fp32; precision auto"):
        assert uses_bf16("bf16", "cpu")


def test_units_are_found_with_and_without_torch_telling(monkeypatch):
    has_bf16.cache_clear()
    for units, expected in (({"avx512_bf16": True}, True), ({"avx2": True, "amx_bf16": False}, False)):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda units=units: units, raising=False)
        assert has_bf16("cpu") is expected
        has_bf16.cache_clear()
    monkeypatch.delattr(torch.cpu, "get_capabilities")
    monkeypatch.setattr(hardware, "_flags", lambda: {"bf16": True})
    assert has_bf16("cpu")
    has_bf16.cache_clear()
    assert not has_bf16("meta")
    has_bf16.cache_clear()
