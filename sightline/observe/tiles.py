"""Tiles: any rectangle of a head's map, exact, at any zoom, without the whole map.

A cell is a run of queries by a run of keys: tokens, words, sentences or pixels. Its weights are summed over the keys
and averaged over the queries:

    mean_ab = 1 / |a| sum_{i in a} sum_{j in b} w_ij          peak_ab = max_{i in a, j in b} w_ij

so that the rows of every map sum to what the rows of weights sum to: one, less the share of a sink. `peak` keeps strong
single weights. One pass over the weights gives a whole map at one zoom, and every coarser one follows from it.
Source: Clark et al. 2019, section 4.1 (the sum over the pieces attended to, the mean over the pieces attended from).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from sightline.observe.calls import Piece

ROWS = 64  # queries at once
KEYS = 8192
CELLS = 4096  # to a side of the finest map that is kept whole


class Tile(NamedTuple):
    """A rectangle of cells. Shapes: mean, peak float32 [rows, columns]; weight[query, key]."""

    mean: Tensor
    peak: Tensor


class Cells:
    """One axis cut into runs: of `cells` tokens each (the last may be shorter), or with the offsets `cells`.

    >>> Cells(7, 3).bounds, Cells(7, [0, 1, 5, 7]).bounds
    (tensor([0, 3, 6, 7]), tensor([0, 1, 5, 7]))
    """

    def __init__(self, tokens: int, cells: int | Sequence[int] | Tensor):
        if isinstance(cells, int):
            if cells < 1:
                raise ValueError(f"tile: expected cells of 1 token or more, got {cells}; 1 is a token each")
            self.bounds = torch.tensor([*range(0, tokens, cells), tokens])
            return
        bounds = torch.as_tensor(cells, device="cpu")
        whole = bounds.dim() == 1 and len(bounds) > 0 and not bounds.is_floating_point()
        if not (whole and int(bounds[0]) == 0 and int(bounds[-1]) == tokens and bool((bounds.diff() >= 0).all())):
            raise ValueError(
                f"tile: expected groups as offsets that start at 0, never fall and end at {tokens} tokens, "
                f"got {bounds.tolist()[:8]}; count the tokens of each group"
            )
        self.bounds = bounds.long()

    def __len__(self) -> int:
        return len(self.bounds) - 1

    def within(self, cells: range | tuple[int, int] | None, axis: str) -> Tensor:
        """The bounds of some cells [cells + 1].

        Raises: ValueError where the map has fewer.
        """
        start, stop = (0, len(self)) if cells is None else cells if isinstance(cells, tuple) else _ends(cells)
        if not 0 <= start <= stop <= len(self):
            raise ValueError(
                f"tile: expected {axis} from 0 to {len(self)}, as many cells as the map has at this zoom, "
                f"got {start} to {stop}; stay inside"
            )
        return self.bounds[start : stop + 1]


def _ends(cells: range) -> tuple[int, int]:
    if cells.step != 1:
        raise ValueError(f"tile: expected a range of cells side by side, got {cells}; zoom out with `at`")
    return cells.start, max(cells.start, cells.stop)


def tile_of(piece: Piece, rows: Tensor, columns: Tensor) -> Tile:
    """The tile of a piece that is one head of one sequence; `rows` and `columns` are bounds of cells."""
    shape = len(rows) - 1, len(columns) - 1
    tile = Tile(*(torch.zeros(shape, device=piece.level.device) for _ in range(2)))
    for cells, mean, peak in bands(piece, rows, columns):
        tile.mean[cells], tile.peak[cells] = mean, peak
    return tile


def bands(piece: Piece, rows: Tensor, columns: Tensor) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """The same, some rows of cells at a time: (which rows, their mean, their peak)."""
    bounds, a = rows.tolist(), 0
    while a < len(bounds) - 1:
        b = a + 1
        while b < len(bounds) - 1 and bounds[b + 1] - bounds[a] <= ROWS:
            b += 1
        yield slice(a, b), *band(piece, bounds[a : b + 1], columns)
        a = b


def band(piece: Piece, bounds: list[int], columns: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and peak [rows, columns] of a few rows of cells: first down the queries, then along the keys."""
    first, last = int(columns[0]), int(columns[-1])
    count = len(bounds) - 1
    total, most = (piece.level.new_zeros(count, last - first) for _ in range(2))
    for i in range(bounds[0], bounds[-1], ROWS):
        stop = min(i + ROWS, bounds[-1])
        lo, hi = piece.visible(i, stop)
        for a in range(max(first, lo), min(last, hi), KEYS):
            b = min(a + KEYS, last, hi)
            weights = piece.logs(i, stop, a, b)[0].exp_()
            for cell in range(count):
                rows = weights[max(bounds[cell] - i, 0) : max(bounds[cell + 1] - i, 0)]
                if len(rows):
                    total[cell, a - first : b - first] += rows.sum(0)
                    into = most[cell, a - first : b - first]
                    torch.maximum(into, rows.amax(0), out=into)
    queries = torch.tensor(bounds, device=total.device).diff().clamp_min(1)
    return along(total, columns, sum) / queries[:, None], along(most, columns, max)


