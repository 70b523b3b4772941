import pytest
from torch import nn

from comhe.zoo import list_models, register_model
from comhe.zoo.registry import entries
from comhe.zoo.sizes import COUNTS, build_and_count, count_parameters

DEEP = ("resnet56", "resnet110", "resnet164", "resnet1001")  # which take seconds to build


@pytest.mark.usefixtures("without_values")
@pytest.mark.parametrize("name", [name for name in COUNTS if name not in DEEP])
def test_the_table_is_what_building_gives(name):
    assert build_and_count(name) == COUNTS[name]


def test_every_built_in_network_is_in_the_table():
    assert {name for name in list_models() if entries[name].builder.__module__.startswith("comhe.")} <= set(COUNTS)


def test_networks_of_others_are_counted_if_they_can_be_built():
    @register_model(domain="images")
    def my_layer(num_classes):
        return nn.Linear(2, num_classes)

    @register_model(domain="images")
    def needs_more(num_classes, width):
        return nn.Linear(width, num_classes)

    try:
        assert count_parameters("my_layer") == 30
        assert count_parameters("needs_more") is None
    finally:
        for name in ("my_layer", "needs_more"):
            entries.pop(name)
