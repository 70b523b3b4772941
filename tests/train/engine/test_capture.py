"""CUDA graphs: when a function is recorded and replayed, and what is asked of torch.cuda."""

from contextlib import contextmanager, nullcontext

import pytest
import torch

from comhe.train.engine.capture import WARM_UP, CaptureError, CUDAGraphRecorder, CUDAGraphStep, NotCaptured

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


def test_what_cannot_be_captured_is_called_each_time_and_says_why():
    class Failing(FakeRecorder):
        def record(self, function):
            raise CaptureError("not permitted when stream is capturing")

    total = []
    captured = CUDAGraphStep(lambda x: total.append(1) or 2 * x, Failing())
    for call in range(1, WARM_UP + 4):
        expected = pytest.warns(NotCaptured, match="not permitted") if call == WARM_UP + 1 else nullcontext()
        with expected:
            assert captured(torch.tensor([float(call)])).item() == 2 * call
    assert len(total) == WARM_UP + 3  # a failed recording counts as no call


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


@pytest.mark.parametrize("failing", [False, True])
def test_the_cuda_recorder_records_on_one_stream_with_its_generators(monkeypatch, failing):
    """What it asks of torch.cuda, in order; the real one needs a device."""
    calls = []

    class Graph:
        def register_generator_state(self, generator):
            calls.append(generator)

        def replay(self):
            calls.append("replay")

    @contextmanager
    def graph(cuda_graph, stream, capture_error_mode):
        calls.append((stream, capture_error_mode))
        yield

    class Stream:
        def __init__(self, device):
            self.device = device

        def wait_stream(self, other):
            calls.append((self, other))

    current = Stream("cuda")
    fakes = {"Stream": Stream, "CUDAGraph": Graph, "graph": graph, "device": nullcontext, "stream": nullcontext}
    for name, fake in (fakes | {"current_stream": lambda device: current}).items():
        monkeypatch.setattr(torch.cuda, name, fake)
    generator = torch.Generator()
    recorder = CUDAGraphRecorder(torch.device("cuda"), [generator])

    def work():
        if failing:
            raise RuntimeError("operation not permitted when stream is capturing\nand more")
        return 3

    if failing:
        with pytest.raises(CaptureError, match=r"not permitted when stream is capturing$"):
            recorder.record(work)
        return
    assert recorder.run(work) == 3
    replay, result = recorder.record(work)
    replay()
    assert result == 3
    stream = recorder.stream
    assert calls == [(stream, current), (current, stream), generator, (stream, "thread_local"), "replay"]
