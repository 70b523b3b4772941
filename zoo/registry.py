"""The registered models: the name of a builder function is the name of its model, everywhere."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar, overload

from torch import nn

from comhe.errors import UsageError, did_you_mean, is_again

DOMAINS = ("images", "points", "graphs", "custom")

Builder = Callable[..., nn.Module]
B = TypeVar("B", bound=Builder)


@dataclass(frozen=True)
class Entry:
    """A registered builder and the domain of its model."""

    builder: Builder
    domain: str


entries: dict[str, Entry] = {}


@overload
def register_model(builder: B) -> B: ...
@overload
def register_model(*, domain: str = "custom", name: str | None = None) -> Callable[[B], B]: ...
def register_model(
    builder: B | None = None, *, domain: str = "custom", name: str | None = None
) -> B | Callable[[B], B]:
    """Decorator that makes a builder, a function or a module's class, available as ``create_model(name)``.

    The model's name is the builder's unless ``name`` is another. The domain decides how the model is trained: which
    recipes and data it takes, and what its builder is called with.

    ==========  ==============================================================  ====================================
    domain      keywords that training passes to the builder                    ``forward`` of the module it returns
    ==========  ==============================================================  ====================================
    images      ``num_classes``                                                 [B, 3, H, W] -> [B, num_classes]
    points      ``in_channels``, ``num_classes``                                [B, N, C] -> [B, num_classes]
    graphs      ``in_channels``, ``num_classes``, ``hidden_channels``,          x [N, C], edge_index [2, E]
                ``dropout``                                                     -> [N, num_classes]
    custom      (it is not trained by ``comhe.train``)                          any
    ==========  ==============================================================  ====================================

    A module may offer more, all of it optional: ``output_layer``, the name of its last layer (``"fc"``), with which
    weights for other classes can be loaded; ``adapt(state)``, which renames the state dict of another implementation;
    ``fit_inputs(images)`` of image networks, called with normalized training images before training begins;
    ``auxiliary_loss()``, added to the loss of point networks; and ``prepare`` of
    :class:`comhe.zoo.graphs.GraphModel`, which computes at the labeled nodes only.

    Example:
        >>> @register_model(domain="images")
        ... def linear_probe(num_classes: int) -> nn.Module:
        ...     return nn.Sequential(nn.Flatten(), nn.LazyLinear(num_classes))
        >>> entries.pop("linear_probe").domain
        'images'
    """
    if builder is not None and not callable(builder):
        how = f"@register_model(name={builder!r}, domain='images')"
        raise TypeError(f"register_model takes a builder, not {builder!r}; write {how}")
    if domain not in DOMAINS:
        raise UsageError(f"unknown domain {domain!r}; {did_you_mean(domain, DOMAINS)}")

    def register(builder: B) -> B:
        key = name or builder.__name__
        if key in entries and not is_again(builder, entries[key].builder):
            first, second = (f"{b.__module__}.{b.__qualname__}" for b in (entries[key].builder, builder))
            raise UsageError(f"model {key!r} is registered twice, by {first} and by {second}; rename one of them")
        entries[key] = Entry(builder, domain)
        return builder

    return register if builder is None else register(builder)


def natural_key(name: str) -> list[tuple[int, int | str]]:
    """A key that sorts names with their numbers as numbers."""
    return [(0, int(part)) if part.isdigit() else (1, part) for part in re.findall(r"\d+|\D+", name)]
