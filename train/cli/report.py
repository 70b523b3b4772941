from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from comhe.errors import UsageError
from comhe.train.report.gather import gather
from comhe.train.report.page import Page
from comhe.train.runs.files import check_writable, write_text

from .console import console
from .options import Command


@dataclass(frozen=True, kw_only=True)
class Report(Command):
    """Write one page with the tables and figures of runs; it opens from disk and needs no network."""

    sources: Annotated[Positional[tuple[Path, ...]], arg(help="folders of runs, at any depth, or files *-runs.csv")]
    output: Annotated[Path, arg(aliases=["-o"], help="the page")] = Path("page.html")
    figures: Annotated[Path | None, arg(help="folder for every figure as an SVG file")] = None

    def run(self) -> None:
        if not self.sources:
            raise UsageError("name at least one folder of runs, or a *-runs.csv")
        for folder in (self.output.parent, *([] if self.figures is None else [self.figures])):
            check_writable(folder)
        found = gather(self.sources)
        page = Page(found)
        write_text(self.output, page.html())
        if self.figures is not None:
            console.print(f"{self.figures}: {page.save_figures(self.figures)} figures")
        console.print(f"{self.output}: {len(found.records)} runs, {found.unfinished} unfinished left out")
