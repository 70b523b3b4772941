"""A recipe says all of one run; flags of the command line are its fields."""

import dataclasses
import difflib
import hashlib
import inspect
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

from comhe.errors import UsageError
from comhe.zoo import model_domain

from .engine.schedule import factor

Option = int | float | bool | str

# Not part of the digest where they have their defaults, so that digests of earlier versions stay.
LATER_FIELDS = ("domain", "tag")
# Settings that name the run, rather than say how it is trained.
IDENTITY = ("domain", "recipe", "tag", "model", "data", "regularizer", "seed")
LONGEST_LABEL = 80


def setting(default: Any, help: str) -> Any:
    """Return a recipe field with the line that explains it wherever fields are shown."""
    return field(default=default, metadata={"help": help})


@dataclass(frozen=True)
class Recipe:
    """All settings of one run, for any domain; a domain's recipe adds its own.

    Attributes:
        name: ``model.data-regularizer``, safe in file names also where the data set is a path.
        label: the name and whatever was changed in the named recipe; it distinguishes run folders and table rows.
        digest: twelve hexadecimal digits that distinguish recipes.
    """

    example_sizes: ClassVar[Mapping[str, int]] = {"num_classes": 10}  # what the data tell a model's builder

    recipe: str = setting("custom", "name of the recipe that the other settings come from")
    model: str = setting("", "a name of `comhe list models`")
    model_options: dict[str, Option] = field(
        default_factory=dict, metadata={"help": "further arguments of the model's builder"}
    )
    data: str = setting("", "a name of `comhe list datasets`")
    regularizer: str = setting("none", "a name of `comhe list regularizers`")
    weight: float | None = setting(None, "factor of each hidden layer's penalty; by default the regularizer's own")
    output_weight: float | None = setting(None, "the same for the output layer")
    regularizer_options: dict[str, Option] = field(
        default_factory=dict, metadata={"help": "further options of the regularizer"}
    )
    seed: int = setting(0, "seed of initialization, dropout, data order and projections")
    epochs: int = setting(200, "passes over the training set")
    lr: float = setting(0.01, "learning rate")
    weight_decay: float = setting(5e-4, "L2 penalty on the weights")
    schedule: str = setting("constant", "of the learning rate: constant, cosine, one-cycle, or step:0.5,0.75")
    warmup: float = setting(0.0, "share of the run in which the learning rate rises from 0")
    clip: float = setting(0.0, "largest norm of the gradient, 0 for no limit")
    ema: float = setting(0.0, "decay of an exponential moving average of the weights, which is then evaluated, or 0")
    precision: str = setting("fp32", "of the network's forward pass: fp32 or bf16 (autocast); penalties stay in fp32")
    compile: bool = setting(False, "torch.compile the network")
    energies: int = setting(0, "epochs between entries of each layer's energies in energies.csv, 0 for none")
    log_steps: int = setting(0, "steps between entries in steps.csv, 0 for none")
    domain: str = setting("", "domain of the model, which decides what kind of recipe this is")
    tag: str = setting("", "name of this variant of the recipe, in place of a list of what was changed")

    def __post_init__(self) -> None:
        self.require(lambda value: value > 0, "must be positive", "epochs", "lr")
        self.require(lambda value: 0 <= value < 1, "must be at least 0 and less than 1", "warmup", "ema")
        self.require_one_of("precision", "fp32", "bf16")
        factor(self.schedule, 1.0, self.warmup)  # its error, now rather than in the first step
        names = ("weight", "output_weight", "weight_decay", "seed", "clip", "energies", "log_steps")
        self.require(lambda value: value is None or value >= 0, "must not be negative", *names)
        if self.tag and not re.fullmatch(r"[A-Za-z0-9._-]+", self.tag):
            raise UsageError(f"tag becomes part of a file name: letters, digits, '.', '_' and '-', not {self.tag!r}")

    def require(self, condition: Callable[[Any], bool], text: str, *names: str) -> None:
        """Raise UsageError for the first of the named fields that does not meet a condition."""
        for name in names:
            if not condition(value := getattr(self, name)):
                raise UsageError(f"{name} {text}, but is {value!r}")

    def require_one_of(self, name: str, *choices: str) -> None:
        """Raise UsageError unless a field has one of the values."""
        if getattr(self, name) not in choices:
            raise UsageError(f"{name} must be one of {', '.join(choices)}, not {getattr(self, name)!r}")

    def lr_at(self, step: int, steps: int) -> float:
        """Return the learning rate of one of the run's steps, counted from 0."""
        return self.lr * factor(self.schedule, step / steps, self.warmup)

    def model_arguments(self, **sizes: Any) -> dict[str, Any]:
        """Return the arguments of the model's builder, given those that the data set decides."""
        return sizes | self.model_options

    def weights(self) -> dict[str, float]:
        """Return the weights of the penalty that differ from the regularizer's own."""
        weights = {"weight": self.weight, "output_weight": self.output_weight}
        return {name: value for name, value in weights.items() if value is not None}

    @property
    def name(self) -> str:
        return f"{self.model}.{re.sub(r'[^A-Za-z0-9._-]+', '_', self.data)}-{self.regularizer}"

    def changes(self) -> dict[str, Any]:
        """Return the settings in which this differs from the named recipe (or from the defaults, if none has the name).

        Options of the model and the regularizer appear under their own names; an option that was dropped is None.
        """
        cell: dict[str, Any] = {"model": self.model, "data": self.data, "regularizer": self.regularizer}
        named = _domains[self.domain].recipes if self.domain in domains() else {}
        base = named[self.recipe](*cell.values()) if self.recipe in named else type(self)(**cell)
        found: dict[str, Any] = {}
        for name, value in vars(self).items():
            before = getattr(base, name)
            if name in IDENTITY or value == before:
                continue
            if not name.endswith("_options"):
                found[name] = value
                continue
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
        defaults = {f.name: f.default for f in dataclasses.fields(self)}
        later = [name for name in LATER_FIELDS if getattr(self, name) == defaults[name]]
        values = {name: value for name, value in dataclasses.asdict(self).items() if name not in later}
        return hashlib.sha256(_json(values).encode()).hexdigest()[:12]

    def replace(self, **changes: Any) -> Self:
        """Return a copy with some settings changed."""
        return dataclasses.replace(self, **changes)

    def to_json(self) -> str:
        """Return all settings as text, which :meth:`from_json` reads."""
        return _json(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what :meth:`to_json` wrote, with this version's fields or those of earlier ones.

        Raises:
            UsageError: the text is not a recipe of this kind.
        """
        values = _settings(text)
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
    optimizer: str = setting("sgd", "sgd, adam or adamw")
    momentum: float = setting(0.9, "of sgd")
    nesterov: bool = setting(True, "Nesterov's momentum")
    decay: str = setting("matrices", "weight decay on `matrices` only (no batch norm, no bias) or on `all`")
    label_smoothing: float = setting(0.0, "share of the target that is spread over all classes")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_one_of("optimizer", "sgd", "adam", "adamw")
        self.require_one_of("decay", "matrices", "all")
        self.require(lambda value: value >= 1, "must be at least 1", "batch_size", "accumulate")
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
_providers: list[Callable[[], None]] = []  # called once, before anything is looked up


def provide_domains(load: Callable[[], None]) -> Callable[[], None]:
    """Have a function called before the first domain or recipe is looked up; it registers some."""
    _providers.append(load)
    return load


def register_domain(recipe: type[Recipe], task: Callable[..., Any], *named: Callable[[str, str, str], Any]) -> None:
    """Make recipes of a class trainable; its default ``domain`` is the domain's name.

    Args:
        recipe: a frozen dataclass derived from :class:`Recipe` or :class:`BatchRecipe`.
        task: a class of :class:`comhe.train.task.Task`, called with recipe, root, device and context.
        named: functions to register as its recipes, see :func:`register_recipe`; the first is the usual one.

    Raises:
        UsageError: the class has no default domain, or the domain is registered already.
    """
    name = recipe.domain
    if not name:
        raise UsageError(f"{recipe.__name__} needs a default for its field `domain`")
    if name in _domains:
        raise UsageError(f"domain {name!r} is already registered, by {_domains[name].recipe.__name__}")
    _domains[name] = Domain(recipe, task)
    for function in named:
        register_recipe(function)


def domains() -> list[str]:
    """Return the names of the domains that can be trained on.

    Example:
        >>> domains()
        ['images', 'points', 'graphs']
    """
    while _providers:
        _providers.pop(0)()
    return list(_domains)


def find_domain(name: str) -> Domain:
    """Return a domain by name.

    Raises:
        UsageError: there is no such domain.
    """
    if name not in domains():
        hint = f"the domains that can are {', '.join(_domains)}; register_model(domain=...) says which a model is for"
        raise UsageError(f"{name!r} models cannot be trained; {hint}")
    return _domains[name]


def recipe_class(domain: str) -> type[Recipe]:
    """Return the class of a domain's recipes.

    Raises:
        UsageError: there is no such domain.
    """
    return find_domain(domain).recipe


def read_recipe(text: str) -> Recipe:
    """Read a ``recipe.json`` of any domain.

    Raises:
        UsageError: it is not a recipe.
    """
    values = _settings(text)
    return recipe_class(values.get("domain") or model_domain(values.get("model", ""))).from_json(text)


def register_recipe(recipe: Any) -> Any:
    """Make a recipe known by its name, in its domain.

    Args:
        recipe: settings that do for any model, data set and regularizer of the domain, under the name in their field
            ``recipe``; or a function (used as a decorator) of these three names that returns the settings, under its
            own name, its domain being that of the recipe class in its return annotation.

    Returns:
        The argument.

    Raises:
        UsageError: the domain has a recipe of that name, or the function does not say which kind it returns.

    Example:
        >>> from comhe.train import ImageRecipe
        >>> register_recipe(ImageRecipe(recipe="brief", epochs=3))  # doctest: +ELLIPSIS
        ImageRecipe(recipe='brief', ...
        >>> get_recipe("brief", "resnet20", "glyphs", "hs-mhe").epochs
        3
    """
    if isinstance(recipe, Recipe):
        name, domain = recipe.recipe, recipe.domain

        def build(model: str, data: str, regularizer: str) -> Recipe:
            return recipe.replace(model=model, data=data, regularizer=regularizer)

    else:
        name, build = recipe.__name__, recipe
        kind = inspect.signature(recipe, eval_str=True).return_annotation
        if not (isinstance(kind, type) and issubclass(kind, Recipe)):
            raise UsageError(f"{name}() needs the class of the recipes that it returns as its return annotation")
        domain = kind.domain
    known = find_domain(domain).recipes
    if name in (*known, "custom"):
        raise UsageError(f"the name {name!r} of a recipe for {domain} is taken; choose another one")
    known[name] = build
    return recipe


def list_recipes(domain: str | None = None) -> list[str]:
    """Return the names of a domain's recipes, the usual one first; without a domain, of all.

    Example:
        >>> list_recipes("graphs")
        ['kipf', 'tuned']
    """
    names = domains() if domain is None else [domain]
    return list(dict.fromkeys(name for each in names for name in find_domain(each).recipes))


def get_recipe(name: str | None, model: str, data: str, regularizer: str, **changes: Any) -> Recipe:
    """Return the recipe ``name`` (None: the domain's usual one) for a model, a data set and a regularizer.

    Args:
        changes: settings other than the recipe's.

    Raises:
        UsageError: an unknown name (the nearest are listed), a recipe of another domain than the model's, or a setting
            that is unknown or out of range.

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
    for setting_name in changes:
        if setting_name not in settings:
            raise UsageError(
                f"{type(recipe).__name__} has no setting {setting_name!r}; {did_you_mean(setting_name, settings)}"
            )
    return recipe.replace(**changes)


def cell_settings(model: str, data: str, regularizer: str) -> dict[str, Any]:
    """Return the settings that name what is trained, as the built-in recipes have them.

    Drawn in the span of the neurons the energies of ``rp-comhe`` have the same distribution, in less time.
    """
    options = {"span": True} if regularizer == "rp-comhe" else {}
    return {"model": model, "data": data, "regularizer": regularizer, "regularizer_options": options}


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return the end of an error message: the nearest of the known names, or all of them."""
    known = list(known)
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.4)
    return f"did you mean {', '.join(near)}?" if near else f"there are {', '.join(known) or 'none'}"


def _settings(text: str) -> dict[str, Any]:
    values = json.loads(text)
    if not isinstance(values, dict):
        raise UsageError(f"not a recipe, but a {type(values).__name__}")
    return values


def _json(values: dict[str, Any]) -> str:
    return json.dumps(values, indent=2) + "\n"
