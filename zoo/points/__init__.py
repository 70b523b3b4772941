"""Networks for point clouds, and the operations they are made of."""

from .dgcnn import DGCNN
from .edge_conv import EdgeConv
from .model import PointModel
from .operations import (
    ball_query,
    farthest_point_sampling,
    group,
    interpolate,
    nearest_neighbours,
    query_and_group,
    squared_distances,
)
from .pointnet import PointNet, TransformNet
from .pointnet2 import PointNet2, Scale, SetAbstraction
from .ports import load_port
from .shared_mlp import Head, SharedMLP

__all__ = [
    "DGCNN",
    "EdgeConv",
    "Head",
    "PointModel",
    "PointNet",
    "PointNet2",
    "Scale",
    "SetAbstraction",
    "SharedMLP",
    "TransformNet",
    "ball_query",
    "farthest_point_sampling",
    "group",
    "interpolate",
    "load_port",
    "nearest_neighbours",
    "query_and_group",
    "squared_distances",
]
