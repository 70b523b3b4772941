"""What the report says, and that asking for it changes nothing (tests of every regularizer: test_regularizer.py)."""

import pytest
import torch
from torch import nn

from comhe.errors import UsageError
from comhe.regularizers import RegularizerWarning, create_regularizer, diagnose
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


@pytest.mark.parametrize("name", ["rp-comhe", "ap-comhe", "adv-comhe"])
def test_it_says_which_layers_are_projected(name):
    model = nn.Sequential(nn.Linear(20, 12), nn.Linear(12, 8), nn.Linear(8, 3))
    regularizer = create_regularizer(name, model, dim=12)
    assert [row.projected for row in regularizer.report().layers] == [True, False, False]
    assert "neurons  projected  weight" in str(regularizer.report())
    assert "projected" not in str(create_regularizer("hs-mhe", model).report())
    with pytest.warns(RegularizerWarning, match=f"{name}: no layer is projected, as no neuron has more than 20 inputs"):
        create_regularizer(name, model, dim=20)


def test_groups_that_no_layer_is_split_into_are_told():
    with pytest.warns(RegularizerWarning, match="group-comhe: no layer is projected, .* too few for groups"):
        create_regularizer("group-comhe", nn.Sequential(nn.Linear(8, 6), nn.Linear(6, 3)))


def test_an_energy_that_takes_seconds_is_told(recwarn):
    with torch.device("meta"):
        model = nn.Sequential(nn.Linear(64, 64), nn.Linear(64, 100_000))
    create_regularizer("hs-mhe", model, sample=1024)
    create_regularizer("hs-mhe", model, exclude="1")
    create_regularizer("so", model)
    assert [str(item.message) for item in recwarn if item.category is RegularizerWarning] == []
    with pytest.warns(
        RegularizerWarning, match="1 has 100,000 neurons of 64 inputs, and each step takes all their pairs"
    ):
        create_regularizer("hs-mhe", model)


def test_an_embedding_with_sparse_gradients_is_told():
    model = nn.Sequential(nn.Embedding(20, 6, sparse=True), nn.Linear(6, 3))
    with pytest.warns(
        RegularizerWarning, match=r"mhe: 0 has sparse gradients, but those of the penalty are dense, .* sparse=False"
    ):
        create_regularizer("mhe", model, kinds=("embedding", "linear"))


@pytest.mark.parametrize("name", ["mhe", "ap-comhe", "mma"])
def test_a_model_on_the_meta_device_has_nothing_to_report(name):
    regularizer = create_regularizer(name, nn.Sequential(nn.Linear(40, 6), nn.Linear(6, 4)).to("meta"))
    with pytest.raises(UsageError, match=r"0, 1 on the meta device: .*; model\.to_empty"):
        regularizer.report()
    with pytest.raises(UsageError, match=r"neurons \[3, 4\] on the meta device"):
        diagnose(torch.empty(3, 4, device="meta"))
