import pytest
import torch


@pytest.fixture(autouse=True)
def _seeded():
    """Layers are initialized from the global generator: the same in every run and in any order of tests."""
    if torch.cuda.is_available():
        torch.manual_seed(0)
    else:  # without looking for the lines that ask, which is most of the time
        torch.default_generator.manual_seed(0)


@pytest.fixture(autouse=True)
def _one_thread():
    """Matrices this small gain nothing from more threads, and lose much to them on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def normal():
    """``normal(6, 4)``: independent Gaussian entries, float64 unless told, from a generator of their own."""

    def make(*shape, seed=0, dtype=torch.float64):
        return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)

    return make


@pytest.fixture
def plain():
    """The energy by ordinary differentiable operations, mean over pairs, from the points' distances themselves."""

    def energy(w, s=2, half_space=False):
        u = w / w.norm(dim=-1, keepdim=True)
        if half_space:
            u = torch.cat((u, -u), dim=-2)
        i, j = torch.triu_indices(u.shape[-2], u.shape[-2], offset=1)
        squared = (u[..., i, :] - u[..., j, :]).square().sum(-1)
        return (-squared.log() if s == 0 else squared ** (-s / 2)).mean(-1)

    return energy


@pytest.fixture
def projected():
    """A model with one layer that is projected to few dimensions, one that is too narrow for it, and an output."""

    def make(wide=24, dtype=torch.float64):
        layers = (torch.nn.Linear(wide, 8), torch.nn.Linear(8, 24), torch.nn.Linear(24, 5))
        return torch.nn.Sequential(*layers).to(dtype)

    return make
