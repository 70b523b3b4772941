"""The names of the networks: a builder function's name is the model's name, everywhere."""

from __future__ import annotations

import difflib
import fnmatch
import importlib
import importlib.util
import inspect
import os
import re
from collections.abc import Callable
from typing import Any

from torch import nn

# Folders of networks, each imported when a name is first looked for in it. graphs comes last because it imports
# torch_geometric, which costs seconds that create_model("cnn9") should not pay.
_DOMAINS = ("images", "points", "graphs")
_PACKAGE = __package__

_builders: dict[str, Callable[..., nn.Module]] = {}
_domain_of: dict[str, str] = {}


def register_model(builder: Callable[..., nn.Module]) -> Callable[..., nn.Module]:
    """Decorator: makes ``builder`` available as ``create_model(builder.__name__)``.

    The domain is the zoo folder the builder is written in, ``"custom"`` for one from elsewhere.
    Errors: ValueError if the name is taken.
    """
    name = builder.__name__
    if name in _builders:
        other = _builders[name]
        raise ValueError(
            f"model {name!r} is registered twice: by {other.__module__} and by {builder.__module__}; rename one of them"
        )
    inside = builder.__module__.removeprefix(_PACKAGE + ".").split(".")[0]
    _builders[name] = builder
    _domain_of[name] = inside if inside in _DOMAINS else "custom"
    return builder


def create_model(
    name: str, weights: str | os.PathLike | None = None, swap_head: bool = False, **kwargs: Any
) -> nn.Module:
    """Builds the model called ``name``; ``kwargs`` are those of its builder function.

    >>> create_model("gcn", in_channels=1433, num_classes=7)
    >>> create_model("gcn", weights="cora-rp-comhe")
    >>> create_model("resnet50", weights="IMAGENET1K_V2", num_classes=100, swap_head=True)

    Args:
        weights: pretrained: a name of ``list_weights()``, with or without the model's; the path of a state dict; for
            the ImageNet networks, also a name of torchvision's. Named weights say what the model is to be built with;
            ``kwargs`` go before it.
        swap_head: build for another number of classes than the weights', with a last layer that is not trained.

    Errors: ValueError for an unknown name and for weights that do not fit, TypeError for an argument that the builder
        does not take or still needs.
    """
    _find(name)
    if weights is not None:
        from .cards import find  # these two import this module
        from .weights import load_state

        options, state = find(name, weights)
        most = sum(tensor.numel() for tensor in state.values())
        for option, value in options.items():
            if isinstance(value, int) and value > most:  # or building it could take any memory
                raise ValueError(f"{weights}: its card says {option}={value}, but has {most:,} numbers in its weights")
        try:
            model = _build(name, **options | kwargs)
        except (TypeError, ValueError, RuntimeError) as error:
            if not options:  # it is the caller's own mistake
                raise
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise ValueError(f"{weights}: {options | kwargs}, from its card, build no {name!r} ({reason})") from error
        load_state(model, state, swap_head, f"{weights}: ")
        return model
    if swap_head:
        raise TypeError(f"swap_head=True says what becomes of weights, and {name!r} is to be built without any")
    return _build(name, **kwargs)


def _build(name: str, /, **kwargs: Any) -> nn.Module:
    builder = _find(name)
    parameters = inspect.signature(builder).parameters
    accepted = ", ".join(str(p).replace("'", "") for p in parameters.values())
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    unknown = [] if takes_any else [k for k in kwargs if k not in parameters]
    if unknown:
        raise TypeError(f"model {name!r} takes no {', '.join(map(repr, unknown))}; it accepts {accepted}")
    missing = [
        p.name
        for p in parameters.values()
        if p.default is p.empty and p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL) and p.name not in kwargs
    ]
    if missing:
        raise TypeError(f"model {name!r} needs {', '.join(map(repr, missing))}; it accepts {accepted}")
    return builder(**kwargs)


def list_models(pattern: str = "*", domain: str | None = None) -> list[str]:
    """Names that match the shell-style ``pattern``, in natural order (resnet20 before resnet110).

    Errors: ValueError for an unknown ``domain``.
    """
    _import_domains()
    known = sorted({*_DOMAINS, *_domain_of.values()})
    if domain is not None and domain not in known:
        raise ValueError(f"unknown domain {domain!r}; the domains are {', '.join(known)}")
    names = [n for n in _builders if fnmatch.fnmatchcase(n, pattern) and domain in (None, _domain_of[n])]
    return sorted(names, key=natural)


def model_domain(name: str) -> str:
    """The domain of a model: "images", "points", "graphs", or "custom" for one registered outside the zoo."""
    _find(name)
    return _domain_of[name]


def _find(name: str) -> Callable[..., nn.Module]:
    for domain in _DOMAINS:
        if name in _builders:
            break
        _import_domain(domain)
    if name not in _builders:
        near = difflib.get_close_matches(name, _builders, n=3, cutoff=0.4)
        hint = f"did you mean {', '.join(near)}?" if near else f"there are {', '.join(list_models())}"
        raise ValueError(f"unknown model {name!r}; {hint}")
    return _builders[name]


def _import_domains() -> None:
    for domain in _DOMAINS:
        _import_domain(domain)


def _import_domain(domain: str) -> None:
    module = f"{_PACKAGE}.{domain}"
    if importlib.util.find_spec(module) is not None:
        importlib.import_module(module)


def natural(name: str) -> list[tuple[int, int | str]]:
    """A key that sorts names with their numbers as numbers."""
    return [(0, int(part)) if part.isdigit() else (1, part) for part in re.findall(r"\d+|\D+", name)]
