"""Which parameters a view is computed from: found in its autograd graph, whatever they are called."""

import torch
from torch import Tensor, nn

from .neurons import neurons


def sources(module: nn.Module, part: str | None = None) -> tuple[nn.Parameter, ...]:
    """The parameters that a layer's view is computed from, frozen ones included; they identify a tied weight.

    Example:
        >>> layer = nn.utils.parametrizations.weight_norm(nn.Linear(4, 3))
        >>> [tuple(p.shape) for p in sources(layer)]
        [(3, 1), (3, 4)]
    """
    frozen = [p for p in module.parameters() if not p.requires_grad and (p.is_floating_point() or p.is_complex())]
    frozen = [p for p in frozen if not p.is_inference()]
    with torch.inference_mode(False), torch.enable_grad():
        try:
            for p in frozen:
                p.requires_grad_(True)
            return leaves(neurons(module, part=part))
        finally:
            for p in frozen:
                p.requires_grad_(False)


def leaves(view: Tensor) -> tuple[nn.Parameter, ...]:
    """The leaves of a tensor's autograd graph, each once."""
    if view.grad_fn is None:
        return (view,) if view.requires_grad else ()  # type: ignore[return-value]
    found: dict[int, nn.Parameter] = {}
    seen, stack = set(), [view.grad_fn]
    while stack:
        node = stack.pop()
        if node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            found[id(node.variable)] = node.variable
        stack += [following for following, _ in reversed(node.next_functions) if following is not None]
    return tuple(found.values())
