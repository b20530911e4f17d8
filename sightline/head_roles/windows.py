"""From a corpus to what a model can take of it: long documents in windows, the rarest words, questions laid out by document."""

from __future__ import annotations

from collections import Counter

import numpy as np

from sightline.head_roles.gold import Corpus, Document
from sightline.head_roles.subject import Subject
from sightline.head_roles.words import Read

SPARE = 2  # pieces of room, since a text that begins with another word may be cut a little otherwise


def fitted(subject: Subject, corpus: Corpus) -> tuple[Corpus, str]:
    """The corpus with documents that are too long cut into windows of words; and what was done, in words."""
    if subject.longest is None:
        return corpus, ""
    parts, long = [], 0
    for number, document in enumerate(corpus.documents):
        pairs = [(0, len(document.words))]
        around = len(subject.before) + len(subject.after)
        if around + len(document.text.encode("utf-8", "replace")) > subject.longest:  # a piece has a byte at least
            (read,) = subject.read_words([document])
            if len(read.ids) > subject.longest:
                long, pairs = long + 1, cut(read, subject.longest)
        parts += [(number, *pair) for pair in pairs]
    if not long:
        return corpus, ""
    made = corpus.cut(np.array(parts))
    lost = len(corpus) - len(made)
    note = (
        f"Cut into windows that overlap by half: {long:,} text{'s' * (long > 1)} of more than {subject.longest} tokens, with {lost:,} "
        f"question{'s' * (lost != 1)} whose answers lie outside."
    )
    return made, note


def cut(read: Read, longest: int) -> list[tuple[int, int]]:
    """Windows of words (first, past the last) of at most so many pieces, each from the middle of the one before."""
    room = max(1, longest - int(read.special.sum()) - SPARE)
    first, found, start = np.append(read.first, len(read.ids)), [], 0
    while start < read.words:
        stop = max(start + 1, int(np.searchsorted(first, first[start] + room, "right")) - 1)
        found.append((start, min(stop, read.words)))
        if stop >= read.words:
            break
        start = max(start + 1, int(np.searchsorted(first, first[start] + room // 2)))
    return found


def rarity(corpus: Corpus) -> Counter[str]:
    """How often the corpus has each word, but for capitals."""
    return Counter(word.casefold() for document in corpus.documents for word in document.words)


def rarest(document: Document, read: Read, counts: Counter[str]) -> int:
    """The rarest of the words that have pieces, of equal ones the first; -1 where none has.

    Source: Voita et al. 2019, section 5.3 (rare tokens), for words.
    """
    full = np.flatnonzero(np.diff(read.offsets)).tolist()
    return min(full, key=lambda word: counts[document.words[word].casefold()], default=-1)
