"""Attention on the CPU: PyTorch's own flash kernel, called once for many sequences at a time, on views where it can.

The kernel takes dense rectangles [count, queries, keys]. A pure function, `plan`, decides which: equal lengths that lie
side by side are one rectangle, seen through strides without a copy; lonely lengths are first brought together on a
stage, sorted and padded a little where that costs less than one more call; a window is cut into blocks of queries with
just the keys they see. What touches tensors is a loop over the plan. Memory is linear in the rows.

The kernel: `aten::_scaled_dot_product_flash_attention_for_cpu`. Source: Dao et al. 2022, algorithm 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from sightline.attention.pattern import Pattern
from sightline.attention.reference import visible

kernel = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
kernel_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward
GROUPED = tuple(int(n) for n in torch.__version__.split(".")[:2]) >= (
    2,
    13,
)  # older kernels want k as wide as q

CALL = 4_000_000  # one call costs as much as this many multiply-adds (query-key pairs x heads x width)
BLOCK = 256  # a window's queries at once: its mask is BLOCK x (BLOCK + window)


def refuses(q: Tensor, k: Tensor, v: Tensor, pattern: Pattern, dropout: float) -> str | None:
    if q.device.type != "cpu":
        return (
            f"cpu: expected tensors on the CPU, got {q.device}; move them, or leave the backend to be chosen"
        )
    if dropout:
        return "cpu: has no dropout on weights; set dropout=0, or use backend='reference' for short sequences"
    return None


def attend(q, k, v, offsets, key_offsets, pattern, scale, dropout):
    rectangles = plan(offsets, key_offsets, pattern, q.shape[1] * q.shape[2])
    width = v.shape[2]
    if width != q.shape[2]:  # the kernel wants one width; columns of zeros change nothing
        widest = max(width, q.shape[2])
        q, k, v = (pad(t, (0, widest - t.shape[2])) for t in (q, k, v))
    if not GROUPED and q.shape[1] != k.shape[1]:
        k, v = (t.repeat_interleave(q.shape[1] // t.shape[1], 1) for t in (k, v))
    out, lse = Attend.apply(q, k, v, rectangles, pattern, scale)
    return out[..., :width], lse


# --- deciding -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Rectangle:
    """`count` equal blocks of queries with the keys they see: where the first of each begins, and the step to the next.

    `mask` is "none", "causal" (query i sees keys up to i), "band" (the pattern, query i standing at key i + behind) or
    "pad" (block b sees its first `real[b]` keys).
    """

    count: int
    queries: int
    keys: int
    mask: str
    query: int
    query_step: int
    key: int
    key_step: int
    behind: int = 0
    real: Tensor | None = None


@dataclass(frozen=True)
class Plan:
    """Rectangles on the pack as it lies, and rectangles on a stage, where row `rows[i]` of the pack stands at `slots[i]`."""

    direct: tuple[Rectangle, ...]
    staged: tuple[Rectangle, ...]
    rows: Tensor
    slots: Tensor
    room: int
    blind: bool  # some query sees no key
    overlap: bool  # some key is in two rectangles, or in none


def plan(offsets: Tensor, key_offsets: Tensor, pattern: Pattern, work: int) -> Plan:
    """Which rectangles to compute. `work` is heads times width: the multiply-adds behind one query-key pair."""
    other = None if key_offsets is offsets else key_offsets.numpy().tobytes()
    return _plan(offsets.numpy().tobytes(), other, pattern, work)


@lru_cache(256)
def _plan(offsets: bytes, key_offsets: bytes | None, pattern: Pattern, work: int) -> Plan:
    starts = np.frombuffer(offsets, np.int64)
    key_starts = starts if key_offsets is None else np.frombuffer(key_offsets, np.int64)
    direct, lonely, seeing = [], [], 0
    for q0, k0, count, n, m in _runs(starts, key_starts):
        for block in _blocks(n, m, pattern):
            i, queries, j, keys, mask, behind = block
            seeing += count * queries
            if key_offsets is None and mask != "band" and count * n * n * work < CALL:
                lonely.append((mask, n, q0, count))
            else:
                direct.append(Rectangle(count, queries, keys, mask, q0 + i, n, k0 + j, m, behind))
    if len(lonely) == 1:  # nothing to bring it together with
        mask, n, q0, count = lonely.pop()
        direct.append(Rectangle(count, n, n, mask, q0, n, q0, n))
    direct = _merged(direct)
    rows, slots, room, staged = _stage(lonely, work)
    once = key_starts[-1] == sum(r.count * r.keys for r in direct) + len(rows)
    return Plan(direct, staged, rows, slots, room, seeing < starts[-1], not once)


def _runs(starts: np.ndarray, key_starts: np.ndarray):
    """Runs of sequences with equal numbers of queries and keys: (first query row, first key row, count, n, m)."""
    lengths = np.stack([np.diff(starts), np.diff(key_starts)])
    new = np.flatnonzero((np.diff(lengths, prepend=-1) != 0).any(0))
    counts = np.diff(new, append=lengths.shape[1])
    return np.stack([starts[new], key_starts[new], counts, *lengths[:, new]], 1).tolist()


def _blocks(n: int, m: int, pattern: Pattern) -> list[tuple]:
    """One sequence of n queries and m keys, cut into (first query, queries, first key, keys, mask, behind)."""
    left = n + m if pattern.left is None else pattern.left
    right = n + m if pattern.right is None else pattern.right
    behind = m - n  # query i stands at key i + behind
    blind = max(0, -behind - right)  # leading queries that see nothing
    if m == 0 or n <= blind:
        return []
    sees_all_left, sees_all_right = left >= m - 1, right >= m - 1 - (behind + blind)
    if sees_all_left and sees_all_right:
        return [(blind, n - blind, 0, m, "none", 0)]
    if sees_all_left and right == 0 and behind == 0:
        return [(0, n, 0, m, "causal", 0)]
    reach = max(r for r in (pattern.left, pattern.right) if r is not None)
    size = min(max(reach, 32), BLOCK)
    blocks = []
    for i in range(blind, n, size):
        stop = min(i + size, n)
        lo, hi = max(0, i + behind - left), min(m, stop + behind + right)
        blocks.append((i, stop - i, lo, hi - lo, "band", i + behind - lo))
    return blocks


def _merged(rectangles: list[Rectangle]) -> tuple[Rectangle, ...]:
    """Single blocks of one shape at equal distances, as a window makes them in a long sequence, become one rectangle."""
    merged: list[Rectangle] = []
    for r in rectangles:
        if merged and r.count == 1:
            last = merged[-1]
            alike = (r.queries, r.keys, r.mask, r.behind) == (last.queries, last.keys, last.mask, last.behind)
            steps = (r.query - last.query, r.key - last.key)
            if alike and last.count == 1:
                merged[-1] = Rectangle(
                    2, r.queries, r.keys, r.mask, last.query, steps[0], last.key, steps[1], r.behind
                )
                continue
            if alike and steps == (last.count * last.query_step, last.count * last.key_step):
                fields = (
                    r.queries,
                    r.keys,
                    r.mask,
                    last.query,
                    last.query_step,
                    last.key,
                    last.key_step,
                    r.behind,
                )
                merged[-1] = Rectangle(last.count + 1, *fields)
                continue
        merged.append(r)
    return tuple(merged)


def _stage(lonely: list[tuple], work: int) -> tuple[Tensor, Tensor, int, tuple[Rectangle, ...]]:
    """Lonely runs (mask, length, first row, count), sorted by length, in groups padded to their longest.

    Where to cut is the cheapest partition, by dynamic programming over the distinct lengths.
    """
    kinds: dict[tuple[str, int], list[tuple[int, int]]] = {}
    for mask, n, q0, count in sorted(lonely):
        kinds.setdefault((mask, n), []).append((q0, count))
    keys = list(kinds)
    sizes = [sum(count for _, count in kinds[key]) for key in keys]
    cost, cut = [0], []
    for stop in range(1, len(keys) + 1):
        mask, longest = keys[stop - 1]
        options, members = [], 0
        for start in range(stop - 1, -1, -1):
            members += sizes[start]
            if keys[start][0] != mask or (members * longest**2 * work > 4 * CALL and start < stop - 1):
                break
            options.append((cost[start] + CALL + members * longest**2 * work, start))
        best, start = min(options)
        cost.append(best)
        cut.append(start)
    groups, stop = [], len(keys)
    while stop:
        groups.append(keys[cut[stop - 1] : stop])
        stop = cut[stop - 1]
    rows, slots, room, rectangles = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)], 0, []
    for group in groups:
        mask, longest = group[-1]
        lengths, first = [], room
        for key in group:
            for q0, count in kinds[key]:
                rows.append(np.arange(q0, q0 + count * key[1]))
                places = np.arange(count)[:, None] * longest + np.arange(key[1])
                slots.append(room + places.ravel())
                room += count * longest
                lengths += [key[1]] * count
        padded = mask == "none" and len(group) > 1
        real = torch.tensor(lengths) if padded else None
        mask = "pad" if padded else mask
        rectangles.append(
            Rectangle(len(lengths), longest, longest, mask, first, longest, first, longest, real=real)
        )
    return (
        torch.from_numpy(np.concatenate(rows)),
        torch.from_numpy(np.concatenate(slots)),
        room,
        tuple(rectangles),
    )


# --- doing ----------------------------------------------------------------------------------------------------------


class Attend(torch.autograd.Function):
    """The loop over a plan, and back. Gradients flow through out and lse; there is no double backward."""

    @staticmethod
    def forward(ctx, q, k, v, plan: Plan, pattern: Pattern, scale: float):
        ctx.set_materialize_grads(False)
        ctx.plan, ctx.pattern, ctx.scale = plan, pattern, scale
        stage = [_on_stage(t, plan) for t in (q, k, v)] if plan.staged else []
        if len(plan.direct) == 1 and not plan.staged and not plan.blind:
            out, lse = _compute(q, k, v, plan.direct[0], pattern, scale)
            out, lse = out.transpose(1, 2).flatten(0, 1), lse.transpose(1, 2).flatten(0, 1)
        else:
            wide = torch.promote_types(q.dtype, torch.float32)
            out, lse = (
                torch.empty_like(q, memory_format=torch.contiguous_format),
                q.new_empty(q.shape[:2], dtype=wide),
            )
            if plan.blind:
                out.zero_(), lse.fill_(-torch.inf)
            _compute_into(out, lse, q, k, v, plan.direct, pattern, scale)
            if plan.staged:
                staged_out, staged_lse = (
                    q.new_empty(plan.room, *q.shape[1:]),
                    lse.new_empty(plan.room, q.shape[1]),
                )
                _compute_into(staged_out, staged_lse, *stage, plan.staged, pattern, scale)
                out.index_copy_(0, plan.rows, staged_out.index_select(0, plan.slots))
                lse.index_copy_(0, plan.rows, staged_lse.index_select(0, plan.slots))
                stage += [staged_out, staged_lse]
        ctx.save_for_backward(q, k, v, out, lse, *stage)
        return out, lse

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad_out, grad_lse):
        q, k, v, out, lse, *stage = ctx.saved_tensors
        plan = ctx.plan
        if grad_out is None:
            grad_out = torch.zeros_like(out)
        again = (ctx.pattern, ctx.scale)
        if (
            len(plan.direct) == 1
            and not plan.staged
            and not plan.blind
            and not plan.overlap
            and grad_lse is None
        ):
            grads = _derive(grad_out, q, k, v, out, lse, plan.direct[0], *again)
            return *(g.transpose(1, 2).flatten(0, 1) for g in grads), None, None, None
        dtype = torch.promote_types(k.dtype, torch.float32) if plan.overlap else k.dtype
        dq = torch.zeros_like(q) if plan.blind else torch.empty_like(q, memory_format=torch.contiguous_format)
        dk, dv = ((k.new_zeros if plan.overlap else k.new_empty)(k.shape, dtype=dtype) for _ in range(2))
        _derive_into(dq, dk, dv, grad_out, grad_lse, q, k, v, out, lse, plan.direct, plan.overlap, *again)
        if plan.staged:
            staged_grads = [q.new_empty(stage[0].shape), *(k.new_empty(stage[1].shape) for _ in range(2))]
            staged_lse = None if grad_lse is None else _on_stage(grad_lse, plan)
            _derive_into(
                *staged_grads, _on_stage(grad_out, plan), staged_lse, *stage, plan.staged, False, *again
            )
            for grad, staged in zip((dq, dk, dv), staged_grads, strict=True):
                grad.index_copy_(0, plan.rows, staged.index_select(0, plan.slots).to(grad.dtype))
        return dq, dk.to(k.dtype), dv.to(v.dtype), None, None, None


def _on_stage(t: Tensor, plan: Plan) -> Tensor:
    return t.new_zeros(plan.room, *t.shape[1:]).index_copy_(0, plan.slots, t.index_select(0, plan.rows))


def _queries(t: Tensor, r: Rectangle) -> Tensor:
    """The rows of t under the rectangle's queries, as a view [count, H, queries, D] (lse: [count, H, queries])."""
    return _view(t, r.count, r.queries, r.query, r.query_step)


