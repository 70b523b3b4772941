"""CUDA graphs: what a step does on the GPU is recorded once, and from then on started as a whole."""

from __future__ import annotations

import gc
import os
import warnings
from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, Protocol

import torch
from torch import Tensor

WARM_UP = 3  # calls before the one that is recorded: libraries, memory and the optimizer's state come about in them


class NotCaptured(UserWarning):
    """A step that waits for the device is taken as it is written, which is slower."""


class Recorder(Protocol):
    """What can record a function's work on a device."""

    def like(self, x: Tensor) -> Tensor:
        """Memory on the device for a tensor like this one."""
        ...

    def run(self, function: Callable[[], Any], waits: list[str] | None = None) -> Any:
        """What the function returns; ``waits`` gets the places in it where the host waits for the device."""
        ...

    def record(self, function: Callable[[], Any]) -> tuple[Callable[[], None], Any]:
        """What does the function's work again, and what the function returned, whose tensors that work fills."""
        ...


class Captured:
    """A function of tensors whose work on the device is recorded after a few calls, and replayed from then on.

    Nothing is done only to warm up: the first calls do what all others do. Afterwards whatever the function reads is
    what it was when it was recorded, Python's numbers by value and tensors by address. So what changes from call to
    call has to be an argument, or a tensor that is written to in place; where what ``constants`` gives has changed, or
    a shape, the function is called and recorded anew. Tensors it returns are overwritten by the next call.

    Args:
        function: does work that depends on no value on the device, and waits for none.
        recorder: of the device, a :class:`CudaRecorder`.
        constants: numbers that the function reads beside its arguments and that seldom change.
    """

    def __init__(
        self, function: Callable[..., Any], recorder: Recorder, constants: Callable[[], Hashable] = tuple
    ) -> None:
        self.function, self.recorder, self.constants = function, recorder, constants
        self._key: Hashable = None
        self._inputs: list[Tensor] = []
        self._calls = 0
        self._replay: Callable[[], None] | None = None
        self._result: Any = None
        self._waits: list[str] = []

    def __call__(self, *inputs: Tensor) -> Any:
        key = self.constants(), *((x.shape, x.stride(), x.dtype) for x in inputs)
        if key != self._key:
            self._key, self._calls, self._replay, self._result = key, 0, None, None
            self._inputs = [self.recorder.like(x) for x in inputs]
        for own, given in zip(self._inputs, inputs, strict=True):
            own.copy_(given, non_blocking=True)
        if self._replay is None:
            self._result = None  # a graph may have the memory of the last call
            self._calls += 1
            if self._calls <= WARM_UP or self._waits:
                return self._as_written()
            self._replay, self._result = self.recorder.record(self._call)
        self._replay()
        return self._result

    def _as_written(self) -> Any:
        if self._calls != WARM_UP:
            return self.recorder.run(self._call)
        self._result = self.recorder.run(self._call, self._waits)
        if self._waits:
            text = f"steps are not captured as a CUDA graph, since the host waits for the device in {self._waits[0]}"
            warnings.warn(text, NotCaptured, stacklevel=4)
        return self._result

    def _call(self) -> Any:
        return self.function(*self._inputs)


class CudaRecorder:
    """Records a CUDA graph.

    Args:
        generators: those that the function draws from, beside the device's default generator.
    """

    def __init__(self, device: torch.device, generators: Iterable[torch.Generator] = ()) -> None:
        self.device, self.generators = device, tuple(generators)
        self.stream = torch.cuda.Stream(device)  # also of the calls before: autograd remembers their stream

    def like(self, x: Tensor) -> Tensor:
        return torch.empty_like(x, device=self.device)

    def run(self, function: Callable[[], Any], waits: list[str] | None = None) -> Any:
        current = torch.cuda.current_stream(self.device)
        self.stream.wait_stream(current)
        with torch.cuda.stream(self.stream), nullcontext() if waits is None else _noted(waits):
            result = function()
        current.wait_stream(self.stream)
        return result

    def record(self, function: Callable[[], Any]) -> tuple[Callable[[], None], Any]:
        gc.collect()  # what is freed during the recording might be freed on the device
        graph = torch.cuda.CUDAGraph()
        for generator in self.generators:
            graph.register_generator_state(generator)
        try:
            # Only this thread's mistakes: others may pin memory for images meanwhile.
            options = {"stream": self.stream, "capture_error_mode": "thread_local"}
            with torch.cuda.device(self.device), torch.cuda.graph(graph, **options):
                result = function()
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            reason = str(error.__context__ or error).strip().splitlines()[0]
            raise ValueError(f"the step cannot be captured as a CUDA graph: {reason}; set COMHE_EAGER=1") from error
        return graph.replay, result


def recorder_of(device: torch.device, generators: Iterable[torch.Generator]) -> Recorder | None:
    """The device's recorder, if it has one; none where COMHE_EAGER is set in the environment."""
    return CudaRecorder(device, generators) if device.type == "cuda" and not os.environ.get("COMHE_EAGER") else None


class Beside:
    """Does one thing beside what follows it, on a GPU; at once elsewhere."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.stream = torch.cuda.Stream(device) if device.type == "cuda" else None

    def start(self, function: Callable[[], Any]) -> Any:
        """What the function returns; its tensors are not to be touched before :meth:`join`."""
        if self.stream is None:
            return function()
        self.stream.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(self.stream):
            return function()

    def join(self) -> None:
        """What follows comes after what was started."""
        if self.stream is not None:
            torch.cuda.current_stream(self.device).wait_stream(self.stream)


@contextmanager
def _noted(waits: list[str]) -> Iterator[None]:
    """Notes the places where the host waits for the device, as far as torch can tell."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            yield
        finally:
            torch.cuda.set_sync_debug_mode("default")
    for warning in caught:
        text = str(warning.message)
        if "called a synchronizing CUDA operation" in text:
            waits.append(f"{warning.filename}:{warning.lineno}")
        elif "Synchronization debug mode" not in text:
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
