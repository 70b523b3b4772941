from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import Positional, arg

from comhe.errors import ComheError, UsageError
from comhe.train.compare.publish import evaluate, recipe_of
from comhe.train.runs.run import Run
from comhe.zoo import get_weights

from .console import console
from .options import Command, DataRoot, Device, WhichWeights


@dataclass(frozen=True, kw_only=True)
class Evaluate(Command):
    """Evaluate pretrained weights, or those of a run; for the former it says whether the metrics are the card's."""

    source: Annotated[Positional[str], arg(help="a name of `comhe list weights`, a published file, or a run folder")]
    data: Annotated[str | None, arg(help="another data set, with the same features and classes")] = None
    weights: WhichWeights = "best"
    data_root: DataRoot = None
    device: Device = "cpu"

    def run(self) -> None:
        card: dict[str, Any] = {}
        if Path(self.source).is_dir():
            run = Run(self.source)
            recipe, state = run.recipe(), run.weights(self.weights)
        else:
            try:
                weights = get_weights(self.source)
            except ComheError as error:
                raise UsageError(f"{self.source!r} is not a run folder, and {error}") from error
            recipe, state = recipe_of(weights), weights.state_dict()
            card = weights.card["metrics"] if self.data is None else {}
        recipe = recipe if self.data is None else recipe.replace(data=self.data)
        for split, metrics in evaluate(recipe, state, self.data_root, self.device).items():
            comment = ""
            if card:
                is_equal = metrics["accuracy"] == card[split]["accuracy"]
                comment = ", as its card says" if is_equal else f"; its card says {100 * card[split]['accuracy']:.2f} %"
            figures = f"accuracy {100 * metrics['accuracy']:.2f} %, loss {metrics['loss']:.4f}"
            console.print(f"{recipe.data} {split}: {figures}{comment}", soft_wrap=True)
