"""Weights that hooks and parametrizations compute, read as the next forward pass would use them."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.prune import BasePruningMethod
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

_KNOWN = (WeightNorm, SpectralNorm, BasePruningMethod)  # these set a weight from parameters alone


WRAPPERS = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_forward_module")


def clean_name(name: str) -> str:
    """A name without the parts that :func:`torch.compile`, FSDP, activation checkpointing and Fabric add.

    Example:
        >>> clean_name("blocks.0._orig_mod.fc")
        'blocks.0.fc'
    """
    return ".".join(part for part in name.split(".") if part not in WRAPPERS)


def walk(module: nn.Module, prefix: str = "") -> Iterator[tuple[str, nn.Module]]:
    """As ``named_modules``, which modules of peft override to make their parameters anew at each call.

    Names are those of :func:`clean_name`.

    Example:
        >>> [name for name, _ in walk(nn.Sequential(nn.Linear(4, 3), nn.ReLU()))]
        ['', '0', '1']
    """
    seen: set[nn.Module] = set()
    stack = [(prefix, module)]
    while stack:
        name, module = stack.pop()
        if module not in seen:
            seen.add(module)
            yield name, module
            children = [
                (name if key in WRAPPERS else f"{name}.{key}".removeprefix("."), child)
                for key, child in module._modules.items()
                if child is not None
            ]
            stack += reversed(children)


def attribute(module: nn.Module, name: str) -> Any:
    """What a module or its class has under a name, or None; a property is not run: it may fail, or warn.

    Example:
        >>> attribute(nn.Linear(4, 3), "in_features"), attribute(nn.Linear(4, 3), "heads")
        (4, None)
    """
    for own in (vars(module), module._parameters, module._buffers, module._modules):
        if name in own:
            return own[name]
    return next((vars(cls)[name] for cls in type(module).__mro__ if name in vars(cls)), None)


def full(w: Tensor) -> Tensor:
    """All of a weight that is sharded over processes (FSDP2's DTensor), on each of them."""
    return w.full_tensor() if hasattr(w, "full_tensor") else w


def plain_tensors(module: nn.Module) -> dict[str, Tensor]:
    """The tensors of a module that are neither parameters nor buffers, such as the weight that a hook has computed."""
    return {name: value for name, value in vars(module).items() if isinstance(value, Tensor)}


def up_to_date(module: nn.Module, first: bool = False) -> nn.Module:
    """The module, or a stand-in whose hook-computed weights are those of the next forward pass.

    Older weight norm, older spectral norm, pruning and hooks of one's own leave in ``module.weight`` the value of the
    last forward pass, whose graph may be gone and whose parameters may have moved on. The stand-in shares parameters
    and buffers with the module; the hooks write to it alone, and in evaluation mode, so that power iterations rest.
    Parameters that are sharded over processes (FSDP2) are whole in it.

    Args:
        first: run the hooks also where none has set a tensor yet, as before the first forward pass.

    Example:
        >>> from torch.nn.utils import prune
        >>> layer = prune.l1_unstructured(nn.Linear(4, 3), "weight", 0.5)
        >>> up_to_date(layer).weight is layer.weight
        False
    """
    children = {name: up_to_date(child) for name, child in module._modules.items() if child is not None}
    renewed = any(child is not module._modules[name] for name, child in children.items())
    stale = plain_tensors(module) if module._forward_pre_hooks else {}
    whole = {name: full(p) for name, p in module._parameters.items() if p is not None}
    sharded = any(w is not module._parameters[name] for name, w in whole.items())
    if not stale and not renewed and not sharded and not first:
        return module
    # copy.copy pickles, which parametrized modules refuse; classes of FSDP construct a module in __new__.
    stand_in = object.__new__(module.__class__)
    stand_in.__dict__.update(vars(module))
    for name in ("_parameters", "_buffers", "_modules"):
        stand_in.__dict__[name] = dict(getattr(module, name))
    stand_in._modules.update(children)
    stand_in._parameters.update(whole)  # type: ignore[arg-type]
    stand_in.training = False
    hooks = module._forward_pre_hooks.items() if stale or first else ()
    for known in (True, False):  # a hook that is not known runs only if a tensor is left that no known hook has set
        for key, hook in hooks:
            left = known or first or any(vars(stand_in).get(name) is stale[name] for name in _computed(stale))
            if isinstance(hook, _KNOWN) is known and left:
                _run(hook, stand_in, key in module._forward_pre_hooks_with_kwargs, strict=known)
    return stand_in


def _computed(tensors: dict[str, Tensor]) -> list[str]:
    """Names of tensors that a hook may have computed: weights, and whatever has a graph; not a mask."""
    return [name for name, value in tensors.items() if "weight" in name or value.grad_fn is not None]


def _run(hook, module: nn.Module, with_kwargs: bool, strict: bool) -> None:
    try:
        hook(module, (), {}) if with_kwargs else hook(module, ())
    except Exception:  # a hook that looks at the input is not one that computes a weight from parameters
        if strict:
            raise


@contextmanager
def parametrizations_in_evaluation(modules: Iterable[nn.Module]) -> Iterator[None]:
    """Reading a spectrally normalized weight must not train its vectors, nor return a cached one."""
    found = [m for module in modules for _, m in walk(module) if isinstance(m, parametrize.ParametrizationList)]
    training = [m for parametrizations in found for _, m in walk(parametrizations) if m.training]
    cached = parametrize._cache_enabled
    try:
        parametrize._cache_enabled = 0
        for module in training:
            module.training = False
        yield
    finally:
        parametrize._cache_enabled = cached
        for module in training:
            module.training = True
