"""Preprocessing of raw inputs for a pretrained network: described in its card, applied here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from comhe.errors import UsageError

if TYPE_CHECKING:
    from PIL.Image import Image

    from .graphs import SparseMatrix


@dataclass(frozen=True)
class ImageTransform:
    """Compute (x / 255 - mean) / std of every channel; resize and crop files first, as torchvision's evaluation does.

    ``mean`` and ``std`` are on the scale 0..1, ``size`` is the height and width that the network was trained at. An
    image's shorter side is resized to ``resize`` before ``size`` is cropped from its center, unless images have that
    size already (None).

    Shape: uint8 [B, h, w, 3] or [h, w, 3] of that size, one PIL image or a list of them -> float32 [B, 3, h, w]
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    size: tuple[int, int]
    resize: int | None = None

    def __call__(self, images: Tensor | Image | Sequence[Image]) -> Tensor:
        if not isinstance(images, Tensor):
            several = images if isinstance(images, Sequence) else [images]
            images = torch.stack([self._pixels(image) for image in several])
        x = images[None] if images.dim() == 3 else images
        if x.dtype != torch.uint8 or x.dim() != 4 or tuple(x.shape[1:]) != (*self.size, 3):
            height, width = self.size
            raise UsageError(
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
    """Move a cloud's mean to the origin and its farthest point to distance 1, then take its first ``points`` points.

    Columns after the coordinates (normals) are left as they are. Published clouds were centered and scaled by their
    authors, and change by rounding only.

    Shape: [B, P, channels] or [P, channels] -> float32 [B, at most points, channels]
    """

    points: int
    channels: int

    def __call__(self, clouds: Tensor) -> Tensor:
        x = clouds[None] if clouds.dim() == 2 else clouds
        if x.dim() != 3 or x.shape[-1] != self.channels or not x.shape[1]:
            raise UsageError(f"clouds must be [B, P, {self.channels}], points as rows, not {list(clouds.shape)}")
        positions, others = x.double().split([3, self.channels - 3], -1)
        positions = positions - positions.mean(1, keepdim=True)
        farthest = positions.norm(dim=-1).amax(1)
        if not (farthest > 0).all():
            raise UsageError(f"cloud {int((farthest > 0).int().argmin())} (from 0) has no two distinct points, or NaN")
        x = torch.cat((positions / farthest[:, None, None], others), -1)
        return x[:, : self.points].float()


@dataclass(frozen=True)
class GraphTransform:
    """Divide the features of every node by their sum, where ``normalize``; a node without any keeps none.

    Where ``undirected``, edges get both directions, and duplicates and self-loops go. Otherwise both are used as given.

    Shape: [N, features], dense, a numpy array or any sparse layout -> float32 [N, features]: dense, or a
        ``SparseMatrix``
    """

    features: int
    normalize: bool = True
    undirected: bool = True

    def __call__(self, x: Tensor) -> Tensor | SparseMatrix:
        x = torch.as_tensor(x)
        if x.dim() != 2 or x.shape[1] != self.features:
            raise UsageError(f"features must be [N, {self.features}], not {list(x.shape)}")
        if x.layout == torch.strided:
            return self._divided(x, x.double().sum(1, keepdim=True)).float()
        from .graphs import SparseMatrix  # here, because it brings torch_geometric along

        entries = x.to_sparse_coo().coalesce()
        (rows, columns), values = entries.indices(), entries.values().double()
        sums = torch.zeros(len(x), dtype=torch.float64, device=x.device).index_add_(0, rows, values)
        return SparseMatrix.from_coo(rows, columns, self._divided(values, sums[rows]).float(), (len(x), self.features))

    def edges(self, edge_index: Tensor, nodes: int, weight: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Prepare edges [2, E] of so many nodes, and weights [E]: of one pair of nodes the mean stays."""
        edge_index = torch.as_tensor(edge_index)
        weight = None if weight is None else torch.as_tensor(weight).float()
        sound = edge_index.dim() == 2 and len(edge_index) == 2 and not edge_index.is_floating_point()
        if not sound or (edge_index.numel() and not 0 <= int(edge_index.min()) <= int(edge_index.max()) < nodes):
            kind = f"{edge_index.dtype} {list(edge_index.shape)}"
            raise UsageError(f"edges must be [2, E] numbers of the nodes 0..{nodes - 1}, not {kind}")
        if weight is not None and weight.shape != edge_index.shape[1:]:
            raise UsageError(f"weights must be [{edge_index.shape[1]}], one for an edge, not {list(weight.shape)}")
        edge_index = edge_index.long()
        if not self.undirected:
            return edge_index, weight
        keep = edge_index[0] != edge_index[1]
        source, target = edge_index[:, keep]
        keys, pair = torch.cat((source * nodes + target, target * nodes + source)).unique(return_inverse=True)
        if weight is not None:
            both, zeros = weight[keep].double().repeat(2), torch.zeros(len(keys), dtype=torch.float64)
            counts = zeros.to(both.device).index_add(0, pair, torch.ones_like(both))
            weight = (zeros.to(both.device).index_add(0, pair, both) / counts).float()
        return torch.stack((keys // nodes, keys % nodes)) if nodes else edge_index, weight

    def _divided(self, x: Tensor, sums: Tensor) -> Tensor:
        return x.double() / sums.where(sums != 0, 1.0) if self.normalize else x


Transform = ImageTransform | PointTransform | GraphTransform
KINDS: dict[str, type[Transform]] = {"images": ImageTransform, "points": PointTransform, "graphs": GraphTransform}


def to_card(transform: Transform) -> dict[str, Any]:
    """Describe a transform as data: its kind and its settings."""
    kind = next(name for name, cls in KINDS.items() if cls is type(transform))
    return {"kind": kind, **asdict(transform)}


def from_card(settings: Mapping[str, Any]) -> Transform:
    """Build the transform that :func:`to_card` described; lists of JSON become tuples again."""
    settings = {name: tuple(value) if isinstance(value, list) else value for name, value in settings.items()}
    return KINDS[settings.pop("kind")](**settings)
