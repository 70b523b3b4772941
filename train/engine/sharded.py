"""FSDP2, for models that do not fit: every rank holds a part of every parameter, its gradient and what the optimizer
knows of it; a layer is put together where it is at work, and only then."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.utils._pytree import tree_map

SMALLEST = 1 / 256  # share of a model's parameters that a block must have to be put together on its own


def shard(model: nn.Module, ranks: int) -> None:
    """Divide the parameters of a model, in place, along their first dimension.

    Blocks, the parts of outermost ``nn.Sequential``, are put together one at a time; what is in none of them, or in a
    small one, is together from the beginning of a forward pass to its end, and again in the backward pass.
    """
    model.to(memory_format=torch.contiguous_format)  # FSDP2 takes no other
    mesh = init_device_mesh(next(model.parameters()).device.type, (ranks,))
    enough = SMALLEST * sum(p.numel() for p in model.parameters())
    for block in _blocks(model):
        if sum(p.numel() for p in block.parameters()) >= enough:
            fully_shard(block, mesh=mesh, reshard_after_forward=True)
    # Also the rest, since penalties and checkpoints read the model between two passes.
    fully_shard(model, mesh=mesh, reshard_after_forward=True)


def _blocks(module: nn.Module) -> list[nn.Module]:
    if isinstance(module, nn.Sequential):
        return list(module)
    return [block for child in module.children() for block in _blocks(child)]


def whole(state: Any) -> Any:
    """Dicts and lists of anything, with whole tensors on the CPU for divided ones. All ranks call it at once."""
    return tree_map(lambda x: x.full_tensor().cpu() if isinstance(x, DTensor) else x, state)


def divided(part: Any, state: Any) -> Any:
    """A :func:`whole` state dict of a model or an optimizer, its tensors divided as the part's are."""
    if isinstance(part, nn.Module):
        examples = part.state_dict()
        return {name: _like(value, examples.get(name)) for name, value in state.items()}
    if not isinstance(part, torch.optim.Optimizer):
        return state
    parameters = [p for group in part.param_groups for p in group["params"]]
    kept = {
        place: {
            key: _like(value, parameters[place]) if getattr(value, "shape", None) == parameters[place].shape else value
            for key, value in entries.items()
        }
        for place, entries in state["state"].items()
    }
    return state | {"state": kept}


def _like(value: Any, example: Any) -> Any:
    if not isinstance(example, DTensor):
        return value
    # All ranks have read the same file: nobody has to be sent anything.
    value = value.to(example.device).contiguous()  # one process alone may have kept it channels-last
    return distribute_tensor(value, example.device_mesh, example.placements, src_data_rank=None)
