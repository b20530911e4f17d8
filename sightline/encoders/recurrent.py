"""Recurrence as a mixer: what a row knows of the others came through every row between them, in a state of fixed size.

    LSTM   i, f, o = sigmoid(W x[t] + U h[t-1] + b)   three parts of one product
           g = tanh(W x[t] + U h[t-1] + b)            the fourth
           c[t] = f c[t-1] + i g,   h[t] = o tanh(c[t])
    RNN    h[t] = tanh(W x[t] + U h[t-1] + b)

Source: Hochreiter & Schmidhuber 1997 with the forget gate of Gers et al. 2000; Elman 1990. Names and order of the
parameters are PyTorch's, which computes this elsewhere than on the CPU (cuDNN). On the CPU its gradient takes several
times the forward pass, so there the steps are our own: all rows are put in the order of time, longest sequence first,
both directions side by side; a step is then a few calls on slices of one buffer, forward and backward.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import linear
from torch.nn.utils.rnn import PackedSequence

from sightline.encoders.encoder import Mixer
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
        self.directions = 1 if causal else 2
        hidden = width // self.directions
        kind = nn.LSTM if cell == "lstm" else nn.RNN  # both start uniform within 1 / sqrt(hidden)
        self.cell = kind(width, hidden, bidirectional=not causal)
        if cell == "lstm":  # remember at first: Jozefowicz et al. 2015
            with torch.no_grad():
                for name, bias in self.cell.named_parameters():
                    if "bias" in name:
                        bias[hidden : 2 * hidden] = 1.0 if "ih" in name else 0.0

    def forward(self, x: Sequences) -> Sequences:
        if x.values.is_cpu:
            return x.with_values(self._by_steps(x))
        return x.with_values(self._by_torch(x))

    def _by_steps(self, x: Sequences) -> Tensor:
        """One product for the inputs of all rows and directions, then the steps; the state is float32 or wider."""
        weights = self.cell.all_weights  # for each direction: W, U and the two halves of b
        project, recur, bias, more_bias = zip(*weights, strict=True)
        inputs = linear(x.values, torch.cat(project), torch.cat(bias) + torch.cat(more_bias))
        wide = torch.promote_types(inputs.dtype, torch.float32)
        steps = LstmSteps if isinstance(self.cell, nn.LSTM) else RnnSteps
        order = time_order(x.offsets.numpy().tobytes(), self.directions, x.values.device)
        return steps.apply(inputs.to(wide), torch.stack(recur).to(wide), order).to(inputs.dtype)

    def _by_torch(self, x: Sequences) -> Tensor:
        """The same by PyTorch's own recurrence, which takes rows in the order of time too."""
        if len(x.values) == 0:
            return x.values
        order = time_order(x.offsets.numpy().tobytes(), 1, x.values.device)
        rows = PackedSequence(x.values.index_select(0, order.rows), order.batch_sizes)
        return self.cell(rows)[0].data.index_select(0, order.place)

    def start(self, count: int) -> tuple[Tensor, ...]:
        if not self.causal:
            return super().start(count)
        zeros = self.cell.weight_hh_l0.new_zeros(count, self.cell.hidden_size)
        return (zeros, zeros) if isinstance(self.cell, nn.LSTM) else (zeros,)

    def step(self, x: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        if not self.causal:
            return super().step(x, state)
        (weights,) = self.cell.all_weights
        if isinstance(self.cell, nn.LSTM):
            state = torch.lstm_cell(x, state, *weights)
        else:
            state = (torch.rnn_tanh_cell(x, state[0], *weights),)
        return state[0], state


# --- the order of time ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TimeOrder:
    """Where each row of each direction stands when the rows are sorted by time, the longest sequence first.

    A step holds the sequences that still run, [D, size, ...] for D directions, the second one counting time from the
    end; so both have the same sizes. `segments` lists (steps, size) where the size stays the same. States are kept
    with a block of zeros in front, [D, first size, ...], the state before the first step.
    """

    rows: Tensor  # [T * D]: place in the order of time -> row * D + direction
    place: Tensor  # [T * D]: the inverse
    before: Tensor  # [T * D]: place -> place of the state one step before, counted with the block of zeros
    zeros: int  # states in the block of zeros
    directions: int
    segments: list[tuple[int, int]]

    @property
    def batch_sizes(self) -> Tensor:
        return torch.tensor([size for steps, size in self.segments for _ in range(steps)])

    def steps(self, buffer: Tensor) -> list[Tensor]:
        """One view [D, size, ...] for each step of a buffer [T * D, ...] in the order of time."""
        parts = buffer.split([steps * self.directions * size for steps, size in self.segments])
        views: list[Tensor] = []
        for part, (steps, size) in zip(parts, self.segments, strict=True):
            views.extend(part.view(steps, self.directions, size, *buffer.shape[1:]).unbind(0))
        return views


@lru_cache(maxsize=8)
def time_order(offsets: bytes, directions: int, device: torch.device) -> TimeOrder:
    """The order of time is a function of the offsets alone, and all layers of an encoder ask for the same one."""
    bounds = np.frombuffer(offsets, dtype=np.int64)
    lengths = np.diff(bounds)
    longest_first = np.argsort(-lengths, kind="stable")
    starts, lengths = bounds[:-1][longest_first], lengths[longest_first]
    longest = int(lengths[0]) if len(lengths) else 0
    sizes = np.searchsorted(-lengths, -np.arange(longest))  # sequences longer than t
    step_starts = np.cumsum(sizes) - sizes

    time = np.repeat(np.arange(longest), sizes)
    rank = np.arange(len(time)) - step_starts[time]  # of the sequence, among the longest
    row = np.stack([starts[rank] + time, starts[rank] + lengths[rank] - 1 - time][:directions])
    direction = np.arange(directions)[:, None]
    source = row * directions + direction
    target = directions * step_starts[time] + direction * sizes[time] + rank
    sizes_before, starts_before = np.append(sizes[:1], sizes), np.append(0, sizes[:1] + step_starts)
    previous = directions * starts_before[time] + direction * sizes_before[time] + rank

    rows, place, before = np.empty((3, source.size), dtype=np.int64)
    rows[target], place[source], before[target] = source, target, previous
    counts = np.bincount(sizes)
    segments = [(int(counts[size]), int(size)) for size in np.flatnonzero(counts)[::-1]]
    zeros = directions * int(sizes[0]) if longest else 0
    index = [torch.from_numpy(part).to(device) for part in (rows, place, before)]
    return TimeOrder(*index, zeros, directions, segments)


# --- the steps ------------------------------------------------------------------------------------------------------


class LstmSteps(torch.autograd.Function):
    """The recurrence of an LSTM, given W x + b of all rows: inputs [T, D * 4h], recurrent U [D, 4h, h] -> [T, D * h]."""

    @staticmethod
    def forward(ctx, inputs: Tensor, recurrent: Tensor, order: TimeOrder) -> Tensor:
        directions, gate_width, h = recurrent.shape
        gates = inputs.view(-1, gate_width).index_select(0, order.rows)  # becomes i, f, g, o in place
        hidden, cells = (gates.new_empty(order.zeros + len(gates), h) for _ in range(2))
        hidden_before, cells_before = (_zero_block(states, order) for states in (hidden, cells))
        weight = recurrent.transpose(1, 2).contiguous()
        i, f, g, o = gates.split(h, 1)
        buffers = (gates, gates[:, : 2 * h], i, f, g, o, cells[order.zeros :], hidden[order.zeros :])
        for at, i_and_f, i, f, g, o, c, out in zip(*map(order.steps, buffers), strict=True):
            size = at.shape[1]
            at.baddbmm_(hidden_before[:, :size], weight)
            i_and_f.sigmoid_(), g.tanh_(), o.sigmoid_()
            torch.mul(f, cells_before[:, :size], out=c).addcmul_(i, g)
            torch.tanh(c, out=out).mul_(o)
            hidden_before, cells_before = out, c
        ctx.save_for_backward(gates, recurrent, hidden, cells)
        ctx.order = order
        return hidden[order.zeros :].index_select(0, order.place).view(len(inputs), directions * h)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor):
        gates, recurrent, hidden, cells = ctx.saved_tensors
        order, h = ctx.order, recurrent.shape[2]
        i, f, g, o = gates.split(h, 1)
        d_hidden = grad.reshape(-1, h).index_select(0, order.rows)

        # What each gate's gradient is per unit of its cell's (o: of the state's) gradient, for all steps at once ...
        d_gates = torch.empty_like(gates)
        d_i, d_f, d_g, d_o = d_gates.split(h, 1)
        tanh_c = cells[order.zeros :].tanh()
        aten = torch.ops.aten  # sigmoid_backward(x, y) = x y (1 - y); tanh_backward(x, y) = x (1 - y y)
        aten.sigmoid_backward.grad_input(g, i, grad_input=d_i)
        aten.sigmoid_backward.grad_input(cells.index_select(0, order.before), f, grad_input=d_f)
        aten.tanh_backward.grad_input(i, g, grad_input=d_g)
        aten.sigmoid_backward.grad_input(tanh_c, o, grad_input=d_o)
        c_by_h = aten.tanh_backward(o, tanh_c)

        # ... so that a step is left with few calls.
        d_cell = d_hidden.new_zeros(order.directions, order.zeros // order.directions, h)
        after = None
        buffers = (d_hidden, d_gates, d_gates.view(-1, 4, h)[:, :3], d_o, c_by_h, f)
        for d_out, at, i_f_g, o, c_by_h, f in zip(*(order.steps(b)[::-1] for b in buffers), strict=True):
            if after is not None:
                d_out[:, : after.shape[1]].baddbmm_(after, recurrent)
            d_c = d_cell[:, : at.shape[1]]
            d_c.addcmul_(d_out, c_by_h)
            o.mul_(d_out), i_f_g.mul_(d_c.unsqueeze(2))
            d_c.mul_(f)
            after = at
        return *_gradients(d_gates, hidden, recurrent, order), None


class RnnSteps(torch.autograd.Function):
    """The recurrence of a tanh RNN, given W x + b of all rows: inputs [T, D * h], recurrent U [D, h, h] -> [T, D * h]."""

    @staticmethod
    def forward(ctx, inputs: Tensor, recurrent: Tensor, order: TimeOrder) -> Tensor:
        directions, h, _ = recurrent.shape
        hidden = inputs.new_empty(order.zeros + len(order.rows), h)
        before = _zero_block(hidden, order)
        torch.index_select(inputs.view(-1, h), 0, order.rows, out=hidden[order.zeros :])
        weight = recurrent.transpose(1, 2).contiguous()
        for out in order.steps(hidden[order.zeros :]):
            out.baddbmm_(before[:, : out.shape[1]], weight).tanh_()
            before = out
        ctx.save_for_backward(recurrent, hidden)
        ctx.order = order
        return hidden[order.zeros :].index_select(0, order.place).view(len(inputs), directions * h)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor):
        recurrent, hidden = ctx.saved_tensors
        order, h = ctx.order, recurrent.shape[2]
        d_sum = grad.reshape(-1, h).index_select(0, order.rows)
        out = hidden[order.zeros :]
        slopes = torch.ops.aten.tanh_backward(torch.ones_like(out), out)
        after = None
        for at, slope in zip(*(order.steps(b)[::-1] for b in (d_sum, slopes)), strict=True):
            if after is not None:
                at[:, : after.shape[1]].baddbmm_(after, recurrent)
            at.mul_(slope)
            after = at
        return *_gradients(d_sum, hidden, recurrent, order), None


def _zero_block(states: Tensor, order: TimeOrder) -> Tensor:
    """The state before the first step [D, size, h], made zero."""
    size = order.zeros // order.directions
    return states[: order.zeros].zero_().view(order.directions, size, states.shape[1])


def _gradients(d_sums: Tensor, hidden: Tensor, recurrent: Tensor, order: TimeOrder) -> tuple[Tensor, Tensor]:
    """From the gradients of W x + U h + b in the order of time: those of the inputs, row by row, and of U."""
    directions, gate_width, h = recurrent.shape
    d_inputs = d_sums.index_select(0, order.place).view(-1, directions, gate_width)
    before = hidden.index_select(0, order.before.index_select(0, order.place)).view(-1, directions, h)
    d_recurrent = torch.bmm(d_inputs.permute(1, 2, 0), before.transpose(0, 1))
    return d_inputs.view(-1, directions * gate_width), d_recurrent
