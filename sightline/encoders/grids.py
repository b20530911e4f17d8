"""Grids: sequences of similar lengths side by side, for mixers whose products need one length.

A grid is [n, count, E]: one column for each sequence, its rows from the top, zeros below the shorter ones. It is exact
where those zeros add nothing (a sum over rows) or come after the last step (a recurrence).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sightline.attention.single_backward import once
from sightline.sequences import Layout


@dataclass(frozen=True)
class Grids:
    """Which rows of a pack stand where in its grids; made by `grids_of`.

    >>> grids = grids_of(Layout.of(torch.tensor([0, 2, 3])), False, torch.device("cpu"))
    >>> [grid.flatten(1) for grid in grids.fill(torch.tensor([[1.0], [2.0], [3.0]]))]
    [tensor([[1., 3.],
            [2., 0.]])]
    """

    shapes: list[tuple[int, int]]  # (n, count) of each grid
    rows: Tensor  # [places]: the row at each place of all grids, T where there is none
    places: Tensor  # [T]: the inverse

    def fill(self, values: Tensor) -> list[Tensor]:
        """Rows [T, E] as grids [n, count, E]."""
        flat = Fill.apply(values, self.rows, self.places)
        parts = flat.split([n * count for n, count in self.shapes])
        return [part.view(*shape, values.shape[1]) for part, shape in zip(parts, self.shapes, strict=True)]

    def read(self, grids: list[Tensor]) -> Tensor:
        """Grids [n, count, F] as rows [T, F]."""
        flat = [grid.flatten(0, 1) for grid in grids]
        return Read.apply(torch.cat(flat) if len(flat) > 1 else flat[0], self.rows, self.places)


def grids_of(layout: Layout, reverse: bool, device: torch.device) -> Grids:
    """The grids of a layout; all layers of an encoder share them by `layout.cached(grids_of, ...)`.

    The longest sequences come first; a grid takes the next shorter one as long as that fills three quarters of it, or
    all but eight rows. `reverse` puts each sequence's last row on top.
    """
    bounds, lengths, total = layout.starts, np.diff(layout.starts), layout.rows
    longest_first = np.argsort(-lengths, kind="stable")[: np.count_nonzero(lengths)]
    shapes, parts = [], [np.zeros(0, dtype=np.int64)]
    while len(longest_first):
        n = int(lengths[longest_first[0]])
        count = int(np.count_nonzero(lengths[longest_first] >= min(n * 3 // 4, n - 8)))
        members, longest_first = longest_first[:count], longest_first[count:]
        down = np.arange(n)[:, None]  # [n, 1] against members [count]
        row = bounds[members + 1] - 1 - down if reverse else bounds[members] + down
        parts.append(np.where(down < lengths[members], row, total).flatten())
        shapes.append((n, count))
    rows, places = np.concatenate(parts), np.empty(total + 1, dtype=np.int64)
    places[rows] = np.arange(len(rows))
    return Grids(shapes, torch.from_numpy(rows).to(device), torch.from_numpy(places[:-1]).to(device))


class Fill(torch.autograd.Function):
    """Rows [T, E] to all places of the grids [places, E]; the gradient is the reverse gather."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, rows: Tensor, places: Tensor) -> Tensor:
        ctx.save_for_backward(places)
        return rows_or_zeros(x, rows)

    @once
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        return grad.index_select(0, *ctx.saved_tensors), None, None


class Read(torch.autograd.Function):
    """All places of the grids [places, F] back to rows [T, F]; the gradient fills the grids again."""

    @staticmethod
    def forward(ctx: Any, flat: Tensor, rows: Tensor, places: Tensor) -> Tensor:
        ctx.save_for_backward(rows)
        return flat.index_select(0, places)

    @once
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        return rows_or_zeros(grad, *ctx.saved_tensors), None, None


def rows_or_zeros(x: Tensor, index: Tensor) -> Tensor:
    """The rows of x [T, E] that an index [N] names; zeros where it says T."""
    return torch.cat([x, x.new_zeros(1, x.shape[1])]).index_select(0, index)
