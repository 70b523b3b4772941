"""Which parameters a view is computed from: found in its autograd graph, whatever they are called."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from .computed import walk
from .neurons import neurons, views


def sources(module: nn.Module, part: str | None = None) -> tuple[nn.Parameter, ...]:
    """The parameters that a layer's view is computed from, frozen ones included; they identify a tied weight.

    Example:
        >>> layer = nn.utils.parametrizations.weight_norm(nn.Linear(4, 3))
        >>> sorted(tuple(p.shape) for p in sources(layer))
        [(3, 1), (3, 4)]
    """
    with _all_trained(module):
        return leaves(neurons(module, part=part))


def traced(module: nn.Module) -> dict[str, tuple[Tensor, tuple[nn.Parameter, ...]]]:
    """Every matrix of a layer, without its graph, and the parameters that it is computed from.

    Raises:
        NoNeuronsError: see :func:`comhe.regularizers.neurons`.

    Example:
        >>> {part: (tuple(w.shape), len(read)) for part, (w, read) in traced(nn.Linear(4, 3)).items()}
        {'weight': ((3, 4), 1)}
    """
    with _all_trained(module):
        return {part: (w.detach(), leaves(w)) for part, w in views(module).items()}


@contextmanager
def _all_trained(module: nn.Module) -> Iterator[None]:
    """Every parameter requires a gradient, so that a view's graph shows it."""
    parameters = [p for _, m in walk(module) for p in m._parameters.values() if p is not None and not p.requires_grad]
    frozen = [p for p in parameters if (p.is_floating_point() or p.is_complex()) and not p.is_inference()]
    with torch.inference_mode(False), torch.enable_grad():
        try:
            for p in frozen:
                p.requires_grad_(True)
            yield
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
