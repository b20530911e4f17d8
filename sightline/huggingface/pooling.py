"""Pooling: the rows of each sequence made into one vector, from a pack, so that no padding row is ever summed.

The modes are those of sentence-transformers, under its names.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sightline.sequences import Sequences

MODES = ("cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken")


def pool(hidden: Sequences, modes: Sequence[str], skip: int = 0) -> Tensor:
    """One vector for each sequence, of its own rows only; of several modes concatenated. Sums are at least float32.

    `cls` is the first row, `lasttoken` the last, `max` the largest of each column, `mean` the sum over n rows by n,
    `mean_sqrt_len_tokens` by sqrt(n), and `weightedmean` weighs row i by i, from 1. The first `skip` rows (a prompt)
    are left out. Where no row is left, the vector is zeros.

    Shapes: hidden values [T, E]; returns [S, E * len(modes)].

    >>> pool(Sequences(torch.tensor([[1.0], [5.0], [3.0]]), [0, 2, 2, 3]), ["mean", "max"])
    tensor([[3., 5.],
            [0., 0.],
            [3., 3.]])
    """
    values, width = hidden.values, hidden.values.shape[1]
    exact = torch.promote_types(values.dtype, torch.float32)
    vectors = values.new_zeros(len(hidden), width * len(modes), dtype=exact)
    for first, count, length in hidden.runs:
        if length > skip:
            start = int(hidden.offsets[first])
            rows = values[start : start + count * length].view(count, length, width)[:, skip:].to(exact)
            vectors[first : first + count] = torch.cat([_pooled(rows, mode, skip) for mode in modes], -1)
    return vectors


def _pooled(rows: Tensor, mode: str, skip: int) -> Tensor:
    """[S, n, E] -> [S, E], for sequences of one length."""
    n = rows.shape[1]
    if mode == "cls":
        return rows[:, 0]
    if mode == "lasttoken":
        return rows[:, -1]
    if mode == "max":
        return rows.amax(1)
    if mode == "weightedmean":
        weights = torch.arange(skip + 1, skip + n + 1, device=rows.device, dtype=rows.dtype)
        return (rows * weights[:, None]).sum(1) / weights.sum()
    return rows.sum(1) / (n if mode == "mean" else n**0.5)
