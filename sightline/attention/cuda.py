"""Attention on an NVIDIA GPU: PyTorch's flash kernels for packed sequences, those of `torch.nn.attention.varlen`.

The kernels read the pack in place, with the offsets on the device, and put the last query at the last key, as we do.
They are called directly, since `varlen_attn` has no gradient through lse. What they lack (other dtypes, wide heads,
dropout, softcap, bias) is refused here with a sentence, and the backend `blockwise` is tried next.
Source: Dao 2023, FlashAttention-2.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from sightline.attention import blockwise
from sightline.attention.pattern import Pattern
from sightline.attention.request import Request, positive_scale, refusal
from sightline.attention.single_backward import Grad, once
from sightline.sequences import Layout

kernel = torch.ops.aten._flash_attention_forward
kernel_backward = torch.ops.aten._flash_attention_backward

WIDEST = 256  # columns of a head
STEEPEST = 1024  # a larger scale makes scores that are rounded by more than weights may be
STEP = 8  # a head has a multiple of these: the kernel loads 16 bytes at once


def refuses(request: Request) -> str | None:
    q, v = request.q, request.v
    if q.device.type != "cuda" or torch.version.hip:
        return f"cuda: expected tensors on an NVIDIA GPU, got {q.device}; move them, or leave the backend to be chosen"
    capability = torch.cuda.get_device_capability(q.device)
    if capability < (8, 0):
        return (
            f"cuda: expected a GPU of compute capability 8.0 or later, got {'.'.join(map(str, capability))}; "
            "use backend='blockwise'"
        )
    if q.dtype not in (torch.float16, torch.bfloat16):
        return f"cuda: expected float16 or bfloat16, got {q.dtype}; convert, or use backend='blockwise'"
    width = max(q.shape[2], v.shape[2])
    if width > WIDEST:
        return f"cuda: expected heads no wider than {WIDEST}, got {width}; use more heads, or backend='blockwise'"
    if abs(request.scale) > STEEPEST:
        return f"cuda: expected a scale from -{STEEPEST} to {STEEPEST}, got {request.scale}; use backend='blockwise'"
    return refusal("cuda", request, "dropout", "softcap", "bias")


def attend(request: Request) -> tuple[Tensor, Tensor]:
    q, k, v, layout, key_layout, pattern, scale, *_ = request
    width = v.shape[2]
    q, scale = positive_scale(q, scale)
    widest = -(-max(width, q.shape[2]) // STEP) * STEP
    q, k, v = (_loadable(t, widest) for t in (q, k, v))
    out, lse = Attend.apply(q, k, v, layout, key_layout, pattern, scale)
    return out[..., :width], lse


def _loadable(t: Tensor, width: int) -> Tensor:
    """t with columns of zeros up to the width, which change nothing, and each head at a multiple of 16 bytes.

    The kernel does not check this, and would crash the device. Copies only where needed.
    """
    if t.shape[2] < width:
        return pad(t, (0, width - t.shape[2]))
    strided = t.stride(-1) == 1 and all(step % STEP == 0 for step in t.stride()[:-1])
    if strided and (t.data_ptr() % (STEP * t.element_size()) == 0):
        return t
    return t.clone(memory_format=torch.contiguous_format)


def _bounds(layout: Layout, device: torch.device) -> Tensor:
    """The offsets on the device, as the kernels take them."""
    return torch.from_numpy(layout.starts.astype(np.int32)).to(device)


def _arguments(q: Tensor, layout: Layout, key_layout: Layout, pattern: Pattern) -> tuple[Any, dict[str, int]]:
    """The kernels' arguments after q, k and v, and the window."""
    bounds, key_bounds = (o.cached(_bounds, q.device) for o in (layout, key_layout))
    longest = layout.longest
    # A side without limit becomes `most_keys` where the other has one. With more queries than keys that hides keys from
    # queries that stand before the first key, unless it is at least as much as the queries.
    most_keys = max(key_layout.longest, longest)
    left, right = (-1 if side is None else min(side, most_keys) for side in (pattern.left, pattern.right))
    if longest == 1:  # without any limit the kernel swaps heads and queries here, and returns a shuffled lse
        left = most_keys if left == -1 else left
    window = {"window_size_left": left, "window_size_right": right}
    return (bounds, key_bounds, longest, most_keys, 0.0, (left, right) == (-1, 0)), window


class Attend(torch.autograd.Function):
    """One call for the whole pack, forward and backward. Gradients flow through out and lse."""

    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, layout: Layout, key_layout: Layout, pattern: Pattern, scale: float
    ) -> tuple[Tensor, Tensor]:
        ctx.set_materialize_grads(False)
        ctx.request = layout, key_layout, pattern, scale
        if len(q) == 0 or len(k) == 0:  # the kernel cannot be launched without rows
            out = torch.zeros_like(q, memory_format=torch.contiguous_format)
            lse = q.new_full(q.shape[:2], -torch.inf, dtype=torch.float32)
            ctx.save_for_backward(q, k, v, out, lse.T)
            return out, lse
        numbers, window = _arguments(q, layout, key_layout, pattern)
        out, level, *_ = kernel(q, k, v, *numbers, False, scale=scale, **window)
        ctx.save_for_backward(q, k, v, out, level)
        lse = level.T.clone(memory_format=torch.contiguous_format)  # level [H, T] is the kernel's own
        if key_layout is not layout:  # it returns +inf for a query that sees no key
            lse = lse.masked_fill_(lse.isinf(), -torch.inf)
        return out, lse

    @once
    def backward(ctx: Any, grad_out: Grad, grad_lse: Grad) -> tuple[Any, ...]:
        q, k, v, out, level = ctx.saved_tensors
        layout, key_layout, pattern, scale = ctx.request
        if len(q) == 0 or len(k) == 0:
            return *(torch.zeros_like(t) for t in (q, k, v)), None, None, None, None
        grad_out = torch.zeros_like(out) if grad_out is None else grad_out
        width = q.shape[2]
        if grad_lse is not None and width + STEP > WIDEST:  # no room for the columns below
            lse = level.T.masked_fill(level.T == torch.inf, -torch.inf)
            request = Request(q, k, v, *ctx.request)
            return *blockwise.derive(grad_out, grad_lse, out, lse, request)[:3], None, None, None, None
        if grad_lse is not None:
            q, k, v, out, grad_out = _with_lse(q, k, v, out, grad_out, grad_lse)
        numbers, window = _arguments(q, layout, key_layout, pattern)
        unused = torch.zeros(2, dtype=torch.uint64, device=q.device), torch.empty(0, device=q.device)
        grad_out = _loadable(grad_out, q.shape[2])
        grads = kernel_backward(grad_out, q, k, v, out, level, *numbers, *unused, scale=scale, **window)
        return *(g[..., :width] for g in grads), None, None, None, None


def _with_lse(q: Tensor, k: Tensor, v: Tensor, out: Tensor, grad_out: Tensor, grad_lse: Tensor) -> tuple[Tensor, ...]:
    """ds = w (grad . v - sum(grad out) + grad_lse): the kernel lacks the last term, which is added by columns that are
    0 in v, 1 in grad and hold -grad_lse in out: one the rounded number, one the rest."""
    q, k, v, out, grad_out = (pad(t, (0, STEP)) for t in (q, k, v, out, grad_out))
    coarse = grad_lse.to(out.dtype)
    out[..., -1], out[..., -2] = -coarse, coarse.to(grad_lse.dtype) - grad_lse
    grad_out[..., -2:] = 1
    return q, k, v, out, grad_out
