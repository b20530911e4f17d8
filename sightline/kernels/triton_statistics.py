"""Statistics of a watched call on a GPU: what `observe.statistics` defines, in Triton, a tile of scores in registers.

Three passes, whose memory never grows with the square of the length:

    by query    over the keys that a block of queries sees: entropy, distance, first, special, histogram, and for each
                query the k blocks of keys with the largest maxima
    links       the k largest weights of each query, all of which lie in those blocks
    by key      over the queries that see a block of keys: the mass received

Logarithms are to base 2, because a GPU has exp2. Products of float32 are exact float32 (no tf32), those of float16 and
bfloat16 are exact; all sums are float32, those of the histogram's parts float64. No program adds to the result of
another, so the same call gives the same bits.
"""

# What a kernel takes and gives is Triton's, which its types do not say.
# pyright: basic, reportArgumentType=false, reportCallIssue=false, reportGeneralTypeIssues=false

from __future__ import annotations

from functools import lru_cache
from math import log
from typing import NamedTuple

import numpy as np
import torch
import triton
import triton.language as tl
from torch import Tensor

WIDEST = 256  # columns of a head
LONGEST = 2**23  # rows of a sequence: distances up to here have a bin, and are exact in float32
NO_LIMIT = 2**24  # the reach of a side without limit
LOG2E = 1 / log(2)
HIDDEN = tl.constexpr(-1e30)  # the logarithm of the weight of a hidden key: finite, so that 0 times it is 0
ROOM = tl.constexpr(64)  # for the histogram's bins; distance 0 lies in the middle


# --- shared by the kernels ------------------------------------------------------------------------------------------


@triton.jit
def _products(first, ours, theirs, here, there, WIDTH: tl.constexpr, PADDED: tl.constexpr, CHUNK: tl.constexpr):
    """The products [A, B] of rows at pointers `ours` and `theirs`; `first` [A, CHUNK], of ours, is loaded already."""
    columns = tl.arange(0, CHUNK)
    loaded = tl.load(theirs[None, :] + columns[:, None], there[None, :] & (columns < WIDTH)[:, None], 0.0)
    products = tl.dot(first, loaded, input_precision="ieee")
    for c in tl.static_range(CHUNK, PADDED, CHUNK):
        real = c + columns < WIDTH
        more = tl.load(ours[:, None] + (c + columns)[None, :], here[:, None] & real[None, :], 0.0)
        loaded = tl.load(theirs[None, :] + (c + columns)[:, None], there[None, :] & real[:, None], 0.0)
        products = tl.dot(more, loaded, products, input_precision="ieee")
    return products


@triton.jit
def _logs(products, level, scale, cap):
    """The logarithms of the weights; with a cap, the capped score is cap - 2 cap / (2^x + 1) of x = scale * product."""
    scores = products * scale
    if cap is not None:
        scores = cap - 2.0 * cap / (tl.exp2(scores) + 1.0)
    return scores - level


@triton.jit
def _bin(distance):
    """The bin of a distance: 0 at 0, then 1, 2, 3 for 3..4, 4 for 5..8, negative to the left; from a float's
    exponent."""
    far = tl.abs(distance)
    size = ((far - 0.5).to(tl.int32, bitcast=True) >> 23) - 125
    size = tl.where(far < 0.5, 0, size)
    return tl.where(distance < 0, -size, size)


@triton.jit
def _update_blocks(logs, a, maxima, starts):
    """Updates the largest block maxima [ROWS, SLOTS, 4] and their blocks' first keys with a tile whose first key is a.

    A block is every fourth pair of a tile's keys: those of one thread, so that threads exchange nothing.
    """
    rows: tl.constexpr = logs.shape[0]
    parts: tl.constexpr = logs.shape[1] // 8
    new = tl.max(tl.max(tl.reshape(logs, [rows, parts, 4, 2]), 3), 1)[:, None, :]
    slots = tl.arange(0, maxima.shape[1])[None, :, None]
    weakest = tl.min(maxima, 1)[:, None, :]
    one = tl.min(tl.where(maxima == weakest, slots, maxima.shape[1]), 1)[:, None, :]  # of equal ones
    replaced = (slots == one) & (new > weakest)
    start = a + 2 * tl.arange(0, 4)[None, None, :]
    return tl.where(replaced, new, maxima), tl.where(replaced, start, starts)


