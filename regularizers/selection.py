"""Which layers of a model are regularized, in which role, and why the others are not."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Literal

import torch
from torch import Tensor, nn

from comhe.errors import UsageError

from .neurons import NoNeuronsError, kind, neurons, own_modules, sources

KINDS = ("conv", "linear", "attention", "recurrent", "embedding", "other")
DEFAULT_KINDS = ("conv", "linear", "attention", "recurrent", "other")


@dataclass(frozen=True, eq=False)
class Layer:
    """One regularized weight: its name in the model, its module, and its role."""

    name: str
    module: nn.Module = field(repr=False)
    role: Literal["hidden", "output"]
    shape: tuple[int, ...]

    @property
    def device(self) -> torch.device:
        """Where the layer's weights are."""
        return next(self.module.parameters()).device

    @property
    def trainable(self) -> bool:
        """Whether any of the parameters that the neurons are computed from requires a gradient now."""
        return any(p.requires_grad for p in sources(self.module))

    def neurons(self, ordered: bool = True) -> Tensor:
        """The weight as a matrix [..., N, d], differentiable."""
        return neurons(self.module, ordered)


@dataclass(frozen=True)
class Skipped:
    """A layer that is not regularized, and why."""

    name: str
    reason: str


def select(
    model: nn.Module,
    *,
    include: str | Iterable[str] = "*",
    exclude: str | Iterable[str] = (),
    kinds: str | Iterable[str] = DEFAULT_KINDS,
    min_neurons: int = 2,
    max_neurons: int | None = None,
    output: str | None = "auto",
) -> tuple[list[Layer], list[Skipped]]:
    """Split a model's weight matrices into regularized layers and skipped ones, each skipped one with the reason.

    Args:
        include, exclude: globs on module names (``"blocks.*.conv?"``), one or several.
        kinds: which of ``conv linear attention recurrent embedding other``. Embeddings have to be named.
        min_neurons, max_neurons: bounds on the neurons of a set.
        output: glob of the output layer; ``"auto"`` is the model's last weight matrix in order of registration,
            None treats every layer as hidden.
    """
    include, exclude, kinds = ((x,) if isinstance(x, str) else tuple(x) for x in (include, exclude, kinds))
    for name in kinds:
        if name not in KINDS:
            raise UsageError(f"unknown kind of layer {name!r}; the kinds are {', '.join(KINDS)}")
    if min_neurons < 2:
        raise UsageError(f"min_neurons must be at least 2, since one neuron has no partner, not {min_neurons}")
    candidates = [(name, module) for name, module in own_modules(model) if kind(module) is not None]
    outputs = _outputs([name for name, _ in candidates], output)
    layers: list[Layer] = []
    skipped = [Skipped(name, reason) for name, reason in _unknown(model)]
    owners: dict[tuple[int, ...], int] = {}
    for name, module in candidates:
        reason, shape = _reason(name, module, include, exclude, kinds, min_neurons, max_neurons)
        identity = tuple(id(p) for p in sources(module))
        if reason is None and identity in owners:
            owner = owners[identity]
            reason = f"tied to {layers[owner].name}"
            if name in outputs:
                layers[owner] = replace(layers[owner], role="output")
        if reason is None:
            owners[identity] = len(layers)
            layers.append(Layer(name, module, "output" if name in outputs else "hidden", shape))
        else:
            skipped.append(Skipped(name, reason))
    return layers, skipped


def _outputs(names: list[str], output: str | None) -> set[str]:
    if output is None or not names:
        return set()
    if output == "auto":
        return {names[-1]}
    found = {name for name in names if fnmatchcase(name, output)}
    if not found:
        listed = ", ".join(name or "(the model itself)" for name in names)
        raise UsageError(f"output={output!r} names no layer; the model has {listed}")
    return found


def _reason(name, module, include, exclude, kinds, min_neurons, max_neurons) -> tuple[str | None, tuple[int, ...]]:
    """Why the layer is skipped (None: it is not), and the shape of its neurons."""
    if not any(fnmatchcase(name, glob) for glob in include):
        return "not in include", ()
    if any(fnmatchcase(name, glob) for glob in exclude):
        return "excluded by name", ()
    if kind(module) not in kinds:
        return f"kind {kind(module)!r} is not among kinds", ()
    try:
        shape = tuple(neurons(module).shape)
    except NoNeuronsError as error:
        return str(error), ()
    if shape[-2] < min_neurons:
        return f"{shape[-2]} neuron{'s' * (shape[-2] != 1)}, fewer than min_neurons={min_neurons}", shape
    if max_neurons is not None and shape[-2] > max_neurons:
        return f"{shape[-2]} neurons, more than max_neurons={max_neurons}", shape
    return None, shape


def _unknown(model: nn.Module) -> Iterable[tuple[str, str]]:
    """Modules that have a matrix but no view, so that a report does not pass over them in silence."""
    for name, module in own_modules(model):
        for parameter, value in module.named_parameters(recurse=False) if kind(module) is None else ():
            if "weight" in parameter and value.dim() >= 2:
                yield name, f"no matrix view for {type(module).__name__}.{parameter}; add one with register_neurons"
