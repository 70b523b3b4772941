"""A recipe says all of one run; flags of the command line are its fields."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from typing import Any, Self

Option = int | float | bool | str


def setting(default: Any, help: str) -> Any:
    """A recipe field with the line that explains it wherever fields are shown."""
    return field(default=default, metadata={"help": help})


@dataclass(frozen=True)
class Recipe:
    """What every domain's recipe says."""

    recipe: str = setting("custom", "name of the recipe that the other settings come from")
    model: str = setting("", "a name of `comhe list models`")
    model_options: dict[str, Option] = field(
        default_factory=dict, metadata={"help": "further arguments of the model's builder"}
    )
    data: str = setting("", "a name of `comhe list datasets`")
    regularizer: str = setting("none", "a name of `comhe list regularizers`")
    weight: float | None = setting(None, "factor of each hidden layer's penalty; not given, the regularizer's own")
    output_weight: float | None = setting(None, "the same for the output layer")
    regularizer_options: dict[str, Option] = field(
        default_factory=dict, metadata={"help": "further options of the regularizer"}
    )
    seed: int = setting(0, "of initialisation, dropout, data order and projections")
    epochs: int = setting(200, "passes over the training set")
    lr: float = setting(0.01, "learning rate")
    weight_decay: float = setting(5e-4, "L2 penalty on the weights")

    def __post_init__(self) -> None:
        for name in ("epochs", "lr"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive, not {getattr(self, name)!r}")
        for name in ("weight", "output_weight", "weight_decay", "seed"):
            value = getattr(self, name)
            if value is not None and not value >= 0:
                raise ValueError(f"{name} must not be negative, and is {value!r}")

    @property
    def name(self) -> str:
        """What the run is called in folders and tables: ``model.data-regularizer``."""
        return f"{self.model}.{self.data}-{self.regularizer}"

    def replace(self, **changes: Any) -> Self:
        return dataclasses.replace(self, **changes)

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self), indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Raises ValueError where the text is not this kind of recipe."""
        values = json.loads(text)
        known = {f.name for f in dataclasses.fields(cls)}
        if not isinstance(values, dict) or set(values) != known:
            odd = sorted(set(values) ^ known) if isinstance(values, dict) else [type(values).__name__]
            raise ValueError(f"not a {cls.__name__}: missing or unknown {', '.join(odd)}")
        return cls(**values)
