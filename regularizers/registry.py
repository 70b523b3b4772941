"""Regularizers by name."""

import inspect
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from fnmatch import fnmatchcase
from functools import cache
from typing import Any, TypeVar, get_args, get_type_hints

from torch import Tensor, nn

from comhe.errors import UnknownOptionError, UsageError, did_you_mean, is_again

from .penalties.penalty import FunctionPenalty, Penalty
from .regularizer import Regularizer
from .selection import select
from .weights import check_weights

_REGISTRY: dict[str, type[Penalty] | FunctionPenalty] = {}
P = TypeVar("P", bound=type[Penalty] | Callable[[Tensor], Tensor])


def register_regularizer(name: str, *, default_weight: float = 1.0, ordered: bool = True) -> Callable[[P], P]:
    """Decorator that registers a :class:`Penalty` class, or a pure function ``[..., N, d] -> [...]``, under ``name``.

    Args:
        default_weight: of a function; a class has its own.
        ordered: whether a function depends on the order of the dimensions; if not, it may be given another one.

    Example:
        >>> @register_regularizer("squared-norm", default_weight=0.1)
        ... def squared_norm(w):
        ...     return w.square().sum((-2, -1))
        >>> regularizer = create_regularizer("squared-norm", nn.Linear(4, 3))
        >>> del _REGISTRY["squared-norm"]  # for this example alone
    """
    if not isinstance(name, str):
        raise TypeError(f"register_regularizer needs a name: write @register_regularizer('my-penalty'), not {name!r}")

    def register(penalty: P) -> P:
        if name in _REGISTRY and not is_again(penalty, taken := _defined(_REGISTRY[name])):
            raise UsageError(f"regularizer {name!r} is already registered by {taken.__name__}")
        if not isinstance(penalty, type):
            _REGISTRY[name] = FunctionPenalty(penalty, name, default_weight, ordered)
        elif not issubclass(penalty, Penalty):
            raise TypeError(f"{penalty.__name__} is neither a subclass of Penalty nor a function")
        elif not hasattr(penalty, "function") and penalty.value is Penalty.value:
            raise TypeError(f"{penalty.__name__} must define function(w) or value(w, layer, state, draws)")
        elif penalty.update is not Penalty.update and penalty.init is Penalty.init:
            raise TypeError(f"{penalty.__name__} has update, but no init(w, layer, seed) for the state that it updates")
        else:
            penalty.name, _REGISTRY[name] = name, penalty
        return penalty

    return register


def list_regularizers(pattern: str = "*") -> list[str]:
    """Names of the regularizers that match a glob, ``none`` first.

    Example:
        >>> list_regularizers("*s*")
        ['dso', 'hs-mhe', 'mhs', 'so', 'srip']
    """
    names = (name for name in _REGISTRY if fnmatchcase(name, pattern))
    return sorted(names, key=lambda name: (name != "none", name))


def create_regularizer(name: str, model: nn.Module, **options: Any) -> Regularizer:
    """Attach the regularizer called ``name`` (:func:`list_regularizers`) to a model.

    Args:
        model: any module; the regularizer follows its changes.
        options: those of the penalty (:func:`regularizer_options` has them with their defaults, and
            ``comhe show regularizer NAME`` what they are); ``weight``, ``output_weight`` and ``seed`` of
            :class:`Regularizer`; ``include``, ``exclude``, ``kinds``, ``min_neurons``, ``max_neurons`` and ``output``
            of :func:`comhe.regularizers.selection.select`, which choose layers.

    Raises:
        UsageError: an unknown name, an unknown option or one out of range, or a model without neurons.

    Example:
        >>> model = nn.Sequential(nn.Linear(50, 8), nn.ReLU(), nn.Linear(8, 3))
        >>> regularizer = create_regularizer("rp-comhe", model, weight=1.0, output_weight=10.0, dim=40, count=20)
        >>> loss = 1.0 + regularizer()  # once per optimizer step
    """
    penalty, rest = _split(name, options)
    return Regularizer(model, penalty, **rest)


def check_regularizer(name: str, **options: Any) -> None:
    """Raise the error that :func:`create_regularizer` would raise for these options with any model.

    Example:
        >>> check_regularizer("rp-comhe", dim=1)
        Traceback (most recent call last):
        comhe.errors.UsageError: dim must be at least 2, not 1
    """
    penalty, rest = _split(name, options)
    check_weights(penalty, rest.pop("weight", None), rest.pop("output_weight", "default"))
    select(nn.Module(), **{key: value for key, value in rest.items() if key != "seed"})