@triton.jit
def _store_blocks(out, here, maxima, starts, LINKS: tl.constexpr):
    """Writes the first keys of the strongest blocks, out of those of all threads."""
    rows: tl.constexpr = maxima.shape[0]
    blocks: tl.constexpr = 4 * maxima.shape[1]
    slots = tl.arange(0, blocks)
    maxima, starts = tl.reshape(maxima, [rows, blocks]), tl.reshape(starts, [rows, blocks])
    for l in range(LINKS):
        best = slots[None, :] == tl.argmax(maxima, 1)[:, None]
        tl.store(out + l, tl.sum(tl.where(best, starts, 0), 1), here)
        maxima = tl.where(best, 2 * HIDDEN, maxima)


# --- the three passes -----------------------------------------------------------------------------------------------


@triton.jit
def _by_query(
    work, q, k, level, groups, special, entropy, distance, first, on_special, histogram, starts_of,
    q_row, q_head, k_row, k_head, tokens, heads, left, right, scale, cap,
    WIDTH: tl.constexpr, PADDED: tl.constexpr, CHUNK: tl.constexpr, LINKS: tl.constexpr, SLOTS: tl.constexpr,
    ROWS: tl.constexpr, KEYS: tl.constexpr,
):  # fmt: skip
    """A block of queries of one head; `work` has the columns of `_blocks`."""
    block, head = tl.program_id(0).to(tl.int64), tl.program_id(1).to(tl.int64)
    q0, k0 = tl.load(work + 5 * block), tl.load(work + 5 * block + 1)
    n, m = tl.load(work + 5 * block + 2).to(tl.int32), tl.load(work + 5 * block + 3).to(tl.int32)
    i = tl.load(work + 5 * block + 4).to(tl.int32)
    rows, columns, wide = tl.arange(0, ROWS), tl.arange(0, KEYS), tl.arange(0, CHUNK)
    here, place = i + rows < n, i + m - n  # the first query stands at key `place`
    q += (q0 + i) * q_row + head * q_head
    k += tl.load(groups + head) * k_head
    ours = q + rows * q_row
    loaded = tl.load(ours[:, None] + wide[None, :], here[:, None] & (wide < WIDTH)[None, :], 0.0)
    lse = tl.load(level + head * tokens + q0 + i + rows, here, -HIDDEN)
    entropies = tl.zeros([ROWS], tl.float32)
    distances, firsts, specials, pending = entropies, entropies, entropies, entropies
    bins, now = tl.arange(0, ROOM) - ROOM // 2, -ROOM
    masses = tl.zeros([ROOM], tl.float32)
    maxima, starts = tl.full([ROWS, SLOTS, 4], HIDDEN, tl.float32), tl.full([ROWS, SLOTS, 4], -1, tl.int32)
    for a in range(tl.maximum(0, place - left), tl.minimum(m, place + ROWS + right), KEYS):
        theirs = k + (k0 + a) * k_row + columns * k_row
        products = _products(loaded, ours, theirs, here, columns < m - a, WIDTH, PADDED, CHUNK)
        logs = _logs(products, lse[:, None], scale, cap)
        nearest, farthest = a - place - (ROWS - 1), a - place + (KEYS - 1)
        away = columns.to(tl.float32)[None, :] - (rows + (place - a)).to(tl.float32)[:, None]
        if (farthest > right) | (nearest < -left) | (a + KEYS > m):
            logs = tl.where((away <= right) & (away >= -left) & (columns < m - a)[None, :], logs, HIDDEN)
        if LINKS > 0:
            maxima, starts = _update_blocks(logs, a, maxima, starts)
        weights = tl.exp2(logs)
        entropies -= tl.sum(weights * logs, 1)
        distances += tl.sum(weights * tl.abs(away), 1)
        mass = tl.sum(weights, 1)
        if special is not None:
            chosen = tl.load(special + k0 + a + columns, columns < m - a, 0).to(tl.float32)
            specials += tl.sum(weights * chosen[None, :], 1)
        low, high = _bin(nearest.to(tl.float32)), _bin(farthest.to(tl.float32))
        if (low != now) | (high != now):  # else the whole tile has the bin of the last one
            masses += tl.where(bins == now, tl.sum(pending, 0), 0.0)
            each = _bin(away)
            for b in range(low, high):
                masses += tl.where(bins == b, tl.sum(tl.sum(tl.where(each == b, weights, 0.0), 1), 0), 0.0)
            mass = tl.sum(tl.where(each == high, weights, 0.0), 1)
            pending, now = tl.zeros([ROWS], tl.float32), high
            if a == 0:
                firsts = tl.sum(tl.where(columns[None, :] == 0, weights, 0.0), 1)
        pending += mass
    masses += tl.where(bins == now, tl.sum(pending, 0), 0.0)
    at = (q0 + i + rows) * heads + head
    tl.store(entropy + at, entropies * 0.6931471805599453, here)
    tl.store(distance + at, distances, here)
    tl.store(first + at, firsts, here)
    tl.store(on_special + at, specials, here)
    tl.store(histogram + (block * heads + head) * ROOM + tl.arange(0, ROOM), masses)
    if LINKS > 0:
        _store_blocks(starts_of + at * LINKS, here, maxima, starts, LINKS)


