"""CUDA graphs: when a function is recorded and replayed, and what is asked of torch.cuda."""

from contextlib import contextmanager, nullcontext

import pytest
import torch

from comhe.errors import UsageError
from comhe.train.engine.capture import WARM_UP, CUDAGraphRecorder, CUDAGraphStep, NotCaptured

from ..recorded import FakeRecorder, Watched


def test_work_is_recorded_after_the_warm_up_and_again_where_shapes_or_constants_change():
    recorder, factor, total = FakeRecorder(), [2.0], torch.zeros(())

    def work(x):
        total.add_(x.sum())
        return x * factor[0]

    captured = CUDAGraphStep(work, recorder, lambda: tuple(factor))
    expected = 0.0
    for size, value in ((3, 2.0), (4, 2.0), (4, 5.0), (3, 5.0)):
        factor[0] = value
        before = recorder.recorded, recorder.replayed
        for _ in range(WARM_UP + 3):
            x = torch.randn(size)
            expected += x.sum().item()
            assert captured(x).equal(value * x)
        assert (recorder.recorded, recorder.replayed) == (before[0] + 1, before[1] + 3)
    assert total.item() == pytest.approx(expected, rel=1e-4)


def test_what_waits_for_the_device_is_not_recorded_and_says_where():
    recorder = FakeRecorder(syncs=("model.py:12",))
    captured = CUDAGraphStep(lambda x: 2 * x, recorder)
    for call in range(1, WARM_UP + 3):
        expected = pytest.warns(NotCaptured, match=r"model\.py:12") if call == WARM_UP else nullcontext()
        with expected:
            assert captured(torch.tensor([float(call)])).item() == 2 * call
    assert recorder.recorded == 0


def spoiled_recording():
    """As torch raises it: the error of the function is the context of that of the recording's end."""
    try:
        raise RuntimeError("operation not permitted when stream is capturing\nand more")
    finally:
        raise RuntimeError("capture was invalidated")


def raises(error):
    def record():
        raise error

    return record


FAILURES = {
    "not permitted when stream is capturing$": spoiled_recording,
    "CUDA out of memory": raises(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")),
    "shared memory": raises(type("OutOfResources", (Exception,), {})("out of resource: shared memory")),
    "table": raises(UsageError("the table of these shapes is not on the device yet")),
    "AssertionError": raises(AssertionError()),
}


@pytest.mark.parametrize("reason", FAILURES)
def test_whatever_fails_in_a_recording_the_step_is_taken_as_written(reason):
    class Failing(FakeRecorder):
        def record(self, function):
            self.recorded += 1
            FAILURES[reason]()

    total = torch.zeros(())

    def work(x):
        total.add_(x)
        return 2 * x

    recorder = Failing()
    captured = CUDAGraphStep(work, recorder)
    for call in range(1, WARM_UP + 4):
        expected = pytest.warns(NotCaptured, match=reason) if call == WARM_UP + 1 else nullcontext()
        with expected:
            assert captured(torch.tensor(float(call))).item() == 2 * call
    assert total.item() == sum(range(WARM_UP + 4))  # a failed recording counts as no call
    assert recorder.recorded == 1  # and is not tried again


def test_a_recording_holds_numbers_by_value_and_tensors_by_address():
    """The fake graph is as strict as a real one."""
    number, tensor = [1.0], [torch.ones(())]
    replay, result = FakeRecorder().record(lambda: tensor[0] * number[0])
    number[0], tensor[0] = 5.0, torch.zeros(())
    for _ in range(2):
        replay()
        assert result.item() == 1.0
    for wait in (torch.Tensor.item, torch.Tensor.nonzero, lambda x: x[x > 0], lambda x: x.long().bincount()):
        with pytest.raises(AssertionError, match="wait"), Watched():
            wait(torch.ones(1))


class FakeGenerator:
    def __init__(self, calls):
        self.calls, self.state = calls, "before"

    def clone_state(self):
        return self.state

    def graphsafe_set_state(self, state):
        self.state = state


@pytest.mark.parametrize("failure", [None, "in the work", "at the end"])
def test_the_cuda_recorder_records_and_replays_on_one_stream(monkeypatch, failure):
    """What it asks of torch.cuda, in order; the real one needs a device."""
    calls, current_streams = [], []

    class Graph:
        def register_generator_state(self, generator):
            calls.append("register")

        def replay(self):
            calls.append(("replay", current_streams[-1]))

    @contextmanager
    def graph(cuda_graph, pool, stream, capture_error_mode):
        """Leaves its stream current and the generators' states changed if it fails, as torch does."""
        calls.append((pool, stream, capture_error_mode))
        current_streams.append(stream)
        for generator in generators:
            generator.state = "of the recording"
        yield
        if failure == "at the end":
            raise RuntimeError("capture was invalidated")
        current_streams.pop()

    class Stream:
        device_index = 0

        def __init__(self, device):
            self.device = device

        def wait_stream(self, other):
            calls.append((self, other))

    @contextmanager
    def in_stream(stream):
        current_streams.append(stream)
        yield
        current_streams.pop()

    generators = [FakeGenerator(calls), FakeGenerator(calls)]
    current_streams.append(Stream("cuda"))
    fakes = {"Stream": Stream, "CUDAGraph": Graph, "graph": graph, "device": nullcontext, "stream": in_stream}
    fakes |= {"current_stream": lambda device: current_streams[-1], "set_stream": current_streams.append}
    fakes |= {"graph_pool_handle": lambda: (1, 0), "default_generators": [generators[0]], "current_device": lambda: 0}
    for name, fake in fakes.items():
        monkeypatch.setattr(torch.cuda, name, fake)
    monkeypatch.setattr(torch._C, "_cuda_endAllocateToPool", lambda *args: calls.append(("end", *args)), raising=False)
    recorder, current = CUDAGraphRecorder(torch.device("cuda"), generators[1:]), current_streams[0]

    def work():
        if failure == "in the work":
            raise RuntimeError("operation not permitted when stream is capturing")
        return 3

    stream, options = recorder.stream, ((1, 0), recorder.stream, "thread_local")
    if failure:
        with pytest.raises(RuntimeError, match=r"not permitted|invalidated"):
            recorder.record(work)
        assert calls == ["register", options, ("end", 0, (1, 0))]
        assert current_streams[-1] is current
        assert [generator.state for generator in generators] == ["before"] * 2
        return
    assert recorder.run(work) == 3
    replay, result = recorder.record(work)
    replay()
    assert result == 3
    waits = [(stream, current), (current, stream)]
    assert calls == [*waits, "register", options, waits[0], ("replay", stream), waits[1]]
