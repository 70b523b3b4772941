r"""Adapters of peft: the matrix that the adapted layer multiplies with, differentiable in what the adapter trains.

LoRA: :math:`W + \sum_a s_a B_a A_a` over the active adapters, also of a parameter (``target_parameters``), such as the
experts of a mixture; DoRA scales its rows to the learned magnitudes; OFT and HRA rotate the inputs, :math:`W R^T`; BOFT
scales the rows as well, and (IA)3 rows or inputs alone. Merged and disabled adapters leave the base layer's weight as
it is. Layers of other adapters are reported; their parts are never taken for layers.
"""

import copy
from typing import Any

import torch
from torch import Tensor

from comhe.regularizers.neurons import NoNeuronsError, View, neurons, register_neurons, views

_LORA, _COPIES = "peft.tuners.lora.layer", "peft.utils.other.ModulesToSaveWrapper"
# Adapters whose get_delta_weight returns what is added to the base layer's weight, in its shape.
_ADDITIVE: tuple[str, ...] = ("adalora", "c3a", "deft", "delora", "fourierft", "frod", "gralora", "loha", "lokr")
_ADDITIVE += ("peanut", "pvera", "randlora", "shira", "tinylora", "unilora", "vblora", "vera", "waveft")


def unused_copies(module: Any) -> list[str]:
    """The children of a ``ModulesToSaveWrapper`` that it does not call at present, by their names within it.

    Example:
        >>> unused_copies(torch.nn.Linear(4, 3))
        []
    """
    if not any(f"{cls.__module__}.{cls.__qualname__}" == _COPIES for cls in type(module).__mro__):
        return []
    copied = module._modules["modules_to_save"]._modules
    used = [] if module.disable_adapters else [name for name in module.active_adapters if name in copied]
    names = [f"modules_to_save.{name}" for name in copied if name not in used]
    return [*names, "original_module"] if used else names


def _active(module: Any, adapters: Any) -> list[str]:
    """The adapters that the layer adds in its forward pass; they are in the base layer's weight once merged."""
    if module.disable_adapters or module.merged:
        return []
    return [name for name in module.active_adapters if name in adapters]


def _variants(module: Any, names: list[str]) -> dict[str, str]:
    found = {name: type(module.lora_variant[name]).__name__ for name in names if name in module.lora_variant}
    for variant in found.values():
        if not variant.startswith("Dora"):
            raise NoNeuronsError(f"the variant {variant} of LoRA has no matrix view; add one with register_neurons")
    return found


def _add(module: Any, delta: Any) -> Tensor:
    """The base layer's view and, for each active adapter, ``delta(name)``, whose rows are ordered as its rows."""
    base, names = module.get_base_layer(), _active(module, module.lora_A)
    w, variants = neurons(base), _variants(module, names)
    for name in names:
        change = delta(name).to(w.dtype)
        if change.numel() != w.numel():  # the adapter of a grouped convolution connects all inputs to each output
            w = torch.block_diag(*w.reshape(base.groups, -1, w.shape[-1]))
        w = w + change.reshape(w.shape)
        if name in variants:
            scale = module.lora_magnitude_vector[name].weight.flatten() / w.flatten(0, -2).norm(dim=-1).detach()
            w = w * scale.to(w.dtype).view(*w.shape[:-1], 1)  # no gradient through the norm, as in the paper
    return w


@register_neurons(f"{_LORA}.Linear", whole=True)
def _linear(module: Any) -> Tensor:
    def delta(name: str) -> Tensor:
        return module.scaling[name] * (module.lora_B[name].weight @ module.lora_A[name].weight)

    return _add(module, delta)


@register_neurons(f"{_LORA}.Embedding", whole=True)
def _embedding(module: Any) -> Tensor:
    base, names = module.get_base_layer(), _active(module, module.lora_embedding_A)
    w, variants = base.weight, _variants(module, names)
    for name in names:
        change = (module.lora_embedding_B[name] @ module.lora_embedding_A[name]).mT
        w = w + (module.scaling[name] * change).to(w.dtype)
        if name in variants:  # magnitudes of dimensions, not of entries
            w = w * (module.lora_magnitude_vector[name].weight / w.norm(dim=0).detach()).to(w.dtype)
    pad = base.padding_idx
    return w if pad is None else torch.cat((w[:pad], w[pad + 1 :]))


@register_neurons(f"{_LORA}._ConvNd", whole=True)
def _convolution(module: Any) -> Tensor:
    def delta(name: str) -> Tensor:
        a, b = module.lora_A[name].weight, module.lora_B[name].weight
        groups = module.get_base_layer().groups
        blocks = b.flatten(1).unflatten(0, (groups, -1)) @ a.flatten(1).unflatten(0, (groups, -1))
        return module.scaling[name] * blocks.flatten(0, 1)

    return _add(module, delta)


