"""Measures what watching costs: against unwatched attention and eager weights, memory, and the time to a first map.

    python benchmarks/observe.py            # about two minutes
    python benchmarks/observe.py --long     # and 100,000 tokens, 12 heads; about five minutes more

Watched is one attention call and all statistics of all heads (links, entropy, distance, histogram, mass received): by
the compiled step where there is a compiler, and by the plain one in PyTorch, which is there always. Eager makes the
whole weights and the same statistics from them. Memory is the peak of a process, beyond what it uses before.
"""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median, quantiles
from time import perf_counter

import torch
from side_by_side import agree, arguments, show, stop, summary, take_turns, timed, write
from torch import Tensor

from sightline.attention import CAUSAL, FULL, Pattern, attention
from sightline.attention.reference import visible
from sightline.kernels import statistics as in_c
from sightline.kernels.toolchain import library
from sightline.observe.calls import Call
from sightline.observe.layer import Layer
from sightline.observe.statistics import BINS, Statistics, statistics

WIDTH, LINKS = 64, 8
MEMORY = (4096, 16_384, 65_536)
TARGETS = {"watched, of unwatched": 2.0, "eager, of watched": 4.0, "memory, of the line": 1.3}
STEPS = {"compiled": "1", "plain": "0"}  # what the environment says


def drawn(n: int, heads: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    random = torch.Generator().manual_seed(0)
    q, k, v = torch.randn(3, n, heads, WIDTH, generator=random)
    return 2 * q, k, v, torch.tensor([0, n])


def call_of(q: Tensor, k: Tensor, lse: Tensor, offsets: Tensor, pattern: Pattern) -> Call:
    return Call(q, k, lse, offsets, offsets, pattern, WIDTH**-0.5, torch.arange(q.shape[1]))


def watched(q: Tensor, k: Tensor, v: Tensor, offsets: Tensor, pattern: Pattern) -> Statistics:
    lse = attention(q, k, v, offsets, pattern).lse
    return statistics(call_of(q, k, lse, offsets, pattern), LINKS)


@contextmanager
def step(name: str) -> Iterator[None]:
    before = os.environ.get("SIGHTLINE_NATIVE")
    os.environ["SIGHTLINE_NATIVE"] = STEPS[name]
    try:
        yield
    finally:
        del os.environ["SIGHTLINE_NATIVE"]
        if before is not None:
            os.environ["SIGHTLINE_NATIVE"] = before


def by(name: str, what: Callable) -> Callable:
    """Runs `what` with one of the steps."""

    def run():
        with step(name):
            return what()

    return run


def eager(q: Tensor, k: Tensor, v: Tensor, pattern: Pattern) -> Statistics:
    """The output, and the statistics from the whole weights in plain PyTorch, a head at a time."""
    parts, n = [], len(q)
    away = torch.arange(n) - torch.arange(n)[:, None]
    size = torch.where(away == 0, 0, 1 + away.abs().clamp_min(1).double().log2().ceil())
    bins = (BINS + away.sign() * size).long().flatten()
    away = away.abs_().float()
    for head in range(q.shape[1]):
        scores = q[:, head] @ k[:, head].T * WIDTH**-0.5
        if pattern != FULL:
            scores.masked_fill_(~visible(n, n, 0, pattern), -torch.inf)
        weights = scores.softmax(-1)
        weights @ v[:, head]
        links = weights.topk(LINKS, -1)
        histogram = torch.bincount(bins, weights.flatten(), 2 * BINS + 1).float()
        rows = -torch.special.xlogy(weights, weights).sum(-1), (weights * away).sum(-1), weights[:, 0]
        parts.append([*rows, weights.sum(0), histogram, links.indices, links.values])
    entropy, distance, first, received, histogram, keys, values = map(torch.stack, zip(*parts, strict=True))
    rows = (t.T for t in (entropy, distance, first, torch.zeros_like(first), received))
    return Statistics(*rows, histogram, keys.transpose(0, 1).int(), values.transpose(0, 1))


def cost(n: int, heads: int, pattern: Pattern, repeats: int, with_eager: bool) -> dict:
    q, k, v, offsets = drawn(n, heads)
    sides = {"unwatched": lambda: attention(q, k, v, offsets, pattern)}
    sides |= {f"watched, {name}": by(name, lambda: watched(q, k, v, offsets, pattern)) for name in STEPS}
    if with_eager:
        sides["eager"] = lambda: eager(q, k, v, pattern)
    ours, *others = (side() for name, side in sides.items() if name != "unwatched")
    for theirs in others:
        alike(ours, theirs)
    return {name: summary(seconds) for name, seconds in take_turns(sides, repeats).items()}


def alike(ours: Statistics, theirs: Statistics) -> None:
    for name in ("entropy", "distance", "received", "first", "histogram", "weights"):
        a, b = getattr(ours, name), getattr(theirs, name)
        limit = 1e-2 if name == "histogram" else 1e-4  # millions of float32 added up one by one, by eager
        agree(name, float((a - b).abs().max() / b.abs().max().clamp_min(1)), limit)


# --- memory ---------------------------------------------------------------------------------------------------------


def most_held(what: Callable) -> int:
    """Peak bytes of this process while `what` runs, beyond those before; on Linux."""
    Path("/proc/self/clear_refs").write_text("5")  # forget the most there was
    before = status("VmRSS")
    what()
    return status("VmHWM") - before


def status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(name)).split()[1])


