"""A gradient that has none itself says so at once: PyTorch's `once_differentiable` loses the second derivative in silence wherever
it is asked for by another tensor than the one that the gradient is of."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps

import torch


def once(backward: Callable) -> staticmethod:
    """Marks the backward of a `torch.autograd.Function`. Raises: RuntimeError where a graph of it is asked for."""

    @wraps(backward)
    def first(ctx, *grads):
        if torch.is_grad_enabled():
            raise RuntimeError(
                "sightline: expected create_graph=False, since this gradient has none itself; attention has all derivatives with "
                "backend='reference'"
            )
        return backward(ctx, *grads)

    return staticmethod(first)
