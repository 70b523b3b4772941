"""The run folder: everything about one training, in files that anybody can read."""

import contextlib
import json
import pickle
import platform
import subprocess
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from comhe import __version__
from comhe.errors import RunError, few, first_line, warn
from comhe.inputs.files import ARCHIVE_ERRORS
from comhe.train.engine.log import Log
from comhe.train.hardware import processor, uses_bf16
from comhe.train.plugins import sources
from comhe.train.recipe import Recipe, read_recipe
from comhe.zoo import read_state

from .files import create_folder, open_atomic, write_csv, write_text
from .fingerprint import check_unchanged, data_digest
from .lock import locked

FORMAT = 6


class Run:
    """A folder with these files, each written completely or not at all:

    ==================  ==================================================================================
    recipe.json         every setting
    environment.json    version, commit, libraries, machine, threads, device, precision, data, plugins
    metrics.csv         one line an epoch
    energies.csv        diagnostics of every layer, where the recipe asks for them
    steps.csv           single steps, where the recipe asks for them
    checkpoint.pt       what a restart needs; gone once the run is done
    failure.txt         why the run has diverged, if it has
    lock                held by the process that works on the run
    last.safetensors    weights after the last epoch
    best.safetensors    weights of the epoch with the best validation accuracy
    result.json         the figures of both, and what the model was built with; it exists once the run is done
    ==================  ==================================================================================
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    @property
    def done(self) -> bool:
        return (self.folder / "result.json").exists()

    def start(self, recipe: Recipe, device: str | torch.device = "cpu") -> None:
        """Prepare the folder for a run, or for going on with what an interrupted process has left of it."""
        create_folder(self.folder)
        self.check(recipe)
        self._sweep()
        if self._other(recipe) is not None:
            (self.folder / "checkpoint.pt").unlink(missing_ok=True)  # of the other recipe's first epoch
        (self.folder / "failure.txt").unlink(missing_ok=True)
        write_text(self.folder / "recipe.json", recipe.to_json())
        here = environment(device, recipe.precision) | {"data": data_digest(recipe.dataset), "plugins": sources}
        write_text(self.folder / "environment.json", json.dumps(here, indent=2) + "\n")

    def follow(self, recipe: Recipe) -> None:
        """Check that the main rank, perhaps on another machine, has started this run in this folder."""
        if not (self.folder / "recipe.json").exists():
            hint = "all machines need the same --runs folder"
            raise RunError(f"{self.folder} does not exist on {platform.node()}: {hint}")
        self.check(recipe)

    def check(self, recipe: Recipe) -> None:
        """Raise RunError if the folder contains the run of another recipe, or of other data under the same name.

        It does so once an epoch has finished.
        """
        if not (self.done or (self.folder / "metrics.csv").exists()):
            return
        other = self._other(recipe)
        if other is None:
            self.check_plugins()
            return self.check_data(recipe, "choose another --runs folder, give the recipe a tag, or remove this folder")
        changed = {name: value for name, value in vars(recipe).items() if value != getattr(other, name, None)}
        differences = ", ".join(f"{k} ({getattr(other, k, 'not set')!r}, not {v!r})" for k, v in changed.items())
        hint = "Choose another folder, give the recipe a tag, or remove the folder"
        raise RunError(f"{self.folder} contains the run of another recipe; they differ in {differences}. {hint}")

    def check_data(self, recipe: Recipe, hint: str) -> None:
        """Raise RunError, with a hint at its end, if the files of its data have changed since it was started."""
        if data_digest(recipe.dataset):  # of other data nothing is recorded
            check_unchanged(recipe.dataset, self.environment().get("data"), str(self.folder), hint)

    def check_plugins(self) -> None:
        """Warn if modules of the user's have changed since the run was started."""
        path = self.folder / "environment.json"
        before = self.environment().get("plugins", {}) if path.exists() else {}
        if changed := [name for name, digest in sources.items() if before.get(name, digest) != digest]:
            hint = "if their figures depend on that, remove the runs, or give the recipe a tag"
            warn(f"since runs in {self.folder.parent} were started, {few(changed)} has changed; {hint}")

    def _other(self, recipe: Recipe) -> Recipe | None:
        """Return the recipe that the folder was started with, if it is another one."""
        path = self.folder / "recipe.json"
        if not path.exists() or path.read_text() == recipe.to_json():
            return None
        other = self.recipe()
        return None if other == recipe else other

    def tidy(self) -> None:
        """Remove what a process has left that was killed at the very end of the run, if the folder is writable."""
        with contextlib.suppress(OSError), self.locked():
            self._sweep()

    def _sweep(self) -> None:
        for part in self.folder.glob("*.part"):
            part.unlink(missing_ok=True)
        if self.done:
            (self.folder / "checkpoint.pt").unlink(missing_ok=True)

    def locked(self) -> AbstractContextManager[None]:
        """Create the folder and keep other processes out of it; BusyError if one works on it."""
        create_folder(self.folder)
        return locked(self.folder)

    @contextlib.contextmanager
    def claimed(self) -> Iterator[None]:
        """Create and lock the folder as :meth:`locked` does; if it is new and nothing was trained, remove it again."""
        new = create_folder(self.folder)
        try:
            with locked(self.folder):
                try:
                    yield
                except BaseException:
                    kept = ("metrics.csv", "checkpoint.pt", "failure.txt", "result.json")
                    if self.folder in new and not any((self.folder / name).exists() for name in kept):
                        for name in ("recipe.json", "environment.json"):
                            (self.folder / name).unlink(missing_ok=True)
                    raise
        except BaseException:
            with contextlib.suppress(OSError):  # not empty: what is in it is worth keeping
                for folder in new:
                    folder.rmdir()
            raise

    def recipe(self) -> Recipe:
        """Return the recipe, of the class that belongs to its domain."""
        path = self._existing("recipe.json", "")
        try:
            return read_recipe(path.read_text())
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            advice = "remove the folder, and train the run again"
            raise RunError(f"{path}: damaged ({first_line(error)}); {advice}") from error
        except (ValueError, TypeError) as error:
            raise RunError(f"{path}: {error}") from error

    def environment(self) -> dict[str, Any]:
        return self._json("environment.json", "has no environment.json")

    def save_checkpoint(self, state: dict[str, Any]) -> None:
        """Write what a restart needs; until it is on the disk the previous checkpoint stays."""
        with open_atomic(self.folder / "checkpoint.pt", sync=True) as file:
            torch.save({"format": FORMAT, "recipe": self._recipe_text(), **state}, file)

    def load_checkpoint(self) -> dict[str, Any] | None:
        """Return the last checkpoint, if there is one; RunError if it is damaged, or of another version or recipe."""
        path = self.folder / "checkpoint.pt"
        if not path.exists():
            return None
        try:
            with zipfile.ZipFile(path) as archive:  # torch.load does not look at the checksums
                damaged = archive.testzip()
            if damaged is not None:
                raise zipfile.BadZipFile(f"{damaged} does not have its checksum")
            state = torch.load(path, weights_only=True, map_location="cpu")
        except (*ARCHIVE_ERRORS, zipfile.LargeZipFile, pickle.UnpicklingError) as error:
            reason = first_line(error)
            raise RunError(f"{path} is damaged ({reason}); remove it, and the run starts again") from error
        if (found := state.get("format") if isinstance(state, dict) else None) != FORMAT:
            hint = "continue with the version that wrote it, or remove it, and the run starts again"
            raise RunError(f"{path} has format {found}, this version reads {FORMAT}: {hint}")
        if state["recipe"] != self._recipe_text():
            raise RunError(f"{path} is of another recipe than recipe.json in the same folder; remove it")
        return state

    def _recipe_text(self) -> str:
        return (self.folder / "recipe.json").read_text()

    def save_weights(self, which: str, state: Mapping[str, Tensor]) -> None:
        data = save({name: tensor.detach().cpu().contiguous() for name, tensor in state.items()})
        with open_atomic(self.folder / f"{which}.safetensors") as file:
            file.write(data)

    def weights(self, which: str) -> dict[str, Tensor]:
        """Return the ``last`` or ``best`` weights."""
        name = f"{which}.safetensors"
        return read_state(self._existing(name, f"has no {name}; the run is not done"))

    def save_log(self, log: Log) -> None:
        for name, rows in log.tables().items():
            write_csv(self.folder / f"{name}.csv", rows)

    def fail(self, reason: str) -> None:
        write_text(self.folder / "failure.txt", f"{reason}\n")

    def finish(self, result: dict[str, Any]) -> None:
        """Write the result, last of all."""
        write_text(self.folder / "result.json", json.dumps(result, indent=2) + "\n")
        (self.folder / "checkpoint.pt").unlink(missing_ok=True)

    def result(self) -> dict[str, Any]:
        """Return the figures of the last epoch and of the one that validation selected."""
        return self._json("result.json", "has no result.json: the run is not done")

    def _json(self, name: str, otherwise: str) -> dict[str, Any]:
        path = self._existing(name, otherwise)
        try:
            found = json.loads(path.read_text())
        except ValueError as error:
            raise RunError(f"{path} is damaged ({error}); remove the folder, and train the run again") from error
        if not isinstance(found, dict):
            raise RunError(f"{path} is damaged: it has a {type(found).__name__}, not settings by name")
        return found

    def _existing(self, name: str, otherwise: str) -> Path:
        path = self.folder / name
        if path.exists():
            return path
        if not self.folder.is_dir():
            raise RunError(f"{self.folder}: no such folder")
        if not (self.folder / "recipe.json").exists():
            otherwise = "is not a run folder: it has no recipe.json"
            runs = [file.parent for pattern in ("*", "*/*") for file in self.folder.glob(f"{pattern}/recipe.json")]
            if inside := sorted(runs) or sorted(self.folder.glob("*.safetensors")):
                otherwise += f"; name one of the {'runs' if runs else 'weights'} in it, such as {inside[0]}"
        raise RunError(f"{self.folder} {otherwise}")


