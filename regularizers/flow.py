"""The output layers of a model, found in a forward pass: the last weights on the way to what it returns."""

from collections.abc import Callable, Iterable, Iterator, Mapping, ValuesView
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.nn.parameter import is_lazy
from torch.utils._python_dispatch import TorchDispatchMode

from comhe.errors import UsageError, warn

from .candidates import Candidate, find_candidates, find_unread
from .neurons import kind

# Operations that add to their operands or put them side by side. All others make new outputs with a weight.
_JOIN = {"add", "add_", "sub", "sub_", "rsub", "cat", "stack", "where", "copy_", "masked_fill", "index_add", "lerp"}
# Operations that make outputs with a weight even of what the forward pass creates: noise, a first state, indices.
_PRODUCTS = {"mm", "addmm", "bmm", "baddbmm", "mv", "addmv", "convolution", "embedding", "_embedding_bag", "_sparse_mm"}
_PRODUCTS |= {"mkldnn_rnn_layer", "_cudnn_rnn", "_thnn_fused_lstm_cell", "_thnn_fused_gru_cell", "_cdist_forward"}


def output_layers(model: nn.Module, *inputs: Any, of: Callable[[Any], Any] | None = None, **kwargs: Any) -> list[str]:
    """Names of the layers whose outputs reach the model's own without passing through another layer.

    ``output="auto"`` goes by names and shapes before any data is there. This follows the data of one forward pass in
    evaluation mode, so it also finds the heads of models that are built in an unusual order. All heads count, those
    for boxes and auxiliary ones as well. A network without a head, as a feature extractor, ends in the layers that add
    to its features; give it ``output=None``.

    Args:
        inputs, kwargs: what the model is called with; a batch of two is enough.
        of: which of its outputs count, as a function of what the model returns. By default all do. In a mapping with
            keys that end in ``logits``, as Transformers returns it, only these do.

    Raises:
        UsageError: the outputs come from no layer, as classes do that are integers already.

    Example:
        >>> class WideAndDeep(nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.deep = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 3))
        ...         self.wide = nn.Linear(6, 3)
        ...     def forward(self, x):
        ...         return self.wide(x) + self.deep(x)
        >>> model = WideAndDeep()
        >>> output_layers(model, torch.randn(2, 6))
        ['deep.2', 'wide']
        >>> from comhe.regularizers import create_regularizer
        >>> regularizer = create_regularizer("hs-mhe", model, output=output_layers(model, torch.randn(2, 6)))
    """
    with _evaluation(model):
        if any(map(is_lazy, model.parameters())):
            model(*inputs, **kwargs)
        candidates, names = _names(model)
        flow = _Flow([*names.values(), *((p, frozenset()) for p in [*model.parameters(), *model.buffers()])])
        for tensor in _tensors([inputs, kwargs]):
            flow.mark(tensor, _Known(frozenset(), is_data=True))
        with torch.compiler.set_stance("force_eager"), flow:
            returned = model(*inputs, **kwargs)
    returned = returned if of is None else of(returned)
    own = {id(p) for p in model.parameters()}
    ends = [flow.find(tensor) for tensor in _tensors(_logits(returned)) if id(tensor) not in own]
    found = {name for end in ends if end is not None for name in end.names}
    reached = [item for item in candidates if item.name in found]
    for name in sorted(found - {item.name for item in reached}):
        of_module = name or "the model itself"
        warn(f"a weight of {of_module} leads to the outputs, which is skipped: give it a view with register_neurons")
    if not found:
        raise UsageError(
            f"what {type(model).__name__} returns comes from none of its weight matrices; choose outputs that have a "
            "gradient with of=, or name the layers"
        )
    return [item.name for item in reached]


@contextmanager
def _evaluation(model: nn.Module) -> Iterator[None]:
    """Evaluation mode, without the fused attention that hides which weight comes last."""
    training = {module: module.training for module in model.modules()}
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        for module in training:
            module.training = False
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        for module, mode in training.items():
            module.training = mode


