import pytest

from comhe.train.compare.compare import collect
from comhe.train.graphs import GraphRecipe
from comhe.train.runs import launch, workers
from comhe.train.runs.launch import fit

from ..forks import FORKS


@pytest.fixture
def recipe() -> GraphRecipe:
    """A short run on the built-in graph."""
    return GraphRecipe(
        recipe="test", data="citations", epochs=6, regularizer="rp-comhe", regularizer_options={"dim": 8}
    )


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """Recipes, folder and records of runs with two seeds, without a regularizer and with one in two variants."""
    folder = tmp_path_factory.mktemp("runs")
    base = GraphRecipe(recipe="test", data="citations", epochs=3, energies=1)
    recipes = [
        base.replace(regularizer=regularizer, weight=weight, seed=seed)
        for regularizer, weight in (("none", None), ("hs-mhe", None), ("hs-mhe", 0.1))
        for seed in range(2)
    ]
    for recipe in recipes:
        fit(recipe, runs=folder)
    return recipes, folder, collect(recipes, folder)


@pytest.fixture
def in_process(monkeypatch):
    """Jobs run one after the other in this process; returns the list of them, in their order."""
    done = []

    def run_all(work, jobs, processes, seconds, ended, begin, refusal):
        begin(0)
        for job in jobs:
            done.append(job)
            work(job)
            ended(job, None)

    monkeypatch.setattr(launch, "run_all", run_all)
    return done


@pytest.fixture
def forked_workers(monkeypatch):
    """Worker processes are forks, and not new processes."""
    monkeypatch.setattr(workers, "_SPAWN", FORKS)
