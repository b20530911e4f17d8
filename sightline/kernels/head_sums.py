"""Calls `head_sums.c` in threads: what `head_roles.definition` defines, for float32 on the CPU."""

from __future__ import annotations

import ctypes
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sightline.kernels.arguments import INTEGER, POINTER, fill, is_readable, of_call, struct
from sightline.kernels.toolchain import KERNELS, Source, library

FEW = 2**17  # weights that are not worth a thread
HEAD_SUMS = Source(KERNELS / "head_sums.c", "sightline_head_sums", (POINTER, INTEGER, INTEGER))
SUMS = (
    "offset_weight word_offset_weight distances offset_best word_offset_best sink "
    "first special separator punctuation entropy confidence duplicate induction rare"
).split()
Call = struct(
    "q k lse groups offsets is_query before marks_from marks words_from first_piece more_from more pieces_from pieces "
    "rarest strips_from strips questions_from questions candidates_from candidates bins answers "
    + " ".join(f"to_{name}" for name in SUMS),
    "documents width left right answers_row edges strip_size strip_rows longest most_words",
    "scale sink_weight",
)


def fits(call) -> bool:
    """Whether the C function is there, and computes this `observe.calls.Call`."""
    return call.bias is None and call.softcap is None and is_readable(call) and library(HEAD_SUMS) is not None


def add(call, layout: dict[str, Any], sums: dict[str, Tensor], answers: Tensor) -> None:
    """Adds to SUMS [H, ...] and answers [questions, H] what the weights of one layer are in the documents of a layout.

    `layout` has the arrays of `head_roles.layout.Layout`, `edges` (the number of bins) and `sink_weight`.
    """
    heads = call.q.shape[1]
    values = of_call(call, layout["longest"]) | layout
    values |= {f"to_{name}": sums[name] for name in SUMS} | {"answers": answers, "answers_row": answers.stride(0)}
    fill(arguments := Call(), values)
    function = library(HEAD_SUMS).sightline_head_sums  # pyright: ignore[reportOptionalMemberAccess]  # `fits` has it

    def work(first: int, stop: int) -> None:
        if function(ctypes.byref(arguments), first, stop):
            raise MemoryError("heads: expected memory for a strip of weights, got none; free some")

    pairs = int((np.diff(layout["offsets"]) ** 2).sum())
    threads = min(torch.get_num_threads(), heads) if pairs * heads > FEW else 1
    cuts = [heads * i // threads for i in range(threads + 1)]
    if threads == 1:
        work(0, heads)
    else:  # one thread computes a head, so that its sums are the same bits for any number of threads
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(work, cuts, cuts[1:]))
