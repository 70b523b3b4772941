"""Weights that a file has in parts (weight norm, spectral norm, pruning), computed as their layer uses them."""

import re
from collections.abc import Callable

import torch
from torch import Tensor

from comhe.errors import WeightsError
from comhe.zoo.state import State, printable

PARAMETRIZED = re.compile(r"(?P<layer>.*[.\x1f]|)parametrizations\.(?P<name>\w+)\.(?P<part>original\d*|\d+\..+)")

Compute = Callable[..., Tensor | None]  # None if the parts do not fit together


def plain_weights(state: State) -> tuple[dict[str, Tensor], list[str]]:
    r"""Return the state with ordinary weights, and what was computed, in words; the file's other tensors stay.

    =========================  ==========================================================  ============================
    weight norm                ``weight_g``, ``weight_v``, or                              :math:`g\,v / \|v\|`
                               ``parametrizations.weight.original0``, ``original1``
    spectral norm              ``weight_orig``, ``weight_u``, ``weight_v``, or             :math:`W / (u^\top W v)`
                               ``parametrizations.weight.original``, ``0._u``, ``0._v``
    pruning                    ``weight_orig``, ``weight_mask``                            their product
    =========================  ==========================================================  ============================

    Raises:
        WeightsError: A weight is parametrized in another way, of which the numbers alone do not tell what it is.
    """
    result, counts = dict(state), dict.fromkeys(("weight norm", "spectral norm", "pruning"), 0)
    for name, parts in _parametrized(state).items():
        kind, compute = _kind_of(parts, name)
        weight = compute(*(state[key] for key in parts.values()))
        if weight is None:
            raise WeightsError(f"the parts of {printable(name)}, {', '.join(parts)}, do not fit together")
        counts[kind] += 1
        result = _replaced(result, [*parts.values()], name, weight)
    for name in state:
        for kind, suffixes, compute in OLD:
            plain = name.removesuffix(suffixes[0])
            keys = [plain + suffix for suffix in suffixes]
            if not name.endswith(suffixes[0]) or not all(key in result for key in keys):
                continue
            if (weight := compute(*(result[key] for key in keys))) is not None:
                result = _replaced(result, keys, plain, weight)
                counts[kind] += 1
                break
    return result, [f"{kind} of {count} tensors computed" for kind, count in counts.items() if count]


def _replaced(state: State, parts: list[str], name: str, weight: Tensor) -> dict[str, Tensor]:
    """The state with a weight where the first of its parts was."""
    kept = {key: t for key, t in state.items() if key not in parts[1:]}
    return {name if key == parts[0] else key: weight if key == parts[0] else t for key, t in kept.items()}


def is_reparametrized(state: State) -> bool:
    """Whether a state dict, a model's own for example, has weights in parts."""
    return any(PARAMETRIZED.fullmatch(name) or name.endswith(("_orig", "_g")) for name in state)


def _parametrized(state: State) -> dict[str, dict[str, str]]:
    """The parts of each parametrized tensor, and their names in the file."""
    found: dict[str, dict[str, str]] = {}
    for key in state:
        if match := PARAMETRIZED.fullmatch(key):
            found.setdefault(match["layer"] + match["name"], {})[match["part"]] = key
    return {name: dict(sorted(parts.items(), key=lambda part: ORDER.get(part[0], 9))) for name, parts in found.items()}


def _kind_of(parts: dict[str, str], name: str) -> tuple[str, Compute]:
    if parts.keys() == {"original0", "original1"}:
        return "weight norm", weight_normed
    if parts.keys() == {"original", "0._u", "0._v"}:
        return "spectral norm", spectral_normed
    found = ", ".join(map(printable, parts))
    raise WeightsError(
        f"{printable(name)} is parametrized in a way that its tensors ({found}) do not tell; call "
        "torch.nn.utils.parametrize.remove_parametrizations where the model is, and save it again"
    )


def weight_normed(scale: Tensor, direction: Tensor) -> Tensor | None:
    """Scale the direction's slices to unit norm, then by ``scale`` [n, 1, ...]; the whole of it by a number."""
    across = [i for i in range(direction.dim()) if scale.dim() == 0 or scale.shape[i : i + 1] == (1,)]
    kept = [1 if i in across else side for i, side in enumerate(direction.shape)]
    if not across or list(scale.shape) not in ([], kept):
        return None
    return scale * direction / torch.linalg.vector_norm(direction, dim=across, keepdim=True)


def spectral_normed(weight: Tensor, left: Tensor, right: Tensor) -> Tensor | None:
    """Divide by the largest singular value, as the vectors give it; the rows are an axis as long as ``left``."""
    for axis in range(weight.dim()):
        rows = weight.movedim(axis, 0).flatten(1)
        if rows.shape == (*left.shape, *right.shape):
            return weight / (left @ rows @ right)
    return None


def _masked(weight: Tensor, mask: Tensor) -> Tensor | None:
    return weight * mask if weight.shape == mask.shape else None


ORDER = {"original": 0, "original0": 0, "original1": 1, "0._u": 1, "0._v": 2}
OLD: tuple[tuple[str, tuple[str, ...], Compute], ...] = (
    ("spectral norm", ("_orig", "_u", "_v"), spectral_normed),
    ("pruning", ("_orig", "_mask"), _masked),
    ("weight norm", ("_g", "_v"), weight_normed),
)
