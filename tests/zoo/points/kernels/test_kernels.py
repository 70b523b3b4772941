"""The Triton kernels against PyTorch's operations and float64: on the GPU, or without one in Triton's interpreter."""

import os
import subprocess
import sys

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional as F

from comhe.zoo import create_model
from comhe.zoo.norms import update_running
from comhe.zoo.points import PointNet2, Scale, ball_query, farthest_point_sampling, group, kernels, query_and_group
from comhe.zoo.points.kernels.ball import points_in_balls
from comhe.zoo.points.kernels.farthest import farthest_points
from comhe.zoo.points.operations import segment_order
from comhe.zoo.points.pooling import MaxLayerGradient

pytest.importorskip("triton")


def random_points(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def grid_points(batch, size, dimension=3, seed=0):
    """Quarters between -1 and 1: products and sums of them are exact, and there are many ties and duplicates."""
    g = torch.Generator().manual_seed(seed)
    return torch.randint(-4, 5, (batch, size, dimension), generator=g) / 4


@pytest.mark.parametrize("dimension", [1, 2, 3])
@pytest.mark.parametrize(("batch", "size", "count"), [(1, 1, 3), (3, 5, 9), (3, 33, 12), (1, 600, 8), (2, 40, 1)])
def test_farthest_points_are_those_of_the_operation(device, batch, size, count, dimension):
    points = grid_points(batch, size, dimension)
    start = torch.arange(batch) % size
    for first in (None, start, start.flip(0) + size - batch if size >= batch else None):
        expected = farthest_point_sampling(points, count, first)
        got = farthest_points(points.to(device), count, None if first is None else first.to(device))
        assert got.cpu().equal(expected)


def test_every_farthest_point_is_as_far_as_any_in_float64(device):
    points, start = random_points(2, 300, 3) + 10, torch.tensor([299, 7])
    chosen = farthest_points(points.to(device), 40, start.to(device)).cpu()
    assert chosen[:, 0].equal(start)
    distance = torch.cdist(points.double(), points.double(), compute_mode="donot_use_mm_for_euclid_dist").square()
    for cloud, indices in zip(distance, chosen, strict=True):
        assert len(indices.unique()) == 40
        for t in range(1, 40):
            nearest = cloud[:, indices[:t]].amin(1)
            assert nearest[indices[t]] >= nearest.max() * (1 - 1e-6)


def test_a_duplicate_is_at_distance_zero_and_an_exhausted_cloud_gives_point_0(device):
    few = random_points(1, 4, 3)[:, [0, 1, 1, 2, 3, 3, 0]] * 1e3
    chosen = farthest_points(few.to(device), 7, None)[0].tolist()
    assert sorted(chosen[:4]) == [0, 1, 3, 4]
    assert chosen[4:] == [0, 0, 0]
    same = torch.full((2, 9, 3), 0.1, device=device)
    assert farthest_points(same, 4, torch.tensor([5, 8], device=device)).tolist() == [[5, 0, 0, 0], [8, 0, 0, 0]]


@pytest.mark.filterwarnings("ignore:invalid value")  # of NumPy, in the interpreter
def test_bad_numbers_never_lead_outside_the_cloud(device):
    points = random_points(1, 10, 3)
    points[0, 3:5] = torch.nan
    points[0, 7] = torch.inf
    points = points.to(device)
    chosen = farthest_points(points, 10, None)
    assert ((chosen >= 0) & (chosen < 10)).all()
    index, _ = points_in_balls(points, points, 2.0, 12)
    assert ((index >= 0) & (index < 10)).all()
    assert farthest_points(points, 3, torch.tensor([10], device=device))[0, 0] == 10  # for the lookup to refuse


@pytest.mark.parametrize("dimension", [1, 2, 3])
@pytest.mark.parametrize("radius", [0.2, 0.25, 0.75, 5.0])  # 0.25 and 0.75 are distances on the grid
@pytest.mark.parametrize(("batch", "size", "number", "count"), [(1, 1, 1, 1), (3, 50, 4, 6), (1, 300, 3, 280)])
def test_balls_are_those_of_the_operation(device, batch, size, number, count, radius, dimension):
    points, centers = grid_points(batch, size, dimension), grid_points(batch, number, dimension, seed=1)
    expected = query_and_group(points, centers, radius, count)
    for ours, theirs in zip(
        points_in_balls(points.to(device), centers.to(device), radius, count), expected, strict=True
    ):
        assert ours.cpu().equal(theirs)


def test_balls_of_random_points_are_those_of_float64(device):
    points, centers, radius = random_points(2, 520, 3), random_points(2, 6, 3, seed=1) * 1.5, 0.6
    exact = torch.cdist(centers.double(), points.double())
    assert ((exact - radius).abs() > 1e-6).all()  # rounding cannot decide
    for count in (3, 600):
        index, offsets = (t.cpu() for t in points_in_balls(points.to(device), centers.to(device), radius, count))
        assert offsets.equal(group(points, index) - centers[:, :, None])
        index = index.tolist()
        for b in range(2):
            for m in range(6):
                inside = (exact[b, m] < radius).nonzero().flatten().tolist()[:count]
                assert index[b][m] == inside + (inside or [0])[:1] * (count - len(inside))
    assert not (exact < radius).any(-1).all()  # some ball is empty


def test_views_are_read_as_what_they_show(device):
    wide = grid_points(2, 20, 6).to(device)
    points, centers = wide[..., :3], wide[:, ::3, 3:]
    start = torch.tensor([[4, 1], [9, 1]], device=device)[:, 0]
    assert farthest_points(points, 6, start).equal(farthest_points(points.contiguous(), 6, start.contiguous()))
    same = points_in_balls(points.contiguous(), centers.contiguous(), 0.6, 4)
    assert all(map(torch.equal, points_in_balls(points, centers, 0.6, 4), same))


def test_operators_are_what_they_say_to_the_compiler(device):
    points = grid_points(2, 20).to(device)
    torch.library.opcheck(kernels.farthest_points, (points, 4, None))
    torch.library.opcheck(kernels.farthest_points, (points, 4, torch.tensor([1, 2], device=device)))
    torch.library.opcheck(kernels.points_in_balls, (points, points[:, :3], 0.5, 4))


KERNELS = {"comhe::farthest_points", "comhe::points_in_balls"}


class Seen(torch.utils._python_dispatch.TorchDispatchMode):
    """Notes which kernels run, and refuses operators that wait for the device."""

    def __init__(self):
        super().__init__()
        self.kernels = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        waits = {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape} & set(func.tags)
        if func._schema.name == "aten::index":  # waits for masks only
            waits = any(index is not None and index.dtype in (torch.bool, torch.uint8) for index in args[1])
        assert not waits, func
        self.kernels |= {func._schema.name} & KERNELS
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", ["pointnet", "pointnet_t", "pointnet2", "dgcnn"])
def test_a_step_never_waits_for_the_device(name, monkeypatch):
    """With tensors that have no data: to read one is an error. Only a forward can be on a device that is not there."""
    monkeypatch.setattr(MaxLayerGradient, "_add_sparse", MaxLayerGradient._add_dense)  # as a GPU does with many groups
    for device in ("cuda", "cpu"):
        with FakeTensorMode(), Seen() as seen, torch.device(device):
            if name == "pointnet2":
                model = PointNet2(3, 5, (12, 6), ([Scale(0.5, 6, (8, 8))], [Scale(0.9, 5, (8, 8))]), 0.5)
            else:
                model = create_model(name, num_classes=5)
            x, y = torch.empty(4, 40, 3), torch.empty(4, dtype=torch.int64)
            loss = F.cross_entropy(model(x), y) + model.auxiliary_loss()
            model.eval()(x)
            if device == "cpu":
                loss.backward()
        assert seen.kernels == (KERNELS if name == "pointnet2" and device == "cuda" else set())


def test_running_statistics_over_all_batches_never_wait_for_the_device():
    with FakeTensorMode(), Seen(), torch.device("cuda"):
        update_running(nn.BatchNorm1d(3, momentum=None), torch.empty(3), torch.empty(3), 7)


def test_segments_are_found_without_waiting():
    with FakeTensorMode(), Seen():
        segment_order(torch.empty(9, dtype=torch.int64, device="cuda"), 5)
    order, offsets = segment_order(torch.tensor([3, 1, 3, 6, 0, 1]), 8)
    assert order.tolist() == [4, 1, 5, 0, 2, 3]
    assert offsets.tolist() == [0, 1, 3, 3, 5, 5, 5, 6]


COMPILE = """
import torch, triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from comhe.zoo.points.kernels.ball import BLOCK, _ball
from comhe.zoo.points.kernels.farthest import _farthest

def build(kernel, types, constants, warps):
    types = {**dict(zip(kernel.arg_names, types.split())), **dict.fromkeys(constants, "constexpr")}
    source = ASTSource(kernel, types, constants)
    print(len(triton.compile(source, target=GPUTarget("cuda", 90, 32), options={"num_warps": warps}).asm["cubin"]))

build(_farthest, "*fp32 *i64 *i64 i32 i32", {"DIMENSION": 3, "BLOCK": 1024}, 4)
build(_ball, "*fp32 *fp32 *i64 *fp32 i32 i32 i32 fp32", {"DIMENSION": 2, "BLOCK": BLOCK}, 1)
"""


def test_the_kernels_compile_for_hopper(tmp_path):
    """Which takes no GPU, and is stricter than the interpreter."""
    environment = os.environ | {"TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path)}
    run = subprocess.run([sys.executable, "-c", COMPILE], env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert all(int(line) > 1000 for line in run.stdout.split())


@pytest.mark.parametrize("dynamic", [False, True])
def test_compiled_without_a_break(dynamic):
    def both(points, start):
        centers = group(points, farthest_point_sampling(points, 6, start))
        return query_and_group(points, centers, 0.5, 4)

    with FakeTensorMode(), torch.device("cuda"):
        points, start = torch.empty(3, 40, 3), torch.empty(3, dtype=torch.int64)
        index, offsets = torch.compile(both, backend="eager", fullgraph=True, dynamic=dynamic)(points, start)
        assert index.shape == (3, 6, 4)
        assert offsets.shape == (3, 6, 4, 3)
        assert index.is_cuda
    torch.compiler.reset()


def test_large_clouds_other_types_and_exports_are_left_to_pytorch():
    with FakeTensorMode(), Seen() as seen, torch.device("cuda"):
        farthest_point_sampling(torch.empty(1, kernels.LARGEST_SAMPLED + 1, 3), 2)
        ball_query(torch.empty(1, 9, 3).double(), torch.empty(1, 2, 3).double(), 0.5, 2)
        farthest_point_sampling(torch.empty(1, 9, 4), 2)
        assert not seen.kernels
    with FakeTensorMode(), Seen() as seen, torch.device("cuda"):
        points = torch.empty(1, 9, 3, requires_grad=True)
        _, offsets = query_and_group(points, points[:, :2], 0.5, 2)
        assert offsets.requires_grad
        _, offsets = query_and_group(points.detach(), torch.empty(1, 2, 3), 0.5, 2)
        assert not offsets.requires_grad
    with FakeTensorMode(), Seen() as seen, torch.device("cuda"):
        chosen = farthest_point_sampling(torch.empty(3, kernels.LARGEST_SAMPLED, 2), 2)
        assert chosen.shape == (3, 2)
        assert ball_query(group(torch.empty(3, 9, 3), chosen), torch.empty(3, 4, 3), 1, 5).shape == (3, 4, 5)
        assert seen.kernels == KERNELS
