"""Graph networks under the names of PyTorch Geometric (of all versions), of DGL, and of the papers' authors."""

import re
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from comhe.errors import WeightsError
from comhe.zoo.state import State

# Tensors of PyG's layers that change what they compute, and what they are of.
SAGE_OPTIONS = {
    r"lin\..*": "project=True", r"aggr_module\..*": "an aggregation that is trained", r"lin_r\.bias": "another layer",
}  # fmt: skip
GAT_OPTIONS = {
    r"res\..*": "residual=True", r"att_edge|lin_edge\..*": "edge_dim", r"res_fc\..*": "DGL's residual=True",
    r"lin_r\.bias": "GATv2Conv", r"fc_(src|dst)\..*": "DGL's GATv2Conv, or of a graph with two kinds of nodes",
}  # fmt: skip
PERCEPTRON = re.compile(r"(lins?|linears?|fcs?|mlps?|dense|nn)[._]?\d")  # layers without a graph, or within GIN's
Layer = Mapping[str, Tensor]  # the tensors of one layer, by their names in it


def _layers(state: State) -> dict[int, dict[str, Tensor]] | None:
    """Split names such as ``conv1.lin.weight`` or ``layers.0.weight`` by number, in order; None for other names."""
    found: dict[int, dict[str, Tensor]] = {}
    stems = set()
    for name, tensor in state.items():
        match = re.fullmatch(r"(?P<stem>[A-Za-z_]+?)[._]?(?P<number>\d{1,4})\.(?P<tensor>[a-z][\w.]*)", name)
        if match is None:
            return None
        stems.add(match["stem"])
        found.setdefault(int(match["number"]), {})[match["tensor"]] = tensor
    return dict(sorted(found.items())) if len(stems) == 1 else None


def _adapted(state: State, convert: Callable[[Layer, bool], Layer | None]) -> State:
    """Convert a stack of layers, the last of which is told so; the state as it is if one of them is of another kind."""
    layers = None if any(map(PERCEPTRON.match, state)) else _layers(state)
    if layers is None:
        return state
    result = {}
    for i, layer in enumerate(layers.values()):
        converted = convert(layer, i == len(layers) - 1)
        if converted is None:
            return state
        result.update({f"convs.{i}.{name}": tensor for name, tensor in converted.items()})
    return result


def _only(layer: Layer, *names: str) -> bool:
    return layer.keys() == set(names)


def adapt_gcn(state: State) -> State:
    """Rename ``convs.0.lin.weight`` [out, in], ``convs.0.bias`` ... from a layout below; return others as they are.

    ====================================  ===========================================  =================
    tkipf/pygcn                           ``gc1.weight`` [in, out], ``gc1.bias``       layers from 1
    PyTorch Geometric before 2.0          ``conv1.weight`` [in, out], ``conv1.bias``   as its user named them
    PyTorch Geometric, its example        ``conv1.lin.weight`` [out, in], ...          layers from 1
    DGL, its ``GraphConv``                ``layers.0.weight`` [in, out], ...           layers from 0
    ====================================  ===========================================  =================

    The layers keep their order. What these layouts leave open is told by :func:`notes_of_gcn`.
    """

    def convert(layer: Layer, last: bool) -> Layer | None:
        if _only(layer, "lin.weight"):
            return {**layer, "bias": layer["lin.weight"].new_zeros(len(layer["lin.weight"]))}
        if _only(layer, "lin.weight", "bias"):
            return layer
        if _only(layer, "weight", "bias") and layer["weight"].dim() == 2:
            return {"lin.weight": layer["weight"].t(), "bias": layer["bias"]}
        return None

    return _adapted(state, convert)


