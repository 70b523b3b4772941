"""Preprocessing of raw inputs for a pretrained network: described in its card, applied here."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from comhe.errors import UsageError, check_choice
from comhe.inputs.files import text_seed
from comhe.inputs.pixels import center, fit, to_images
from comhe.inputs.shapes import AXES, POINTS, random_rows, read_cloud, turn

if TYPE_CHECKING:
    from PIL.Image import Image

    from .graphs import SparseMatrix


@dataclass(frozen=True)
class ImageTransform:
    """Compute (x / 255 - mean) / std of every channel of images of any origin and size, as training reads files.

    ``mean`` and ``std`` are on the scale 0..1, ``size`` is the height and width that the network was trained at. As in
    torchvision's evaluation, an image's shorter side is resized to ``resize``, and ``size`` cropped from its center.
    Without ``resize``, an image of another size is resized to cover ``size``, and its center is cropped.

    Images are PIL images, paths of files, arrays and tensors, one of them or several in a list, as
    :func:`comhe.inputs.pixels.to_images` reads them: the channels may be the first axis or the last one.

    Shape: B images -> float32 [B, 3, h, w], on the device of a tensor
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    size: tuple[int, int]
    resize: int | None = None

    def __call__(self, images: Any) -> Tensor:
        device = images.device if isinstance(images, Tensor) else "cpu"
        x = self._ready(images)
        if x is None:
            pixels = [np.array(self._resized(image)) for image in to_images(images, self.size)]
            x = torch.from_numpy(np.array(pixels, np.uint8).reshape(-1, *self.size, 3)).to(device)
        # Constants are rounded as in training, so that the same pixel gives the same bits.
        scale = torch.tensor([1 / (255 * std) for std in self.std], dtype=torch.float32, device=x.device)
        shift = torch.tensor([-m / s for m, s in zip(self.mean, self.std, strict=True)], dtype=torch.float32)
        return x.float().mul_(scale).add_(shift.to(x.device)).permute(0, 3, 1, 2)

    def _ready(self, images: Any) -> Tensor | None:
        """The pixels [B, h, w, 3] of a tensor in which nothing is left to do: it stays on its device, in one piece."""
        if not isinstance(images, Tensor) or images.dtype != torch.uint8 or self.resize is not None:
            return None
        x = images[None] if images.dim() == 3 else images
        return x if x.dim() == 4 and tuple(x.shape[1:]) == (*self.size, 3) else None

    def _resized(self, image: Image) -> Image:
        if self.resize is not None:
            return center(self.resize, self.size)(image)
        height, width = self.size
        return fit(image, (width, height))


@dataclass(frozen=True)
class PointTransform:
    """Move a cloud's mean to the origin and its farthest point to distance 1, then draw ``points`` of its points.

    They are a random subset, always the same one of as many points, whatever the order of the points; if there are
    fewer, all of them and repeats of some. Columns after the coordinates (normals) are only turned. Published clouds
    were centered and scaled by their authors, and change by rounding only. ``up`` is the axis that points up in the
    clouds that the network was trained on.

    Clouds are arrays and tensors, whose points are rows if the last size is ``channels``, else columns; files of meshes
    and clouds (without normals), of which points are drawn as in training; one of them, or several in a list. If the
    network takes no normals, all columns after the third are dropped (normals, colors).

    Shape: [B, P, channels], [P, channels], [B, channels, P] or [channels, P] -> float32 [B, points, channels]
    """

    points: int
    channels: int
    up: str = "y"

    def __post_init__(self) -> None:
        check_choice("up", self.up, tuple(AXES))

    def __call__(self, clouds: Any, up: str | None = None) -> Tensor:
        """Return clouds for the network; ``up`` is the axis that points up in them, if it is another one."""
        if up is not None:
            check_choice("up", up, tuple(AXES))
        clouds = list(clouds) if isinstance(clouds, Iterator) else clouds
        if isinstance(clouds, list | tuple) and not isinstance(next(iter(clouds), None), list | tuple | float | int):
            return torch.cat([self(cloud, up) for cloud in clouds] or [torch.empty(0, self.points, self.channels)])
        x = self._rows(clouds)
        if up is not None:
            x = turn(x, up, self.up)
        positions, others = x.double().split([3, self.channels - 3], -1)
        positions = positions - positions.mean(1, keepdim=True)
        farthest = positions.norm(dim=-1).amax(1)
        if not (farthest > 0).all():
            raise UsageError(f"cloud {int((farthest > 0).int().argmin())} (from 0) has no two distinct points, or NaN")
        x = torch.cat((positions / farthest[:, None, None], others), -1)
        if x.shape[1] != self.points:
            generator = torch.Generator().manual_seed(text_seed(f"points of {x.shape[1]}"))
            x = x[:, random_rows(x.shape[1], self.points, generator).to(x.device)]
        return x.float()

    def _rows(self, clouds: Any) -> Tensor:
        """Return clouds as [B, P, channels]."""
        if isinstance(clouds, str | os.PathLike):
            path = Path(clouds)
            if self.channels != 3:
                raise UsageError(f"{path}: this network takes normals, too; give it arrays [P, {self.channels}]")
            clouds = read_cloud(path, max(POINTS, self.points), "")[: self.points]  # as they are evaluated
        if isinstance(clouds, Tensor):
            x = clouds.detach()
        else:
            try:
                x = torch.from_numpy(np.asarray(clouds).astype(np.float64, casting="same_kind"))
            except (TypeError, ValueError) as error:
                raise UsageError(
                    f"clouds must be numbers in arrays or tensors, or paths, not {type(clouds)}"
                ) from error
        x = x[None] if x.dim() == 2 else x
        more = range(3, 16) if self.channels == 3 else ()
        if x.dim() == 3 and 0 not in x.shape[1:]:
            for columns in ((self.channels,), (6,) if more else (), more):
                for rows in (x, x.mT):
                    if rows.shape[2] in columns and (rows is x or rows.shape[1] >= rows.shape[2]):
                        return rows[..., : self.channels]
        wanted = f"[B, P, {self.channels}] or [B, {self.channels}, P]"
        raise UsageError(f"clouds must be {wanted}, or one of these, not {list(x.shape)}")


