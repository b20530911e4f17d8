"""Attention on the CPU in C, `kernels/attention.c`, where the system has a compiler: float32, read where it lies, one call for a whole pack.

Several times faster than `cpu.py` on short sequences, whose dense kernel is made for long ones; longer ones, and what it does not
know (bias, softcap, dropout), it leaves to others. It runs in PyTorch's own OpenMP threads, and each result is made by one thread,
so that it does not depend on how many there are; nor does what is left to others.
"""

from __future__ import annotations

import ctypes
from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import Parameter

from sightline.attention import exact
from sightline.attention.request import Request
from sightline.attention.single_backward import once
from sightline.kernels.toolchain import KERNELS, Source, library
from sightline.sequences import Layout

LONGEST = 1024  # keys of a sequence; beyond, the dense kernel's tiles stay nearer to the processor
FEW = 2**12  # pairs of all heads that are not worth a second thread
SMALL, EVEN = 2**17, 8  # pairs of a sequence from which on no head of it may have more than an eighth of all work
TURNS = 16  # a thread takes so many shares of the work, one after the other

P, I, D = ctypes.c_void_p, ctypes.c_int64, ctypes.c_double
SOURCE = Source(KERNELS / "attention.c", "sightline_attend", (P, P, ctypes.c_uint))
STEPS = [f"{name}_{step}" for name in ("q", "k", "v", "grad") for step in ("row", "head", "one")]
SIZES = "sequences heads groups width value_width left right longest grain backward".split()


class Given(ctypes.Structure):
    """A call as `kernels/attention.c` has it."""

    _fields_ = [
        *((name, P) for name in ("q", "k", "v", "grad", "offsets", "key_offsets")),
        *((name, I) for name in (*STEPS, *SIZES)),
        ("scale", D),
        *((name, P) for name in ("out", "lse", "grad_lse", "grad_q", "grad_k", "grad_v")),
        *((name, I) for name in ("next", "failed", "inexact")),
    ]


def refuses(request: Request) -> str | None:
    q = request.q
    if q.device.type != "cpu" or q.dtype != torch.float32:
        return f"native: expected float32 on the CPU, got {q.dtype} on {q.device}; convert it, or leave the backend to be chosen"
    if request.dropout or request.softcap is not None or request.bias is not None:
        return "native: has no dropout, softcap or bias; leave the backend to be chosen"
    if not all(type(t) in (Tensor, Parameter) for t in request[:3]):
        return "native: is not traced; leave the backend to be chosen"
    longest, largest, pairs, *_ = request.plan(_work)
    if longest > LONGEST:
        return f"native: expected at most {LONGEST} keys in a sequence, got {longest}; leave the backend to be chosen"
    if largest > SMALL and largest * EVEN > pairs * request.k.shape[1]:
        return f"native: expected work that many threads can share, got a sequence with more than 1/{EVEN} of it in a head; leave the backend to be chosen"
    if library(SOURCE) is None or parallel() is None:
        return "native: needs a C compiler (cc) and PyTorch's OpenMP threads; leave the backend to be chosen"
    return None


def attend(request: Request) -> tuple[Tensor, Tensor]:
    q, k, v = (t.resolve_neg() for t in request[:3])  # C reads the memory, where a negated view holds other numbers
    return Attend.apply(q, k, v, request._replace(q=None, k=None, v=None, sink=None))


class Attend(torch.autograd.Function):
    """There, and back with the weights made anew from lse. Gradients flow through out and lse; there is no double backward."""

    @staticmethod
    def forward(ctx, q, k, v, rest: Request):
        ctx.set_materialize_grads(False)
        ctx.rest, request = rest, rest._replace(q=q, k=k, v=v)
        out, lse = q.new_empty(*q.shape[:2], v.shape[2]), q.new_empty(q.shape[:2])
        ctx.failed = None
        if not _run({"q": q, "k": k, "v": v, "out": out, "lse": lse}, request):
            ctx.failed = exact.failed(out, lse, request)
            if ctx.failed is not None:
                out, lse = exact.attend(out, lse, ctx.failed, request)
        ctx.save_for_backward(q, k, v, lse)
        return out, lse

    @once
    def backward(ctx, grad, grad_lse):
        q, k, v, lse = ctx.saved_tensors
        grad_out = grad
        if grad is None:
            grad = q.new_zeros(1).expand(*q.shape[:2], v.shape[2])
        grad = grad.resolve_neg()
        if grad_lse is not None:
            grad_lse = grad_lse.resolve_neg().contiguous()
        grads = [t.new_empty(t.shape) for t in (q, k, v)]
        held = {"q": q, "k": k, "v": v, "grad": grad, "lse": lse, "grad_lse": grad_lse}
        held |= dict(zip(("grad_q", "grad_k", "grad_v"), grads, strict=True))
        request = ctx.rest._replace(q=q, k=k, v=v)
        if not _run(held, request) or ctx.failed is not None:
            bad = exact.either(ctx.failed, exact.failed_back([*grads, None], request))
            if bad is not None:
                grads = exact.derive([*grads, None], bad, grad_out, grad_lse, request)[:3]
        return *grads, None


def _run(held: dict[str, Tensor | None], request: Request) -> bool:
    """One call, there or back. Whether all that it made is finite, but for the lse of a query that sees nothing."""
    (rows, heads, width), (keys, groups, value_width) = held["q"].shape, held["v"].shape
    sequences, pattern, work = len(request.layout), request.pattern, request.plan(_work)
    threads, beyond = _threads(work.pairs, heads), rows + keys
    left, right = (beyond if side is None else min(side, beyond) for side in (pattern.left, pattern.right))
    given = Given(sequences=sequences, heads=heads, groups=groups, width=width, value_width=value_width)
    given.left, given.right, given.longest, given.scale = left, right, work.longest, request.scale
    given.backward = "grad" in held
    given.grain = max(1, sequences * groups // (threads * TURNS))
    given.offsets, given.key_offsets = work.offsets, work.key_offsets
    for name, t in held.items():
        if t is not None:
            setattr(given, name, t.data_ptr())
    strides = [step for name in ("q", "k", "v", "grad") if name in held for step in held[name].stride()]
    for name, step in zip(STEPS, strides, strict=False):
        setattr(given, name, step)
    if library(SOURCE).sightline_attend(ctypes.byref(given), parallel() if threads > 1 else None, threads):
        raise MemoryError("attention: expected memory for the scores of a few queries, got none; free some")
    return not given.inexact


def _threads(pairs: int, heads: int) -> int:
    return 1 if pairs * heads <= FEW else torch.get_num_threads()


class Work(NamedTuple):
    """The most keys of a sequence, the most pairs of one, and all pairs; and where the offsets lie in memory."""

    longest: int
    largest: int
    pairs: int
    offsets: int
    key_offsets: int


def _work(layout: Layout, key_layout: Layout | None) -> Work:
    both = [o.starts for o in (layout, layout if key_layout is None else key_layout)]
    n, m = map(np.diff, both)
    pairs = n * m
    addresses = (starts.ctypes.data for starts in both)
    return Work(int(m.max(initial=0)), int(pairs.max(initial=0)), int(pairs.sum()), *addresses)


@cache
def parallel() -> int | None:
    """The address of GOMP_parallel in the OpenMP library that PyTorch has loaded; None where it has another kind."""
    try:
        return ctypes.cast(ctypes.CDLL(None).GOMP_parallel, P).value
    except (AttributeError, OSError, TypeError):
        return None