def regularizer_options(name: str) -> dict[str, Any]:
    """Every option of a regularizer with its default.

    Example:
        >>> regularizer_options("rp-comhe")["dim"], regularizer_options("so")["weight"]
        (40, 0.01)
    """
    penalty = find_penalty(name)
    plug = {"weight": penalty.default_weight, "output_weight": penalty.default_output_weight, "seed": 0}
    return _penalty_options(penalty) | plug | _keywords(select)


def about_regularizer(name: str) -> str:
    """Return what is written about a regularizer: the docstring of its penalty."""
    penalty = _defined(find_penalty(name))
    text = inspect.cleandoc(penalty.__doc__ or "")  # not that of Penalty
    function = re.search(r":func:`(\w+)`", text.split("\n\n")[0])  # which is what the class says of itself
    found = getattr(sys.modules[penalty.__module__], function[1], None) if function else None
    return text if found is None else f"{inspect.getdoc(found)}\n\n{text}"


def find_penalty(name: str) -> type[Penalty] | FunctionPenalty:
    """Return the penalty that is registered under a name: a class, or what was made of a function."""
    if not isinstance(name, str):
        raise TypeError(f"the first argument is the name of a regularizer, such as 'mhe', not a {type(name).__name__}")
    if name not in _REGISTRY:
        raise UsageError(f"unknown regularizer {name!r}; {did_you_mean(name, _REGISTRY)}")
    return _REGISTRY[name]


def _defined(penalty: type[Penalty] | FunctionPenalty) -> Any:
    """The class or the function that was registered."""
    return penalty if isinstance(penalty, type) else penalty.function


def _split(name: str, options: dict[str, Any]) -> tuple[Penalty, dict[str, Any]]:
    """The penalty with its options, and the options that are the plug's."""
    accepted, penalty = regularizer_options(name), find_penalty(name)
    for option in options:
        if option not in accepted:
            raise UnknownOptionError(f"{name} has no option {option!r}; its options are {', '.join(accepted)}")
    rest = {key: None if value == "none" and accepted[key] is None else value for key, value in options.items()}
    for option, value in rest.items():
        if isinstance(value, str) and (kinds := _numbers(penalty).get(option)):  # as from a command line
            wanted = "True or False" if kinds == {bool} else "a number"
            raise UsageError(f"{option} must be {wanted}, not {value!r}")
    theirs = {key: rest.pop(key) for key in _penalty_options(penalty) if key in rest}
    return penalty(**theirs) if isinstance(penalty, type) else penalty, rest


def _numbers(penalty: type[Penalty] | FunctionPenalty) -> dict[str, set[type]]:
    """The types of those options that are annotated with numbers or truth values only, and perhaps None."""
    hints: dict[str, Any] = {}
    for function in (select, *_initializers(penalty)):
        with suppress(NameError, TypeError):  # annotations of somebody else's that cannot be read here
            hints = get_type_hints(function) | hints
    kinds = {name: {*get_args(hint)} - {type(None)} or {hint} for name, hint in hints.items()}
    return {name: found for name, found in kinds.items() if found <= {int, float, bool}}


def _penalty_options(penalty: type[Penalty] | FunctionPenalty) -> dict[str, Any]:
    """Arguments of the class and, as far as it passes on ``**options``, of its bases."""
    options: dict[str, Any] = {}
    for init in _initializers(penalty):
        options = _keywords(init) | options
    return options


def _initializers(penalty: type[Penalty] | FunctionPenalty) -> Iterator[Callable[..., Any]]:
    for base in penalty.__mro__ if isinstance(penalty, type) else ():
        if base is not object and (init := vars(base).get("__init__")):
            yield init
            if not _passes_options(init):
                break


@cache
def _passes_options(function: Callable[..., Any]) -> bool:
    return any(p.kind is p.VAR_KEYWORD for p in inspect.signature(function).parameters.values())


@cache
def _keywords(function: Callable[..., Any]) -> dict[str, Any]:
    parameters = inspect.signature(function).parameters.items()
    return {key: parameter.default for key, parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY}
