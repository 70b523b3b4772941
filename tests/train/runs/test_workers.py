import math
import os
import re
import time
from functools import partial
from multiprocessing.pool import Pool

import torch

from comhe.progress import watched_by
from comhe.train.graphs import GraphRecipe
from comhe.train.runs import workers
from comhe.train.runs.launch import begin_process, fit
from comhe.train.runs.workers import run_all


def test_every_job_ends_and_failures_are_told_one_by_one():
    ended = {}
    left = run_all(math.sqrt, [4, -1, 9, "x"], 2, ended=lambda job, error: ended.update({job: error}))
    assert left == []
    assert ended[4] is None
    assert ended[9] is None
    assert re.fullmatch(r"ValueError: .* \(.*workers.py:\d+, in _loop\)", ended[-1])
    assert ended["x"].startswith("TypeError: ")


def test_a_job_may_have_processes_of_its_own(forked_workers):
    """As one that trains on image files has, to decode them."""
    ended = []
    assert run_all(Pool, [1], 1, ended=lambda job, error: ended.append(error)) == []
    assert ended == [None]


def test_what_is_refused_when_its_turn_comes_is_not_tried(forked_workers):
    """A job that fails may be why."""
    ended = {}
    refusal = lambda job: f"like {min(ended)}" if job < 0 and any(ended.values()) else None  # noqa: E731
    left = run_all(math.sqrt, [4, -3, -2, 9, -1], 1, ended=lambda job, e: ended.update({job: e}), refusal=refusal)
    assert left == []
    assert [job for job, error in ended.items() if error is None] == [4, 9]
    assert ended[-3].startswith("ValueError: ")
    assert ended[-2] == ended[-1] == "like -3"


def test_a_process_that_dies_takes_nobody_along(forked_workers):
    ended = []
    assert run_all(os._exit, [3, 4], 1, ended=lambda job, error: ended.append((job, error))) == []
    assert ended == [(3, "its process ended with exit code 3"), (4, "its process ended with exit code 4")]


def test_a_deadline_cuts_what_runs_and_names_what_did_not_end(forked_workers):
    began, ended = time.monotonic(), []
    left = run_all(time.sleep, [300, 301, 302], 2, seconds=1, ended=lambda job, error: ended.append(job))
    assert left == [300, 301, 302]
    assert ended == []
    assert time.monotonic() - began < 60


def test_nothing_to_do():
    assert run_all(math.sqrt, [], 2) == []


def test_each_process_begins_with_a_number_of_its_own(forked_workers):
    ended = []
    run_all(math.sqrt, [4, 9], 2, ended=lambda job, error: ended.append(error), begin=os._exit)
    assert sorted(ended) == [f"its process ended with exit code {number}" for number in (0, 1)]


def test_a_process_that_is_gone_before_it_gets_its_job_is_told(monkeypatch, forked_workers):
    start = workers._start

    def gone(*arguments):
        worker = start(*arguments)
        worker.process.join()
        return worker

    monkeypatch.setattr(workers, "_start", gone)
    ended = []
    run_all(math.sqrt, [4, 9], 1, ended=lambda job, error: ended.append((job, error)), begin=os._exit)
    assert ended == [(job, "its process ended with exit code 0") for job in (4, 9)]


def test_processes_take_turns_on_the_gpus(monkeypatch):
    chosen = []
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    for number in range(5):
        for device in ("cpu", "cuda:1", "cuda"):
            begin_process(device, None, number)
    assert chosen == [0, 1, 0, 1, 0]


def test_progress_of_other_processes_reaches_the_display(tmp_path, forked_workers):
    class Display:
        seen, ended = [], []

        def update(self, key, amount):
            self.seen.append((key, amount))

        def end(self, key):
            self.ended.append(key)

    failed = []
    recipe = GraphRecipe(recipe="test", data="citations", epochs=300)
    with watched_by(Display()):
        run_all(partial(fit, runs=tmp_path, device="cpu"), [recipe], 1, ended=lambda job, error: failed.append(error))
    assert failed == [None]
    assert {(amount.label, amount.total) for _, amount in Display.seen} == {(f"{recipe.label} seed 0", 300)}
    done = [amount.done for _, amount in Display.seen]
    assert done == sorted(done)
    assert Display.ended == [Display.seen[0][0]]
