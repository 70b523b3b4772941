"""The run folder: everything there is to know about one training, in files that anybody can read."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import pickle
import platform
import subprocess
import zipfile
from collections.abc import Mapping
from contextlib import AbstractContextManager
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from comhe.errors import RunError
from comhe.train.engine.log import Log
from comhe.train.recipe import Recipe, read_recipe
from comhe.zoo import read_state

from .files import whole, write
from .lock import locked

FORMAT = 5


class Run:
    """A folder with these files, each written whole or not at all:

    ==================  ==================================================================================
    recipe.json         every setting
    environment.json    commit, versions, machine, threads
    metrics.csv         one line an epoch
    energies.csv        diagnostics of every layer, where the recipe asks for them
    steps.csv           single steps, where the recipe asks for them
    checkpoint.pt       what a restart needs; gone once the run is done
    failure.txt         why the run has diverged, where it has
    lock                held by the process at work
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
        """Prepare the folder for a run, or for going on with what an interrupted process has left of it.

        Raises:
            RunError: the folder contains the run of another recipe, of which at least an epoch has finished.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        self.check(recipe)
        self._sweep()
        if self._recorded() not in (None, recipe):
            (self.folder / "checkpoint.pt").unlink(missing_ok=True)  # of the other recipe's first epoch
        (self.folder / "failure.txt").unlink(missing_ok=True)
        write(self.folder / "recipe.json", recipe.to_json())
        write(self.folder / "environment.json", json.dumps(environment(), indent=2) + "\n")

    def check(self, recipe: Recipe) -> None:
        """Raise RunError if the folder contains the run of another recipe, of which at least an epoch has finished."""
        other = self._recorded()
        if other in (None, recipe) or not (self.done or (self.folder / "metrics.csv").exists()):
            return
        differing = [
            f"{name} ({getattr(other, name, 'not set')!r}, not {value!r})"
            for name, value in vars(recipe).items()
            if value != getattr(other, name, None)
        ]
        raise RunError(
            f"{self.folder} contains the run of another recipe; they differ in {', '.join(differing) or 'their kind'}. "
            "Choose another folder, give the recipe a tag, or remove the folder"
        )

    def _recorded(self) -> Recipe | None:
        return self.recipe() if (self.folder / "recipe.json").exists() else None

    def tidy(self) -> None:
        """Remove what a process has left that was killed when the run was all but done; no matter if nothing can be
        removed there."""
        with contextlib.suppress(OSError), self.locked():
            self._sweep()

    def _sweep(self) -> None:
        for part in self.folder.glob("*.part"):
            part.unlink(missing_ok=True)
        if self.done:
            (self.folder / "checkpoint.pt").unlink(missing_ok=True)

    def locked(self) -> AbstractContextManager[None]:
        """Make the folder and keep other processes out of it; BlockingIOError if one is there."""
        self.folder.mkdir(parents=True, exist_ok=True)
        return locked(self.folder)

    def recipe(self) -> Recipe:
        """Return the recipe, of the class that belongs to its domain."""
        path = self.folder / "recipe.json"
        if not path.exists():
            raise RunError(f"{self.folder} is not a run folder: it has no recipe.json")
        try:
            return read_recipe(path.read_text())
        except ValueError as error:
            raise RunError(f"{path}: {error}") from error

    def environment(self) -> dict[str, Any]:
        """Commit, versions and machine of the run."""
        path = self.folder / "environment.json"
        if not path.exists():
            raise RunError(f"{self.folder} has no environment.json")
        return json.loads(path.read_text())

    def save_checkpoint(self, state: dict[str, Any]) -> None:
        """Write what a restart needs; until it is whole and on the disk the former checkpoint stays."""
        with whole(self.folder / "checkpoint.pt", sync=True) as file:
            torch.save({"format": FORMAT, "recipe": self._recipe_text(), **state}, file)

    def load_checkpoint(self) -> dict[str, Any] | None:
        """The last checkpoint, if there is one.

        Raises:
            ValueError: it is damaged, of another version, or of another recipe.
        """
        path = self.folder / "checkpoint.pt"
        if not path.exists():
            return None
        try:
            with zipfile.ZipFile(path) as archive:  # torch.load does not look at the checksums
                damaged = archive.testzip()
            if damaged is not None:
                raise zipfile.BadZipFile(f"{damaged} does not have its checksum")
            state = torch.load(path, weights_only=True, map_location="cpu")
        except (zipfile.BadZipFile, zipfile.LargeZipFile, pickle.UnpicklingError, RuntimeError, EOFError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise RunError(f"{path} is damaged ({reason}); remove it, and the run begins anew") from error
        if not isinstance(state, dict) or state.get("format") != FORMAT:
            found = state.get("format") if isinstance(state, dict) else None
            raise RunError(
                f"{path} has format {found}, this version reads {FORMAT}: go on with the version that wrote it, or "
                "remove it, and the run begins anew"
            )
        if state.get("recipe") != self._recipe_text():
            raise RunError(f"{path} is of another recipe than recipe.json beside it; remove it")
        return state

    def _recipe_text(self) -> str:
        return (self.folder / "recipe.json").read_text()

    def save_weights(self, which: str, state: Mapping[str, Tensor]) -> None:
        data = save({name: tensor.detach().cpu().contiguous() for name, tensor in state.items()})
        with whole(self.folder / f"{which}.safetensors") as file:
            file.write(data)

    def weights(self, which: str) -> dict[str, Tensor]:
        path = self.folder / f"{which}.safetensors"
        if not path.exists():
            raise RunError(f"{self.folder} has no {which}.safetensors; the run is not done")
        return read_state(path)

    def save_log(self, log: Log) -> None:
        """Write the tables of a log."""
        for name, rows in log.tables().items():
            text = io.StringIO()
            writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()} for row in rows)
            write(self.folder / f"{name}.csv", text.getvalue())

    def fail(self, reason: str) -> None:
        """Note why the run cannot go on."""
        write(self.folder / "failure.txt", f"{reason}\n")

    def finish(self, result: dict[str, Any]) -> None:
        """Write the result, last of all."""
        write(self.folder / "result.json", json.dumps(result, indent=2) + "\n")
        (self.folder / "checkpoint.pt").unlink(missing_ok=True)

    def result(self) -> dict[str, Any]:
        path = self.folder / "result.json"
        if not path.exists():
            raise RunError(f"{self.folder} has no result.json: the run was not made or is not done")
        return json.loads(path.read_text())


def run_folder(root: Path, recipe: Recipe) -> Path:
    """Return the folder of a recipe's run: its recipe's name, its own label, its seed.

    Example:
        >>> from comhe.train import get_recipe
        >>> run_folder(Path("runs"), get_recipe("kipf", "gcn", "cora", "hs-mhe", epochs=20)).as_posix()
        'runs/kipf/gcn.cora-hs-mhe+epochs=20/seed0'
    """
    return root / recipe.recipe / recipe.label / f"seed{recipe.seed}"


class Onlooker(Run):
    """A run folder that another process writes, on a file system that both see."""

    def start(self, recipe: Recipe) -> None:
        if not (self.folder / "recipe.json").exists():
            raise RunError(
                f"{self.folder} is not seen on {platform.node()}: all machines of a run must see its --runs folder"
            )
        self.check(recipe)

    def locked(self) -> AbstractContextManager[None]:
        return contextlib.nullcontext()

    def save_checkpoint(self, state: dict[str, Any]) -> None:
        pass

    def save_weights(self, which: str, state: Mapping[str, Tensor]) -> None:
        pass

    def save_log(self, log: Log) -> None:
        pass

    def fail(self, reason: str) -> None:
        pass

    def finish(self, result: dict[str, Any]) -> None:
        pass


@cache
def environment() -> dict[str, Any]:
    """Return commit, versions and machine, determined once in a process."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--exclude=*"]
    return {
        "commit": subprocess.run(command, capture_output=True, text=True).stdout.strip() or "unknown",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "processor": processor(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
    }


def processor() -> str:
    """The processor's own name where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0]}, {len(names)} cores" if names else platform.machine()
