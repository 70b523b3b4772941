"""The output layers of a model, found in a forward pass: the last weights on the way to what it returns."""

import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, ValuesView
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.nn.parameter import is_lazy
from torch.utils._python_dispatch import TorchDispatchMode

from comhe.errors import UsageError, warn

from .candidates import find_candidates, find_unread
from .computed import walk
from .neurons import kind
from .selection import called

# Operations whose outputs are those of neurons, if one operand is a weight. So are the outputs of all others but sums,
# if it is the weight of a layer, or makes them larger than the data, as in (x[:, None] * w).sum(-1).
_PRODUCTS = {
    "mm", "addmm", "bmm", "baddbmm", "addbmm", "mv", "addmv", "dot", "matmul", "linear", "_sparse_mm", "_sparse_addmm",
    "_scaled_mm", "_int_mm", "_weight_int8pack_mm", "_grouped_mm", "_scaled_grouped_mm", "bilinear", "_trilinear",
    "convolution", "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d",
    "embedding", "_embedding_bag", "_cdist_forward", "mkldnn_rnn_layer", "_cudnn_rnn", "_thnn_fused_lstm_cell",
    "_thnn_fused_gru_cell", "_scaled_dot_product_flash_attention_for_cpu", "_scaled_dot_product_flash_attention",
    "_scaled_dot_product_efficient_attention", "_scaled_dot_product_cudnn_attention",
}  # fmt: skip
_SUMS = {"add", "add_", "cat", "stack"}
_LOOKUPS = {"index", "index_select", "gather"}
# What a mapping that a model returns has besides predictions, as in Transformers.
_STATES = re.compile(r"hidden_states?$|^states?$|attentions$|past_key_values|cache|mems$|router_logits|_model_output$")


