"""Convolution as a mixer: a row sees a fixed neighbourhood, and far rows only through many layers or wide gaps.

    y[i] = b + sum over taps j of W[j] x[i + shift[j]]     rows outside the sequence count as zero

The windows of all rows are gathered to [T, taps * E] and multiplied by one matrix; a neighbour that lies in another
sequence is replaced by zeros, so nothing is padded. The gradient is a gather with the negated shifts, and two products.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sightline.attention.single_backward import once
from sightline.encoders.encoder import Mixer
from sightline.encoders.grids import rows_or_zeros
from sightline.sequences import Layout, Sequences


class Convolution(Mixer):
    """A convolution over packed rows: `kernel` taps, `dilation` rows apart, centred or, if causal, ending at the row.

    Shapes: [T, E] -> [T, E].
    Raises: ValueError where kernel or dilation is below 1, or a centred kernel is even.
    Source: Kim 2014 (over words); van den Oord et al. 2016 (dilated, causal).

    >>> mixer = Convolution(16, kernel=3, dilation=2)
    >>> mixer(Sequences(torch.randn(5, 16), [0, 2, 5])).values.shape
    torch.Size([5, 16])
    """

    def __init__(self, width: int, kernel: int = 5, dilation: int = 1, causal: bool = False):
        super().__init__()
        if kernel < 1 or dilation < 1:
            raise ValueError(
                f"convolution: expected kernel and dilation of at least 1, got {kernel} and {dilation}; raise them"
            )
        if kernel % 2 == 0 and not causal:
            raise ValueError(
                f"convolution: expected an odd kernel, to have a middle, got {kernel}; take {kernel + 1}, or "
                "causal=True"
            )
        self.causal = causal
        first = 1 - kernel if causal else -(kernel // 2)
        self.shifts = tuple(dilation * tap for tap in range(first, first + kernel))
        bound = (kernel * width) ** -0.5
        self.weight = nn.Parameter(torch.empty(kernel, width, width).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(width).uniform_(-bound, bound))

    def forward(self, x: Sequences) -> Sequences:
        both = self.shifts, tuple(-shift for shift in self.shifts)
        seen, seen_by = (x.layout.cached(window_index, shifts, x.values.device) for shifts in both)
        return x.with_values(Convolve.apply(x.values, self.weight, self.bias, seen, seen_by))

    def start(self, count: int) -> tuple[Tensor, int]:
        if not self.causal:
            return super().start(count)
        reach = 1 - self.shifts[0]  # rows from the first tap to the row itself
        return self.weight.new_zeros(reach, count, self.weight.shape[1]), 0  # a ring of rows, and the time

    def step(self, x: Tensor, state: tuple[Tensor, int]) -> tuple[Tensor, tuple[Tensor, int]]:
        if not self.causal:
            return super().step(x, state)
        ring, time = state
        ring[time % len(ring)] = x
        window = torch.cat([ring[(time + shift) % len(ring)] for shift in self.shifts], 1)
        return torch.addmm(self.bias, window, self.weight.flatten(0, 1)), (ring, time + 1)


def window_index(layout: Layout, shifts: tuple[int, ...], device: torch.device) -> Tensor:
    """For each row and shift the row it lands on, T where that is outside the row's sequence: int64 [T * taps]."""
    bounds, lengths = layout.starts, np.diff(layout.starts)
    first, end = np.repeat(bounds[:-1], lengths)[:, None], np.repeat(bounds[1:], lengths)[:, None]
    landing = np.arange(len(first))[:, None] + np.array(shifts)
    landing[(landing < first) | (landing >= end)] = len(first)
    return torch.from_numpy(landing.flatten()).to(device)


class Convolve(torch.autograd.Function):
    """y = windows of x times W, plus b: x [T, E], W [taps, E, F], b [F], both indices [T * taps] -> [T, F]."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, seen: Tensor, seen_by: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight, seen_by)
        return torch.addmm(bias, _windows(x, seen, len(weight)), weight.flatten(0, 1))

    @once
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        x, weight, seen_by = ctx.saved_tensors
        taps, width, out_width = weight.shape
        x, weight = x.to(grad.dtype), weight.to(grad.dtype)  # autocast computes in the narrower type
        windows = _windows(grad, seen_by, taps)  # [T, taps * F]: the rows that see this one
        d_x = windows @ weight.transpose(1, 2).reshape(taps * out_width, width)
        d_weight = (x.t() @ windows).view(width, taps, out_width).transpose(0, 1)
        return d_x, d_weight, grad.sum(0), None, None


def _windows(x: Tensor, index: Tensor, taps: int) -> Tensor:
    return rows_or_zeros(x, index).view(len(x), taps * x.shape[1])
