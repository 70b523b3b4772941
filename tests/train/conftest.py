import pytest

from comhe.train.graphs import GraphRecipe


@pytest.fixture
def recipe() -> GraphRecipe:
    """A short run on the built-in graph."""
    return GraphRecipe(
        recipe="test", data="citations", epochs=12, regularizer="rp-comhe", regularizer_options={"dim": 8}
    )
