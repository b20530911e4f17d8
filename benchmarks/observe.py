"""Says what looking costs: attention watched against unwatched, against eager weights, its memory, and how soon a map is there.

    python benchmarks/observe.py            # about two minutes
    python benchmarks/observe.py --long     # and 100,000 tokens, 12 heads; tens of minutes

Watched is one attention call and all statistics of all heads (links, entropy, distance, histogram, mass received). Eager makes the
weights whole and the same statistics from them. Memory is the most that a fresh process holds beyond what it began with.
"""

from __future__ import annotations

import math
import os
import subprocess
import sys
import threading
from pathlib import Path
from statistics import median, quantiles
from time import perf_counter, sleep

import torch
from side_by_side import agree, arguments, show, stop, summary, take_turns, write
from torch import Tensor

from sightline.attention import CAUSAL, FULL, Pattern, attention
from sightline.attention.reference import visible
from sightline.observe.calls import Call
from sightline.observe.layer import Layer
from sightline.observe.statistics import BINS, Statistics, statistics

WIDTH, LINKS = 64, 8
MEMORY = (4096, 16_384, 65_536)
LONG, HEADS = 100_000, 12
TARGETS = {"watched, of unwatched": 2.0, "eager, of watched": 4.0, "memory, of the line": 1.3}


