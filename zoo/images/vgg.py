"""VGG-16 with batch norm for 32x32 images."""

from torch import Tensor, nn

from comhe.zoo.adapters.images import adapt_vgg, sizes_of
from comhe.zoo.registry import register_model
from comhe.zoo.state import State

from .blocks import check_images, he_init, plain_stages, plain_widths

STAGES = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))


@register_model(domain="images", name="vgg16_bn")
class VGG(nn.Module):
    """The 13 convolutions of configuration D, each with batch norm and ReLU, and one linear layer; 14.7M parameters.

    Five 2x2 max-poolings reduce 32x32 to 1x1, where the ImageNet network's three large linear layers have nothing to
    combine; the usual CIFAR form keeps the last only. The convolutions have no bias, which batch norm would cancel, and
    torchvision's names (``features.0``, ``features.1``, ``features.3`` ...); the head is ``classifier`` itself. Larger
    images are averaged over the remaining positions.

    Shape: [B, in_channels, H, W] -> [B, num_classes], H and W at least 32.
    Source: Simonyan & Zisserman, Very Deep Convolutional Networks, ICLR 2015, table 1, column D; the rest as in
        github.com/szagoruyko/wide-residual-networks (models/vgg.lua).
    """

    output_layer = "classifier"

    def __init__(self, num_classes: int = 100, in_channels: int = 3) -> None:
        super().__init__()
        self.features = plain_stages(in_channels, STAGES)
        self.classifier = nn.Linear(512, num_classes)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        he_init(self)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(check_images(x, self.features[0], 32)).mean((2, 3)))

    adapt = staticmethod(adapt_vgg)

    @staticmethod
    def options_of(state: State) -> dict[str, object]:
        """Return the options that a network with these tensors is built with; of another kind of network, none."""
        if plain_widths(state) != [width for widths in STAGES for width in widths]:
            return {}
        return {**sizes_of(state, "features.0.weight", "classifier.weight"), "model": "vgg16_bn"}
