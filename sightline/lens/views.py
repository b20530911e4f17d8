"""A view is a head, or the mean of a layer's heads: any of its weights, from queries and keys that are not copied.

A view has what tiles and pyramids take from a head (`observe.calls.Piece`), so that they work for means, too.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import cast

import torch
from torch import Tensor

from sightline.attention import Pattern
from sightline.observe import Layer, Pyramid
from sightline.observe.calls import Piece
from sightline.observe.tiles import Tile, tile_of

SAMPLED = 2**25  # weights that a first picture is made of; of a text whose map has no more, all
ROWS = 64  # queries at once
CELLS = 4096  # to a side of a map that is kept
SIDE = 256  # cells to a side of a tile


class View:
    """Some heads of a layer in one sequence, as their mean; weights are float32 or wider.

    Raises: ValueError where the layer did not keep its map, or joins two sequences of unlike lengths.
    """

    def __init__(self, layer: Layer, heads: list[int]):
        self.call = layer.mapped(0)
        self.q, self.k = cast(Tensor, self.call.q), cast(Tensor, self.call.k)
        self.places = [layer.heads.index(head) for head in heads]
        self.n, self.m = (int(o[1] - o[0]) for o in (self.call.offsets, self.call.key_offsets))
        if self.n != self.m:
            raise ValueError(
                f"{layer.name}: expected attention of a text to itself, got {self.n} queries and {self.m} keys; "
                "use sightline.watch for this model"
            )
        self.level = self.call.lse[: self.n, self.places]
        self.level[self.level == -torch.inf] = torch.inf  # where nothing is seen, every weight is 0

    @property
    def pattern(self) -> Pattern:
        return self.call.pattern

    def visible(self, i: int, stop: int) -> tuple[int, int]:
        """The keys, from and to, that one of the queries i to stop sees."""
        left, right = self.pattern.left, self.pattern.right
        lo = 0 if left is None else max(0, i - left)
        return lo, self.m if right is None else min(self.m, stop + right)

    def logs(self, i: int, stop: int, a: int, b: int) -> Tensor:
        """The logarithms of the weights of queries i to stop on keys a to b. Shapes: [1, queries, keys]."""
        rows = torch.arange(i, stop)
        if len(self.places) == 1:
            return self._logs(self.places[0], 0, rows, a, b)[None]
        return self.weights(rows, a, b).log_()[None]

    def weights(self, rows: Tensor, a: int = 0, b: int | None = None) -> Tensor:
        """The weights of some queries on the keys a to b. Shapes: rows [r] -> [r, keys]."""
        b = self.m if b is None else b
        heads = self.each(rows, a, b)
        total = next(heads)
        for weights in heads:
            total.add_(weights)
        return total if len(self.places) == 1 else total.div_(len(self.places))

    def each(self, rows: Tensor, a: int, b: int) -> Iterator[Tensor]:
        """The same for each head."""
        for number, place in enumerate(self.places):
            yield self._logs(place, number, rows, a, b).exp_()

    def _logs(self, place: int, number: int, rows: Tensor, a: int, b: int) -> Tensor:
        call, level = self.call, self.level[rows, number, None]
        q = self.q[rows, place].to(level.dtype) * call.scale
        k = self._keys[:, a:b] if len(self.places) == 1 else self._columns(place)[:, a:b]
        if call.softcap is None and call.bias is None:
            logs = torch.addmm(level.neg(), q, k)
        else:
            logs = q @ k
            if call.softcap is not None:
                logs.div_(call.softcap).tanh_().mul_(call.softcap)
            if call.bias is not None:
                bias = call.bias[0]
                logs += bias[place if len(bias) > 1 else 0, rows, a:b]
            logs -= level
        left, right = self.pattern.left, self.pattern.right
        last, first = int(rows[-1]), int(rows[0])  # in rising order
        if right is not None and first + right < b - 1:
            logs.masked_fill_(torch.arange(a, b) > rows[:, None] + right, -torch.inf)
        if left is not None and a < last - left:
            logs.masked_fill_(torch.arange(a, b) < rows[:, None] - left, -torch.inf)
        return logs

    def _columns(self, place: int) -> Tensor:
        """Keys as columns. Shapes: [D, m]."""
        return self.k[: self.m, int(self.call.groups[place])].to(self.level.dtype).T

    @cached_property
    def _keys(self) -> Tensor:
        """The columns of a single head, contiguous for the product."""
        return self._columns(self.places[0]).contiguous()

    def strips(self, rows: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Some queries at once and all their weights. Shapes: rows [r], weights [r, m]."""
        for some in rows.split(max(1, min(ROWS, 2**21 // self.m))):
            yield some, self.weights(some)


def sampled_rows(n: int, heads: int = 1) -> Tensor:
    """A sample of n queries, spread evenly, as many as have SAMPLED weights under so many heads.

    >>> sampled_rows(5), len(sampled_rows(100_000))
    (tensor([0, 1, 2, 3, 4]), 335)
    """
    count = min(n, max(1, SAMPLED // (n * heads)))
    return (torch.arange(count) * n + n // 2).div(count, rounding_mode="floor").clamp_max(n - 1)


class GrowingMap:
    """A view's whole map at one zoom: first each row of cells is that of a sampled query, then exact, band by band.

    `at` is how many tokens a cell has to a side; `share` is the share of the rows that are known, 1 when all is exact.
    `refresh` makes coarser zooms of it, each twice as coarse.
    """

    def __init__(self, view: View):
        self.pyramid = pyramid = Pyramid(cast(Piece, view), CELLS)
        self.at, self.lengths = pyramid.at, pyramid.rows.bounds.diff().float()
        rows = sampled_rows(view.n, len(view.places))
        mean, peak = [], []
        for _, weights in view.strips(rows):
            cells = torch.nn.functional.pad(weights, (0, len(pyramid.columns) * self.at - view.m)).unflatten(
                1, (-1, self.at)
            )
            mean.append(cells.sum(-1))
            peak.append(cells.amax(-1))
        middle = (pyramid.rows.bounds[:-1] + pyramid.rows.bounds[1:]) // 2
        nearest = (middle * len(rows)).div(view.n, rounding_mode="floor")
        torch.index_select(torch.cat(mean), 0, nearest, out=pyramid.mean)
        torch.index_select(torch.cat(peak), 0, nearest, out=pyramid.peak)
        self.sampled = min(len(rows), len(nearest)) / view.n
        self.known = self.sampled  # 1 where each query has a row of its own
        self.refresh()

    def grow(self, bands: int) -> None:
        """Computes some more bands of rows; `refresh` shows them."""
        known = self.pyramid.grow(bands)
        self.known = 1.0 if known == 1 else known + (1 - known) * self.sampled

    def refresh(self) -> None:
        """Makes the coarser zooms of what is known now."""
        at, (mean, peak), lengths = self.at, (self.pyramid.mean, self.pyramid.peak), self.lengths
        zooms = {at: Tile(mean, peak)}
        total = mean * lengths[:, None]
        while at * SIDE < self.pyramid.piece.n:
            at, total, peak = at * 2, _halved(total, torch.add), _halved(peak, torch.maximum)
            lengths = _pairs(lengths, 0).sum(1)
            zooms[at] = Tile(total / lengths[:, None], peak)
        self.zooms, self.share = zooms, self.known

    def tile(self, at: int, rows: tuple[int, int], columns: tuple[int, int]) -> Tile:
        """Cells of a zoom that `refresh` made, from and to in both directions."""
        return Tile(*(t[slice(*rows), slice(*columns)] for t in self.zooms[at]))


def exact_tile(view: View, at: int, rows: tuple[int, int], columns: tuple[int, int]) -> Tile:
    """Cells of any zoom, from and to in both directions."""
    bounds = (torch.arange(start, stop + 1).mul(at).clamp_max(view.n) for start, stop in (rows, columns))
    return tile_of(cast(Piece, view), *bounds)


def _halved(t: Tensor, join) -> Tensor:
    """Joins each four cells."""
    t = join(*_pairs(t, 0).unbind(1))
    return join(*_pairs(t, 1).unbind(2))


def _pairs(t: Tensor, axis: int) -> Tensor:
    """Neighbours side by side; the last of an odd number is beside zeros."""
    odd = t.shape[axis] % 2
    if odd:
        t = torch.cat([t, torch.zeros_like(t.narrow(axis, 0, 1))], axis)
    return t.unflatten(axis, (-1, 2))


def by_word(weights: Tensor, first: Tensor) -> Tensor:
    """Keys summed into words. Shapes: weights [r, m], first [words + 1] -> [r, words]."""
    sums = torch.nn.functional.pad(weights.double().cumsum(1), (1, 0))[:, first]
    return sums.diff(dim=1).clamp_min(0).float()
