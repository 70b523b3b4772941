"""What the tests of the kernels use."""

import torch


def random_points(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def grid_points(batch, size, dimension=3, seed=0):
    """Quarters between -1 and 1: products and sums of them are exact, and there are many ties and duplicates."""
    g = torch.Generator().manual_seed(seed)
    return torch.randint(-4, 5, (batch, size, dimension), generator=g) / 4
