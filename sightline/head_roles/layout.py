"""The documents of a pack as flat arrays: pieces, words, questions and candidates, computed once for all layers.

`kernels/head_sums.c` reads the arrays as they are; `runs.py` makes tensors of them. They grow with the text, never with
its square.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy import ndarray

from sightline.head_roles.gold import Corpus
from sightline.head_roles.totals import EDGES, MASSES, WIDE
from sightline.models.word_pieces import WordPieces

STRIP_SIZE = 2**16  # weights of a strip, which lie near the processor
STRIP_ROWS = 16  # of a strip, at least: the kernel computes as many anyway
ALIGNED = 64  # a row of weights is at most this much longer than the keys; at most so many rows more


class Questions(NamedTuple):
    """The questions of one document, in the order of the words they start from.

    Shapes: of Q questions the row of their answers, query, whether they are limited to candidates, and their number of
    candidates; of the candidates of all questions in turn word and right. Without a limit these are the right words.
    """

    row: ndarray
    query: ndarray
    limited: ndarray
    counts: ndarray
    word: ndarray
    right: ndarray


NO_QUESTIONS = Questions(*(np.zeros(0, kind) for kind in (int, int, bool, int, int, bool)))


class Item(NamedTuple):
    """A document of a pack: its pieces, which words are punctuation, the rarest word (-1: none), and its questions."""

    read: WordPieces
    punctuation: ndarray
    rarest: int
    questions: Questions


def questions_of(corpus: Corpus, start: int, stop: int, reads: Sequence[WordPieces]) -> tuple[list[Questions], int]:
    """The questions of documents `start` to `stop`, rows from 0 on, and how many of them have words without pieces."""
    first, past = np.searchsorted(corpus.document, (start, stop))
    document, query, limited = (a[first:past] for a in (corpus.document, corpus.query, corpus.among_mentions))
    document, count = document - start, int(past - first)
    chosen = slice(*corpus.offsets[[first, past]].tolist())
    keys, owner = corpus.keys[chosen], corpus.question_of_key[chosen] - first

    words_from = _bounds([read.words for read in reads])
    has = np.concatenate([*(np.diff(read.offsets) > 0 for read in reads), [False]])
    readable = np.bincount(owner, has[words_from[document[owner]] + keys], count) > 0
    unread = count - int((readable & has[words_from[document] + query]).sum())

    mentions = [np.sort(one.mentions) for one in corpus.documents[start:stop]]
    mentions_from, mentions = _bounds([len(one) for one in mentions]), np.concatenate([np.zeros(0, int), *mentions])
    size = int(words_from[-1]) + 1
    codes = np.repeat(np.arange(stop - start), np.diff(mentions_from)) * size + mentions
    earlier = np.where(limited, np.searchsorted(codes, document * size + query) - mentions_from[document], 0)
    candidate = np.repeat(np.arange(count), earlier)
    place = np.arange(len(candidate)) + np.repeat(mentions_from[document] - _bounds(earlier)[:-1], earlier)
    right = np.isin(candidate * size + mentions[place], owner * size + keys)

    order = np.lexsort((query, document))
    rank = np.argsort(order)
    plain = ~limited[owner]
    rank = rank[np.append(owner[plain], candidate)]
    word, right = np.append(keys[plain], mentions[place]), np.append(plain[plain], right)
    by_rank = np.argsort(rank, kind="stable")
    word, right, counts = word[by_rank], right[by_rank], np.bincount(rank, minlength=count)

    of_questions = np.searchsorted(document, np.arange(stop - start + 1))
    of_candidates = _bounds(counts)[of_questions]
    arrays = (order, query[order], limited[order], counts)
    return [
        Questions(*(a[q:q_stop] for a in arrays), *(a[c:c_stop] for a in (word, right)))
        for q, q_stop, c, c_stop in zip(of_questions, of_questions[1:], of_candidates, of_candidates[1:], strict=False)
    ], unread


class Layout:
    """Documents one after another; `arrays` and sizes by the names of the fields in `kernels/head_sums.c`."""

    def __init__(self, items: Sequence[Item]):
        self.items, self.reads = items, [item.read for item in items]
        self.ids = np.concatenate([read.ids for read in self.reads])
        self.lengths = np.array([len(read.ids) for read in self.reads], np.int64)
        self.offsets = _bounds(self.lengths)
        self.words_from = _bounds([read.words for read in self.reads])
        self.piece_counts = np.concatenate([np.diff(read.offsets) for read in self.reads])  # of each word
        self.document = np.repeat(np.arange(len(items)), self.lengths)  # of each row
        self.place = np.arange(len(self.ids)) - self.offsets[self.document]  # of each row in its document
        self.is_query = ~np.concatenate([read.special for read in self.reads])
        self.rarest = np.array([item.rarest for item in items], np.int32)
        self.before = self._before()
        self.marked = self._marked()

    def _before(self) -> ndarray:
        """For each piece the last earlier one of the same id in its document, or -1."""
        order = np.lexsort((self.ids, self.document))
        ids, document = self.ids[order], self.document[order]
        same = (ids[1:] == ids[:-1]) & (document[1:] == document[:-1])
        before = np.full(len(ids), -1, np.int32)
        before[order[1:][same]] = self.place[order[:-1][same]]
        return before

    def _marked(self) -> ndarray:
        """Which pieces are of which of MASSES: bool [rows, 4]."""
        punctuation = np.repeat(np.concatenate([item.punctuation for item in self.items]), self.piece_counts)
        rows = np.concatenate([read.pieces + row for read, row in zip(self.reads, self.offsets, strict=False)])
        separator = np.concatenate([read.separator for read in self.reads])
        marked = np.stack([self.place == 0, ~self.is_query, separator, np.zeros_like(self.is_query)], 1)
        marked[rows[punctuation], MASSES.index("punctuation")] = True
        return marked

    @cached_property
    def arrays(self) -> dict[str, ndarray | int]:
        """All that `head_sums.c` reads."""
        longest, most_words = int(self.lengths.max()), int(np.diff(self.words_from).max())
        strips = [_strips(read) for read in self.reads]
        rows = [max(stop - start for start, stop, _, _ in several) for several in strips]
        sizes = ((most + ALIGNED) * (n + ALIGNED) for most, n in zip(rows, self.lengths.tolist(), strict=True))
        row, kind = self.marked.nonzero()
        arrays = {
            "offsets": self.offsets,
            "is_query": self.is_query.astype(np.uint8),
            "before": self.before,
            "marks_from": np.searchsorted(row, self.offsets),
            "marks": np.stack([kind, self.place[row]], 1).astype(np.int32),
            "words_from": self.words_from,
            "rarest": self.rarest,
            "strips_from": _bounds([len(several) for several in strips]),
            "strips": np.concatenate(strips).astype(np.int32),
            "bins": (np.searchsorted(EDGES.numpy(), np.arange(longest), "right") - 1).astype(np.int32),
            **self._pieces(),
            **self.questions,
        }
        arrays = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
        sizes = {"documents": len(self.items), "strip_rows": max(rows), "strip_size": max(sizes)}
        return arrays | sizes | {"longest": longest, "most_words": most_words}

    def _pieces(self) -> dict[str, ndarray]:
        """The pieces of words: the first one listed (its document's length for a word without any), and all others."""
        pieces = np.concatenate([read.pieces for read in self.reads]).astype(np.int32)
        word = np.repeat(np.arange(len(self.piece_counts)), self.piece_counts)
        starts, has = _bounds(self.piece_counts), self.piece_counts > 0
        first = np.repeat(self.lengths, np.diff(self.words_from)).astype(np.int32)
        first[has] = pieces[starts[:-1][has]]
        other = np.ones(len(pieces), bool)
        other[starts[:-1][has]] = False
        local = np.concatenate([read.word for read in self.reads])
        more = {
            "more_from": np.searchsorted(word[other], self.words_from),
            "more": np.stack([local, pieces], 1)[other].astype(np.int32),
        }
        return {"first_piece": first, "pieces_from": starts, "pieces": pieces} | more

    @cached_property
    def questions(self) -> dict[str, ndarray]:
        """The questions of each word: row and whether limited; the candidates of each: word and whether right."""
        row, query, limited, counts, word, right = (
            np.concatenate(arrays) for arrays in zip(*(item.questions for item in self.items), strict=True)
        )
        query = query + np.repeat(self.words_from[:-1], [len(item.questions.row) for item in self.items])
        return {
            "questions_from": np.searchsorted(query, np.arange(len(self.piece_counts) + 1)),
            "questions": np.stack([row, limited], 1).astype(np.int64),
            "candidates_from": _bounds(counts),
            "candidates": np.stack([word, right], 1).astype(np.int32),
        }

    @cached_property
    def counts(self) -> dict[str, int | ndarray]:
        """COUNTS of these documents, by name."""
        has = self.piece_counts > 0
        earlier = np.where(self.before >= 0, self.before + self.offsets[self.document], 0)
        duplicate = (self.before >= 0) & self.is_query
        induction = duplicate & ((self.before < self.place - 1) | (self.before[earlier] >= 0))
        words = np.append(0, has.cumsum())[self.words_from]
        return {
            "queries": self.is_query.sum(),
            "word_queries": has.sum(),
            "rare_queries": (np.diff(words) - 1)[self.rarest >= 0].sum(),
            "duplicates": duplicate.sum(),
            "inductions": induction.sum(),
            "offset_queries": _at_offsets(self.is_query, np.ones_like(self.is_query), self.offsets),
            "word_offset_queries": _at_offsets(has, has, self.words_from),
        }


def _at_offsets(is_query: ndarray, exists: ndarray, bounds: ndarray) -> ndarray:
    """How many of those that ask have, at each offset in their own document, one that exists: [2 WIDE + 1]."""
    query = np.flatnonzero(is_query)
    document = np.searchsorted(bounds, query, "right") - 1
    key = query[:, None] + np.arange(-WIDE, WIDE + 1)
    inside = (key >= bounds[document, None]) & (key < bounds[document + 1, None])
    return (inside & np.append(exists, False)[np.where(inside, key, -1)]).sum(0)


def _bounds(sizes) -> ndarray:
    return np.append(0, np.cumsum(np.asarray(sizes, np.int64)))


def _strips(read: WordPieces) -> list[tuple[int, ...]]:
    """The bounds of pieces and words whose weights are in memory together."""
    n = len(read.ids)
    if n * n <= STRIP_SIZE:
        return [(0, n, 0, read.words)]
    strips = read.strips(max(STRIP_ROWS, STRIP_SIZE // n))
    return [(*strip, *np.searchsorted(read.first, strip).tolist()) for strip in strips]
