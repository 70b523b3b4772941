"""What a CUDA graph can record: each call as recorded and replayed beside the same call as written.

    python -m benchmarks.gpu_probe

A row for each: whether the recording went through, and whether its replay on the stream of a training step is right.
The library's solvers are here to be seen, not used: steps call none. If something fails that must work, the process
ends with 1.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

from comhe.regularizers.energies import cholesky as ours
from comhe.train.engine.capture import make_recorder
from comhe.zoo.graphs.sparse import SparseMatrix


def calls(device: torch.device) -> Iterator[tuple[str, bool, Callable[[Tensor], Tensor], Tensor]]:
    """What is called, whether training depends on it, the call, and its argument."""
    torch.manual_seed(0)
    w = torch.randn(3, 96, 200, dtype=torch.float64, device=device)
    a = w @ w.mT / 200
    yield "torch.linalg.cholesky_ex", False, lambda a: torch.linalg.cholesky_ex(a).L, a
    low = torch.linalg.cholesky(a)
    yield "torch.linalg.solve_triangular", False, lambda b: torch.linalg.solve_triangular(low, b, upper=False), a
    yield "torch.linalg.slogdet", False, lambda a: torch.linalg.slogdet(a).logabsdet, a
    yield "our Cholesky factor", True, ours.cholesky, a
    yield "our triangular solve", True, lambda b: ours.solve_triangular(low, b), a
    yield "our log-determinant's gradient", True, lambda a: _gradient(ours.log_determinant, a), a
    edges = torch.randint(50, (2, 300), device=device).unique(dim=1)
    matrix, x = SparseMatrix.from_edge_index(edges, 50), torch.randn(50, 16, device=device)
    assert matrix.T is not None  # made before anything is recorded
    yield "sparse product", True, lambda x: matrix @ x, x
    yield "sparse product's gradient", True, lambda x: _gradient(lambda y: (matrix @ y).square(), x), x
    bags = torch.randint(50, (20, 4), device=device)
    yield "embedding_bag", True, lambda x: embedding_bag(bags, x, mode="sum"), x
    yield "embedding_bag's gradient", True, lambda x: _gradient(lambda y: embedding_bag(bags, y).square(), x), x
    yield "a wait for the device, which must fail", False, lambda x: x * x.sum().item(), x
    yield "a product after that failure", True, lambda x: x @ x.mT, x
    yield "random numbers after that failure", True, lambda x: x * (torch.rand_like(x) >= 0), x


def _gradient(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    x = x.detach().requires_grad_()
    return torch.autograd.grad(function(x).sum(), x)[0]


def rows(device: torch.device) -> Iterator[dict[str, Any]]:
    recorder = make_recorder(device, ())
    for what, is_needed, call, argument in calls(device):
        expected, row = call(argument), {"what": what, "needed": is_needed, "recorded": "no GPU", "error": 0.0}
        if recorder is not None:
            static = recorder.like(argument).copy_(argument)
            for _ in range(3):
                recorder.run(lambda call=call, static=static: call(static))
            try:
                replay, result = recorder.record(lambda call=call, static=static: call(static))
                replay()
                row |= {"recorded": "yes", "error": ((result - expected).norm() / expected.norm()).item()}
            except Exception as error:  # whatever it is, it is what is asked for
                row |= {"recorded": f"no: {str(error.__context__ or error).splitlines()[0][:100]}", "error": 1.0}
        yield row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    flags, failures = parser.parse_args(), 0
    for row in rows(torch.device(flags.device)):
        failures += row["needed"] and not row["error"] < 1e-4
        print(", ".join(f"{key} {value}" for key, value in row.items()), flush=True)
    raise SystemExit(min(failures, 1))


if __name__ == "__main__":
    main()
