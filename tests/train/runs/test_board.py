"""TensorBoard has the figures of the CSV files, once each, also of a run that was interrupted."""

import builtins
import csv

import pytest

from comhe.errors import UsageError
from comhe.train.graphs import GraphRecipe
from comhe.train.runs.board import FOLDER, Board
from comhe.train.runs.launch import fit

RECIPE = GraphRecipe(recipe="test", data="citations", epochs=3, regularizer="mhe", energies=1, log_steps=1)


def read(folder):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder))
    events.Reload()
    return {tag: {event.step: event.value for event in events.Scalars(tag)} for tag in events.Tags()["scalars"]}


def test_the_figures_are_those_of_the_csv_files(tmp_path):
    pytest.importorskip("tensorboard")
    run = fit(RECIPE, tmp_path / "run", device="cpu", tensorboard=True)
    found = read(run.folder / FOLDER)
    for table, x in (("metrics", "epoch"), ("steps", "step")):
        rows = list(csv.DictReader((run.folder / f"{table}.csv").open()))
        assert found[f"{table}/loss"] == {int(row[x]): pytest.approx(float(row["loss"]), rel=1e-5) for row in rows}
    assert {tag.split("/")[0] for tag in found} == {"metrics", "steps", "energies"}
    assert len([tag for tag in found if tag.startswith("energies/energy/")]) == 2


def test_a_second_session_begins_the_files_anew(tmp_path):
    pytest.importorskip("tensorboard")

    class Log:
        rows: tuple = ()

        def tables(self):
            return {"metrics": list(self.rows)}

    log = Log()
    for epochs in (2, 4):
        board = Board(tmp_path)
        log.rows = [{"epoch": epoch, "loss": 1.0 * epoch} for epoch in range(epochs)]
        board.write(log)
        board.write(log)
        board.close()
    assert read(tmp_path / FOLDER)["metrics/loss"] == {0: 0.0, 1: 1.0, 2: 2.0, 3: 3.0}


def test_a_missing_package_is_named_and_nothing_is_written(tmp_path, monkeypatch):
    usual = builtins.__import__

    def without(name, *args, **options):
        if name.startswith("torch.utils.tensorboard"):
            raise ModuleNotFoundError(name="tensorboard")
        return usual(name, *args, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UsageError, match=r"pip install 'comhe\[tensorboard\]'"):
        fit(RECIPE, tmp_path / "run", device="cpu", tensorboard=True)
    assert not (tmp_path / "run").exists()
