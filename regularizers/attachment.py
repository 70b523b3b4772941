"""The layers of a model that a regularizer looks at: as they are now, and on this rank."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from comhe.errors import UsageError, did_you_mean, few

from .computed import WRAPPERS, clean_name, walk
from .penalties.penalty import Penalty
from .selection import FROZEN, NO_PARAMETER, Layer, Skipped, called, idle_globs, select
from .sharding import balance, check_matrices, check_not_sharded
from .structure import Structure, changes, is_adapter

THAWED = "frozen when the regularizer was attached, and thawed since: it is regularized now"
_INNER = {  # the child that is the model; its checkpoint has the names
    "torch.nn.parallel.distributed.DistributedDataParallel": "module",
    "torch.nn.parallel.data_parallel.DataParallel": "module",
    "torch.optim.swa_utils.AveragedModel": "module",
    "timm.utils.model_ema.ModelEma": "ema",
    "timm.utils.model_ema.ModelEmaV2": "module",
    "timm.utils.model_ema.ModelEmaV3": "module",
    "deepspeed.runtime.engine.DeepSpeedEngine": "module",
    "opacus.grad_sample.grad_sample_module.GradSampleModule": "_module",
}
IDLE = "its adapters are merged or not active, and the weight below them is frozen"


class Attachment:
    """A selection of layers that follows its model.

    Attributes:
        layers: those selected, the frozen ones among them.
        trainable: those of them that are not frozen.

    Example:
        >>> model = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 3))
        >>> attachment = Attachment(model, {"min_neurons": 3})
        >>> model[1] = nn.Linear(3, 7)
        >>> attachment.look()
        'replaced: 1 (7 x 3, was 3 x 3)'
        >>> _ = model[0].requires_grad_(False)
        >>> attachment.look(), [layer.name for layer in attachment.trainable]
        (None, ['1'])
    """

    def __init__(self, model: nn.Module, options: dict[str, Any]) -> None:
        self._prefix = ""  # of the wrappers around the model; names of layers are those that its checkpoint has
        while wrapper := _wrapper(model):
            check_matrices(model)  # of a wrapper, which select() does not see
            model, self._prefix = model.get_submodule(wrapper), f"{self._prefix}{wrapper}."
        self._model = (model,)
        self._options = options
        self.rank, self.ranks = 0, 1
        self.trainable: list[Layer] = []
        self._owners: dict[str, int] = {}  # the rank of each layer, once they are shared out
        self.select()
        self._frozen_first = {layer.name for layer in self.layers} - {layer.name for layer in self.trainable}

    def look(self) -> str | None:
        """Select anew if the structure of the model has changed, and return what that means in a line; else None."""
        flags = self._structure.trainable
        if not self._structure.has_changed(self._model[0]):
            if flags != self._structure.trainable:
                self._find_trainable()
            return None
        before, trained, problem = self.layers, self.trainable, ""
        try:
            self.select()
        except UsageError as error:  # the output layer that was asked for has gone
            self.select(output=None)
            problem = str(error)
        counted = {layer.name for layer in (*trained, *self.trainable)}  # frozen copies come and go unnoticed
        old, new = ([layer for layer in layers if layer.name in counted] for layers in (before, self.layers))
        return "; ".join(filter(None, (changes(old, new), self._made_constant(trained), problem)))

    def _made_constant(self, before: Sequence[Layer]) -> str:
        """Which of the layers that were trained are not any more, since their adapters are not used, in words."""
        trained = {layer.name for layer in before}
        names = [called(x.name) for x in self.layers if x.name in trained and x not in self.trainable and _is_idle(x)]
        return f"constant: {few(names)} ({IDLE})" if names else ""

    def select(self, **changed: Any) -> None:
        """Select layers of the model as it is now."""
        self.layers, self._skipped = select(self._model[0], **(self._options | changed))
        self._structure = Structure(self._model[0])
        self._find_trainable()

    def idle_globs(self) -> Iterator[tuple[str, str]]:
        """Globs of ``include`` and ``exclude`` that match nothing in the model, and what there is instead."""
        names = [layer.name for layer in self.layers] + [item.name for item in self._skipped]
        for option in ("include", "exclude"):
            for glob in idle_globs(self._model[0], names, self._options.get(option, ())):
                yield f"{option}={glob!r}", did_you_mean(glob, [name for name in names if name])

    def _find_trainable(self) -> None:
        before = {layer.name for layer in self.trainable}
        self.trainable = [x for x in self.layers if x.trainable or (x.name in before and _is_swapped(x))]

    @property
    def skipped(self) -> list[Skipped]:
        """What is not regularized now, and why; then what was frozen at first and is regularized now."""
        counted = set(self.trainable)
        frozen = [layer for layer in self.layers if layer not in counted]
        thawed = [layer.name for layer in self.trainable if layer.name in self._frozen_first]
        reasons = [(layer.name, _reason(layer)) for layer in frozen]
        reasons += [(name, THAWED) for name in thawed]
        return [*self._skipped, *(Skipped(name, reason) for name, reason in reasons)]

    def share_out(self, penalty: Penalty, rank: int, ranks: int) -> None:
        """Divide the layers among ranks by the cost of their penalties."""
        self.rank, self.ranks, self._owners = rank, ranks, {}
        self.share(penalty)

    def share(self, penalty: Penalty) -> None:
        """Give each layer that has no owner yet to a rank."""
        if self.ranks > 1:
            check_not_sharded(layer.module for layer in self.layers)
            new = [layer for layer in self.layers if layer.name not in self._owners]
            ranks = balance([penalty.cost(layer) for layer in new], self.ranks)
            self._owners |= {layer.name: rank for layer, rank in zip(new, ranks, strict=True)}

    def owner(self, layer: Layer) -> int:
        """The rank that computes the layer's penalty."""
        return self._owners.get(layer.name, self.rank)

    def local(self, layers: Sequence[Layer]) -> list[Layer]:
        """Those of the layers whose penalties are computed on this rank."""
        return [layer for layer in layers if self.owner(layer) == self.rank]

    def trained_with(self, parameters: Mapping[str, Tensor]) -> list[Layer]:
        """The layers that are not frozen, or are given a tensor that is not."""
        parents = set()
        known = dict(self._model[0].named_parameters(remove_duplicate=False))
        given = {name.removeprefix(self._prefix) for name, tensor in parameters.items() if tensor.requires_grad}
        tensors = {id(known[name]) for name in given & known.keys()}
        for name in given | {name for name, parameter in known.items() if id(parameter) in tensors}:  # tied ones, too
            parts = clean_name(name).split(".")
            parents |= {".".join(parts[:end]) for end in range(len(parts) + 1)}
        names = {module: name for name, module in walk(self._model[0])}
        return [layer for layer in self.layers if layer in self.trainable or names[layer.module] in parents]

    def call_with(self, parameters: Mapping[str, Tensor], function: Callable[[], Tensor]) -> Tensor:
        """``function()`` while the model has these tensors for its parameters, by name."""
        model = self._model[0]
        named = {name.removeprefix(self._prefix): tensor for name, tensor in parameters.items()}
        known = dict(model.named_parameters(remove_duplicate=False)) | dict(model.named_buffers(remove_duplicate=False))
        for name in named.keys() - known.keys():
            hint = did_you_mean(name, known, "model.named_parameters() has the names")
            raise UsageError(f"{type(model).__name__} has no parameter {name!r}; {hint}")
        held = {f"model.{name}": tensor for name, tensor in named.items()}
        return torch.func.functional_call(_Holder(model, function), held, ())


def _reason(layer: Layer) -> str:
    """Why a layer is not trained."""
    return IDLE if _is_idle(layer) else FROZEN if layer.sources else NO_PARAMETER


def _is_idle(layer: Layer) -> bool:
    """Whether a layer that is not trained has parameters that are, those of adapters."""
    return is_adapter(layer.module) and any(p.requires_grad for p in layer.parameters)


def _is_swapped(layer: Layer) -> bool:
    """Whether functional_call has put other tensors into a layer, whose requires_grad says nothing of training."""
    return any(not isinstance(p, nn.Parameter) for p in layer.parameters)


def _wrapper(model: nn.Module) -> str:
    """The name of the model within what DataParallel, torch.compile, Fabric and others made of it, or ""."""
    for base in type(model).__mro__:
        if name := _INNER.get(f"{base.__module__}.{base.__qualname__}"):
            return name
    return next((name for name in WRAPPERS if name in model._modules), "")


class _Holder(nn.Module):
    """A model as a submodule, so that functional_call can replace its parameters in any function."""

    def __init__(self, model: nn.Module, function: Callable[[], Tensor]) -> None:
        super().__init__()
        self.model, self._function = model, function

    def forward(self) -> Tensor:
        return self._function()
