"""The documents of a pack as tensors, for the definition in PyTorch: runs of equal lengths, cut into strips of queries.

The weights of a strip are together in memory, weight[document, head, query, key]: of short documents all queries, of a
long one some at a time, so that memory grows with the text and never with its square.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property

import numpy as np
import torch
from numpy import ndarray
from torch import Tensor

from sightline.attention.rectangles import equal_runs
from sightline.head_roles.layout import Layout

SCORES = 2**20  # weights at once


class Runs:
    """A layout as runs of equal documents, as many in a run as keep its weights few."""

    def __init__(self, layout: Layout, heads: int, device: torch.device | str = "cpu"):
        self.layout, self.heads, self.device = layout, heads, device
        self.is_query, self.place, self.marked = map(self.tensor, (layout.is_query, layout.place, layout.marked))
        self.runs = []
        for first, row, _, count, n, _ in equal_runs(layout.offsets, layout.offsets):
            most = max(1, SCORES // (n * n * heads))
            self.runs += [Run(self, first + i, row + i * n, min(most, count - i), n) for i in range(0, count, most)]

    def tensor(self, array: ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self.device)


class Run:
    """`count` documents of n pieces each, from document `first` and row `row` of the layout on."""

    def __init__(self, runs: Runs, first: int, row: int, count: int, n: int):
        self.first, self.row, self.count, self.n = first, row, count, n
        self.layout, self.heads, self.tensor, self.device = runs.layout, runs.heads, runs.tensor, runs.device
        self.reads = self.layout.reads[first : first + count]
        self.most_words = max(read.words for read in self.reads)
        rows = slice(row, row + count * n)
        self.ids = self.tensor(self.layout.ids[rows]).view(count, n)
        self.is_query = runs.is_query[rows].view(count, n)
        self.rarest = self.tensor(self.layout.rarest[first : first + count]).long()
        self._whole = Strip(self, 0, n)

    def strips(self) -> Iterator[Strip]:
        """All queries in one strip, or of a long document several."""
        if self.count > 1 or self.n * self.n * self.heads <= SCORES:
            yield self._whole
        else:  # new for each layer, since all together are large
            for strip in self.reads[0].strips(max(1, SCORES // (self.n * self.heads))):
                yield Strip(self, *strip)

    @cached_property
    def bags(self) -> tuple[Tensor, Tensor]:
        """For `embedding_bag` over the rows [S n] of all keys: the pieces of all words, [S most_words] bags."""
        pieces = [read.pieces + s * self.n for s, read in enumerate(self.reads)]
        sizes = np.concatenate(
            [np.pad(np.diff(read.offsets), (0, self.most_words - read.words)) for read in self.reads]
        )
        return self.tensor(np.concatenate(pieces)), self.tensor(sizes.cumsum() - sizes)

    @cached_property
    def has(self) -> Tensor:
        """Which words have pieces: bool [S, most_words]."""
        has = np.zeros((self.count, self.most_words), bool)
        for s, read in enumerate(self.reads):
            has[s, : read.words] = np.diff(read.offsets) > 0
        return self.tensor(has)


class Strip:
    """The queries `start` to `stop` of each document of a run, which are whole words."""

    def __init__(self, run: Run, start: int, stop: int):
        self.run, self.start, self.stop = run, start, stop
        self.rows = torch.arange(start, stop, device=run.device)

    @cached_property
    def same(self) -> tuple[Tensor, Tensor, Tensor]:
        """(document, row, key) where the key is an earlier piece of the same id."""
        ids, keys = self.run.ids, torch.arange(self.run.n, device=self.run.device)
        same = ids[:, self.rows, None] == ids[:, None, :]
        same &= (keys < self.rows[:, None]) & self.run.is_query[:, self.rows, None]
        s, row, key = same.nonzero(as_tuple=True)
        return s, row, key

    @cached_property
    def after_same(self) -> tuple[Tensor, Tensor, Tensor]:
        """(document, row, key) where the key follows an earlier piece of the same id, and precedes the query."""
        s, row, key = self.same
        before = key + 1 < row + self.start
        return s[before], row[before], key[before] + 1

    @cached_property
    def bounds(self) -> tuple[int, int]:
        """The words that begin here, from and past; of several documents as many as the one with most words has."""
        if self.run.count > 1:
            return 0, self.run.most_words
        return tuple(np.searchsorted(self.run.reads[0].first, (self.start, self.stop)).tolist())

    @cached_property
    def words(self) -> Tensor:
        return torch.arange(*self.bounds, device=self.run.device)

    @cached_property
    def has(self) -> Tensor:
        """Which of the words have pieces: bool [S, words]."""
        return self.run.has[:, self.words]

    @cached_property
    def averaged(self) -> Tensor:
        """Weights by piece times this are weights by word, averaged over the pieces of a word: [S, rows, words]."""
        first, past = self.bounds
        averaged = np.zeros((self.run.count, self.stop - self.start, past - first), np.float32)
        for s, read in enumerate(self.run.reads):
            inside = slice(*np.searchsorted(read.word, (first, past)).tolist())
            word, piece = read.word[inside], read.pieces[inside]
            averaged[s, piece - self.start, word - first] = 1 / np.diff(read.offsets)[word]
        return self.run.tensor(averaged)

    @cached_property
    def beside_rarest(self) -> Tensor:
        """Which of the words have pieces and are not the rarest of their document: bool [S, words]."""
        rarest = self.run.rarest[:, None]
        return self.has & (rarest >= 0) & (self.words != rarest)

    @cached_property
    def questions(self) -> tuple[Tensor, Tensor]:
        """(row, limited) of the questions of the words; (question, document, query, word, right) of candidates."""
        run, arrays, words_from = self.run, self.run.layout.questions, self.run.layout.words_from
        base, (first, past) = words_from[run.first : run.first + run.count + 1], self.bounds
        low, high = base[0] + first, base[0] + past if run.count == 1 else base[-1]
        begin, end = arrays["questions_from"][[low, high]]
        query = np.repeat(np.arange(low, high), np.diff(arrays["questions_from"][low : high + 1]))
        document = np.searchsorted(base, query, "right") - 1
        query = query - base[document] - first
        candidates_from = arrays["candidates_from"][begin : end + 1]
        question = np.repeat(np.arange(end - begin), np.diff(candidates_from))
        word, right = arrays["candidates"][candidates_from[0] : candidates_from[-1]].T
        candidates = np.stack([question, document[question], query[question], word, right])
        return run.tensor(arrays["questions"][begin:end].T), run.tensor(candidates.astype(np.int64))