def _names(model: nn.Module) -> tuple[list[Candidate], dict[int, tuple[Tensor, frozenset[str]]]]:
    """The layers, and each matrix with their names; of a matrix without a view that of its module."""
    candidates, claimed = find_candidates(model)
    candidates = [item for item in candidates if item.reason is None]
    names: dict[int, tuple[Tensor, frozenset[str]]] = {}
    tables = [item for item in candidates if kind(item.module) == "embedding"]  # which a head may be tied to
    layers = [(item.name, item.sources) for item in candidates if item not in tables]
    others = [(item.name, item.sources) for item in tables]
    others += [(name, tuple(parameters)) for name, _, parameters in find_unread(model, candidates, claimed)]
    for several in layers, others:
        free = [(name, p) for name, parameters in several for p in parameters if p.dim() > 1 and id(p) not in names]
        for name, p in free:
            names[id(p)] = p, names.get(id(p), (p, frozenset[str]()))[1] | {name}
    return candidates, names


class _Known(NamedTuple):
    """The layers that a tensor comes from last, and whether data made it or parameters alone."""

    names: frozenset[str]
    is_data: bool


class _Flow(TorchDispatchMode):
    """Follows the outputs of layers through every operation. Views and what is changed in place share a storage."""

    def __init__(self, weights: Iterable[tuple[Tensor, frozenset[str]]]) -> None:
        super().__init__()
        self._known: dict[int, tuple[StorageWeakRef, _Known]] = {}
        for weight, names in weights:
            before = self.find(weight)  # several weights may be views of one storage
            self.mark(weight, _Known(names | (before.names if before else frozenset()), is_data=False))

    @classmethod
    def supports_higher_order_operators(cls) -> bool:  # torch.cond and others, as one operation
        return True

    def mark(self, tensor: Tensor, known: _Known) -> None:
        if (storage := _storage(tensor)) is not None:
            self._known[storage.cdata] = storage, known  # while it is referred to, no other has its address

    def find(self, tensor: Tensor) -> _Known | None:
        storage = _storage(tensor)
        return self._known[storage.cdata][1] if storage is not None and storage.cdata in self._known else None

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = [self.find(tensor) for tensor in _tensors([args, kwargs])]
        operands = [known for known in found if known is not None]
        result = func(*args, **(kwargs or {}))
        name = func.name().partition("::")[2].partition(".")[0]
        if not operands or name.startswith("new_") or name.endswith("_like"):
            return result
        data = [known.names for known in operands if known.is_data]
        before = frozenset[str]().union(*data)
        weights = frozenset[str]().union(*(known.names for known in operands if not known.is_data))
        is_data = bool(data) or (bool(weights) and name in _PRODUCTS and None in found)
        known = _Known(weights | before if name in _JOIN else weights or before, is_data)
        for tensor in _tensors(result):
            if tensor.is_floating_point() or tensor.is_complex():
                self.mark(tensor, known)
        return result


def _storage(tensor: Tensor) -> StorageWeakRef | None:
    """What a tensor shares with its views; None for a sparse one."""
    try:
        return StorageWeakRef(tensor.untyped_storage())
    except (NotImplementedError, RuntimeError):
        return None


def _tensors(value: Any, seen: set[int] | None = None) -> Iterator[Tensor]:
    """The tensors in what is passed to a model or an operation, or returned: in containers and objects of any kind."""
    seen = set() if seen is None else seen
    if isinstance(value, Tensor):
        yield value
    elif id(value) not in seen and not isinstance(value, (nn.Module, type, str)):
        seen.add(id(value))
        inside = value.values() if isinstance(value, Mapping) else value
        if not isinstance(inside, (list, tuple, set, frozenset, ValuesView)):
            inside = vars(value).values() if hasattr(value, "__dict__") else ()
        for item in list(inside):
            yield from _tensors(item, seen)


def _logits(returned: Any) -> Any:
    if not isinstance(returned, Mapping):
        return returned
    return {key: value for key, value in returned.items() if str(key).endswith("logits")} or returned
