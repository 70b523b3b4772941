"""A recipe says all of one run; flags of the command line are its fields."""

import dataclasses
import hashlib
import inspect
import json
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from types import UnionType
from typing import Any, ClassVar, Self, get_args, get_origin, get_type_hints

from comhe.errors import UsageError, check_at_least, check_choice, did_you_mean, is_again
from comhe.zoo import model_domain

from .engine.schedule import factor
from .plugins import providers

Option = int | float | bool | str
Options = dict[str, Option]

# Not part of the digest where they have their defaults, so that digests of earlier versions stay.
LATER_FIELDS = (
    "domain", "tag", "up", "weights", "weights_digest", "swap_head", "adapt_input", "freeze", "layer_decay",
    "layer_weights", "patience", "other_decay", "labels_per_class", "label_noise", "weights_key",
)  # fmt: skip
# Settings that name the run, rather than say how it is trained.
IDENTITY = ("domain", "recipe", "tag", "model", "data", "regularizer", "seed")
LONGEST_LABEL = 80
# Options of a model that the data decide, and what they count.
SIZES = {"num_classes": "classes", "in_channels": "channels or features"}


def told_sizes(options: Mapping[str, Any]) -> str:
    """Return what data these options of a model are for, such as ``"10 classes"``; nothing if they do not tell."""
    return " and ".join(f"{options[name]:,} {what}" for name, what in SIZES.items() if name in options)


# Headings under which settings are shown.
WHAT, PENALTY, TRAINING, START = "what is trained", "regularizer", "training", "starting from weights"
MEASURED = "what is recorded"
HEADINGS = (WHAT, PENALTY, TRAINING, START, MEASURED)


def setting(default: Any, help: str, group: str = TRAINING, choices: Sequence[str] = ()) -> Any:
    """Return a recipe field with the line that explains it wherever fields are shown, and what it may be."""
    about = {"help": help, "group": group, "choices": tuple(choices)}
    return field(default=default, metadata=about)


@cache
def field_types(kind: Any) -> dict[str, tuple[type, ...]]:
    """Return the types that each field of a class of recipes may have; an integer may stand for a float."""
    found = {}
    hints = get_type_hints(kind)
    for each in dataclasses.fields(kind):
        hint = hints[each.name]
        kinds = [get_origin(part) or part for part in (get_args(hint) if get_origin(hint) is UnionType else (hint,))]
        found[each.name] = (*kinds, *([int] if float in kinds else []))
    return found


def plain(value: Any) -> Any:
    """Return a number of NumPy or PyTorch as one of Python; what a dictionary holds as well."""
    if isinstance(value, Mapping):
        return {key: plain(each) for key, each in value.items()}
    return value.tolist() if hasattr(value, "tolist") else value


def check_part_of_name(name: str, value: str) -> None:
    """Raise UsageError unless an argument can be part of the name of a file, or is empty.

    Example:
        >>> check_part_of_name("tag", "wide-2")
    """
    if not re.fullmatch(r"[A-Za-z0-9._-]*", value):
        raise UsageError(f"{name} becomes part of a file name: letters, digits, '.', '_' and '-', not {value!r}")


