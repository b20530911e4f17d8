"""Calls `attention.c`: one function computes a whole pack, or its gradients, in PyTorch's own OpenMP threads."""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Any

from torch import Tensor

from sightline.kernels.toolchain import KERNELS, Source, library

P, I, D = ctypes.c_void_p, ctypes.c_int64, ctypes.c_double
SOURCE = Source(KERNELS / "attention.c", "sightline_attend", (P, P, ctypes.c_uint))
INPUTS = ("q", "k", "v", "grad")
STRIDES = [f"{name}_{axis}" for name in INPUTS for axis in ("row", "head", "one")]
SIZES = "sequences heads groups width value_width left right longest grain backward".split()
SHARES = 16  # parts of the work that each thread takes, one after the other


class Call(ctypes.Structure):
    """A call as `attention.c` declares it: the same fields in the same order."""

    _fields_ = [
        *((name, P) for name in (*INPUTS, "offsets", "key_offsets")),
        *((name, I) for name in (*STRIDES, *SIZES)),
        ("scale", D),
        *((name, P) for name in ("out", "lse", "grad_lse", "grad_q", "grad_k", "grad_v")),
        *((name, I) for name in ("next", "failed", "inexact")),
    ]


def run(tensors: dict[str, Tensor | Any], threads: int, sequences: int, **numbers) -> bool:
    """Runs forward, or backward where `tensors` holds "grad"; results are written into tensors that the caller made.

    Shapes: as in `attention`, all float32 on the CPU. `numbers` are further fields of the call; offsets are addresses.
    Returns: whether all results are finite, except the lse of a query that sees nothing.
    """
    (_, heads, width), (_, groups, value_width) = tensors["q"].shape, tensors["v"].shape
    call = Call(sequences=sequences, heads=heads, groups=groups, width=width, value_width=value_width, **numbers)
    call.backward = "grad" in tensors
    call.grain = max(1, sequences * groups // (threads * SHARES))
    for name, t in tensors.items():
        if t is not None:
            setattr(call, name, t.data_ptr())
    strides = [step for name in INPUTS if name in tensors for step in tensors[name].stride()]
    for name, step in zip(STRIDES, strides, strict=False):
        setattr(call, name, step)
    attend = library(SOURCE).sightline_attend  # pyright: ignore[reportOptionalMemberAccess]  # `native.refuses` has it
    if attend(ctypes.byref(call), parallel() if threads > 1 else None, threads):
        raise MemoryError("attention: expected memory for the scores of a few queries, got none; free some")
    return not call.inexact


@cache
def parallel() -> int | None:
    """The address of GOMP_parallel in the OpenMP library that PyTorch has loaded; None if that is of another kind."""
    try:
        return ctypes.cast(ctypes.CDLL(None).GOMP_parallel, P).value
    except (AttributeError, OSError, TypeError):
        return None