def adapt_gat(state: State) -> State:
    """Rename the layers of a graph attention network; return other state dicts as they are.

    A layer without a bias gets one of zeros. Other options of PyG's layer are refused, by their name.

    ===========================  =================================================================================
    PyTorch Geometric from 2.5   ``lin.weight``, ``att_src``, ``att_dst``, ``bias``
    PyTorch Geometric from 2.0   ``lin_src.weight`` and, the same again, ``lin_dst.weight``
    PyTorch Geometric 1.6, 1.7   ``lin_l.weight`` and, the same again, ``lin_r.weight``; ``att_l``, ``att_r``
    PyTorch Geometric before     ``weight`` [in, heads * out], ``att`` [1, heads, 2 * out]: of the target, then source
    DGL                          ``fc.weight``, ``attn_l`` of the source, ``attn_r``; a bias for every output head,
                                 whose mean is the mean head's
    ===========================  =================================================================================
    """

    def convert(layer: Layer, last: bool) -> Layer | None:
        _refuse(layer, GAT_OPTIONS)
        vector = next((layer[name] for name in ("att_src", "att_l") if name in layer), None)
        if "bias" not in layer and vector is not None and vector.dim() == 3:
            layer = {**layer, "bias": vector.new_zeros(vector.shape[2] * (1 if last else vector.shape[1]))}
        for ours in (("lin.weight",), ("lin_src.weight", "lin_dst.weight"), ("lin_src.weight",)):
            if _only(layer, *ours, "att_src", "att_dst", "bias") and _equal(*(layer[name] for name in ours)):
                lin, source, target = layer[ours[0]], layer["att_src"], layer["att_dst"]
                return {"att_src": source, "att_dst": target, "bias": layer["bias"], "lin.weight": lin}
        for ours in (("lin_l.weight", "lin_r.weight"), ("lin_l.weight",)):
            if _only(layer, *ours, "att_l", "att_r", "bias") and _equal(*(layer[name] for name in ours)):
                lin, source, target = layer[ours[0]], layer["att_l"], layer["att_r"]
                return {"att_src": source, "att_dst": target, "bias": layer["bias"], "lin.weight": lin}
        if _only(layer, "weight", "att", "bias") and layer["weight"].dim() == 2 and layer["att"].dim() == 3:
            target, source = layer["att"].chunk(2, -1)
            return {"att_src": source, "att_dst": target, "bias": layer["bias"], "lin.weight": layer["weight"].t()}
        if _only(layer, "fc.weight", "attn_l", "attn_r", "bias") and layer["attn_l"].dim() == 3:
            bias, heads = layer["bias"].flatten(), layer["attn_l"].shape[1]
            if last and heads and len(bias) == len(layer["fc.weight"]):
                bias = bias.unflatten(0, (heads, -1)).mean(0)
            source, target = layer["attn_l"], layer["attn_r"]
            return {"att_src": source, "att_dst": target, "bias": bias, "lin.weight": layer["fc.weight"]}
        return None

    return _adapted(state, convert)


def adapt_sage(state: State) -> State:
    """Rename PyG's ``conv1.lin_l.weight`` or DGL's ``fc_neigh``, ``fc_self``; return other state dicts as they are.

    What PyG's layer lacks with ``bias=False`` or ``root_weight=False`` is zero; its other options are refused, by name.
    DGL has one bias or two, of which the sum counts. Its aggregator must be ``mean``: that of ``gcn`` has no
    ``fc_self``, that of ``pool`` a layer more.
    """

    def convert(layer: Layer, last: bool) -> Layer | None:
        if "lin_l.weight" in layer:  # it is PyG's SAGEConv, or of its kind
            _refuse(layer, SAGE_OPTIONS)
        if "lin_l.weight" in layer and layer.keys() <= {"lin_l.weight", "lin_l.bias", "lin_r.weight"}:
            weight = layer["lin_l.weight"]
            return {"lin_l.bias": weight.new_zeros(len(weight)), "lin_r.weight": torch.zeros_like(weight), **layer}
        biases = [name for name in ("bias", "fc_neigh.bias", "fc_self.bias") if name in layer]
        if biases and _only(layer, "fc_neigh.weight", "fc_self.weight", *biases):
            bias = sum((layer[name] for name in biases[1:]), layer[biases[0]])
            return {
                "lin_l.weight": layer["fc_neigh.weight"],
                "lin_l.bias": bias,
                "lin_r.weight": layer["fc_self.weight"],
            }
        return None

    return _adapted(state, convert)