@dataclass(frozen=True)
class Recipe:
    """All settings of one run; its ``label`` is its name and what was changed in the named recipe."""

    example_sizes: ClassVar[Mapping[str, int]] = {"num_classes": 10}  # what the data tell a model's builder

    recipe: str = setting("custom", "name of the recipe that the other settings come from", WHAT)
    model: str = setting("", "a name of `comhe list models`", WHAT)
    model_options: Options = field(
        default_factory=dict, metadata={"help": "further options of the model", "group": WHAT}
    )
    data: str = setting("", "a name of `comhe list datasets`", WHAT)
    regularizer: str = setting("none", "a name of `comhe list regularizers`", PENALTY)
    weight: float | None = setting(None, "factor of each hidden layer's penalty", PENALTY)
    output_weight: float | None = setting(None, "the same for the output layer", PENALTY)
    layer_weights: dict[str, float] = field(
        default_factory=dict,
        metadata={"help": "the weight by globs of layers, where it differs; the first match counts", "group": PENALTY},
    )
    regularizer_options: Options = field(
        default_factory=dict, metadata={"help": "further options of the regularizer", "group": PENALTY}
    )
    seed: int = setting(0, "seed of initialization, dropout, data order and projections", WHAT)
    labels_per_class: int = setting(0, "training samples of each class, drawn by the seed, 0 for all", WHAT)
    label_noise: float = setting(0.0, "share of the training labels that become another class, drawn by the seed", WHAT)
    epochs: int = setting(200, "passes over the training set")
    patience: int = setting(0, "epochs without a better accuracy or loss on validation that end training, 0 for none")
    lr: float = setting(0.01, "learning rate")
    weight_decay: float = setting(5e-4, "L2 penalty on the weights")
    schedule: str = setting("constant", "of the learning rate: constant, cosine, one-cycle, or step:0.5,0.75")
    warmup: float = setting(0.0, "share of the run in which the learning rate rises from 0")
    clip: float = setting(0.0, "largest norm of the gradient, 0 for no limit")
    ema: float = setting(0.0, "decay of an exponential moving average of the weights, which is then evaluated, or 0")
    precision: str = setting(
        "fp32",
        "of the network's forward pass: fp32, bf16 (autocast), or auto: bf16 where it is fast",
        choices=("fp32", "bf16", "auto"),
    )
    compile: bool = setting(False, "torch.compile the network")
    energies: int = setting(0, "epochs between entries of each layer's energies in energies.csv, 0 for none", MEASURED)
    log_steps: int = setting(0, "steps between entries in steps.csv, 0 for none", MEASURED)
    domain: str = setting("", "domain of the model, which decides what kind of recipe this is", WHAT)
    weights: str = setting("", "weights to start from: a name of `comhe list weights`, a file or a run folder", START)
    weights_digest: str = setting(
        "", "beginning of the sha256 of a file of weights, filled in when the run starts", START
    )
    weights_key: str = setting("", "which of several state dicts in the file of weights, as state_dict_ema", START)
    swap_head: bool = setting(False, "give the network a new last layer, for another number of classes", START)
    adapt_input: bool = setting(
        False, "fit the weights' first layer to other channels, or start it again for features", START
    )
    freeze: str = setting(
        "none",
        "what stays as the weights have it: none, or the trunk, all but the last layer",
        START,
        choices=("none", "trunk"),
    )
    layer_decay: float = setting(1.0, "factor of the learning rate from each layer to the one before it", START)
    tag: str = setting("", "name of this variant of the recipe, in place of a list of what was changed", WHAT)

    def __post_init__(self) -> None:
        self._check_types()
        self.require(lambda value: value > 0, "must be positive", "epochs", "lr")
        self.require(lambda value: 0 <= value < 1, "must be at least 0 and less than 1", "warmup", "ema", "label_noise")
        for each in dataclasses.fields(self):
            if choices := each.metadata.get("choices"):
                check_choice(each.name, getattr(self, each.name), choices)
        self.require(lambda value: 0 < value <= 1, "must be greater than 0 and at most 1", "layer_decay")
        factor(self.schedule, 1.0, self.warmup)  # its error, now rather than in the first step
        names = ("weight", "output_weight", "weight_decay", "seed", "clip", "energies", "log_steps", "patience")
        self.require(lambda value: value is None or value >= 0, "must not be negative", *names, "labels_per_class")
        check_part_of_name("tag", self.tag)

    def _check_types(self) -> None:
        """Raise UsageError for a value of another type, as from a file of recipes that was written by hand.

        Equal settings make one recipe: a learning rate of 1 is 1.0, and NumPy's numbers become Python's.
        """
        kind: Any = type(self)
        for name, allowed in field_types(kind).items():
            value = getattr(self, name)
            if type(value) in allowed and type(value) not in (int, dict):  # as it should be
                continue
            value = plain(value)
            if type(value) is int and float in allowed and abs(value) < 1 << 53:
                value = float(value)
            object.__setattr__(self, name, value)
            if (isinstance(value, bool) and bool not in allowed) or not isinstance(value, allowed):
                types = " or ".join("none" if kind is type(None) else kind.__name__ for kind in allowed)
                raise UsageError(f"{name} must be of type {types}, not {value!r}")

    def require(self, condition: Callable[[Any], bool], text: str, *names: str) -> None:
        """Raise UsageError for the first of the named fields that does not meet a condition."""
        for name in names:
            if not condition(value := getattr(self, name)):
                raise UsageError(f"{name} {text}, but is {value!r}")

    def lr_at(self, step: int, steps: int) -> float:
        """Return the learning rate of one of the run's steps, counted from 0."""
        return self.lr * factor(self.schedule, step / steps, self.warmup)

    def model_arguments(self, **sizes: Any) -> dict[str, Any]:
        """Return the arguments of the model's builder, given those that the data set decides."""
        return sizes | self.model_options

    def arguments_for(self, num_classes: int, **sizes: int) -> dict[str, Any]:
        """Return :meth:`model_arguments` for the data themselves; UsageError if an option gives other classes."""
        if (other := self.model_options.get("num_classes", num_classes)) != num_classes:
            raise UsageError(f"num_classes={other}, but {self.data} has {num_classes} classes; leave the option out")
        return self.model_arguments(num_classes=num_classes, **sizes)

    def penalty_weights(self) -> dict[str, Any]:
        """Return the weights of the penalty that differ from the regularizer's own."""
        by_layer = dict(self.layer_weights)
        if by_layer and self.weight is not None:
            by_layer.setdefault("*", self.weight)  # last: the first glob that matches counts
        weights = {"weight": by_layer or self.weight, "output_weight": self.output_weight}
        return {name: value for name, value in weights.items() if value is not None}

    def options_with(self, chosen: Options) -> Options:
        """Return the regularizer's options with others chosen; its penalty decides on the span where they matter."""
        own = {name: value for name, value in self.regularizer_options.items() if name != "span"}
        return (own if chosen.keys() & {"distribution", "eps"} else self.regularizer_options) | chosen

    @property
    def dataset(self) -> str:
        """The name under which the data are loaded: a split that is ``-random`` without a number is the seed's own."""
        kind, colon, path = self.data.partition(":")
        return re.sub("-random$", f"-random{self.seed}", kind) + colon + path

    @property
    def name(self) -> str:
        return f"{self.model}.{re.sub(r'[^A-Za-z0-9._-]+', '_', self.data)}-{self.regularizer}"

    def changes(self) -> dict[str, Any]:
        """Return the settings and options that differ from the named recipe's, or from the defaults."""
        cell: dict[str, Any] = {"model": self.model, "data": self.data, "regularizer": self.regularizer}
        named = _domains[self.domain].recipes if self.domain in domains() else {}
        base = named[self.recipe](*cell.values()) if self.recipe in named else type(self)(**cell)
        differing = {k: v for k, v in vars(self).items() if k not in IDENTITY and v != getattr(base, k)}
        found = {name: value for name, value in differing.items() if not isinstance(value, dict)}
        for name in [name for name in differing if name not in found]:
            value, before = differing[name], getattr(base, name)
            for option in sorted({*value, *before}):
                if value.get(option) != before.get(option):
                    taken = option in found or hasattr(self, option)
                    found[f"{name.removesuffix('_options')}_{option}" if taken else option] = value.get(option)
        return found

    @property
    def label(self) -> str:
        changes = ",".join(f"{name}={value}" for name, value in sorted(self.changes().items()))
        if not (variant := self.tag or re.sub(r"[^A-Za-z0-9._=,+-]+", "_", changes)):
            return self.name
        if len(variant) > LONGEST_LABEL:
            digest = hashlib.sha256(changes.encode()).hexdigest()[:8]
            variant = f"{variant[: LONGEST_LABEL - 9]}-{digest}"
        return f"{self.name}+{variant}"

    @property
    def digest(self) -> str:
        defaults = {f.name: f.default for f in dataclasses.fields(self)} | {"layer_weights": {}}
        values = {name: getattr(self, name) for name in defaults}
        for name in LATER_FIELDS:
            if name in values and values[name] == defaults[name]:
                del values[name]
        return hashlib.sha256((json.dumps(values, indent=2) + "\n").encode()).hexdigest()[:12]

    def replace(self, **changes: Any) -> Self:
        return dataclasses.replace(self, **changes)

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self), indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what :meth:`to_json` wrote, with this version's fields or those of earlier ones."""
        values = json.loads(text)
        known = {f.name for f in dataclasses.fields(cls)}
        odd = sorted((known - set(values) - set(LATER_FIELDS)) | (set(values) - known))
        if odd:
            raise UsageError(f"not a {cls.__name__}: missing or unknown {', '.join(odd)}")
        return cls(**values)


