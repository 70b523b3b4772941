"""Networks for point clouds, and the operations that they are built from."""

from .dgcnn import DGCNN
from .edge_conv import EdgeConv
from .external import model_from_state
from .model import PointModel, auxiliary_loss
from .operations import (
    ball_query,
    farthest_point_sampling,
    group,
    nearest_neighbors,
    query_and_group,
    squared_distances,
)
from .pointnet import PointNet, TransformNet
from .pointnet2 import PointNet2, Scale, SetAbstraction
from .shared_mlp import Head, SharedMLP

__all__ = [
    "DGCNN", "EdgeConv", "Head", "PointModel", "PointNet", "PointNet2", "Scale", "SetAbstraction", "SharedMLP",
    "TransformNet", "auxiliary_loss", "ball_query", "farthest_point_sampling", "group", "model_from_state",
    "nearest_neighbors", "query_and_group", "squared_distances",
]  # fmt: skip
