"""Self-attention as a mixer: any two rows of a sequence meet in one step, with weights computed from the rows."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from sightline.attention import Origin, Pattern, attention
from sightline.attention.single_backward import once
from sightline.encoders.encoder import Mixer
from sightline.sequences import Sequences


class SelfAttention(Mixer):
    """Multi-head self-attention over packed rows, with rotary positions on a part of each head.

    Shapes: [T, E] -> [T, E]. `heads` query heads (None: the most that divide the width and are at least 32 wide) share
    `key_heads` key and value heads (heads a multiple of key_heads; None: as many as heads).
    `window` is how many rows are seen to each side besides the row itself; None sees all. `rotary` is the share of each
    head that carries positions; the rest compares content alone.
    Raises: ValueError where the width does not divide into heads, or the heads into key heads.
    Every second key head starts with one orthogonal projection for queries and keys, so that a row first attends to
    rows like itself; the others start at random, free to attend by position. Recall needs both (docs/log.md).
    Source: Vaswani et al. 2017, section 3.2.2 (multi-head); Su et al. 2021, equation 34 (rotary); Ainslie et al. 2023
    (grouped key heads); Trockman and Kolter 2023, section 4 (equal queries and keys at the start; only that half).

    >>> mixer = SelfAttention(16, heads=4, key_heads=2, causal=True)
    >>> mixer(Sequences(torch.randn(5, 16), [0, 2, 5])).values.shape
    torch.Size([5, 16])
    """

    def __init__(
        self,
        width: int,
        heads: int | None = None,
        key_heads: int | None = None,
        causal: bool = False,
        window: int | None = None,
        rotary: float = 0.5,
    ):
        super().__init__()
        if heads is None:
            heads = next(h for h in range(max(1, width // 32), 0, -1) if width % h == 0)
        key_heads = heads if key_heads is None else key_heads
        if not 0 <= rotary <= 1:
            raise ValueError(
                f"self-attention: expected rotary from 0 to 1, the share of each head that turns, got {rotary}; change "
                "it"
            )
        if heads < 1 or key_heads < 1 or width % heads or heads % key_heads:
            raise ValueError(
                "self-attention: expected a width that is a multiple of heads, and heads a multiple of key_heads, got "
                f"width {width}, heads {heads}, key_heads {key_heads}; change one of them"
            )
        self.causal = causal
        self.heads, self.key_heads, self.head_width = heads, key_heads, width // heads
        self.pattern = Pattern(left=window, right=0 if causal else window)
        self.rotary_width = int(self.head_width * rotary) // 2 * 2
        self.project_in = nn.Linear(width, (heads + 2 * key_heads) * self.head_width)
        self.project_out = nn.Linear(width, width)
        alike = nn.init.orthogonal_(torch.empty(key_heads, self.head_width, width).flatten(0, 1))
        alike = alike.view(key_heads, 1, self.head_width, width)[::2]
        with torch.no_grad():
            q, k, _ = self.project_in.weight.split([heads * self.head_width] + 2 * [key_heads * self.head_width])
            q.view(key_heads, -1, self.head_width, width)[::2] = alike
            k.view(key_heads, -1, self.head_width, width)[::2] = alike
            self.project_in.bias.zero_()

    def forward(self, x: Sequences) -> Sequences:
        rows = self.project_in(x.values)
        if self.project_in._forward_hooks or self.project_in._backward_hooks:
            rows = rows.clone()  # hooks may keep it, and it is rotated in place
        rows = rows.view(len(x.values), self.heads + 2 * self.key_heads, self.head_width)
        q, k, v = self._rotated(rows, x.positions).split([self.heads, self.key_heads, self.key_heads], 1)
        mixed = attention(q, k, v, x.layout, self.pattern, origin=Origin(self)).out
        return x.with_values(self.project_out(mixed.flatten(1)))

    def _rotated(self, rows: Tensor, positions: Tensor) -> Tensor:
        """Rotates pairs of the first `rotary_width` numbers of each query and key by an angle growing with position."""
        if self.rotary_width == 0:
            return rows
        turning = self.heads + self.key_heads
        frequency = 10000.0 ** -(torch.arange(0, self.rotary_width, 2, device=rows.device) / self.rotary_width)
        angle = positions[:, None].float() * frequency  # [T, R / 2]
        return Rotate.apply(rows, torch.polar(torch.ones_like(angle), angle), turning, self.rotary_width)

    def start(self, count: int) -> list[Tensor | int]:
        if not self.causal:
            return super().start(count)
        empty = self.project_in.weight.new_empty(count, 0, self.key_heads, self.head_width)
        return [empty, empty, 0]  # keys and values with room to grow [S, room, G, D], and how many rows there are

    def step(self, x: Tensor, state: list[Any]) -> tuple[Tensor, list[Any]]:
        if not self.causal:
            return super().step(x, state)
        keys, values, length = state
        count = len(x)
        rows = self.project_in(x).view(count, self.heads + 2 * self.key_heads, self.head_width)
        rows = self._rotated(rows, torch.full((count,), length, device=x.device))
        q, k, v = rows.split([self.heads, self.key_heads, self.key_heads], 1)
        if length == keys.shape[1]:  # double the room: each row is copied once on average
            more = k.new_zeros(count, max(length, 16), self.key_heads, self.head_width)  # of autocast's dtype, if any
            keys, values = (torch.cat([t.to(k.dtype), more], 1) for t in (keys, values))
        keys[:, length], values[:, length] = k, v
        first = 0 if self.pattern.left is None else max(0, length - self.pattern.left)
        seen = slice(first, length + 1)
        ones = torch.arange(count + 1, device="cpu")
        attended = attention(
            q,
            keys[:, seen].flatten(0, 1).to(q.dtype),
            values[:, seen].flatten(0, 1).to(q.dtype),
            ones,
            key_offsets=ones * (length + 1 - first),
            origin=Origin(self),
        )
        return self.project_out(attended.out.flatten(1)), [keys, values, length + 1]


class Rotate(torch.autograd.Function):
    """Rotates neighbouring pairs of the first numbers of the first heads, in place: one complex product, no copies."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, turn: Tensor, heads: int, width: int) -> Tensor:
        ctx.save_for_backward(turn)
        ctx.heads, ctx.width = heads, width
        ctx.mark_dirty(rows)
        return _turn(rows, turn, heads, width)

    @once
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        (turn,) = ctx.saved_tensors
        return _turn(grad.clone(), turn.conj(), ctx.heads, ctx.width), None, None, None


def _turn(rows: Tensor, turn: Tensor, heads: int, width: int) -> Tensor:
    part = rows[:, :heads, :width].unflatten(-1, (width // 2, 2))
    turn = turn[:, None]
    wide = torch.promote_types(rows.dtype, torch.float32)
    if wide == rows.dtype and rows.shape[-1] % 2 == 0:
        torch.view_as_complex(part).mul_(turn.to(wide.to_complex()))
    else:  # 16-bit rows have no complex view, nor have heads of odd width
        turned = torch.view_as_complex(part.to(wide).contiguous()) * turn.to(wide.to_complex())
        part.copy_(torch.view_as_real(turned))
    return rows
