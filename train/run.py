"""The run folder: everything there is to know about one training, in files that anybody can read."""

from __future__ import annotations

import csv
import json
import os
import platform
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from comhe.zoo import model_domain

from .domains import recipe_class
from .log import Log
from .recipe import Recipe

FORMAT = 3


class Run:
    """A folder with these files, each written whole or not at all:

    ==================  ==================================================================================
    recipe.json         every setting
    environment.json    commit, versions, machine, threads
    metrics.csv         one line an epoch
    energies.csv        diagnostics of every layer, where the recipe asks for them
    steps.csv           single steps, where the recipe asks for them
    checkpoint.pt       what a restart needs; gone once the run is done
    last.safetensors    weights after the last epoch
    best.safetensors    weights of the epoch with the best validation accuracy
    result.json         the figures of both, and what the model was built with; it is there once the run is done
    ==================  ==================================================================================
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    @property
    def done(self) -> bool:
        return (self.folder / "result.json").exists()

    def start(self, recipe: Recipe) -> None:
        """Make the folder, or take it up again; a folder of another recipe is an error."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / "recipe.json"
        if path.exists() and path.read_text() != recipe.to_json():
            raise ValueError(f"{self.folder} holds a run of another recipe; choose another folder or remove it")
        write(path, recipe.to_json())
        write(self.folder / "environment.json", json.dumps(environment(), indent=2) + "\n")

    def recipe(self) -> Recipe:
        """The recipe, of the class that belongs to its model's domain."""
        path = self.folder / "recipe.json"
        if not path.exists():
            raise ValueError(f"{self.folder} is not a run folder: it has no recipe.json")
        text = path.read_text()
        return recipe_class(model_domain(json.loads(text)["model"])).from_json(text)

    def environment(self) -> dict[str, Any]:
        """Commit, versions and machine of the run."""
        path = self.folder / "environment.json"
        if not path.exists():
            raise ValueError(f"{self.folder} has no environment.json")
        return json.loads(path.read_text())

    def save_checkpoint(self, state: dict[str, Any]) -> None:
        path = self.folder / "checkpoint.pt"
        torch.save({"format": FORMAT, **state}, path.with_suffix(".part"))
        os.replace(path.with_suffix(".part"), path)

    def load_checkpoint(self) -> dict[str, Any] | None:
        path = self.folder / "checkpoint.pt"
        if not path.exists():
            return None
        state = torch.load(path, weights_only=True, map_location="cpu")
        if state.get("format") != FORMAT:
            raise ValueError(f"{path} has format {state.get('format')}, this version reads {FORMAT}")
        return state

    def save_weights(self, which: str, state: Mapping[str, Tensor]) -> None:
        path = self.folder / f"{which}.safetensors"
        save_file(
            {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}, path.with_suffix(".part")
        )
        os.replace(path.with_suffix(".part"), path)

    def weights(self, which: str) -> dict[str, Tensor]:
        path = self.folder / f"{which}.safetensors"
        if not path.exists():
            raise ValueError(f"{self.folder} has no {which}.safetensors; the run is not done")
        return load_file(path)

    def save_log(self, log: Log) -> None:
        """Write the tables of a log."""
        for name, rows in log.tables().items():
            part = self.folder / f"{name}.part"
            with part.open("w", newline="") as file:
                writer = csv.DictWriter(file, fieldnames=list(rows[0]), lineterminator="\n")
                writer.writeheader()
                writer.writerows({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()} for row in rows)
            os.replace(part, self.folder / f"{name}.csv")

    def finish(self, result: dict[str, Any]) -> None:
        """Write the result, last of all."""
        write(self.folder / "result.json", json.dumps(result, indent=2) + "\n")
        (self.folder / "checkpoint.pt").unlink(missing_ok=True)

    def result(self) -> dict[str, Any]:
        path = self.folder / "result.json"
        if not path.exists():
            raise ValueError(f"{self.folder} has no result.json: the run was not made or is not done")
        return json.loads(path.read_text())


def write(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    part = path.with_name(path.name + ".part")
    part.write_text(text)
    os.replace(part, path)


_ENVIRONMENT: dict[str, Any] = {}


def environment() -> dict[str, Any]:
    """Commit, versions and machine, asked for once in a process."""
    if not _ENVIRONMENT:
        here = Path(__file__).parent
        git = subprocess.run(
            ["git", "-C", str(here), "describe", "--always", "--dirty", "--exclude=*"], capture_output=True, text=True
        )
        _ENVIRONMENT.update(
            commit=git.stdout.strip() or "unknown",
            python=platform.python_version(),
            torch=torch.__version__,
            processor=processor(),
            threads=torch.get_num_threads(),
            device=torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        )
    return dict(_ENVIRONMENT)


def processor() -> str:
    """The processor's own name where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0]}, {len(names)} cores" if names else platform.machine()
