"""Products over visible pairs only: a hidden number changes nothing, NaN and infinity included, where a plain product adds 0 times NaN.

Both are bilinear, and the derivatives of each are products of the same two kinds, so that derivatives of every order hide too.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd import Function, forward_ad


def weighted_sum(weights: Tensor, x: Tensor, seen: Tensor) -> Tensor:
    """sum_j w_ij x_j over the visible j. Shapes: weights [..., n, m], x [..., m, D], seen bool [n, m] or wider -> [..., n, D]."""
    weights = weights.masked_fill(~seen, 0)
    if bool(x.isfinite().all()):
        return weights @ x
    clean = weights @ x.masked_fill(~x.isfinite(), 0)
    # How many visible terms of a sum are inf, -inf and NaN; a weight of 0 makes NaN of an infinity.
    marks = torch.cat([x == torch.inf, x == -torch.inf, x.isnan()], -1).to(weights.dtype)
    signs = (part.to(weights.dtype) @ marks for part in (weights > 0, weights < 0, seen & (weights == 0)))
    (up, down, nan), (minus_up, minus_down, minus_nan), zero = (s.unflatten(-1, (3, -1)).unbind(-2) for s in signs)
    up, down, nan = up + minus_down, down + minus_up, nan + minus_nan + sum(zero)
    for count, value in ((up, torch.inf), (down, -torch.inf), (nan, torch.nan)):
        clean = clean + torch.zeros_like(clean).masked_fill(count > 0, value)
    return clean


def has_tangent(*tensors: Tensor | None) -> bool:
    """Whether forward-mode differentiation follows one of them."""
    if forward_ad._current_level < 0:
        return False
    return any(t is not None and forward_ad.unpack_dual(t).tangent is not None for t in tensors)


class WeightedSum(Function):
    """`weighted_sum`, with derivatives of every order."""

    @staticmethod
    def forward(weights, x, seen):
        with torch.autocast(x.device.type, enabled=False):
            return weighted_sum(weights, x, seen)

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)
        ctx.save_for_forward(*inputs)

    @staticmethod
    def backward(ctx, grad):
        weights, x, seen = ctx.saved_tensors
        return Scores.apply(grad, x, seen), WeightedSum.apply(weights.mT, grad, seen.mT), None

    @staticmethod
    def jvp(ctx, weights_dot, x_dot, _):
        weights, x, seen = ctx.saved_tensors
        parts = []
        if weights_dot is not None:
            parts.append(WeightedSum.apply(weights_dot, x, seen))
        if x_dot is not None:
            parts.append(WeightedSum.apply(weights, x_dot, seen))
        return sum(parts)


class Scores(Function):
    """x_i . y_j where i sees j, and 0 elsewhere. Shapes: x [..., n, D], y [..., m, D], seen bool [n, m] or wider -> [..., n, m]."""

    @staticmethod
    def forward(x, y, seen):
        with torch.autocast(x.device.type, enabled=False):
            return (x @ y.mT).masked_fill(~seen, 0)

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)
        ctx.save_for_forward(*inputs)

    @staticmethod
    def backward(ctx, grad):
        x, y, seen = ctx.saved_tensors
        return WeightedSum.apply(grad, y, seen), WeightedSum.apply(grad.mT, x, seen.mT), None

    @staticmethod
    def jvp(ctx, x_dot, y_dot, _):
        x, y, seen = ctx.saved_tensors
        parts = []
        if x_dot is not None:
            parts.append(Scores.apply(x_dot, y, seen))
        if y_dot is not None:
            parts.append(Scores.apply(x, y_dot, seen))
        return sum(parts)