def _keys(t: Tensor, r: Rectangle) -> Tensor:
    return _view(t, r.count, r.keys, r.key, r.key_step)


def _view(t: Tensor, count: int, length: int, first: int, step: int) -> Tensor:
    row, head, *rest = t.stride()
    size, stride = (count, t.shape[1], length, *t.shape[2:]), (step * row, head, row, *rest)
    return t.as_strided(size, stride, t.storage_offset() + first * row)


def _mask(r: Rectangle, pattern: Pattern, like: Tensor) -> Tensor | None:
    if r.mask == "band":
        seen = visible(r.queries, r.keys, r.behind, pattern)[None, None]
    elif r.mask == "pad":
        seen = (torch.arange(r.keys) < r.real[:, None])[:, None, None]
    else:
        return None
    return torch.zeros(seen.shape, dtype=like.dtype).masked_fill_(~seen, -torch.inf)


def _compute(q, k, v, r: Rectangle, pattern: Pattern, scale: float):
    mask = _mask(r, pattern, q)
    return kernel(
        _queries(q, r), _keys(k, r), _keys(v, r), 0.0, r.mask == "causal", attn_mask=mask, scale=scale
    )


def _compute_into(out, lse, q, k, v, rectangles, pattern, scale):
    for r in rectangles:
        o, l = _compute(q, k, v, r, pattern, scale)
        _queries(out, r).copy_(o)
        _queries(lse, r).copy_(l)


