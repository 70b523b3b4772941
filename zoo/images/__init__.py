"""Networks for images."""

from . import imagenet  # noqa: F401
from .airbench import Airbench
from .cnn import CNN
from .preact import PreactResNet
from .resnet_cifar import CifarResNet
from .vgg import VGG

__all__ = ["CNN", "VGG", "Airbench", "CifarResNet", "PreactResNet"]
