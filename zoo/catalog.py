"""What the registry holds once the networks of the zoo are imported: names, domains, and models by name."""

import fnmatch
import inspect
from collections.abc import Iterable
from numbers import Integral
from typing import Any

from torch import nn

from comhe.errors import UnknownOptionError, UsageError, did_you_mean

from .registry import DOMAINS, Entry, entries, natural_key

BUILT_AS = "_comhe_built_as"  # the attribute of a model that says its name and options, for save_pretrained
COUNTS = {"num_classes", "in_channels", "hidden_channels", "num_layers", "heads", "output_heads"}


def list_models(pattern: str = "*", domain: str | None = None) -> list[str]:
    """List the models whose names match a shell-style pattern, in natural order (resnet20 before resnet110).

    Example:
        >>> list_models("pointnet*", domain="points")
        ['pointnet', 'pointnet2_msg', 'pointnet2_ssg', 'pointnet_cls', 'pointnet_t']
    """
    if domain not in (None, *DOMAINS):
        raise UsageError(f"unknown domain {domain!r}; the domains are {', '.join(DOMAINS)}")
    _import_networks()
    names = [n for n, e in entries.items() if fnmatch.fnmatchcase(n, pattern) and domain in (None, e.domain)]
    return sorted(names, key=natural_key)


def model_domain(name: str) -> str:
    """Return the domain of a model: "images", "points", "graphs" or "custom".

    Example:
        >>> model_domain("resnet20")
        'images'
    """
    return _find(name).domain


def model_options(name: str) -> dict[str, Any]:
    """Return every option of a model's builder that has a default, with it.

    Example:
        >>> model_options("dgcnn")["k"]
        20
    """
    parameters = inspect.signature(_find(name).builder).parameters.values()
    return {p.name: p.default for p in parameters if p.default is not p.empty}


def required_options(name: str) -> list[str]:
    """Return the options that a model's builder has to be given."""
    return [p.name for p in _required(inspect.signature(_find(name).builder).parameters.values())]


def about_model(name: str) -> str:
    """Return what is written about a model: the docstring of its builder."""
    return inspect.cleandoc(_find(name).builder.__doc__ or "")  # not that of nn.Module


def build_model(name: str, /, **options: Any) -> nn.Module:
    """Call the builder of a model, once its options are checked."""
    builder = _find(name).builder
    parameters = inspect.signature(builder).parameters
    accepted = ", ".join(str(p).replace("'", "") for p in parameters.values())
    variadic = {p.kind for p in parameters.values()} & {inspect.Parameter.VAR_KEYWORD}
    if unknown := [] if variadic else [option for option in options if option not in parameters]:
        raise UnknownOptionError(f"model {name!r} takes no {', '.join(map(repr, unknown))}; it accepts {accepted}")
    if missing := [p.name for p in _required(parameters.values()) if p.name not in options]:
        raise UnknownOptionError(f"model {name!r} needs {', '.join(map(repr, missing))}; it accepts {accepted}")
    for option in COUNTS & options.keys():
        if not isinstance(options[option], Integral) or options[option] < 1:
            raise UsageError(f"{option} must be an integer of at least 1, not {options[option]!r}")
    model = builder(**options)
    model.__dict__[BUILT_AS] = (name, options)
    return model


def _required(parameters: Iterable[inspect.Parameter]) -> list[inspect.Parameter]:
    return [p for p in parameters if p.default is p.empty and p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]


def _find(name: str) -> Entry:
    _import_networks()
    if name not in entries:
        hint = did_you_mean(name, sorted(entries, key=natural_key))
        raise UsageError(f"unknown model {name!r}; {hint} (one of your own needs its module: --import MODULE)")
    return entries[name]


def _import_networks() -> None:
    """Import the networks of the zoo, which register themselves; all, since a name may have been taken elsewhere."""
    from . import graphs, images, points  # noqa: F401  # here, since what they import includes this package
