"""What a head looks at, in a few numbers for each query and each key: made by streaming over tiles, exact, n x n never held.

With w_ij = exp(s_ij - lse_i), as `calls.py` has it, and p_i the place of query i among the keys (the last query stands at the
last key), over the keys j that are visible to i:

    entropy_i   = -sum_j w_ij (s_ij - lse_i)           nats; the weights there are, without what a sink takes
    distance_i  = sum_j w_ij |p_i - j|                 tokens
    received_j  = sum_i w_ij                           in all, the number of queries that see something, less the sinks' share
    first_i     = w_i0,  special_i = sum of w_ij over special j
    histogram_d = sum of w_ij over all i, j with j - p_i = d, in bins
    links_i     = the k largest w_ij

`kernels/statistics.c` does this where it can (float32, on a CPU, with a compiler), and `gpu.py` on a GPU, with Triton; what follows does it
everywhere.

A tile of scores lies in the processor's own memory while everything is read off it. Two tricks make that cheap. Seen through
strides that step one place more per row, a tile's columns are its diagonals, so that sums by distance are column sums. And the
k largest scores of a row lie in the k blocks of keys with the largest maxima, so that few need sorting.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from importlib.util import find_spec

import torch
from torch import Tensor

from sightline.observe import native
from sightline.observe.calls import HIDDEN, Call, Piece
from sightline.sequences import equal_runs

BINS = 24  # distances up to 2 ** 23 have a bin
TILE = 2**19  # scores at once
ROWS, KEYS = 64, 8192  # the largest tile of one head, ...
MOST_ROWS = 256  # ... and more rows where fewer keys are visible
COPIED = 2**24  # numbers of keys brought together at once
BLOCK = 8  # keys that share one maximum, and maxima that share another


def bins() -> list[str]:
    """The names of the histogram's bins, of distances j - i from far left to far right.

    >>> bins()[BINS - 4 : BINS + 5]
    ['-8..-5', '-4..-3', '-2', '-1', '0', '1', '2', '3..4', '5..8']
    """
    right = ["1", "2", *(f"{2**b + 1}..{2 ** (b + 1)}" for b in range(1, BINS - 1))]
    left = ["-1", "-2", *(f"-{2 ** (b + 1)}..-{2**b + 1}" for b in range(1, BINS - 1))]
    return [*reversed(left), "0", *right]


@dataclass(frozen=True, eq=False)
class Statistics:
    """Shapes: entropy, distance, first, special [T, H]; received [R, H]; histogram [H, 2 BINS + 1]; keys and weights [T, H, k]."""

    entropy: Tensor
    distance: Tensor
    first: Tensor
    special: Tensor
    received: Tensor
    histogram: Tensor
    keys: Tensor
    weights: Tensor


def statistics(call: Call, links: int, special: Tensor | None = None) -> Statistics:
    """All statistics of one call, float32, in one pass over the tiles that its pattern shows.

    `special` is bool [R]; None: no key is special.
    """
    if native.fits(call):
        return Statistics(**native.statistics(call, links, special, BINS))
    if call.q.is_cuda and find_spec("triton"):
        from sightline.observe import gpu  # loads Triton

        if gpu.fits(call):
            return Statistics(**gpu.statistics(call, links, special, BINS))
    with torch.no_grad(), torch.autocast(call.q.device.type, enabled=False):
        sums = _Sums(call, links, special)
        for piece in pieces(call, ROWS, KEYS):
            sums.add(piece)
        return sums.done()


def pieces(call: Call, rows: int, keys: int) -> Iterator[Piece]:
    """What is worked on at once: equal sequences and several heads while they are short, else one head of one sequence."""
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
    """The statistics as they are made, piece by piece; distances are kept one by one until they are put into bins."""

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
        self.zero = longest[1]  # the place of distance 0 in what follows
        away = torch.arange(sum(longest), device=device) - self.zero
        self.by_distance = torch.zeros(heads, len(away), dtype=torch.float64, device=device)
        self.away = away.to(wide)
        self.far: dict[int, tuple[Tensor, Tensor]] = {}
        self.rows = torch.arange(MOST_ROWS, device=device)
        self.shape: tuple[int, int, int] | None = None  # of the weights that `views` shows
        self.rooms = [
            torch.empty(0, dtype=wide, device=device)
        ] * 2  # for logs and for weights, as large as was needed yet

    def add(self, piece: Piece) -> None:
        """The strips of a piece; sums over many tiles run in float64."""
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
            kept = best[0].shape[2]
            links[:, i:stop, :kept], keys[:, i:stop, :kept] = best
        keys = keys.masked_fill_(links < HIDDEN / 2, -1)
        made = ((self.entropy, sums[0]), (self.distance, sums[1]), (self.first, sums[2]), (self.special, sums[3]))
        for into, t in (*made, (self.keys, keys), (self.weights, links.exp_())):
            piece.rows(into, 0, n).copy_(piece.by_sequence(t))
        piece.keys(self.received, 0, m).copy_(piece.by_sequence(received))
        self.by_distance[piece.heads] += piece.by_sequence(by_distance).sum(0)

    def _tile(self, piece: Piece, i, stop, a, b, sums: Tensor, received: Tensor, by_distance: Tensor, best):
        """Adds what queries i to stop give to keys a to b; gives the best (log weights, keys) so far."""
        items, rows, wide, place = piece.items, stop - i, b - a, i + piece.behind
        entropy, distance, first, special = sums
        flat, weights = self._room(items, rows, wide)
        logs = piece.logs(i, stop, a, b, self.rooms[0])
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

    def _room(self, items: int, rows: int, wide: int) -> tuple[Tensor, Tensor]:
        """Memory for the weights: each row with zeros before it, one less than there are rows, and as many after the last."""
        if self.shape == (items, rows, wide):
            return self.views  # whose zeros nobody has written to
        front = rows - 1
        size = items * rows * (wide + front) + front
        if len(self.rooms[0]) < size:
            self.rooms = [torch.empty(size, dtype=t.dtype, device=t.device) for t in self.rooms]
        flat = self.rooms[1][:size]
        whole = flat[: size - front].view(items, rows, wide + front)
        whole[..., :front] = 0
        flat[size - front :] = 0
        self.shape, self.views = (items, rows, wide), (flat, whole[..., front:])
        return self.views

    def _far(self, rows: int) -> tuple[Tensor, Tensor]:
        """For a key at x from a strip's first query: |x|, and what each further query adds, 1 or -1; zeros near the diagonal, where
        the two would cancel.
        """
        if rows not in self.far:
            far = (self.away < -(rows // 2)) | (self.away >= rows + rows // 2)
            self.far[rows] = self.away.abs() * far, -self.away.sign() * far
        return self.far[rows]

    def done(self) -> Statistics:
        edges = torch.tensor([0, *(2**b for b in range(BINS))], device=self.away.device)
        away = self.away.long()
        place = BINS + away.sign() * torch.bucketize(away.abs(), edges).clamp_max(BINS)
        histogram = self.by_distance.new_zeros(len(self.by_distance), 2 * BINS + 1)
        histogram.index_add_(1, place, self.by_distance)
        made = {"histogram": histogram.float(), "keys": self.keys, "weights": self.weights}
        rest = (f.name for f in fields(Statistics) if f.name not in made)
        return Statistics(**made, **{name: getattr(self, name) for name in rest})


def _best(logs: Tensor, first: int, links: int, before: tuple[Tensor, Tensor] | None, steps: Tensor):
    """The largest of each row, strongest first, with their keys; `first` is the first key's place, `steps` counts to BLOCK. Of equal ones, any."""
    wide = logs.shape[2]
    if links == 0:
        return logs[..., :0], logs[..., :0].long()
    few = wide // BLOCK**2
    if few < 2 * links:
        found, keys = logs.topk(min(links, wide), -1)
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
        found, keys = logs.gather(2, members).topk(links, -1)
        keys = members.gather(2, keys)
    if first:
        keys = keys + first
    if before is not None:
        found, keys = torch.cat([before[0], found], -1), torch.cat([before[1], keys], -1)
        found, place = found.topk(min(links, found.shape[2]), -1)
        keys = keys.gather(2, place)
    return found, keys


def _members(chosen: Tensor, blocks: int, steps: Tensor) -> Tensor:
    return (chosen[..., None] + steps * blocks).flatten(2)
