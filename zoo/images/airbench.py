"""The network of airbench94, made for short trainings on CIFAR."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from comhe.zoo.adapters.images import sizes_of
from comhe.zoo.registry import register_model
from comhe.zoo.state import State

from .blocks import check_images

WIDTHS = (64, 256, 256)
LOGIT_SCALE = 1 / 9


class Whitening(nn.Module):
    r"""A 2x2 convolution with filters that are not trained: outputs are uncorrelated, of unit power.

    With the eigenvectors :math:`v_i` and eigenvalues :math:`\lambda_i` of the second moments of 2x2 patches, the
    filters are :math:`\pm v_i / \sqrt{\lambda_i + \epsilon}`, a buffer. Before :meth:`fit` they are random. The biases
    are trained.

    Shape: [B, C, H, W] -> [B, 8 C, H - 1, W - 1].
    Source: Jordan, 94% on CIFAR-10 in 3.29 Seconds on a Single GPU, arXiv 2404.00498, section 3.1.
    """

    weight: Tensor

    def __init__(self, in_channels: int, eps: float = 5e-4) -> None:
        super().__init__()
        self.in_channels, self.eps = in_channels, eps
        self.register_buffer("weight", torch.empty(8 * in_channels, in_channels, 2, 2))
        self.bias = nn.Parameter(torch.empty(8 * in_channels))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.kaiming_uniform_(self.weight, a=5**0.5)
        nn.init.zeros_(self.bias)

    @torch.no_grad()
    def fit(self, x: Tensor) -> None:
        """Set the filters from images [B, C, H, W], normalized as in training."""
        patches = F.unfold(x.double(), 2).transpose(1, 2).flatten(0, 1)
        values, vectors = torch.linalg.eigh((patches.T @ patches / len(patches)).cpu())
        largest = vectors.gather(0, vectors.abs().argmax(0, keepdim=True))
        filters = (vectors * largest.sign() / (values + self.eps).sqrt()).T  # eigenvectors have no sign of their own
        self.weight.copy_(torch.cat([filters, -filters]).view_as(self.weight))

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight, self.bias)

    def extra_repr(self) -> str:
        return f"{self.in_channels}, eps={self.eps}"


class Airbench(nn.Module):
    """A whitening layer, three blocks of two 3x3 convolutions with 64, 256 and 256 filters, and a linear layer; 2.0M
    parameters.

    Each convolution is followed by batch norm and GELU; the first of a block also by 2x2 max-pooling. Convolutions
    begin as the identity on their first filters. The maximum over all positions goes to the head, which has no bias;
    logits are divided by 9.

    Shape: [B, in_channels, H, W] -> [B, num_classes], H and W at least 9.
    Source: github.com/KellerJordan/cifar10-airbench; Jordan, arXiv 2404.00498.
    """

    output_layer = "fc"

    def __init__(self, num_classes: int, in_channels: int) -> None:
        super().__init__()
        self.whitening = Whitening(in_channels)
        self.features = nn.Sequential(nn.GELU(), *_layers(8 * in_channels))
        self.fc = nn.Linear(WIDTHS[-1], num_classes, bias=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.BatchNorm2d | nn.Linear | Whitening):
                module.reset_parameters()
        for module in self.features:
            if isinstance(module, nn.Conv2d):
                nn.init.dirac_(module.weight[: module.in_channels])

    def fit_inputs(self, x: Tensor) -> None:
        """Fit the whitening layer to images of the training set."""
        self.whitening.fit(x)

    def forward(self, x: Tensor) -> Tensor:
        x = self.features(self.whitening(check_images(x, self.whitening, 9)))
        return self.fc(x.amax((2, 3))) * LOGIT_SCALE

    @staticmethod
    def options_of(state: State) -> dict[str, object]:
        """Return the options that a network with these tensors is built with; of another kind of network, none."""
        if "whitening.weight" not in state:
            return {}
        return {**sizes_of(state, "whitening.weight", "fc.weight"), "model": "airbench94"}


def _layers(in_channels: int) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for width in WIDTHS:
        layers += [nn.Conv2d(in_channels, width, 3, padding=1, bias=False), nn.MaxPool2d(2)]
        layers += [nn.BatchNorm2d(width, momentum=0.4), nn.GELU()]
        layers += [nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width, momentum=0.4), nn.GELU()]
        in_channels = width
    return layers


@register_model(domain="images")
def airbench94(num_classes: int = 10, in_channels: int = 3) -> Airbench:
    """The network that reaches 94 % on CIFAR-10 in ten epochs of its own training."""
    return Airbench(num_classes, in_channels)
