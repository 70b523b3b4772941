"""State dicts of public PyTorch implementations of the point networks, by the names of this zoo."""

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from torch import Tensor

from comhe.errors import WeightsError
from comhe.zoo.state import printable

State = Mapping[str, Tensor]
HEAD = "head.output"  # the last layer, by the name that it has here

# The layers that read the points, and how many times they read each: an edge of DGCNN has two points.
FIRST = {
    "levels.0.mlps.0.linears.0": 1,
    "convs.0.linear": 2,
    "input_transform.points.linears.0": 1,
    "local.linears.0": 1,
    "features.linears.0": 1,
}


@dataclass
class Layout:
    """The names that a public implementation has for the layers of a network.

    ``layers`` are linear layer and batch norm here, and there; ``outputs``, output layers here, and there. The input
    of the linear layers ``features_first`` ends there with the coordinates, which come first here. A module
    of ``twins`` has its tensors under another name as well; a state dict has either or both (safetensors keep one).
    """

    layers: list[tuple[str, str, str, str]] = field(default_factory=list)
    outputs: dict[str, str] = field(default_factory=dict)
    features_first: set[str] = field(default_factory=set)
    twins: dict[str, str] = field(default_factory=dict)

    def add_layers(self, ours: str, theirs: list[tuple[str, str]]) -> None:
        for i, (linear, norm) in enumerate(theirs):
            self.layers.append((f"{ours}.linears.{i}", f"{ours}.norms.{i}", linear, norm))

    def add_classifier(self) -> None:
        self.add_layers("head", _numbered("fc", "bn", range(1, 3)))
        self.outputs[HEAD] = "fc3"

    def convert(self, state: State) -> dict[str, Tensor]:
        """Rename the tensors; the biases before a batch norm go into its running mean."""
        remaining = {name: t for name, t in state.items() if name.partition(".")[0] not in self.twins}
        for twin, layer in self.twins.items():
            for name in (name for name in state if name.startswith(f"{twin}.")):
                remaining.setdefault(layer + name.removeprefix(twin), state[name])
        try:
            result = self._take(remaining)
        except KeyError as error:
            raise WeightsError(f"the state dict lacks {error}, which its layout has") from None
        except (IndexError, RuntimeError) as error:
            raise WeightsError(f"a tensor of the state dict has another shape than its layout's ({error})") from None
        if remaining:
            name = printable(next(iter(remaining)))
            raise WeightsError(f"the state dict has {name} and {len(remaining) - 1} more names that its layout lacks")
        return result

    def _take(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        result = {}
        for linear, norm, their_linear, their_norm in self.layers:
            weight = state.pop(f"{their_linear}.weight").flatten(1)
            result[f"{linear}.weight"] = weight.roll(3, 1) if their_linear in self.features_first else weight
            for name in ("weight", "bias", "running_mean", "running_var"):
                result[f"{norm}.{name}"] = state.pop(f"{their_norm}.{name}")
            if (count := state.pop(f"{their_norm}.num_batches_tracked", None)) is not None:
                result[f"{norm}.num_batches_tracked"] = count
            if (bias := state.pop(f"{their_linear}.bias", None)) is not None:
                result[f"{norm}.running_mean"] = result[f"{norm}.running_mean"] - bias
        for ours, theirs in self.outputs.items():
            if ours == HEAD and f"{theirs}.weight" not in state and f"{theirs}.bias" not in state:
                continue  # a trunk, whose head is swapped
            result[f"{ours}.weight"] = state.pop(f"{theirs}.weight").flatten(1)
            result[f"{ours}.bias"] = state.pop(f"{theirs}.bias")
        return result


def adapt_points(state: State) -> State:
    """Rename the state dict of a known layout (see :func:`.external.model_from_state`); return any other as it is."""
    mark = layout_mark(state)
    return LAYOUTS[mark](state).convert(state) if mark else state


def options_of(state: State) -> dict[str, object]:
    """Return the options that a point network with these tensors, by the zoo's names, is built with."""
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
    options: dict[str, object] = {}
    for name, parts in FIRST.items():
        if len(shapes.get(f"{name}.weight", ())) == 2:
            options["in_channels"] = shapes[f"{name}.weight"][1] // parts
            break
    if len(shapes.get(f"{HEAD}.weight", ())) == 2:
        options["num_classes"] = shapes[f"{HEAD}.weight"][0]
    transform = f"feature_transform.{HEAD}.weight" in state
    if "levels.0.mlps.0.linears.0.weight" in state:
        options["model"] = "pointnet2_msg" if "levels.0.mlps.1.linears.0.weight" in state else "pointnet2_ssg"
    elif "convs.0.linear.weight" in state:
        options["model"] = "dgcnn"
    elif f"input_transform.{HEAD}.weight" in state and "local.linears.1.weight" not in state:
        options |= {"model": "pointnet_cls", "feature_transform": transform}
    elif "features.linears.0.weight" in state:
        options["model"] = "pointnet_t" if transform else "pointnet"
    return options


def layout_mark(state: State) -> str | None:
    """Return the key of :data:`LAYOUTS` that is one of these names."""
    return next((mark for mark in LAYOUTS if mark in state), None)


def _numbered(linear: str, norm: str, numbers: range, shift: int = 0) -> list[tuple[str, str]]:
    return [(f"{linear}{i}", f"{norm}{i + shift}") for i in numbers]


def _pointnet(state: State) -> Layout:
    layout, transform = Layout(), "feat.fstn.conv1.weight" in state
    for ours, theirs in (("input_transform", "feat.stn"), ("feature_transform", "feat.fstn"))[: 1 + transform]:
        layout.add_layers(f"{ours}.points", _numbered(f"{theirs}.conv", f"{theirs}.bn", range(1, 4)))
        layout.add_layers(f"{ours}.head", _numbered(f"{theirs}.fc", f"{theirs}.bn", range(1, 3), 3))
        layout.outputs[f"{ours}.head.output"] = f"{theirs}.fc3"
    convs = _numbered("feat.conv", "feat.bn", range(1, 4))
    if transform:
        layout.add_layers("local", convs[:1])
    layout.add_layers("features", convs[transform:])
    layout.add_classifier()
    return layout


def _pointnet2_ssg(state: State) -> Layout:
    layout = Layout()
    for level in range(2):
        name = f"sa{level + 1}.mlp"
        layout.add_layers(f"levels.{level}.mlps.0", _numbered(f"{name}_convs.", f"{name}_bns.", range(3)))
    return _after_levels(layout)


def _pointnet2_msg(state: State) -> Layout:
    layout = Layout()
    for level, scale in itertools.product(range(2), range(3)):
        convs, norms = (f"sa{level + 1}.{kind}_blocks.{scale}." for kind in ("conv", "bn"))
        layout.add_layers(f"levels.{level}.mlps.{scale}", _numbered(convs, norms, range(3)))
        layout.features_first.add(f"{convs}0")
    return _after_levels(layout)


def _after_levels(layout: Layout) -> Layout:
    layout.add_layers("features", _numbered("sa3.mlp_convs.", "sa3.mlp_bns.", range(3)))
    layout.add_classifier()
    return layout


def _dgcnn(state: State) -> Layout:
    layout = Layout(twins={f"bn{i}": f"conv{i}.1" for i in range(1, 6)})
    for i in range(4):
        layout.layers.append((f"convs.{i}.linear", f"convs.{i}.norm", f"conv{i + 1}.0", f"conv{i + 1}.1"))
    layout.layers.append(("linear", "norm", "conv5.0", "conv5.1"))
    layout.add_layers("head", _numbered("linear", "bn", range(1, 3), 5))
    layout.outputs[HEAD] = "linear3"
    return layout


LAYOUTS: dict[str, Callable[[State], Layout]] = {
    "feat.stn.conv1.weight": _pointnet,
    "sa1.mlp_convs.0.weight": _pointnet2_ssg,
    "sa1.conv_blocks.0.0.weight": _pointnet2_msg,
    "conv5.0.weight": _dgcnn,
}
