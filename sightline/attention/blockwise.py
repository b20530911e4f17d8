"""Attention by tiles of scores, in plain PyTorch, on any device: for what the fast kernels refuse.

A block of queries meets its keys tile by tile. When a larger score m appears, the sums so far are rescaled, so that
only one tile of scores is in memory, and the result is exact:

    m' = max(m, max_j s_ij)
    l' = l exp(m - m') + sum_j exp(s_ij - m')           in the end lse = m + log l
    o' = o exp(m - m') + sum_j exp(s_ij - m') v_j       in the end out = o / l

Backward computes each tile's weights again, from lse. Sums run in float32 or wider, whatever the input. Softcap and
bias are applied to the tile; a bias is read in place and never copied whole.
Source: Milakov & Gimelshein 2018 (the rescaling); Dao et al. 2022, algorithms 1 and 4 (forward and backward).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sightline.attention import exact
from sightline.attention.reference import visible
from sightline.attention.request import Request
from sightline.attention.single_backward import Grad, once
from sightline.attention.strips import Strip, dropout_mask, plan


def refuses(request: Request) -> str | None:
    return None


def attend(request: Request) -> tuple[Tensor, Tensor]:
    seed = int(torch.randint(2**62, (), device="cpu")) if request.dropout else 0
    return Attend.apply(*_tensors(request), request.without_tensors(), seed)


def _tensors(request: Request) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    return request.q, request.k, request.v, request.bias


class Attend(torch.autograd.Function):
    """The loop over strips and tiles, forward and backward. Gradients flow through out and lse."""

    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, rest: Request, seed: int
    ) -> tuple[Tensor, Tensor]:
        ctx.set_materialize_grads(False)
        ctx.rest, ctx.seed = rest, seed
        request = rest._replace(q=q, k=k, v=v, bias=bias)
        out = q.new_zeros(*q.shape[:2], v.shape[2])
        lse = q.new_full(q.shape[:2], -torch.inf, dtype=torch.promote_types(q.dtype, torch.float32))
        with torch.autocast(q.device.type, enabled=False):
            dice = torch.Generator(q.device).manual_seed(seed)
            for strip in plan(request):
                o, l = _mix(request, strip, dice)
                strip.queries(out).copy_(o)
                strip.queries(lse).copy_(l)
        out, lse, ctx.failed = exact.checked(out, lse, request, seed=seed)
        ctx.save_for_backward(q, k, v, bias, out, lse)
        return out, lse

    @once
    def backward(ctx: Any, grad_out: Grad, grad_lse: Grad) -> tuple[Any, ...]:
        *tensors, out, lse = ctx.saved_tensors
        seed, request = ctx.seed, ctx.rest._replace(**dict(zip(("q", "k", "v", "bias"), tensors, strict=True)))
        grads = derive(grad_out, grad_lse, out, lse, request, ctx.needs_input_grad[3], seed)
        return *exact.corrected(grads, ctx.failed, lse, grad_out, grad_lse, request, seed), None, None


def derive(
    grad_out: Grad, grad_lse: Grad, out: Tensor, lse: Tensor, request: Request, biased: bool = False, seed: int = 0
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """The gradients of q, k, v and (if `biased`) bias, for out and lse of any backend; a gradient of None is zero."""
    q, k, v, bias = _tensors(request)
    bias = bias if biased else None
    dq = torch.zeros_like(q, memory_format=torch.contiguous_format)
    sums = (k, v) if bias is None else (k, v, bias)
    dk, dv, *db = (torch.zeros(t.shape, dtype=lse.dtype, device=t.device) for t in sums)
    with torch.autocast(q.device.type, enabled=False):
        dice = torch.Generator(q.device).manual_seed(seed)
        for strip in plan(request):
            into = [strip.pairs(t, (0, strip.m)) for t in db]
            grads = _unmix(grad_out, grad_lse, out, lse, request, strip, dice, *into)
            strip.queries(dq).copy_(grads[0])
            for tile, gk, gv in zip(strip.tiles, *grads[1:], strict=True):
                strip.keys(dk, tile).add_(gk)
                strip.keys(dv, tile).add_(gv)
    return dq, dk.to(k.dtype), dv.to(v.dtype), None if bias is None else db[0].to(bias.dtype)


def _mix(request: Request, strip: Strip, dice: Any) -> tuple[Tensor, Tensor]:
    """out [count, H, queries, Dv] and lse [count, H, queries] of one strip."""
    q, _, v, *_ = request
    groups, wide = v.shape[1], torch.promote_types(q.dtype, torch.float32)
    qs = _grouped(strip.queries(q), groups, wide) * request.scale
    base = peak = qs.new_full((*qs.shape[:3], 1), -torch.inf)
    total, mixed = torch.zeros_like(peak), qs.new_zeros(*qs.shape[:3], v.shape[2])
    for tile in strip.tiles:
        scores, _ = _scores(qs, request, strip, tile)
        higher = torch.maximum(peak, scores.amax(-1, keepdim=True))
        base = higher.masked_fill(higher == -torch.inf, 0)  # no key seen yet: -inf - -inf is NaN
        weights, shrink = (scores - base).exp_(), (peak - base).exp_()
        total = total * shrink + weights.sum(-1, keepdim=True)
        if request.dropout:
            weights *= dropout_mask(weights, request.dropout, dice)
        mixed = mixed * shrink + weights @ strip.keys(v, tile).to(wide)
        peak = higher
    out = mixed / total.masked_fill(total == 0, 1)
    return _ungrouped(out, q.shape[1]), _ungrouped(base + total.log(), q.shape[1])[..., 0]


def _unmix(
    grad_out: Grad, grad_lse: Grad, out: Tensor, lse: Tensor, request: Request, strip: Strip, dice: Any, db: Grad = None
) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    """The gradient of the strip's queries [count, H, queries, D], and for each tile those of its keys and its values;
    that of bias is added to `db` [count or 1, H or 1, queries, m].

    With w the weights, z the dropout's 0 or 1 / (1 - p) and t the tanh of a softcap:  dv = (w z)^T grad,
    ds = w (z (grad v^T) - sum(grad out) + grad_lse) = dbias,  and with ds (1 - t^2) for ds:  dq = scale ds k,
    dk = scale ds^T q.
    """
    q, k, v, *_ = request
    groups, wide = k.shape[1], lse.dtype
    qs = _grouped(strip.queries(q), groups, wide) * request.scale
    level = _grouped(strip.queries(lse)[..., None], groups, wide)
    level = level.masked_fill(level == -torch.inf, 0)
    grad = torch.zeros_like(out) if grad_out is None else grad_out
    grad, mixed = (_grouped(strip.queries(t), groups, wide) for t in (grad, out))
    slope = (grad * mixed).sum(-1, keepdim=True)
    if grad_lse is not None:
        slope = slope - _grouped(strip.queries(grad_lse)[..., None], groups, wide)
    dq, dk, dv = torch.zeros_like(qs), list[Tensor](), list[Tensor]()
    for tile in strip.tiles:
        scores, tanh = _scores(qs, request, strip, tile)
        weights = (scores - level).exp_()
        ds = grad @ strip.keys(v, tile).to(wide).mT
        if request.dropout:
            kept = dropout_mask(weights, request.dropout, dice)
            dv.append((weights * kept).mT @ grad)
            ds *= kept
        else:
            dv.append(weights.mT @ grad)
        ds = (ds - slope).mul_(weights)
        if db is not None:
            into = db[..., slice(*tile)]
            into.add_(_ungrouped(ds, q.shape[1]).sum_to_size(into.shape))
        if tanh is not None:
            ds *= 1 - tanh.square_()
        dq += ds @ strip.keys(k, tile).to(wide)
        dk.append(ds.mT @ qs)
    return _ungrouped(dq * request.scale, q.shape[1]), dk, dv


def _scores(qs: Tensor, request: Request, strip: Strip, tile: tuple[int, int]) -> tuple[Tensor, Tensor | None]:
    """Scores [count, G, H / G * queries, keys] of scaled queries, -inf where hidden; and the tanh of a softcap."""
    pattern, softcap, bias = request.pattern, request.softcap, request.bias
    scores, tanh = qs @ strip.keys(request.k, tile).to(qs.dtype).mT, None
    if softcap is not None:
        tanh = scores.div_(softcap).tanh_()
        scores = tanh * softcap
    queries, (lo, hi) = strip.stop - strip.start, tile
    if bias is not None:
        _ungrouped(scores, request.q.shape[1]).add_(strip.pairs(bias, tile))
    behind = strip.start + strip.m - strip.n - lo
    sees_left = pattern.left is None or queries - 1 + behind <= pattern.left
    sees_right = pattern.right is None or hi - lo - 1 - behind <= pattern.right
    if not (sees_left and sees_right):
        hidden = ~visible(queries, hi - lo, behind, pattern, qs.device)
        scores.unflatten(2, (-1, queries)).masked_fill_(hidden, -torch.inf)
    return scores, tanh


def _grouped(t: Tensor, groups: int, dtype: torch.dtype) -> Tensor:
    """[count, H, queries, D] -> [count, G, H / G * queries, D]: queries that share a key head side by side."""
    return t.to(dtype).unflatten(1, (groups, -1)).flatten(2, 3)


def _ungrouped(t: Tensor, heads: int) -> Tensor:
    count, _, _, width = t.shape
    return t.reshape(count, heads, -1, width)
