"""What was chosen on validation replaces the settings of a recipe."""

import pytest

from comhe.errors import UsageError
from comhe.train import ImageRecipe, choices, get_recipe
from comhe.train.choices import base_recipe, chosen


def test_a_cell_has_its_own_choice_and_others_have_the_recipe(monkeypatch):
    monkeypatch.setattr(choices, "_choices", lambda: {"brief": {"resnet8.glyphs-hs-mhe": {"weight": 0.3}}})

    @chosen
    def brief(model: str, data: str, regularizer: str) -> ImageRecipe:
        """Return three epochs."""
        return ImageRecipe(model=model, data=data, regularizer=regularizer, epochs=3)

    assert brief("resnet8", "glyphs", "hs-mhe") == brief.__wrapped__("resnet8", "glyphs", "hs-mhe").replace(weight=0.3)
    assert brief("resnet8", "digits", "hs-mhe") == brief.__wrapped__("resnet8", "digits", "hs-mhe")
    assert brief.__name__ == "brief"


def test_the_base_is_the_recipe_before_anything_was_chosen():
    base = base_recipe("airbench", "airbench94", "cifar10", "hs-mhe")
    found = get_recipe("airbench", "airbench94", "cifar10", "hs-mhe")
    assert (base.weight, base.output_weight) == (None, None)
    assert found == base.replace(weight=0.3, output_weight=10.0)


def test_a_recipe_with_fixed_settings_has_nothing_to_choose():
    with pytest.raises(UsageError, match="nothing can be chosen for modern"):
        base_recipe("modern", "resnet8", "glyphs", "hs-mhe")