def drawn(n: int, heads: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    random = torch.Generator().manual_seed(0)
    q, k, v = torch.randn(3, n, heads, WIDTH, generator=random)
    return 2 * q, k, v, torch.tensor([0, n])


def call_of(q: Tensor, k: Tensor, lse: Tensor, offsets: Tensor, pattern: Pattern) -> Call:
    return Call(q, k, lse, offsets, offsets, pattern, WIDTH**-0.5, torch.arange(q.shape[1]))


def watched(q: Tensor, k: Tensor, v: Tensor, offsets: Tensor, pattern: Pattern) -> Statistics:
    lse = attention(q, k, v, offsets, pattern).lse
    return statistics(call_of(q, k, lse, offsets, pattern), LINKS)


def eager(q: Tensor, k: Tensor, v: Tensor, pattern: Pattern) -> Statistics:
    """The output, and the statistics from weights that are there as a whole, as one would write them down; a head at a time."""
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
    sides = {
        "unwatched": lambda: attention(q, k, v, offsets, pattern),
        "watched": lambda: watched(q, k, v, offsets, pattern),
    }
    if with_eager:
        sides["eager"] = lambda: eager(q, k, v, pattern)
        ours, theirs = sides["watched"](), sides["eager"]()
        for name in ("entropy", "distance", "received", "first", "histogram", "weights"):
            a, b = getattr(ours, name), getattr(theirs, name)
            limit = 1e-2 if name == "histogram" else 1e-4  # millions of float32 added up one by one, by eager
            agree(name, float((a - b).abs().max() / b.abs().max().clamp_min(1)), limit)
    return {name: summary(seconds) for name, seconds in take_turns(sides, repeats).items()}


# --- memory -------------------------------------------------------------------------------------------------------------


def held(n: int) -> int:
    """Bytes that statistics of one head of n tokens take at most beyond queries, keys and lse; for a process of its own."""
    q, k, _, offsets = drawn(n, 1)
    lse = torch.full((n, 1), math.log(n))
    statistics(call_of(*drawn(64, 1)[:2], torch.zeros(64, 1), torch.tensor([0, 64]), CAUSAL), LINKS)
    most, done, page = 0, threading.Event(), os.sysconf("SC_PAGE_SIZE")

    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * page

    def sample() -> None:
        nonlocal most
        while not done.is_set():
            most = max(most, resident())
            sleep(0.002)

    before = resident()
    sampler = threading.Thread(target=sample)
    sampler.start()
    statistics(call_of(q, k, lse, offsets, CAUSAL), LINKS)
    done.set()
    sampler.join()
    return most - before


def memory() -> dict[str, int]:
    run = [sys.executable, __file__, "--held"]
    return {
        str(n): int(subprocess.run([*run, str(n)], capture_output=True, text=True, check=True).stdout)
        for n in MEMORY
    }


def off_the_line(found: dict[str, int]) -> float:
    """How far the longest lies above the line through the two shorter ones."""
    (a, x), (b, y), (c, z) = ((int(n), size) for n, size in found.items())
    line = x + (y - x) / (b - a) * (c - a)
    return z / line


# --- a long text --------------------------------------------------------------------------------------------------------


def long() -> dict:
    """Seconds for one layer of 100,000 tokens: forward, statistics of 12 heads, first picture of a head, tiles."""
    q, k, v, offsets = drawn(LONG, HEADS)
    began = perf_counter()
    lse = attention(q, k, v, offsets, CAUSAL).lse
    forward = perf_counter() - began
    call = call_of(q, k, lse, offsets, CAUSAL)
    began = perf_counter()
    made = statistics(call, LINKS)
    watching = perf_counter() - began
    layer = Layer("long", list(range(HEADS)), call, lambda: made)
    began = perf_counter()
    pyramid = layer.pyramid(0)
    side = -(-LONG // (256 * pyramid.at)) * pyramid.at
    while bool(pyramid.tile(at=side).mean.isnan().any()):
        pyramid.grow(8)
    first = perf_counter() - began
    pyramid.grow()
    whole = perf_counter() - began
    random, seconds = torch.Generator().manual_seed(1), []
    for _ in range(200):
        at = 2 ** int(torch.randint(0, 9, (), generator=random))
        cells = -(-LONG // at)
        r, c = (int(torch.randint(0, max(1, cells - 256), (), generator=random)) for _ in range(2))
        ranges = (r, min(r + 256, cells)), (c, min(c + 256, cells))
        began = perf_counter()
        pyramid.tile(*ranges, at=at) if at >= pyramid.at else layer.tile(0, *ranges, at=(at, at))
        seconds.append(perf_counter() - began)
    tiles = {"median": median(seconds), "95th": quantiles(seconds, n=20)[-1], "most": max(seconds)}
    return {
        "forward": forward,
        "statistics": watching,
        "first picture": first,
        "whole pyramid": whole,
        "tiles": tiles,
    }


def main() -> None:
    parser = arguments(__doc__.partition("\n")[0], repeats=5)
    parser.add_argument("--long", action="store_true", help="also 100,000 tokens and 12 heads")
    parser.add_argument("--heads", type=int, default=4, help="heads of the timed calls")
    parser.add_argument("--held", type=int, help="print the bytes of one head of so many tokens, and stop")
    asked = parser.parse_args()
    if asked.held is not None:
        print(held(asked.held))
        return
    if not Path("/proc/self/statm").exists():
        stop(
            "memory: expected Linux, which says in /proc what a process holds, got another system; run it there"
        )
    figures: dict = {"targets": TARGETS, "calls": {}}
    rows = []
    with torch.no_grad():
        for name, n, pattern, both in (
            ("8192, full", 8192, FULL, False),
            ("8192, causal", 8192, CAUSAL, False),
            ("4096, full", 4096, FULL, True),
        ):
            seconds = cost(n, asked.heads, pattern, asked.repeats, both)
            middle = {side: value["median"] for side, value in seconds.items()}
            ratio = middle["watched"] / middle["unwatched"]
            row = {"seconds": seconds, "watched, of unwatched": ratio}
            shown = [
                name,
                f"{middle['unwatched']:.3f}",
                f"{middle['watched']:.3f}",
                f"{ratio:.2f} (aim at most 2)",
                "-",
            ]
            if both:
                row["eager, of watched"] = middle["eager"] / middle["watched"]
                shown[-1] = f"{row['eager, of watched']:.1f} (aim at least 4)"
            figures["calls"][name] = row
            rows.append(shown)
        show(
            f"{asked.heads} heads of width {WIDTH}",
            ["tokens", "unwatched s", "watched s", "ratio", "eager / watched"],
            rows,
        )
        figures["memory"] = found = memory()
        figures["memory, of the line"] = off_the_line(found)
        sizes = ", ".join(f"{n}: {size / 2**20:.0f} MiB" for n, size in found.items())
        print(
            f"memory beyond q and k: {sizes}; {figures['memory, of the line']:.2f} of the line (aim at most 1.3)"
        )
        if asked.long:
            figures["long"] = long()
            print(figures["long"])
    write(asked.results, "observe", figures)


if __name__ == "__main__":
    main()
