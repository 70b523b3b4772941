"""Where the tests of kernels run: on the GPU if there is one, else in Triton's interpreter."""

import os

import pytest
import torch

if not torch.cuda.is_available():
    # Triton reads it when it is imported, which nothing does before this: torch and this package import it when needed.
    os.environ.setdefault("TRITON_INTERPRET", "1")


@pytest.fixture(scope="session")
def device():
    """For tensors that kernels are tested with."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
