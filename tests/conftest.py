"""What several tests share: fresh memory that is NaN, so that a row nobody wrote cannot look right."""

import os

import pytest
import torch

os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # a GPU refuses to be deterministic without it


@pytest.fixture
def poison():
    """`torch.empty` and its kin give NaN."""
    torch.use_deterministic_algorithms(True)  # fills fresh memory, see torch.utils.deterministic
    assert torch.empty(3).isnan().all() and torch.ones(3).new_empty(3).isnan().all()
    yield
    torch.use_deterministic_algorithms(False)
