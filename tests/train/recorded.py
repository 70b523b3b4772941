"""A CUDA graph for the CPU: the operations of one call, done again on the same tensors with the same numbers.

So it proves what a real graph needs. A number of Python's is what it was when it was recorded; a tensor that the host
replaces by another is not noticed; and whatever waits for the device, or makes a shape of values on it, is an error.
"""

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

WAITING = {
    "_local_scalar_dense", "nonzero", "masked_select", "_unique2", "unique_dim", "unique_consecutive", "bincount",
    "equal", "histc", "_histogramdd_bin_edges",
}  # fmt: skip


class Watched(TorchDispatchMode):
    """An error at the first operation that waits for the device on CUDA; ``calls`` has those up to it."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name, kwargs = func.overloadpacket.__name__, kwargs or {}
        masks = [t for t in tree_leaves(args[1]) if t is not None] if name.startswith("index") and args[1:] else []
        assert name not in WAITING, f"{name} waits for the device"
        if name in ("index", "index_put", "index_put_", "_index_put_impl_"):
            assert all(mask.dtype not in (torch.bool, torch.uint8) for mask in masks), f"{name} by a mask waits"
        assert name != "repeat_interleave" or kwargs.get("output_size") is not None, "repeat_interleave waits"
        known = tree_map(_memory, (args, kwargs))
        result = func(*args, **kwargs)
        if torch.Tag.inplace_view not in func.tags:
            self.calls.append((func, *known, tree_map(_memory, result)))
        return result


class FakeRecorder:
    """What :class:`comhe.train.engine.capture.CUDAGraphRecorder` is on a GPU. ``recorded`` counts the recordings."""

    def __init__(self, syncs: tuple[str, ...] = ()) -> None:
        self.recorded, self.replayed, self.syncs = 0, 0, syncs

    def like(self, x):
        return torch.empty_like(x)

    def run(self, function, syncs=None):
        if syncs is not None:
            syncs.extend(self.syncs)
        return function()

    def synchronize(self):
        pass

    def record(self, function):
        self.recorded += 1
        with Watched() as watched:
            result = function()  # does the first replay's work already
        done = True

        @torch.no_grad()
        def replay() -> None:
            nonlocal done
            self.replayed += 1
            if not done:
                for call in watched.calls:
                    _again(*call)
            done = False

        return replay, result


def _memory(x):
    """A tensor's memory, viewed with its present shape."""
    return x.detach() if isinstance(x, torch.Tensor) else x


def _again(func, args, kwargs, result) -> None:
    fresh = [t for t in tree_leaves(func(*args, **kwargs)) if isinstance(t, torch.Tensor)]
    kept = [t for t in tree_leaves(result) if isinstance(t, torch.Tensor)]
    for new, old in zip(fresh, kept, strict=True):
        if new.layout == torch.strided and new.untyped_storage().data_ptr() != old.untyped_storage().data_ptr():
            old.copy_(new)
