"""Strips: queries of equal sequences, and the tiles of keys that they see, for backends that work tile by tile."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from sightline.attention.pattern import Pattern
from sightline.attention.request import Request
from sightline.sequences import Layout, equal_runs

BLOCK = 256  # queries of one sequence at a time, and the fewest keys in a tile that is not the last
TILE = 2**21  # scores in memory at once, over all heads and sequences of a strip


@dataclass(frozen=True)
class Strip:
    """Queries `start` to `stop` of `count` sequences from `sequence` on, which have n queries and m keys each.

    `tiles` are the ranges of keys (from, to) in each sequence that these queries see; query i stands at key i + m - n.
    """

    sequence: int
    count: int
    n: int
    m: int
    query: int  # the first sequence's first row in q
    key: int  # and in k
    start: int
    stop: int
    tiles: tuple[tuple[int, int], ...]

    def queries(self, t: Tensor) -> Tensor:
        """A view [count, H, queries, ...] of t [T, H, ...]."""
        rows = t[self.query : self.query + self.count * self.n].unflatten(0, (self.count, self.n))
        return rows[:, self.start : self.stop].transpose(1, 2)

    def keys(self, t: Tensor, tile: tuple[int, int]) -> Tensor:
        """A view [count, G, keys, D] of t [R, G, D]."""
        rows = t[self.key : self.key + self.count * self.m].unflatten(0, (self.count, self.m))
        return rows[:, slice(*tile)].transpose(1, 2)

    def pairs(self, bias: Tensor, tile: tuple[int, int]) -> Tensor:
        """A view [count or 1, H or 1, queries, keys] of bias [S or 1, H or 1, N, M]."""
        own = bias if len(bias) == 1 else bias[self.sequence : self.sequence + self.count]
        return own[:, :, self.start : self.stop, slice(*tile)]

    def each(self, chosen: Tensor) -> Iterator[Strip]:
        """The same queries of one sequence at a time, of those that are chosen, bool [S]."""
        for i in chosen[self.sequence : self.sequence + self.count].nonzero().flatten().tolist():
            first = {"sequence": self.sequence + i, "query": self.query + i * self.n, "key": self.key + i * self.m}
            yield replace(self, count=1, **first)


def plan(request: Request) -> tuple[Strip, ...]:
    """The strips to compute: every query that sees a key is in one, with every key that it sees."""
    return request.plan(_plan, request.pattern, request.q.shape[1])


def _plan(layout: Layout, key_layout: Layout | None, pattern: Pattern, heads: int) -> tuple[Strip, ...]:
    strips = []
    for sequence, query, key, count, n, m in equal_runs(
        layout.starts, (layout if key_layout is None else key_layout).starts
    ):
        for start in range(0, n, BLOCK):
            stop = min(start + BLOCK, n)
            lo = 0 if pattern.left is None else max(0, start + m - n - pattern.left)
            hi = m if pattern.right is None else min(m, stop + m - n + pattern.right)
            if hi <= lo:
                continue
            wide = max(BLOCK, TILE // (heads * (stop - start)))
            tiles = tuple((j, min(j + wide, hi)) for j in range(lo, hi, wide))
            together = max(1, TILE // (heads * (stop - start) * min(wide, hi - lo)))
            for s in range(0, count, together):
                rows = (query + s * n, key + s * m, start, stop)
                strips.append(Strip(sequence + s, min(together, count - s), n, m, *rows, tiles))
    return tuple(strips)


def dropout_mask(weights: Tensor, dropout: float, dice: torch.Generator) -> Tensor:
    """0 for a weight that is dropped, else 1 / (1 - dropout)."""
    return torch.empty_like(weights).bernoulli_(1 - dropout, generator=dice).div_(1 - dropout)
