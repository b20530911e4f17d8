"""Attention by tiles of scores, in plain PyTorch: on any device, for what the fast kernels refuse (dropout, float32 on a GPU).

A block of queries meets its keys tile by tile. Whenever a larger score m appears, the sums made so far are rescaled, so
that one tile of scores is all that is ever held, and the result is exact:

    m' = max(m, max_j s_ij)
    l' = l exp(m - m') + sum_j exp(s_ij - m')           in the end lse = m + log l
    o' = o exp(m - m') + sum_j exp(s_ij - m') v_j       in the end out = o / l

The way back makes each tile's weights again, from lse. Sums run in float32 or wider, whatever the input.
Source: Milakov & Gimelshein 2018 (the rescaling); Dao et al. 2022, algorithms 1 and 4 (forward and backward).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from sightline.attention.cpu import equal_runs
from sightline.attention.pattern import Pattern
from sightline.attention.reference import visible

BLOCK = 256  # queries of one sequence at a time, and the fewest keys in a tile that is not the last
TILE = 2**21  # scores held at once, over all heads and sequences that go together


def refuses(q: Tensor, k: Tensor, v: Tensor, pattern: Pattern, dropout: float) -> str | None:
    return None


def attend(q, k, v, offsets, key_offsets, pattern, scale, dropout):
    strips = plan(offsets, key_offsets, pattern, q.shape[1])
    seed = int(torch.randint(2**62, ())) if dropout else 0
    return Attend.apply(q, k, v, strips, pattern, scale, dropout, seed)


@dataclass(frozen=True)
class Strip:
    """Queries `start` to `stop` of each of `count` sequences, which have n queries and m keys each and lie side by side.

    `tiles` are the ranges of keys (from, to) in each sequence that these queries see; query i stands at key i + m - n.
    """

    count: int
    n: int
    m: int
    query: int  # the first sequence's first row in q
    key: int  # and in k
    start: int
    stop: int
    tiles: tuple[tuple[int, int], ...]

    def queries(self, t: Tensor) -> Tensor:
        """A view [count, H, queries, ...] of t [T, H, ...]."""
        rows = t[self.query : self.query + self.count * self.n].unflatten(0, (self.count, self.n))
        return rows[:, self.start : self.stop].transpose(1, 2)

    def keys(self, t: Tensor, tile: tuple[int, int]) -> Tensor:
        """A view [count, G, keys, D] of t [R, G, D]."""
        rows = t[self.key : self.key + self.count * self.m].unflatten(0, (self.count, self.m))
        return rows[:, slice(*tile)].transpose(1, 2)


def plan(offsets: Tensor, key_offsets: Tensor, pattern: Pattern, heads: int) -> tuple[Strip, ...]:
    """The strips to compute: every query that sees a key is in one, with every key that it sees."""
    return _plan(offsets.numpy().tobytes(), key_offsets.numpy().tobytes(), pattern, heads)


@lru_cache(256)
def _plan(offsets: bytes, key_offsets: bytes, pattern: Pattern, heads: int) -> tuple[Strip, ...]:
    starts, key_starts = np.frombuffer(offsets, np.int64), np.frombuffer(key_offsets, np.int64)
    strips = []
    for query, key, count, n, m in equal_runs(starts, key_starts):
        for start in range(0, n, BLOCK):
            stop = min(start + BLOCK, n)
            lo = 0 if pattern.left is None else max(0, start + m - n - pattern.left)
            hi = m if pattern.right is None else min(m, stop + m - n + pattern.right)
            if hi <= lo:
                continue
            wide = max(BLOCK, TILE // (heads * (stop - start)))
            tiles = tuple((j, min(j + wide, hi)) for j in range(lo, hi, wide))
            together = max(1, TILE // (heads * (stop - start) * min(wide, hi - lo)))
            for s in range(0, count, together):
                rows = (query + s * n, key + s * m, start, stop)
                strips.append(Strip(min(together, count - s), n, m, *rows, tiles))
    return tuple(strips)


class Attend(torch.autograd.Function):
    """The loop over strips and tiles, and back. Gradients flow through out and lse; there is no double backward."""

    @staticmethod
    def forward(ctx, q, k, v, strips, pattern, scale, dropout, seed):
        ctx.set_materialize_grads(False)
        ctx.request = strips, pattern, scale, dropout, seed
        wide = torch.promote_types(q.dtype, torch.float32)
        out = q.new_zeros(*q.shape[:2], v.shape[2])
        lse = q.new_full(q.shape[:2], -torch.inf, dtype=wide)
        with torch.autocast(q.device.type, enabled=False):
            dice = torch.Generator(q.device).manual_seed(seed)
            for strip in strips:
                o, l = _mix(q, k, v, strip, pattern, scale, dropout, dice)
                strip.queries(out).copy_(o)
                strip.queries(lse).copy_(l)
        ctx.save_for_backward(q, k, v, out, lse)
        return out, lse

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad_out, grad_lse):
        return *derive(grad_out, grad_lse, *ctx.saved_tensors, *ctx.request), *[None] * 5


def derive(grad_out, grad_lse, q, k, v, out, lse, strips, pattern, scale, dropout=0.0, seed=0):
    """The gradients of q, k and v, whichever backend made out and lse; a gradient that is None counts as zero."""
    wide = lse.dtype
    dq = torch.zeros_like(q, memory_format=torch.contiguous_format)
    dk, dv = (torch.zeros(t.shape, dtype=wide, device=t.device) for t in (k, v))
    with torch.autocast(q.device.type, enabled=False):
        dice = torch.Generator(q.device).manual_seed(seed)
        for strip in strips:
            grads = _unmix(grad_out, grad_lse, q, k, v, out, lse, strip, pattern, scale, dropout, dice)
            strip.queries(dq).copy_(grads[0])
            for tile, gk, gv in zip(strip.tiles, *grads[1:], strict=True):
                strip.keys(dk, tile).add_(gk)
                strip.keys(dv, tile).add_(gv)
    return dq, dk.to(k.dtype), dv.to(v.dtype)


def _mix(q, k, v, strip: Strip, pattern: Pattern, scale, dropout, dice):
    """out [count, H, queries, Dv] and lse [count, H, queries] of one strip."""
    groups, wide = k.shape[1], torch.promote_types(q.dtype, torch.float32)
    qs = _grouped(strip.queries(q), groups, wide) * scale
    peak = qs.new_full((*qs.shape[:3], 1), -torch.inf)
    total, mixed = torch.zeros_like(peak), qs.new_zeros(*qs.shape[:3], v.shape[2])
    for tile in strip.tiles:
        scores = _scores(qs, k, strip, tile, pattern)
        higher = torch.maximum(peak, scores.amax(-1, keepdim=True))
        base = higher.masked_fill(higher == -torch.inf, 0)  # nothing seen yet: -inf less -inf would be NaN
        weights, shrink = (scores - base).exp_(), (peak - base).exp_()
        total = total * shrink + weights.sum(-1, keepdim=True)
        if dropout:
            weights *= _kept(weights, dropout, dice)
        mixed = mixed * shrink + weights @ strip.keys(v, tile).to(wide)
        peak = higher
    out = mixed / total.masked_fill(total == 0, 1)
    return _ungrouped(out, q.shape[1]), _ungrouped(base + total.log(), q.shape[1])[..., 0]


def _unmix(grad_out, grad_lse, q, k, v, out, lse, strip: Strip, pattern: Pattern, scale, dropout, dice):
    """The gradient of the strip's queries [count, H, queries, D], and for each tile those of its keys and its values.

    With w the weights and z the dropout's 0 or 1 / (1 - p):  dv = (w z)^T grad,
    ds = w (z (grad v^T) - sum(grad out) + grad_lse),  dq = scale ds k,  dk = scale ds^T q.
    """
    groups, wide = k.shape[1], lse.dtype
    qs = _grouped(strip.queries(q), groups, wide) * scale
    level = _grouped(strip.queries(lse)[..., None], groups, wide)
    level = level.masked_fill(level == -torch.inf, 0)
    grad = torch.zeros_like(out) if grad_out is None else grad_out
    grad, mixed = (_grouped(strip.queries(t), groups, wide) for t in (grad, out))
    slope = (grad * mixed).sum(-1, keepdim=True)
    if grad_lse is not None:
        slope = slope - _grouped(strip.queries(grad_lse)[..., None], groups, wide)
    dq, dk, dv = torch.zeros_like(qs), [], []
    for tile in strip.tiles:
        weights = (_scores(qs, k, strip, tile, pattern) - level).exp_()
        ds = grad @ strip.keys(v, tile).to(wide).mT
        if dropout:
            kept = _kept(weights, dropout, dice)
            dv.append((weights * kept).mT @ grad)
            ds *= kept
        else:
            dv.append(weights.mT @ grad)
        ds = (ds - slope).mul_(weights)
        dq += ds @ strip.keys(k, tile).to(wide)
        dk.append(ds.mT @ qs)
    return _ungrouped(dq * scale, q.shape[1]), dk, dv


def _scores(qs: Tensor, k: Tensor, strip: Strip, tile: tuple[int, int], pattern: Pattern) -> Tensor:
    """Scores [count, G, H / G * queries, keys] of scaled queries; -inf where the pattern hides the key."""
    scores = qs @ strip.keys(k, tile).to(qs.dtype).mT
    queries, (lo, hi) = strip.stop - strip.start, tile
    behind = strip.start + strip.m - strip.n - lo
    sees_left = pattern.left is None or queries - 1 + behind <= pattern.left
    sees_right = pattern.right is None or hi - lo - 1 - behind <= pattern.right
    if not (sees_left and sees_right):
        hidden = ~visible(queries, hi - lo, behind, pattern, qs.device)
        scores.unflatten(2, (-1, queries)).masked_fill_(hidden, -torch.inf)
    return scores


def _kept(weights: Tensor, dropout: float, dice: torch.Generator) -> Tensor:
    return torch.empty_like(weights).bernoulli_(1 - dropout, generator=dice).div_(1 - dropout)


def _grouped(t: Tensor, groups: int, dtype: torch.dtype) -> Tensor:
    """[count, H, queries, D] -> [count, G, H / G * queries, D]: all queries that share a key head stand together."""
    return t.to(dtype).unflatten(1, (groups, -1)).flatten(2, 3)


def _ungrouped(t: Tensor, heads: int) -> Tensor:
    count, groups, _, width = t.shape
    return t.reshape(count, heads, -1, width)