@dataclass(frozen=True)
class GraphTransform:
    """Divide the features of every node by their sum, where ``normalize``; a node without any keeps none.

    Where ``undirected``, edges get both directions, and duplicates and self-loops go. Otherwise both are used as given.
    ``names`` are those of the features, if they had any.

    Shape: [N, features], dense, a numpy array or any sparse layout -> float32 [N, features]: dense, or a
        ``SparseMatrix``
    """

    features: int
    normalize: bool = True
    undirected: bool = True
    names: tuple[str, ...] = ()

    def __call__(self, x: Tensor) -> Tensor | SparseMatrix:
        try:
            x = torch.as_tensor(x)
        except (TypeError, ValueError, RuntimeError) as error:
            kinds = f"[N, {self.features}] in an array or a tensor, dense or sparse of torch"
            raise UsageError(f"features must be numbers {kinds}, not {type(x).__name__}") from error
        if x.dim() != 2 or x.shape[1] != self.features:
            raise UsageError(f"the network reads features [N, {self.features}], not {list(x.shape)}")
        x = self.divided(x)
        if not (finite := (x if x.layout == torch.strided else x.values()).isfinite()).all():
            first = (~finite).nonzero()[0, 0]
            node = first if x.layout == torch.strided else x.indices()[0, first]
            raise UsageError(
                f"a feature of node {int(node)} is not finite; give numbers, such as 0, for what is missing"
            )
        if x.layout == torch.strided:
            return x
        from .graphs import SparseMatrix  # here, because it registers the graph networks

        rows, columns = x.indices()
        return SparseMatrix.from_coo(rows, columns, x.values(), (len(x), self.features))

    def divided(self, x: Tensor) -> Tensor:
        """Divide features [N, features], dense or of any sparse layout; they become float32, dense or coalesced COO."""
        if x.layout == torch.strided:
            return self._over(x, x.double().sum(1, keepdim=True)).float()
        entries = x.to_sparse_coo().coalesce()
        indices, values = entries.indices(), entries.values().double()
        sums = torch.zeros(len(x), dtype=torch.float64, device=x.device).index_add_(0, indices[0], values)
        values = self._over(values, sums[indices[0]]).float()
        return torch.sparse_coo_tensor(indices, values, x.shape, is_coalesced=True, check_invariants=False)

    def edges(self, edge_index: Any, nodes: int, weight: Any = None) -> tuple[Tensor, Tensor | None]:
        """Prepare edges [2, E] of so many nodes, and weights [E]: of one pair of nodes the mean stays.

        Edges may be two tensors or arrays [E], or a scipy adjacency, row to column, whose values are weights unless
        all are 1.
        """
        from .graphs.model import as_edges  # here, because it registers the graph networks

        if hasattr(edge_index, "tocoo"):
            entries = edge_index.tocoo()
            weight = entries.data if weight is None and (entries.data != 1).any() else weight
            edge_index = entries.row, entries.col
        wanted = "edges must be a tensor or an array [2, E], a pair of those of their ends, or a scipy adjacency"
        edge_index = as_edges(edge_index, wanted)
        weight = None if weight is None else torch.as_tensor(weight).float()
        sound = edge_index.dim() == 2 and len(edge_index) == 2 and not edge_index.is_floating_point()
        if not sound or (edge_index.numel() and not 0 <= int(edge_index.min()) <= int(edge_index.max()) < nodes):
            kind = f"{edge_index.dtype} {list(edge_index.shape)}"
            if sound:
                kind += f" of the nodes {int(edge_index.min())}..{int(edge_index.max())}"
            raise UsageError(f"edges must be [2, E] numbers of the nodes 0..{nodes - 1}, not {kind}")
        if weight is not None and weight.shape != edge_index.shape[1:]:
            raise UsageError(f"weights must be [{edge_index.shape[1]}], one for an edge, not {list(weight.shape)}")
        if weight is not None and not (good := weight.isfinite() & (weight >= 0)).all():
            raise UsageError(f"the weight {float(weight[~good][0]):g} of an edge is negative or not finite")
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

    def _over(self, x: Tensor, sums: Tensor) -> Tensor:
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
