"""Backward passes without a second derivative, which raise where one is asked for.

PyTorch's `once_differentiable` silently loses the second derivative with respect to any other tensor.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
from torch import Tensor

Grad = Tensor | None  # the gradient of an output or an input; None is zero


def once(backward: Callable[..., Any]) -> Any:
    """Marks the backward of a `torch.autograd.Function`. Raises: RuntimeError where its graph would be needed."""

    @wraps(backward)
    def first(ctx: Any, *grads: Any) -> Any:
        if torch.is_grad_enabled():
            raise RuntimeError(
                "sightline: expected create_graph=False, since this gradient has no derivative itself; attention has "
                "derivatives of every order with backend='reference'"
            )
        return backward(ctx, *grads)

    return staticmethod(first)
