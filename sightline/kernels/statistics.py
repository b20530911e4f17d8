"""Calls `statistics.c` in threads: what `observe.statistics` defines, for float32 on the CPU."""

from __future__ import annotations

import ctypes
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from sightline.kernels.arguments import INTEGER, POINTER, fill, is_readable, of_call, struct
from sightline.kernels.toolchain import KERNELS, Source, library

SPLIT = 2**20  # pairs of a head beyond which all threads share it
FEW = 2**17  # pairs that are not worth a thread

ARGUMENTS = (POINTER, POINTER, INTEGER, INTEGER, INTEGER, INTEGER, POINTER, POINTER)
STATISTICS = Source(KERNELS / "statistics.c", "sightline_statistics", ARGUMENTS)
Call = struct(
    "q k lse offsets key_offsets groups special bias bias_steps "
    "entropy distance first on_special received keys weights",
    "heads width left right links bins",
    "scale softcap",
)


def fits(call) -> bool:
    """Whether the C function is there, and computes this `observe.calls.Call`."""
    return is_readable(call) and library(STATISTICS) is not None


def statistics(call, links: int, special: Tensor | None, bins: int) -> dict[str, Tensor]:
    """The fields of `observe.statistics.Statistics`, by name."""
    (rows, heads, _), keys = call.q.shape, len(call.k)
    result = {name: torch.zeros(rows, heads) for name in ("entropy", "distance", "first", "special")}
    result["received"] = torch.zeros(keys, heads)
    result["keys"] = torch.full((rows, heads, links), -1, dtype=torch.int32)
    result["weights"] = torch.zeros(rows, heads, links)
    offsets, key_offsets = (t.cpu().long().contiguous() for t in (call.offsets, call.key_offsets))
    values = of_call(call, rows + keys) | {"heads": heads, "links": links, "bins": bins, "softcap": call.softcap or 0.0}
    values |= {"offsets": offsets, "key_offsets": key_offsets, **result, "on_special": result["special"]}
    values["special"] = None if special is None else special.to("cpu", torch.uint8).contiguous()
    if call.bias is not None:
        steps = [(t.stride(0) if len(t) > 1 else 0, t.stride(1), t.stride(2)) for t in call.bias]
        values |= {"bias": torch.tensor([t.data_ptr() for t in call.bias]), "bias_steps": torch.tensor(steps)}
    fill(arguments := Call(), values)
    result["histogram"] = _run(arguments, offsets.numpy(), key_offsets.numpy(), result["received"])
    return result


def _run(arguments: ctypes.Structure, offsets: np.ndarray, key_offsets: np.ndarray, received: Tensor) -> Tensor:
    """Gives each thread a run of small heads; of a large head each thread computes some queries. Returns the
    histogram."""
    function = library(STATISTICS).sightline_statistics  # pyright: ignore[reportOptionalMemberAccess]  # `fits` has it
    threads, heads = torch.get_num_threads(), arguments.heads
    pairs = np.diff(offsets) * np.diff(key_offsets)
    parts = torch.zeros(threads, int(np.diff(key_offsets).max(initial=0)), dtype=torch.float64)  # of `received`
    histograms = torch.zeros(threads, heads, 2 * arguments.bins + 1, dtype=torch.float64)

    def work(thread: int, sequences: np.ndarray, first: int, stop: int, part: int, part_count: int) -> None:
        results = parts[thread].data_ptr(), histograms[thread].data_ptr()
        if function(ctypes.byref(arguments), sequences.ctypes.data, first, stop, part, part_count, *results):
            raise MemoryError("watch: expected memory for a few tiles of scores, got none; free some")

    small, large = (np.flatnonzero(chosen).astype(np.int64) for chosen in (pairs <= SPLIT, pairs > SPLIT))
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
            received[keys, item % heads] = parts[:, : keys.stop - keys.start].sum(0).float()
    return histograms.sum(0).float()
