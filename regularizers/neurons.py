"""The matrix view: which rows of which matrix are a layer's neurons."""

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from comhe.errors import UsageError, is_again

from .computed import full, parametrizations_in_evaluation, plain_tensors, up_to_date, walk

View = Tensor | Mapping[str, Tensor]
Rule = Callable[[Any], View]  # of a module of its class
LATER = "which something else gives it: call the model once before"
WEIGHT = "weight"  # the part that a layer's name means when it names none
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_EMBEDDINGS = (nn.Embedding, nn.EmbeddingBag)
_GATES = {nn.RNN: 1, nn.RNNCell: 1, nn.GRU: 3, nn.GRUCell: 3, nn.LSTM: 4, nn.LSTMCell: 4}
_KINDS = {"conv": _CONVOLUTIONS + _TRANSPOSED, "embedding": _EMBEDDINGS, "recurrent": tuple(_GATES)}
_KINDS |= {"attention": (nn.MultiheadAttention,)}
_CONVOLUTIONAL = ("DeformConv2d", "CondConv2d")
_LINEAR = ("Linear", "Conv1D", "NonDynamicallyQuantizableLinear")
_FLOATS = {torch.float16, torch.bfloat16, torch.float32, torch.float64}


class NoNeuronsError(UsageError):
    """The module has no matrix view; the message says why."""


def neurons(module: nn.Module, ordered: bool = True, part: str | None = None) -> Tensor:
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
    MultiheadAttention              ``[3, E, E]``: queries, keys and values are three sets; with ``kdim`` or ``vdim``
                                    three parts ``[E, E]``, ``[E, kdim]`` and ``[E, vdim]``
    RNN, GRU, LSTM (and cells)      ``[gates, hidden, in]`` of the first layer's input weights, each gate a set
    ==============================  =============================================================================

    The layers of PyTorch Geometric, Transformers and peft are described in :mod:`comhe.regularizers.views`. A weight
    that a parametrization or a hook computes (weight norm, spectral norm, pruning) is computed for the view as the
    next forward pass in evaluation mode would. Rules for other layers are added with :func:`register_neurons`.

    Args:
        ordered: False leaves open how the dimensions are ordered within the rows, all alike: no energy depends on it
            and a channels-last weight need not be copied.
        part: which matrix of a layer that has several; None means its ``weight``, or its only one.

    Raises:
        NoNeuronsError: the module has no weight matrix, or one that is not initialized, complex, sparse or quantized.

    Example:
        >>> neurons(nn.Conv2d(3, 8, kernel_size=5)).shape
        torch.Size([8, 75])
    """
    found = views(module, ordered)
    if not found:
        raise NoNeuronsError(f"{type(module).__name__} has no weight matrix of its own")
    part = part or (WEIGHT if WEIGHT in found or len(found) > 1 else next(iter(found)))
    if part not in found:
        several = f"{type(module).__name__} has the matrices {', '.join(found)}: choose one with part="
        unequal = " (kdim or vdim differs from embed_dim)" if isinstance(module, nn.MultiheadAttention) else ""
        raise NoNeuronsError(several + unequal)
    return found[part]


def views(module: nn.Module, ordered: bool = True) -> dict[str, Tensor]:
    """Every matrix of a layer by the name of its part, ``"weight"`` where the rule gives but one.

    Raises:
        NoNeuronsError: see :func:`neurons`.

    Example:
        >>> {part: tuple(w.shape) for part, w in views(nn.MultiheadAttention(8, 2, kdim=4)).items()}
        {'q_proj_weight': (8, 8), 'k_proj_weight': (8, 4), 'v_proj_weight': (8, 8)}
    """
    rule, name = _rule(type(module)), type(module).__name__
    if rule is None:
        raise NoNeuronsError(f"{name} has no weight matrix")
    if any(p is not None and is_lazy(p) for p in module._parameters.values()):
        raise NoNeuronsError(f"{name} is lazy: run one forward pass before attaching a regularizer")
    bare = not module._modules and not module._forward_pre_hooks  # the usual case, at the cost of a look
    with nullcontext() if bare else parametrizations_in_evaluation((module,)):
        current = module if bare else up_to_date(module)
        try:
            try:
                found = _view(rule, current, ordered)
            except AttributeError:  # a hook may give it its weight in the first forward pass
                if not module._forward_pre_hooks:
                    raise
                current = up_to_date(module, first=True)
                found = _view(rule, current, ordered)
        except (AttributeError, NotImplementedError, RuntimeError, TypeError) as error:
            for key, p in module.named_parameters(recurse=False):
                if (reason := odd(p)) is not None:
                    raise NoNeuronsError(f"{name}.{key} is {reason}") from error
            lacking = re.fullmatch(rf"'{type(current).__name__}' object has no attribute '(weight\w*)'", str(error))
            if lacking and not hasattr(current, lacking[1]):
                raise NoNeuronsError(f"{name} has no {lacking[1]}, {LATER}") from error
            raise
    whole = {WEIGHT: found} if not isinstance(found, Mapping) else found
    for w in whole.values():
        if w is None and None in current._parameters.values():
            raise NoNeuronsError(f"{name} has None for a weight, {LATER}")
        if not isinstance(w, Tensor) or w.dim() < 2:
            wrong = list(w.shape) if isinstance(w, Tensor) else type(w).__name__
            raise UsageError(f"the view of {name} must return a tensor [..., N, d], or several by name, not {wrong}")
    parts = {key: full(w) for key, w in whole.items()}
    for key, w in parts.items():
        if (reason := odd(w)) is not None:
            raise NoNeuronsError(f"{name}.{key} is {reason}")
        for attribute, value in plain_tensors(current).items() if w.grad_fn is not None else ():
            if value is vars(module).get(attribute) and _reads(w, value):
                raise NoNeuronsError(
                    f"{name}.{attribute} is computed elsewhere, and its graph ends with the step; let a "
                    "parametrization or a forward pre-hook of the layer compute it"
                )
    return parts


def _view(rule: Rule, module: nn.Module, ordered: bool) -> View:
    if not ordered and rule is convolution and _channels_last(module):
        return _weight(module).movedim(1, -1).flatten(1)
    return rule(module)


def odd(w: Tensor) -> str | None:
    """Why a tensor cannot be a matrix of neurons, such as a complex one; None if it can be.

    Example:
        >>> odd(torch.ones(2, 2, dtype=torch.cfloat))
        'complex (torch.complex64): angles are defined for real neurons'
    """
    if type(w) in (Tensor, nn.Parameter) and w.dtype in _FLOATS and w.layout is torch.strided:
        return None
    if w.is_complex():
        return f"complex ({w.dtype}): angles are defined for real neurons"
    if w.layout is not torch.strided:
        return f"sparse ({w.layout})"
    if w.is_quantized or w.dtype not in _FLOATS or type(w).__module__.split(".")[0] in ("torchao", "bitsandbytes"):
        kinds = [type(w).__name__] if type(w) not in (Tensor, nn.Parameter) else []
        return f"quantized ({', '.join([*kinds, str(w.dtype)])})"
    return None


def _reads(view: Tensor, value: Tensor) -> bool:
    """Whether the view's graph goes through a tensor that is not a leaf."""
    if value.grad_fn is None:
        return False
    seen, stack = set(), [view.grad_fn]
    while stack:
        node = stack.pop()
        if node is value.grad_fn:
            return True
        if node is not None and node not in seen:
            seen.add(node)
            stack += [following for following, _ in node.next_functions]
    return False


