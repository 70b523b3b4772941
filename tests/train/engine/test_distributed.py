"""What ranks agree on, without processes; tests/trust/test_ranks.py has those."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from comhe.errors import UsageError
from comhe.train.engine import distributed
from comhe.train.engine.distributed import DistributedContext, StopConsensus, join_ranks, no_sync, unwrap
from comhe.train.runs.interruption import torchrun_rank


def test_alone_nothing_is_asked():
    consensus = StopConsensus(DistributedContext(), 60.0)
    assert consensus(7, 0, False) == (0, False)
    assert consensus(8, 0, True) == (0, True)
    assert consensus(9, 15, False) == (15, True)


@pytest.mark.parametrize("first", [0, 10_000])  # a run that is resumed begins anywhere
def test_all_ranks_stop_and_save_after_the_same_steps(monkeypatch, first):
    """Rank 1 gets a signal, the first one's clock says when to save and how often to ask; its step takes 1/8 s."""
    clock, meeting, box, asked = threading.local(), threading.Barrier(2), [None, None], []
    monkeypatch.setattr(distributed.time, "perf_counter", lambda: clock.now)

    class Together(DistributedContext):
        def maximum(self, x):
            box[self.rank] = x
            meeting.wait(30)
            found = torch.stack(box).amax(0)
            meeting.wait(30)
            return found

    def steps(rank: int) -> list[tuple[int, bool]]:
        clock.now = 0.0
        consensus, answers = StopConsensus(Together(rank, 2), 60.0), []
        for step in range(60):
            clock.now += (0.125, 0.3)[rank]
            signum = 15 if rank == 1 and step > 40 else 0
            answers.append(consensus(first + step, signum, due=rank == 1 or 20 <= step <= 27))
            if rank == 0 and consensus._last[0] == first + step:
                asked.append(step)
        return answers

    with ThreadPoolExecutor(2) as pool:
        one, other = pool.map(steps, range(2))
    assert one == other
    assert asked == [0, 1, 9, 17, 25, 33, 41, 49, 57]
    assert {step for step, (signum, saves) in enumerate(one) if saves and not signum} == {25}
    assert {step for step, (signum, _) in enumerate(one) if signum} == {41, 49, 57}


def test_only_what_a_launcher_sets_makes_ranks(monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    assert torchrun_rank() == (0, 1)
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv("MASTER_ADDR", "somewhere")
    assert torchrun_rank() == (0, 1)
    monkeypatch.setenv("RANK", "2")
    monkeypatch.setenv("MASTER_PORT", "1234")
    assert torchrun_rank() == (2, 4)
    with pytest.raises(UsageError, match="4 processes cannot share cuda:1"), join_ranks("cuda:1"):
        pass


def test_a_batch_is_shared_or_refused():
    share = DistributedContext(1, 3).share(10, 2)
    assert [run for _, run in share.slices(10)] == [slice(2, 4), slice(7, 9)]
    with pytest.raises(UsageError, match="batch_size=5 with accumulate=2 has too few samples for 3 processes"):
        DistributedContext(0, 3).share(5, 2)


def test_one_process_is_its_own_context():
    context, x, model = DistributedContext(), torch.arange(3.0), torch.nn.Linear(2, 2)
    assert context.is_main
    assert not context.is_distributed
    assert not context.lost_peer()
    assert context.sum(x) is context.mean(x) is context.maximum(x) is x
    assert context.gather("a") == ["a"]
    assert context.parallelize(model) is unwrap(model) is model
    with no_sync(model), join_ranks("cpu") as (alone, device):
        assert (alone, device) == (context, "cpu")
    with pytest.raises(UsageError, match="--shard-penalty is for several processes"), join_ranks("cpu", True):
        pass
