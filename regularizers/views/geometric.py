"""PyTorch Geometric's layers whose matrices are bare parameters; most of them multiply from the right."""

from typing import Any

import torch
from torch import Tensor

from comhe.regularizers.heads import averaged
from comhe.regularizers.neurons import View, register_neurons

_CONV = "torch_geometric.nn.conv"


@register_neurons("torch_geometric.nn.dense.linear.Linear")
def _linear(module: Any) -> Tensor:
    return module.weight


@register_neurons("torch_geometric.nn.dense.linear.HeteroLinear")
@register_neurons(f"{_CONV}.gated_graph_conv.GatedGraphConv")
@register_neurons(f"{_CONV}.spline_conv.SplineConv")
@register_neurons(f"{_CONV}.dna_conv.Linear")
def _sets(module: Any) -> Tensor:
    """Types, layers, kernel entries or groups: ``[sets, in, out]``."""
    w = module.weight.mT
    return w[0] if len(w) == 1 else w


@register_neurons(f"{_CONV}.gcn2_conv.GCN2Conv")
def _gcn2(module: Any) -> Tensor:
    if module.weight2 is None:
        return module.weight1.mT
    return torch.stack((module.weight1.mT, module.weight2.mT))


@register_neurons(f"{_CONV}.rgcn_conv.RGCNConv")
def _rgcn(module: Any) -> View:
    w = module.weight
    if module.num_bases is not None:  # W_r = sum_b a_rb V_b
        w = torch.einsum("rb,bio->rio", module.comp, w)
    views = {"weight": w.mT.flatten(0, -3)}
    return views if module.root is None else views | {"root": module.root.mT}


@register_neurons(f"{_CONV}.rgat_conv.RGATConv")
def _rgat(module: Any) -> View:
    bases = getattr(module, "basis", None)
    w = module.weight if bases is None else torch.einsum("rb,bio->rio", module.att, bases)
    w = w.mT
    if heads := averaged(module, w.shape[-2]):
        w = heads(w)
    others = {name: getattr(module, name) for name in ("q", "k", "e")}
    return {"weight": w.flatten(0, -3)} | {name: p.mT for name, p in others.items() if p is not None}


@register_neurons(f"{_CONV}.arma_conv.ARMAConv")
def _arma(module: Any) -> View:
    names = ("init_weight", "root_weight") + ("weight",) * (module.num_layers > 1)
    return {name: getattr(module, name).mT.flatten(0, -3) for name in names}


@register_neurons("torch_geometric.nn.models.linkx.SparseLinear")
def _of_edges(module: Any) -> Tensor:
    return module.weight.mT


@register_neurons(f"{_CONV}.antisymmetric_conv.AntiSymmetricConv")
def _antisymmetric(module: Any) -> Tensor:
    """The weight that the layer uses, ``W - W^T - gamma I``; x multiplies its transpose."""
    return module.W - module.W.mT - module.gamma * module.eye


@register_neurons(f"{_CONV}.gmm_conv.GMMConv")
def _gmm(module: Any) -> Tensor:
    """Kernels, whose sum is the output: ``[kernels, out, in]``."""
    order = (module.out_channels, module.kernel_size)
    g = module.g.mT.unflatten(0, order if module.separate_gaussians else order[::-1])
    return g.transpose(0, 1) if module.separate_gaussians else g