@dataclass(frozen=True)
class BatchRecipe(Recipe):
    """The settings of training on batches of samples."""

    batch_size: int = setting(128, "samples a step")
    accumulate: int = setting(1, "microbatches that a batch goes through the network in, to save memory")
    optimizer: str = setting("sgd", "how weights are updated", choices=("sgd", "adam", "adamw"))
    momentum: float = setting(0.9, "of sgd")
    nesterov: bool = setting(True, "Nesterov's momentum")
    decay: str = setting(
        "matrices", "weight decay on `matrices` only (no batch norm, no bias) or on `all`", choices=("matrices", "all")
    )
    label_smoothing: float = setting(0.0, "share of the target that is spread over all classes")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least("batch_size", self.batch_size, 1)
        check_at_least("accumulate", self.accumulate, 1)
        if self.accumulate > self.batch_size:
            raise UsageError(f"accumulate={self.accumulate} is more than the {self.batch_size} samples of a batch")
        self.require(lambda value: 0 <= value < 1, "must be at least 0 and less than 1", "momentum", "label_smoothing")


@dataclass(frozen=True)
class Domain:
    """A kind of data that can be trained on: the class of its recipes, its task, its named recipes."""

    recipe: type[Recipe]
    task: Callable[..., Any]
    recipes: dict[str, Callable[[str, str, str], Recipe]] = field(default_factory=dict)


_domains: dict[str, Domain] = {}


