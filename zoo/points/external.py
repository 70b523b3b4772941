"""Networks for the weights of public PyTorch implementations."""

from collections.abc import Callable

from comhe.errors import WeightsError
from comhe.zoo.adapters.points import LAYOUTS, State, layout_mark
from comhe.zoo.state import printable, tensors_of, unwrap_state
from comhe.zoo.weights import load_state

from .dgcnn import DGCNN
from .model import PointModel
from .pointnet import PointNet, pointnet_cls
from .pointnet2 import pointnet2_msg, pointnet2_ssg


def model_from_state(state: State) -> PointModel:
    """Build the network that a public implementation's state dict belongs to, with its weights.

    The logits are that implementation's before its softmax. Known are the classifiers of fxia22/pointnet.pytorch (with
    or without feature transform), of yanx27/Pointnet_Pointnet2_pytorch (PointNet, PointNet++ SSG and MSG, with or
    without normals) and of WangYueFt/dgcnn. Which one it is, its classes and its input follow from the names and
    shapes; ``module.`` before all names is ignored. Biases before batch norm go into the running means.

    Two things differ. A ball is open here and closed in yanx27's code, whose sampling also starts at random. PointNet's
    dropout comes after the activation here and before batch norm there, which matters in training only.
    """
    state = unwrap_state(tensors_of(state))
    mark = layout_mark(state)
    if mark is None:
        names = ", ".join(map(printable, list(state)[:4]))
        raise WeightsError(f"no known layout has names such as {names}; known ones contain one of {', '.join(LAYOUTS)}")
    converted = LAYOUTS[mark](state).convert(state)
    if "head.output.weight" not in converted:
        raise WeightsError("the state dict lacks its last layer, so its classes are not known; use load_weights")
    model = _NETWORKS[mark](converted)
    load_state(model, converted)
    return model


def _pointnet(state: State) -> PointNet:
    inputs, classes = _inputs(state, "input_transform.points.linears.0"), _classes(state)
    transform = "feature_transform.head.output.weight" in state
    return pointnet_cls(classes, inputs, feature_transform=transform)


def _inputs(state: State, layer: str) -> int:
    return state[f"{layer}.weight"].shape[1]


def _classes(state: State) -> int:
    return len(state["head.output.weight"])


_NETWORKS: dict[str, Callable[[State], PointModel]] = {
    "feat.stn.conv1.weight": _pointnet,
    "sa1.mlp_convs.0.weight": lambda s: pointnet2_ssg(_classes(s), _inputs(s, "levels.0.mlps.0.linears.0")),
    "sa1.conv_blocks.0.0.weight": lambda s: pointnet2_msg(_classes(s), _inputs(s, "levels.0.mlps.0.linears.0")),
    "conv5.0.weight": lambda s: DGCNN(_classes(s), _inputs(s, "convs.0.linear") // 2),
}
