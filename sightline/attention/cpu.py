"""Attention on the CPU: PyTorch's own flash kernel, called once for many sequences at a time, on views where it can.

The kernel takes dense rectangles [count, queries, keys]. A pure function, `plan`, decides which: equal lengths that lie
side by side are one rectangle, seen through strides without a copy; lonely lengths are first brought together on a
stage, sorted and padded a little where that costs less than one more call; a window is cut into blocks of queries with
just the keys they see. What touches tensors is a loop over the plan. Memory is linear in the rows.

The kernel: `aten::_scaled_dot_product_flash_attention_for_cpu`. Source: Dao et al. 2022, algorithm 1.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from sightline.attention.pattern import Pattern
from sightline.attention.reference import visible
from sightline.attention.request import Request

kernel = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
kernel_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward
GROUPED = tuple(int(n) for n in torch.__version__.split(".")[:2]) >= (
    2,
    13,
)  # older kernels want k as wide as q

# What things cost on a CPU with 512-bit vectors, in nanoseconds, forward and backward together: only their ratios matter.
CALL = 250_000  # one more call
PAIR, PAIR_WIDTH = 4, 1 / 6  # one query-key pair of one head, and as much for each number of the head's width
TAIL = 15  # one exponential beyond the last 16 in a row, which the kernel computes one by one
COPY = 3  # one number of one row, brought onto the stage and back
BLOCK = 256  # a window's queries at once: its mask is BLOCK x (BLOCK + window)


def refuses(request: Request) -> str | None:
    q, bias = request.q, request.bias
    if q.device.type != "cpu":
        return (
            f"cpu: expected tensors on the CPU, got {q.device}; move them, or leave the backend to be chosen"
        )
    if request.dropout:
        return "cpu: has no dropout on weights; set dropout=0, or use backend='blockwise'"
    if request.softcap is not None:
        return "cpu: has no softcap; leave it out, or use backend='blockwise'"
    if bias is not None and bias.requires_grad and torch.is_grad_enabled():
        return "cpu: has no gradient of bias; detach it, or use backend='blockwise'"
    return None


def attend(request: Request) -> tuple[Tensor, Tensor]:
    q, k, v, *_, bias, _ = request
    rectangles = plan(request)
    width = v.shape[2]
    if width != q.shape[2]:  # the kernel wants one width; columns of zeros change nothing
        widest = max(width, q.shape[2])
        q, k, v = (pad(t, (0, widest - t.shape[2])) for t in (q, k, v))
    if not GROUPED and q.shape[1] != k.shape[1]:
        k, v = (t.repeat_interleave(q.shape[1] // t.shape[1], 1) for t in (k, v))
    if bias is not None:  # of the dtype of q, or the kernel misreads it; and its rows whole
        bias = bias.to(q.dtype)
        bias = bias if bias.stride(3) == 1 else bias.contiguous()
    out, lse = Attend.apply(q, k, v, bias, rectangles, request.pattern, request.scale)
    return out[..., :width], lse


# --- deciding -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Rectangle:
    """`count` equal blocks of queries with the keys they see: where the first of each begins, and the step to the next.

    `mask` is "none", "causal" (query i sees keys up to i), "band" (the pattern, query i standing at key i + behind) or
    "pad" (`hidden` [count, 1, 1, keys] is -inf at the keys that only fill up). A bias finds its place by `sequence`, the
    first of the `count`, and by `i` and `j`, the first query and key in each.
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
    hidden: Tensor | None = None
    sequence: int = 0
    i: int = 0
    j: int = 0


@dataclass(frozen=True)
class Plan:
    """Rectangles on the pack as it lies, and rectangles on a stage: there slot i holds row `source[i]` of the pack, row
    `rows[i]` stands at slot `slots[i]`, and the slots `spare` only fill up."""

    direct: tuple[Rectangle, ...]
    staged: tuple[Rectangle, ...]
    source: Tensor
    rows: Tensor
    slots: Tensor
    spare: Tensor
    blind: bool  # some query sees no key
    overlap: bool  # some key is in two rectangles, or in none


def plan(request: Request) -> Plan:
    """Which rectangles to compute for so many heads of this width: a pure function, remembered for the next layer."""
    q, _, _, offsets, key_offsets, pattern, *_ = request
    other = None if key_offsets is offsets else key_offsets.numpy().tobytes()
    return _plan(offsets.numpy().tobytes(), other, pattern, *q.shape[1:], request.bias is not None)