def register_domain(recipe: type[Recipe], task: Callable[..., Any], *named: Callable[[str, str, str], Any]) -> None:
    """Make a class of recipes trainable by a class of tasks, under its default ``domain``, the usual recipe first."""
    name = recipe.domain
    if not name:
        raise UsageError(f"{recipe.__name__} needs a default for its field `domain`")
    if name in _domains:
        raise UsageError(f"domain {name!r} is already registered, by {_domains[name].recipe.__name__}")
    _domains[name] = Domain(recipe, task)
    for function in named:
        register_recipe(function)


def domains() -> list[str]:
    while providers:
        providers.pop(0)()
    return list(_domains)


def find_domain(name: str) -> Domain:
    if name not in domains():
        hint = f"the domains that can are {', '.join(_domains)}; register_model(domain=...) says which a model is for"
        raise UsageError(f"{name!r} models cannot be trained; {hint}")
    return _domains[name]


def read_recipe(text: str) -> Recipe:
    """Read a ``recipe.json`` of any domain."""
    values = json.loads(text)
    if not isinstance(values, dict):
        raise UsageError(f"not a recipe, but a {type(values).__name__}")
    return find_domain(values.get("domain") or model_domain(values.get("model", ""))).recipe.from_json(text)


def register_recipe(recipe: Any) -> Any:
    """Make a recipe known by its name, in its domain, and return it.

    It is settings for any model, data set and regularizer of the domain, named by their field ``recipe``; or a function
    (used as a decorator) of these three names, with the class of the settings as its return annotation.

    Example:
        >>> from comhe.train import ImageRecipe
        >>> _ = register_recipe(ImageRecipe(recipe="brief", epochs=3))
        >>> get_recipe("brief", "resnet20", "glyphs", "hs-mhe").epochs
        3
    """
    if isinstance(recipe, Recipe):
        name, domain = recipe.recipe, recipe.domain

        def build(model: str, data: str, regularizer: str) -> Recipe:
            return recipe.replace(model=model, data=data, regularizer=regularizer)

        build.__module__, build.__qualname__ = sys._getframe(1).f_globals["__name__"], name  # of who registers it
    elif not inspect.isroutine(recipe):
        how = "register_recipe(ImageRecipe(recipe='my-recipe')), or @register_recipe above a function"
        raise TypeError(f"{recipe!r} is neither a recipe nor a function; write {how}")
    else:
        name, build = recipe.__name__, recipe
        kind = inspect.signature(recipe, eval_str=True).return_annotation
        if not (isinstance(kind, type) and issubclass(kind, Recipe)):
            raise UsageError(f"{name}() needs the class of the recipes that it returns as its return annotation")
        domain = kind.domain
    known = find_domain(domain).recipes
    if name == "custom" or (name in known and not is_again(build, known[name])):
        raise UsageError(f"the name {name!r} of a recipe for {domain} is taken; choose another one")
    known[name] = build
    return recipe


def list_recipes(domain: str | None = None) -> list[str]:
    """Return the names of a domain's recipes, the usual one first; without a domain, of all.

    Example:
        >>> list_recipes("graphs")
        ['kipf', 'tuned', 'few_labels', 'noisy_labels', 'deep', 'published']
    """
    names = domains() if domain is None else [domain]
    return list(dict.fromkeys(name for each in names for name in find_domain(each).recipes))


def get_recipe(name: str | None, model: str, data: str, regularizer: str, **changes: Any) -> Recipe:
    """Return the recipe ``name`` (None: the domain's usual one) with ``changes`` to its settings.

    Example:
        >>> get_recipe("kipf", "gcn", "cora", "hs-mhe", epochs=20).label
        'gcn.cora-hs-mhe+epochs=20'
    """
    domain = model_domain(model)
    known = find_domain(domain).recipes
    name = next(iter(known), "custom") if name is None else name
    if name not in known:
        elsewhere = [other for other in domains() if name in _domains[other].recipes]
        if elsewhere:
            raise UsageError(f"recipe {name!r} is for {' and '.join(elsewhere)}, but {model} is a model for {domain}")
        raise UsageError(f"unknown recipe {name!r} for {domain}; {did_you_mean(name, known)}")
    recipe = known[name](model, data, regularizer).replace(recipe=name)
    settings = [f.name for f in dataclasses.fields(recipe)]
    for wrong in sorted(set(changes) - set(settings)):
        raise UsageError(f"{type(recipe).__name__} has no setting {wrong!r}; {did_you_mean(wrong, settings)}")
    return recipe.replace(**changes)


def cell_settings(model: str, data: str, regularizer: str) -> dict[str, Any]:
    """Return what is trained, as settings; in the span ``rp-comhe`` draws the same energies in less time."""
    options = {"span": True} if regularizer == "rp-comhe" else {}
    return {"model": model, "data": data, "regularizer": regularizer, "regularizer_options": options}
