"""The kernels as operators: compiled, without waiting for the device, and left to PyTorch where they do not apply."""

import os

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional as F

from comhe.zoo import create_model
from comhe.zoo.norms import update_running
from comhe.zoo.points import PointNet2, Scale, ball_query, farthest_point_sampling, group, kernels, query_and_group
from comhe.zoo.points.operations import segment_order
from comhe.zoo.points.pooling import MaxLayerGradient

from ....forks import python
from .conftest import grid_points

pytest.importorskip("triton")


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


@pytest.mark.usefixtures("without_values")
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
    run = python("-c", COMPILE, env=environment)
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
