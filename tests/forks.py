"""Python processes that start in milliseconds: forks of one that has imported what takes seconds, and nothing of ours.

A process that starts for its own sake (what it imports, how it is installed) is a real one, from `subprocess`.
"""

import os
import runpy
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import forkserver, get_context
from pathlib import Path
from typing import Any
from unittest.mock import patch

FORKS = get_context("forkserver")
FORKS.set_forkserver_preload(["torch._dynamo", "torch_geometric.nn"])
with patch.dict(os.environ):
    os.environ.pop("TRITON_INTERPRET", None)  # Triton is imported to compile, which a fork may do
    forkserver.ensure_running()

# Like `python -P (-c CODE | -m MODULE | FILE) ARGUMENT...`, with the command's output in two files.
BE = """
import os, runpy, sys, types
for number, path in enumerate(outputs, 1):
    os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), number)
os.chdir(folder)
os.environ.clear()
os.environ.update(environment)
if words[0] == "-c":
    code, sys.argv[:] = words[1], ["-c", *words[2:]]
    main = sys.modules["__main__"] = types.ModuleType("__main__")
    exec(code, vars(main))
elif words[0] == "-m":
    sys.argv[:] = words[1:]
    runpy.run_module(words[1], run_name="__main__", alter_sys=True)
else:
    sys.argv[:] = words
    runpy.run_path(os.path.abspath(words[0]), run_name="__main__")
"""


@contextmanager
def server(script: Path) -> Iterator[Callable[[dict[str, Any]], Any]]:
    """A function that asks a process that runs the script, whose global ``pipe`` gets what is asked."""
    pipe, theirs = FORKS.Pipe()
    process = FORKS.Process(target=runpy.run_path, args=(str(script), {"pipe": theirs}, "__main__"))
    process.start()
    theirs.close()

    def ask(request: dict[str, Any]) -> Any:
        pipe.send(request)
        return pipe.recv()

    yield ask
    pipe.close()
    process.join()


class Fork:
    """``Fork("-c", code, argument)``: a process that runs so, with the output that ``subprocess`` would capture."""

    def __init__(self, *words: object, cwd: Path | None = None, env: dict[str, str] | None = None) -> None:
        self.words = [str(word) for word in words]
        self.folder = tempfile.TemporaryDirectory()
        self.outputs = [Path(self.folder.name) / name for name in ("stdout", "stderr")]
        names = {
            "outputs": [str(path) for path in self.outputs],
            "folder": os.fspath(cwd or os.getcwd()),
            "environment": dict(os.environ if env is None else env),
            "words": self.words,
        }
        self.process = FORKS.Process(target=exec, args=(BE, names))
        self.process.start()

    def wait(self, timeout: float = 300) -> subprocess.CompletedProcess:
        self.process.join(timeout)
        if self.process.exitcode is None:
            self.process.kill()
            raise subprocess.TimeoutExpired(self.words, timeout)
        output, errors = (path.read_text() for path in self.outputs)
        self.folder.cleanup()
        return subprocess.CompletedProcess(self.words, self.process.exitcode, output, errors)


def python(*words: object, timeout: float = 300, **where: Any) -> subprocess.CompletedProcess:
    """A :class:`Fork` that has ended."""
    return Fork(*words, **where).wait(timeout)
