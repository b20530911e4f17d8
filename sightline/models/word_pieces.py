"""Which pieces of a model make which word of a document, as arrays.

    words    0 The   1 cannot       2 be   3 ''   4 gone
    pieces   0 [CLS] 1 the 2 can 3 ##not 4 be 5 gone 6 [SEP]
    bags     [1] [2 3] [4] [] [5]              special: 0 and 6

Attention is between pieces, and questions are about words: the weights to the pieces of a word are summed, and those
from its pieces averaged. A word that the tokenizer drops has no pieces; words that share a piece each have the whole of
it.
Source: Clark et al. 2019, section 4.1.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy import ndarray

from sightline.models.words import overlaps


@dataclass(frozen=True, eq=False)
class WordPieces:
    """A document of W words as n pieces.

    Shapes: ids [n]; special, separator bool [n]; pieces [P] are those of word 0, then those of word 1, ..., offsets [W
    + 1].
    """

    ids: ndarray
    special: ndarray
    separator: ndarray
    pieces: ndarray
    offsets: ndarray

    @classmethod
    def plain(cls, ids, word: ndarray, words: int) -> WordPieces:
        """Pieces of which none is special, and each is of one word. Shapes: ids and word [n]."""
        none = np.zeros(len(ids), bool)
        return cls.from_pairs(ids, none, none, word, np.arange(len(ids)), words)

    @classmethod
    def from_pairs(
        cls, ids, special: ndarray, separator: ndarray, word: ndarray, piece: ndarray, words: int
    ) -> WordPieces:
        """From pairs of a word and a piece of it, in any order. Shapes: word and piece [P]."""
        order = np.lexsort((piece, word))
        offsets = np.append(0, np.bincount(word, minlength=words).cumsum())
        return cls(np.asarray(ids, np.int64), special, separator, piece[order], offsets)

    @classmethod
    def from_spans(cls, ids, spans: ndarray, special: ndarray, separator: ndarray, words: ndarray) -> WordPieces:
        """From where pieces and words stand in the text: a piece is of each word that it shares a letter with.

        Shapes: spans [n, 2] and words [W, 2]: characters, from and past.

        >>> spans, words = np.array([[0, 0], [0, 6], [7, 9]]), np.array([[0, 3], [3, 6], [7, 9]])
        >>> read = WordPieces.from_spans(range(3), spans, np.array([True, False, False]), np.zeros(3, bool), words)
        >>> read.pieces, read.offsets
        (array([1, 1, 2]), array([0, 1, 2, 3]))
        """
        piece, word = overlaps(np.where(special[:, None], 0, spans), words)
        return cls.from_pairs(ids, special, separator, word, piece, len(words))

    @property
    def words(self) -> int:
        return len(self.offsets) - 1

    @cached_property
    def word(self) -> ndarray:
        """For each of `pieces` its word [P]."""
        return np.repeat(np.arange(self.words), np.diff(self.offsets))

    @cached_property
    def first(self) -> ndarray:
        """The first piece of each word [W], never falling; of a word without pieces, that of the next with some."""
        first = np.full(self.words + 1, len(self.ids))
        np.minimum.at(first, self.word, self.pieces)
        return np.minimum.accumulate(first[::-1])[::-1][:-1]

    def strips(self, rows: int) -> list[tuple[int, int]]:
        """Cuts the pieces into runs (first, stop) of at most `rows`, unless a word is longer: no word is cut in two."""
        inside = np.zeros(len(self.ids) + 1, np.int64)
        if len(self.pieces):
            full = np.flatnonzero(np.diff(self.offsets))
            low = self.first[full]  # pieces may fall from word to word, so `first` finds the strip of a word
            high = np.maximum.reduceat(self.pieces, self.offsets[full])
            np.add.at(inside, low + 1, 1)
            np.add.at(inside, high + 1, -1)
        free = np.flatnonzero(inside.cumsum() == 0)  # where a strip may begin, or end
        strips, at = [], 0
        while at < len(self.ids):
            ends = free[(free > at) & (free <= at + rows)]
            stop = int(ends[-1]) if len(ends) else int(free[free > at][0])
            strips.append((at, stop))
            at = stop
        return strips
