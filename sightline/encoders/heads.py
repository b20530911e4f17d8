"""Read-outs: from the encodings of rows to scores, for each row or, pooled, for each sequence.

    mean, max, last      over a sequence's own rows
    attention            w = softmax over the sequence's rows of q . x / sqrt(E),  then sum of w x; q is learned

A sequence of no rows is pooled to zeros.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sightline.sequences import Sequences

POOLS = ("mean", "max", "last", "attention")


class Readout(nn.Module):
    """Scores [T, outputs] of every row, or with `pool` [S, outputs] of every sequence: pooling, then one linear layer.

    Raises: ValueError for another pool.
    Source: the attention pooling of Yang et al. 2016, equation 9, without its inner layer.

    >>> readout = Readout(16, outputs=3, pool="mean")
    >>> readout(Sequences(torch.randn(5, 16), [0, 2, 5])).shape
    torch.Size([2, 3])
    """

    def __init__(self, width: int, outputs: int, pool: str | None = None):
        super().__init__()
        if pool is not None and pool not in POOLS:
            raise ValueError(
                f"read-out: expected pool None or one of {', '.join(POOLS)}, got {pool!r}; choose one"
            )
        self.pool = pool
        self.scores = nn.Linear(width, outputs)
        if pool == "attention":
            self.query = nn.Parameter(torch.zeros(width))  # starts as the mean

    def forward(self, x: Sequences) -> Tensor:
        match self.pool:
            case None:
                return self.scores(x.values)
            case "last":
                pooled = _last(x)
            case "attention":
                pooled = self._attention(x)
            case _:
                pooled = _reduce(x, self.pool)
        return self.scores(pooled)

    def _attention(self, x: Sequences) -> Tensor:
        ids = x.sequence_ids
        strength = (x.values @ self.query).float() * x.values.shape[1] ** -0.5
        strongest = _reduce(x.with_values(strength.detach()[:, None]), "max")[:, 0]
        weight = (strength - strongest.index_select(0, ids)).exp()
        total = _reduce(x.with_values(weight[:, None]), "sum")[:, 0]
        weight = weight / total.index_select(0, ids)
        return _reduce(x.with_values(x.values * weight[:, None].to(x.values.dtype)), "sum")


def _last(x: Sequences) -> Tensor:
    """The last row of each sequence [S, E]."""
    has_rows = x.lengths > 0
    last = (x.offsets[1:] - 1)[has_rows].to(x.values.device)
    where = has_rows.nonzero().flatten().to(x.values.device)
    return x.values.new_zeros(len(x), x.values.shape[1]).index_copy(0, where, x.values.index_select(0, last))


def _reduce(x: Sequences, how: str) -> Tensor:
    """The sum, mean or maximum over the rows of each sequence [S, E]; zeros where there are none."""
    index = x.sequence_ids[:, None].expand_as(x.values)
    zeros = x.values.new_zeros(len(x), x.values.shape[1])
    reduce = {"sum": "sum", "mean": "mean", "max": "amax"}[how]
    return zeros.scatter_reduce(0, index, x.values, reduce, include_self=False)
