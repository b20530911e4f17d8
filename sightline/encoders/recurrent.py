"""Recurrence as a mixer: a row sees the others through every row between them, in a state of fixed size.

    LSTM   i, f, o = sigmoid(W x[t] + U h[t-1] + b)   three parts of one product
           g = tanh(W x[t] + U h[t-1] + b)            the fourth
           c[t] = f c[t-1] + i g,   h[t] = o tanh(c[t])
    RNN    h[t] = tanh(W x[t] + U h[t-1] + b)

Source: Hochreiter & Schmidhuber 1997 with the forget gate of Gers et al. 2000; Elman 1990. The cells are PyTorch's,
called on grids of sequences of similar lengths, each direction by itself and the second on reversed sequences: the
zeros of a grid then come after a sequence's last step, and change nothing.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from sightline.attention.single_backward import once
from sightline.encoders.encoder import Mixer
from sightline.encoders.grids import Grids, grids_of
from sightline.sequences import Sequences


class Recurrent(Mixer):
    """An LSTM or a tanh RNN over packed rows: one direction if causal, else two of half the width, side by side.

    Shapes: [T, E] -> [T, E].
    Raises: ValueError for another cell, or where the width does not divide into two directions.

    >>> mixer = Recurrent(16, cell="lstm")
    >>> mixer(Sequences(torch.randn(5, 16), [0, 2, 5])).values.shape
    torch.Size([5, 16])
    """

    def __init__(self, width: int, cell: str = "lstm", causal: bool = False):
        super().__init__()
        if cell not in ("lstm", "rnn"):
            raise ValueError(f"recurrent: expected cell lstm or rnn, got {cell!r}; choose one")
        if width % 2 and not causal:
            raise ValueError(
                f"recurrent: expected an even width for two directions, got {width}; make it even or causal"
            )
        self.causal = causal
        hidden = width if causal else width // 2
        kind = nn.LSTM if cell == "lstm" else nn.RNN  # both start uniform within 1 / sqrt(hidden)
        self.directions: Any = nn.ModuleList(kind(width, hidden) for _ in range(1 if causal else 2))
        if cell == "lstm":
            for direction in self.directions:  # the forget gate starts open: Jozefowicz et al. 2015
                nn.init.ones_(direction.bias_ih_l0.data[hidden : 2 * hidden])
                nn.init.zeros_(direction.bias_hh_l0.data[hidden : 2 * hidden])

    def forward(self, x: Sequences) -> Sequences:
        if len(x.values) == 0:
            return x
        count = len(self.directions)
        orders = [x.layout.cached(grids_of, reverse, x.values.device) for reverse in (False, True)[:count]]
        if isinstance(self.directions[0], nn.LSTM) or not x.values.is_cpu:
            cells = zip(self.directions, orders, strict=True)
            states = [[cell(grid)[0] for grid in order.fill(x.values)] for cell, order in cells]
        else:  # PyTorch has a fused LSTM for the CPU but no fused RNN
            states = self._by_steps(x.values, orders)
        rows = [order.read(grids) for order, grids in zip(orders, states, strict=True)]
        return x.with_values(torch.cat(rows, 1))

    def _by_steps(self, x: Tensor, orders: list[Grids]) -> list[list[Tensor]]:
        """An RNN's states for each direction and grid [n, count, h], the steps of both directions taken together."""
        rows = [linear(x, cell.weight_ih_l0, cell.bias_ih_l0 + cell.bias_hh_l0) for cell in self.directions]
        wide = torch.promote_types(rows[0].dtype, torch.float32)
        inputs = zip(*(order.fill(r) for order, r in zip(orders, rows, strict=True)), strict=True)
        recurrent = torch.stack([cell.weight_hh_l0 for cell in self.directions]).to(wide)
        states = [RnnSteps.apply(torch.stack(grids, 1).to(wide), recurrent).to(x.dtype) for grids in inputs]
        return list(map(list, zip(*(both.unbind(1) for both in states), strict=True)))

    def start(self, count: int) -> tuple[Tensor, ...]:
        if not self.causal:
            return super().start(count)
        (cell,) = self.directions
        zeros = cell.weight_hh_l0.new_zeros(count, cell.hidden_size)
        return (zeros, zeros) if isinstance(cell, nn.LSTM) else (zeros,)

    def step(self, x: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        if not self.causal:
            return super().step(x, state)
        (cell,) = self.directions
        if isinstance(cell, nn.LSTM):
            state = torch.lstm_cell(x, state, *cell.all_weights[0])
        else:
            state = (torch.rnn_tanh_cell(x, state[0], *cell.all_weights[0]),)
        return state[0], state


class RnnSteps(torch.autograd.Function):
    """h[t] = tanh(inputs[t] + U h[t-1]): inputs [n, D, count, h], overwritten by h, and U [D, h, h]."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, recurrent: Tensor) -> Tensor:
        steps = inputs.unbind(0)
        weight = recurrent.transpose(1, 2).contiguous()
        steps[0].tanh_()
        for before, now in zip(steps[:-1], steps[1:], strict=True):
            now.baddbmm_(before, weight).tanh_()
        ctx.mark_dirty(inputs)
        ctx.save_for_backward(inputs, recurrent)
        return inputs

    @once
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        states, recurrent = ctx.saved_tensors
        d_sums = grad.clone(memory_format=torch.contiguous_format)
        slopes = torch.ops.aten.tanh_backward(torch.ones_like(states), states)  # 1 - h h
        steps = list(zip(d_sums.unbind(0), slopes.unbind(0), strict=True))[::-1]
        steps[0][0].mul_(steps[0][1])
        for (after, _), (now, slope) in zip(steps[:-1], steps[1:], strict=True):
            now.baddbmm_(after, recurrent).mul_(slope)
        after, before = (part.transpose(0, 1).flatten(1, 2) for part in (d_sums[1:], states[:-1]))
        return d_sums, torch.bmm(after.transpose(1, 2), before)