def register_neurons(layer: type[nn.Module] | str, *, whole: bool = False) -> Callable[[Rule], Rule]:
    """Decorator: the matrix view of a layer class, or of the class with this name where it must not be imported.

    The rule takes a module and returns a tensor ``[..., N, d]``, or a dictionary of several by their names. It may read
    any parameter, also those of submodules: a submodule whose parameters the view reads is not a layer of its own.

    Args:
        layer: a class, its subclasses included, or a qualified name, which may be a glob.
        whole: whether every submodule belongs to the layer, read or not.

    Raises:
        UsageError: the class already has a view, and not of this function's name.

    Example:
        >>> @register_neurons("my_package.MyArcFace")
        ... def view(module):
        ...     return module.W.mT  # [dim, classes]: a column per class
    """
    if not isinstance(layer, type | str):
        raise TypeError(f"register_neurons needs a class or its name: write @register_neurons(MyLayer), not {layer!r}")
    if isinstance(layer, str) and not {".", "*"} & {*layer}:
        raise UsageError(f"{layer!r} names no class; give the class, or its module too: 'my_package.{layer}'")

    def register(rule: Rule) -> Rule:
        if layer in _RULES and not is_again(rule, _RULES[layer]):
            raise UsageError(f"{layer!r} already has a matrix view; register one for a subclass")
        _RULES[layer] = rule
        _FOUND.clear()
        if whole:
            _WHOLE.add(rule)
        return rule

    return register