def _derive(grad, q, k, v, out, lse, r: Rectangle, pattern: Pattern, scale: float):
    operands = (
        _queries(grad, r),
        _queries(q, r),
        _keys(k, r),
        _keys(v, r),
        _queries(out, r),
        _queries(lse, r),
    )
    return kernel_backward(*operands, 0.0, r.mask == "causal", attn_mask=_mask(r, pattern, q), scale=scale)


def _derive_into(dq, dk, dv, grad, grad_lse, q, k, v, out, lse, rectangles, overlap, pattern, scale):
    """With ds = w * (grad . v - sum(grad * out) + grad_lse): an extra column that is 0 in v, 1 in grad and -grad_lse in
    out adds just the last term, so that the kernel need not know of it."""
    width = q.shape[2]
    if grad_lse is not None:
        q, k, v, out, grad = (pad(t, (0, 1)) for t in (q, k, v, out, grad))
        out[..., -1], grad[..., -1] = -grad_lse, 1
    for r in rectangles:
        gq, gk, gv = _derive(grad, q, k, v, out, lse, r, pattern, scale)
        _queries(dq, r).copy_(gq[..., :width])
        for total, part in ((dk, gk), (dv, gv)):
            part = part[..., :width]
            if overlap:
                rows = r.key + torch.arange(r.count)[:, None] * r.key_step + torch.arange(r.keys)
                total.index_add_(0, rows.flatten(), part.transpose(1, 2).flatten(0, 1).to(total.dtype))
            else:
                _keys(total, r).copy_(part)
