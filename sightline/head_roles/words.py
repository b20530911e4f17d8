"""A model looks from piece to piece, a tree goes from word to word: which pieces of the tokenizer make which word.

    words    0 The   1 cannot       2 be   3 ''   4 gone
    pieces   0 [CLS] 1 the 2 can 3 ##not 4 be 5 gone 6 [SEP]
    bags     [1] [2 3] [4] [] [5]              special: 0 and 6

By word, the weights to the pieces of a word are summed, and those from its pieces averaged. A word that the tokenizer drops
has no pieces; words that share a piece each have it whole.
Source: Clark et al. 2019, section 4.1.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy import ndarray

from sightline.models import touched


@dataclass(frozen=True, eq=False)
class Read:
    """A document as a model reads it, n pieces of W words.

    Shapes: ids [n]; special, separator bool [n]; pieces [P] are those of word 0, then those of word 1, ..., offsets [W + 1].
    """

    ids: ndarray
    special: ndarray
    separator: ndarray
    pieces: ndarray
    offsets: ndarray

    @property
    def words(self) -> int:
        return len(self.offsets) - 1

    @cached_property
    def word(self) -> ndarray:
        """For each of `pieces` its word [P]."""
        return np.repeat(np.arange(self.words), np.diff(self.offsets))

    @cached_property
    def first(self) -> ndarray:
        """The first piece of each word [W]; of one without pieces, that of the next that has some. It never falls."""
        found = np.full(self.words + 1, len(self.ids))
        np.minimum.at(found, self.word, self.pieces)
        return np.minimum.accumulate(found[::-1])[::-1][:-1]

    def strips(self, rows: int) -> list[tuple[int, int]]:
        """Cuts the pieces into runs of at most `rows` (first, stop), more only where a word is longer: none is cut in two."""
        inside = np.zeros(len(self.ids) + 1, np.int64)
        if len(self.pieces):
            full = np.flatnonzero(np.diff(self.offsets))
            low = self.first[full]  # by which a word's strip is found; pieces may fall from word to word
            high = np.maximum.reduceat(self.pieces, self.offsets[full])
            np.add.at(inside, low + 1, 1)
            np.add.at(inside, high + 1, -1)
        free = np.flatnonzero(inside.cumsum() == 0)  # where a strip may begin, or end
        found, at = [], 0
        while at < len(self.ids):
            ends = free[(free > at) & (free <= at + rows)]
            stop = int(ends[-1]) if len(ends) else int(free[free > at][0])
            found.append((at, stop))
            at = stop
        return found


def laid(ids: ndarray, places: ndarray, special: ndarray, separator: ndarray, words: ndarray) -> Read:
    """The pieces of a text over its words, by where both stand in it: a piece is of each word that it has a letter of.

    Shapes: places [n, 2] and words [W, 2]: characters, from and past.

    >>> read = laid(np.arange(3), np.array([[0, 0], [0, 6], [7, 9]]), *np.array([[1, 0, 0], [0, 0, 0]], bool), np.array([[0, 3], [3, 6], [7, 9]]))
    >>> read.pieces, read.offsets
    (array([1, 1, 2]), array([0, 1, 2, 3]))
    """
    piece, word = touched(np.where(special[:, None], 0, places), words)
    return paired(ids, special, separator, word, piece, len(words))


def paired(ids: ndarray, special: ndarray, separator: ndarray, word: ndarray, piece: ndarray, words: int) -> Read:
    """From pairs of a word and a piece of it, in any order."""
    order = np.lexsort((piece, word))
    offsets = np.append(0, np.bincount(word, minlength=words).cumsum())
    return Read(np.asarray(ids, np.int64), special, separator, piece[order], offsets)
