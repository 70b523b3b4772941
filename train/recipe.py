"""A recipe says all of one run; flags of the command line are its fields."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from dataclasses import dataclass, field
from typing import Any, Self

from .engine.schedule import factor

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
    schedule: str = setting("constant", "of the learning rate: constant, cosine, one-cycle, or step:0.5,0.75")
    warmup: float = setting(0.0, "share of the run in which the learning rate rises from 0")
    clip: float = setting(0.0, "largest norm of the gradient, 0 for any")
    ema: float = setting(0.0, "decay of an exponential average of the weights, which is evaluated then; 0 for none")
    precision: str = setting("fp32", "of the network's forward: fp32 or bf16 (autocast); penalties are never in bf16")
    compile: bool = setting(False, "torch.compile the network")
    energies: int = setting(0, "epochs between entries of each layer's energies in energies.csv, 0 for none")
    log_steps: int = setting(0, "steps between entries in steps.csv, 0 for none")

    def __post_init__(self) -> None:
        for name in ("epochs", "lr"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive, not {getattr(self, name)!r}")
        for name in ("warmup", "ema"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 0 and less than 1, not {getattr(self, name)!r}")
        if self.precision not in ("fp32", "bf16"):
            raise ValueError(f"precision must be 'fp32' or 'bf16', not {self.precision!r}")
        factor(self.schedule, 1.0, self.warmup)  # its error, now rather than in the first step
        for name in ("weight", "output_weight", "weight_decay", "seed", "clip", "energies", "log_steps"):
            value = getattr(self, name)
            if value is not None and not value >= 0:
                raise ValueError(f"{name} must not be negative, and is {value!r}")

    def lr_at(self, step: int, steps: int) -> float:
        """The learning rate of one of the run's steps, counted from 0."""
        return self.lr * factor(self.schedule, step / steps, self.warmup)

    @property
    def name(self) -> str:
        """What the run is called in folders: ``model.data-regularizer``, without slashes where the data is a path."""
        return f"{self.model}.{re.sub(r'[^A-Za-z0-9._-]+', '_', self.data)}-{self.regularizer}"

    @property
    def digest(self) -> str:
        """Twelve hexadecimal digits that tell recipes apart."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()[:12]

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


@dataclass(frozen=True)
class BatchRecipe(Recipe):
    """What recipes say that train on batches of samples."""

    batch_size: int = setting(128, "samples a step")
    accumulate: int = setting(1, "parts that a batch goes through the network in, to save memory")
    optimizer: str = setting("sgd", "sgd, adam or adamw")
    momentum: float = setting(0.9, "of sgd")
    nesterov: bool = setting(True, "Nesterov's momentum")
    decay: str = setting("matrices", "weight decay on `matrices` only (no batch norm, no bias) or on `all`")
    label_smoothing: float = setting(0.0, "share of the target that is spread over all classes")

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, known in (("optimizer", ("sgd", "adam", "adamw")), ("decay", ("matrices", "all"))):
            if getattr(self, name) not in known:
                raise ValueError(f"{name} must be one of {', '.join(known)}, not {getattr(self, name)!r}")
        for name in ("batch_size", "accumulate"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.accumulate > self.batch_size:
            raise ValueError(f"a batch of {self.batch_size} has no {self.accumulate} parts; lower accumulate")
        for name in ("momentum", "label_smoothing"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 0 and less than 1, not {getattr(self, name)!r}")
