"""The statistics of each head, per query and per key, computed tile by tile: exact, and never n x n numbers at once.

With w_ij = exp(s_ij - lse_i) as in `calls.py`, and p_i the place of query i among the keys (the last query is at the
last key), over the keys j that are visible to i:

    entropy_i   = -sum_j w_ij (s_ij - lse_i)           nats; of the weights without the share of a sink
    distance_i  = sum_j w_ij |p_i - j|                 tokens
    received_j  = sum_i w_ij                           sums to the number of queries that see a key, without sinks
    first_i     = w_i0,  special_i = sum of w_ij over special j
    histogram_d = sum of w_ij over all i, j with j - p_i = d, in bins
    links_i     = the k largest w_ij

This file is the definition, and computes them everywhere. Faster versions of the same: `kernels/statistics.c` (float32
on a CPU with a compiler) and `kernels/triton_statistics.py` (on a GPU).

A tile of scores stays in the processor's cache while all numbers are read off it. Two tricks make that cheap. With
strides that step one place more per row, the columns of a tile are its diagonals, so that sums by distance are column
sums. And the k largest scores of a row lie in the k blocks of keys with the largest maxima, so that few need sorting.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from importlib.util import find_spec

import torch
from torch import Tensor

from sightline.kernels import statistics as in_c
from sightline.observe.calls import HIDDEN, Call, Piece
from sightline.observe.distances import BINS, bin_of
from sightline.sequences import equal_runs

TILE = 2**19  # scores at once
ROWS, KEYS = 64, 8192  # the largest tile of one head
MOST_ROWS = 256  # rows of a tile where fewer keys are visible
COPIED = 2**24  # numbers of keys copied at once
BLOCK = 8  # keys that share one maximum, and maxima that share another


@dataclass(frozen=True, eq=False)
class Statistics:
    """Shapes: the first four [T, H]; received [R, H]; histogram [H, 2 BINS + 1]; keys, weights (of links) [T, H, k]."""

    entropy: Tensor
    distance: Tensor
    first: Tensor
    special: Tensor
    received: Tensor
    histogram: Tensor
    keys: Tensor
    weights: Tensor


def statistics(call: Call, links: int, special: Tensor | None = None) -> Statistics:
    """All statistics of one call, float32, with `links` links a query. Shapes: special bool [R]; None: no key is."""
    if in_c.fits(call):
        return Statistics(**in_c.statistics(call, links, special, BINS))
    if call.q.is_cuda and find_spec("triton"):
        from sightline.kernels import triton_statistics as in_triton

        if in_triton.fits(call):
            return Statistics(**in_triton.statistics(call, links, special, BINS))
    with torch.no_grad(), torch.autocast(call.q.device.type, enabled=False):
        sums = _Sums(call, links, special)
        for piece in pieces(call, ROWS, KEYS):
            sums.add(piece)
        return sums.statistics()


def pieces(call: Call, rows: int, keys: int) -> Iterator[Piece]:
    """The parts of a call for one product: equal short sequences and several heads, or one head of a long sequence."""
    heads = call.q.shape[1]
    reach = [side for side in (call.pattern.left, call.pattern.right) if side is not None]
    for run in equal_runs(call.offsets.numpy(), call.key_offsets.numpy()):
        sequence, query, key, count, n, m = run
        if n == 0 or m == 0:
            continue
        high, wide = min(n, rows), min(m, keys)
        if len(reach) == 2:
            wide = min(wide, high + sum(reach))
        together = max(1, min(TILE // (high * wide), COPIED // (m * call.q.shape[2])))
        by_head, by_sequence = min(together, heads), max(1, together // heads)
        for s in range(0, count, by_sequence):
            some = min(by_sequence, count - s)
            for h in range(0, heads, by_head):
                chosen = slice(h, min(h + by_head, heads))
                yield Piece(call, sequence + s, some, query + s * n, key + s * m, n, m, chosen)


class _Sums:
    """Sums over the pieces of a call; each distance has a sum of its own until the end, when they are put into bins."""

    def __init__(self, call: Call, links: int, special: Tensor | None):
        (rows, heads, _), device, wide = call.q.shape, call.q.device, call.lse.dtype
        self.links, self.special_keys = links, special
        self.entropy, self.distance, self.first, self.special = (
            torch.zeros(rows, heads, device=device) for _ in range(4)
        )
        self.received = torch.zeros(len(call.k), heads, device=device)
        self.keys = torch.full((rows, heads, links), -1, dtype=torch.int32, device=device)
        self.weights = torch.zeros(rows, heads, links, device=device)
        longest = [int(o.diff().max()) if len(o) > 1 else 0 for o in (call.offsets, call.key_offsets)]
        self.zero = longest[1]  # the index of distance 0
        away = torch.arange(sum(longest), device=device) - self.zero
        self.by_distance = torch.zeros(heads, len(away), dtype=torch.float64, device=device)
        self.away = away.to(wide)
        self.far: dict[int, tuple[Tensor, Tensor]] = {}
        self.rows = torch.arange(MOST_ROWS, device=device)
        self.shape: tuple[int, int, int] | None = None  # of the weights that `views` shows
        self.memory = [torch.empty(0, dtype=wide, device=device)] * 2  # for logs and for weights; grows

    def add(self, piece: Piece) -> None:
        """Adds the strips of a piece; sums over many tiles are float64."""
        level, items, n, m = piece.level, piece.items, piece.n, piece.m
        sums = level.new_zeros(4, items, n)
        received = level.new_zeros(items, m, dtype=torch.float64)
        by_distance = received.new_zeros(items, self.by_distance.shape[1])
        links = level.new_full((items, n, self.links), HIDDEN)
        keys = torch.zeros(links.shape, dtype=torch.int64, device=level.device)
        for i, stop, lo, hi in piece.strips(ROWS, MOST_ROWS, TILE):
            best = None
            for a in range(lo, hi, KEYS):
                b = min(a + KEYS, hi)
                best = self._tile(piece, i, stop, a, b, sums[:, :, i:stop], received[:, a:b], by_distance, best)
            if best is not None:
                kept = best[0].shape[2]
                links[:, i:stop, :kept], keys[:, i:stop, :kept] = best
        keys = keys.masked_fill_(links < HIDDEN / 2, -1)
        rows = zip((self.entropy, self.distance, self.first, self.special), sums, strict=True)
        for into, t in (*rows, (self.keys, keys), (self.weights, links.exp_())):
            piece.rows(into, 0, n).copy_(piece.by_sequence(t))
        piece.keys(self.received, 0, m).copy_(piece.by_sequence(received))
        self.by_distance[piece.heads] += piece.by_sequence(by_distance).sum(0)

    def _tile(self, piece: Piece, i, stop, a, b, sums: Tensor, received: Tensor, by_distance: Tensor, best):
        """Adds queries i to stop against keys a to b; returns the best (log weights, keys) so far."""
        items, rows, wide, place = piece.items, stop - i, b - a, i + piece.behind
        entropy, distance, first, special = sums
        flat, weights = self._padded_memory(items, rows, wide)
        logs = piece.logs(i, stop, a, b, self.memory[0])
        best = _best(logs, a, self.links, best, self.rows[:BLOCK])
        torch.exp(logs, out=weights)
        entropy -= logs.mul_(weights).sum(-1)
        at = self.zero + a - place  # the distance of key a from query i, and so on to the right
        away, side = self._far(rows)
        spread, row = weights.flatten(0, 1), self.rows[:rows]
        distance += (spread @ away[at : at + wide]).view(items, rows)
        distance += (spread @ side[at : at + wide]).view(items, rows) * row
        lo, hi = max(a, place - rows // 2), min(b, place + rows + rows // 2)
        if lo < hi:  # near the diagonal
            near = self.away[at + lo - a : at + hi - a] - row[:, None]
            distance += (weights[..., lo - a : hi - a] * near.abs_()).sum(-1)
        received += weights.sum(1)
        pitch = wide + rows - 1
        diagonals = flat.as_strided((items, rows, pitch), (rows * pitch, pitch + 1, 1)).sum(1)
        by_distance[:, at - rows + 1 : at + wide] += diagonals
        if a == 0:
            first.copy_(weights[..., 0])
        if self.special_keys is not None:
            special += piece.on(self.special_keys, weights, a, b)
        return best

    def _padded_memory(self, items: int, rows: int, wide: int) -> tuple[Tensor, Tensor]:
        """Memory for the weights: before each row, and after the last, one zero fewer than there are rows."""
        if self.shape == (items, rows, wide):
            return self.views  # whose zeros are still zeros
        front = rows - 1
        size = items * rows * (wide + front) + front
        if len(self.memory[0]) < size:
            self.memory = [torch.empty(size, dtype=t.dtype, device=t.device) for t in self.memory]
        flat = self.memory[1][:size]
        whole = flat[: size - front].view(items, rows, wide + front)
        whole[..., :front] = 0
        flat[size - front :] = 0
        self.shape, self.views = (items, rows, wide), (flat, whole[..., front:])
        return self.views

    def _far(self, rows: int) -> tuple[Tensor, Tensor]:
        """Of a key at distance x from a strip's first query: |x|, and the change per further query, 1 or -1.

        Both are zero near the diagonal, where the two would cancel.
        """
        if rows not in self.far:
            far = (self.away < -(rows // 2)) | (self.away >= rows + rows // 2)
            self.far[rows] = self.away.abs() * far, -self.away.sign() * far
        return self.far[rows]

    def statistics(self) -> Statistics:
        place = bin_of(self.away.long())
        histogram = self.by_distance.new_zeros(len(self.by_distance), 2 * BINS + 1)
        histogram.index_add_(1, place, self.by_distance)
        self.histogram = histogram.float()
        return Statistics(*(getattr(self, field.name) for field in fields(Statistics)))


def _best(logs: Tensor, first: int, links: int, before: tuple[Tensor, Tensor] | None, steps: Tensor):
    """The largest of each row, strongest first (of equal ones, any), with their keys.

    `first` is the place of the first key; `before` is the result so far; `steps` counts from 0 to BLOCK.
    """
    wide = logs.shape[2]
    if links == 0:
        return logs[..., :0], logs[..., :0].long()
    few = wide // BLOCK**2
    if links == 1:
        values, keys = logs.max(-1, keepdim=True)
    elif few < 2 * links:
        values, keys = logs.topk(min(links, wide), -1)
    else:  # twice: block b is the places b, b + blocks, b + 2 blocks, ..., so that a maximum goes down the columns
        many = few * BLOCK
        maxima = logs[..., : many * BLOCK].unflatten(2, (BLOCK, many)).amax(2)
        most = maxima.unflatten(2, (BLOCK, few)).amax(2).topk(links, -1, sorted=False).indices
        blocks = _members(most, few, steps)
        most = blocks.gather(2, maxima.gather(2, blocks).topk(links, -1, sorted=False).indices)
        members = _members(most, many, steps)
        if many * BLOCK < wide:
            rest = torch.arange(many * BLOCK, wide, device=logs.device).expand(*logs.shape[:2], -1)
            members = torch.cat([members, rest], -1)
        values, keys = logs.gather(2, members).topk(links, -1)
        keys = members.gather(2, keys)
    if first:
        keys = keys + first
    if before is not None:
        values, keys = torch.cat([before[0], values], -1), torch.cat([before[1], keys], -1)
        values, place = values.topk(min(links, values.shape[2]), -1)
        keys = keys.gather(2, place)
    return values, keys


def _members(chosen: Tensor, blocks: int, steps: Tensor) -> Tensor:
    return (chosen[..., None] + steps * blocks).flatten(2)
