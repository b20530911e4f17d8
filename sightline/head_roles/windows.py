"""Windows of long documents for models with a largest length; the rarest word of a document."""

from __future__ import annotations

from collections import Counter

import numpy as np

from sightline.head_roles.gold import Corpus, Document
from sightline.models.opening import OpenModel
from sightline.models.word_pieces import WordPieces

SPARE = 2  # pieces of room, since a text that begins with another word may be tokenized a little differently


def cut_to_length(model: OpenModel, corpus: Corpus) -> tuple[Corpus, str]:
    """The corpus with too long documents cut into windows of words, and a note of it."""
    if model.longest is None:
        return corpus, ""
    parts, long = [], 0
    for number, document in enumerate(corpus.documents):
        windows = [(0, len(document.words))]
        around = len(model.before) + len(model.after)
        if around + len(document.text.encode("utf-8", "replace")) > model.longest:  # a piece has a byte at least
            (read,) = model.read_words([document])
            if len(read.ids) > model.longest:
                long, windows = long + 1, windows_of(read, model.longest)
        parts += [(number, *window) for window in windows]
    if not long:
        return corpus, ""
    cut = corpus.cut(np.array(parts))
    lost = len(corpus) - len(cut)
    note = (
        f"Cut into windows that overlap by half: {long:,} text{'s' * (long > 1)} of more than {model.longest} tokens, "
        f"with {lost:,} question{'s' * (lost != 1)} whose answers lie outside."
    )
    return cut, note


def windows_of(read: WordPieces, longest: int) -> list[tuple[int, int]]:
    """Windows of words (first, past the last) of at most `longest` pieces, each from the middle of the previous one."""
    room = max(1, longest - int(read.special.sum()) - SPARE)
    first, windows, start = np.append(read.first, len(read.ids)), [], 0
    while start < read.words:
        stop = max(start + 1, int(np.searchsorted(first, first[start] + room, "right")) - 1)
        windows.append((start, min(stop, read.words)))
        if stop >= read.words:
            break
        start = max(start + 1, int(np.searchsorted(first, first[start] + room // 2)))
    return windows


def word_counts(corpus: Corpus) -> Counter[str]:
    """How often each word occurs in the corpus, without regard to capitals."""
    return Counter(word.casefold() for document in corpus.documents for word in document.words)


def rarest_word(document: Document, read: WordPieces, counts: Counter[str]) -> int:
    """The rarest of the words that have pieces, of equal ones the first; -1 where none has.

    Source: Voita et al. 2019, section 5.3 (rare tokens), for words.
    """
    full = np.flatnonzero(np.diff(read.offsets)).tolist()
    return min(full, key=lambda word: counts[document.words[word].casefold()], default=-1)
