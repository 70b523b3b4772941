"""Networks for images."""

from .cnn import CNN

__all__ = ["CNN"]
