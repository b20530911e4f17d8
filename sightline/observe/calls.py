"""Calls: what one attention call leaves behind, from which any weight can be computed exactly at any later time.

    w_ij = exp(s_ij - lse_i)      with the score s_ij as attention defines it, and 0 where the key is hidden

Queries and keys grow with the rows; the weights, which grow with their square, are computed a tile at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from sightline.attention import Pattern, Request
from sightline.attention.reference import scores_of, visible

HIDDEN = -1e30  # the logarithm of the weight of a hidden key: finite, so that 0 times it is 0


@dataclass(frozen=True, eq=False)
class Call:
    """One call of attention, or several joined; views where it can.

    Shapes: q [T, H, D], k [R, G, D], lse [T, H]; offsets and key_offsets [S + 1]; bias, one for each sequence, [H or 1,
    N, M]. `groups` [H] is the key head of each query head, `tokens` [T] the ids of the rows, where they are needed. In
    a summary, q and k are None and `ends` [S, G, D] are the last keys of the sequences.
    """

    q: Tensor | Any  # Any stands for None, which whoever computes weights never meets
    k: Tensor | Any
    lse: Tensor
    offsets: Tensor
    key_offsets: Tensor
    pattern: Pattern
    scale: float
    groups: Tensor
    softcap: float | None = None
    bias: tuple[Tensor, ...] | Any = None
    tokens: Tensor | Any = None
    ends: Tensor | None = None

    @property
    def last_keys(self) -> Tensor:
        """The last key of each sequence [S, G, D]; any key for a sequence without keys."""
        if self.ends is not None:
            return self.ends
        return self.k[(self.key_offsets[1:] - 1).clamp_min(0).to(self.k.device)]

    def weights(self, sequence: int) -> Tensor:
        """The weights of one sequence, float32 or wider; their sum lacks what a sink takes.

        Shapes: [H, n, m] for n queries and m keys.
        """
        rows, keys = (slice(*o[sequence : sequence + 2].tolist()) for o in (self.offsets, self.key_offsets))
        lse = self.lse[rows]
        q, k = self.q[rows].to(lse.dtype), self.k[keys][:, self.groups].to(lse.dtype)
        bias = None if self.bias is None else self.bias[sequence]
        scores = scores_of(q, k, self.pattern, self.scale, self.softcap, bias)
        weights = (scores - lse.masked_fill(lse == -torch.inf, 0).T[..., None]).exp()
        return weights.masked_fill(scores == -torch.inf, 0)  # also where lse is NaN


def call_of(request: Request, lse: Tensor, heads: list[int] | None = None) -> Call:
    """What a request leaves behind of these query heads; None: all."""
    q, k, bias = request.q, request.k.detach(), request.bias
    chosen = slice(None) if heads is None else heads
    groups = torch.arange(q.shape[1], device=k.device)[chosen] // (q.shape[1] // k.shape[1])
    if bias is not None:
        bias = bias.detach().expand(len(request.offsets) - 1, -1, -1, -1)
        bias = tuple(bias if bias.shape[1] == 1 else bias[:, chosen])
    q, lse, offsets = q.detach()[:, chosen], lse.detach()[:, chosen], (request.offsets, request.key_offsets)
    return Call(q, k, lse, *offsets, request.pattern, request.scale, groups, request.softcap, bias)


@dataclass(frozen=True, eq=False)
class Piece:
    """`count` equal sequences of a call and some of its heads, as items [count x heads] of one product.

    The first has its n queries from row `query` on and its m keys from row `key` on.
    """

    call: Call
    sequence: int
    count: int
    query: int
    key: int
    n: int
    m: int
    heads: slice

    @property
    def behind(self) -> int:
        """Query i stands at key i + behind."""
        return self.m - self.n

    @property
    def items(self) -> int:
        return self.count * (self.heads.stop - self.heads.start)

    def rows(self, t: Tensor, start: int, stop: int) -> Tensor:
        """A view [count, heads, queries, ...] of t [T, H, ...]."""
        rows = t[self.query : self.query + self.count * self.n].unflatten(0, (self.count, self.n))
        return rows[:, start:stop, self.heads].transpose(1, 2)

    def keys(self, t: Tensor, start: int, stop: int) -> Tensor:
        """A view [count, heads, keys, ...] of t [R, H, ...]."""
        return self._by_keys(t)[:, start:stop, self.heads].transpose(1, 2)

    def _by_keys(self, t: Tensor) -> Tensor:
        return t[self.key : self.key + self.count * self.m].unflatten(0, (self.count, self.m))

    def by_sequence(self, t: Tensor) -> Tensor:
        return t.unflatten(0, (self.count, -1))

    def strips(self, rows: int, most: int, scores: int) -> Iterator[tuple[int, int, int, int]]:
        """Queries with the keys that one of them sees, (first, stop, first key, stop).

        They are `rows` at a time, or up to `most` while they have at most so many scores.
        """
        i = 0
        while i < self.n:
            stop = min(i + rows, self.n)
            while stop - i < min(most, self.n - i):
                wider = min(i + 2 * (stop - i), self.n)
                lo, hi = self.visible(i, wider)
                if (wider - i) * (hi - lo) * self.items > scores:
                    break
                stop = wider
            lo, hi = self.visible(i, stop)
            if lo < hi:
                yield i, stop, lo, hi
            i = stop

    def visible(self, i: int, stop: int) -> tuple[int, int]:
        """The range of keys that the queries i to stop see."""
        pattern = self.call.pattern
        lo = 0 if pattern.left is None else max(0, i + self.behind - pattern.left)
        return lo, self.m if pattern.right is None else min(self.m, stop + self.behind + pattern.right)

    @cached_property
    def level(self) -> Tensor:
        """lse [items, n]; so large where nothing is seen that every weight is 0."""
        lse = self.rows(self.call.lse, 0, self.n).flatten(0, 1)
        return lse.masked_fill(lse == -torch.inf, -HIDDEN)

    @cached_property
    def _plain(self) -> bool:
        return self.call.softcap is None and self.call.bias is None

    @cached_property
    def _queries(self) -> Tensor:
        """Scaled queries [items, n, D], with one more column, -lse, if nothing else changes a score before that."""
        q = self.rows(self.call.q, 0, self.n)
        queries = self.level.new_empty(self.items, self.n, q.shape[3] + self._plain)
        self.by_sequence(queries)[..., : q.shape[3]].copy_(q).mul_(self.call.scale)
        if self._plain:
            queries[..., -1] = -self.level
        return queries

    @cached_property
    def _keys(self) -> Tensor:
        """Keys [items, D, m], with one more row of 1 likewise; transposed, as the product is fastest."""
        k = self._by_keys(self.call.k)
        width, groups = k.shape[3], self.call.groups[self.heads].tolist()
        keys = self.level.new_ones(self.items, width + self._plain, self.m)
        by_head = self.by_sequence(keys)[..., :width, :]
        for head, group in enumerate(groups):
            by_head[:, head].copy_(k[:, :, group].mT)
        return keys

    def logs(self, i: int, stop: int, a: int, b: int, room: Tensor | None = None) -> Tensor:
        """Logarithms [items, queries, keys] of the weights of queries i to stop on keys a to b; HIDDEN where hidden.

        They are written to `room`, if given, since fresh memory costs more than the product.
        """
        shape = self.items, stop - i, b - a
        out = None if room is None else room[: shape[0] * shape[1] * shape[2]].view(shape)
        logs = torch.bmm(self._queries[:, i:stop], self._keys[..., a:b], out=out)
        if not self._plain:
            hidden = None
            if self.call.softcap is not None:
                logs.div_(self.call.softcap).tanh_().mul_(self.call.softcap)
            if self.call.bias is not None:
                bias = self.call.bias[self.sequence : self.sequence + self.count]
                bias = torch.stack([one[..., i:stop, a:b] for one in bias])
                bias = bias if bias.shape[1] == 1 else bias[:, self.heads]
                self.by_sequence(logs).add_(bias)
                hidden = bias == -torch.inf
            logs.sub_(self.level[:, i:stop, None]).clamp_min_(HIDDEN)
            if hidden is not None:  # the product may be NaN there
                self.by_sequence(logs).masked_fill_(hidden, HIDDEN)
        self._hide(logs, i, stop, a, b)
        return logs

    def _hide(self, logs: Tensor, i: int, stop: int, a: int, b: int) -> None:
        """Writes HIDDEN where the pattern hides; touches only the two edges of the pattern."""
        pattern, place = self.call.pattern, i + self.behind
        edges = []
        if pattern.left is not None:
            edges.append((a, min(b, stop - 1 + self.behind - pattern.left)))
        if pattern.right is not None:
            edges.append((max(a, place + pattern.right + 1), b))
        for lo, hi in edges:
            if lo < hi:
                hidden = ~visible(stop - i, hi - lo, place - lo, pattern, logs.device)
                logs[..., lo - a : hi - a].masked_fill_(hidden, HIDDEN)

    def on(self, chosen: Tensor, weights: Tensor, a: int, b: int) -> Tensor:
        """The weight [items, queries] on the keys a to b that are chosen, bool [R]."""
        chosen = self._by_keys(chosen)[:, a:b]
        if self.count == 1:
            return weights[..., chosen[0].nonzero().flatten()].sum(-1)
        return (self.by_sequence(weights) * chosen[:, None, None]).sum(-1).flatten(0, 1)
