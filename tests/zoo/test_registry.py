"""Names, and what is said about names that are not there."""

import pytest
from torch import nn

from comhe.zoo import create_model, list_models, model_domain, register_model, registry


@pytest.fixture
def clean_registry():
    """Models a test registers vanish after it."""
    list_models()
    builders, domains = dict(registry._builders), dict(registry._domain_of)
    yield
    for current, saved in ((registry._builders, builders), (registry._domain_of, domains)):
        current.clear()
        current.update(saved)


def test_graph_models_are_listed_under_their_domain():
    assert {"gcn", "gat", "sage", "appnp", "gcn2"} <= set(list_models(domain="graphs"))
    assert model_domain("gcn") == "graphs"
    assert list_models("gcn*") == ["gcn", "gcn2"]
    assert list_models("nothing*") == []


def test_natural_order(clean_registry):
    for n in (110, 20, 8):
        exec(f"def zznet{n}(): ...", scope := {"__name__": "somewhere"})
        register_model(scope[f"zznet{n}"])
    assert list_models("zznet*") == ["zznet8", "zznet20", "zznet110"]
    assert model_domain("zznet8") == "custom"
    assert list_models("zz*", domain="graphs") == []


def test_builder_name_is_the_models_name_and_is_taken_once(clean_registry):
    @register_model
    def tiny_for_test(width: int = 3, **kwargs) -> nn.Module:
        return nn.Linear(width, width, **kwargs)

    assert create_model("tiny_for_test", width=5, bias=False).weight.shape == (5, 5)
    with pytest.raises(ValueError, match="'tiny_for_test' is registered twice"):
        register_model(tiny_for_test)


def test_unknown_name_suggests_the_nearest():
    with pytest.raises(ValueError, match=r"unknown model 'gnc'; did you mean .*gcn"):
        create_model("gnc")
    with pytest.raises(ValueError, match=r"unknown model '@@@@'; there are .*gcn"):
        create_model("@@@@")
    with pytest.raises(ValueError, match="unknown domain 'graph'; the domains are graphs, images, points"):
        list_models(domain="graph")


def test_wrong_arguments_name_the_accepted_ones():
    with pytest.raises(TypeError, match=r"'gcn' takes no 'hidden'; it accepts in_channels: int, .*hidden_channels"):
        create_model("gcn", in_channels=3, num_classes=2, hidden=4)
    with pytest.raises(TypeError, match=r"'gcn' needs 'in_channels', 'num_classes'; it accepts"):
        create_model("gcn")
