"""Attention on the CPU: PyTorch's own flash kernel, called once for many sequences at a time, mostly without copies.

The kernel takes dense rectangles [count, queries, keys]; `rectangles.py` plans them, and this file loops over the plan.
A bias may not be learned, since the kernel has no gradient for it. Memory is linear in the rows.

The kernel: `aten::_scaled_dot_product_flash_attention_for_cpu`. Source: Dao et al. 2022, algorithm 1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from sightline.attention import exact
from sightline.attention.pattern import Pattern
from sightline.attention.rectangles import Plan, Rectangle, plan
from sightline.attention.reference import visible
from sightline.attention.request import Request, positive_scale, refusal
from sightline.attention.single_backward import Grad, once

Rectangles = tuple[Rectangle, ...]
Options = tuple[Tensor | None, Pattern, float]  # bias, pattern and scale
Rows = Callable[..., Tensor]  # (rectangle, whether its keys are asked) -> the rows of a tensor under it
kernel = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
kernel_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward
# Below this, a score times eps is less than the kernel's exponential errs in 16 bits (2^-14).
SMALL = 2**-11
# Older kernels need as many key heads as query heads.
GROUPED = tuple(int(n) for n in torch.__version__.split(".")[:2]) >= (2, 13)


def refuses(request: Request) -> str | None:
    q, bias = request.q, request.bias
    if q.device.type != "cpu":
        return f"cpu: expected tensors on the CPU, got {q.device}; move them, or leave the backend to be chosen"
    if bias is not None and bias.requires_grad and torch.is_grad_enabled():
        return "cpu: has no gradient of bias; detach it, or use backend='blockwise'"
    return refusal("cpu", request, "dropout", "softcap")


def attend(request: Request) -> tuple[Tensor, Tensor]:
    q, k, v, bias = request.q, request.k, request.v, request.bias
    rectangles = plan(request)
    dtype, width = q.dtype, v.shape[2]
    q, scale = positive_scale(q, request.scale)
    if dtype.itemsize == 2 and abs(request.scale) * q.shape[2] ** 0.5 * torch.finfo(dtype).eps < SMALL:
        q, k, v = q.float(), k.float(), v.float()
    if width != q.shape[2]:  # the kernel wants one width; columns of zeros change nothing
        widest = max(width, q.shape[2])
        q, k, v = (pad(t, (0, widest - t.shape[2])) for t in (q, k, v))
    q, k, v = map(_contiguous_heads, (q, k, v))
    if not GROUPED and q.shape[1] != k.shape[1]:
        k, v = (t.repeat_interleave(q.shape[1] // t.shape[1], 1) for t in (k, v))
    rest = request.without_tensors()._replace(scale=scale)
    out, lse = Attend.apply(q, k, v, bias, rectangles, rest)
    return out[..., :width].to(dtype), lse


class Attend(torch.autograd.Function):
    """The loop over a plan, forward and backward. Gradients flow through out and lse."""

    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, plan: Plan, rest: Request
    ) -> tuple[Tensor, Tensor]:
        ctx.set_materialize_grads(False)
        ctx.plan, ctx.rest, options = plan, rest, (bias, rest.pattern, rest.scale)
        stage: list[Tensor] = []
        if len(plan.direct) == 1 and not (plan.staged or plan.blind):  # one dense array
            dense = _compute(plan.direct[0], options, _rows(q), _rows(k), _rows(v))
            out, lse = (t.transpose(1, 2).flatten(0, 1) for t in dense)
        else:
            out = q.new_empty(q.shape)
            lse = q.new_empty(q.shape[:2], dtype=torch.promote_types(q.dtype, torch.float32))
            if plan.blind:
                out.zero_()
                lse.fill_(-torch.inf)
            _compute_into(plan.direct, options, out, lse, q, k, v)
            if plan.staged:
                stage = [t.index_select(0, plan.source) for t in (q, k, v)]
                stage += [out.new_empty(stage[0].shape), lse.new_empty(stage[0].shape[:2])]
                _compute_into(plan.staged, (None, *options[1:]), *stage[3:], *stage[:3])
                out, lse = (_off_stage(t, rest, plan) for t, rest in zip(stage[3:], (out, lse), strict=True))
        # Where all of a few scores are NaN or -inf, the kernel returns zeros.
        request = rest._replace(q=q, k=k, v=v, bias=bias)
        out, lse, ctx.failed = exact.checked(out, lse, request, zeros=True)
        ctx.save_for_backward(q, k, v, bias, out, lse, *stage)
        return out, lse

    @once
    def backward(ctx: Any, grad_out: Grad, grad_lse: Grad) -> tuple[Any, ...]:
        q, k, v, bias, out, lse, *stage = ctx.saved_tensors
        options = bias, ctx.rest.pattern, ctx.rest.scale
        grads = _gradients(ctx.plan, options, grad_out, grad_lse, q, k, v, out, lse, *stage)
        request = ctx.rest._replace(q=q, k=k, v=v, bias=bias)
        grads = exact.corrected([*grads, None], ctx.failed, lse, grad_out, grad_lse, request)
        return *grads, None, None


def _gradients(plan: Plan, options: Options, grad_out: Grad, grad_lse: Grad, *tensors: Tensor) -> list[Tensor]:
    """The gradients of q, k and v, by the kernel; `tensors` are q, k, v, out, lse and the stage."""
    q, k, v, out, lse, *stage = tensors
    grad_out = torch.zeros_like(out) if grad_out is None else _contiguous_heads(grad_out)
    if len(plan.direct) == 1 and not (plan.staged or plan.blind or plan.overlap) and grad_lse is None:
        operands = map(_rows, (grad_out, q, k, v, out, lse))
        grads = _derive(plan.direct[0], options, *operands)
        return [g.transpose(1, 2).flatten(0, 1) for g in grads]
    sums = torch.promote_types(k.dtype, torch.float32) if plan.overlap else k.dtype
    grads = [q.new_empty(q.shape), k.new_empty(k.shape, dtype=sums), v.new_empty(v.shape, dtype=sums)]
    for grad in grads[0 if plan.blind else 1 : 3 if plan.overlap else 1]:
        grad.zero_()
    _derive_into(grads, plan.direct, plan.overlap, options, grad_lse, grad_out, q, k, v, out, lse)
    if plan.staged:
        upstream = _on_stage(grad_out, plan)
        grad_lse = None if grad_lse is None else _on_stage(grad_lse, plan)
        staged = [torch.empty_like(t) for t in stage[:3]]
        _derive_into(staged, plan.staged, False, (None, *options[1:]), grad_lse, upstream, *stage)
        grads = [_off_stage(t, rest, plan) for t, rest in zip(staged, grads, strict=True)]
    return [g.to(q.dtype) for g in grads]


def _contiguous_heads(t: Tensor) -> Tensor:
    """t with each head's numbers side by side and rows that do not overlap.

    The kernel would read out of bounds without the first, and in 16 bits refuses without the second.
    """
    return t if t.stride(-1) == 1 and t.stride(0) >= t.shape[2] else t.contiguous()


def _on_stage(grad: Tensor, plan: Plan) -> Tensor:
    return grad.index_select(0, plan.source).index_fill_(0, plan.spare, 0)


def _off_stage(staged: Tensor, rest: Tensor, plan: Plan) -> Tensor:
    back = staged.index_select(0, plan.slots)
    return back if len(back) == len(rest) else rest.index_copy_(0, plan.rows, back.to(rest.dtype))


def _rows(t: Tensor) -> Rows:
    """The rows of t under a rectangle's queries or keys, as a view [count, H, rows, D] (of lse: [count, H, rows])."""
    (row, head, *rest), (_, heads, *width), offset = t.stride(), t.shape, t.storage_offset()

    def under(r: Rectangle, keys: bool = False) -> Tensor:
        first, step, rows = (r.key, r.key_step, r.keys) if keys else (r.query, r.query_step, r.queries)
        return t.as_strided((r.count, heads, rows, *width), (step * row, head, row, *rest), offset + first * row)

    return under


