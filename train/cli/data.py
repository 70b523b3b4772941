from dataclasses import dataclass
from typing import Annotated

from tyro.conf import Positional, arg

from comhe.datasets import describe, load_data

from .console import console
from .options import Command, DataRoot


@dataclass(frozen=True, kw_only=True)
class Data(Command):
    """Fetch a data set if it is not on disk, verify it, and describe it."""

    name: Annotated[Positional[str], arg(help="a name of `comhe list datasets`")]
    domain: Annotated[str | None, arg(help="images, points or graphs; points for a folder of shapes")] = None
    data_root: DataRoot = None

    def run(self) -> None:
        for key, value in describe(load_data(self.name, self.data_root, self.domain)).items():
            console.print(f"{key:15} {value}")
