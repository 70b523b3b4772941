"""Prototypes of classes, spread over a hypersphere by their energy: `python examples/class_prototypes.py`.

K directions in R^d, K <= d + 1, are farthest apart as the corners of a regular simplex: every cosine is -1 / (K - 1).
Minimizing the energy has to find it. For more directions than that no closed form is known, and the same lines work.
Prototypes like these serve as the fixed last layer of a classifier, or as the targets of a hyperspherical embedding.

Source: Mettes et al., Hyperspherical Prototype Networks, NeurIPS 2019, place prototypes by the largest cosine.
"""

import math

import torch
from torch.nn import functional as F

from comhe.regularizers import hyperspherical_energy


def simplex_energy(classes: int, s: float = 2) -> float:
    """The energy of a regular simplex: each of its pairs is at the squared distance 2 K / (K - 1)."""
    return (2 * classes / (classes - 1)) ** (-s / 2)


def smallest_angle(w: torch.Tensor) -> float:
    """The smallest angle between two rows, in degrees."""
    unit = F.normalize(w, dim=-1)
    cosines = unit @ unit.T - 2 * torch.eye(len(w), dtype=w.dtype)
    return math.degrees(math.acos(min(1.0, cosines.max().item())))


def spread(classes: int, dim: int, s: float = 2, steps: int = 60, seed: int = 0) -> torch.Tensor:
    """Return directions [classes, dim] of little energy, from random ones."""
    w = torch.randn(classes, dim, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    w = F.normalize(w, dim=-1).requires_grad_()
    optimizer = torch.optim.LBFGS([w], max_iter=steps, tolerance_grad=1e-10, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        energy = hyperspherical_energy(w, s=s)
        energy.backward()
        return energy

    optimizer.step(closure)
    return F.normalize(w.detach(), dim=-1)


def main(classes: int = 10, dim: int = 16) -> dict[str, float]:
    """Compare random directions, those of least energy, and the simplex."""
    random = spread(classes, dim, steps=0)
    found = spread(classes, dim)
    best = math.degrees(math.acos(-1 / (classes - 1)))
    print(f"{classes} classes in {dim} dimensions: energy, smallest angle")
    for name, w in (("random", random), ("least energy", found)):
        print(f"{name:>14}: {hyperspherical_energy(w):.6f}, {smallest_angle(w):.2f} degrees")
    print(f"{'simplex':>14}: {simplex_energy(classes):.6f}, {best:.2f} degrees")
    many = spread(5 * classes, dim // 2)
    print(f"{5 * classes} classes in {dim // 2} dimensions, no closed form: {smallest_angle(many):.2f} degrees")
    excess = hyperspherical_energy(found).item() - simplex_energy(classes)
    return {"excess": excess, "angle": smallest_angle(found), "simplex angle": best}


if __name__ == "__main__":
    main()
