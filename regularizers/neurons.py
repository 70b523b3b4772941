"""The matrix view: which rows of which matrix are a layer's neurons."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import ParametrizationList, is_parametrized
from torch.nn.utils.weight_norm import WeightNorm

from comhe.errors import UsageError

Rule = Callable[[Any], Tensor]  # of a module of its class
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_EMBEDDINGS = (nn.Embedding, nn.EmbeddingBag)
_GATES = {nn.RNN: 1, nn.RNNCell: 1, nn.GRU: 3, nn.GRUCell: 3, nn.LSTM: 4, nn.LSTMCell: 4}
_KINDS = {"conv": _CONVOLUTIONS + _TRANSPOSED, "embedding": _EMBEDDINGS, "recurrent": tuple(_GATES)}
_KINDS |= {"attention": (nn.MultiheadAttention,)}

WRAPPERS = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")


class NoNeuronsError(UsageError):
    """The module has no matrix view; the message says why."""


def neurons(module: nn.Module, ordered: bool = True) -> Tensor:
    """The weight of one layer as a matrix whose rows are its neurons, differentiable with respect to its parameters.

    ==============================  =============================================================================
    layer                           view
    ==============================  =============================================================================
    Conv1d, 2d, 3d                  ``[out, in * kernel]``; with g groups ``[g, out / g, in / g * kernel]``
    depthwise (in / groups = 1)     ``[out, kernel]``: one filter a group has no partner, all see the same kernel space
    ConvTranspose1d, 2d, 3d         as the convolution; a neuron computes one *output* channel
    Linear (torch's, PyG's)         ``[out, in]``
    Embedding, EmbeddingBag         ``[entries, dim]`` without the padding entry
    Bilinear                        ``[out, in1 * in2]``
    MultiheadAttention              ``[3, E, E]``: queries, keys and values are three sets
    RNN, GRU, LSTM (and cells)      ``[gates, hidden, in]`` of the first layer's input weights, each gate a set
    PyG's GCN2Conv                  ``[channels, channels]``, transposed since it multiplies from the right; two of
                                    them where its weights are not shared
    ==============================  =============================================================================

    Parametrized and weight-normed weights are read as the layer computes them. Rules for other layers are added with
    :func:`register_neurons`. ``ordered=False`` leaves open how the dimensions are ordered within the rows, all alike:
    no energy depends on it and a channels-last weight need not be copied.

    Raises:
        NoNeuronsError: the module has no weight matrix, or one that is not initialized yet.

    Example:
        >>> neurons(nn.Conv2d(3, 8, kernel_size=5)).shape
        torch.Size([8, 75])
    """
    rule = _rule(type(module))
    if rule is None:
        raise NoNeuronsError(f"{type(module).__name__} has no weight matrix")
    if any(isinstance(p, nn.parameter.UninitializedParameter) for p in module.parameters(recurse=False)):
        raise NoNeuronsError(f"{type(module).__name__} is lazy: run one forward pass before attaching a regularizer")
    if not ordered and rule is _convolution and _channels_last(module):
        return _weight(module).movedim(1, -1).flatten(1)
    return rule(module)


def aligned(columns: Tensor, module: nn.Module, back: bool = False) -> Tensor:
    """``columns`` [..., d], ordered as ``neurons(module)``, in the order of ``ordered=False``, or back."""
    if _rule(type(module)) is not _convolution or not _channels_last(module):
        return columns
    split = (-1, module.in_channels) if back else (module.in_channels, -1)
    return columns.unflatten(-1, split).transpose(-1, -2).flatten(-2)


def register_neurons(layer: type[nn.Module] | str) -> Callable[[Rule], Rule]:
    """Decorator: the matrix view of a layer class, or of the class with this name where it must not be imported.

    Example:
        >>> @register_neurons("my_package.MyBilinear")
        ... def view(module):
        ...     return module.weight.flatten(1)
    """

    def register(rule: Rule) -> Rule:
        if layer in _RULES:
            raise UsageError(f"{layer!r} already has a matrix view")
        _RULES[layer] = rule
        return rule

    return register


def kind(module: nn.Module) -> str | None:
    """A name in ``_KINDS``, ``"linear"`` or ``"other"``; None without a view."""
    if _rule(type(module)) is None:
        return None
    for name, classes in _KINDS.items():
        if isinstance(module, classes):
            return name
    return "linear" if any(base.__name__ == "Linear" for base in type(module).__mro__) else "other"


def sources(module: nn.Module) -> tuple[nn.Parameter, ...]:
    """The parameters that the view is computed from: they identify a tied weight, and must require a gradient."""
    found = [p for name, p in module.named_parameters(recurse=False) if _in_view(name)]
    if is_parametrized(module):
        for name, parametrization in module.get_submodule("parametrizations").named_children():
            found += parametrization.parameters() if _in_view(name) else ()
    return tuple(found)


def _in_view(name: str) -> bool:
    """Whether a parameter of this name (or of what weight norm turns it into) belongs to a layer's view."""
    later_layer = name.startswith("weight_ih_l") and not name.startswith("weight_ih_l0")
    return "weight" in name and "weight_hh" not in name and not later_layer


