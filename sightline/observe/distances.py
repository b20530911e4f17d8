"""How far a query looks: distances, key minus query, in bins that double to either side; statistics of rows at hand.

    ...  -8..-5  -4..-3  -2  -1  0  1  2  3..4  5..8  ...      bin BINS holds distance 0

`statistics.py` streams over a map that is never held; here are rows of weights that exist: those of a short text, of
queries that are sampled, or shares of influence. `kernels/statistics.c` and `kernels/triton_statistics.py` count with
the same bins.
"""

from __future__ import annotations

import torch
from torch import Tensor

BINS = 24  # to each side; the last holds every distance beyond 2 ** 22
BOUNDS = [(0, 0), (1, 1), *((2**b // 2 + 1, 2**b) for b in range(1, BINS))]  # lowest and highest, to one side


def bin_of(distance: Tensor) -> Tensor:
    """The number of each distance's bin, from 0 at the far left to 2 BINS at the far right.

    >>> bin_of(torch.tensor([-3, -1, 0, 2, 5])) - BINS
    tensor([-3, -1,  0,  2,  4])
    """
    edges = torch.tensor([high for _, high in BOUNDS], device=distance.device)
    return BINS + distance.sign() * torch.bucketize(distance.abs(), edges).clamp_max(BINS)


def bin_names() -> list[str]:
    """The names of all bins, from far left to far right.

    >>> bin_names()[BINS - 4 : BINS + 5]
    ['-8..-5', '-4..-3', '-2', '-1', '0', '1', '2', '3..4', '5..8']
    """
    right = [str(high) if low == high else f"{low}..{high}" for low, high in BOUNDS[1:]]
    left = [str(-high) if low == high else f"{-high}..{-low}" for low, high in BOUNDS[1:]]
    return [*reversed(left), "0", *right]


def bins_within(n: int) -> list[list[int]]:
    """[lowest, highest] distance of each bin that a text of n tokens has.

    >>> bins_within(4)
    [[-3, -3], [-2, -2], [-1, -1], [0, 0], [1, 1], [2, 2], [3, 3]]
    """
    last = BOUNDS[-1]
    right = [[low, n - 1 if (low, high) == last else min(high, n - 1)] for low, high in BOUNDS[1:] if low < n]
    return [*([-high, -low] for low, high in reversed(right)), [0, 0], *right]


def by_distance(weights: Tensor, rows: Tensor) -> Tensor:
    """Sums of weights at each distance. Shapes: weights [H, R, n] of the queries `rows` [R] -> float64 [H, 2n - 1]."""
    n = weights.shape[-1]
    distance = torch.arange(n) - rows[:, None] + n - 1
    sums = torch.zeros(len(weights), 2 * n - 1, dtype=torch.float64)
    return sums.index_add_(1, distance.flatten(), weights.flatten(1).double())


def in_bins(sums: Tensor) -> Tensor:
    """Sums at each distance, summed in bins. Shapes: [..., 2n - 1] -> [..., bins]."""
    n = (sums.shape[-1] + 1) // 2
    return torch.stack([sums[..., low + n - 1 : high + n].sum(-1) for low, high in bins_within(n)], -1)


def by_bin(weights: Tensor, rows: Tensor) -> Tensor:
    """As `in_bins(by_distance(...))`, without a place for each distance. Shapes: [R, n] and [R] -> float64 [bins]."""
    n = weights.shape[-1]
    low, high = torch.tensor(bins_within(n)).T
    before = torch.nn.functional.pad(weights.double().cumsum(1), (1, 0))
    first, past = ((rows[:, None] + edge).clamp(0, n) for edge in (low, high + 1))
    return (before.gather(1, past) - before.gather(1, first)).sum(0)


def row_statistics(weights: Tensor, rows: Tensor, special: Tensor) -> dict[str, Tensor]:
    """The statistics of `statistics.py` by their definition, and the weight on the neighbours of a query.

    Shapes: weights [H, R, n] of the queries `rows` [R]; special bool [n] -> [H, R] each.
    """
    n = weights.shape[-1]
    distance = (torch.arange(n) - rows[:, None]).abs_()

    def beside(step: int) -> Tensor:
        keys = rows + step
        return weights[:, torch.arange(len(rows)), keys.clamp(0, n - 1)] * ((keys >= 0) & (keys < n))

    return {
        "entropy": torch.special.entr(weights).sum(-1),
        "distance": (weights * distance).sum(-1),
        "first": weights[..., 0],
        "previous": beside(-1),
        "next": beside(1),
        "special": weights[..., special].sum(-1),
    }