@lru_cache(256)
def _plan(
    offsets: bytes, key_offsets: bytes | None, pattern: Pattern, heads: int, width: int, biased: bool
) -> Plan:
    """With a bias, each run of equal lengths stays one rectangle by itself, so that the bias is a view too."""
    starts = np.frombuffer(offsets, np.int64)
    key_starts = starts if key_offsets is None else np.frombuffer(key_offsets, np.int64)
    direct, squares, seeing = [], [], 0
    for sequence, q0, k0, count, n, m in equal_runs(starts, key_starts):
        for i, queries, j, keys, mask, behind in _blocks(n, m, pattern):
            seeing += count * queries
            if key_offsets is None and mask != "band" and not biased:
                squares.append((n, q0, count))
            else:
                rows = q0 + i, n, k0 + j, m
                direct.append(Rectangle(count, queries, keys, mask, *rows, behind, None, sequence, i, j))
    mask = "causal" if pattern.right == 0 else "none"
    groups = _partition(sorted(squares), heads, width)
    direct += [Rectangle(count, n, n, mask, q0, n, q0, n) for n, q0, count in groups.pop(0, [])]
    staged, stage = _stage(groups, mask)
    once = key_starts[-1] == sum(r.count * r.keys for r in direct) + len(stage[1])
    return Plan(tuple(direct) if biased else _merged(direct), staged, *stage, seeing < starts[-1], not once)


def equal_runs(starts: np.ndarray, key_starts: np.ndarray):
    """Runs of sequences with equal numbers of queries and keys: (first sequence, its first query row and key row, count, n, m)."""
    lengths = np.stack([np.diff(starts), np.diff(key_starts)])
    new = np.flatnonzero((np.diff(lengths, prepend=-1) != 0).any(0))
    counts = np.diff(new, append=lengths.shape[1])
    return np.stack([new, starts[new], key_starts[new], counts, *lengths[:, new]], 1).tolist()


def _blocks(n: int, m: int, pattern: Pattern) -> list[tuple]:
    """One sequence of n queries and m keys, cut into (first query, queries, first key, keys, mask, behind)."""
    left = n + m if pattern.left is None else pattern.left
    right = n + m if pattern.right is None else pattern.right
    behind = m - n  # query i stands at key i + behind
    blind = max(0, -behind - right)  # leading queries that see nothing
    if m == 0 or n <= blind:
        return []
    sees_all_left, sees_all_right = left >= m - 1, right >= m - 1 - (behind + blind)
    if sees_all_left and right == 0 and behind == 0:
        return [(0, n, 0, m, "causal", 0)]
    if sees_all_left and sees_all_right:
        return [(blind, n - blind, 0, m, "none", 0)]
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


