"""The figures of the documentation, drawn from pretrained weights of the zoo: ``make tables``."""

import math
import re
from collections.abc import Callable
from pathlib import Path

import matplotlib
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor, nn

from comhe.regularizers import cosines, create_regularizer, hyperspherical_energy
from comhe.zoo import get_weights

FOLDER = Path(__file__).parent / "figures"
BLUE, ORANGE, GREEN, GRAY = "#1f5fbf", "#d9730d", "#2b8a3e", "#868e96"
DIGITS = re.compile(r"\b([1-9]\d{0,2}\.\d\d)\d+")  # of points, which two decimals are enough for
STYLE = {
    "svg.hashsalt": "comhe", "svg.fonttype": "path", "font.family": "DejaVu Sans", "font.size": 9,
    "axes.spines.top": False, "axes.spines.right": False, "axes.linewidth": 0.6, "legend.frameon": False,
}  # fmt: skip


def sphere() -> Figure:
    """The first layer of a PointNet, whose neurons have three dimensions, too few for RP-CoMHE to project them."""
    figure = Figure(figsize=(6.4, 3.4))
    for position, (name, title) in enumerate((("none", "no regularizer"), ("rp-comhe", "half-space MHE"))):
        w = get_weights(f"pointnet.modelnet40-{name}").state_dict()["features.linears.0.weight"].flatten(1)
        axes = figure.add_subplot(1, 2, position + 1)
        hemisphere(axes, w)
        energy = hyperspherical_energy(w, half_space=True)
        axes.set_title(f"{title}\nenergy {energy:.2f}", fontsize=10)
    return figure


def hemisphere(axes: Axes, w: Tensor) -> None:
    """Lines through the origin as points on the front half of the sphere, colored by the angle to the nearest line."""
    u = nn.functional.normalize(w, dim=-1)
    angles = cosines(w).abs().fill_diagonal_(0).amax(-1).clamp(max=1).acos().rad2deg()
    x, y, z = (u * torch.where(u[:, 2:] < 0, -1.0, 1.0)).T
    turn = torch.linspace(0, 2 * math.pi, 181)
    axes.fill(turn.cos(), turn.sin(), color="#f1f3f5", ec=GRAY, lw=0.8)
    for latitude in (30, 60):
        r = math.cos(math.radians(latitude))
        axes.plot(r * turn.cos(), r * turn.sin(), color="#ced4da", lw=0.6)
    for longitude in range(0, 180, 30):
        c, s = math.cos(math.radians(longitude)), math.sin(math.radians(longitude))
        axes.plot((-c, c), (-s, s), color="#ced4da", lw=0.6)
    axes.scatter(x, y, s=14 + 18 * z, c=angles, cmap="plasma_r", vmin=0, vmax=20, ec="black", lw=0.4, zorder=3)
    axes.set_aspect("equal")
    axes.axis("off")


def potentials() -> Figure:
    """The potential of a pair of neurons by the angle between them."""
    figure = Figure(figsize=(6.4, 2.8))
    degrees = torch.linspace(8, 180, 400, dtype=torch.float64)
    squared = 2 - 2 * degrees.deg2rad().cos()
    full, half = figure.subplots(1, 2)
    for s, color in ((0, GREEN), (1, ORANGE), (2, BLUE)):
        full.plot(degrees, -squared.log() if s == 0 else squared ** (-s / 2), color=color, label=f"s = {s}")
    full.set(title="full space", ylim=(-1.6, 6))
    inner = degrees[degrees < 172]
    c = inner.deg2rad().cos()
    half.plot(inner, (1 / (2 - 2 * c) + 1 / (2 + 2 * c)) / 2, color=BLUE, label="s = 2")
    half.set(title="half space", ylim=(0, 6))
    for axes in (full, half):
        axes.set(xlabel="angle between two neurons (degrees)", xticks=range(0, 181, 45))
        axes.legend()
    full.set_ylabel("potential")
    return figure


def trained_layer() -> Tensor:
    """A convolution of a trained airbench94: 64 neurons with 576 dimensions."""
    return get_weights("airbench94.cifar100-none").state_dict()["features.5.weight"].flatten(1)


def projections() -> Figure:
    """The cosines of a trained layer's neurons, before and after a random projection."""
    w = trained_layer()
    figure = Figure(figsize=(6.4, 2.6))
    pairs = torch.ones(len(w), len(w)).triu(1).bool()
    for axes, dim in zip(figure.subplots(1, 3, sharey=True), (10, 40, 160), strict=True):
        p = torch.randn(dim, w.shape[1], generator=torch.Generator().manual_seed(0))
        axes.plot((-1, 1), (-1, 1), color=GRAY, lw=0.6)
        before, after = cosines(w)[pairs], cosines(w @ p.T)[pairs]
        axes.scatter(before, after, s=3, color=BLUE, alpha=0.35, lw=0, rasterized=True)
        axes.set(title=f"k = {dim}", xlim=(-0.6, 0.6), ylim=(-1, 1), xlabel="cosine, d = 576")
        axes.set_aspect("auto")
    figure.axes[0].set_ylabel("cosine, projected")
    return figure


def span() -> Figure:
    """The noise of RP-CoMHE's gradient, with projections in all dimensions and in the span of the neurons."""
    layer = nn.Linear(576, 64, bias=False)
    layer.weight.data = trained_layer()
    figure = Figure(figsize=(4.6, 2.8))
    axes, counts = figure.subplots(), (1, 2, 5, 10, 20)
    for inside, label, color in ((False, "all dimensions", ORANGE), (True, "span of the neurons", BLUE)):
        noise = []
        for count in counts:
            regularizer = create_regularizer("rp-comhe", layer, output=None, count=count, span=inside, min_norm=0)
            gradients = [torch.autograd.grad(regularizer(), layer.weight)[0] for _ in range(60)]
            mean = torch.stack(gradients).mean(0)
            noise.append(torch.stack([(g - mean).square().sum() for g in gradients]).mean().sqrt() / mean.norm())
        axes.loglog(counts, noise, "o-", ms=4, color=color, label=label)
    axes.set(xlabel="projections in a step, C", ylabel="noise of the gradient / its mean")
    axes.set_xticks(counts, labels=map(str, counts))
    axes.set_yticks((0.5, 1, 2, 4), labels=("0.5", "1", "2", "4"))
    axes.minorticks_off()
    axes.legend()
    return figure


FIGURES: tuple[Callable[[], Figure], ...] = (sphere, potentials, projections, span)

if __name__ == "__main__":
    torch.manual_seed(0)
    matplotlib.rcParams |= STYLE
    for draw in FIGURES:
        path = FOLDER / f"{draw.__name__}.svg"
        draw().savefig(path, bbox_inches="tight", dpi=200, metadata={"Date": None})
        path.write_text(DIGITS.sub(r"\1", path.read_text()))
        print(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)
