"""What a head should find, in one shape for trees, coreference, bindings and anybody's own links: questions.

    words     0 The  1 dog  2 that  3 barks  4 sleeps
    question  det:     from 0, right is 1            a dependent looks for its head
    question  nsubj<-: from 4, right is 1            a head looks for its dependent; if it has several, any is right
    question  coref:pronoun: from 2, right is 1      a mention looks for an earlier one of the same entity, among all
                                                     the words that stand for earlier mentions

The questions of a whole corpus lie in a few arrays, so that to answer them is one gather, and to count is one sum.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy import ndarray

from sightline.models import WORD

BUCKETS = (1, 2, 5, 10, 20, 50, 100)  # distances up to each of these, in words, then all that are longer


@dataclass(frozen=True, eq=False)
class Document:
    """A sentence, function or longer text that goes through the model alone.

    `text` is each space followed by its word. A word may be empty (the end of an indented block), and then the model
    has no piece for it. `mentions` are the words that stand for mentions, rising; `ids` is what a model reads that was
    fitted to `scope`, one id a word; `source` says which document of the file this is a part of.
    """

    name: str
    words: tuple[str, ...]
    spaces: tuple[str, ...]
    mentions: ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    ids: ndarray | None = None
    source: int = 0

    @cached_property
    def text(self) -> str:
        return "".join(part for pair in zip(self.spaces, self.words, strict=True) for part in pair)

    @property
    def spans(self) -> ndarray:
        """Where each word stands in the text: [W, 2] characters, from and past."""
        lengths = np.array([(len(s), len(w)) for s, w in zip(self.spaces, self.words, strict=True)], np.int64)
        ends = lengths.sum(1).cumsum() if len(lengths) else np.zeros(0, np.int64)
        return np.stack([ends - (lengths[:, 1] if len(lengths) else 0), ends], 1)

    def word_of(self, start: int, end: int) -> int:
        """The last word of a stretch of the text, which stands for it; -1 where there is none in it."""
        word = bisect_left(self._starts, end) - 1
        return word if word >= 0 and self._starts[word] + len(self.words[word]) > start else -1

    @cached_property
    def _starts(self) -> list[int]:
        return self.spans[:, 0].tolist()

    @property
    def punctuation(self) -> ndarray:
        """Which words hold no letter or digit: bool [W]."""
        return np.array([not any(map(str.isalnum, word)) for word in self.words], bool)


def document_of(name: str, text: str, source: int = 0) -> Document:
    """The document of a text: its words are runs of letters and digits, and every other mark by itself.

    A text in which commas stand between blanks, and none at the end of a word, has been cut into words already: there
    they are what stands between blanks.

    >>> document_of("x", "It's so, Mr. K.").words
    ("It's", 'so', ',', 'Mr', '.', 'K', '.')
    >>> document_of("x", "It 's so , Mr. K .").words
    ('It', "'s", 'so', ',', 'Mr.', 'K', '.')
    """
    cut = re.search(r"(?<!\S),(?!\S)", text) and not re.search(r"\w,(?!\S)", text)
    places = [match.span() for match in (re.compile(r"\S+") if cut else WORD).finditer(text)]
    ends = [0, *(end for _, end in places)]
    words = tuple(text[start:end] for start, end in places)
    spaces = tuple(text[end:start] for end, (start, _) in zip(ends, places, strict=False))
    return Document(name, words, spaces, source=source)


class Relation(NamedTuple):
    """A kind of question; with `mentions`, only words that stand for earlier mentions can be the answer."""

    name: str
    mentions: bool = False


@dataclass(frozen=True, eq=False)
class Corpus:
    """Documents and the questions about them, in the order of the documents.

    Shapes: N questions, M right answers.
        document  [N]      which document;  relation [N]  which of `relations`;  query [N]  the word that looks
        keys      [M]      the words that are right;  offsets [N + 1]  which of them are a question's
    Words count from 0 inside their document. `note` says in sentences what of the files was left out.

    >>> dog = Document("example", ("The", "dog", "sleeps"), ("", " ", " "))
    >>> corpus = asked([dog], [Relation("det"), Relation("nsubj<-")], [(0, 0, 0, 1), (0, 1, 2, 1)])
    >>> corpus.query, corpus.keys, corpus.distance
    (array([0, 2]), array([1, 1]), array([1, 1]))
    """

    documents: tuple[Document, ...]
    relations: tuple[Relation, ...]
    document: ndarray
    relation: ndarray
    query: ndarray
    keys: ndarray
    offsets: ndarray
    note: str = ""

    def __len__(self) -> int:
        """The number of questions."""
        return len(self.query)

    @cached_property
    def asker(self) -> ndarray:
        """For each right answer its question: [M]."""
        return np.repeat(np.arange(len(self)), np.diff(self.offsets))

    @cached_property
    def distance(self) -> ndarray:
        """How far the nearest right answer is, in words: [N]."""
        if not len(self):
            return np.zeros(0, np.int64)
        return np.minimum.reduceat(np.abs(self.keys - self.query[self.asker]), self.offsets[:-1])

    @cached_property
    def among_mentions(self) -> ndarray:
        """Of which questions only a word that stands for an earlier mention can be the answer: bool [N]."""
        return np.array([relation.mentions for relation in self.relations], bool)[self.relation]

    @cached_property
    def groups(self) -> dict[str, ndarray]:
        """The questions that are counted together, by name: each relation as it is written; and relations that differ
        in what follows the colon, where none is without it, once more as one (`coref` of `coref:pronoun` and `coref:name`).
        """
        found = {r.name: np.flatnonzero(self.relation == i) for i, r in enumerate(self.relations)}
        stems: dict[str, list[str]] = {}
        for name in found:
            back = "<-" if name.endswith("<-") else ""
            stems.setdefault(name.removesuffix("<-").partition(":")[0] + back, []).append(name)
        for stem, names in stems.items():
            if stem not in found and len(names) > 1:
                found[stem] = np.sort(np.concatenate([found[name] for name in names]))
        return dict(sorted(found.items()))

    def right(self, words: ndarray) -> ndarray:
        """Whether a word found for each question is one of its answers; -1 is no word, nor is one past the last.

        Shapes: words [N, ...], of each question one for each head, say; the same shape, bool.
        """
        size = max((len(document.words) for document in self.documents), default=0) + 1
        words = np.where(words < size, words, -1)
        answers = self.asker * size + self.keys + 1  # rising, as `asked` sorts them
        first = np.arange(len(self)).reshape(-1, *[1] * (words.ndim - 1)) * size
        found = first + words.astype(np.int64) + 1
        place = np.searchsorted(answers, found)
        return np.append(answers, -1)[place] == found

    def take(self, chosen: ndarray | list[int]) -> Corpus:
        """The documents of these numbers, each once, in this order, with their questions."""
        chosen = np.asarray(chosen, np.int64)
        place = np.full(len(self.documents), -1)
        place[chosen] = np.arange(len(chosen))
        new = place[self.document[self.asker]]
        pairs = np.stack([new, self.relation[self.asker], self.query[self.asker], self.keys], 1)[new >= 0]
        return asked([self.documents[i] for i in chosen.tolist()], self.relations, pairs, self.note)

    def asking(self, chosen: ndarray) -> ndarray:
        """The numbers of the questions of documents, given in rising order; `take` has them in the same order."""
        return np.flatnonzero(np.isin(self.document, chosen))

    def halves(self) -> tuple[ndarray, ndarray]:
        """The documents to choose heads on, every second, and the others to report on; parts of one stay together.

        Raises: ValueError where there is one document only.
        """
        sources = np.array([document.source for document in self.documents], np.int64)
        order = np.unique(sources, return_inverse=True)[1]
        if len(set(sources.tolist())) < 2:
            raise ValueError(
                "heads: expected two documents or more, to choose heads on one half and report on the other, got one; "
                "give a second corpus to report on"
            )
        return np.flatnonzero(order % 2 == 0), np.flatnonzero(order % 2)

    def cut(self, windows: ndarray) -> Corpus:
        """Parts of the documents as documents of their own, for a model that takes no longer ones.

        Where windows overlap, a question is asked in the first that holds the word it starts from, which has most of what
        stands before. A question none of whose answers lies there is gone; `len` before and after says how many.

        Shapes: windows [P, 3]: document, first word, past its last word; of a document, in rising order.
        """
        windows = np.asarray(windows, np.int64).reshape(-1, 3)
        order = np.lexsort((windows[:, 1], windows[:, 0]))[::-1]
        parts = []
        for number, start, stop in windows.tolist():
            whole = self.documents[number]
            mentions = whole.mentions[(whole.mentions >= start) & (whole.mentions < stop)] - start
            ids = None if whole.ids is None else whole.ids[start:stop]
            name = whole.name if stop - start == len(whole.words) else f"{whole.name}, words {start} to {stop - 1}"
            words, spaces = whole.words[start:stop], ("", *whole.spaces[start + 1 : stop])[: stop - start]
            parts.append(Document(name, words, spaces, mentions, ids, whole.source))
        first = [np.full(len(document.words), -1) for document in self.documents]
        for part in order.tolist():  # the first window comes last, and stays
            number, start, stop = windows[part].tolist()
            first[number][start:stop] = part
        lengths = np.array([len(document.words) for document in self.documents], np.int64)
        row = (lengths.cumsum() - lengths)[self.document] + self.query
        part = (np.concatenate(first) if first else row)[row][self.asker]
        start, stop = windows[part, 1], windows[part, 2]
        inside = (part >= 0) & (self.keys >= start) & (self.keys < stop)
        pairs = np.stack([part, self.relation[self.asker], self.query[self.asker] - start, self.keys - start], 1)
        return asked(parts, self.relations, pairs[inside], self.note)


def asked(documents, relations, pairs, note: str = "") -> Corpus:
    """The corpus of links given one by one; those of one relation from one word are one question with several right answers.

    A link from a word to itself is no question, nor one to a word that stands later where only earlier ones are asked for.

    Shapes: pairs [M, 4]: document, relation, word that looks, word that is right; in any order, repeated or not.
    """
    documents, relations = tuple(documents), tuple(relations)
    pairs = np.asarray(pairs, np.int64).reshape(-1, 4)
    earlier = np.array([relation.mentions for relation in relations], bool)
    earlier = earlier[pairs[:, 1]] if len(pairs) else np.zeros(0, bool)
    pairs = pairs[np.where(earlier, pairs[:, 3] < pairs[:, 2], pairs[:, 3] != pairs[:, 2])]
    sizes = tuple(np.add(pairs.max(0, initial=0), 1).tolist())
    codes = np.sort(np.ravel_multi_index(pairs.T, sizes))
    codes = codes[np.append(True, codes[1:] != codes[:-1])[: len(codes)]]
    pairs = np.stack(np.unravel_index(codes, sizes), 1)
    begins = np.ones(len(pairs), bool)
    begins[1:] = (pairs[1:, :3] != pairs[:-1, :3]).any(1)
    offsets = np.append(np.flatnonzero(begins), len(pairs))
    document, relation, query = pairs[begins, :3].T
    return Corpus(documents, relations, document, relation, query, pairs[:, 3], offsets, note)
