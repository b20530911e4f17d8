"""What several tests share: fresh memory that is NaN, so that a row nobody wrote cannot look right; a GPU that is not here; what was
compiled, forgotten."""

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


@pytest.fixture
def forgotten():
    """What torch.compile made in a test is not there in the next."""
    yield
    torch._dynamo.reset()


@pytest.fixture
def no_gpu(monkeypatch):
    """As where PyTorch is built for a GPU and the machine has none."""
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    monkeypatch.setattr(
        torch.accelerator,
        "current_accelerator",
        lambda check_available=False: None if check_available else torch.device("cuda"),
    )
