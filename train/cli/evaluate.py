from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import Positional, arg

from comhe.errors import ComheError, UsageError

from .arguments import in_flags
from .console import show_progress, tell
from .options import Computing, Group, Json, WhichWeights, print_json, require_card

OTHERS = Group("a file of another implementation")


@dataclass(frozen=True, kw_only=True)
class Evaluate(Computing):
    """Evaluate pretrained weights, those of a run, or a file of another implementation (with --model and --data).

    For pretrained weights it says whether the metrics are the card's.
    """

    examples = (
        "comhe evaluate gcn.citations-rp-comhe",
        "comhe evaluate runs/kipf/gcn.cora-none/seed0 --weights last",
        "comhe evaluate theirs.pth --model resnet20 --data cifar10",
    )

    source: Annotated[
        Positional[str],
        arg(metavar="WEIGHTS", help="a name of `comhe list weights`, a published file, a run folder or a state dict"),
    ]
    data: Annotated[
        str | None,
        arg(
            metavar="NAME",
            help="another data set, with the same features and classes",
            help_behavior_hint="what the weights were trained on",
        ),
    ] = None
    points: Annotated[
        int | None,
        arg(
            metavar="N",
            help="points of a cloud that the network sees",
            help_behavior_hint="as in training; 1024 for a file of others",
        ),
    ] = None
    weights: WhichWeights = "best"
    json: Json = False
    model: Annotated[str | None, arg(metavar="NAME", help="the network, a name of `comhe list models`"), OTHERS] = None
    model_options: Annotated[
        tuple[str, ...], arg(metavar="NAME=VALUE ...", help="options of the network (`comhe show model NAME`)"), OTHERS
    ] = ()
    normalization: Annotated[
        str | None,
        arg(
            metavar="NAME",
            help="of images: set, imagenet, ..., or 0.5,0.5,0.5/0.2,0.2,0.2",
            help_behavior_hint="found from the weights",
        ),
        OTHERS,
    ] = None
    key: Annotated[
        str | None, arg(metavar="NAME", help="which of several state dicts in the file, as state_dict_ema"), OTHERS
    ] = None

    def run(self) -> None:
        from comhe.train.compare.publish import check_split, evaluate, recipe_of
        from comhe.train.predict import open_weights
        from comhe.train.runs.run import Run
        from comhe.zoo.preprocessing import ImageTransform
        from comhe.zoo.state import weights_file

        if self.model is not None:
            self.only_for("a run", "weights")
            return self.evaluate_file(self.model)
        card: dict[str, Any] = {}
        if weights_file(self.source).is_dir():
            run = Run(self.source)
            recipe, state = run.recipe(), run.weights(self.weights)
            check_split(recipe, run.environment(), str(run.folder), self.data)
            weights = open_weights(self.source) if "preprocessing" in run.result() else None
        else:
            require_card(self.source, "of a file of others say the --model and the --data")
            try:
                weights = open_weights(self.source)
            except ComheError as error:
                raise UsageError(f"{self.source!r} is not a run folder, and {error}") from error
            recipe, state = recipe_of(weights, self.data), weights.state_dict()
            check_split(recipe, weights.card.get("trained", {}), weights.name, self.data)
            card = weights.card["metrics"] if self.data is self.points is None else {}
            self.only_for("a run", "weights")
        self.only_for("a file of another implementation, with --model", "model_options", "normalization", "key")
        if self.data is not None:
            recipe = recipe.replace(data=self.data)
            if weights is not None and isinstance(transform := weights.transforms(), ImageTransform):
                values = (",".join(map(repr, each)) for each in (transform.mean, transform.std))
                recipe = recipe.replace(normalization="/".join(values))
        recipe = self.seen(recipe)
        with show_progress("evaluate", "epoch"):
            notes, found = evaluate(recipe, state, self.data_root, self.device, weights)
        for note in notes:
            tell(note)
        if self.json:
            return print_json({"data": recipe.data, "metrics": found, "card": card or None})
        for split, metrics in found.items():
            comment = ""
            if card:
                is_equal = metrics["accuracy"] == card[split]["accuracy"]
                comment = ", as its card says" if is_equal else f"; its card says {100 * card[split]['accuracy']:.2f} %"
            figures = f"accuracy {100 * metrics['accuracy']:.2f} %, loss {metrics['loss']:.4f}"
            print(f"{recipe.data} {split}: {figures}{comment}")

    def seen(self, recipe: Any) -> Any:
        """The recipe with as many points of a cloud as were asked for."""
        if self.points is None:
            return recipe
        if not hasattr(recipe, "points"):
            raise UsageError(f"points is for point clouds, and {recipe.model} is a model for {recipe.domain}")
        return recipe.replace(points=self.points)

    def evaluate_file(self, model: str) -> None:
        from comhe.train.compare.foreign import evaluate_file
        from comhe.train.recipe import get_recipe
        from comhe.train.settings import parse_options

        if self.data is None:
            raise UsageError(f"say with --data what to evaluate {self.source} on")
        recipe = get_recipe(None, model, self.data, "none", model_options=parse_options(self.model_options))
        if self.normalization is not None and not hasattr(recipe, "normalization"):
            raise UsageError(f"normalization is for images, and {model} is a model for {recipe.domain}")
        recipe = self.seen(recipe)
        arguments = self.normalization, self.key, self.data_root, self.device
        with show_progress("evaluate", "epoch"):
            notes, metrics = evaluate_file(recipe, Path(self.source), *arguments)
        for note in notes:
            tell(in_flags(note, type(self)))
        if self.json:
            return print_json({"data": recipe.data, "metrics": {"test": metrics}})
        figures = f"accuracy {100 * metrics['accuracy']:.2f} %, loss {metrics['loss']:.4f}"
        print(f"{recipe.data} test: {figures}")
