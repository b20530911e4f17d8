"""Small untrained encoders from a fixed seed, for the claims that need no training."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from sightline.encoders import Encoder, build


@contextmanager
def fixed_seed() -> Iterator[None]:
    """Random numbers on the CPU start from seed 0 inside, and continue as before afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def small_encoder(kind: str, length: int, *, layers: int = 1, **settings) -> Encoder:
    """An encoder of a kind; a fully connected one gets the largest length it needs, `length`."""
    largest = {"largest": length} if kind == "fully-connected" else {}
    return build(kind, layers=layers, **settings, **largest)
