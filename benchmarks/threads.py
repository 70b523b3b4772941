"""The threads that training takes by itself, beside one and two, with a busy neighbor on every core and without.

    python -m benchmarks.threads --data-root DATA --out benchmarks/threads.csv

Every program has a process of its own, which waits while others are measured. ``comhe`` programs have the number of
threads that ``comhe train`` chooses for the work, and its environment; ports have torch's own number and environment.
The neighbors are one process for each core, pinned to it, that multiplies matrices; they end by themselves, and with
this process. Within each round everything takes its turn, first without neighbors and then with them; medians over the
rounds, of which what takes long has only one. ``load`` is the machine's, which tells of neighbors of other people,
``default_over_best`` the time with the default over that with the best of the choices, ``times_faster_than_port`` that
of the port with its default over it.

    comhe train graphs    the command, its `seconds` (200 epochs on Cora), as the README has it, and with rp-comhe
    pointnet[2_ssg]       a step on 32 clouds of 1,024 points, beside the port (see benchmarks.points)
    gcn                   200 epochs on Cora beside plain PyG (see benchmarks.gcn_training), of which PyG trains 20
    cnn9                  a step of 128 images, and what rp-comhe adds to it (see benchmarks.regularizers)
    graph of N nodes      an epoch on a random graph, which shows from where on a second thread helps
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from io import StringIO
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

from .output import Table

Timed = Callable[[], float]  # the seconds of one turn
Key = tuple[str, bool, int]  # program, with neighbors, number of threads
SPAWN = get_context("spawn")
PYG_EPOCHS, EPOCHS = 20, 200
NODES, WIDTH, DEGREE = (10_000, 40_000, 160_000), 128, 14  # the largest is about as large as ogbn-arxiv
ORDERS = ((0, 1, 2), (0, 1)), ((2, 1, 0), (1, 0))  # numbers of threads by turns, and those of ports; 0: the default
LOAD: dict[bool, list[float]] = {False: [], True: []}  # the machine's at the end of each part of a round
SHORT, LONG = 2.0, 8.0  # seconds, of calls in one turn and of all turns, after which there is none more


def steps(call: Callable[[], object]) -> Timed:
    """The seconds of a call, the least of three if they are short."""

    def timed() -> float:
        taken: list[float] = []
        while len(taken) < 3 and sum(taken) < SHORT:
            start = time.perf_counter()
            call()
            taken.append(time.perf_counter() - start)
        return min(taken)

    return timed


def command(regularizer: str) -> Timed:
    """The training seconds of ``comhe train graphs`` on Cora, without the imports before it."""
    from comhe.train.cli.main import main

    def timed() -> float:
        with tempfile.TemporaryDirectory() as runs:
            words = ["train", "graphs", "--model", "gcn", "--data", "cora", "--regularizer", regularizer]
            with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
                main([*words, "--device", "cpu", "--runs", runs])
            (result,) = Path(runs).rglob("result.json")
            return json.loads(result.read_text())["seconds"]

    return timed


def points(model: str, ported: bool) -> Timed:
    from .points import training_step

    return steps(training_step(model, ported))


def gcn(ported: bool) -> Timed:
    from comhe.datasets import load_graph
    from comhe.train.hardware import limited_threads

    from .gcn_training import train_comhe, train_pyg

    graph = load_graph("cora")
    if ported:
        once = steps(lambda: train_pyg(graph, PYG_EPOCHS))
        return lambda: once() * EPOCHS / PYG_EPOCHS

    def train() -> None:
        with limited_threads(1):  # as comhe.train for this graph
            train_comhe(graph, EPOCHS)

    return steps(train)


def cnn9(what: str) -> Timed:
    from comhe.regularizers import create_regularizer

    from .regularizers import cnn9, penalty_call
    from .released import Released

    model, step = cnn9()
    if what == "step":
        return steps(step)
    ported = what == "port"
    return steps(penalty_call(model, Released(model, 20, 40) if ported else create_regularizer("rp-comhe", model)))


def graph_epoch(nodes: int) -> Timed:
    """A step and the evaluation after it, on a graph of random links whose nodes have dense features."""
    from comhe.datasets import Graph, register_dataset
    from comhe.train import GraphRecipe, make_task
    from comhe.train.hardware import limited_threads

    draw = np.random.default_rng(0)
    edges, features = draw.integers(nodes, size=(2, nodes * DEGREE // 2)), draw.standard_normal((nodes, WIDTH))
    data = {"x": features.astype(np.float32), "edge_index": edges, "y": np.arange(nodes) % 40}
    register_dataset("random", "graphs", lambda: Graph.from_pyg(data, "random", seed=0, undirected=True))
    task = make_task(GraphRecipe(data="random", hidden_channels=64), device="cpu")
    model = task.model()
    optimizer, batch = task.optimizer(model), task.collate()

    def epoch() -> None:
        with limited_threads(task.threads):
            model.train()
            optimizer.zero_grad()
            task.loss(model, batch)[0].backward()
            optimizer.step()
            task.evaluate(model, "val")

    return steps(epoch)


PROGRAMS: dict[str, tuple[Callable[..., Timed], tuple]] = {
    "comhe train graphs": (command, ("none",)),
    "comhe train graphs, rp-comhe": (command, ("rp-comhe",)),
    "pointnet": (points, ("pointnet", False)),
    "pointnet, port": (points, ("pointnet", True)),
    "pointnet2_ssg": (points, ("pointnet2_ssg", False)),
    "pointnet2_ssg, port": (points, ("pointnet2_ssg", True)),
    "gcn": (gcn, (False,)),
    "gcn, port": (gcn, (True,)),
    "cnn9": (cnn9, ("step",)),
    "cnn9, rp-comhe": (cnn9, ("penalty",)),
    "cnn9, rp-comhe, port": (cnn9, ("port",)),
    **{f"graph of {nodes} nodes": (graph_epoch, (nodes,)) for nodes in NODES},
}


def serve(pipe: Connection, name: str) -> None:
    """Measure a program with the numbers of threads that come through the pipe: 0 for the default."""
    import torch

    from comhe.train.hardware import EXPLICIT, limited_threads

    make, arguments = PROGRAMS[name]
    timed, everything = make(*arguments), torch.get_num_threads()
    timed()  # warms up
    while (threads := pipe.recv()) >= 0:
        for variable in EXPLICIT:
            os.environ.pop(variable, None)
        if threads:
            os.environ[EXPLICIT[0]] = str(threads)
        torch.set_num_threads(threads or everything)
        with limited_threads():
            pipe.send(timed())


@contextmanager
def program(name: str) -> Iterator[Callable[[int], float]]:
    """A process of a program; yields what measures it with a number of threads."""
    before = {x: os.environ.pop(x, None) for x in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OMP_WAIT_POLICY")}
    if not name.endswith("port"):
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"  # as comhe.train sets it, if it is imported before torch
    ours, theirs = SPAWN.Pipe()
    process = SPAWN.Process(target=serve, args=(theirs, name), daemon=True)
    process.start()
    theirs.close()
    os.environ.update({x: value for x, value in before.items() if value is not None})

    def measure(threads: int) -> float:
        ours.send(threads)
        return ours.recv()

    try:
        yield measure
    finally:
        process.kill()
        process.join()


def spin(core: int, parent: int, seconds: float) -> None:
    """Keep one core busy until the time is over or the parent gone."""
    os.sched_setaffinity(0, {core})
    until, matrix = time.monotonic() + seconds, np.ones((256, 256), dtype=np.float32)
    while time.monotonic() < until and os.getppid() == parent:
        matrix @ matrix


@contextmanager
def neighbors(wanted: bool, seconds: float = 300.0) -> Iterator[None]:
    """A busy process on every core."""
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    cores = sorted(os.sched_getaffinity(0)) if wanted else []
    busy = [SPAWN.Process(target=spin, args=(core, os.getpid(), seconds), daemon=True) for core in cores]
    for process in busy:
        process.start()
    try:
        time.sleep(2.0 if busy else 0.0)  # until all of them multiply
        yield
    finally:
        for process in busy:
            process.kill()
            process.join()


def measure(names: list[str], rounds: int, minutes: float) -> Iterator[dict[Key, list[float]]]:
    """Yield, after each round, the seconds of every program, with neighbors and without, by number of threads."""
    times: dict[Key, list[float]] = {}
    began = time.monotonic()
    with ExitStack() as stack:
        programs = {name: stack.enter_context(program(name)) for name in names}
        for number in range(rounds):
            if number and (time.monotonic() - began) * (number + 1) / number > 60 * minutes:
                return
            for busy in (False, True):
                with neighbors(busy):
                    for name, timed in programs.items():
                        for threads in ORDERS[number % 2][name.endswith("port")]:
                            taken = times.setdefault((name, busy, threads), [])
                            if sum(taken) < LONG:
                                taken.append(timed(threads))
                    LOAD[busy].append(os.getloadavg()[0])
                    print(f"round {number + 1}{', neighbors' * busy}: load {os.getloadavg()[0]:.1f}", flush=True)
            yield times


def report(times: dict[Key, list[float]], table: Table) -> None:
    """Print and write a row for every program, with neighbors and without, in place of those of the rounds before."""
    table.columns = None
    median = {key: statistics.median(taken) for key, taken in times.items()}
    for name, busy in dict.fromkeys(key[:2] for key in times):
        default, one, two = (median.get((name, busy, threads)) for threads in (0, 1, 2))
        best = min(seconds for seconds in (default, one, two) if seconds is not None)
        port = median.get((f"{name}, port", busy, 0))
        step = median.get((name.partition(",")[0], busy, 0)) if name.startswith("cnn9, ") else None
        row = {
            "what": name,
            "neighbors": busy,
            "default_s": default,
            "one_thread_s": one,
            "two_threads_s": "" if two is None else two,
            "default_over_best": default / best,
            "times_faster_than_port": "" if port is None else port / default,
            "percent_of_step": "" if step is None else 100 * default / step,
            "rounds": len(times[name, busy, 0]),
            "load": LOAD[busy][-1],
        }
        table.add(row)
        seconds = " ".join(f"{1e3 * x:9.1f}" if x is not None else 9 * " " for x in (default, one, two))
        more = "" if port is None else f", {port / default:.2f} times as fast as the port"
        print(f"{name:30} {'neighbors' * busy:9} {seconds} ms  default / best {default / best:.2f}{more}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--programs", nargs="+", default=list(PROGRAMS), choices=PROGRAMS)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--minutes", type=float, default=9.0, help="no round begins that would probably end later")
    parser.add_argument("--data-root", help="folder of the data sets; by default $COMHE_DATA")
    parser.add_argument("--out", type=Path, help="CSV file")
    flags = parser.parse_args()
    if flags.data_root:
        os.environ["COMHE_DATA"] = flags.data_root
    print("load before:", *(f"{load:.1f}" for load in os.getloadavg()))
    table = Table(flags.out)
    for times in measure(flags.programs, flags.rounds, flags.minutes):
        report(times, table)


if __name__ == "__main__":
    main()