def peak_bytes(n: int) -> int:
    """Peak bytes of the statistics of one head of n tokens, beyond queries, keys and lse; run it in a fresh process."""
    q, k, _, offsets = drawn(n, 1)
    lse = torch.full((n, 1), math.log(n))
    statistics(call_of(*drawn(64, 1)[:2], torch.zeros(64, 1), torch.tensor([0, 64]), CAUSAL), LINKS)
    return most_held(lambda: statistics(call_of(q, k, lse, offsets, CAUSAL), LINKS))


def memory(name: str) -> dict[str, int]:
    run = [sys.executable, __file__, "--peak"]
    with step(name):
        return {
            str(n): int(subprocess.run([*run, str(n)], capture_output=True, text=True, check=True).stdout)
            for n in MEMORY
        }


def off_the_line(peaks: dict[str, int]) -> float:
    """How far the longest lies above the line through the two shorter ones."""
    (a, x), (b, y), (c, z) = ((int(n), size) for n, size in peaks.items())
    line = x + (y - x) / (b - a) * (c - a)
    return z / line


# --- a long text ----------------------------------------------------------------------------------------------------


def long(n: int, heads: int, count: int) -> dict:
    """Seconds for one layer of n tokens: forward, statistics of all heads and of one, first map, tiles; and memory."""
    q, k, v, offsets = drawn(n, heads)
    began = perf_counter()
    lse = attention(q, k, v, offsets, CAUSAL).lse
    figures: dict = {"forward": perf_counter() - began}
    call = call_of(q, k, lse, offsets, CAUSAL)
    one = call_of(q[:, :1], k[:, :1], lse[:, :1], offsets, CAUSAL)
    results: list[Statistics] = []
    for name, some, what in (("compiled", heads, call), ("compiled", 1, one), ("plain", 1, one)):
        began = perf_counter()
        bytes_held = most_held(by(name, lambda what=what: results.append(statistics(what, LINKS))))
        seconds = perf_counter() - began
        figures[f"statistics of {some}, {name}"] = {"seconds": seconds, "bytes": bytes_held}
        print(name, some, f"{seconds:.1f} s, {bytes_held / 2**20:.0f} MiB", flush=True)
    alike(results[1], results[2])
    layer = Layer("long", list(range(heads)), call, lambda: results[0])
    began = perf_counter()
    pyramid = layer.pyramid(0)
    side = -(-n // (256 * pyramid.at)) * pyramid.at
    while bool(pyramid.tile(at=side).mean.isnan().any()):
        pyramid.grow(8)
    first = perf_counter() - began
    pyramid.grow()
    whole = perf_counter() - began
    random, seconds = torch.Generator().manual_seed(1), []
    for _ in range(count):
        at = 2 ** int(torch.randint(0, 9, (), generator=random))
        cells = -(-n // at)
        r, c = (int(torch.randint(0, max(1, cells - 256), (), generator=random)) for _ in range(2))
        ranges = (r, min(r + 256, cells)), (c, min(c + 256, cells))
        began = perf_counter()
        pyramid.tile(*ranges, at=at) if at >= pyramid.at else layer.tile(0, *ranges, at=(at, at))
        seconds.append(perf_counter() - began)
    tiles = {"median": median(seconds), "95th": quantiles(seconds, n=20)[-1], "most": max(seconds)}
    return {"tokens": n, "heads": heads, **figures, "first picture": first, "whole pyramid": whole, "tiles": tiles}


def main() -> None:
    parser = arguments(__doc__.partition("\n")[0], repeats=5, smoke={"heads": 2, "long": True})
    parser.add_argument("--long", action="store_true", help="also 100,000 tokens and 12 heads")
    parser.add_argument("--heads", type=int, default=4, help="heads of the timed calls")
    parser.add_argument("--peak", type=int, help="print the bytes of one head of so many tokens, and stop")
    options = parser.parse_args()
    if options.peak is not None:
        print(peak_bytes(options.peak))
        return
    if not Path("/proc/self/clear_refs").exists():
        stop("memory: expected Linux, which says in /proc what a process holds, got another system; run it there")
    if library(in_c.STATISTICS) is None:
        stop("compiled: expected a C compiler named cc, got none; install one, since this compares with it")
    figures: dict = {"targets": TARGETS, "calls": {}}
    rows = []
    part = 32 if options.smoke else 1
    with torch.no_grad():
        for name, n, pattern, both in (
            ("8192, full", 8192, FULL, False),
            ("8192, causal", 8192, CAUSAL, False),
            ("4096, full", 4096, FULL, True),
        ):
            seconds = cost(n // part, options.heads, pattern, options.repeats, both)
            middle = {side: value["median"] for side, value in seconds.items()}
            ratios = {step: middle[f"watched, {step}"] / middle["unwatched"] for step in STEPS}
            row = {"seconds": seconds, "watched, of unwatched": ratios}
            shown = [name, *(f"{s:.3f}" for s in list(middle.values())[:3])]
            shown += [f"{ratios['compiled']:.2f} (aim at most 2)", f"{ratios['plain']:.2f}", "-"]
            if both:
                row["eager, of watched"] = middle["eager"] / middle["watched, compiled"]
                shown[-1] = f"{row['eager, of watched']:.1f} (aim at least 4)"
            figures["calls"][name] = row
            rows.append(shown)
        columns = ["tokens", "unwatched s", "compiled s", "plain s", "compiled", "plain", "eager / compiled"]
        show(f"{options.heads} heads of width {WIDTH}, watched and not", columns, rows)
        for name in STEPS:
            if options.smoke:  # what is held is told by a process of its own; here only what that does
                with step(name):
                    peak_bytes(64)
                continue
            peaks = memory(name)
            off = off_the_line(peaks)
            figures[f"memory, {name}"], figures[f"memory, {name}, of the line"] = peaks, off
            sizes = ", ".join(f"{n}: {size / 2**20:.1f} MiB" for n, size in peaks.items())
            print(f"memory beyond q and k, {name}: {sizes}; {off:.2f} of the line (aim at most 1.3)")
        if options.long:
            with timed():
                figures["long"] = long(700, 2, 4) if options.smoke else long(100_000, 12, 200)
            print(figures["long"])
    write(options.results, "observe", figures)


if __name__ == "__main__":
    main()
