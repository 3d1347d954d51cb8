"""What holds for every test of an objective."""

import pytest
import torch

from ssl_zoo.noise import free_noise


@pytest.fixture(autouse=True)
def _seeded():
    """Weights are drawn from seed 0, and noise that a test has seeded is free again after it."""
    torch.manual_seed(0)
    yield
    free_noise()
