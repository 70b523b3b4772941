"""Each cloud against a slow oracle, and what the published forms leave unchanged."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from comhe.datasets.points.augment import AUGMENTATIONS, PointAugmentation, rotation, turn_about


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def with_normals(batch=3, count=50, dtype=torch.float64):
    points, normals = torch.randn(2, batch, count, 3, dtype=dtype, generator=generator(9))
    return torch.cat([points, torch.nn.functional.normalize(normals, dim=-1)], dim=-1)


def oracle(augmentation, clouds, draw, up):
    """One cloud and one point at a time, with the draws in the documented order: a cloud's numbers side by side."""
    a, (batch, count, channels) = augmentation, clouds.shape

    def uniform(low, high, *shape):
        return (low + (high - low) * torch.rand(shape, dtype=torch.float64, generator=draw)).numpy()

    clouds = clouds.numpy().copy()
    linear = [np.eye(3)] * batch
    if a.rotate == "all":
        for i, (w, x, y, z) in enumerate(torch.randn(batch, 4, dtype=torch.float64, generator=draw).numpy()):
            # v -> q v q* with quaternions as 2 x 2 complex matrices
            norm = math.sqrt(w * w + x * x + y * y + z * z)
            q = np.array([[w + 1j * x, y + 1j * z], [-y + 1j * z, w - 1j * x]]) / norm
            columns = []
            for v in np.eye(3):
                m = q @ np.array([[1j * v[0], v[1] + 1j * v[2]], [-v[1] + 1j * v[2], -1j * v[0]]]) @ q.conj().T
                columns.append([m[0, 0].imag, m[0, 1].real, m[0, 1].imag])
            linear[i] = np.array(columns).T
    elif a.rotate != "none":
        axis = {"x": 0, "y": 1, "z": 2}.get(a.rotate, up)
        for i, angle in enumerate(uniform(0, 2 * math.pi, batch)):
            # Rodrigues' formula
            k = np.zeros((3, 3))
            for column in range(3):
                k[:, column] = np.cross(np.eye(3)[axis], np.eye(3)[column])
            linear[i] = np.eye(3) + math.sin(angle) * k + (1 - math.cos(angle)) * k @ k
    if a.scale != (1.0, 1.0):
        factors = uniform(*a.scale, batch, 1 if a.isotropic else 3)
        linear = [np.diag(np.ones(3) * f) @ m for f, m in zip(factors, linear, strict=True)]
    shift = uniform(-a.translate, a.translate, batch, 3) if a.translate else np.zeros((batch, 3))
    noise = np.zeros((batch, count, 3))
    if a.jitter:
        noise = a.jitter * torch.randn(batch, count, 3, dtype=torch.float64, generator=draw).numpy()
    for i in range(batch):
        for j in range(count):
            clipped = [min(max(value, -a.clip), a.clip) for value in noise[i, j]]
            clouds[i, j, :3] = linear[i] @ clouds[i, j, :3] + shift[i] + clipped
            if channels == 6:
                normal = np.linalg.inv(linear[i]).T @ clouds[i, j, 3:]
                clouds[i, j, 3:] = normal / np.linalg.norm(normal)
    if a.dropout:
        gone, share = uniform(0, 1, batch, count), uniform(0, a.dropout, batch)
        for i in range(batch):
            for j in range(count):
                if gone[i, j] < share[i]:
                    clouds[i, j] = clouds[i, 0]
    return torch.as_tensor(clouds)


EVERYTHING = PointAugmentation("up", (0.5, 2.0), translate=0.3, jitter=0.04, dropout=0.7)
FORMS = [*AUGMENTATIONS.values(), EVERYTHING, PointAugmentation("all", (0.5, 2.0)), PointAugmentation("x", jitter=0)]


