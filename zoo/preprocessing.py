"""From raw inputs to what a pretrained network was trained on: stated as data in its card, applied here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from PIL.Image import Image

    from .graphs import SparseMatrix


@dataclass(frozen=True)
class ImageTransform:
    """(x / 255 - mean) / std of every channel; of files, what torchvision's evaluation does before.

    Args:
        mean, std: of each channel, on the scale 0..1.
        size: height and width that the network was trained at.
        resize: the shorter side of an image before ``size`` is cropped from its centre; None: images have that size.

    Shapes:
        uint8 [B, h, w, 3] or [h, w, 3] of that size, one PIL image or a list of them -> float32 [B, 3, h, w]
    Errors: ValueError for other tensors, and for images of another size where none is resized.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    size: tuple[int, int]
    resize: int | None = None

    def __call__(self, images: Tensor | Image | Sequence[Image]) -> Tensor:
        if not isinstance(images, Tensor):
            images = [images] if hasattr(images, "convert") else images
            images = torch.stack([self._pixels(image) for image in images])
        x = images[None] if images.dim() == 3 else images
        if x.dtype != torch.uint8 or x.dim() != 4 or tuple(x.shape[1:]) != (*self.size, 3):
            height, width = self.size
            raise ValueError(
                f"images must be uint8 [B, {height}, {width}, 3], or PIL images, not {images.dtype} "
                f"{list(images.shape)}; resize them to {width} x {height} pixels"
            )
        # Constants are rounded as in training, so that the same pixel gives the same bits.
        scale = torch.tensor([1 / (255 * std) for std in self.std], dtype=torch.float32, device=x.device)
        shift = torch.tensor([-m / s for m, s in zip(self.mean, self.std, strict=True)], dtype=torch.float32)
        return x.float().mul_(scale).add_(shift.to(x.device)).permute(0, 3, 1, 2)

    def _pixels(self, image: Image) -> Tensor:
        image = image.convert("RGB")
        if self.resize is not None:
            from torchvision.transforms import v2  # takes a second to import

            image = v2.CenterCrop(list(self.size))(v2.Resize(self.resize)(image))
        return torch.from_numpy(np.array(image))


@dataclass(frozen=True)
class PointTransform:
    """The mean of a cloud to the origin, its farthest point to distance 1, then its first ``points`` points.

    Columns after the coordinates (normals) are left as they are. Published clouds have been centred and scaled by
    their authors, and stay what they are but for rounding.

    Shapes:
        [B, P, channels] or [P, channels] -> float32 [B, at most points, channels]
    Errors: ValueError for another shape, and for a cloud that is one place.
    """

    points: int
    channels: int

    def __call__(self, clouds: Tensor) -> Tensor:
        x = clouds[None] if clouds.dim() == 2 else clouds
        if x.dim() != 3 or x.shape[-1] != self.channels or not x.shape[1]:
            raise ValueError(f"clouds must be [B, P, {self.channels}], points as rows, not {list(clouds.shape)}")
        places, others = x.double().split([3, self.channels - 3], -1)
        places = places - places.mean(1, keepdim=True)
        farthest = places.norm(dim=-1).amax(1)
        if not (farthest > 0).all():
            raise ValueError(f"cloud {int((farthest > 0).int().argmin())} (from 0) has only one place, or NaN")
        x = torch.cat((places / farthest[:, None, None], others), -1)
        return x[:, : self.points].float()


@dataclass(frozen=True)
class GraphTransform:
    """Features of every node divided by their sum; a node without any keeps none.

    Shapes:
        [N, features], dense or any sparse layout -> float32 [N, features]: dense, or a ``SparseMatrix``
    Errors: ValueError for another number of features.
    """

    features: int

    def __call__(self, x: Tensor) -> Tensor | SparseMatrix:
        if x.dim() != 2 or x.shape[1] != self.features:
            raise ValueError(f"features must be [N, {self.features}], not {list(x.shape)}")
        if x.layout == torch.strided:
            sums = x.double().sum(1, keepdim=True)
            return (x / sums.where(sums != 0, 1.0)).float()
        from .graphs import SparseMatrix

        rows, columns = x.to_sparse_coo().coalesce().indices()
        values = x.to_sparse_coo().coalesce().values().double()
        sums = torch.zeros(len(x), dtype=torch.float64, device=x.device).index_add_(0, rows, values)
        sums = sums.where(sums != 0, 1.0)
        return SparseMatrix.from_coo(rows, columns, (values / sums[rows]).float(), tuple(x.shape))


Transform = ImageTransform | PointTransform | GraphTransform
KINDS: dict[str, type[Transform]] = {"images": ImageTransform, "points": PointTransform, "graphs": GraphTransform}


def to_card(transform: Transform) -> dict[str, Any]:
    """The transform as data: its kind and its settings."""
    kind = next(name for name, cls in KINDS.items() if cls is type(transform))
    return {"kind": kind, **asdict(transform)}


def from_card(settings: Mapping[str, Any]) -> Transform:
    """The transform that :func:`to_card` made this of; lists of JSON become tuples again."""
    settings = {name: tuple(value) if isinstance(value, list) else value for name, value in settings.items()}
    return KINDS[settings.pop("kind")](**settings)
