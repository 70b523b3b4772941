"""What the trainers' callbacks share: how a regularizer is made for the model that the trainer has."""

from collections.abc import Callable
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
    def key(self) -> str:
        """What tells the state of this regularizer from that of another in one checkpoint, also in a later process."""
        options = ((key, value) for key, value in self.options.items() if key not in MAY_CHANGE)
        said = ", ".join(f"{key}={_name(value) if callable(value) else repr(value)}" for key, value in options)
        return f"{self.name}({said})"

    def build(self, model: nn.Module) -> AnyRegularizer:
        """The regularizer, attached to a model."""
        if isinstance(self.source, str):
            return create_regularizer(self.source, model, **self.options)
        return self.source(model)


def _name(function: Callable) -> str:
    return getattr(function, "__qualname__", type(function).__qualname__)