def run_folder(root: Path, recipe: Recipe) -> Path:
    """Return the folder of a recipe's run: its recipe's name, its own label, its seed."""
    return root / recipe.recipe / recipe.label / f"seed{recipe.seed}"


def environment(device: str | torch.device = "cpu", precision: str = "fp32") -> dict[str, Any]:
    """Return commit, versions and machine, and what of the machine a run on the device uses."""
    device = torch.device(device)
    return _constant() | {
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else str(device),
        "precision": "bf16" if uses_bf16(precision, device) else "fp32",
    }


@cache
def _constant() -> dict[str, Any]:
    """What does not change while a process lives."""
    return {
        "comhe": __version__,
        "commit": commit(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "processor": processor(),
    }


def commit() -> str:
    """Return the commit of a checkout, ``-dirty`` if files have changed, or the one that pip installed from.

    Otherwise the code is known by its version: ``version 0.2.0``. The repository that a virtual environment lies in is
    somebody else's, so this file has to be one of the checkout's.
    """
    file = Path(__file__).resolve()
    questions = (["ls-files", "--error-unmatch", str(file)], ["describe", "--always", "--dirty", "--exclude=*"])
    try:
        for arguments in questions:
            found = subprocess.run(["git", "-C", str(file.parent), *arguments], capture_output=True, text=True)
            if found.returncode:
                return _installed_commit()
        return found.stdout.strip()
    except OSError:
        return _installed_commit()


def _installed_commit() -> str:
    """What ``pip install git+https://...`` has noted, else the version."""
    with contextlib.suppress(PackageNotFoundError, ValueError, KeyError, TypeError):
        return str(json.loads(distribution("comhe").read_text("direct_url.json") or "")["vcs_info"]["commit_id"])
    return f"version {__version__}"
