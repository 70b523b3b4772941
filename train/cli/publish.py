from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from .options import Computing, Overwrite, require_new


@dataclass(frozen=True, kw_only=True)
class Publish(Computing):
    """Make pretrained weights from runs of one recipe: those of the best seed on validation, with a card over all."""

    examples = ("comhe publish runs/kipf/gcn.cora-rp-comhe/seed* --output my-weights",)

    folders: Annotated[Positional[tuple[Path, ...]], arg(help="run folders, one for each seed")]
    output: Annotated[
        Path, arg(metavar="FOLDER", help="folder for the weights and the card; zoo/pretrained for those of the package")
    ]
    suffix: Annotated[
        str,
        arg(metavar="TEXT", help="appended to the name, to tell recipes apart", help_behavior_hint="the recipe's tag"),
    ] = ""
    overwrite: Overwrite = False

    def run(self) -> None:
        from comhe.train.compare.publish import card_path, publish, same_recipe
        from comhe.train.runs.run import Run
        from comhe.zoo import get_weights

        runs = [Run(folder) for folder in self.folders]
        path = card_path(same_recipe(runs)[0], self.output, self.suffix)
        require_new(path, self.overwrite, "tell these weights apart with --suffix")
        card = get_weights(publish(runs, self.output, self.suffix, self.data_root, self.device)).card
        over = card["seeds"]["best"]["test_accuracy"]
        deviation = "" if over["std"] is None else f" ± {100 * over['std']:.2f}"
        best = f"test {100 * card['metrics']['test']['accuracy']:.2f} % (seed {card['seed']}"
        mean = f"{100 * over['mean']:.2f}{deviation} % over {card['seeds']['n']})"
        print(f"{card['name']}: {best}; {mean}, {card['bytes'] / 1e3:,.0f} kB")
