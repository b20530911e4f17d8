"""Equal sentences side by side: where in their weights everything stands is laid out once, for all layers to be read by.

The weights of a run lie together, weight[sentence, head, query, key]: of short sentences whole, of a long text some queries at
a time, so that memory grows with the text and never with its square.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from numpy import ndarray
from torch import Tensor

from sightline.head_roles.totals import WIDE, Sums
from sightline.head_roles.words import Read

SCORES = 2**20  # weights at once


@dataclass(frozen=True, eq=False)
class Asked:
    """The questions of one document: Q queries, and M right words `keys`, each of question `question_of_key`; `row` is the first one's number.

    Where not every word may be the answer, `limited` [Q] is true, and `among` [C] are those that may be, each of question
    `candidate`, rising.
    """

    row: int
    query: ndarray
    keys: ndarray
    question_of_key: ndarray
    limited: ndarray
    among: ndarray
    candidate: ndarray


Unasked = Asked(0, *(np.zeros(0, kind) for kind in (int, int, int, bool, int, int)))  # of a document without questions


class Item(NamedTuple):
    """A document of a run: its pieces, which words are punctuation, the rarest word (-1: none), and what is asked of it."""

    read: Read
    punctuation: ndarray
    rare: int
    asked: Asked


class Run:
    """S documents of n pieces each, of their pack from document `first` and row `row` on."""

    def __init__(self, first: int, row: int, items: Sequence[Item], device: torch.device | str = "cpu"):
        self.first, self.row, self.items, self.device = first, row, items, device
        self.reads = [item.read for item in items]
        self.count, self.n = len(items), len(self.reads[0].ids)
        self.most_words = max(read.words for read in self.reads)
        self.ids = self.tensor(np.stack([read.ids for read in self.reads]))
        self.query = self.tensor(~np.stack([read.special for read in self.reads]))
        self.rare = torch.tensor([item.rare for item in items], device=device)
        self._made: dict[tuple[int, int], Part] = {}

    def tensor(self, array: ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self.device)

    def parts(self, heads: int) -> Iterator[Part]:
        """All queries at once, or of a long text some after others."""
        if self.count > 1 or self.n * self.n * heads <= SCORES:
            if (0, self.n) not in self._made:
                self._made[0, self.n] = Part(self, 0, self.n)
            yield self._made[0, self.n]
        else:  # made anew for each layer, since all together are large
            for strip in self.reads[0].strips(max(1, SCORES // (self.n * heads))):
                yield Part(self, *strip)

    @cached_property
    def marks(self) -> Tensor:
        """The keys that are the first, special, a separator, punctuation: [S, n, 4]."""
        made = np.zeros((self.count, self.n, 4), np.float32)
        made[:, 0, 0] = 1
        for s, (read, punctuation, _, _) in enumerate(self.items):
            made[s, :, 1], made[s, :, 2] = read.special, read.separator
            made[s, read.pieces[punctuation[read.word]], 3] = 1
        return self.tensor(made)

    @cached_property
    def bags(self) -> tuple[Tensor, Tensor]:
        """For `embedding_bag` over the rows [S n] of all keys: the pieces of all words, [S most_words] bags."""
        pieces = [read.pieces + s * self.n for s, read in enumerate(self.reads)]
        sizes = [np.pad(np.diff(read.offsets), (0, self.most_words - read.words)) for read in self.reads]
        sizes = np.concatenate(sizes)
        return self.tensor(np.concatenate(pieces)), self.tensor(sizes.cumsum() - sizes)

    @cached_property
    def has(self) -> Tensor:
        """Which words have pieces: bool [S, most_words]."""
        made = np.zeros((self.count, self.most_words), bool)
        for s, read in enumerate(self.reads):
            made[s, : read.words] = np.diff(read.offsets) > 0
        return self.tensor(made)


class Part:
    """The queries `start` to `stop` of a run, which are whole words."""

    def __init__(self, run: Run, start: int, stop: int):
        self.run, self.start, self.stop = run, start, stop
        self.rows = torch.arange(start, stop, device=run.device)
        self.query = run.query[:, start:stop]  # which of them are no special tokens: [S, rows]

    @cached_property
    def same(self) -> tuple[Tensor, Tensor, Tensor]:
        """(sentence, row, key): the key is an earlier piece of the same id."""
        ids, keys = self.run.ids, torch.arange(self.run.n, device=self.run.device)
        alike = ids[:, self.rows, None] == ids[:, None, :]
        alike &= (keys < self.rows[:, None]) & self.query[..., None]
        return alike.nonzero(as_tuple=True)

    @cached_property
    def after_same(self) -> tuple[Tensor, Tensor, Tensor]:
        """(sentence, row, key): the key stands after an earlier piece of the same id, and before the query."""
        s, row, key = self.same
        some = key + 1 < row + self.start
        return s[some], row[some], key[some] + 1

    @cached_property
    def words(self) -> Tensor:
        """The words that ask: those that begin here, of several documents as many as one of them has."""
        first, past = 0, self.run.most_words
        if self.run.count == 1:
            first, past = np.searchsorted(self.run.reads[0].first, (self.start, self.stop)).tolist()
        return torch.arange(first, past, device=self.run.device)

    @cached_property
    def has(self) -> Tensor:
        """Which of them have pieces: bool [S, words]."""
        return self.run.has[:, self.words]

    @cached_property
    def averaged(self) -> Tensor:
        """Weights by piece times this are those by word, averaged over the pieces of a word: [S, rows, words]."""
        made = np.zeros((self.run.count, self.stop - self.start, len(self.words)), np.float32)
        first, past = int(self.words[0]), int(self.words[-1]) + 1
        for s, read in enumerate(self.run.reads):
            mine = slice(*np.searchsorted(read.word, (first, past)).tolist())
            word, piece = read.word[mine], read.pieces[mine]
            made[s, piece - self.start, word - first] = 1 / np.diff(read.offsets)[word]
        return self.run.tensor(made)

    @cached_property
    def beside_rare(self) -> Tensor:
        """Which of the words may look at the rarest of their document, which is another: bool [S, words]."""
        rare = self.run.rare[:, None]
        return self.has & (rare >= 0) & (self.words != rare)

    @cached_property
    def questions(self) -> Questions:
        return Questions(self)

    def count(self, sums: Sums) -> None:
        """Adds how many there are of what is asked."""
        run = self.run
        sums["queries"] += self.query.sum()
        sums["words_asked"] += self.has.sum()
        sums["rare_queries"] += self.beside_rare.sum()
        for name, (s, row, _) in (("duplicates", self.same), ("inductions", self.after_same)):
            sums[name] += len(torch.unique(s * run.n + row))
        away = torch.arange(-WIDE, WIDE + 1, device=run.device)
        key = self.rows[:, None] + away
        there = (key >= 0) & (key < run.n)
        sums["offset_queries"] += (self.query.sum(0)[:, None] * there).sum(0)
        if len(self.words):
            key = self.words[:, None] + away
            there = (key >= 0) & (key < run.most_words) & run.has[:, key.clamp(0, run.most_words - 1)]
            sums["word_offset_queries"] += (there & self.has[..., None]).sum((0, 1))


class Questions:
    """The questions that words of a part ask, and where in the weights their answers are."""

    def __init__(self, part: Part):
        run, words = part.run, part.words
        first, past = (int(words[0]), int(words[-1]) + 1) if len(words) else (0, 0)
        plain, limited = [], []
        for s, (_, _, _, asked) in enumerate(run.items):
            here = (asked.query >= first) & (asked.query < past)
            chosen = here[asked.question_of_key] & ~asked.limited[asked.question_of_key]
            plain.append(_columns(s, asked, asked.question_of_key[chosen], asked.keys[chosen], first))
            chosen = here[asked.candidate]
            number, word = asked.candidate[chosen], asked.among[chosen]
            if len(word):
                right = np.isin(number * run.most_words + word, asked.question_of_key * run.most_words + asked.keys)
                limited.append(np.vstack([_columns(s, asked, number, word, first), right]))
        self.plain = run.tensor(np.hstack(plain))
        limited = np.hstack([np.zeros((5, 0), np.int64), *limited])
        rows, which = np.unique(limited[0], return_inverse=True)
        self.limited, self.rows, self.which = map(run.tensor, (limited, rows, which.reshape(-1)))

    def answer(self, words: Tensor, best: Tensor, answers: Tensor) -> None:
        """Sets in answers, uint8 [questions, H], whether each head's largest weight is on a right word.

        Shapes: words [S, keys, H, words]; best [S, H, words], the key with the largest weight, -1 where there is none.
        """
        row, s, query, key = self.plain
        answers.index_add_(0, row, (best[s, :, query] == key[:, None]).to(answers.dtype))
        if not len(self.rows):
            return
        _, s, query, word, right = self.limited
        weights = words[s, word, :, query]  # [C, H]
        index = self.which[:, None].expand_as(weights)
        most = weights.new_zeros(len(self.rows), weights.shape[1]).scatter_reduce_(0, index, weights, "amax")
        place = torch.arange(len(weights), device=index.device)[:, None]
        place = torch.where(weights == most[self.which], place, len(weights))
        first = place.new_full(most.shape, len(weights)).scatter_reduce_(0, index, place, "amin")
        found = (right[first.clamp_max(len(weights) - 1)] > 0) & (most > 0)
        answers[self.rows] = found.to(answers.dtype)


def _columns(s: int, asked: Asked, number: ndarray, word: ndarray, first: int) -> ndarray:
    """[row, document, query, word] of some answers to questions, given by their number."""
    return np.stack([number + asked.row, np.full(len(number), s), asked.query[number] - first, word])
