"""Plans the dense rectangles [count, queries, keys] that cover all of attention, for a kernel that takes nothing else.

Neighbours of equal length are one rectangle, read by strides without a copy. Single lengths are first copied to a
stage, sorted, and padded a little, where that costs less than one more call. A window is cut into blocks of queries
with only the keys that they see.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sightline.attention.pattern import Pattern
from sightline.attention.request import Request
from sightline.sequences import Layout, equal_runs

# Costs on a CPU with 512-bit vectors, in nanoseconds, forward and backward together: only their ratios matter.
CALL = 250_000  # one more call
PAIR, PAIR_WIDTH = 4, 1 / 6  # one query-key pair of one head, and as much for each number of the head's width
TAIL = 15  # one exponential beyond the last 16 in a row, which the kernel computes one by one
COPY = 3  # one number of one row, brought onto the stage and back
Run = tuple[int, int, int]  # length, first row, count
BLOCK = 256  # a window's queries at once: its mask is BLOCK x (BLOCK + window)


@dataclass(frozen=True)
class Rectangle:
    """`count` equal blocks of queries with the keys they see: the first row of each, and the step to the next.

    `mask` is "none", "causal" (query i sees keys up to i), "band" (the pattern, query i standing at key i + behind) or
    "pad" (`hidden` [count, 1, 1, keys] is -inf at padding). A bias is indexed by `sequence`, the first of the `count`,
    and by `i` and `j`, the first query and key in each.
    """

    count: int
    queries: int
    keys: int
    mask: str
    query: int
    query_step: int
    key: int
    key_step: int
    behind: int = 0
    hidden: Tensor | None = None
    sequence: int = 0
    i: int = 0
    j: int = 0


@dataclass(frozen=True)
class Plan:
    """Rectangles on the pack itself, and on a stage: slot i of the stage holds row `source[i]` of the pack, row
    `rows[i]` has slot `slots[i]`, and the slots `spare` are padding."""

    direct: tuple[Rectangle, ...]
    staged: tuple[Rectangle, ...]
    source: Tensor
    rows: Tensor
    slots: Tensor
    spare: Tensor
    blind: bool  # some query sees no key
    overlap: bool  # some key is in two rectangles, or in none


def plan(request: Request) -> Plan:
    """Which rectangles to compute for so many heads of this width: a pure function, computed once for the batch."""
    _, heads, width = request.q.shape
    return request.plan(_plan, request.pattern, heads, width, request.bias is not None)


def _plan(layout: Layout, key_layout: Layout | None, pattern: Pattern, heads: int, width: int, biased: bool) -> Plan:
    """With a bias, each run of equal lengths stays one rectangle by itself, so that the bias is a view too."""
    starts, key_starts = layout.starts, (layout if key_layout is None else key_layout).starts
    direct, squares, seeing = [], [], 0
    for sequence, q0, k0, count, n, m in equal_runs(starts, key_starts):
        for i, queries, j, keys, mask, behind in _blocks(n, m, pattern):
            seeing += count * queries
            if key_layout is None and mask != "band" and not biased:
                squares.append((n, q0, count))
            else:
                rows = q0 + i, n, k0 + j, m, behind
                direct.append(Rectangle(count, queries, keys, mask, *rows, sequence=sequence, i=i, j=j))
    mask = "causal" if pattern.right == 0 else "none"
    groups = _partition(sorted(squares), heads, width)
    direct += [Rectangle(count, n, n, mask, q0, n, q0, n) for n, q0, count in groups.pop(0, [])]
    staged, stage = _stage(groups, mask)
    once = _once(direct, stage[1].numpy(), key_starts[-1])
    return Plan(
        tuple(direct) if biased else _merged(direct), staged, *stage, blind=seeing < starts[-1], overlap=not once
    )


def _once(rectangles: list[Rectangle], staged: np.ndarray, keys: int) -> bool:
    """Whether each key is in just one rectangle, or in one row that is staged."""
    edges = np.zeros(keys + 1, np.int64)
    for r in rectangles:
        first = r.key + r.key_step * np.arange(r.count)
        np.add.at(edges, first, 1)
        np.add.at(edges, first + r.keys, -1)
    times = edges[:-1].cumsum()
    times[staged] += 1
    return bool((times == 1).all())


def _blocks(n: int, m: int, pattern: Pattern) -> list[tuple[int, int, int, int, str, int]]:
    """One sequence of n queries and m keys, cut into (first query, queries, first key, keys, mask, behind)."""
    left = n + m if pattern.left is None else pattern.left
    right = n + m if pattern.right is None else pattern.right
    behind = m - n  # query i stands at key i + behind
    blind = max(0, -behind - right)  # leading queries that see nothing
    if m == 0 or n <= blind:
        return []
    sees_all_left, sees_all_right = left >= m - 1, right >= m - 1 - (behind + blind)
    if sees_all_left and right == 0 and behind == 0:
        return [(0, n, 0, m, "causal", 0)]
    if sees_all_left and sees_all_right:
        return [(blind, n - blind, 0, m, "none", 0)]
    reach = max(r for r in (pattern.left, pattern.right) if r is not None)
    size = min(max(reach, 32), BLOCK)
    blocks = []
    for i in range(blind, n, size):
        stop = min(i + size, n)
        lo, hi = max(0, i + behind - left), min(m, stop + behind + right)
        blocks.append((i, stop - i, lo, hi - lo, "band", i + behind - lo))
    return blocks


def _merged(rectangles: list[Rectangle]) -> tuple[Rectangle, ...]:
    """Joins single blocks of one shape at equal distances, such as a window's in a long sequence, to one rectangle."""
    merged: list[Rectangle] = []
    for r in rectangles:
        if merged and r.count == 1:
            last = merged[-1]
            alike = (r.queries, r.keys, r.mask, r.behind) == (last.queries, last.keys, last.mask, last.behind)
            steps = (r.query - last.query, r.key - last.key)
            if alike and last.count == 1:
                merged[-1] = Rectangle(2, r.queries, r.keys, r.mask, last.query, steps[0], last.key, steps[1], r.behind)
                continue
            if alike and steps == (last.count * last.query_step, last.count * last.key_step):
                fields = (r.queries, r.keys, r.mask, last.query, last.query_step, last.key, last.key_step, r.behind)
                merged[-1] = Rectangle(last.count + 1, *fields)
                continue
        merged.append(r)
    return tuple(merged)


