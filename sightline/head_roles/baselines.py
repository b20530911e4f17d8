"""Answers without any model: a head that is right no more often than these has learned nothing of the relation.

Offset: always the word at one distance to the right or left. Nearest: for coreference the last earlier mention, else
the word before. Same word, up to capitals: for coreference the last earlier mention that is spelled the same, else the
first such word of the text, where most names are bound.
Source: Clark et al. 2019, section 5 (offset) and 5.2 (nearest, head match).
"""

from __future__ import annotations

import numpy as np
from numpy import ndarray

from sightline.head_roles.gold import Corpus

OFFSETS = np.array([offset for offset in range(-10, 11) if offset])


def at_offsets(corpus: Corpus) -> ndarray:
    """Whether the word at each of OFFSETS from where a question starts is an answer: bool [N, 20]."""
    return corpus.right(np.maximum(corpus.query[:, None] + OFFSETS, -1))


def nearest(corpus: Corpus) -> ndarray:
    """Whether the last earlier mention, or the word before, is right: bool [N]."""
    alike = np.zeros(_rows(corpus)[-1], np.int64)
    return corpus.right(np.where(corpus.among_mentions, _last_mention(corpus, alike), corpus.query - 1))


def same_word(corpus: Corpus) -> ndarray:
    """Whether the last earlier mention, or the first word, of the same spelling is right (False without one): bool
    [N]."""
    spellings: dict[tuple[int, str], int] = {}
    first = np.array(
        [
            spellings.setdefault((number, word.casefold()), at)
            for number, document in enumerate(corpus.documents)
            for at, word in enumerate(document.words)
        ],
        np.int64,
    )
    # Within a document, words of one spelling share the place of the first, and no others do.
    first_same = first[_rows(corpus)[corpus.document] + corpus.query] if len(corpus) else corpus.query
    return corpus.right(np.where(corpus.among_mentions, _last_mention(corpus, first), first_same))


def _rows(corpus: Corpus) -> ndarray:
    """Where the words of each document begin among the words of all: [D + 1]."""
    return np.cumsum([0, *(len(document.words) for document in corpus.documents)])


def _last_mention(corpus: Corpus, kind: ndarray) -> ndarray:
    """For each question the last earlier word that stands for a mention and is of its own kind, -1 where there is none.

    Shapes: kind [T], of each word of the corpus; [N].
    """
    rows = _rows(corpus)
    size = int(rows[-1]) + 1
    places = [document.mentions + row for document, row in zip(corpus.documents, rows, strict=False)]
    possible = np.concatenate([rows[:0], *places])
    begin, query = rows[corpus.document], rows[corpus.document] + corpus.query
    codes = np.append(np.sort(kind[possible] * size + possible), -1)  # the last, where nothing is before
    last = codes[np.searchsorted(codes[:-1], kind[query] * size + query) - 1]
    exists = (last // size == kind[query]) & (last % size >= begin) & (last >= 0)
    return np.where(exists, last % size - begin, -1)