def _mask(r: Rectangle, bias: Tensor | None, pattern: Pattern, dtype: torch.dtype) -> Tensor | None:
    seen, mask = None, None if r.hidden is None else r.hidden.to(dtype)
    if r.mask == "band":
        seen = visible(r.queries, r.keys, r.behind, pattern)[None, None]
        mask = torch.zeros(seen.shape, dtype=dtype).masked_fill_(~seen, -torch.inf)
    if bias is None:
        return mask
    own_bias = bias if len(bias) == 1 else bias[r.sequence : r.sequence + r.count]
    own_bias = own_bias[:, :, r.i : r.i + r.queries, r.j : r.j + r.keys]
    if own_bias.dtype != dtype:  # the kernel would misread float32 beside float64
        own_bias = own_bias.to(torch.promote_types(dtype, torch.float32))
    if seen is not None:  # a hidden number may be NaN
        return own_bias.masked_fill(~seen, -torch.inf)
    if mask is not None:
        return own_bias + mask
    return own_bias.contiguous() if own_bias.stride(3) > 1 else own_bias


def _compute(r: Rectangle, options: Options, q: Rows, k: Rows, v: Rows) -> tuple[Tensor, Tensor]:
    (bias, pattern, scale), queries, causal = options, q(r), r.mask == "causal"
    mask = _mask(r, bias, pattern, queries.dtype)
    out, lse = kernel(queries, k(r, True), v(r, True), 0.0, causal, attn_mask=mask, scale=scale)
    # Where a bias of -inf hides all keys, the kernel says lse = 0.
    if bias is not None and mask is not None and not lse.all():
        hidden = mask == -torch.inf
        if causal:
            hidden = hidden | ~visible(r.queries, r.keys, 0, pattern)
        lse.masked_fill_(hidden.all(-1), -torch.inf)
    return out, lse


