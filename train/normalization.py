"""What images are normalized with, by name or by numbers."""

from comhe.datasets import CENTERED, Normalization
from comhe.datasets.images.sets import IMAGENET_MEAN, IMAGENET_STD
from comhe.errors import UsageError

# Means and standard deviations on the scale 0..1, besides `set`, those of the training set. The last ones have the mean
# of CIFAR-10 and a third less than its deviation; they are copied in many implementations.
NORMALIZATIONS: dict[str, Normalization] = {
    "centered": CENTERED,
    "imagenet": (IMAGENET_MEAN, IMAGENET_STD),
    "half": ((0.5,) * 3, (0.5,) * 3),
    "unit": ((0.0,) * 3, (1.0,) * 3),
    "kuangliu": ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
}


def parse_normalization(text: str) -> Normalization | None:
    """Return means and deviations by name, or written as ``0.5,0.5,0.5/0.2,0.2,0.2``; None for the training set's.

    Example:
        >>> parse_normalization("0.5/0.25")
        ((0.5,), (0.25,))
    """
    if text == "set":
        return None
    if text in NORMALIZATIONS:
        return NORMALIZATIONS[text]
    try:
        mean, std = (tuple(map(float, part.split(","))) for part in text.split("/"))
    except ValueError:
        mean, std = (), ()
    if not mean or len(mean) != len(std) or not all(0 < value < float("inf") for value in std):
        names = " or ".join(map(repr, ("set", *NORMALIZATIONS)))
        raise UsageError(f"normalization must be {names}, or means/deviations as 0.5,0.5,0.5/0.2,0.2,0.2, not {text!r}")
    return mean, std
