"""Every example in a docstring runs and gives what it says."""

import doctest
import importlib
import pkgutil
import random

import pytest
import torch

import sightline

MODULES = ["sightline", *(m.name for m in pkgutil.walk_packages(sightline.__path__, "sightline."))]


@pytest.mark.parametrize("name", MODULES)
def test_examples_of(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # an example may write where it stands
    torch.manual_seed(0)
    random.seed(0)
    if name == "sightline.kernels.triton_statistics":
        pytest.importorskip("triton")  # which not every system has
    module = importlib.import_module(name)
    results = doctest.testmod(module, optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    assert results.failed == 0


@pytest.mark.parametrize("name", sightline.__all__)
def test_what_is_public_has_an_example_or_says_what_it_is(name):
    public = getattr(sightline, name)
    assert public.__doc__
    if isinstance(public, type(lambda: None)):
        assert ">>>" in public.__doc__, f"{name}: give it an example that runs"