def _partition(squares: list[Run], heads: int, width: int) -> dict[int, list[Run]]:
    """Runs (length, first row, count), grouped at least cost: under 0 those read in place, one call each; under a
    length those padded to it on the stage, one call in all. Finds the best cut of the distinct lengths by dynamic
    programming.
    """
    if not squares:
        return {}
    runs, count = np.array([n for n, *_ in squares]), [c for *_, c in squares]
    lengths, index = np.unique(runs, return_inverse=True)
    members, calls = np.bincount(index, count), np.bincount(index)

    def compute(n: np.ndarray) -> np.ndarray:
        return heads * n * (n * (PAIR + width * PAIR_WIDTH) + TAIL * (n % 16))

    aligned = -(-lengths // 16) * 16
    padded = np.where(compute(lengths) <= compute(aligned), lengths, aligned)
    on_stage = (compute(padded) + padded * COPY * heads * width).tolist()
    as_it_lies = (calls * CALL + members * compute(lengths)).tolist()
    firsts = np.searchsorted(lengths, (lengths - 16) // 2).tolist()  # to pad more than that never pays
    total = np.concatenate([[0], members.cumsum()])
    best, cuts = np.zeros(len(lengths) + 1), [(0, 0)]
    for last, first in enumerate(firsts):
        options = best[first : last + 1] + (total[last + 1] - total[first : last + 1]) * on_stage[last]
        start = int(options.argmin())
        staged, direct = options[start] + CALL, best[last] + as_it_lies[last]
        best[last + 1] = min(staged, direct)
        cuts.append((last, 0) if direct <= staged else (first + start, int(padded[last])))
    where, stop = {}, len(lengths)
    while stop:
        start, padded = cuts[stop]
        where.update(dict.fromkeys(lengths[start:stop].tolist(), padded))
        stop = start
    groups: dict[int, list[Run]] = {}
    for square in squares:
        groups.setdefault(where[square[0]], []).append(square)
    return groups


def _stage(groups: dict[int, list[Run]], mask: str) -> tuple[tuple[Rectangle, ...], tuple[Tensor, ...]]:
    """One rectangle for each group (runs under the length they are padded to); and the slots, as in `Plan`."""
    rectangles, source, spare, room = [], [], [], 0
    for padded, squares in groups.items():
        first = np.concatenate([q0 + n * np.arange(count) for n, q0, count in squares])
        real = np.concatenate([np.full(count, n) for n, _, count in squares])
        place = np.arange(padded)
        source.append((first[:, None] + np.minimum(place, real[:, None] - 1)).ravel())
        spare.append((place >= real[:, None]).ravel())
        kind = "pad" if mask == "none" and spare[-1].any() else mask
        hidden = np.where(place < real[:, None], 0, -np.inf).astype(np.float32)[:, None, None]
        hidden = torch.from_numpy(hidden) if kind == "pad" else None
        rectangles.append(Rectangle(len(first), padded, padded, kind, room, padded, room, padded, hidden=hidden))
        room += len(source[-1])
    source, spare = (np.concatenate([np.zeros(0, kind), *parts]) for parts, kind in ((source, np.int64), (spare, bool)))
    slots = np.flatnonzero(~spare)
    order = np.argsort(source[slots], kind="stable")
    slots = slots[order]
    return tuple(rectangles), tuple(map(torch.from_numpy, (source, source[slots], slots, np.flatnonzero(spare))))
