"""What the report says, and that asking for it changes nothing (tests of every regularizer: test_regularizer.py)."""

import pytest
from torch import nn

from comhe.regularizers import create_regularizer, diagnose
from comhe.regularizers.report import Report


@pytest.fixture
def model():
    return nn.Sequential(nn.Conv1d(6, 8, 3), nn.MultiheadAttention(8, 2), nn.Embedding(10, 6), nn.Linear(8, 3))


def test_lists_every_layer(model):
    regularizer = create_regularizer("hs-mhe", model, weight=0.5)
    report = regularizer.report()
    assert isinstance(report, Report)
    assert [(row.name, row.role, row.weight) for row in report.layers] == [
        ("0", "hidden", 0.5),
        ("1", "hidden", 0.5),
        ("1.out_proj", "hidden", 0.5),
        ("3", "output", 10),
    ]
    assert report.layers[1].shape == (3, 8, 8)
    assert report.layers[3].diagnostics == diagnose(model[3].weight)
    assert regularizer().item() == pytest.approx(sum(row.weight * row.penalty for row in report.layers), rel=1e-5)


def test_text_is_a_table_and_the_reasons(model):
    regularizer = create_regularizer("hs-mhe", model)
    title, header, *lines = str(regularizer.report()).splitlines()
    assert title == repr(regularizer)
    assert header.split()[:5] == ["layer", "role", "neurons", "weight", "penalty"]
    assert [line.split()[0] for line in lines] == ["0", "1", "1.out_proj", "3", "skipped"]
    assert lines[-1].startswith("skipped 2: kind 'embedding'")
