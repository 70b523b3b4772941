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


@dataclass(frozen=True)
class Report:
    """Every layer that is regularized, every one that is not, and why. ``print`` it."""

    title: str
    layers: tuple[LayerReport, ...]
    skipped: tuple[Skipped, ...]

    def __str__(self) -> str:
        header = ("layer", "role", "neurons", "weight", "penalty", *TITLES)
        rows = [
            (
                row.name or "(the model)",
                row.role,
                " x ".join(map(str, row.shape)),
                f"{row.weight:g}",
                f"{row.penalty:.5g}",
                *row.diagnostics.cells(),
            )
            for row in self.layers
        ]
        widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in [header, *rows]
        ]
        skipped = [f"skipped {item.name or '(the model)'}: {item.reason}" for item in self.skipped]
        return "\n".join([self.title, *(line.rstrip() for line in lines), *skipped])
