"""What commands have in common: their bases, and options with their help.

A command's class is what its help and its parser are made of. What it runs with is imported in ``run``: torch takes
seconds to import, and help should not.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from tyro.conf import UseAppendAction, arg

from comhe.errors import UsageError

if TYPE_CHECKING:
    from comhe.train.runs.cluster import Cluster


@dataclass(frozen=True)
class Group:
    """Heading under which the help lists an option."""

    title: str


MACHINE, DATA, JOBS = Group("machine"), Group("data and folders"), Group("jobs on a cluster")

DataRoot = Annotated[
    str | None,
    arg(metavar="FOLDER", help="folder of the data sets", help_behavior_hint="$COMHE_DATA, else the user's cache"),
    DATA,
]
Runs = Annotated[Path, arg(metavar="FOLDER", help="folder of the run folders"), DATA]
Device = Annotated[
    str,
    arg(
        metavar="DEVICE",
        help="cpu, cuda, cuda:1, ...; auto is a GPU where there is one; under torchrun, each process has its own",
    ),
    MACHINE,
]
Threads = Annotated[
    int | None,
    arg(
        metavar="N",
        help="threads of a process on the CPU",
        help_behavior_hint="$OMP_NUM_THREADS, else as many of the cores as help",
    ),
    MACHINE,
]
Jobs = Annotated[
    int | None,
    arg(metavar="N", help="processes that train at a time", help_behavior_hint="one for each core, or each GPU"),
    MACHINE,
]
Seeds = Annotated[int, arg(metavar="N", help="runs of each cell, one for each seed; five or more tell something")]
WhichWeights = Annotated[Literal["last", "best"], arg(help="which weights of a run: of the last epoch, or the best")]
Json = Annotated[bool, arg(help="print JSON instead of text, for scripts")]
Overwrite = Annotated[bool, arg(help="replace files that exist")]
TensorBoard = Annotated[
    bool, arg(help="also write each run's figures for TensorBoard, in its folder (pip install 'comhe[tensorboard]')")
]


@dataclass(frozen=True, kw_only=True)
class Command:
    """One command with its options."""

    examples: ClassVar[tuple[str, ...]] = ()  # lines for its help

    modules: Annotated[
        UseAppendAction[tuple[str, ...]],
        arg(name="import", metavar="MODULE", help="module that registers models, data, ... of your own; repeatable"),
    ] = ()

    def run(self) -> None:
        """Do what the command is for; a mistake of the user's raises a ComheError."""
        raise NotImplementedError

    def only_for(self, what: str, *options: str) -> None:
        """Raise UsageError if one of these options was given: they are for something else than what was named."""
        for each in fields(self):
            if each.name in options and getattr(self, each.name) != each.default:
                raise UsageError(f"--{each.name.replace('_', '-')} is for {what}; leave it out")


@dataclass(frozen=True, kw_only=True)
class Computing(Command):
    """A command that computes with a network, on some data."""

    data_root: DataRoot = None
    device: Device = "auto"
    threads: Threads = None


@dataclass(frozen=True, kw_only=True)
class ManyRuns(Computing):
    """A command that trains runs which are missing."""

    first_seed: Annotated[int, arg(metavar="SEED", help="the first of the seeds")] = 0
    settings: Annotated[
        tuple[str, ...],
        arg(
            metavar="NAME=VALUE ...",
            help="settings of the recipe (`comhe show recipe NAME`), and options of regularizers and models",
            help_behavior_hint="as in the recipe",
        ),
    ] = ()
    runs: Runs = Path("runs")
    jobs: Jobs = None
    tensorboard: TensorBoard = False
    json: Json = False
    cluster: Annotated[
        Literal["slurm", "local", "debug"] | None,
        arg(
            metavar="{slurm,local,debug}",
            help="train in jobs, submitted through submitit; local and debug are this machine, for trials",
            help_behavior_hint="train here",
        ),
        JOBS,
    ] = None
    cluster_options: Annotated[
        tuple[str, ...],
        arg(
            metavar="NAME=VALUE ...",
            help="of sbatch, such as partition=gpu gpus_per_node=1 time=60 (minutes)",
            help_behavior_hint="time=60",
        ),
        JOBS,
    ] = ()
    per_job: Annotated[
        int | None, arg(metavar="N", help="runs in a job, --jobs of them at a time", help_behavior_hint="1"), JOBS
    ] = None
    submit_only: Annotated[bool, arg(help="do not wait for the jobs; the same command without it does"), JOBS] = False
    print_commands: Annotated[bool, arg(help="print a command for each missing run, and train nothing"), JOBS] = False

    def jobs_of_cluster(self) -> "Cluster | None":
        """Return what the options say about jobs; None for training on this machine."""
        from comhe.train.runs.cluster import Cluster
        from comhe.train.settings import parse_options

        if self.cluster is None:
            for name in ("cluster_options", "per_job", "submit_only"):
                if getattr(self, name):
                    raise UsageError(f"--{name.replace('_', '-')} is about jobs; name a --cluster as well")
            return None
        options = parse_options(self.cluster_options, divided=False)
        return Cluster(self.cluster, options, self.per_job, not self.submit_only)


def print_json(value: Any) -> None:
    """Print a value as JSON; a number that is none is null."""

    def plain(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {str(key): plain(each) for key, each in value.items()}
        if isinstance(value, Sequence) and not isinstance(value, str):
            return [plain(each) for each in value]
        if isinstance(value, float) and not abs(value) < float("inf"):
            return None
        return value if isinstance(value, str | int | float | bool | None) else str(value)

    print(json.dumps(plain(value), indent=1, ensure_ascii=False))


def require_new(path: Path, overwrite: bool, remedy: str = "choose another --output") -> None:
    """Raise UsageError if a file exists that may not be replaced, or what no file can replace, such as a pipe."""
    if path.exists() and not path.is_file():
        raise UsageError(f"{path} is not a regular file; {remedy}")
    if path.exists() and not overwrite:
        raise UsageError(f"{path} exists; {remedy}, or replace it with --overwrite")


def require_card(source: str, advice: str) -> None:
    """Raise UsageError for a file of weights without a card, which a command cannot use without more."""
    from comhe.zoo.cards import has_card, no_card
    from comhe.zoo.state import weights_file

    if weights_file(source).is_file() and not has_card(source):
        raise UsageError(f"{source} is not a run folder, and {no_card(source)}; {advice}")
