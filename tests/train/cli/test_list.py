import pytest

from comhe.datasets import list_data
from comhe.regularizers import list_regularizers
from comhe.train.cli.main import main
from comhe.train.recipe import list_recipes
from comhe.zoo import list_models, list_weights

LISTS = {
    "models": list_models,
    "datasets": list_data,
    "regularizers": list_regularizers,
    "recipes": list_recipes,
    "weights": list_weights,
}


@pytest.mark.parametrize("what", LISTS)
def test_names(what, capsys):
    assert main(["list", what]) == 0
    assert capsys.readouterr().out.split() == list(LISTS[what]())


def test_a_pattern_selects(capsys):
    main(["list", "regularizers", "*comhe"])
    assert capsys.readouterr().out.split() == [name for name in list_regularizers() if name.endswith("comhe")]
    main(["list", "weights", "gcn"])
    assert all(name.startswith("gcn.") for name in capsys.readouterr().out.split())
