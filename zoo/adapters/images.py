"""Residual networks and VGG under the names of other implementations."""

import math
import re
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from comhe.errors import WeightsError
from comhe.zoo.state import State

# Names in kuangliu/pytorch-cifar and option B of akamaster/pytorch_resnet_cifar10 (shortcut), weiaicunzai/
# pytorch-cifar100 (conv2_x, residual_function), D-X-Y/ResNeXt-DenseNet (stage_1, conv_a), and in transformers.
RESNET = (
    (r"^conv1\.0\.", "conv1."),
    (r"^conv1\.1\.", "bn1."),
    (r"^conv_1_3x3\.", "conv1."),
    (r"^bn_1\.", "bn1."),
    (r"^stage_(\d)\.(\d+)\.(conv|bn)_([abc])\.", lambda m: f"layer{m[1]}.{m[2]}.{m[3]}{'abc'.index(m[4]) + 1}."),
    (r"^conv(\d)_x\.", lambda m: f"layer{int(m[1]) - 1}."),
    (r"\.residual_function\.(\d)\.", lambda m: f".{('conv', 'bn', 'relu')[int(m[1]) % 3]}{int(m[1]) // 3 + 1}."),
    (r"^embedder\.embedder\.convolution\.", "conv1."),
    (r"^embedder\.embedder\.normalization\.", "bn1."),
    (r"^encoder\.stages\.(\d)\.layers\.", lambda m: f"layer{int(m[1]) + 1}."),
    (r"\.layer\.(\d)\.convolution\.", lambda m: f".conv{int(m[1]) + 1}."),
    (r"\.layer\.(\d)\.normalization\.", lambda m: f".bn{int(m[1]) + 1}."),
    (r"\.shortcut\.convolution\.", ".downsample.0."),
    (r"\.shortcut\.normalization\.", ".downsample.1."),
    (r"\.shortcut\.", ".downsample."),
)
# xternalz/WideResNet-pytorch.
WIDE = ((r"^bn1\.", "bn."), (r"^block(\d)\.layer\.", r"layer\1."), (r"\.convShortcut\.", ".downsample."))
DECISIVE = 2.0  # how many times better one reading has to explain the running means than the other


def _rename(state: State, rules: Iterable[tuple]) -> dict[str, Tensor]:
    result = {}
    for name, tensor in state.items():
        for pattern, replacement in rules:
            name = re.sub(pattern, replacement, name)
        result[name] = tensor
    return result


def adapt_resnet(state: State) -> State:
    """Give a residual network torchvision's names."""
    return _rename(state, RESNET)


def adapt_wide_resnet(state: State) -> State:
    """Rename the state dict of a wide residual network; one without their names is returned as it is.

    ``sub_block1`` is a stage that yaodongyu/TRADES builds and never calls.
    """
    if "bn1.weight" not in state and any(re.match(r"layer\d\.0\.downsample\.0\.", name) for name in state):
        raise WeightsError(
            "they are weights of bearpaw/pytorch-classification's PreResNet, another network: its shortcuts project "
            "a block's input, before batch norm and ReLU, and the stride of a bottleneck is in its 3x3 convolution"
        )
    if not any(name.startswith("block1.layer.") for name in state):
        return state
    return _rename({n: t for n, t in state.items() if not n.startswith("sub_block1.")}, WIDE)


def adapt_vgg(state: State) -> State:
    """Drop the biases of convolutions before batch norm, which go into its running mean, as in kuangliu's VGG."""
    result = dict(state)
    for name in state:
        if found := re.fullmatch(r"features\.(\d+)\.bias", name):
            norm = f"features.{int(found[1]) + 1}.running_mean"
            if f"features.{found[1]}.running_mean" not in state and norm in state:
                result[norm] = state[norm] - result.pop(name)
    return result


def blocks_of(state: State, stage: str = "layer1") -> int:
    """Count the blocks of a stage."""
    return len({name.split(".")[1] for name in state if name.startswith(f"{stage}.")})


def sizes_of(state: State, first: str, last: str) -> dict[str, object]:
    """Return the options that data decide: the channels that the first layer reads, and the classes of the last."""
    sides = (("in_channels", first, 1), ("num_classes", last, 0))
    return {option: state[name].shape[side] for option, name, side in sides if name in state and state[name].dim() > 1}


def padding_of(state: State) -> tuple[str | None, float]:
    r"""Find out on which side option A padded the new channels of a trained CIFAR ResNet: from its batch norms.

    The outputs of a batch norm have mean :math:`\beta` and deviation :math:`\gamma` in training. Taken as normal, they
    give the mean of each channel after every ReLU; times the next convolution, they predict its running mean. Where
    the channels are in the wrong place the prediction is wrong.

    Returns:
        ``"pad"`` (at the end) or ``"pad-both"``, and how many times smaller the squared error of its predictions is
        than the other's; None where neither is ``DECISIVE``, as in a network that is hardly trained.
    """
    try:
        errors = _errors_of_paddings({name: t.double() for name, t in state.items() if t.is_floating_point()})
    except (KeyError, RuntimeError, IndexError):  # not such a network, or on the meta device
        return None, 1.0
    if not all(error > 0 and math.isfinite(error) for error in errors.values()):
        return None, 1.0
    best = min(errors, key=errors.__getitem__)
    ratio = max(errors.values()) / errors[best]
    return (best if ratio >= DECISIVE else None), ratio


def _errors_of_paddings(state: Mapping[str, Tensor]) -> dict[str, float]:
    blocks = [(stage, block) for stage in (1, 2, 3) for block in range(blocks_of(state, f"layer{stage}"))]
    errors = {"pad": 0.0, "pad-both": 0.0}
    moments = _after_relu(state["bn1.bias"], state["bn1.weight"] ** 2)
    for (stage, block), following in zip(blocks, [*blocks[1:], None], strict=True):
        name = f"layer{stage}.{block}.bn2"
        bias, variance = state[f"{name}.bias"], state[f"{name}.weight"] ** 2
        new = len(bias) - len(moments[0])
        readings = {}
        for padding, before in (("pad", 0), ("pad-both", new // 2)):
            shortcut = [torch.nn.functional.pad(moment, (before, new - before)) for moment in moments]
            readings[padding] = _after_relu(bias + shortcut[0], variance + shortcut[1])
        if new and following is not None:
            wrong = {
                padding: _error(state, f"layer{following[0]}.{following[1]}", mean)
                for padding, (mean, _) in readings.items()
            }
            errors = {padding: errors[padding] + wrong[padding] for padding in errors}
            moments = readings[min(wrong, key=wrong.__getitem__)]
        else:
            moments = readings["pad"]
    return errors


def _error(state: Mapping[str, Tensor], block: str, mean: Tensor) -> float:
    predicted = (state[f"{block}.conv1.weight"].sum((2, 3)) * mean).sum(1)
    error = (predicted - state[f"{block}.bn1.running_mean"]) ** 2 / state[f"{block}.bn1.running_var"].clamp_min(1e-12)
    return float(error.mean())


def _after_relu(mean: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance of a normal variable after ReLU."""
    deviation = variance.clamp_min(1e-12).sqrt()
    z = mean / deviation
    density, below = torch.exp(-z * z / 2) / math.sqrt(2 * math.pi), torch.special.ndtr(z)
    first = mean * below + deviation * density
    second = (mean * mean + variance) * below + mean * deviation * density
    return first, (second - first * first).clamp_min(0)
