"""Counted operations and timed penalties."""

import os
import platform

import pytest
import torch

from comhe.regularizers import create_regularizer
from comhe.train.engine import cost
from comhe.train.engine.cost import OtherWork, forward_flops, penalty_seconds


def test_operations_of_a_forward_pass():
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3, padding=1), torch.nn.Flatten(), torch.nn.Linear(8 * 25, 4))
    assert forward_flops(model, (torch.zeros(2, 3, 5, 5),)) == 2 * 2 * (25 * 8 * 27 + 200 * 4)
    assert model.training

    class Sparse(torch.nn.Module):
        def forward(self, x):
            return x @ torch.ones(6, 5)

    entries = torch.eye(6).to_sparse_csr()
    assert forward_flops(Sparse(), (entries,)) == 2 * 6 * 5  # not 2 * 6 * 6 * 5


def test_a_penalty_is_timed_and_none_costs_nothing():
    model = torch.nn.Linear(4, 3)
    assert penalty_seconds(create_regularizer("mhe", model), list(model.parameters())) > 0
    assert penalty_seconds(create_regularizer("none", model), list(model.parameters())) == 0


def test_other_work_is_what_the_machine_did_beyond_the_run(tmp_path, monkeypatch):
    ticks, clock = tmp_path / "stat", iter((100.0, 110.0))
    monkeypatch.setattr(cost, "PROCESSOR_TIMES", ticks)
    monkeypatch.setattr(cost.time, "perf_counter", lambda: next(clock))
    second = os.sysconf("SC_CLK_TCK")

    def write(user, idle):
        ticks.write_text(f"cpu  {user * second} 0 {second} {idle * second} 7 0 0 0 0 0\ncpu0 1 2 3\n")

    write(50, 1000)
    others = OtherWork()
    write(80, 3000)
    here = platform.node()
    assert others.cores([(here, 8.0), (here, 7.0), ("elsewhere", 99.0)]) == pytest.approx(1.5)


def test_other_work_is_unknown_where_the_system_does_not_count_it(tmp_path, monkeypatch):
    monkeypatch.setattr(cost, "PROCESSOR_TIMES", tmp_path / "no")
    assert OtherWork().cores([]) is None
