"""Records: the figures of one finished run as a flat dictionary, and the CSV files they are kept in."""

import csv
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from comhe.errors import RunError
from comhe.train.recipe import Recipe
from comhe.train.runs.run import Run

Record = dict[str, Any]

EPOCHS = {"last": "last epoch", "best": "validation-selected"}
CELL = ("recipe", "model", "data", "regularizer")  # with the variant, what the runs of one row share
_TEXT = (*CELL, "settings", "variant", "training", "device")
_INTEGER = ("seed", *(f"{epoch}_epoch" for epoch in EPOCHS))
_ACCURACIES = tuple(f"{epoch}_{split}" for epoch in EPOCHS for split in ("val", "test"))
REQUIRED = (*CELL, "seed", *_ACCURACIES, "seconds")


def cell_of(record: Record) -> tuple[str, ...]:
    """Return what the runs of one row have in common: recipe, model, data, regularizer and variant."""
    return (*(record[key] for key in CELL), record.get("variant") or "")


def run_of(record: Record) -> tuple[str, ...]:
    """Return what no other run has: the cell and the seed, as text."""
    return (*cell_of(record), str(record["seed"]))


def settings_text(changes: Mapping[str, Any]) -> str:
    """Write settings as ``--settings`` takes them, in the order of their names."""
    return " ".join(f"{name}={value}" for name, value in sorted(changes.items()))


def variant_of(recipe: Recipe) -> str:
    """Return what tells the run from one of the named recipe: its tag, else the settings that differ."""
    return recipe.tag or settings_text(recipe.changes())


def training_of(recipe: Recipe) -> str:
    """Return those of the settings that differ which a run without the regularizer shares."""
    penalty = {"weight", "output_weight", *recipe.layer_weights, *recipe.regularizer_options}
    return settings_text({name: value for name, value in recipe.changes().items() if name not in penalty})


def record_of(run: Run) -> Record:
    """Return the figures of a finished run; a run of an older version has no costs and energies."""
    recipe, result = run.recipe(), run.result()
    record: Record = {key: getattr(recipe, key) for key in (*CELL, "seed")}
    for epoch in EPOCHS:
        record[f"{epoch}_epoch"] = result[epoch]["epoch"]
        record[f"{epoch}_val"] = 100 * result[epoch]["val_accuracy"]
        record[f"{epoch}_test"] = 100 * result[epoch]["test_accuracy"]
    record["seconds"] = result["seconds"]
    if "flops" in result:
        record |= {"device": device_of(run), "other_cores": result.get("other_cores")}
        record |= {"parameters": result["parameters"], "gflops": result["flops"] / 1e9}
        record |= {f"{what}_ms": 1e3 * result[f"{what}_seconds"] for what in ("step", "penalty")}
        for when in ("start", *EPOCHS):
            layers = result[when]["energy"].values()
            for role, space in (("hidden", "half"), ("output", "full")):
                energies = [layer[space] for layer in layers if layer["role"] == role]
                record[f"{when}_{role}"] = sum(energies) / len(energies) if energies else None
    return record | {"settings": recipe.digest, "variant": variant_of(recipe), "training": training_of(recipe)}


def device_of(run: Run) -> str:
    """Return the name of what computed the run: the GPU, or the processor."""
    try:
        found = run.environment()
    except RunError:  # of an older version
        return ""
    return str(found.get("processor") if found.get("device", "cpu") == "cpu" else found["device"])


def read_records(path: Path) -> list[Record]:
    """Read a file ``*-runs.csv``; an empty number is None, and a column that older files lack is absent."""

    def value(key: str, text: str) -> Any:
        if key in _TEXT:
            return text
        if text == "":
            return None
        if key == "parameters":
            return round(float(text))  # older files have six digits of it
        return int(text) if key in _INTEGER else float(text)

    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file, restval=None))
    except (OSError, ValueError, csv.Error) as error:
        raise RunError(f"{path}: not a table of runs ({' '.join(str(error).split())[:160]})") from error
    records = []
    for number, row in enumerate(rows, 2):
        try:
            if None in row or None in row.values():
                raise ValueError("another number of cells than its header")
            if missing := [key for key in CELL if key not in row]:
                raise ValueError(f"no column {', '.join(missing)}")
            record = {key: value(key, text) for key, text in row.items()}
            if wrong := [key for key in _ACCURACIES if key in row and not _is_number(record[key])]:
                raise ValueError(f"{wrong[0]} is {row[wrong[0]] or 'empty'}")
            if "seed" in row and (record["seed"] is None or record["seed"] < 0):
                raise ValueError(f"seed is {row['seed'] or 'empty'}")
            records.append(record)
        except ValueError as error:
            raise RunError(f"{path}: line {number} is not of a run: {error}") from error
    return records


def _is_number(value: Any) -> bool:
    return value is not None and math.isfinite(value)
