"""Layers of Transformers that are not torch's own."""

from typing import Any

from torch import Tensor

from comhe.regularizers.neurons import NoNeuronsError, View, register_neurons


@register_neurons("transformers.pytorch_utils.Conv1D")
@register_neurons("transformers.modeling_utils.Conv1D")
def _conv1d(module: Any) -> Tensor:
    return module.weight.mT


@register_neurons("transformers.models.*ParallelExperts")
def _parallel_experts(module: Any) -> Tensor:
    return module.weight


@register_neurons("transformers.models.dbrx.modeling_dbrx.DbrxExpertGLU")
def _dbrx(module: Any) -> View:
    shape = (module.moe_num_experts, module.ffn_hidden_size, module.hidden_size)
    return {"w1": module.w1.view(shape), "v1": module.v1.view(shape), "w2": module.w2.view(shape).mT}


@register_neurons("transformers.models.*Experts")
def _experts(module: Any) -> View:
    """Each fused weight as ``[experts, out, in]``; which axis is which follows from how the weights fit each other.

    With hidden size h and intermediate size i, ``gate_up_proj`` is ``[E, 2i, h]`` and ``down_proj`` ``[E, h, i]``, or
    both are transposed. Without a gate the shapes fit both ways, and the layer's ``is_transposed`` decides.
    """
    parameters = dict(module.named_parameters(recurse=False))
    first = next((name for name in ("gate_up_proj", "up_proj") if name in parameters), None)
    if first is None or "down_proj" not in parameters:
        return {}
    up, down = parameters[first], parameters["down_proj"]
    gates = 2 if first == "gate_up_proj" else 1
    plain = (up.shape[1], up.shape[2]) == (gates * down.shape[2], down.shape[1])
    transposed = (up.shape[1], up.shape[2]) == (down.shape[2], gates * down.shape[1])
    if plain and transposed:
        transposed = getattr(module, "is_transposed", None)  # type: ignore[assignment]
    if (not plain and not transposed) or transposed is None:
        raise NoNeuronsError(
            f"{type(module).__name__}: the shapes of {first} {list(up.shape)} and down_proj {list(down.shape)} "
            "do not tell inputs from outputs; add a view with register_neurons"
        )
    names = [name for name in (first, "gate_proj", "down_proj") if name in parameters]
    return {name: parameters[name].mT if transposed else parameters[name] for name in names}


@register_neurons("transformers.models.*Router")
@register_neurons("transformers.models.*Gate")
def _router(module: Any) -> View:
    w = getattr(module, "weight", None)
    return {"weight": w} if isinstance(w, Tensor) and w.dim() == 2 else {}
