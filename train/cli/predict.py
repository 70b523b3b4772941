from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import Positional, arg

from comhe.errors import DataError, UsageError

from .console import tell
from .options import Computing, Json, Overwrite, WhichWeights, print_json, require_card, require_new

if TYPE_CHECKING:
    from comhe.train.predict import Prediction

COLUMNS = ("input", "rank", "class", "probability")
SHOWN = 20  # nodes of a graph that are printed; all of them are written


@dataclass(frozen=True, kw_only=True)
class Predict(Computing):
    """Predict the classes of pictures, of point clouds or of the nodes of a graph."""

    examples = (
        "comhe predict airbench94.cifar10-rp-comhe photo.jpg more-photos",
        "comhe predict gcn.citations-rp-comhe citations --output classes.csv",
    )

    source: Annotated[
        Positional[str],
        arg(metavar="WEIGHTS", help="a name of `comhe list weights`, a published file, or a run folder"),
    ]
    files: Annotated[
        Positional[tuple[str, ...]],
        arg(help="pictures or clouds, or folders of them; for a graph network one graph file, or a name of a data set"),
    ]
    top: Annotated[int, arg(metavar="N", help="how many of the likeliest classes to tell")] = 3
    output: Annotated[
        Path | None,
        arg(metavar="FILE", help="a CSV file to write: a line for each input and class", help_behavior_hint="none"),
    ] = None
    overwrite: Overwrite = False
    up: Annotated[
        Literal["x", "y", "z"] | None,
        arg(metavar="{x,y,z}", help="axis that points up in clouds", help_behavior_hint="the one of the weights"),
    ] = None
    weights: WhichWeights = "best"
    json: Json = False

    def run(self) -> None:
        from comhe.train.predict import open_graph, open_weights, predict_files, predict_nodes
        from comhe.zoo.state import weights_file

        if self.output is not None:
            require_new(self.output, self.overwrite)
        advice = "give a published file, or evaluate one of others: comhe evaluate FILE --model NAME --data NAME"
        require_card(self.source, advice)
        weights = open_weights(self.source, self.weights)
        if not weights_file(self.source).is_dir():
            self.only_for("a run", "weights")
        if not self.files:
            raise UsageError("name what to predict: files, folders, or a graph")
        shown = None
        if weights.card["preprocessing"]["kind"] == "graphs":
            if len(self.files) > 1:
                raise UsageError(f"{weights.name} predicts the nodes of one graph, not of {len(self.files)}")
            self.only_for("point clouds", "up")
            if self.device != "cpu":
                self.only_for("pictures and clouds, as nodes are predicted on the CPU", "device")
            graph = open_graph(weights, self.files[0], self.data_root)
            found: Iterable[Prediction] = predict_nodes(weights, graph, self.top)
            shown = SHOWN
        else:
            found = predict_files(weights, self.files, self.top, self.up, self.device)
        self.tell(list(found), shown)

    def tell(self, predictions: "list[Prediction]", shown: int | None) -> None:
        """Print predictions and write them; DataError for inputs that could not be read, once the others are told."""
        from comhe.train.runs.files import write_csv

        good = [each for each in predictions if not each.error]
        if self.json:
            pairs_of = {each.name: zip(each.classes, each.probabilities, strict=True) for each in good}
            found = {name: [{"class": c, "probability": p} for c, p in pairs] for name, pairs in pairs_of.items()}
            print_json([{"input": name, "classes": classes} for name, classes in found.items()])
            shown = 0
        for each in good[:shown]:
            pairs = zip(each.classes, each.probabilities, strict=True)
            figures = ", ".join(f"{label} {100 * p:.1f} %" for label, p in pairs)
            print(f"{each.name}: {figures}")
        if shown and len(good) > shown:
            print(f"and {len(good) - shown:,} more nodes; --output FILE.csv writes all of them")
        if self.output is not None:
            rows = [
                {"input": each.name, "rank": rank, "class": label, "probability": p}
                for each in good
                for rank, (label, p) in enumerate(zip(each.classes, each.probabilities, strict=True), 1)
            ]
            write_csv(self.output, rows, COLUMNS)
            write = tell if self.json else print
            write(f"{self.output}: the classes of {len(good):,} input{'s' * (len(good) != 1)}")
        if bad := [each for each in predictions if each.error]:
            raise DataError("; ".join(each.error for each in bad[:5]) + (f"; and {len(bad) - 5} more" * (len(bad) > 5)))