def _rule(cls: type) -> Rule | None:
    for base in cls.__mro__:
        rule = _RULES.get(base) or _RULES.get(f"{base.__module__}.{base.__qualname__}")
        if rule is not None:
            return rule
    return None


def _weight(module: nn.Module, name: str = "weight") -> Tensor:
    """``module.weight``, computed again where a forward hook of the older weight norm would leave a stale one."""
    for hook in module._forward_pre_hooks.values():
        if isinstance(hook, WeightNorm) and hook.name == name:
            return hook.compute_weight(module)
    return _full(getattr(module, name))


def _full(w: Tensor) -> Tensor:
    """All of a weight that is sharded over processes (FSDP2's DTensor), on each of them."""
    return w.full_tensor() if hasattr(w, "full_tensor") else w


def _convolution(module: Any) -> Tensor:
    w = _weight(module)
    return w.flatten(1) if module.groups == 1 or w.shape[1] == 1 else w.unflatten(0, (module.groups, -1)).flatten(2)


def _channels_last(module: Any) -> bool:
    w = _weight(module)
    return module.groups == 1 and w.dim() > 2 and w.movedim(1, -1).is_contiguous()


def _transposed(module: Any) -> Tensor:
    w = _weight(module).unflatten(0, (module.groups, -1)).transpose(1, 2).flatten(3).flatten(2, 3)
    depthwise = w.shape[2] == module.weight.shape[2:].numel()
    return w.flatten(0, 1) if module.groups == 1 or depthwise else w


def _embedding(module: Any) -> Tensor:
    w, pad = _weight(module), module.padding_idx
    return w if pad is None else torch.cat((w[:pad], w[pad + 1 :]))


def _attention(module: nn.MultiheadAttention) -> Tensor:
    if module.in_proj_weight is None:
        raise NoNeuronsError("MultiheadAttention with kdim or vdim has three unequal input projections")
    return _weight(module, "in_proj_weight").unflatten(0, (3, -1))


def _recurrent(module: Any) -> Tensor:
    gates = next(number for cls, number in _GATES.items() if isinstance(module, cls))
    w = _weight(module, "weight_ih" if isinstance(module, nn.RNNCellBase) else "weight_ih_l0")
    return w.unflatten(0, (gates, -1)) if gates > 1 else w


def _gcn2(module: Any) -> Tensor:
    if module.weight2 is None:
        return _full(module.weight1).mT
    return torch.stack((_full(module.weight1).mT, _full(module.weight2).mT))


_RULES: dict[type | str, Rule] = {
    **dict.fromkeys(_CONVOLUTIONS, _convolution),
    **dict.fromkeys(_TRANSPOSED, _transposed),
    **dict.fromkeys(_EMBEDDINGS, _embedding),
    **dict.fromkeys(_GATES, _recurrent),
    nn.Linear: _weight,
    nn.Bilinear: lambda module: _weight(module).flatten(1),
    nn.MultiheadAttention: _attention,
    # Named, not imported: the regularizers need torch and nothing else.
    "torch_geometric.nn.dense.linear.Linear": _weight,
    "torch_geometric.nn.conv.gcn2_conv.GCN2Conv": _gcn2,
}


def own_modules(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Every module of the model but those of parametrizations, by name, in order of registration."""
    for name, module in model.named_modules():
        if "parametrizations" not in name.split("."):
            yield clean_name(name), module


def clean_name(name: str) -> str:
    """A name without the parts that :func:`torch.compile`, FSDP and activation checkpointing add."""
    return ".".join(part for part in name.split(".") if part not in WRAPPERS)


@contextmanager
def parametrizations_in_evaluation(modules: Iterable[nn.Module]) -> Iterator[None]:
    """Reading a spectrally normalized weight must not train its vectors."""
    found = [m for module in modules for m in module.modules() if isinstance(m, ParametrizationList)]
    training = [m for parametrizations in found for m in parametrizations.modules() if m.training]
    try:
        for module in training:
            module.training = False
        yield
    finally:
        for module in training:
            module.training = True
