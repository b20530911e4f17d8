"""Fixtures of the tests of vector files."""

import pytest
from transformers.utils import logging

from tests.huggingface.folders import save_model


@pytest.fixture(scope="module")
def quiet():
    """Without transformers' progress bars, as the commands are in a process of their own."""
    logging.disable_progress_bar()
    yield
    logging.enable_progress_bar()


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return save_model(tmp_path_factory.mktemp("models") / "plain")
