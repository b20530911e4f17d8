"""Reads what heads do in C, `kernels/head_sums.c`, where the system has a compiler: what `definition.py` defines, several times faster.

Where there is none, or a call is not float32 on the CPU, or has a bias or a softcap, `definition.py` does it. What a document is (which
pieces ask, which make which word, which questions there are) is laid out once for all layers, in arrays that grow with the text.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property

import numpy as np
import torch
from numpy import ndarray
from torch import Tensor

from sightline.head_roles.layout import Item
from sightline.head_roles.totals import EDGES, SINK, WIDE, Sums
from sightline.head_roles.words import Read
from sightline.kernels.toolchain import KERNELS, Source, library
from sightline.observe.calls import Call
from sightline.observe.native import STEPS, D, I, P

ROOM = 2**16  # weights of a strip, which lie near the processor
ROWS = 16  # of a strip, at least: fewer queries would be computed all the same
ALIGNED = 64  # a row of weights is at most this much longer than the keys; at most so many rows more
FEW = 2**17  # weights that are not worth a thread
HEADS = Source(KERNELS / "head_sums.c", "sightline_heads", (P, I, I))
LISTS = (
    "marks_from marks words_from head_piece more_from more pieces_from pieces rare strips_from strips asked_from asked keys_from keys"
).split()
MASSES = ("first", "special", "separator", "punctuation")  # as `marks` has them
NAMES = ("offset_weight", "word_offset_weight", "distances", "offset_best", "word_offset_best", "sink")
NAMES += (*MASSES, "entropy", "confidence", "duplicate", "induction", "rare")
SIZES = "documents width left right answers_row edges room rows longest most_words".split()


class Given(ctypes.Structure):
    """A call as `kernels/head_sums.c` has it."""

    _fields_ = [
        *((name, P) for name in ("q", "k", "lse", "groups", "offsets", "asks", "before", *LISTS, "bins")),
        ("answers", P),
        *((f"to_{name}", P) for name in NAMES),
        *((name, I) for name in (*STEPS, *SIZES)),
        *((name, D) for name in ("scale", "sinks")),
    ]


def fits(call: Call) -> bool:
    """Whether this is a call that `kernels/head_sums.c` knows, and `kernels/head_sums.c` is there."""
    plain = call.bias is None and call.softcap is None
    known = all(t.dtype == torch.float32 and t.device.type == "cpu" for t in (call.q, call.k, call.lse))
    return plain and known and library(HEADS) is not None


def way(device: torch.device) -> str:
    """How weights are read there: each way gives its own last bits."""
    return f"{'C' if device.type == 'cpu' and library(HEADS) else 'PyTorch'} on {device.type}"


def read(call: Call, laid: Laid, layer: int, sums: Sums, answers: Tensor) -> None:
    """Reads the weights of a layer in some documents; answers [questions, H] say what its heads found."""
    heads, width = call.q.shape[1:]
    if layer == 0:
        for name, count in laid.counts.items():
            sums[name] += torch.from_numpy(np.asarray(count))
    groups = call.groups.long().contiguous()
    held = {"q": call.q, "k": call.k, "lse": call.lse, "groups": groups, "answers": answers}
    held |= {f"to_{name}": sums[name][layer] for name in NAMES}
    sides = {side: getattr(call.pattern, side) for side in ("left", "right")}
    sides = {side: laid.longest if n is None else min(n, laid.longest) for side, n in sides.items()}
    given = Given(width=width, answers_row=answers.stride(0), scale=call.scale, sinks=SINK, edges=len(EDGES))
    for name, size in {**laid.sizes, **sides}.items():
        setattr(given, name, size)
    for name, t in held.items():
        setattr(given, name, t.data_ptr())
    for name, array in laid.arrays.items():
        setattr(given, name, array.ctypes.data)
    for name, step in zip(STEPS, (*call.q.stride(), *call.k.stride(), *call.lse.stride()), strict=True):
        setattr(given, name, step)
    function = library(HEADS).sightline_heads

    def work(first: int, stop: int) -> None:
        if function(ctypes.byref(given), first, stop):
            raise MemoryError("heads: expected memory for a strip of weights, got none; free some")

    threads = min(torch.get_num_threads(), heads) if laid.pairs * heads > FEW else 1
    cuts = [heads * i // threads for i in range(threads + 1)]
    if threads == 1:
        work(0, heads)
    else:  # a head is one thread's, so that sums are the same bits for any number of them
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(work, cuts, cuts[1:]))


class Laid:
    """Documents one after another, as `kernels/head_sums.c` has them: `arrays` by the names of its fields."""

    def __init__(self, items: Sequence[Item]):
        self.reads = [item.read for item in items]
        self.lengths = np.array([len(read.ids) for read in self.reads], np.int64)
        self.offsets = _from(self.lengths)
        self.words_from = _from([read.words for read in self.reads])
        self.pieces = np.concatenate([np.diff(read.offsets) for read in self.reads])  # of each word, how many
        self.document = np.repeat(np.arange(len(items)), self.lengths)  # of each row
        self.asks = ~np.concatenate([read.special for read in self.reads])
        self.rare = np.array([item.rare for item in items], np.int32)
        self.pairs = int((self.lengths**2).sum())
        self.before = self._before()
        strips = [_strips(read) for read in self.reads]
        rows = [max(stop - start for start, stop, _, _ in mine) for mine in strips]
        room = ((most + ALIGNED) * (n + ALIGNED) for most, n in zip(rows, self.lengths.tolist(), strict=True))
        self.sizes = {"documents": len(items), "rows": max(rows), "room": max(room)}
        self.sizes |= {"longest": max(self.lengths), "most_words": max(np.diff(self.words_from))}
        self.sizes = {name: int(size) for name, size in self.sizes.items()}
        made = {"offsets": self.offsets, "asks": self.asks.astype(np.uint8), "before": self.before}
        made |= {"words_from": self.words_from, "rare": self.rare, "bins": _bins(self.longest)}
        made |= {"strips_from": _from([len(mine) for mine in strips]), "strips": np.concatenate(strips)}
        made["strips"] = made["strips"].astype(np.int32)
        made |= self._marks(items) | self._words() | self._questions(items)
        self.arrays = {name: np.ascontiguousarray(array) for name, array in made.items()}

    @property
    def longest(self) -> int:
        return self.sizes["longest"]

    def _before(self) -> ndarray:
        """For each piece the last earlier one of the same id in its document, or -1."""
        ids = np.concatenate([read.ids for read in self.reads])
        order = np.lexsort((ids, self.document))
        alike = (ids[order[1:]] == ids[order[:-1]]) & (self.document[order[1:]] == self.document[order[:-1]])
        made = np.full(len(ids), -1, np.int32)
        made[order[1:][alike]] = (order[:-1] - self.offsets[self.document[order[:-1]]])[alike]
        return made

    def _marks(self, items: Sequence[Item]) -> dict[str, ndarray]:
        made = np.zeros((len(self.document), len(MASSES)), bool)
        made[self.offsets[:-1], 0] = True
        made[:, 1] = ~self.asks
        made[:, 2] = np.concatenate([read.separator for read in self.reads])
        punctuation = np.repeat(np.concatenate([item.punctuation for item in items]), self.pieces)
        rows = np.concatenate([read.pieces + row for read, row in zip(self.reads, self.offsets, strict=False)])
        made[rows[punctuation], 3] = True
        row, kind = made.nonzero()
        marks = np.stack([kind, row - self.offsets[self.document[row]]], 1)
        return {"marks_from": np.searchsorted(row, self.offsets), "marks": marks.astype(np.int32)}

    def _words(self) -> dict[str, ndarray]:
        pieces = np.concatenate([read.pieces for read in self.reads]).astype(np.int32)
        word = np.repeat(np.arange(len(self.pieces)), self.pieces)
        starts, has = _from(self.pieces), self.pieces > 0
        head = np.repeat(self.lengths, np.diff(self.words_from)).astype(np.int32)
        head[has] = pieces[starts[:-1][has]]
        rest = np.ones(len(pieces), bool)
        rest[starts[:-1][has]] = False
        local = np.concatenate([read.word for read in self.reads])
        more = np.stack([local, pieces], 1)[rest].astype(np.int32)
        found = {"head_piece": head, "more_from": np.searchsorted(word[rest], self.words_from), "more": more}
        return found | {"pieces_from": starts, "pieces": pieces}

    def _questions(self, items: Sequence[Item]) -> dict[str, ndarray]:
        """By the word that asks; of each the words that are right or, where only some may be it, these, and whether each is right."""
        asked = [item.asked for item in items]
        counts = np.array([len(one.query) for one in asked], np.int64)
        numbers = _from(counts)

        def joined(name: str, add: ndarray) -> ndarray:
            arrays = [getattr(one, name) for one in asked]
            return np.concatenate(arrays) + np.repeat(add, [len(array) for array in arrays])

        none = 0 * counts
        word, few = joined("query", self.words_from[:-1]), joined("limited", none).astype(bool)
        row = np.arange(len(word)) + np.repeat([one.row for one in asked] - numbers[:-1], counts)
        asker, keys = joined("question_of_key", numbers[:-1]), joined("keys", none)
        candidate, among = joined("candidate", numbers[:-1]), joined("among", none)
        size = self.sizes["most_words"] + 1
        right = np.isin(candidate * size + among, asker * size + keys)
        order = np.argsort(word, kind="stable")
        rank = np.empty_like(order)
        rank[order] = np.arange(len(order))
        plain = ~few[asker]
        owner = rank[np.append(asker[plain], candidate)]
        pairs = np.stack([np.append(keys[plain], among), np.append(plain[plain], right)], 1)
        by_owner = np.argsort(owner, kind="stable")
        return {
            "asked_from": np.searchsorted(word[order], np.arange(len(self.pieces) + 1)),
            "asked": np.stack([row, few], 1)[order].astype(np.int64),
            "keys_from": np.searchsorted(owner[by_owner], np.arange(len(word) + 1)),
            "keys": pairs[by_owner].astype(np.int32),
        }

    @cached_property
    def counts(self) -> dict[str, int | ndarray]:
        """How many there are of what is asked, as `Part.count` has it."""
        place, has = np.arange(len(self.document)) - self.offsets[self.document], self.pieces > 0
        earlier = np.where(self.before >= 0, self.before + self.offsets[self.document], 0)
        twice = (self.before >= 0) & self.asks
        after = twice & ((self.before < place - 1) | (self.before[earlier] >= 0))
        words = np.append(0, has.cumsum())[self.words_from]
        return {
            "queries": self.asks.sum(),
            "words_asked": has.sum(),
            "rare_queries": (np.diff(words) - 1)[self.rare >= 0].sum(),
            "duplicates": twice.sum(),
            "inductions": after.sum(),
            "offset_queries": _near(self.asks, np.ones_like(self.asks), self.offsets),
            "word_offset_queries": _near(has, has, self.words_from),
        }


def _near(asks: ndarray, there: ndarray, offsets: ndarray) -> ndarray:
    """How many of those that ask have one at each offset, in their own document, that is there: [2 WIDE + 1]."""
    asker = np.flatnonzero(asks)
    document = np.searchsorted(offsets, asker, "right") - 1
    other = asker[:, None] + np.arange(-WIDE, WIDE + 1)
    inside = (other >= offsets[document, None]) & (other < offsets[document + 1, None])
    return (inside & np.append(there, False)[np.where(inside, other, -1)]).sum(0)


def _from(sizes) -> ndarray:
    return np.append(0, np.cumsum(np.asarray(sizes, np.int64)))


def _bins(longest: int) -> ndarray:
    """Which of EDGES each distance is counted with."""
    return (np.searchsorted(EDGES.numpy(), np.arange(longest), "right") - 1).astype(np.int32)


def _strips(read: Read) -> list[tuple[int, ...]]:
    """Pieces and words, from and past, whose weights are there together."""
    n = len(read.ids)
    if n * n <= ROOM:
        return [(0, n, 0, read.words)]
    return [(*pair, *np.searchsorted(read.first, pair).tolist()) for pair in read.strips(max(ROWS, ROOM // n))]
