from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from comhe.errors import UsageError

from .options import Command, Overwrite, require_new


@dataclass(frozen=True, kw_only=True)
class Report(Command):
    """Write one page with the tables and figures of runs. It opens from disk and needs no network."""

    examples = ("comhe report runs -o page.html", "comhe report runs -o page.html --overwrite --figures figures")

    sources: Annotated[Positional[tuple[Path, ...]], arg(help="folders of runs, at any depth, or files *-runs.csv")]
    output: Annotated[Path, arg(metavar="FILE", aliases=["-o"], help="the page")] = Path("page.html")
    figures: Annotated[
        Path | None,
        arg(metavar="FOLDER", help="where to write every figure as an SVG file", help_behavior_hint="only in the page"),
    ] = None
    overwrite: Overwrite = False

    def run(self) -> None:
        from comhe.train.report.gather import gather
        from comhe.train.report.page import Page
        from comhe.train.runs.files import check_writable, write_text

        if not self.sources:
            raise UsageError("name at least one folder of runs, or a *-runs.csv")
        for source in self.sources:
            if not source.exists():
                raise UsageError(f"{source} is neither a folder of runs nor a file *-runs.csv: there is no such path")
        require_new(self.output, self.overwrite)
        if (
            self.figures is not None
            and not self.overwrite
            and self.figures.is_dir()
            and any(self.figures.glob("*.svg"))
        ):
            raise UsageError(f"{self.figures} has figures; choose another folder, or replace them with --overwrite")
        for folder in (self.output.parent, *([] if self.figures is None else [self.figures])):
            check_writable(folder)
        found = gather(self.sources)
        page = Page(found)
        write_text(self.output, page.html())
        if self.figures is not None:
            print(f"{self.figures}: {page.save_figures(self.figures)} figures")
        print(f"{self.output}: {len(found.records)} runs, {found.unfinished} unfinished left out")
