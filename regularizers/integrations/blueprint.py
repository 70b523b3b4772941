"""What the trainers' callbacks share: how a regularizer is made for the model that the trainer has."""

import functools
import hashlib
from collections.abc import Callable, Iterable, Mapping
from types import CodeType
from typing import Any

from torch import nn

from comhe.errors import UsageError
from comhe.regularizers.combine import CombinedRegularizer
from comhe.regularizers.registry import check_regularizer, create_regularizer
from comhe.regularizers.regularizer import Regularizer

AnyRegularizer = Regularizer | CombinedRegularizer
MAY_CHANGE = ("weight", "output_weight", "seed")  # when a run is resumed


class Blueprint:
    """The name and options of a regularizer, or a function that makes one for a model.

    Example:
        >>> Blueprint("so", {"weight": 0.1, "include": "net.0"}).key
        "so(include='net.0')"
        >>> Blueprint(lambda model: create_regularizer("so", model), {}).build(nn.Linear(4, 3)).name
        'so'
    """

    def __init__(self, source: str | Callable[[Any], AnyRegularizer], options: dict[str, Any]) -> None:
        if isinstance(source, str):
            check_regularizer(source, **options)
        elif options:
            raise UsageError(f"options ({', '.join(options)}) belong to a name, not to a function that makes the whole")
        self.source, self.options = source, options

    @property
    def name(self) -> str:
        """The regularizer's name, or the function's."""
        return self.source if isinstance(self.source, str) else _name(self.source)

    @property
    def full_key(self) -> str:
        """What tells this regularizer from others in one checkpoint, also in a later process.

        It is the :attr:`key` and, after a bar, what may change when a run is resumed: weights, seed, and the code of
        functions without a name.
        """
        said = [f"{k}={_described(v)}" for k, v in self.options.items() if k in MAY_CHANGE or "#" in _described(v)]
        source = [] if isinstance(self.source, str) or "#" not in _described(self.source) else [_described(self.source)]
        return "|".join((self.key, *filter(None, [", ".join(source + said)])))

    def find(self, keys: Iterable[str]) -> str | None:
        """The key in a checkpoint with the state of this regularizer, whose weights may have been others.

        Raises:
            UsageError: there are several, none of which has the present weights.
        """
        known = list(keys)
        alike = [self.full_key] if self.full_key in known else [k for k in known if f"{k}|".startswith(f"{self.key}|")]
        if len(alike) > 1:
            raise UsageError(
                f"the checkpoint has several states for {self.key}, {' and '.join(alike)}, and none for "
                f"{self.full_key}: resume with the weights and seeds that were saved"
            )
        return alike[0] if alike else None

    def check_alone(self, others: Iterable["Blueprint"]) -> None:
        """UsageError if another one cannot be told from this one in a checkpoint."""
        if any(other.full_key == self.full_key for other in others if other is not self):
            raise UsageError(
                f"two callbacks are {self.full_key}: their states cannot be told apart in a checkpoint; use one, or "
                "functions of different names"
            )

    def log_name(self, others: Iterable["Blueprint"]) -> str:
        """What the penalty is logged as next to others': ``penalty/`` and the least that tells it from them.

        Example:
            >>> so, mhe = Blueprint("so", {"include": "fc"}), Blueprint("mhe", {})
            >>> so.log_name([]), so.log_name([mhe]), so.log_name([mhe, Blueprint("so", {})])
            ('penalty', 'penalty/so', "penalty/so(include='fc')")
        """
        if not (others := [*others]):
            return "penalty"
        kinds = ("name", "key", "full_key")
        found = (kind for kind in kinds if getattr(self, kind) not in [getattr(other, kind) for other in others])
        return f"penalty/{getattr(self, next(found, kinds[-1]))}"

    @property
    def key(self) -> str:
        """What tells the states of regularizers with other options apart, weights and seed left aside."""
        options = ((key, value) for key, value in self.options.items() if key not in MAY_CHANGE)
        said = ", ".join(f"{key}={_name(value) if callable(value) else repr(value)}" for key, value in options)
        return f"{self.name}({said})"

    def build(self, model: nn.Module) -> AnyRegularizer:
        """The regularizer, attached to a model."""
        if isinstance(self.source, str):
            return create_regularizer(self.source, model, **self.options)
        return self.source(model)


def _name(function: Callable) -> str:
    if isinstance(function, functools.partial):
        return _name(function.func)
    return getattr(function, "__qualname__", type(function).__qualname__)


def _described(value: Any) -> str:
    """A value in words that are the same in every process; after ``#`` a digest of a function that has no name."""
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{key!r}: {_described(each)}' for key, each in value.items())}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_described, value))}]"
    if isinstance(value, functools.partial):
        inner = f"{_described(value.func)}{_described(value.args)}{_described(value.keywords)}"
        return f"{_name(value)}#{_digest(inner)}"
    if not callable(value):
        return repr(value) if " at 0x" not in repr(value) else type(value).__qualname__
    code, cells = getattr(value, "__code__", None), getattr(value, "__closure__", None) or ()
    if code is None or (value.__name__ != "<lambda>" and not cells):
        return _name(value)
    return f"{_name(value)}#{_digest(_code(code) + _described([_content(cell) for cell in cells]))}"


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents if not callable(cell.cell_contents) else _name(cell.cell_contents)
    except ValueError:  # not set yet
        return None


def _code(code: CodeType) -> str:
    constants = [_code(each) if isinstance(each, CodeType) else repr(each) for each in code.co_consts]
    return f"{code.co_code!r}{code.co_names}{constants}"


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=4).hexdigest()