@register_neurons(f"{_LORA}.MultiheadAttention")
def _attention(module: Any) -> Tensor:
    """Queries, keys and values; the output projection is an adapted layer of its own."""

    def delta(name: str) -> Tensor:
        return module.scaling[name] * (module.lora_B[name].weight @ module.lora_A[name].weight)

    return _add(module, delta)


@register_neurons(f"{_LORA}.ParamWrapper", whole=True)
def _parameters(module: Any) -> View:
    """The base layer's view of its parameters with their adapters, a wrapper around another for each of them."""
    base, wrapper = module.get_base_layer(), module
    adapted = copy.copy(base)
    adapted.__dict__["_parameters"] = dict(base._parameters)
    while hasattr(wrapper, "parameter_name"):
        w = getattr(base, wrapper.parameter_name)
        for name in _active(wrapper, wrapper.lora_A):
            w = w + wrapper.get_delta_weight(name).to(w.dtype)
        adapted._parameters[wrapper.parameter_name] = w
        wrapper = wrapper.base_layer
    return views(adapted)


@register_neurons("peft.tuners.oft.layer.Linear", whole=True)
@register_neurons("peft.tuners.oft.layer.Conv2d", whole=True)
def _rotated(module: Any) -> Tensor:
    w = neurons(module.get_base_layer())
    for name in _active(module, module.oft_R):
        rotation = module.oft_R[name]
        # Its get_weight projects constrained parameters in place, which is the forward pass's business.
        r = rotation._cayley_batch(
            rotation.weight, rotation.block_size, rotation.use_cayley_neumann, rotation.num_cayley_neumann_terms
        )
        rank = rotation.in_features // rotation.block_size if rotation.block_share else rotation.r
        w = w @ rotation._block_diagonal(r, rank).mT.to(w.dtype)
    return w


@register_neurons("peft.tuners.boft.layer.Linear", whole=True)
@register_neurons("peft.tuners.boft.layer.Conv2d", whole=True)
def _butterfly(module: Any) -> Tensor:
    w = neurons(module.get_base_layer())
    for name in _active(module, module.boft_R):
        rotation, scale = module.get_delta_weight(name)
        w = scale * (w @ rotation.mT.to(w.dtype))
    return w


@register_neurons("peft.tuners.hra.layer.HRALinear", whole=True)
def _reflected(module: Any) -> Tensor:
    w = neurons(module.get_base_layer())
    for name in _active(module, module.hra_u):
        w = w @ module.get_delta_weight(name).to(w.dtype)
    return w


@register_neurons("peft.tuners.ia3.layer.Linear", whole=True)
@register_neurons("peft.tuners.ia3.layer._ConvNd", whole=True)
def _scaled(module: Any) -> Tensor:
    """Scales of the outputs; those of a feedforward layer are of its inputs."""
    base = module.get_base_layer()
    w = neurons(base)
    for name in _active(module, module.ia3_l):
        scale = module.ia3_l[name].flatten().to(w.dtype)
        if not module.is_feedforward:
            w = w * scale.view(*w.shape[:-1], 1)
        else:
            inputs = scale.view(getattr(base, "groups", 1), 1, -1)  # those of each group
            rows = w.reshape(len(inputs), -1, w.shape[-1])
            w = (rows * inputs.repeat_interleave(w.shape[-1] // inputs.shape[-1], dim=-1)).view(w.shape)
    return w


def _added(module: Any) -> Tensor:
    base = module.get_base_layer()
    w = neurons(base)
    for name in _active(module, getattr(module, module.adapter_layer_names[0])):
        change = module.get_delta_weight(name).to(w.dtype)
        if change.numel() != w.numel() or change.shape[0] != base.weight.shape[0]:
            raise NoNeuronsError(f"{type(module).__name__} has no matrix view; add one with register_neurons")
        change = change.to_dense() if change.is_sparse else change
        change = change.mT if type(base).__name__ == "Conv1D" else change
        w = w + change.reshape(w.shape)
    return w


for _tuner in _ADDITIVE:
    register_neurons(f"peft.tuners.{_tuner}.layer.*", whole=True)(_added)


@register_neurons("peft.tuners.ln_tuning.layer.LNTuningLayer")
def _copied(module: Any) -> View:
    """A copy of the whole layer takes its place; both are looked at as the layers that they are."""
    return {}


@register_neurons("peft.tuners.tuners_utils.BaseTunerLayer", whole=True)
def _other(module: Any) -> Tensor:
    w = neurons(module.get_base_layer())
    if any(_active(module, getattr(module, name, ())) for name in module.adapter_layer_names):
        kind = type(module)
        raise NoNeuronsError(
            f"the matrix of the adapter {kind.__module__.removeprefix('peft.tuners.')}.{kind.__name__} is not known; "
            "add a view with register_neurons"
        )
    return w
