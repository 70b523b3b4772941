"""A process that starts the ranks of a run as forks of itself, as torchrun would start them.

It gets requests through a pipe, and answers each: for each rank its exit status (or minus a signal's number) and what
it has printed. Checkpoints are written after every step.

Started by torchrun it is one of the ranks, and the request is its argument.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import socket
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))  # also where Python does not look there (-P)
from killing import SETTINGS, fork, recipe_of, serve, shrink


def end_at(step: int, what: str) -> None:
    """After so many optimizer steps of this rank, a signal to it, or an error."""
    from torch.optim.optimizer import register_optimizer_step_post_hook

    from comhe.errors import RunError

    count = 0

    def after_step(*_: Any) -> None:
        nonlocal count
        count += 1
        if count == step and what == "error":
            raise RunError("a worker has thrown a spanner")
        elif count == step:
            os.kill(os.getpid(), getattr(signal, what))

    register_optimizer_step_post_hook(after_step)


def be(rank: int, size: int, port: int, request: dict[str, Any]) -> int:
    """In the fork: a command, as one of so many ranks."""
    from comhe.train.cli import main as cli

    if size > 1:
        names = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": size, "MASTER_PORT": port, "MASTER_ADDR": "127.0.0.1"}
        os.environ.update({name: str(value) for name, value in names.items()})
    if rank == request.get("rank", -1):
        end_at(request["step"], request["what"])
    return cli.main(request["argv"])


def answer(request: dict[str, Any]) -> list[dict[str, Any]]:
    """Fork the ranks, and wait for all of them."""
    size = request["size"]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    children = []
    for rank in range(size):
        output, child_output = os.pipe()
        pid = fork(partial(be, rank, size, port, request), child_output)
        os.close(child_output)
        children.append((pid, output))
    began, found = time.monotonic(), []
    for pid, output in children:
        with open(output, "rb") as pipe:
            lines = pipe.read().decode().splitlines(keepends=True)
        text = "".join(line for line in lines if not line.startswith("[Gloo]"))  # which tells that it is there
        _, status = os.waitpid(pid, 0)
        found.append({"status": os.waitstatus_to_exitcode(status), "output": text, "seconds": time.monotonic() - began})
    return found


def main() -> int:
    gc.set_threshold(20_000)  # as the command does
    import torch

    from comhe.train.cli import main as cli
    from comhe.train.engine import distributed, loop
    from comhe.train.runs import launch

    assert cli  # imported here once, not in every fork
    os.environ.update(SETTINGS)
    torch.set_num_threads(1)
    loop.CHECKPOINT_SECONDS = 0.0
    shrink()
    if "RANK" in os.environ:
        rank, size = (int(os.environ[name]) for name in ("RANK", "WORLD_SIZE"))
        return be(rank, size, int(os.environ["MASTER_PORT"]), json.loads(sys.argv[1]))
    distributed.EXIT_DELAY = 0.0
    with tempfile.TemporaryDirectory() as folder:
        for kind in ("images", "points"):  # so is whatever a run imports or makes, such as its data
            launch.fit(recipe_of(kind).replace(epochs=1), runs=folder)
    serve(globals()["pipe"], answer)
    return 0


if __name__ == "__main__":
    sys.exit(main())
