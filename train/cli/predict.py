from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from comhe.errors import DataError, UsageError
from comhe.train.predict import Prediction, open_graph, open_weights, predict_files, predict_nodes
from comhe.train.runs.files import write_csv

from .console import console
from .options import Command, DataRoot, Device, Threads, WhichWeights

COLUMNS = ("input", "rank", "class", "probability")
SHOWN = 20  # nodes of a graph that are printed; all of them are written


@dataclass(frozen=True, kw_only=True)
class Predict(Command):
    """Predict the classes of pictures, point clouds or the nodes of a graph."""

    source: Annotated[Positional[str], arg(help="a name of `comhe list weights`, a published file, or a run folder")]
    files: Annotated[
        Positional[tuple[str, ...]],
        arg(help="pictures or clouds, or folders of them; for a graph network one graph file, or a name of a data set"),
    ]
    top: Annotated[int, arg(help="how many of the likeliest classes to tell")] = 3
    output: Annotated[Path | None, arg(help="a CSV file to write: one line for each input and class")] = None
    up: Annotated[Literal["x", "y", "z"] | None, arg(help="axis that points up in clouds, if it is another one")] = None
    weights: WhichWeights = "best"
    data_root: DataRoot = None
    device: Device = "auto"
    threads: Threads = None

    def run(self) -> None:
        weights = open_weights(self.source, self.weights)
        if not self.files:
            raise UsageError("name what to predict: files, folders, or a graph")
        shown = None
        if weights.card["preprocessing"]["kind"] == "graphs":
            if len(self.files) > 1:
                raise UsageError(f"{weights.name} predicts the nodes of one graph, not of {len(self.files)}")
            graph = open_graph(weights, self.files[0], self.data_root)
            found: Iterable[Prediction] = predict_nodes(weights, graph, self.top)
            shown = SHOWN
        else:
            found = predict_files(weights, self.files, self.top, self.up, self.device)
        self.tell(list(found), shown)

    def tell(self, predictions: list[Prediction], shown: int | None) -> None:
        """Print predictions and write them; DataError for inputs that could not be read, once the others are told."""
        good = [each for each in predictions if not each.error]
        for each in good[:shown]:
            pairs = zip(each.classes, each.probabilities, strict=True)
            figures = ", ".join(f"{label} {100 * p:.1f} %" for label, p in pairs)
            console.print(f"{each.name}: {figures}", soft_wrap=True, markup=False)
        if len(good) > len(good[:shown]):
            console.print(f"and {len(good) - SHOWN:,} more nodes; --output FILE.csv writes all of them")
        if self.output is not None:
            rows = [
                {"input": each.name, "rank": rank, "class": label, "probability": p}
                for each in good
                for rank, (label, p) in enumerate(zip(each.classes, each.probabilities, strict=True), 1)
            ]
            write_csv(self.output, rows, COLUMNS)
            console.print(f"{self.output}: the classes of {len(good):,} input{'s' * (len(good) != 1)}", soft_wrap=True)
        if bad := [each for each in predictions if each.error]:
            raise DataError("; ".join(each.error for each in bad[:5]) + (f"; and {len(bad) - 5} more" * (len(bad) > 5)))
