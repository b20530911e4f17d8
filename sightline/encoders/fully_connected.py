"""Full connection as a mixer: every row sees every other in one step, by weights that depend on positions alone.

    y[i] = sum over rows j of W[i, j] x[j]          W is learned, one matrix for each head, the same for all inputs

A sequence of n rows uses W[:n, :n], so W fixes a largest length. Rows of zeros add nothing to the sum: sequences of
similar lengths are gathered into one grid, zeros below the shorter ones, and multiplied at once, exactly.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sightline.encoders.encoder import Mixer
from sightline.encoders.grids import grids_of
from sightline.sequences import Sequences


class FullyConnected(Mixer):
    """A product over positions: y = W x for each sequence and head, W cut to the sequence's length.

    Shapes: [T, E] -> [T, E]; W [H, largest, largest], or A B^T with A and B [H, largest, rank]; head h mixes its part
    of E / H numbers of each row. If causal, W is lower triangular.
    Raises: ValueError where the width does not divide into heads, and for a sequence longer than `largest`.
    Source: the token mixing of Tolstikhin et al. 2021, without its second layer; W starts so that a row's variance
    stays near its inputs' at any length: W[i, j] ~ N(0, 1 / (1 + max(i, j))).

    >>> mixer = FullyConnected(16, largest=8)
    >>> mixer(Sequences(torch.randn(5, 16), [0, 2, 5])).values.shape
    torch.Size([5, 16])
    """

    def __init__(self, width: int, largest: int, rank: int | None = None, heads: int = 1, causal: bool = False):
        super().__init__()
        if width % heads:
            raise ValueError(
                f"fully-connected: expected a width that is a multiple of heads, got {width} and {heads}; change one "
                "of them"
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
        longest = x.layout.longest
        self._check(longest)
        if longest == 0:
            return x
        grids = x.layout.cached(grids_of, False, x.values.device)
        weights = self._weights(longest).to(x.values.dtype)
        mixed = []
        for (n, count), grid in zip(grids.shapes, grids.fill(x.values), strict=True):
            columns = grid.view(n, count, self.heads, -1).permute(2, 0, 1, 3).flatten(2)  # [H, n, count * E / H]
            y = torch.bmm(weights[:, :n, :n], columns).view(self.heads, n, count, -1)
            mixed.append(y.permute(1, 2, 0, 3).flatten(2))
        return x.with_values(grids.read(mixed))

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
                f"fully-connected: a sequence of {length} rows is longer than the largest length {self.largest} this "
                f"encoder was built for; build it with largest={length} or cut the sequence"
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
