"""DGCNN: the number of points."""

import pytest

from .conftest import cloud, small


def test_dgcnn_needs_as_many_points_as_neighbors():
    with pytest.raises(ValueError, match="cannot find 20 nearest of 19 points"):
        small("dgcnn")(cloud(size=19))
