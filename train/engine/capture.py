"""CUDA graphs: a step's work on the GPU is recorded once, and launched as one unit from then on."""

from __future__ import annotations

import gc
import os
import warnings
from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from functools import partial
from typing import Any

import torch
from torch import Tensor

from comhe.errors import ComheWarning, first_line, warn

WARM_UP = 3  # calls before the recorded one, in which libraries, memory and the optimizer's state are initialized


class NotCaptured(ComheWarning):
    """A step that cannot be captured runs eagerly, which is slower."""


class CUDAGraphStep:
    """A function of tensors whose work on the device is recorded after a few calls, and replayed from then on.

    No call serves only to warm up. Afterwards whatever the function reads is what it was when it was recorded, Python's
    numbers by value and tensors by address. So what changes from call to call must be an argument, or a tensor that is
    written in place; where a shape or ``constants()`` has changed, it is recorded again. Tensors that it returns are
    overwritten by the next call. Where recording fails, for whatever reason, nothing of the call has run: it is made
    then, as is each one after it, and a :class:`NotCaptured` warning says why.
    """

    def __init__(
        self, function: Callable[..., Any], recorder: CUDAGraphRecorder, constants: Callable[[], Hashable] = tuple
    ) -> None:
        self.function, self.recorder, self.constants = function, recorder, constants
        self._key: Hashable = None
        self._inputs: list[Tensor] = []
        self._calls = 0
        self._replay: Callable[[], None] | None = None
        self._result: Any = None
        self._obstacle = ""  # why the function is not captured

    def __call__(self, *inputs: Tensor) -> Any:
        key = self.constants(), *((x.shape, x.stride(), x.dtype) for x in inputs)
        if key != self._key:
            if self._replay is not None:
                self.recorder.synchronize()  # before a graph is freed that may still be at work
            self._key, self._calls, self._replay, self._result = key, 0, None, None
            self._inputs = [self.recorder.like(x) for x in inputs]
        for copy, x in zip(self._inputs, inputs, strict=True):
            copy.copy_(x, non_blocking=True)
        if self._replay is None:
            self._result = None  # a graph may use the memory of the last call
            self._calls += 1
            if self._calls <= WARM_UP or self._obstacle or not self._record():
                return self._run()
        assert self._replay is not None
        self._replay()
        return self._result

    def _run(self) -> Any:
        syncs: list[str] | None = [] if self._calls == WARM_UP and not self._obstacle else None
        result = self.recorder.run(partial(self.function, *self._inputs), syncs)
        if syncs:
            self._give_up(f"the host waits for the device in {syncs[0]}")
        return result

    def _record(self) -> bool:
        try:
            self._replay, self._result = self.recorder.record(partial(self.function, *self._inputs))
        except Exception as error:  # of the function, or of the end of the recording that it has spoiled
            reason = first_line(error.__context__ or error)
        else:
            return True
        self._give_up(reason)  # here, where the error no longer keeps the memory of the recording
        return False

    def _give_up(self, reason: str) -> None:
        self._obstacle = reason
        warn(f"steps are not captured as a CUDA graph: {reason}", NotCaptured)


class CUDAGraphRecorder:
    """Records CUDA graphs; ``generators`` are those that the function draws from, besides the device's default one."""

    def __init__(self, device: torch.device, generators: Iterable[torch.Generator] = ()) -> None:
        self.device, self.generators = device, tuple(generators)
        self.stream = torch.cuda.Stream(device)  # also of the calls before: autograd remembers their stream
        self._spoiled: torch.cuda.CUDAGraph | None = None

    def like(self, x: Tensor) -> Tensor:
        return torch.empty_like(x, device=self.device)

    def run(self, function: Callable[[], Any], syncs: list[str] | None = None) -> Any:
        """Return what the function returns; ``syncs`` gets the lines in it that wait for the device."""
        current = torch.cuda.current_stream(self.device)
        self.stream.wait_stream(current)
        with torch.cuda.stream(self.stream), nullcontext() if syncs is None else _syncs_noted(syncs):
            result = function()
        current.wait_stream(self.stream)
        return result

    def record(self, function: Callable[[], Any]) -> tuple[Callable[[], None], Any]:
        """Return a function that repeats the work, and the result that it fills.

        It is replayed on the stream that it was recorded on, for which libraries have set up what they need. If
        anything in it cannot be recorded, the error is raised, and stream, memory and random numbers are as before.
        """
        gc.collect()  # what is freed during the recording might be freed on the device
        graph, pool = torch.cuda.CUDAGraph(), torch.cuda.graph_pool_handle()
        for generator in self.generators:
            graph.register_generator_state(generator)
        current = torch.cuda.current_stream(self.device)
        states = [(generator, generator.clone_state()) for generator in (self.default_generator, *self.generators)]
        try:
            # Only this thread's mistakes: others may pin memory for images meanwhile.
            options: dict[str, Any] = {"pool": pool, "stream": self.stream, "capture_error_mode": "thread_local"}
            with torch.cuda.device(self.device), torch.cuda.graph(graph, **options):
                result = function()
        except Exception:
            # torch leaves its stream, its memory pool and its generators in the recording that failed.
            torch.cuda.set_stream(current)
            self._spoiled = graph  # the allocator may still ask it
            with suppress(RuntimeError, AttributeError):  # the recording itself may have ended well
                torch._C._cuda_endAllocateToPool(current.device_index, pool)
            for generator, state in states:
                generator.graphsafe_set_state(state)
            raise
        return partial(self.run, graph.replay), result

    @property
    def default_generator(self) -> torch.Generator:
        """The one that dropout and the like draw from on the device."""
        index = self.device.index
        return torch.cuda.default_generators[torch.cuda.current_device() if index is None else index]

    def synchronize(self) -> None:
        torch.cuda.synchronize(self.device)


def make_recorder(device: torch.device, generators: Iterable[torch.Generator]) -> CUDAGraphRecorder | None:
    """Return the device's recorder, if it has one; None where COMHE_EAGER is set in the environment."""
    is_captured = device.type == "cuda" and not os.environ.get("COMHE_EAGER")
    return CUDAGraphRecorder(device, generators) if is_captured else None


class SideStream:
    """Runs a function concurrently with what follows it, on a GPU; immediately elsewhere."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.stream = torch.cuda.Stream(device) if device.type == "cuda" else None

    def start(self, function: Callable[[], Any]) -> Any:
        """Return what the function returns; its tensors must not be used before :meth:`join`."""
        if self.stream is None:
            return function()
        self.stream.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(self.stream):
            return function()

    def join(self) -> None:
        if self.stream is not None:
            torch.cuda.current_stream(self.device).wait_stream(self.stream)


@contextmanager
def _syncs_noted(syncs: list[str]) -> Iterator[None]:
    """Note the lines in which the host waits for the device, as far as torch can tell."""
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
            syncs.append(f"{warning.filename}:{warning.lineno}")
        elif "Synchronization debug mode" not in text:
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
