"""Augmentation and normalization of batches of images, on the device they are on.

All random numbers of an epoch are drawn beforehand, on the CPU, from seed and epoch alone, and belong to samples. So a
sample is augmented in the same way whatever the batch size, the device, and whether the run was resumed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad as zero_padded

from comhe.errors import UsageError, needs

if TYPE_CHECKING:
    from PIL.Image import Image

Normalization = tuple[tuple[float, ...], tuple[float, ...]]
# Means and standard deviations that turn x in 0..255 into (x - 127.5) / 128, as in the released code of CoMHE.
CENTERED: Normalization = ((0.5,) * 3, (128 / 255,) * 3)


@dataclass(frozen=True)
class Augmentation:
    """Random crop of the padded image, mirror image, and cutout; for images in memory.

    Attributes:
        pad: Pixels added on every side before a crop of the original size.
        mode: ``"zero"`` pads with black, ``"symmetric"`` with the mirror image, the edge included (released code).
        flip: Mirror left and right with probability 1/2.
        cutout: The side of a square around a uniformly drawn pixel, clipped at the borders, that is set to 0 *after*
            normalization, so to the mean color.

    Example:
        >>> augmentation = Augmentation(pad=1)
        >>> draws = augmentation.draw(2, 4, 4, torch.Generator().manual_seed(0))
        >>> augmentation.move(torch.zeros(2, 4, 4, 3, dtype=torch.uint8), draws).shape
        torch.Size([2, 4, 4, 3])

    Source: He et al., CVPR 2016 (pad 4, crop, flip); DeVries and Taylor, arXiv 1708.04552 (cutout).
    """

    pad: int = 4
    mode: Literal["zero", "symmetric"] = "zero"
    flip: bool = True
    cutout: int = 0

    def __post_init__(self) -> None:
        if self.mode not in ("zero", "symmetric"):
            raise UsageError(f"mode must be 'zero' or 'symmetric', not {self.mode!r}")
        for name in ("pad", "cutout"):
            if not isinstance(getattr(self, name), int) or getattr(self, name) < 0:
                raise UsageError(f"{name} must be a number of pixels >= 0, not {getattr(self, name)!r}")

    def draw(self, count: int, height: int, width: int, generator: torch.Generator) -> Tensor:
        """Draw for samples, int64 [count, 5]: crop's top and left, flip, cutout's row and column, even what is off."""
        if self.mode == "symmetric" and self.pad > min(height, width):
            raise UsageError(f"symmetric pad {self.pad} is larger than the image, {width}x{height}")
        ranges = (2 * self.pad + 1, 2 * self.pad + 1, 2, height, width)
        return torch.stack([torch.randint(high, (count,), generator=generator) for high in ranges], 1)

    def move(self, pixels: Tensor, draws: Tensor) -> Tensor:
        """Crop, then flip: uint8 [b, h, w, c] and their draws -> uint8 [b, h, w, c], contiguous."""
        if self.pad:
            pixels = _crop(_padded(pixels, self.pad, self.mode), self.pad, draws[:, 0], draws[:, 1])
        if self.flip:
            # Selecting images from both is several times faster than torch.where on bytes.
            both = torch.cat([pixels, pixels.flip(2)])
            pixels = both.index_select(0, torch.arange(len(draws), device=draws.device) + len(draws) * draws[:, 2])
        return pixels

    def cut(self, x: Tensor, draws: Tensor) -> None:
        """Cut out, in place: contiguous [b, h, w, c] and their draws."""
        if self.cutout:
            b, h, w, c = x.shape
            rows = _outside(h, draws[:, 3:4], self.cutout)
            columns = _outside(w, draws[:, 4:5], self.cutout).repeat_interleave(c, 1)
            # Floats, because masks of bytes are several times slower.
            x.view(b, h, w * c).mul_(torch.maximum(rows[:, :, None], columns[:, None, :]))


@dataclass(frozen=True)
class ResizedCrop:
    """A random region of the image, resized to the set's size, and its mirror image; for images read from files.

    ``scale`` bounds the fraction of the image's area, ``ratio`` the width divided by the height.

    Example:
        >>> ResizedCrop(scale=(0.25, 1.0)).flip
        True

    Source: Szegedy et al., CVPR 2015, with torchvision's defaults.
    """

    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    flip: bool = True

    def transform(self, size: int) -> Callable[[Image], Image]:
        """Return torchvision's transforms, which draw from torch's global generator."""
        with needs("zoo", "the augmentation of ImageNet"):
            from torchvision.transforms import v2  # takes a second to import

        crop = v2.RandomResizedCrop(size, self.scale, self.ratio)
        return v2.Compose([crop, v2.RandomHorizontalFlip()]) if self.flip else crop


class Normalizer:
    """(x / 255 - mean) / std for contiguous uint8 pixels [b, h, width, c]; float32, contiguous, of the same shape.

    One multiplication and one addition, each rounded, so that the same pixel gives the same bits on every device.
    """

    def __init__(
        self, normalization: Normalization, width: int, device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32, channels_last: bool = True,
    ) -> None:  # fmt: skip
        mean, std = (np.array(values, dtype=np.float64) for values in normalization)
        if mean.shape != (3,) or std.shape != (3,) or not (std > 0).all():
            raise UsageError(f"normalization must be (means, positive stds) of three channels, not {normalization!r}")
        # Repeated for a full row, which is long enough for vector instructions; three channels are not.
        mean, std = np.tile(mean, width), np.tile(std, width)
        self.scale = torch.tensor(1 / (255 * std), dtype=torch.float32, device=device)
        self.shift = torch.tensor(-mean / std, dtype=torch.float32, device=device)
        self.dtype, self.channels_last = dtype, channels_last

    def __call__(self, pixels: Tensor) -> Tensor:
        return pixels.view(-1, len(self.scale)).float().mul_(self.scale).add_(self.shift).view(pixels.shape)

    def channels_first(self, x: Tensor) -> Tensor:
        """Permute contiguous [b, h, w, c] to [b, c, h, w], without a copy if the memory format is channels-last."""
        x = x.permute(0, 3, 1, 2).to(self.dtype)
        return x if self.channels_last else x.contiguous()


def _padded(pixels: Tensor, pad: int, mode: str) -> Tensor:
    _, h, w, _ = pixels.shape
    out = zero_padded(pixels, (0, 0, pad, pad, pad, pad))
    if mode == "symmetric":
        middle = out[:, pad : pad + h]
        nearest = torch.arange(pad, device=pixels.device)
        middle[:, :, :pad] = pixels.index_select(2, nearest.flip(0))  # pixels.flip(2) is slow on a few columns
        middle[:, :, pad + w :] = pixels.index_select(2, w - 1 - nearest)
        out[:, :pad] = out[:, pad : 2 * pad].flip(1)
        out[:, pad + h :] = out[:, h : pad + h].flip(1)
    return out


def _crop(padded: Tensor, pad: int, top: Tensor, left: Tensor) -> Tensor:
    """One window of each padded image. All windows of the batch are rows of a view, so one gather selects them."""
    b, hp, wp, c = padded.shape
    h, w = hp - 2 * pad, wp - 2 * pad
    windows = ((b - 1) * hp + 2 * pad) * wp + 2 * pad + 1
    view = padded.as_strided((windows, h, w * c), (c, wp * c, 1))
    first = torch.arange(0, b * hp * wp, hp * wp, device=padded.device)
    return view.index_select(0, first + top * wp + left).view(b, h, w, c)


def _outside(size: int, center: Tensor, side: int) -> Tensor:
    """0 inside the interval of length ``side`` around each center [b, 1], else 1; [b, size]."""
    distance = torch.arange(size, device=center.device) - (center - side // 2)
    return ((distance < 0) | (distance >= side)).float()
