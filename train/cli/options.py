"""What commands have in common: their base, and options with their help."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import UseAppendAction, arg

DataRoot = Annotated[str | None, arg(help="folder of the data sets; by default $COMHE_DATA, else the cache folder")]
Runs = Annotated[Path, arg(help="folder of the run folders")]
Device = Annotated[
    str, arg(help="cpu, cuda, cuda:1, ...; auto is a GPU where there is one; under torchrun, each its own")
]
Threads = Annotated[int | None, arg(help="of a process on the CPU; by default $OMP_NUM_THREADS, else as many as help")]
Jobs = Annotated[int | None, arg(help="processes that train at a time; by default one for each core, or each GPU")]
WhichWeights = Annotated[Literal["last", "best"], arg(help="which weights of a run")]


@dataclass(frozen=True, kw_only=True)
class Command:
    """One command with its options."""

    modules: Annotated[
        UseAppendAction[tuple[str, ...]],
        arg(name="import", metavar="MODULE", help="a module that registers models, data sets, regularizers or recipes"),
    ] = ()

    def run(self) -> None:
        """Do what the command is for; a mistake of the user's raises a ComheError."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class ManyRuns(Command):
    """A command that trains runs which are missing."""

    first_seed: Annotated[int, arg(help="the first of the seeds")] = 0
    settings: Annotated[tuple[str, ...], arg(metavar="NAME=VALUE ...", help="settings and regularizers' options")] = ()
    data_root: DataRoot = None
    runs: Runs = Path("runs")
    device: Device = "auto"
    threads: Threads = None
