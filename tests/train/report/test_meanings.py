import pytest

from comhe.regularizers import list_regularizers
from comhe.train.compare.tables import Row
from comhe.train.recipe import domains, find_domain
from comhe.train.report.meanings import (
    PAPER,
    Panel,
    published,
    published_difference,
    recipe_meanings,
    regularizer_meanings,
)


def row(model: str, data: str, regularizer: str) -> Row:
    return Row("r", model, data, regularizer, "last", 1, 0.0, 0.0, 0.0)


def test_the_papers_figures_are_accuracies():
    assert published(row("gcn", "cora", "rp-comhe")) == 82.7
    assert published(row("cnn9", "cifar100", "none")) == pytest.approx(100 - 28.13)  # printed as an error
    assert published_difference(row("cnn9", "cifar100", "rp-comhe")) == pytest.approx(28.13 - 24.39)
    assert PAPER.text(row("gcn", "cora", "rp-comhe")) == "82.70 (+1.40)"
    assert PAPER.text(row("gcn", "cora", "none")) == "81.30"


def test_what_the_paper_does_not_have_is_empty():
    assert PAPER.text(row("gcn", "cora", "mma")) == PAPER.text(row("mine", "cora", "none")) == ""
    assert PAPER.text(row("cnn15", "cifar100", "none")) == ""  # did not converge
    assert PAPER.text(row("cnn15", "cifar100", "rp-comhe")) == "75.79"


def test_every_recipe_has_a_meaning():
    models = {"graphs": ("gcn", "cora"), "images": ("resnet20", "cifar100"), "points": ("pointnet", "modelnet40")}
    for domain in domains():
        for name in find_domain(domain).recipes if domain in models else ():
            (text,) = recipe_meanings([Panel(name, *models[domain], [])]).values()
            assert " epochs" in text
            assert "`" not in text
            assert text[0].isupper()
    assert recipe_meanings([Panel("unknown", "gcn", "cora", []), Panel("kipf", "of a plugin", "cora", [])]) == {}


def test_settings_that_differ_between_data_sets_are_all_named():
    panels = [Panel("tuned", "gcn", data, []) for data in ("cora", "citeseer", "pubmed")]
    (text,) = recipe_meanings(panels).values()
    assert "learning rate 0.02 or 0.01" in text


def test_regularizers_have_a_sentence_of_their_own():
    found = regularizer_meanings(list_regularizers())
    assert {"none", "mhe", "hs-mhe", "rp-comhe", "ap-comhe", "so", "orthogonal"} <= set(found)
    assert len(set(found.values())) == len(found)
    assert not any("\\" in text or "`" in text for text in found.values())
    assert "of a plugin" not in regularizer_meanings(["of a plugin"])
