"""How far away lies what is looked at, or what moves an output: shares of a map by distance, and within how many pieces they lie.

Weights and influence go through the same lines here, so that they can stand side by side.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sightline.observe import Profile

BINS = [(-(2**i), -(2 ** (i - 1)) - 1) for i in range(24, 1, -1)]
BINS += [(place, place) for place in range(-2, 3)]
BINS += [(2 ** (i - 1) + 1, 2**i) for i in range(2, 25)]
WITHIN = (0.5, 0.9, 0.99)


def bins(n: int) -> list[list[int]]:
    """[lowest, highest] distance of each bin that a text of n pieces has.

    >>> bins(4)
    [[-3, -3], [-2, -2], [-1, -1], [0, 0], [1, 1], [2, 2], [3, 3]]
    """
    return [[max(low, 1 - n), min(high, n - 1)] for low, high in BINS if low < n and high > -n]


def by_distance(map: Tensor, rows: Tensor, special: Tensor) -> Tensor:
    """The share at each distance, key minus query, as a mean over the rows given; keys that are special are left out, not spread.

    Shapes: map [H, R, n], rows [R] (which queries they are) and special bool [n] -> float64 [H, 2n - 1].
    """
    n = map.shape[-1]
    place = torch.arange(n) - rows[:, None] + n - 1
    kept = map.masked_fill(special, 0).flatten(1)
    far = torch.zeros(len(map), 2 * n - 1, dtype=torch.float64)
    return far.index_add(1, place.flatten(), kept.double()) / max(len(rows), 1)


def profile(far: Tensor) -> Tensor:
    """By bins. Shapes: [..., 2n - 1] -> [..., bins]."""
    n = (far.shape[-1] + 1) // 2
    return torch.stack([far[..., low + n - 1 : high + n].sum(-1) for low, high in bins(n)], -1)


def within(far: Tensor) -> list[int | None]:
    """Within how many pieces, to either side, half, 90% and 99% of it lie; None where there is nothing. Shapes: [2n - 1]."""
    n = (len(far) + 1) // 2
    found = Profile(torch.arange(1 - n, n), far, torch.ones(len(far)))
    return [found.within(share) for share in WITHIN]
