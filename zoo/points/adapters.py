"""Weights of public PyTorch ports: their layouts, and the networks of this zoo that they fit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from torch import Tensor

from comhe.zoo.state import plain, shown
from comhe.zoo.weights import load_state

from .dgcnn import dgcnn
from .model import PointModel
from .pointnet import PointNet
from .pointnet2 import pointnet2_msg, pointnet2_ssg

State = Mapping[str, Tensor]


def load_port(state: State) -> PointModel:
    """The network that a port's state dict belongs to, with its weights: the port's logits, before its softmax.

    Known are the classifiers of fxia22/pointnet.pytorch (with or without feature transform), of
    yanx27/Pointnet_Pointnet2_pytorch (PointNet, PointNet++ SSG and MSG, with or without normals) and of
    WangYueFt/dgcnn. Which one it is, its classes and its input are read from the names and shapes; ``module.`` before
    all names is ignored. Biases before batch norm go into the running means.

    Two things differ. A ball is open here and closed in yanx27's port, whose sampling also starts at random. PointNet's
    dropout comes after the activation here and before batch norm in the ports, which matters in training only.

    Raises:
        ValueError: another layout, or names that are missing or left over.
    """
    model, converted = convert(state)
    load_state(model, converted, swap_head=False, where="")
    return model


def convert(state: State) -> tuple[PointModel, dict[str, Tensor]]:
    """The network that a port's state dict belongs to, not loaded yet, and the state dict by this zoo's names."""
    state = plain(state)
    layout = next((layout for mark, layout in LAYOUTS.items() if mark in state), None)
    if layout is None:
        found = ", ".join(map(shown, list(state)[:4]))
        raise ValueError(f"no known port has names such as {found or '(none)'}; it must be marked by {list(LAYOUTS)}")
    try:
        port = layout(state)
        converted = port.convert(state)
    except KeyError as error:
        raise ValueError(f"the state dict lacks {error}, which its layout has") from None
    except (IndexError, RuntimeError) as error:
        raise ValueError(f"a tensor of the state dict has another shape than its layout's ({error})") from None
    left = [name for name in state if name not in port.used]
    if left:
        raise ValueError(f"the state dict has {shown(left[0])} and {len(left) - 1} more names that its layout has not")
    return port.model, converted


@dataclass
class _Port:
    """A network and, for each of its layers, the port's names."""

    model: PointModel
    pairs: list[tuple[str, str, str, str]] = field(default_factory=list)  # linear and norm: here, there
    outputs: dict[str, str] = field(default_factory=dict)
    features_first: set[str] = field(default_factory=set)  # the port's layers that take coordinates last
    used: set[str] = field(default_factory=set)

    def stack(self, ours: str, theirs: list[tuple[str, str]]) -> None:
        for i, (linear, norm) in enumerate(theirs):
            self.pairs.append((f"{ours}.linears.{i}", f"{ours}.norms.{i}", linear, norm))

    def convert(self, state: State) -> dict[str, Tensor]:
        def take(name: str) -> Tensor:
            self.used.add(name)
            return state[name]

        result = {}
        for linear, norm, their_linear, their_norm in self.pairs:
            weight = take(f"{their_linear}.weight").flatten(1)
            if their_linear in self.features_first:
                weight = weight.roll(3, 1)
            result[f"{linear}.weight"] = weight
            for name in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked"):
                result[f"{norm}.{name}"] = take(f"{their_norm}.{name}")
            if f"{their_linear}.bias" in state:
                mean = result[f"{norm}.running_mean"]
                result[f"{norm}.running_mean"] = mean - take(f"{their_linear}.bias")
        for ours, theirs in self.outputs.items():
            result |= {f"{ours}.{name}": take(f"{theirs}.{name}") for name in ("weight", "bias")}
        return result


def _numbered(linear: str, norm: str, numbers: range, shift: int = 0) -> list[tuple[str, str]]:
    return [(f"{linear}{i}", f"{norm}{i + shift}") for i in numbers]


def _classes(state: State, output: str) -> int:
    return len(state[f"{output}.weight"])


def _pointnet(state: State) -> _Port:
    transform = "feat.fstn.conv1.weight" in state
    model = PointNet(
        state["feat.conv1.weight"].shape[1],
        _classes(state, "fc3"),
        dropout=(0.0, 0.3),
        input_transform=True,
        feature_transform=transform,
        local=(64,),
        features=(128, 1024),
        slope=1.0,
    )
    port = _Port(model)
    for ours, theirs in (("input_transform", "feat.stn"), ("feature_transform", "feat.fstn"))[: 1 + transform]:
        port.stack(f"{ours}.points", _numbered(f"{theirs}.conv", f"{theirs}.bn", range(1, 4)))
        port.stack(f"{ours}.head", _numbered(f"{theirs}.fc", f"{theirs}.bn", range(1, 3), 3))
        port.outputs[f"{ours}.head.output"] = f"{theirs}.fc3"
    layers = _numbered("feat.conv", "feat.bn", range(1, 4))
    if transform:
        port.stack("local", layers[:1])
    port.stack("features", layers[transform:])
    _classifier(port)
    return port


def _pointnet2_ssg(state: State) -> _Port:
    port = _Port(pointnet2_ssg(_classes(state, "fc3"), state["sa1.mlp_convs.0.weight"].shape[1]))
    for level in range(2):
        name = f"sa{level + 1}.mlp"
        port.stack(f"levels.{level}.mlps.0", _numbered(f"{name}_convs.", f"{name}_bns.", range(3)))
    port.stack("features", _numbered("sa3.mlp_convs.", "sa3.mlp_bns.", range(3)))
    _classifier(port)
    return port


def _pointnet2_msg(state: State) -> _Port:
    port = _Port(pointnet2_msg(_classes(state, "fc3"), state["sa1.conv_blocks.0.0.weight"].shape[1]))
    for level in range(2):
        for scale in range(3):
            convs, norms = (f"sa{level + 1}.{kind}_blocks.{scale}." for kind in ("conv", "bn"))
            port.stack(f"levels.{level}.mlps.{scale}", _numbered(convs, norms, range(3)))
            port.features_first.add(f"{convs}0")
    port.stack("features", _numbered("sa3.mlp_convs.", "sa3.mlp_bns.", range(3)))
    _classifier(port)
    return port


def _dgcnn(state: State) -> _Port:
    port = _Port(dgcnn(_classes(state, "linear3"), state["conv1.0.weight"].shape[1] // 2))
    for i in range(4):
        port.pairs.append((f"convs.{i}.linear", f"convs.{i}.norm", f"conv{i + 1}.0", f"conv{i + 1}.1"))
    port.pairs.append(("linear", "norm", "conv5.0", "conv5.1"))
    port.stack("head", _numbered("linear", "bn", range(1, 3), 5))
    port.outputs["head.output"] = "linear3"
    # Its batch norms are registered twice.
    port.used |= {name for name in state if name.split(".")[0] in ("bn1", "bn2", "bn3", "bn4", "bn5")}
    return port


def _classifier(port: _Port) -> None:
    port.stack("head", _numbered("fc", "bn", range(1, 3)))
    port.outputs["head.output"] = "fc3"


LAYOUTS: dict[str, Callable[[State], _Port]] = {
    "feat.stn.conv1.weight": _pointnet,
    "sa1.mlp_convs.0.weight": _pointnet2_ssg,
    "sa1.conv_blocks.0.0.weight": _pointnet2_msg,
    "conv5.0.weight": _dgcnn,
}
