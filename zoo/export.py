"""Networks for use without this package: ``torch.export`` programs and ONNX files (``pip install 'comhe[export]'``)."""

from __future__ import annotations

import os

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from comhe.errors import needs


def export_model(model: nn.Module, *inputs: Tensor) -> ExportedProgram:
    """Export the model in evaluation mode as a program of tensor operations.

    Image and point networks take one batch, [B, 3, H, W] or [B, N, C], whose size stays free wherever torch can leave
    it free. Graph networks take what :func:`graph_inputs` returns; the numbers of nodes and edges stay free. ``inputs``
    are an example of at least two samples; all its sizes but the first are fixed in the program.

    Example:
        >>> from comhe.zoo import create_model
        >>> program = export_model(create_model("resnet8", num_classes=10), torch.zeros(2, 3, 32, 32))
    """
    model = model.eval()
    exported = _OnEdges(model) if hasattr(model, "propagation") else model
    return torch.export.export(exported, inputs, dynamic_shapes=tuple({0: Dim.AUTO} for _ in inputs))


def export_onnx(model: nn.Module, path: str | os.PathLike, *inputs: Tensor) -> None:
    """Write the program of :func:`export_model` as an ONNX file."""
    with needs("export", "an ONNX file"):
        import onnxscript  # noqa: F401
    torch.onnx.export(export_model(model, *inputs), f=path, dynamo=True, external_data=False, verbose=False)


def graph_inputs(model: nn.Module, x: Tensor, edge_index: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return what an exported graph network takes: features, and the operator that the model applies to the graph.

    Shape: x [N, in_channels], edge_index int64 [2, E] -> x, target int64 [n], source int64 [n], values [n]
    """
    adjacency = model.propagation(edge_index, len(x))  # type: ignore[operator]
    target, source = adjacency.indices()
    return x, target.long(), source.long(), adjacency.values.clone()  # not a view of a sparse tensor


class _OnEdges(nn.Module):
    """A graph network that takes the graph as three tensors."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor, target: Tensor, source: Tensor, values: Tensor) -> Tensor:
        from .graphs import EdgeMatrix, Operators  # here, because it registers the graph networks

        edges = EdgeMatrix(target, source, values, x.shape[0])  # len(x) would be the example's for good
        return self.model(x, Operators(edges))
