"""Attention on the CPU in C, `kernels/attention.c`: float32, read where it lies, one call for a whole pack.

Needs a C compiler. Several times faster than `cpu.py` on short sequences, for whose dense kernel they are too small;
refuses long ones, and what it does not compute (bias, softcap, dropout). It runs in PyTorch's own OpenMP threads. One
thread computes each result, so neither result nor choice of backend depends on how many there are. Where a result shows
NaN or an overflow, `exact.py` computes that sequence again.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import Parameter

from sightline.attention import exact
from sightline.attention.request import Request
from sightline.attention.single_backward import Grad, once
from sightline.kernels.attention import SOURCE, parallel, run
from sightline.kernels.toolchain import library
from sightline.sequences import Layout

LONGEST = 1024  # keys of a sequence; beyond, the dense kernel's tiles use the processor's caches better
FEW = 2**12  # pairs of all heads, up to which a second thread does not pay
SMALL, EVEN = 2**17, 8  # refused: a sequence of more pairs than SMALL with a head of more than 1/EVEN of all work


def refuses(request: Request) -> str | None:
    q, chosen = request.q, "leave the backend to be chosen"
    if q.device.type != "cpu" or q.dtype != torch.float32:
        return f"native: expected float32 on the CPU, got {q.dtype} on {q.device}; convert it, or {chosen}"
    if request.dropout or request.softcap is not None or request.bias is not None:
        return f"native: has no dropout, softcap or bias; {chosen}"
    if not all(type(t) in (Tensor, Parameter) for t in request[:3]):
        return f"native: is not traced; {chosen}"
    work = request.plan(_work)
    if work.longest > LONGEST:
        return f"native: expected at most {LONGEST} keys in a sequence, got {work.longest}; {chosen}"
    if work.largest > SMALL and work.largest * EVEN > work.pairs * request.k.shape[1]:
        return (
            "native: expected work that many threads can share, got a sequence with more than "
            f"1/{EVEN} of it in a head; {chosen}"
        )
    if library(SOURCE) is None or parallel() is None:
        return f"native: needs a C compiler (cc) and PyTorch's OpenMP threads; {chosen}"
    return None


def attend(request: Request) -> tuple[Tensor, Tensor]:
    q, k, v = (t.resolve_neg() for t in request[:3])  # C reads the memory, where a negated view holds other numbers
    return Attend.apply(q, k, v, request.without_tensors())


class Attend(torch.autograd.Function):
    """Forward, and backward with the weights computed again from lse. Gradients flow through out and lse."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, rest: Request) -> tuple[Tensor, Tensor]:
        ctx.set_materialize_grads(False)
        ctx.rest, request = rest, rest._replace(q=q, k=k, v=v)
        out, lse = q.new_empty(*q.shape[:2], v.shape[2]), q.new_empty(q.shape[:2])
        ctx.failed = None
        if not _run({"q": q, "k": k, "v": v, "out": out, "lse": lse}, request):
            out, lse, ctx.failed = exact.checked(out, lse, request)
        ctx.save_for_backward(q, k, v, lse)
        return out, lse

    @once
    def backward(ctx: Any, grad_out: Grad, grad_lse: Grad) -> tuple[Any, ...]:
        q, k, v, lse = ctx.saved_tensors
        grad = q.new_zeros(1).expand(*q.shape[:2], v.shape[2]) if grad_out is None else grad_out.resolve_neg()
        if grad_lse is not None:
            grad_lse = grad_lse.resolve_neg().contiguous()
        grads = [t.new_empty(t.shape) for t in (q, k, v)]
        tensors = {"q": q, "k": k, "v": v, "grad": grad, "lse": lse, "grad_lse": grad_lse}
        tensors |= dict(zip(("grad_q", "grad_k", "grad_v"), grads, strict=True))
        request = ctx.rest._replace(q=q, k=k, v=v)
        if not _run(tensors, request) or ctx.failed is not None:
            bad = exact.either(ctx.failed, exact.failed_back([*grads, None], request))
            if bad is not None:
                grads = exact.derive([*grads, None], bad, grad_out, grad_lse, request)[:3]
        return *grads, None


def _run(tensors: dict[str, Tensor | None], request: Request) -> bool:
    work, beyond = request.plan(_work), request.layout.rows + request.key_layout.rows
    sides = (request.pattern.left, request.pattern.right)
    left, right = (beyond if side is None else min(side, beyond) for side in sides)
    threads = 1 if work.pairs * request.q.shape[1] <= FEW else torch.get_num_threads()
    numbers = {"left": left, "right": right, "longest": work.longest, "scale": request.scale}
    numbers |= {"offsets": work.offsets, "key_offsets": work.key_offsets}
    return run(tensors, threads, len(request.layout), **numbers)


class Work(NamedTuple):
    """The most keys of a sequence, the most pairs of one, and all pairs; and the addresses of the offsets."""

    longest: int
    largest: int
    pairs: int
    offsets: int
    key_offsets: int


def _work(layout: Layout, key_layout: Layout | None) -> Work:
    starts = [o.starts for o in (layout, layout if key_layout is None else key_layout)]
    n, m = map(np.diff, starts)
    pairs, addresses = n * m, (s.ctypes.data for s in starts)
    return Work(int(m.max(initial=0)), int(pairs.max(initial=0)), int(pairs.sum()), *addresses)
