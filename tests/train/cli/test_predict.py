"""``comhe predict``."""

import csv
import json

import numpy as np
import pytest
from PIL import Image

from comhe.train.cli.main import main


def test_pictures_are_told_and_written_and_bad_ones_come_last(tmp_path, capsys):
    Image.fromarray(np.zeros((32, 32, 3), "uint8")).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"broken")
    output = tmp_path / "found.csv"
    assert main(["predict", "resnet8.glyphs-none", str(tmp_path), "--top", "2", "--output", str(output)]) == 2
    printed = capsys.readouterr()
    assert f"{tmp_path / 'a.png'}: " in printed.out
    assert "b.png" in printed.err
    rows = list(csv.DictReader(output.open()))
    assert [(row["input"], row["rank"]) for row in rows] == [(str(tmp_path / "a.png"), rank) for rank in "12"]
    assert 0 < float(rows[1]["probability"]) <= float(rows[0]["probability"]) < 1


def test_nodes_of_a_graph(capsys, tmp_path):
    output = tmp_path / "nodes.csv"
    assert main(["predict", "gcn.citations-none", "citations", "--top", "1", "--output", str(output)]) == 0
    assert "and 2,480 more nodes" in capsys.readouterr().out
    assert len(list(csv.DictReader(output.open()))) == 2500


def test_one_graph_at_a_time(capsys):
    assert main(["predict", "gcn.citations-none", "citations", "cora"]) == 2
    assert "one graph, not of 2" in capsys.readouterr().err


def test_json_and_a_file_that_exists(capsys, tmp_path):
    output = tmp_path / "nodes.csv"
    output.write_text("mine")
    argv = ["predict", "gcn.citations-none", "citations", "--top", "1", "--output", str(output)]
    assert main(argv) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert output.read_text() == "mine"
    assert main([*argv, "--overwrite", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert len(found) == 2500
    assert found[7]["input"] == "7"
    assert 0 < found[7]["classes"][0]["probability"] <= 1


def test_a_file_without_a_card_is_told_what_takes_it(tmp_path, capsys):
    path = tmp_path / "theirs.pth"
    path.write_bytes(b"")
    assert main(["predict", str(path), "photo.png"]) == 2
    told = capsys.readouterr().err
    assert "there is no card theirs.pth.json next to it; give a published file, or evaluate one of others" in told
    assert "load_weights" not in told


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--up x", "--up is for point clouds; leave it out"),
        ("--device nosuch", "--device is for pictures and clouds, as nodes are predicted on the CPU; leave it out"),
        ("--weights last", "--weights is for a run; leave it out"),
    ],
)
def test_options_for_something_else_are_refused(option, message, capsys):
    command = ["predict", "gcn.citations-none", "citations"]
    assert main([*command, *option.split()]) == 2
    assert message in capsys.readouterr().err
    assert main([*command, "--device", "cpu"]) == 0
