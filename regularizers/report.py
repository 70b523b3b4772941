"""What a regularizer does to a model, layer by layer, for a person to read."""

from dataclasses import dataclass

from .diagnostics import TITLES, Diagnostics
from .selection import Skipped, called


@dataclass(frozen=True)
class LayerReport:
    """One regularized layer: its weight in the loss, the penalty's value, and how its neurons lie, unprojected."""

    name: str
    role: str
    shape: tuple[int, ...]
    weight: float
    penalty: float
    diagnostics: Diagnostics
    found: str = ""  # how an output layer was recognized
    regularizer: str = ""  # which of several
    projected: bool | None = None  # whether it is seen through projections; None without a penalty that has some


@dataclass(frozen=True)
class Report:
    """Every layer that is regularized, every one that is not, and why. ``print`` it."""

    title: str
    layers: tuple[LayerReport, ...]
    skipped: tuple[Skipped, ...]

    def __str__(self) -> str:
        several = any(row.regularizer for row in self.layers)
        projects = any(row.projected is not None for row in self.layers)
        header = [
            "layer",
            *["regularizer"] * several,
            "role",
            "neurons",
            *["projected"] * projects,
            "weight",
            "penalty",
        ]
        header += TITLES
        rows = [[*header, "output layer found"]]
        for row in self.layers:
            shape = " x ".join(map(str, row.shape))
            name = [called(row.name), *[row.regularizer] * several]
            seen = [{True: "yes", False: "no", None: ""}[row.projected]] * projects
            cells = *name, row.role, shape, *seen, f"{row.weight:g}", f"{row.penalty:.5g}"
            rows.append([*cells, *row.diagnostics.cells(), row.found])
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
        names = {row.name for row in self.layers}
        what = [("note on" if item.name in names else "skipped", item) for item in self.skipped]
        skipped = [f"{word} {called(item.name)}: {item.reason}" for word, item in what]
        return "\n".join([self.title, *lines, *skipped])
