"""Every penalty on neurons of any shape, scale and type, dead, equal, opposite and nearly parallel ones among them.

Finite, with a finite gradient, and within the bounds that its formula has. What is a power of the neurons' length, and
not only of their directions, is asked at lengths at which it is a number.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from comhe.regularizers import (
    create_regularizer,
    dso,
    hyperspherical_energy,
    list_regularizers,
    mc,
    mgd,
    mhc,
    mhp,
    mhs,
    mma,
    ocnn,
    orthogonal,
    orthonormal,
    orthoreg,
    regularizer_options,
    so,
    srip,
    uniformity,
)

INF = math.inf
DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
DEFECTS = ("zero", "equal", "longer", "opposite", "near", "near opposite", "one axis", "all equal", "all zero")
# The lengths, as powers of ten, at which a type has numbers to spare; those of the penalties of the fourth degree.
SCALES = {torch.float16: (-5, 4), torch.bfloat16: (-30, 30), torch.float32: (-30, 30), torch.float64: (-30, 30)}
FOURTH = {torch.float16: 3, torch.bfloat16: 7, torch.float32: 7, torch.float64: 30}


class Case(NamedTuple):
    shape: tuple[int, ...]
    dtype: torch.dtype
    power: float
    defects: tuple[str, ...]
    gap: float
    seed: int

    def neurons(self, highest: dict[torch.dtype, int]) -> torch.Tensor:
        draw = torch.Generator().manual_seed(self.seed)
        w = torch.randn(self.shape, generator=draw, dtype=torch.float64)
        for defect in self.defects:
            i, j = torch.randint(self.shape[-2], (2,), generator=draw).tolist()
            near = w[..., i, :] + self.gap * torch.randn(self.shape[-1], generator=draw, dtype=torch.float64)
            if defect == "all equal":
                w[:] = w[..., :1, :].clone()
            elif defect == "all zero":
                w[:] = 0
            elif defect == "one axis":
                w[..., 1:] = 0
            else:
                w[..., j, :] = {
                    "zero": 0 * near,
                    "equal": w[..., i, :].clone(),
                    "longer": 1000 * w[..., i, :],
                    "opposite": -w[..., i, :],
                    "near": near,
                    "near opposite": -near,
                }[defect]
        low, high = SCALES[self.dtype]
        power = min(max(self.power, low), high, highest[self.dtype])
        w = (w * (10**power / max(1.0, w.abs().max().item()))).to(self.dtype)
        assert w.isfinite().all()
        return w


CASES = st.builds(
    Case,
    st.tuples(st.integers(2, 12), st.integers(1, 12)) | st.tuples(st.just(2), st.integers(2, 6), st.integers(1, 6)),
    st.sampled_from(DTYPES),
    st.floats(-30, 30) | st.just(0.0),
    st.lists(st.sampled_from(DEFECTS), max_size=3).map(tuple),
    st.sampled_from((1e-1, 1e-3, 1e-5, 1e-8, 1e-12)),
    st.integers(0, 10_000),
)


def start_of(w: torch.Tensor, size: int) -> torch.Tensor:
    return torch.randn(*w.shape[:-2], size, generator=torch.Generator().manual_seed(1))


def energy(s: float, half_space: bool, **options) -> Callable:
    return lambda w: hyperspherical_energy(w, s, half_space, **options)


class Penalty(NamedTuple):
    function: Callable
    least: float
    most: float
    fourth: bool = False  # a polynomial of the fourth degree in the neurons


PENALTIES = {
    **{
        f"energy s={s:g}{' half' * half}{' geodesic' * geodesic}": Penalty(
            energy(s, half, geodesic=geodesic), 0 if s else -math.log(4), INF
        )
        for s in (0, 1, 2, 3.5)
        for half in (False, True)
        for geodesic in (False, True)
    },
    "energy eps": Penalty(energy(2, True, eps=1e-4), 0, INF),
    "energy sum": Penalty(energy(2, False, reduction="sum"), 0, INF),
    "orthogonal": Penalty(orthogonal, 0, INF, True),
    "so": Penalty(so, 0, INF, True),
    "dso": Penalty(dso, 0, INF, True),
    "mc": Penalty(mc, 0, INF, True),
    "orthonormal": Penalty(orthonormal, 0, INF),
    "orthoreg": Penalty(orthoreg, 0, INF),
    "srip": Penalty(lambda w: srip(w, start_of(w, min(w.shape[-2:]))), 0, INF, True),
    "ocnn": Penalty(lambda w: ocnn(w.reshape(*w.shape[-2:], 1) if w.dim() == 2 else w.mT), 0, INF, True),
    "mma": Penalty(mma, -math.pi, 0),
    "mhs": Penalty(mhs, -4, 0),
    "mgd": Penalty(mgd, 0, INF),
    "mhp": Penalty(lambda w: mhp(w, start_of(w, w.shape[-1])), 0.25, INF),
    "mhc": Penalty(lambda w: mhc(w, start_of(w, w.shape[-1])), 0, 4),
    "uniformity": Penalty(uniformity, -8, 0),
}


def check(penalty: Penalty, case: Case) -> None:
    w = case.neurons(FOURTH if penalty.fourth else dict.fromkeys(DTYPES, 30)).requires_grad_()
    value = penalty.function(w)
    assert value.dtype == (torch.float64 if w.dtype == torch.float64 else torch.float32)
    assert value.isfinite().all()
    slack = 1e-3 * (1 + w.shape[-2])
    assert (value >= penalty.least - slack).all()
    assert (value <= penalty.most + slack).all()
    # In the type that the penalty is computed in: what a half precision weight makes of its gradient is another matter.
    x = w.detach().to(value.dtype).requires_grad_()
    (gradient,) = torch.autograd.grad(penalty.function(x).sum(), x)
    assert gradient.isfinite().all()


def counted(cases: int) -> Callable:
    return settings(
        max_examples=cases,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture],
    )


@pytest.mark.parametrize("name", PENALTIES)
@given(case=CASES)
@counted(12)
def test_penalties(tally, name, case):
    check(PENALTIES[name], case)
    tally("penalties of any neurons", "finite, within its bounds, finite gradient")


@pytest.mark.long
@pytest.mark.parametrize("name", PENALTIES)
@given(case=CASES)
@counted(2000)
def test_penalties_long(tally, name, case):
    check(PENALTIES[name], case)
    tally("penalties of any neurons", "finite, within its bounds, finite gradient")


OPTIONS = {name: regularizer_options(name) for name in list_regularizers()}
DEGREE_FOUR = ("orthogonal", "so", "dso", "mc", "srip", "ocnn")


def step(name: str, case: Case) -> None:
    """Two steps of a regularizer on a model whose first layer has the case's neurons."""
    case = case._replace(shape=case.shape[-2:])
    w = case.neurons(FOURTH if name in DEGREE_FOUR else dict.fromkeys(DTYPES, 30))
    n, d = w.shape
    torch.manual_seed(case.seed)
    model = torch.nn.Sequential(torch.nn.Linear(d, n, bias=False), torch.nn.Linear(n, 5)).to(w.dtype)
    with torch.no_grad():
        model[0].weight.copy_(w)
    options = {"dim": 3, "count": 2, "eps": 1e-4 * (case.seed % 2)}
    options = {key: value for key, value in options.items() if key in OPTIONS[name]}
    regularizer = create_regularizer(name, model, **options)
    for _ in range(2):
        value = regularizer()
        assert value.isfinite()
        if value.requires_grad:
            for gradient in torch.autograd.grad(value, [model[0].weight, model[1].weight], allow_unused=True):
                assert gradient is None or w.dtype == torch.float16 or gradient.isfinite().all()
    for buffer in regularizer.buffers():
        assert buffer.isfinite().all()


@pytest.mark.parametrize("name", list_regularizers())
@given(case=CASES)
@counted(8)
@example(case=Case((6, 8), torch.float32, 0.0, ("all zero",), 1e-1, 0))
@example(case=Case((3, 4), torch.bfloat16, -13.0, ("zero", "equal"), 1e-1, 0))
def test_regularizers(tally, name, case):
    step(name, case)
    tally("steps of regularizers with any neurons", "finite, finite gradient, finite state")


@pytest.mark.long
@pytest.mark.parametrize("name", list_regularizers())
@given(case=CASES)
@counted(1000)
def test_regularizers_long(tally, name, case):
    step(name, case)
    tally("steps of regularizers with any neurons", "finite, finite gradient, finite state")
