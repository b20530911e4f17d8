"""The statistics in C, where the system has a compiler: `kernels/statistics.c`, called in threads.

Where there is none, or the call is not float32 on the CPU, `statistics.py` does the same with PyTorch.
"""

from __future__ import annotations

import ctypes
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from sightline.kernels.toolchain import KERNELS, Source, library
from sightline.observe.calls import Call

SPLIT = 2**20  # pairs of a head beyond which all threads share it
FEW = 2**17  # pairs that are not worth a thread

P, I, D = ctypes.c_void_p, ctypes.c_int64, ctypes.c_double
STEPS = "q_row q_head q_one k_row k_head k_one lse_row lse_head".split()


STATISTICS = Source(KERNELS / "statistics.c", "sightline_statistics", (P, P, I, I, I, I, P, P))


class Given(ctypes.Structure):
    """A call as `kernels/statistics.c` has it."""

    _fields_ = [
        *((name, P) for name in "q k lse offsets key_offsets groups special bias bias_steps".split()),
        *((name, I) for name in (*STEPS, "heads", "width", "left", "right", "links", "bins")),
        *((name, D) for name in ("scale", "softcap")),
        *((name, P) for name in "entropy distance first on_special received keys weights".split()),
    ]


def fits(call: Call) -> bool:
    """Whether this is a call that `kernels/statistics.c` knows, and `kernels/statistics.c` is there."""
    tensors = (call.q, call.k, call.lse, *(call.bias or ()))
    return all(t.dtype == torch.float32 and t.device.type == "cpu" for t in tensors) and library(STATISTICS) is not None


def statistics(call: Call, links: int, special: Tensor | None, bins: int) -> dict[str, Tensor]:
    """The fields of `Statistics`, by their names."""
    (rows, heads, width), keys = call.q.shape, len(call.k)
    made = {name: torch.zeros(rows, heads) for name in ("entropy", "distance", "first", "special")}
    made["received"] = torch.zeros(keys, heads)
    made["keys"] = torch.full((rows, heads, links), -1, dtype=torch.int32)
    made["weights"] = torch.zeros(rows, heads, links)
    offsets, key_offsets = (t.cpu().long().contiguous() for t in (call.offsets, call.key_offsets))
    groups = call.groups.long().contiguous()
    special = None if special is None else special.to("cpu", torch.uint8).contiguous()
    beyond = rows + keys
    left, right = (beyond if side is None else min(side, beyond) for side in (call.pattern.left, call.pattern.right))
    given = Given(heads=heads, width=width, left=left, right=right, links=links, bins=bins)
    given.scale, given.softcap = call.scale, call.softcap or 0.0
    held = {"q": call.q, "k": call.k, "lse": call.lse, "offsets": offsets, "key_offsets": key_offsets}
    held |= {"groups": groups, "special": special, **{n: t for n, t in made.items() if n != "special"}}
    held["on_special"] = made["special"]
    if call.bias is not None:
        pointers = [t.data_ptr() for t in call.bias]
        steps = [(t.stride(0) if len(t) > 1 else 0, t.stride(1), t.stride(2)) for t in call.bias]
        held |= {"bias": torch.tensor(pointers), "bias_steps": torch.tensor(steps)}
    for name, t in held.items():
        setattr(given, name, None if t is None else t.data_ptr())
    for name, step in zip(STEPS, (*call.q.stride(), *call.k.stride(), *call.lse.stride()), strict=True):
        setattr(given, name, step)
    made["histogram"] = _run(given, offsets.numpy(), key_offsets.numpy(), made["received"])
    return made


def _run(given: Given, offsets: np.ndarray, key_offsets: np.ndarray, received: Tensor) -> Tensor:
    """Small heads are dealt out among the threads, a run of them each; of a large one each thread takes some queries."""
    function, threads, heads = library(STATISTICS).sightline_statistics, torch.get_num_threads(), given.heads
    pairs = np.diff(offsets) * np.diff(key_offsets)
    rooms = torch.zeros(threads, int(np.diff(key_offsets).max(initial=0)), dtype=torch.float64)
    histograms = torch.zeros(threads, heads, 2 * given.bins + 1, dtype=torch.float64)

    def work(thread: int, sequences: np.ndarray, first: int, stop: int, part: int, parts: int) -> None:
        mine = rooms[thread].data_ptr(), histograms[thread].data_ptr()
        if function(ctypes.byref(given), sequences.ctypes.data, first, stop, part, parts, *mine):
            raise MemoryError("watch: expected memory for a few tiles of scores, got none; free some")

    small, large = (np.flatnonzero(some).astype(np.int64) for some in (pairs <= SPLIT, pairs > SPLIT))
    done = np.repeat(pairs[small], heads).cumsum()
    total = int(done[-1]) if len(done) else 0
    if threads == 1 or (total <= FEW and not len(large)):
        work(0, np.arange(len(pairs), dtype=np.int64), 0, len(pairs) * heads, 0, 1)
        return histograms.sum(0).float()
    with ThreadPoolExecutor(threads) as pool:
        cuts = [*np.searchsorted(done, np.linspace(0, total, threads + 1)[:-1]).tolist(), len(done)]
        list(pool.map(lambda t: work(t, small, cuts[t], cuts[t + 1], 0, 1), range(threads)))
        for item in range(len(large) * heads):
            list(pool.map(lambda t, item=item: work(t, large, item, item + 1, t, threads), range(threads)))
            keys = slice(*key_offsets[large[item // heads] :][:2].tolist())
            received[keys, item % heads] = rooms[:, : keys.stop - keys.start].sum(0).float()
    return histograms.sum(0).float()