def _partition(squares: list[tuple], heads: int, width: int) -> dict[int, list[tuple]]:
    """Runs (length, first row, count), sorted, put where they cost least: under 0 those left as they lie, one call each;
    under a length those that are padded to it on the stage, one call in all. The cheapest cut of the distinct lengths,
    by dynamic programming.
    """
    if not squares:
        return {}
    runs, count = np.array([n for n, *_ in squares]), [c for *_, c in squares]
    lengths, index = np.unique(runs, return_inverse=True)
    members, calls = np.bincount(index, count), np.bincount(index)

    def compute(n):
        return heads * n * (n * (PAIR + width * PAIR_WIDTH) + TAIL * (n % 16))

    aligned = -(-lengths // 16) * 16
    padded = np.where(compute(lengths) <= compute(aligned), lengths, aligned)
    on_stage = (compute(padded) + padded * COPY * heads * width).tolist()
    as_it_lies = (calls * CALL + members * compute(lengths)).tolist()
    firsts = np.searchsorted(lengths, (lengths - 16) // 2).tolist()  # to pad more than that never pays
    total = np.concatenate([[0], members.cumsum()])
    best, cuts = np.zeros(len(lengths) + 1), [(0, 0)]
    for last, first in enumerate(firsts):
        options = best[first : last + 1] + (total[last + 1] - total[first : last + 1]) * on_stage[last]
        start = int(options.argmin())
        staged, direct = options[start] + CALL, best[last] + as_it_lies[last]
        best[last + 1] = min(staged, direct)
        cuts.append((last, 0) if direct <= staged else (first + start, int(padded[last])))
    where, stop = {}, len(lengths)
    while stop:
        start, padded = cuts[stop]
        where.update(dict.fromkeys(lengths[start:stop].tolist(), padded))
        stop = start
    groups: dict[int, list[tuple]] = {}
    for square in squares:
        groups.setdefault(where[square[0]], []).append(square)
    return groups


def _stage(groups: dict[int, list[tuple]], mask: str) -> tuple[tuple[Rectangle, ...], tuple[Tensor, ...]]:
    """Each group (runs under the length they are padded to) one rectangle; and the slots, as `Plan` has them."""
    rectangles, source, spare, room = [], [], [], 0
    for padded, squares in groups.items():
        first = np.concatenate([q0 + n * np.arange(count) for n, q0, count in squares])
        real = np.concatenate([np.full(count, n) for n, _, count in squares])
        place = np.arange(padded)
        source.append((first[:, None] + np.minimum(place, real[:, None] - 1)).ravel())
        spare.append((place >= real[:, None]).ravel())
        kind = "pad" if mask == "none" and spare[-1].any() else mask
        hidden = np.where(place < real[:, None], 0, -np.inf).astype(np.float32)[:, None, None]
        hidden = torch.from_numpy(hidden) if kind == "pad" else None
        rectangles.append(
            Rectangle(len(first), padded, padded, kind, room, padded, room, padded, hidden=hidden)
        )
        room += len(source[-1])
    source, spare = (
        np.concatenate([np.zeros(0, kind), *parts]) for parts, kind in ((source, np.int64), (spare, bool))
    )
    slots = np.flatnonzero(~spare)
    order = np.argsort(source[slots], kind="stable")
    slots = slots[order]
    return tuple(rectangles), tuple(
        map(torch.from_numpy, (source, source[slots], slots, np.flatnonzero(spare)))
    )


# --- doing ----------------------------------------------------------------------------------------------------------


class Attend(torch.autograd.Function):
    """The loop over a plan, and back. Gradients flow through out and lse; there is no double backward."""

    @staticmethod
    def forward(ctx, q, k, v, bias, plan: Plan, pattern: Pattern, scale: float):
        ctx.set_materialize_grads(False)
        ctx.plan, ctx.how = plan, (pattern, scale)
        stage = []
        if len(plan.direct) == 1 and not (
            plan.staged or plan.blind
        ):  # one dense array: nothing to put together
            out, lse = (
                t.transpose(1, 2).flatten(0, 1)
                for t in _compute(_rows(q), _rows(k), _rows(v), plan.direct[0], bias, *ctx.how)
            )
        else:
            out = q.new_empty(q.shape)
            lse = q.new_empty(q.shape[:2], dtype=torch.promote_types(q.dtype, torch.float32))
            if plan.blind:
                out.zero_(), lse.fill_(-torch.inf)
            _compute_into(out, lse, q, k, v, plan.direct, bias, *ctx.how)
            if plan.staged:
                stage = [t.index_select(0, plan.source) for t in (q, k, v)]
                stage += [out.new_empty(stage[0].shape), lse.new_empty(stage[0].shape[:2])]
                _compute_into(*stage[3:], *stage[:3], plan.staged, None, *ctx.how)
                out, lse = (_off_stage(t, rest, plan) for t, rest in zip(stage[3:], (out, lse), strict=True))
        ctx.save_for_backward(q, k, v, bias, out, lse, *stage)
        return out, lse

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad_out, grad_lse):
        q, k, v, bias, out, lse, *stage = ctx.saved_tensors
        plan = ctx.plan
        if grad_out is None:
            grad_out = torch.zeros_like(out)
        if len(plan.direct) == 1 and not (plan.staged or plan.blind or plan.overlap) and grad_lse is None:
            operands = map(_rows, (grad_out, q, k, v, out, lse))
            grads = _derive(*operands, plan.direct[0], bias, *ctx.how)
            return *(g.transpose(1, 2).flatten(0, 1) for g in grads), None, None, None, None
        sums = torch.promote_types(k.dtype, torch.float32) if plan.overlap else k.dtype
        grads = [q.new_empty(q.shape), k.new_empty(k.shape, dtype=sums), v.new_empty(v.shape, dtype=sums)]
        for grad in grads[0 if plan.blind else 1 : 3 if plan.overlap else 1]:
            grad.zero_()
        _derive_into(grads, grad_out, grad_lse, q, k, v, out, lse, plan.direct, plan.overlap, bias, *ctx.how)
        if plan.staged:
            given = [
                g if g is None else g.index_select(0, plan.source).index_fill_(0, plan.spare, 0)
                for g in (grad_out, grad_lse)
            ]
            staged = [torch.empty_like(t) for t in stage[:3]]
            _derive_into(staged, *given, *stage, plan.staged, False, None, *ctx.how)
            grads = [_off_stage(t, rest, plan) for t, rest in zip(staged, grads, strict=True)]
        return *(g.to(q.dtype) for g in grads), None, None, None, None


def _off_stage(staged: Tensor, rest: Tensor, plan: Plan) -> Tensor:
    back = staged.index_select(0, plan.slots)
    return back if len(back) == len(rest) else rest.index_copy_(0, plan.rows, back.to(rest.dtype))


def _rows(t: Tensor) -> Callable[[Rectangle, bool], Tensor]:
    """The rows of t under a rectangle's queries or keys, as a view [count, H, rows, D] (of lse: [count, H, rows])."""
    (row, head, *rest), (_, heads, *width), offset = t.stride(), t.shape, t.storage_offset()

    def under(r: Rectangle, keys: bool = False) -> Tensor:
        first, step, rows = (r.key, r.key_step, r.keys) if keys else (r.query, r.query_step, r.queries)
        return t.as_strided(
            (r.count, heads, rows, *width), (step * row, head, row, *rest), offset + first * row
        )

    return under


def _mask(r: Rectangle, bias: Tensor | None, pattern: Pattern, dtype: torch.dtype) -> Tensor | None:
    mask = None if r.hidden is None else r.hidden.to(dtype)
    if r.mask == "band":
        seen = visible(r.queries, r.keys, r.behind, pattern)[None, None]
        mask = torch.zeros(seen.shape, dtype=dtype).masked_fill_(~seen, -torch.inf)
    if bias is None:
        return mask
    its_bias = bias if len(bias) == 1 else bias[r.sequence : r.sequence + r.count]
    its_bias = its_bias[:, :, r.i : r.i + r.queries, r.j : r.j + r.keys]
    return its_bias if mask is None else its_bias + mask


def _compute(q, k, v, r: Rectangle, bias: Tensor | None, pattern: Pattern, scale: float):
    """q, k and v as `_rows` gives them."""
    q, causal = q(r), r.mask == "causal"
    mask = _mask(r, bias, pattern, q.dtype)
    out, lse = kernel(q, k(r, True), v(r, True), 0.0, causal, attn_mask=mask, scale=scale)
    if bias is not None and not lse.all():  # where a bias of -inf hides all keys, the kernel says lse = 0
        hidden = mask == -torch.inf
        if causal:
            hidden = hidden | ~visible(r.queries, r.keys, 0, pattern)
        lse.masked_fill_(hidden.all(-1), -torch.inf)
    return out, lse


def _compute_into(out, lse, q, k, v, rectangles, bias, pattern, scale):
    out, lse, *operands = map(_rows, (out, lse, q, k, v))
    for r in rectangles:
        o, l = _compute(*operands, r, bias, pattern, scale)
        out(r).copy_(o)
        lse(r).copy_(l)


def _derive(grad, q, k, v, out, lse, r: Rectangle, bias: Tensor | None, pattern: Pattern, scale: float):
    q, lse, causal = q(r), lse(r), r.mask == "causal"
    if bias is not None:  # back to what the kernel said
        lse = lse.masked_fill(lse == -torch.inf, 0)
    operands = (grad(r), q, k(r, True), v(r, True), out(r), lse)
    return kernel_backward(*operands, 0.0, causal, attn_mask=_mask(r, bias, pattern, q.dtype), scale=scale)


def _derive_into(grads, grad, grad_lse, q, k, v, out, lse, rectangles, overlap, bias, pattern, scale):
    """With ds = w * (grad . v - sum(grad * out) + grad_lse): an extra column that is 0 in v, 1 in grad and -grad_lse in
    out adds just the last term, so that the kernel need not know of it."""
    width = q.shape[2]
    if grad_lse is not None:
        q, k, v, out, grad = (pad(t, (0, 1)) for t in (q, k, v, out, grad))
        out[..., -1], grad[..., -1] = -grad_lse, 1
    operands = [_rows(t) for t in (grad, q, k, v, out, lse)]
    into = [_rows(t) for t in grads]
    for r in rectangles:
        parts = _derive(*operands, r, bias, pattern, scale)
        if grad_lse is not None:
            parts = [part[..., :width] for part in parts]
        into[0](r).copy_(parts[0])
        for i in (1, 2):
            if overlap:
                rows = r.key + torch.arange(r.count)[:, None] * r.key_step + torch.arange(r.keys)
                part = parts[i].transpose(1, 2).flatten(0, 1).to(grads[i].dtype)
                grads[i].index_add_(0, rows.flatten(), part)
            else:
                into[i](r, True).copy_(parts[i])