def output_layers(model: nn.Module, *inputs: Any, of: Callable[[Any], Any] | None = None, **kwargs: Any) -> list[str]:
    """Names of the layers whose outputs reach the model's own without passing through another layer.

    ``output="auto"`` goes by names and shapes before any data is there. This follows the data of one forward pass in
    evaluation mode, so it also finds the heads of models that are built in an unusual order. All heads count, those
    for boxes and auxiliary ones as well. A network without a head, as a feature extractor, ends in the layers that add
    to its features; give it ``output=None``.

    Args:
        inputs, kwargs: what the model is called with; a batch of two is enough.
        of: which of its outputs count, as a function of what the model returns. By default all do but hidden states,
            attentions, caches and router logits in a mapping, as Transformers returns it.

    Raises:
        UsageError: the outputs come from no layer, as classes do that are integers already, or they cannot be
            followed: through threads, NumPy or sparse results; or weights are sharded or offloaded.

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
        layers = _Layers(model)
        flow = _Flow(layers, model)
        devices = {tensor.device.type for tensor in _tensors([inputs, kwargs])} | {"meta"}
        if any(hasattr(p, "full_tensor") or (p.is_meta and devices != {"meta"}) for p in model.parameters()):
            raise UsageError(
                "weights are sharded or offloaded, so they cannot be followed; find the layers before that"
            )
        for tensor in _tensors([inputs, kwargs]):
            flow.mark(tensor, _Known(frozenset(), is_data=True))
        torch.clear_autocast_cache()  # which has weights that were cast before
        hooks = [module.register_forward_hook(flow.after_call) for module in {**layers.modules, **layers.opaque}]
        try:
            with torch.compiler.set_stance("force_eager"), flow:
                returned = model(*inputs, **kwargs)
        finally:
            for hook in hooks:
                hook.remove()
    outputs = [*_tensors(_predictions(returned) if of is None else of(returned))]
    own = {id(p) for p in model.parameters()}
    ends = [flow.find(tensor) for tensor in outputs if id(tensor) not in own]
    found = {name for end in ends if end is not None for name in end.names}
    for name in found & layers.unread.keys() - {*layers.names}:
        warn(f"{called(name)} leads to the outputs, but is no output layer: {layers.unread[name]}")
    if not outputs:
        raise UsageError(
            f"{type(model).__name__} returns {type(returned).__name__} without tensors; choose some with of="
        )
    if not found:
        raise UsageError(
            f"what {type(model).__name__} returns comes from none of its layers, as far as can be followed; choose "
            "outputs that have a gradient with of=, or name the layers"
        )
    return [name for name in layers.names if name in found]


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


class _Layers:
    """The names of layers by weight and by module; for a module with weights that no view reads, why it has none."""

    def __init__(self, model: nn.Module) -> None:
        candidates, claimed = find_candidates(model)
        candidates = [item for item in candidates if item.reason is None]
        self.names = [item.name for item in candidates]
        self.modules: dict[nn.Module, frozenset[str]] = {}
        self.weights: dict[int, tuple[Tensor, frozenset[str]]] = {}
        tables = [item for item in candidates if kind(item.module) == "embedding"]  # which a head may be tied to
        for item in candidates:
            self.modules[item.module] = self.modules.get(item.module, frozenset()) | {item.name}
        self._add((item.name, item.sources) for item in candidates if item not in tables)
        unread = list(find_unread(model, candidates, claimed))
        self.unread = {name: reason for name, reason, _ in unread}
        modules = dict(walk(model))
        opaque = [name for name, _, parameters in unread if not parameters and modules[name] not in claimed]
        self.opaque = {modules[name]: frozenset({name}) for name in opaque}  # whose weight is packed or in integers
        self._add([(item.name, item.sources) for item in tables] + [(name, ps) for name, _, ps in unread])

    def _add(self, named: Iterable[tuple[str, Iterable[Tensor]]]) -> None:
        """Add matrices that have no name yet."""
        for name, p in [(n, p) for n, ps in named for p in ps if p.dim() > 1 and id(p) not in self.weights]:
            self.weights[id(p)] = p, self.weights.get(id(p), (p, frozenset[str]()))[1] | {name}


class _Known(NamedTuple):
    """The layers that a tensor comes from last; whether data made it or parameters alone, or it is a scaled weight."""

    names: frozenset[str]
    is_data: bool
    is_scaled: bool = False


class _Flow(TorchDispatchMode):
    """Follows the outputs of layers through every operation. Views and what is changed in place share a storage."""

    supports_higher_order_operators = True  # flex_attention, as one operation

    def __init__(self, layers: _Layers, model: nn.Module) -> None:
        super().__init__()
        self._layers = layers
        self._known: dict[int, tuple[StorageWeakRef, _Known]] = {}
        for tensor in [*model.parameters(), *model.buffers()]:
            self.mark(tensor, _Known(frozenset(), is_data=False))
        for weight, names in layers.weights.values():
            before = self.find(weight)  # several weights may be views of one storage
            self.mark(weight, _Known(names | (before.names if before else frozenset()), is_data=False))

    def mark(self, tensor: Tensor, known: _Known) -> None:
        if (storage := _storage(tensor)) is not None:
            self._known[storage.cdata] = storage, known  # while it is referred to, no other has its address

    def find(self, tensor: Tensor) -> _Known | None:
        storage = _storage(tensor)
        return self._known[storage.cdata][1] if storage is not None and storage.cdata in self._known else None

    def after_call(self, module: nn.Module, inputs: Any, outputs: Any) -> None:
        """What a layer returns is data, even if its inputs are parameters or buffers, as learned queries are."""
        opaque = self._layers.opaque.get(module)
        own = opaque or self._layers.modules.get(module, frozenset())
        for tensor in _tensors(outputs) if own else ():
            known = self.find(tensor)
            if opaque or known is None or not known.is_data or not known.names:
                self.mark(tensor, _Known((known.names & own if known else own) or own, is_data=True))

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        name = func.name().partition("::")[2].partition(".")[0]
        found = [(tensor, self.find(tensor)) for tensor in _tensors([args, kwargs])]
        is_gradient = torch._C._current_graph_task_id() != -1
        if is_gradient or not any(known for _, known in found) or name.startswith("new_") or name.endswith("_like"):
            return result
        data = {tensor: known.names for tensor, known in found if known and known.is_data}
        weights = _union(known.names for _, known in found if known and not known.is_data)
        outputs = [tensor for tensor in _tensors(result) if tensor.is_floating_point() or tensor.is_complex()]
        is_product = name in _PRODUCTS or not func.name().startswith("aten::")
        is_larger = any(output.numel() > max(map(Tensor.numel, data), default=0) for output in outputs)
        scales = bool(data) and name not in _SUMS and (is_larger or not weights.isdisjoint(self._layers.names))
        makes = bool(weights) and (is_product or scales)
        is_data = bool(data) or (makes and any(known is None for _, known in found))
        is_scaled = not is_product and (makes or any(known and known.is_scaled for _, known in found))
        if name in _LOOKUPS and args[0].dim() > 2 and args[0] not in data:  # one of several weights for each input
            makes, is_data = True, False
        if name == "convolution" and (kernel := self.find(args[1])) and kernel.is_scaled:
            makes, weights = True, kernel.names
        known = _Known(weights if makes or not is_data else _union(data.values()), is_data, is_scaled)
        for output in outputs:
            self.mark(output, known)
        return result


def _union(names: Iterable[frozenset[str]]) -> frozenset[str]:
    return frozenset[str]().union(*names)


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
    elif id(value) not in seen and not isinstance(value, (nn.Module, type, str)) and not _is_cache(value):
        seen.add(id(value))
        inside = value.values() if isinstance(value, Mapping) else value
        if not isinstance(inside, (list, tuple, set, frozenset, deque, ValuesView)):
            inside = vars(value).values() if hasattr(value, "__dict__") else ()
        for item in list(inside):
            yield from _tensors(item, seen)


def _is_cache(value: Any) -> bool:
    return type(value).__name__.endswith("Cache")


def _predictions(returned: Any) -> Any:
    if not isinstance(returned, Mapping):
        return returned
    return {key: value for key, value in returned.items() if not _STATES.search(str(key))} or returned
