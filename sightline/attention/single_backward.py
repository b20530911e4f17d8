"""Backward passes without a second derivative, which raise where one is asked for.

PyTorch's `once_differentiable` silently loses the second derivative with respect to any other tensor.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps

import torch


def once(backward: Callable) -> staticmethod:
    """Marks the backward of a `torch.autograd.Function`. Raises: RuntimeError where its graph would be needed."""

    @wraps(backward)
    def first(ctx, *grads):
        if torch.is_grad_enabled():
            raise RuntimeError(
                "sightline: expected create_graph=False, since this gradient has no derivative itself; attention has "
                "derivatives of every order with backend='reference'"
            )
        return backward(ctx, *grads)

    return staticmethod(first)
