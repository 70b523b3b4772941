"""Networks for use without this package: ``torch.export`` programs and ONNX files (``pip install 'comhe[export]'``).

>>> program = export_model(create_model("resnet20", weights="cifar100-none"), torch.zeros(2, 3, 32, 32))
>>> export_onnx(model, "gcn.onnx", *graph_inputs(model, x, edge_index))
"""

from __future__ import annotations

import os
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram


def export_model(model: nn.Module, *inputs: Tensor) -> ExportedProgram:
    """The model in evaluation, as a program of plain operations on tensors.

    Image and point networks take one batch, [B, 3, H, W] or [B, N, C]; the batch's size stays free wherever torch can
    leave it so. Graph networks take what :func:`graph_inputs` gives; numbers of nodes and edges stay free.

    Args:
        inputs: an example, of at least two samples; of other sizes than its first the program has its shapes.
    """
    return torch.export.export(_plain(model), inputs, dynamic_shapes=tuple({0: Dim.AUTO} for _ in inputs))


def export_onnx(model: nn.Module, path: str | os.PathLike, *inputs: Tensor) -> None:
    """The same as an ONNX file.

    Errors: ImportError without the packages that torch writes ONNX with.
    """
    try:
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ImportError("ONNX needs packages that are not here: pip install 'comhe[export]'") from error
    torch.onnx.export(export_model(model, *inputs), f=path, dynamo=True, external_data=False, verbose=False)


def graph_inputs(model: nn.Module, x: Tensor, edge_index: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """What an exported graph network takes: features, and the operator that this model applies to the graph.

    Shapes:
        x [N, in_channels], edge_index int64 [2, E] -> x, target int64 [n], source int64 [n], values [n]
    """
    adjacency = model.propagation(edge_index, len(x))
    target, source = adjacency.indices()
    return x, target.long(), source.long(), adjacency.values.clone()  # not a view of a sparse tensor


def _plain(model: nn.Module) -> nn.Module:
    """The model, or one that takes tensors only."""
    model = model.eval()
    if not hasattr(model, "propagation"):
        return model
    return _OnEdges(model)


class _OnEdges(nn.Module):
    """A graph network whose graph is three tensors."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor, target: Tensor, source: Tensor, values: Tensor) -> Tensor:
        from .graphs import Operators  # here, so that the other networks do without torch_geometric

        edges = _Edges(target, source, values, x.shape[0])  # len(x) would be the example's for good
        return self.model(x, Operators(edges))


@dataclass(frozen=True)
class _Edges:
    """What a network asks of a ``SparseMatrix`` in evaluation, by indexing: sparse layouts cannot be exported."""

    target: Tensor
    source: Tensor
    values: Tensor
    size: int

    @property
    def shape(self) -> tuple[int, int]:
        return self.size, self.size

    def indices(self) -> tuple[Tensor, Tensor]:
        return self.target, self.source

    def dropout(self, p: float, training: bool) -> _Edges:
        if training:
            raise ValueError("an exported network is in evaluation; call model.eval()")
        return self

    def __matmul__(self, dense: Tensor) -> Tensor:
        messages = dense.index_select(0, self.source) * self.values[:, None]
        return dense.new_zeros(self.size, dense.shape[1]).index_add(0, self.target, messages)
