"""What a regularizer does to a model, layer by layer, for a person to read."""

from dataclasses import dataclass

from .diagnostics import TITLES, Diagnostics
from .selection import Skipped


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


@dataclass(frozen=True)
class Report:
    """Every layer that is regularized, every one that is not, and why. ``print`` it."""

    title: str
    layers: tuple[LayerReport, ...]
    skipped: tuple[Skipped, ...]

    def __str__(self) -> str:
        rows = [["layer", "role", "neurons", "weight", "penalty", *TITLES, "output layer found"]]
        for row in self.layers:
            shape = " x ".join(map(str, row.shape))
            cells = row.name or "(the model)", row.role, shape, f"{row.weight:g}", f"{row.penalty:.5g}"
            rows.append([*cells, *row.diagnostics.cells(), row.found])
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
        skipped = [f"skipped {item.name or '(the model)'}: {item.reason}" for item in self.skipped]
        return "\n".join([self.title, *lines, *skipped])
