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
            raise ValueError(f"read-out: expected pool None or one of {', '.join(POOLS)}, got {pool!r}; choose one")
        self.pool = pool
        self.scores = nn.Linear(width, outputs)
        if pool == "attention":
            self.query = nn.Parameter(torch.zeros(width))  # zeros: starts as the mean

    def forward(self, x: Sequences) -> Tensor:
        if self.pool is None:
            return self.scores(x.values)
        pool = {"mean": _mean, "max": _max, "last": _last, "attention": self._attention}[self.pool]
        return self.scores(pool(x).to(x.values.dtype))

    def _attention(self, x: Sequences) -> Tensor:
        strength = x.with_values((x.values @ self.query)[:, None] * x.values.shape[1] ** -0.5)
        strongest = _max(strength.with_values(strength.values.detach()))
        weight = (strength.values - strongest.index_select(0, x.sequence_ids)).exp()
        total = _sum(x.with_values(weight)).index_select(0, x.sequence_ids)
        return _sum(x.with_values(x.values * (weight / total)))


def _sum(x: Sequences) -> Tensor:
    """The sum of each sequence's rows [S, E], in float32 or wider."""
    wide = torch.promote_types(x.values.dtype, torch.float32)
    zeros = x.values.new_zeros(len(x), x.values.shape[1], dtype=wide)
    return zeros.index_add(0, x.sequence_ids, x.values.to(wide))


def _mean(x: Sequences) -> Tensor:
    total = _sum(x)
    return total / x.lengths.clamp(min=1)[:, None].to(total)


def _max(x: Sequences) -> Tensor:
    some = x.lengths > 0
    lengths = x.lengths[some].to(x.values.device)
    maxima = torch.segment_reduce(x.values, "max", lengths=lengths, unsafe=True)  # the lengths are checked
    return _among_zeros(maxima, some)


def _last(x: Sequences) -> Tensor:
    some = x.lengths > 0
    last = (x.offsets[1:] - 1)[some].to(x.values.device)
    return _among_zeros(x.values.index_select(0, last), some)


def _among_zeros(rows: Tensor, some: Tensor) -> Tensor:
    """Rows for those sequences that have some, zeros for the others [S, E]."""
    if len(rows) == len(some):
        return rows
    zeros = rows.new_zeros(len(some), rows.shape[1])
    return zeros.index_copy(0, some.nonzero().flatten().to(rows.device), rows)
