"""PointNet, with and without its transforms."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from comhe.zoo.registry import register_model

from .model import PointModel
from .shared_mlp import Head, SharedMLP


class TransformNet(nn.Module):
    """A matrix for each cloud, from all of its points: the identity plus a small PointNet's output, initially zero.

    Shape: [B, N, in_channels] -> [B, size, size]
    """

    def __init__(self, in_channels: int, size: int) -> None:
        super().__init__()
        self.size = size
        self.points = SharedMLP([in_channels, 64, 128, 1024])
        self.head = Head([1024, 512, 256], size * size, dropout=(0.0, 0.0))

    def forward(self, x: Tensor) -> Tensor:
        matrix = self.head(self.points(x)).unflatten(1, (self.size, self.size))
        return matrix + torch.eye(self.size, dtype=matrix.dtype, device=matrix.device)


class PointNet(PointModel):
    r"""A shared MLP at every point, the maximum over the points, and a classifier.

    With an input transform, points are first multiplied by a 3 x 3 matrix that a network computes from the cloud; with
    a feature transform, the features of the layers ``local`` by a 64 x 64 one, :math:`T_b`. The auxiliary loss keeps
    :math:`T_b` close to the orthogonal matrices, with the weight w = ``orthogonality``:

    .. math:: \frac{w}{2} \sum_b |T_b T_b^\top - I|_F^2

    a sum over the batch, as in the released code (for 32 clouds and w = 0.001, 0.016 times the mean). Columns beyond
    the coordinates enter the network of the input transform but are not multiplied by its matrix. ``slope`` is that of
    the activation after the maximum, below zero; some implementations have none (1).

    Source: Qi et al., PointNet, CVPR 2017 (github.com/charlesq34/pointnet).
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        dropout: Sequence[float],
        input_transform: bool = False,
        feature_transform: bool = False,
        orthogonality: float = 0.001,
        local: Sequence[int] = (64, 64),
        features: Sequence[int] = (64, 128, 1024),
        slope: float = 0.0,
    ) -> None:
        super().__init__(in_channels, num_classes)
        self.orthogonality = orthogonality
        self._matrix: Tensor | None = None
        self.input_transform = TransformNet(in_channels, 3) if input_transform else None
        self.local: SharedMLP | None = None
        self.feature_transform: TransformNet | None = None
        widths = [in_channels, *local]
        if feature_transform:
            self.local = SharedMLP(widths, pool=False)
            self.feature_transform = TransformNet(local[-1], local[-1])
            widths = [local[-1]]
        self.features = SharedMLP([*widths, *features], slope=slope)
        self.head = Head([features[-1], 512, 256], num_classes, dropout)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        super().reset_parameters()
        for module in (self.input_transform, self.feature_transform):
            if module is not None:
                nn.init.zeros_(module.head.output.weight)

    def forward(self, x: Tensor) -> Tensor:
        self.check_input(x)
        self._matrix = None  # and with it the graph of the step before, which this one would share its nodes with
        if self.input_transform is not None:
            x = torch.cat((x[..., :3] @ self.input_transform(x), x[..., 3:]), -1)
        if self.local is not None and self.feature_transform is not None:
            x = self.local(x)
            matrix = self.feature_transform(x)
            x = x @ matrix
            self._matrix = matrix if self.training else None
        return self.head(self.features(x))

    def auxiliary_loss(self) -> Tensor:
        if self.feature_transform is None:
            return super().auxiliary_loss()
        if self._matrix is None:
            raise RuntimeError(
                "auxiliary_loss() is that of the last forward pass in training mode; call model(x) first"
            )
        matrix = self._matrix.float()
        deviation = matrix @ matrix.mT - torch.eye(matrix.shape[-1], device=matrix.device)
        return self.orthogonality / 2 * deviation.square().sum()

    def __getstate__(self) -> dict:
        return self.__dict__ | {"_matrix": None}  # it belongs to a graph, which can be neither copied nor pickled

    def extra_repr(self) -> str:
        loss = "" if self.feature_transform is None else f", orthogonality={self.orthogonality}"
        return super().extra_repr() + loss


@register_model(domain="points")
def pointnet(num_classes: int = 40, in_channels: int = 3, dropout: float = 0.3) -> PointNet:
    """PointNet without transforms: 64, 64, 64, 128, 1024, maximum, 512, 256, dropout before the last layer."""
    return PointNet(in_channels, num_classes, (0.0, dropout))


@register_model(domain="points")
def pointnet_cls(
    num_classes: int = 40, in_channels: int = 3, dropout: float = 0.3, feature_transform: bool = True,
    orthogonality: float = 0.001,
) -> PointNet:  # fmt: skip
    """The usual PyTorch port: 64, 128, 1024, and no activation after the last; for the weights of such ports.

    fxia22/pointnet.pytorch (with or without feature transform), yanx27/Pointnet_Pointnet2_pytorch.
    """
    rates, local, features = (0.0, dropout), (64,), (128, 1024)
    return PointNet(in_channels, num_classes, rates, True, feature_transform, orthogonality, local, features, 1.0)


@register_model(domain="points")
def pointnet_t(
    num_classes: int = 40, in_channels: int = 3, dropout: float = 0.3, orthogonality: float = 0.001
) -> PointNet:
    """PointNet with the input and the feature transform, and dropout in both hidden layers of the classifier.

    Exclude the transforms from a regularizer with ``exclude="*_transform.*"``, or only the layers that output the
    matrices with ``exclude="*_transform.head.output"``.
    """
    return PointNet(in_channels, num_classes, (dropout, dropout), True, True, orthogonality)
