"""What commands have in common: their base, and options with their help."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import UseAppendAction, arg

from comhe.errors import UsageError
from comhe.train.runs.cluster import Cluster
from comhe.train.settings import parse_options

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
    cluster: Annotated[
        Literal["slurm", "local", "debug"] | None,
        arg(help="train in jobs, submitted through submitit; local and debug are this machine, for trials"),
    ] = None
    cluster_options: Annotated[
        tuple[str, ...],
        arg(metavar="NAME=VALUE ...", help="of sbatch: partition=gpu gpus_per_node=1 time=60 (minutes, the default)"),
    ] = ()
    per_job: Annotated[int | None, arg(help="runs in a job, by default one; --jobs of them at a time")] = None
    submit_only: Annotated[bool, arg(help="do not wait for the jobs; the same command without it does")] = False
    print_commands: Annotated[bool, arg(help="print a command for each missing run, and train nothing")] = False

    def jobs_of_cluster(self) -> Cluster | None:
        """Return what the options say about jobs; None for training on this machine."""
        if self.cluster is None:
            for name in ("cluster_options", "per_job", "submit_only"):
                if getattr(self, name):
                    raise UsageError(f"--{name.replace('_', '-')} is about jobs; name a --cluster as well")
            return None
        return Cluster(self.cluster, parse_options(self.cluster_options), self.per_job, not self.submit_only)