def adapt_appnp(state: State) -> State:
    """Rename the two layers of the perceptron: ``layers.0`` and ``layers.1`` (DGL) or ``fcs.0`` and ``fcs.1``.

    The latter, of gasteigerjo/ppnp, have no biases, and the first weight is [in, out]. A buffer ``propagation.A_hat``,
    the graph that it was trained on, is left out.
    """
    layers = _layers({name: t for name, t in state.items() if not name.startswith("propagation.")})
    if layers is None or len(layers) != 2:
        return state
    first, second = layers.values()
    if not all("weight" in layer and layer.keys() <= {"weight", "bias"} for layer in (first, second)):
        return state
    weights = [first["weight"], second["weight"]]
    if any(weight.dim() != 2 for weight in weights):
        return state
    if "bias" not in first and any(name.startswith("fcs") for name in state):
        weights[0] = weights[0].t()
    result = {}
    for number, layer, weight in zip((1, 2), (first, second), weights, strict=True):
        result[f"lin{number}.weight"] = weight
        result[f"lin{number}.bias"] = layer.get("bias", weight.new_zeros(len(weight)))
    return result


def adapt_gcn2(state: State) -> State:
    """Rename the layers of chennnM/GCNII (``fcs.0``, ``convs.0.weight``) and of DGL (``convs.0.bias``, if zero)."""
    _refuse(state, {r"convs\.\d+\.weight2": "PyG's and DGL's GCN2Conv with a second matrix (shared_weights=False)"})
    result = {}
    for name, tensor in state.items():
        if re.fullmatch(r"convs\.\d+\.bias", name) and not tensor.is_meta and not tensor.any():
            continue
        name = re.sub(r"^fcs\.(\d+)\.", r"lins.\1.", name)
        result[re.sub(r"^(convs\.\d+)\.weight$", r"\1.weight1", name)] = tensor
    return result


def notes_of_gcn(theirs: State) -> list[str]:
    """Tell where the layout of a graph convolutional network's weights means another operator than the zoo's."""
    if any(re.match(r"gc\d+\.weight$", name) for name in theirs):
        return [
            "weights of tkipf/pygcn, which averages over neighbors, D^-1 (A + I); this network divides by the roots of "
            "both degrees, D^-1/2 (A + I) D^-1/2, so its logits are others"
        ]
    if any(re.match(r"(layers\.|conv)\d+\.weight$", name) for name in theirs):
        return ["self-loops are added, as PyTorch Geometric does; DGL's GraphConv leaves them to the graph"]
    return []


def _refuse(layer: Layer, reasons: Mapping[str, str]) -> None:
    """Raise a WeightsError for a tensor of an option that the zoo's layers do not have."""
    for pattern, reason in reasons.items():
        if found := next((name for name in layer if re.fullmatch(pattern, name)), None):
            raise WeightsError(f"its layers have {found}, of {reason}, which this network does not have")


def _equal(first: Tensor, *others: Tensor) -> bool:
    return all(torch.equal(first, other) for other in others)


# The first of these tensors that a network has tells which one it is.
KINDS = {
    "convs.0.att_src": "gat", "convs.0.lin_l.weight": "sage", "convs.0.lin.weight": "gcn", "convs.0.weight1": "gcn2",
    "lin1.weight": "appnp",
}  # fmt: skip


def options_of(state: State) -> dict[str, object]:
    """Return the options that a graph network with these tensors, by the zoo's names, is built with."""
    depth = len({name.split(".")[1] for name in state if name.startswith("convs.")})
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
    options: dict[str, object] = {}
    for name in ("convs.0.lin.weight", "convs.0.lin_l.weight", "lins.0.weight", "lin1.weight"):
        if len(shapes.get(name, ())) == 2:
            options = {"hidden_channels": shapes[name][0], "in_channels": shapes[name][1]}
    if depth == 1 and "lins.0.weight" not in shapes:
        options.pop("hidden_channels", None)  # the one layer is the last
    if depth:
        options["num_layers"] = depth
        last = shapes.get(f"convs.{depth - 1}.att_src", ())
        if len(shapes.get("convs.0.att_src", ())) == len(last) == 3:
            options["output_heads"] = last[1]
            if depth > 1:
                _, options["heads"], options["hidden_channels"] = shapes["convs.0.att_src"]
    for name in (f"convs.{depth - 1}.bias", f"convs.{depth - 1}.lin_l.bias", "lins.1.bias", "lin2.bias"):
        if len(shapes.get(name, ())) == 1:
            options["num_classes"] = shapes[name][0]
    model = next((kind for name, kind in KINDS.items() if name in state), None)
    if model and (model != "appnp" or {name.partition(".")[0] for name in state} == {"lin1", "lin2"}):
        options["model"] = model
    return options