@triton.jit
def _links(
    work, q, k, level, groups, starts_of, keys, weights,
    q_row, q_head, k_row, k_head, tokens, heads, left, right, scale, cap,
    WIDTH: tl.constexpr, PADDED: tl.constexpr, CHUNK: tl.constexpr, LINKS: tl.constexpr, SLOTS: tl.constexpr,
    BLOCK: tl.constexpr, ROWS: tl.constexpr, FEW: tl.constexpr,
):  # fmt: skip
    """A few queries of one head, one after the other: of all keys in a query's strongest blocks the strongest."""
    parts: tl.constexpr = ROWS // FEW
    block, head = (tl.program_id(0) // parts).to(tl.int64), tl.program_id(1).to(tl.int64)
    q0, k0 = tl.load(work + 5 * block), tl.load(work + 5 * block + 1)
    n, m = tl.load(work + 5 * block + 2).to(tl.int32), tl.load(work + 5 * block + 3).to(tl.int32)
    i = tl.load(work + 5 * block + 4).to(tl.int32) + tl.program_id(0) % parts * FEW
    k += k0 * k_row + tl.load(groups + head) * k_head
    place, wide = tl.arange(0, SLOTS * BLOCK), tl.arange(0, CHUNK)
    for query in range(i, tl.minimum(i + FEW, n)):
        at = ((q0 + query) * heads + head) * LINKS
        start = tl.load(starts_of + at + place // BLOCK, place // BLOCK < LINKS, -1)
        key = start + place % BLOCK // 2 * 8 + place % 2  # see `_update_blocks`
        away = key - (query + m - n)
        seen = (start >= 0) & (key < m) & (away <= right) & (away >= -left)
        products = tl.zeros([SLOTS * BLOCK], tl.float32)
        for c in tl.static_range(0, PADDED, CHUNK):
            real = c + wide < WIDTH
            row = tl.load(q + (q0 + query) * q_row + head * q_head + c + wide, real, 0.0).to(tl.float32)
            theirs = k + key.to(tl.int64)[:, None] * k_row + (c + wide)[None, :]
            loaded = tl.load(theirs, seen[:, None] & real[None, :], 0.0).to(tl.float32)
            products += tl.sum(loaded * row[None, :], 1)
        logs = _logs(products, tl.load(level + head * tokens + q0 + query), scale, cap)
        logs = tl.where(seen, logs, HIDDEN)
        for l in range(LINKS):
            most = tl.max(logs, 0)
            best = tl.argmax(logs, 0)
            strongest = tl.sum(tl.where(place == best, key, 0))
            tl.store(keys + at + l, tl.where(most > HIDDEN / 2, strongest, -1))
            tl.store(weights + at + l, tl.exp2(most))
            logs = tl.where(place == best, 2 * HIDDEN, logs)


@triton.jit
def _by_key(
    work, q, k, level, groups, received,
    q_row, q_head, k_row, k_head, tokens, heads, left, right, scale, cap,
    WIDTH: tl.constexpr, PADDED: tl.constexpr, CHUNK: tl.constexpr, ROWS: tl.constexpr, KEYS: tl.constexpr,
):  # fmt: skip
    """A block of ROWS keys of one head, against KEYS queries at a time: `_by_query` with queries and keys exchanged."""
    block, head = tl.program_id(0).to(tl.int64), tl.program_id(1).to(tl.int64)
    q0, k0 = tl.load(work + 5 * block), tl.load(work + 5 * block + 1)
    n, m = tl.load(work + 5 * block + 2).to(tl.int32), tl.load(work + 5 * block + 3).to(tl.int32)
    j = tl.load(work + 5 * block + 4).to(tl.int32)
    rows, columns, wide = tl.arange(0, ROWS), tl.arange(0, KEYS), tl.arange(0, CHUNK)
    here, place = j + rows < m, j + n - m  # at the first key stands query `place`
    q += head * q_head
    level += head * tokens + q0
    ours = k + (k0 + j) * k_row + tl.load(groups + head) * k_head + rows * k_row
    loaded = tl.load(ours[:, None] + wide[None, :], here[:, None] & (wide < WIDTH)[None, :], 0.0)
    masses = tl.zeros([ROWS], tl.float32)
    for a in range(tl.maximum(0, place - right), tl.minimum(n, place + ROWS + left), KEYS):
        theirs = q + (q0 + a) * q_row + columns * q_row
        products = _products(loaded, ours, theirs, here, columns < n - a, WIDTH, PADDED, CHUNK)
        lse = tl.load(level + a + columns, columns < n - a, -HIDDEN)
        logs = _logs(products, lse[None, :], scale, cap)
        if (a - place + (KEYS - 1) > left) | (a - place - (ROWS - 1) < -right):
            away = (columns + (a - place))[None, :] - rows[:, None]  # distance of the query to the right
            logs = tl.where((away <= left) & (away >= -right), logs, HIDDEN)
        masses += tl.sum(tl.exp2(logs), 1)
    tl.store(received + (k0 + j + rows) * heads + head, masses, here)


# --- calls ----------------------------------------------------------------------------------


def fits(call) -> bool:
    """Whether the kernels compute this `observe.calls.Call`."""
    lengths = torch.cat([call.offsets.diff(), call.key_offsets.diff()])
    return (
        call.q.dtype == call.k.dtype
        and call.q.dtype in (torch.float32, torch.bfloat16, torch.float16)
        and call.q.shape[2] <= WIDEST
        and call.bias is None
        and not (lengths > LONGEST).any()
        and not (call.q.is_cuda and torch.cuda.get_device_capability(call.q.device) < (8, 0))
    )


@torch.no_grad()
def statistics(call, links: int, special: Tensor | None, bins: int) -> dict[str, Tensor]:
    """The fields of `observe.statistics.Statistics`, by name; tensors and call are on one GPU."""
    (tokens, heads, width), device = call.q.shape, call.q.device
    tiles = TILES[call.q.element_size()]
    q, k = (t if t.stride(2) == 1 else t.contiguous() for t in (call.q, call.k))
    cap, scale = call.softcap, call.scale * LOG2E
    if cap is not None:
        cap, scale = cap * LOG2E, 2 * scale / cap
    level = call.lse.float().T * LOG2E
    level = level.masked_fill(level == -torch.inf, -HIDDEN.value).contiguous()
    reach = (NO_LIMIT if side is None else min(side, NO_LIMIT) for side in (call.pattern.left, call.pattern.right))
    padded = max(16, triton.next_power_of_2(width))
    common = *q.stride()[:2], *k.stride()[:2], tokens, heads, *reach, scale, cap
    shape = {"WIDTH": width, "PADDED": padded, "CHUNK": min(padded, tiles.chunk)}
    inputs = q, k, level, call.groups.to(device)
    rows = torch.empty(4, tokens, heads, device=device)
    received = torch.empty(len(k), heads, device=device)
    starts, keys = torch.empty(2, tokens, heads, links, dtype=torch.int32, device=device)
    weights = torch.empty(tokens, heads, links, device=device)
    most = {"LINKS": links, "SLOTS": triton.next_power_of_2(max(links, 1))}
    offsets = call.offsets.numpy().tobytes(), call.key_offsets.numpy().tobytes()
    with torch.cuda.device_of(q):
        size, work = _blocks(*offsets, tiles.rows, 0, device)
        histogram = torch.empty(len(work), heads, ROOM.value, device=device)
        launch = tiles.launch(size)
        if len(work):
            special = None if special is None else special.to(torch.uint8)
            out = *rows, histogram, starts
            _by_query[len(work), heads](work, *inputs, special, *out, *common, **shape, **most, **launch)
        if len(work) and links:
            out, few = (starts, keys, weights), {"ROWS": size, "FEW": FEW, "BLOCK": tiles.keys // 4}
            _links[len(work) * size // FEW, heads](work, *inputs, *out, *common, **shape, **most, **few)
        size, work = _blocks(*offsets, tiles.rows, 1, device)
        if len(work):
            _by_key[len(work), heads](work, *inputs, received, *common, **shape, **tiles.launch(size))
    middle = ROOM.value // 2
    histogram = histogram.sum(0, dtype=torch.float64)[:, middle - bins : middle + bins + 1].float()
    named = zip(("entropy", "distance", "first", "special"), rows, strict=True)
    return {**dict(named), "received": received, "histogram": histogram, "keys": keys, "weights": weights}


class Tiles(NamedTuple):
    """The tiles of a program: at most `rows` of its own against `keys` at a time."""

    rows: int
    keys: int
    chunk: int
    warps: int
    stages: int

    def launch(self, size: int) -> dict[str, int]:
        """The options of a kernel whose own rows are `size`."""
        warps = max(1, self.warps * size // self.rows)
        return {"ROWS": size, "KEYS": self.keys, "num_warps": warps, "num_stages": self.stages}


TILES = {2: Tiles(64, 64, 256, 4, 2), 4: Tiles(64, 32, 32, 4, 2)}  # by the bytes of a number
LEAST, FEW = 16, 8  # rows of the smallest block; queries whose links one program finds


@lru_cache(256)
def _blocks(offsets: bytes, key_offsets: bytes, most: int, by: int, device: torch.device) -> tuple[int, Tensor]:
    """All sequences in blocks of at most `most` rows, queries (by 0) or keys (by 1); smaller blocks where most rows
    are empty.

    The columns: of the block's sequence the first query row, first key row, number of queries and keys; the block's
    first row in the sequence. Blocks of queries are in reverse order, since the last may see most.
    """
    starts = np.stack([np.frombuffer(o, np.int64) for o in (offsets, key_offsets)])
    lengths = np.diff(starts)
    size = most
    while size > LEAST and (-(-lengths[by] // size) * size).sum() > 2 * lengths[by].sum():
        size //= 2
    count = -(-lengths[by] // size)
    sequence = np.repeat(np.arange(len(count)), count)
    first = (np.arange(len(sequence)) - np.repeat(count.cumsum() - count, count)) * size
    work = np.stack([*starts[:, :-1][:, sequence], *lengths[:, sequence], first], 1)
    return size, torch.from_numpy((work[::-1] if by == 0 else work).copy()).to(device)
