"""Batches from the whole space against a dense oracle: a few here, as many as one likes by `make fuzz`."""

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.attention.fuzz import check, draw


@given(st.data())
@settings(max_examples=120, deadline=None, derandomize=True)
def test_a_batch_is_what_the_oracle_says(data):
    check(draw(lambda options: data.draw(st.sampled_from(options))))


@pytest.fixture(autouse=True, scope="module")
def surroundings():
    """Fresh memory is NaN, and the switch of the C backend is as it was."""
    import torch

    patch = pytest.MonkeyPatch()
    patch.setenv("SIGHTLINE_NATIVE", "1")
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)
    patch.undo()


def test_it_says_what_it_tried():
    command = [sys.executable, "-m", "tests.attention.fuzz", "--batches", "3", "--first", "7"]
    run = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2], timeout=120)
    assert run.returncode == 0 and '"batches": 3, "failures": 0, "first": 7' in run.stdout, run.stderr
