"""How many parameters each network has, with the default options of its builder."""

import torch

from .catalog import build_model, model_domain, required_options

CORA = {"in_channels": 1433, "num_classes": 7}  # what graph networks, which have no default, are counted for
# Of the built-in networks, since building them all takes seconds; a test builds them.
COUNTS = {
    "airbench94": 1_972_504, "appnp": 92_231, "cnn6": 2_220_480, "cnn9": 2_995_520, "cnn15": 4_545_600, "dgcnn":
    1_809_320, "gat": 92_373, "gcn": 23_063, "gcn2": 157_767, "pointnet": 817_512, "pointnet2_msg": 1_742_856,
    "pointnet2_ssg": 1_472_360, "pointnet_cls": 3_465_521, "pointnet_t": 3_473_969, "resnet8": 81_140, "resnet18":
    11_689_512, "resnet18_cifar": 11_173_962, "resnet20": 275_572, "resnet32": 470_004, "resnet32_wide": 7_409_316,
    "resnet34": 21_797_672, "resnet34_cifar": 21_282_122, "resnet44": 664_436, "resnet50": 25_557_032,
    "resnet50_cifar": 23_520_842, "resnet56": 858_868, "resnet110": 1_733_812, "resnet164": 1_726_388, "resnet1001":
    10_350_836, "sage": 184_391, "vgg16_bn": 14_770_212, "wrn_16_4": 2_772_020, "wrn_28_10": 36_536_884,
}  # fmt: skip


def count_parameters(name: str) -> int | None:
    """Return the number of a model's parameters; None for a model of others that cannot be built by its name alone.

    Example:
        >>> count_parameters("gcn")
        23063
    """
    return COUNTS[name] if name in COUNTS else build_and_count(name)


def build_and_count(name: str) -> int | None:
    """Build a model without memory for its weights, and count them."""
    sizes = CORA if model_domain(name) == "graphs" else {"in_channels": 3, "num_classes": 10}
    try:
        with torch.device("meta"):
            model = build_model(name, **{option: sizes[option] for option in required_options(name)})
        return sum(parameter.numel() for parameter in model.parameters())
    except Exception:  # whatever a builder of others raises: the list goes on without the number
        return None