def along(t: Tensor, bounds: Tensor, reduction) -> Tensor:
    """`sum` or `max` of numbers from 0 up, of each row over runs of columns; the first bound is column 0."""
    lengths, bounds = bounds.diff(), bounds - bounds[0]
    if bool((lengths == 1).all()):
        return t.float()
    longest = int(lengths.max()) if len(lengths) else 0
    if bool((lengths[:-1] == longest).all()):  # all equal but the last, which is padded with zeros
        cells = torch.nn.functional.pad(t, (0, len(lengths) * longest - t.shape[1])).unflatten(1, (-1, longest))
        return (cells.sum(-1) if reduction is sum else cells.amax(-1)).float()
    cell = torch.repeat_interleave(torch.arange(len(lengths)), lengths).to(t.device)
    reduced = t.new_zeros(len(t), len(lengths))
    if reduction is sum:
        return reduced.index_add_(1, cell, t).float()
    for i in range(longest):  # the i-th column of each run, of a shorter run the last
        some = lengths > 0
        place = (bounds[:-1] + (lengths - 1).clamp(max=i))[some].to(t.device)
        some = some.to(t.device)
        reduced[:, some] = torch.maximum(reduced[:, some], t[:, place])
    return reduced.float()


class Pyramid:
    """A head's whole map at one zoom, computed in one pass, from which tiles at all coarser zooms follow.

    `at` is the number of tokens to a side of a cell of the base, which has at most `cells` to a side. `grow` computes
    bands of rows in an order spread over the text, so that an early picture is a sample of its rows, exact in those
    known.

    Shapes: mean, peak float32 [n / at, m / at]; known bool [n / at].
    """

    def __init__(self, piece: Piece, cells: int = CELLS):
        self.piece, self.at = piece, 1
        while max(piece.n, piece.m) > cells * self.at:
            self.at *= 2
        self.rows, self.columns = (Cells(tokens, self.at) for tokens in (piece.n, piece.m))
        device = piece.level.device
        self.mean, self.peak = (torch.zeros(len(self.rows), len(self.columns), device=device) for _ in range(2))
        self.known = torch.zeros(len(self.rows), dtype=torch.bool)
        self._work = _spread(len(self.rows), max(1, ROWS // self.at))

    def grow(self, bands: int | None = None) -> float:
        """Computes more bands of rows (None: all that are left). Returns: the share of rows that are known."""
        left = len(self._work) if bands is None else min(bands, len(self._work))
        for _ in range(left):
            a, b = self._work.pop(0)
            bounds = self.rows.bounds[a : b + 1].tolist()
            self.mean[a:b], self.peak[a:b] = band(self.piece, bounds, self.columns.bounds)
            self.known[a:b] = True
        return float(self.known.float().mean()) if len(self.known) else 1.0

    def tile(self, rows=None, columns=None, at: int | None = None) -> Tile:
        """A tile at a zoom that is a multiple of the base's; NaN in rows of cells of which nothing is known.

        Raises: ValueError for another zoom, or outside the map.
        """
        at = self.at if at is None else at
        if at < self.at or at % self.at:
            raise ValueError(
                f"pyramid: expected a multiple of {self.at} tokens to a cell, got {at}; "
                "finer ones are tiles of the layer"
            )
        by = -(-Cells(self.piece.n, at).within(rows, "rows") // self.at)
        across = -(-Cells(self.piece.m, at).within(columns, "columns") // self.at)
        inside = slice(int(across[0]), int(across[-1]))
        lengths = self.rows.bounds.diff().float()
        mean, peak = (torch.full((len(by) - 1, len(across) - 1), torch.nan, device=self.mean.device) for _ in range(2))
        for row, (a, b) in enumerate(zip(by.tolist(), by[1:].tolist(), strict=False)):
            known = self.known[a:b]
            if bool(known.any()):
                share = (lengths[a:b] * known / (lengths[a:b] * known).sum()).to(self.mean.device)
                mean[row] = along((share @ self.mean[a:b, inside])[None], across, sum)[0]
                peak[row] = along(self.peak[a:b, inside].amax(0)[None], across, max)[0]
        return Tile(mean, peak)


def _spread(rows: int, together: int) -> list[tuple[int, int]]:
    """Bands of rows from coarse to fine: every 2^k-th, then those between, and so on.

    >>> _spread(9, 2)
    [(0, 2), (8, 9), (4, 6), (2, 4), (6, 8)]
    """
    starts = list(range(0, rows, together))
    step = 1 << max(len(starts) - 1, 0).bit_length()
    order = list(range(0, len(starts), step)) if starts else []
    while step > 1:
        order += range(step // 2, len(starts), step)
        step //= 2
    return [(starts[i], min(starts[i] + together, rows)) for i in order]