def _compute_into(rectangles: Rectangles, options: Options, *tensors: Tensor) -> None:
    """`tensors` are out, lse, q, k and v."""
    out, lse, *operands = map(_rows, tensors)
    for r in rectangles:
        o, l = _compute(r, options, *operands)
        out(r).copy_(o)
        lse(r).copy_(l)


def _derive(r: Rectangle, options: Options, *tensors: Rows) -> list[Tensor]:
    """`tensors` are the rows of grad, q, k, v, out and lse."""
    bias, pattern, scale = options
    causal, by_key = r.mask == "causal", (False, False, True, True, False, False)
    grad, q, k, v, out, lse = (rows(r, keys) for rows, keys in zip(tensors, by_key, strict=True))
    if bias is not None:  # as the kernel returned it
        lse = lse.masked_fill(lse == -torch.inf, 0)
    mask = _mask(r, bias, pattern, q.dtype)
    return kernel_backward(grad, q, k, v, out, lse, 0.0, causal, attn_mask=mask, scale=scale)


def _derive_into(
    grads: list[Tensor], rectangles: Rectangles, overlap: bool, options: Options, grad_lse: Grad, *tensors: Tensor
) -> None:
    """`tensors` are grad, q, k, v, out and lse.

    ds = w * (grad . v - sum(grad * out) + grad_lse): the kernel lacks the last term, which is added by a column that is
    0 in v, 1 in grad and -grad_lse in out.
    """
    grad, q, k, v, out, lse = tensors
    width = q.shape[2]
    if grad_lse is not None:
        q, k, v, out, grad = (pad(t, (0, 1)) for t in (q, k, v, out, grad))
        out[..., -1], grad[..., -1] = -grad_lse, 1
    operands = [_rows(t) for t in (grad, q, k, v, out, lse)]
    into = [_rows(t) for t in grads]
    for r in rectangles:
        parts = _derive(r, options, *operands)
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
