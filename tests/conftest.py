"""Fixtures of several folders: memory filled with NaN, a browser, a GPU that is absent, an empty compile cache."""

import os

import hypothesis
import pytest
import torch

from tests.lens.browser import BROWSER, QUIET

hypothesis.settings.register_profile("no deadline", deadline=None)  # other work may share the machine
hypothesis.settings.load_profile("no deadline")
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


@pytest.fixture(scope="module")
def browser():
    """A headless browser, opened once for each file of tests."""
    if BROWSER is None:
        pytest.skip("needs chromium or chrome, which this machine lacks")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        running = play.chromium.launch(executable_path=BROWSER, args=QUIET)
        yield running
        running.close()
