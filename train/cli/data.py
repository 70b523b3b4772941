from dataclasses import dataclass
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from .console import print_table
from .options import Command, DataRoot, Json, print_json


@dataclass(frozen=True, kw_only=True)
class Data(Command):
    """Describe a data set, once it is verified. It is downloaded if it is not on disk."""

    examples = ("comhe data cora", "comhe data folder:my-photos", "comhe data folder:my-shapes --domain points")

    name: Annotated[Positional[str], arg(metavar="NAME", help="a name of `comhe list datasets`")]
    domain: Annotated[
        Literal["images", "points", "graphs"] | None,
        arg(
            metavar="{images,points,graphs}",
            help="of a name that several domains know, such as folder:PATH",
            help_behavior_hint="the first that knows the name",
        ),
    ] = None
    data_root: DataRoot = None
    json: Json = False

    def run(self) -> None:
        from comhe.datasets import describe, load_data

        found = describe(load_data(self.name, self.data_root, self.domain))
        if self.json:
            return print_json(found)
        print_table("", ["what it is", "value"], [[key, str(value)] for key, value in found.items()])
