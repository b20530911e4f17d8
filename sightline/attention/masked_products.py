"""Products over visible pairs only: a hidden number changes nothing, be it NaN or infinite.

A plain product adds 0 times NaN. Both products are bilinear, and the derivatives of each are products of the same two
kinds, so that derivatives of every order hide too.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function, forward_ad


def weighted_sum(weights: Tensor, x: Tensor, seen: Tensor) -> Tensor:
    """sum_j w_ij x_j over the visible j.

    Shapes: weights [..., n, m], x [..., m, D], seen bool [n, m] or with more axes -> [..., n, D].
    """
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
    if forward_ad._current_level < 0:  # pyright: ignore[reportPrivateUsage]  # no public name
        return False
    return any(t is not None and forward_ad.unpack_dual(t).tangent is not None for t in tensors)


class _Bilinear(Function):
    """What the two products share: they save their factors, and differentiate forward factor by factor."""

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Any) -> None:
        ctx.save_for_backward(*inputs)
        ctx.save_for_forward(*inputs)

    @classmethod
    def jvp(  # pyright: ignore[reportIncompatibleMethodOverride]  # torch calls it on the class
        cls, ctx: Any, first_dot: Tensor | None, second_dot: Tensor | None, _: None
    ) -> Any:
        first, second, seen = ctx.saved_tensors
        pairs = (first_dot, second), (first, second_dot)
        return sum(cls.apply(a, b, seen) for a, b in pairs if a is not None and b is not None)


class WeightedSum(_Bilinear):
    """`weighted_sum`, with derivatives of every order."""

    @staticmethod
    def forward(weights: Tensor, x: Tensor, seen: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            return weighted_sum(weights, x, seen)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        (weights, x, seen), (grad,) = ctx.saved_tensors, grads
        return Scores.apply(grad, x, seen), WeightedSum.apply(weights.mT, grad, seen.mT), None


class Scores(_Bilinear):
    """x_i . y_j where i sees j, and 0 elsewhere.

    Shapes: x [..., n, D], y [..., m, D], seen bool [n, m] or with more axes -> [..., n, m].
    """

    @staticmethod
    def forward(x: Tensor, y: Tensor, seen: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            return (x @ y.mT).masked_fill(~seen, 0)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        (x, y, seen), (grad,) = ctx.saved_tensors, grads
        return WeightedSum.apply(grad, y, seen), WeightedSum.apply(grad.mT, x, seen.mT), None