def kind(module: nn.Module) -> str | None:
    """``conv``, ``linear``, ``attention``, ``recurrent``, ``embedding`` or ``other``; None without a view.

    An adapter has the kind of the layer that it adapts.

    Example:
        >>> kind(nn.Conv2d(3, 8, 3)), kind(nn.Bilinear(2, 2, 3)), kind(nn.ReLU())
        ('conv', 'other', None)
    """
    if _rule(type(module)) is None:
        return None
    if (base := unadapted(module)) is not module:
        return kind(base) or "other"
    for name, classes in _KINDS.items():
        if isinstance(module, classes):
            return name
    bases = {base.__name__ for base in type(module).__mro__}
    return "conv" if bases & {*_CONVOLUTIONAL} else "linear" if bases & {*_LINEAR} else "other"


def unadapted(module: nn.Module) -> nn.Module:
    """The layer below the adapters of peft, or the module itself."""
    while isinstance(base := getattr(module, "base_layer", None), nn.Module):
        module = base
    return module


def is_whole(module: nn.Module) -> bool:
    """Whether every submodule is part of the layer, such as those of an adapter.

    Example:
        >>> is_whole(nn.Linear(4, 3))
        False
    """
    return _rule(type(module)) in _WHOLE


def _rule(cls: type) -> Rule | None:
    if cls not in _FOUND:
        _FOUND[cls] = next(filter(None, map(_rule_of, cls.__mro__)), None)
    return _FOUND[cls]


def _rule_of(cls: type) -> Rule | None:
    """The rule of this very class: its own, that of its name, or that of the first glob that fits."""
    name = f"{cls.__module__}.{cls.__qualname__}"
    rule = _RULES.get(cls) or _RULES.get(name)
    if rule is not None or cls.__module__.split(".")[0] in ("torch", "builtins"):
        return rule
    globs = (key for key in _RULES if isinstance(key, str) and "*" in key)
    return next((_RULES[key] for key in globs if fnmatchcase(name, key)), None)


def _weight(module: nn.Module, name: str = WEIGHT) -> Tensor:
    return full(getattr(module, name))


def convolution(module: Any) -> Tensor:
    w = _weight(module)
    return w.flatten(1) if module.groups == 1 or w.shape[1] == 1 else w.unflatten(0, (module.groups, -1)).flatten(2)


def _channels_last(module: Any) -> bool:
    w = _weight(module)
    return module.groups == 1 and w.dim() > 2 and w.movedim(1, -1).is_contiguous()


def _transposed(module: Any) -> Tensor:
    kernels = _weight(module)
    w = kernels.unflatten(0, (module.groups, -1)).transpose(1, 2).flatten(3).flatten(2, 3)
    depthwise = w.shape[2] == kernels.shape[2:].numel()
    return w.flatten(0, 1) if module.groups == 1 or depthwise else w


def _embedding(module: Any) -> Tensor:
    w, pad = _weight(module), module.padding_idx
    return w if pad is None else torch.cat((w[:pad], w[pad + 1 :]))


def _attention(module: nn.MultiheadAttention) -> View:
    if module.in_proj_weight is None:
        return {name: _weight(module, name) for name in ("q_proj_weight", "k_proj_weight", "v_proj_weight")}
    return _weight(module, "in_proj_weight").unflatten(0, (3, -1))


def _recurrent(module: Any) -> Tensor:
    gates = next(number for cls, number in _GATES.items() if isinstance(module, cls))
    w = _weight(module, "weight_ih" if isinstance(module, nn.RNNCellBase) else "weight_ih_l0")
    return w.unflatten(0, (gates, -1)) if gates > 1 else w


_RULES: dict[type | str, Rule] = {
    **dict.fromkeys(_CONVOLUTIONS, convolution),
    **dict.fromkeys(_TRANSPOSED, _transposed),
    **dict.fromkeys(_EMBEDDINGS, _embedding),
    **dict.fromkeys(_GATES, _recurrent),
    nn.Linear: _weight,
    nn.Bilinear: lambda module: _weight(module).flatten(1),
    nn.MultiheadAttention: _attention,
}
_WHOLE: set[Rule] = set()
_FOUND: dict[type, Rule | None] = {}


def own_modules(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Every module of the model but those of parametrizations, by name, in order of registration."""
    return ((name, module) for name, module in walk(model) if "parametrizations" not in name.split("."))
