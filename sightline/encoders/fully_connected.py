"""Full connection as a mixer: every row sees every other in one step, by weights that hang on the places alone.

    y[i] = sum over rows j of W[i, j] x[j]          W is learned, one matrix for each head, and the same for all inputs

A sequence of n rows uses W[:n, :n], so W fixes a largest length. Rows of zeros add nothing to the sum: sequences of
similar lengths are gathered into one grid, zeros below the shorter ones, and met by one product, exactly.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from sightline.encoders.encoder import Mixer
from sightline.sequences import Sequences


class FullyConnected(Mixer):
    """A product over positions: y = W x for each sequence and head, W cut to the sequence's length.

    Shapes: [T, E] -> [T, E]; W [H, largest, largest], or A B^T with A and B [H, largest, rank]; head h mixes its part
    of E / H numbers of each row. If causal, W is lower triangular.
    Raises: ValueError where the width does not divide into heads, and for a sequence longer than `largest`.
    Source: the token mixing of Tolstikhin et al. 2021, without its second layer; W starts so that a row's variance stays
    near its inputs' at any length: W[i, j] ~ N(0, 1 / (1 + max(i, j))).

    >>> mixer = FullyConnected(16, largest=8)
    >>> mixer(Sequences(torch.randn(5, 16), [0, 2, 5])).values.shape
    torch.Size([5, 16])
    """

    def __init__(
        self, width: int, largest: int, rank: int | None = None, heads: int = 1, causal: bool = False
    ):
        super().__init__()
        if width % heads:
            raise ValueError(
                f"fully-connected: expected a width that is a multiple of heads, got {width} and {heads}; change one of them"
            )
        self.causal = causal
        self.width, self.largest, self.heads = width, largest, heads
        place = torch.arange(1.0, largest + 1)
        if rank is None:
            scale = torch.maximum(place[:, None], place).rsqrt()
            self.weight = nn.Parameter(torch.randn(heads, largest, largest) * scale)
        else:
            self.left = nn.Parameter(torch.randn(heads, largest, rank) * rank**-0.5)
            self.right = nn.Parameter(torch.randn(heads, largest, rank) * place.rsqrt()[:, None])
        self.rank = rank

    def forward(self, x: Sequences) -> Sequences:
        longest = int(x.lengths.max()) if len(x) else 0
        self._check(longest)
        groups, rows, place = grid_order(x.offsets.numpy().tobytes(), self.heads, x.values.device)
        weights = self._weights(longest).to(x.values.dtype)
        return x.with_values(Connect.apply(x.values, weights, groups, rows, place))

    def _weights(self, n: int) -> Tensor:
        """W for sequences of up to n rows [H, n, n]."""
        if self.rank is None:
            weights = self.weight[:, :n, :n]
        else:
            weights = self.left[:, :n] @ self.right[:, :n].transpose(1, 2)
        return weights.tril() if self.causal else weights

    def _check(self, length: int) -> None:
        if length > self.largest:
            raise ValueError(
                f"fully-connected: a sequence of {length} rows is longer than the largest length {self.largest} this encoder was "
                f"built for; build it with largest={length} or cut the sequence"
            )

    def start(self, count: int) -> tuple[Tensor, Tensor, int]:
        if not self.causal:
            return super().start(count)
        weights = self._weights(self.largest)
        return weights, weights.new_zeros(count, self.largest, self.width), 0  # W, the rows so far, the time

    def step(self, x: Tensor, state: tuple[Tensor, Tensor, int]) -> tuple[Tensor, tuple[Tensor, Tensor, int]]:
        if not self.causal:
            return super().step(x, state)
        weights, rows, time = state
        self._check(time + 1)
        rows[:, time] = x
        seen = rows[:, : time + 1].unflatten(2, (self.heads, -1))
        mixed = torch.einsum("hn,snhe->she", weights[:, time, : time + 1], seen)
        return mixed.flatten(1), (weights, rows, time + 1)


@lru_cache(maxsize=8)
def grid_order(
    offsets: bytes, heads: int, device: torch.device
) -> tuple[list[tuple[int, int]], Tensor, Tensor]:
    """Puts sequences of similar lengths into grids [H, longest, count]; the longest ones come first.

    A grid takes the next shorter sequence as long as it fills three quarters of the grid, or all but eight rows.
    Returns: (longest, count) of each grid; for each place in the grids the row * H + head it holds, T * H for a zero;
    and the inverse, for each row * H + head its place.
    """
    bounds = np.frombuffer(offsets, dtype=np.int64)
    lengths = np.diff(bounds)
    order = np.argsort(-lengths, kind="stable")
    order = order[: np.count_nonzero(lengths)]
    total = int(bounds[-1]) * heads
    groups, parts, first = [], [], 0
    while first < len(order):
        longest = int(lengths[order[first]])
        shortest = min(longest * 3 // 4, longest - 8)
        count = int(np.count_nonzero(lengths[order[first:]] >= max(shortest, 1)))
        members = order[first : first + count]
        row = bounds[members] + np.arange(longest)[:, None]  # [longest, count]
        grid = row * heads + np.arange(heads)[:, None, None]
        parts.append(np.where(row < bounds[members + 1], grid, total).flatten())
        groups.append((longest, count))
        first += count
    rows = np.concatenate(parts) if parts else np.zeros(0, dtype=np.int64)
    place = np.empty(total + 1, dtype=np.int64)
    place[rows] = np.arange(len(rows))
    return groups, torch.from_numpy(rows).to(device), torch.from_numpy(place[:-1]).to(device)


class Connect(torch.autograd.Function):
    """y = W x in every grid: x [T, E], W [H, n, n] for the longest sequence's n -> [T, E]."""

    @staticmethod
    def forward(ctx, x: Tensor, weights: Tensor, groups: list, rows: Tensor, place: Tensor) -> Tensor:
        grids = _gather(x, weights, rows)
        mixed = torch.empty_like(grids)
        for n, x_grid, y_grid in _each(groups, weights, grids, mixed):
            torch.bmm(weights[:, :n, :n], x_grid, out=y_grid)
        ctx.save_for_backward(weights, grids, rows, place)
        ctx.groups = groups
        return mixed.index_select(0, place).view(x.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor):
        weights, grids, rows, place = ctx.saved_tensors
        d_mixed = _gather(grad, weights, rows)
        d_grids, d_weights = torch.empty_like(grids), torch.zeros_like(weights)
        for n, x_grid, dx_grid, dy_grid in _each(ctx.groups, weights, grids, d_grids, d_mixed):
            torch.bmm(weights[:, :n, :n].transpose(1, 2), dy_grid, out=dx_grid)
            d_weights[:, :n, :n].baddbmm_(dy_grid, x_grid.transpose(1, 2))
        return d_grids.index_select(0, place).view(grad.shape), d_weights, None, None, None


def _gather(x: Tensor, weights: Tensor, rows: Tensor) -> Tensor:
    """All grids below one another, [places, E / H], from rows [T, E]."""
    parts = x.reshape(len(x) * len(weights), x.shape[1] // len(weights))
    return torch.cat([parts, parts.new_zeros(1, parts.shape[1])]).index_select(0, rows)


def _each(groups: list, weights: Tensor, *buffers: Tensor):
    """For each grid its height n and, of each buffer, its part as [H, n, count * E / H]."""
    first, heads = 0, len(weights)
    for n, count in groups:
        end = first + heads * n * count
        yield n, *(b[first:end].view(heads, n, count * b.shape[1]) for b in buffers)
        first = end