@pytest.mark.parametrize("augmentation", FORMS, ids=repr)
@pytest.mark.parametrize("channels", [3, 6])
@pytest.mark.parametrize("up", [1, 2])
def test_equals_the_oracle(augmentation, channels, up):
    clouds = with_normals()[..., :channels]
    result = augmentation(clouds, generator(), up)
    torch.testing.assert_close(result, oracle(augmentation, clouds, generator(), up), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("augmentation", FORMS, ids=repr)
def test_a_function_of_the_generator_alone(augmentation):
    clouds = with_normals(dtype=torch.float32)
    before = clouds.clone()
    first = augmentation(clouds, generator(1))
    assert torch.equal(first, augmentation(clouds, generator(1)))
    assert torch.equal(clouds, before)
    assert first.shape == clouds.shape
    assert first.dtype == clouds.dtype
    if augmentation != AUGMENTATIONS["none"]:
        assert not torch.equal(first, augmentation(clouds, generator(2)))


@given(
    rotate=st.sampled_from(["up", "none", "all", "x", "y", "z"]),
    low=st.floats(0.2, 1),
    high=st.floats(1, 5),
    isotropic=st.booleans(),
    seed=st.integers(0, 2**31),
)
@settings(max_examples=60, deadline=None)
def test_normals_stay_perpendicular_and_of_unit_length(rotate, low, high, isotropic, seed):
    clouds = with_normals(4, 20)
    tangents = torch.linalg.cross(clouds[..., 3:], torch.randn(4, 20, 3, dtype=torch.float64, generator=generator(3)))
    beside = torch.cat([clouds[..., :3] + tangents, clouds[..., 3:]], dim=-1)
    augmentation = PointAugmentation(rotate, (low, high), isotropic, translate=0.2, jitter=0)
    result = augmentation(torch.cat([clouds, beside], dim=1), generator(seed))
    normals, moved = result[:, :20, 3:], result[:, 20:, :3] - result[:, :20, :3]
    assert (normals * moved).sum(-1).abs().max() < 1e-12
    torch.testing.assert_close(normals.norm(dim=-1), torch.ones(4, 20, dtype=torch.float64))


def test_a_point_without_normal_stays_without():
    clouds = with_normals()
    clouds[0, 0, 3:] = 0
    assert (EVERYTHING(clouds, generator())[0, 0, 3:] == 0).all()


@pytest.mark.parametrize(("rotate", "up", "axis"), [("up", 0, 0), ("up", 2, 2), ("y", 2, 1)])
def test_rotation_about_an_axis_keeps_height_and_distances(rotate, up, axis):
    clouds = with_normals(500, 4)[..., :3]
    result = PointAugmentation(rotate, jitter=0)(clouds, generator(), up)
    torch.testing.assert_close(result[..., axis], clouds[..., axis])
    torch.testing.assert_close(result.norm(dim=-1), clouds.norm(dim=-1))
    i, j = (k for k in range(3) if k != axis)
    turned = torch.atan2(result[..., j], result[..., i]) - torch.atan2(clouds[..., j], clouds[..., i])
    assert (turned[:, :1] - turned).remainder(2 * math.pi).sub(math.pi).abs().min() > math.pi - 1e-9, (
        "one angle a cloud"
    )
    eighths = (turned[:, 0].remainder(2 * math.pi) / (math.pi / 4)).long().bincount(minlength=8)
    assert (eighths - 500 / 8).abs().max() < 5 * math.sqrt(500 / 8), "every angle is as likely"


def test_all_rotations_are_uniform_on_the_group():
    turns = rotation(torch.randn(20000, 4, dtype=torch.float64, generator=generator()))
    torch.testing.assert_close(turns @ turns.mT, torch.eye(3, dtype=torch.float64).expand(20000, 3, 3))
    torch.testing.assert_close(torch.linalg.det(turns), torch.ones(20000, dtype=torch.float64))
    # Haar measure: every entry has mean 0, square 1/3 and fourth power 1/5; the trace squared has mean 1.
    assert turns.mean(0).abs().max() < 5 * math.sqrt(1 / 3 / 20000)
    assert (turns.square().mean(0) - 1 / 3).abs().max() < 0.012
    assert (turns.pow(4).mean(0) - 1 / 5).abs().max() < 0.012
    trace = turns.diagonal(dim1=1, dim2=2).sum(1)
    assert abs(trace.square().mean() - 1) < 0.06


def test_turns_are_right_handed():
    quarter = torch.tensor([math.pi / 2], dtype=torch.float64)
    unit = torch.eye(3, dtype=torch.float64)
    for axis in range(3):
        i, j = (axis + 1) % 3, (axis + 2) % 3
        torch.testing.assert_close(turn_about(axis, quarter)[0] @ unit[i], unit[j])


def test_scale_and_translation_cover_their_ranges():
    clouds = torch.ones(4000, 2, 3)
    factors = PointAugmentation("none", (2 / 3, 3 / 2), jitter=0)(clouds, generator())
    assert torch.equal(factors[:, 0], factors[:, 1]), "one draw for all points of a cloud"
    assert 2 / 3 <= factors.min() < 0.68
    assert 1.48 < factors.max() <= 1.5
    assert abs(np.corrcoef(factors[:, 0].T)[0, 1]) < 0.1, "axes apart"
    same = PointAugmentation("none", (2 / 3, 3 / 2), isotropic=True, jitter=0)(clouds, generator())
    assert torch.equal(same, same[..., :1].expand_as(same))
    shifts = PointAugmentation("none", translate=0.2, jitter=0)(clouds, generator()) - 1
    assert torch.equal(shifts[:, 0], shifts[:, 1])
    assert 0.19 < shifts.max() <= 0.2001
    assert -0.2001 <= shifts.min() < -0.19
    assert shifts.mean().abs() < 0.01


def test_jitter_is_clipped_gaussian_and_spares_normals():
    clouds = torch.zeros(50, 400, 6)
    clouds[..., 3] = 1
    result = PointAugmentation("none", jitter=0.01, clip=0.02)(clouds, generator())
    noise = result[..., :3]
    assert noise.abs().max() == torch.tensor(0.02)
    assert abs((noise.abs() == 0.02).double().mean() - 0.0455) < 0.005, "two standard deviations are cut"
    assert abs(noise[noise.abs() < 0.02].std() - 0.0088) < 2e-4
    assert torch.equal(result[..., 3:], clouds[..., 3:])


def test_dropout_repeats_the_first_point_with_its_normal():
    clouds = with_normals(4000, 30)
    result = PointAugmentation("none", jitter=0, dropout=0.875)(clouds, generator())
    gone = (result != clouds).any(-1)
    assert torch.equal(result, torch.where(gone[..., None], clouds[:, :1], clouds))
    shares = gone[:, 1:].double().mean(1)
    assert abs(shares.mean() - 0.875 / 2) < 0.02
    # a uniform share: its variance is 0.875^2 / 12, and the draws of 29 points add their own
    assert abs(shares.var() - (0.875**2 / 12 + (0.875 / 2 - 0.875**2 / 3) / 29)) < 0.01
    assert not gone[:, 0].any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rotate": "upwards"}, "rotate must be 'up', .* not 'upwards'"),
        ({"scale": (0.0, 1.0)}, r"scale must be a range of positive factors, not \(0.0, 1.0\)"),
        ({"scale": (2.0, 1.0)}, "scale must be a range"),
        ({"scale": (1.0, math.inf)}, "scale must be a range"),
        ({"jitter": -0.1}, "jitter must be >= 0, not -0.1"),
        ({"clip": math.nan}, "clip must be >= 0, not nan"),
        ({"translate": -1}, "translate must be >= 0"),
        ({"dropout": 1.5}, "dropout must be in 0..1, not 1.5"),
    ],
)
def test_values_out_of_range(options, message):
    with pytest.raises(ValueError, match=message):
        PointAugmentation(**options)


def test_repr_can_be_pasted():
    for augmentation in FORMS:
        assert eval(repr(augmentation)) == augmentation
