"""Gold answers for heads, one shape for trees, coreference, bindings and links of your own: questions.

    words     0 The  1 dog  2 that  3 barks  4 sleeps
    question  det:     from 0, right is 1            from a dependent to its head
    question  nsubj<-: from 4, right is 1            from a head to its dependent; of several any is right
    question  coref:pronoun: from 2, right is 1      from a mention to an earlier one of the same entity; candidates are
                                                     all words that stand for earlier mentions

The questions of a corpus are a few arrays, so that answering is one gather and counting one sum.
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


@dataclass(frozen=True, eq=False)
class Document:
    """A sentence, function or longer text; the model reads it alone.

    `text` is each space followed by its word. A word may be empty (the end of an indented block); then no piece of the
    model stands for it. `mentions` are the words that stand for mentions, rising; `ids`, one a word, are the input of a
    model fitted to `scope`; `source` is the number of the document in the file of which this is a part.
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
        """The characters of each word in the text, from and past: [W, 2]."""
        lengths = np.array([(len(s), len(w)) for s, w in zip(self.spaces, self.words, strict=True)], np.int64)
        ends = lengths.sum(1).cumsum() if len(lengths) else np.zeros(0, np.int64)
        return np.stack([ends - (lengths[:, 1] if len(lengths) else 0), ends], 1)

    def word_of(self, start: int, end: int) -> int:
        """The last word in a stretch of the text; -1 where there is none."""
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

    If the text has commas between blanks, and none at the end of a word, it is cut into words already: at its blanks.

    >>> document_of("x", "It's so, Mr. K.").words
    ("It's", 'so', ',', 'Mr', '.', 'K', '.')
    >>> document_of("x", "It 's so , Mr. K .").words
    ('It', "'s", 'so', ',', 'Mr.', 'K', '.')
    """
    cut = re.search(r"(?<!\S),(?!\S)", text) and not re.search(r"\w,(?!\S)", text)
    spans = [match.span() for match in (re.compile(r"\S+") if cut else WORD).finditer(text)]
    ends = [0, *(end for _, end in spans)]
    words = tuple(text[start:end] for start, end in spans)
    spaces = tuple(text[end:start] for end, (start, _) in zip(ends, spans, strict=False))
    return Document(name, words, spaces, source=source)


class Relation(NamedTuple):
    """A kind of question; with `mentions`, the candidates are the words that stand for earlier mentions."""

    name: str
    mentions: bool = False


@dataclass(frozen=True, eq=False)
class Corpus:
    """Documents and the questions about them, in the order of the documents.

    Shapes: N questions, M right answers.
        document  [N]      which document;  relation [N]  which of `relations`;  query [N]  the word it starts from
        keys      [M]      the right words, of all questions in turn;  offsets [N + 1]  where those of each begin
    Words count from 0 inside their document. `note` is what was left out of the files, in sentences.

    >>> dog = Document("example", ("The", "dog", "sleeps"), ("", " ", " "))
    >>> corpus = build_corpus([dog], [Relation("det"), Relation("nsubj<-")], [(0, 0, 0, 1), (0, 1, 2, 1)])
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
    def question_of_key(self) -> ndarray:
        """The question of each of `keys`: [M]."""
        return np.repeat(np.arange(len(self)), np.diff(self.offsets))

    @cached_property
    def distance(self) -> ndarray:
        """The distance of the nearest right answer, in words: [N]."""
        if not len(self):
            return np.zeros(0, np.int64)
        return np.minimum.reduceat(np.abs(self.keys - self.query[self.question_of_key]), self.offsets[:-1])

    @cached_property
    def among_mentions(self) -> ndarray:
        """Which questions have only earlier mentions as candidates: bool [N]."""
        return np.array([relation.mentions for relation in self.relations], bool)[self.relation]

    @cached_property
    def groups(self) -> dict[str, ndarray]:
        """The questions that are counted together, by name: each relation; and relations that differ only after the
        colon, where none has no colon, together as well (`coref` for `coref:pronoun` and `coref:name`).
        """
        groups = {r.name: np.flatnonzero(self.relation == i) for i, r in enumerate(self.relations)}
        stems: dict[str, list[str]] = {}
        for name in groups:
            back = "<-" if name.endswith("<-") else ""
            stems.setdefault(name.removesuffix("<-").partition(":")[0] + back, []).append(name)
        for stem, names in stems.items():
            if stem not in groups and len(names) > 1:
                groups[stem] = np.sort(np.concatenate([groups[name] for name in names]))
        return dict(sorted(groups.items()))

    def right(self, words: ndarray) -> ndarray:
        """Whether each word is a right answer to its question; -1 and words past the last never are.

        Shapes: words [N, ...], for example one for each question and head; the result likewise, bool.
        """
        size = max((len(document.words) for document in self.documents), default=0) + 1
        words = np.where(words < size, words, -1)
        answers = self.question_of_key * size + self.keys + 1  # rising, as `build_corpus` sorts them
        first = np.arange(len(self)).reshape(-1, *[1] * (words.ndim - 1)) * size
        codes = first + words.astype(np.int64) + 1
        place = np.searchsorted(answers, codes)
        return np.append(answers, -1)[place] == codes

    def take(self, chosen: ndarray | list[int]) -> Corpus:
        """The documents with these numbers, each once, in this order, with their questions."""
        chosen = np.asarray(chosen, np.int64)
        place = np.full(len(self.documents), -1)
        place[chosen] = np.arange(len(chosen))
        new = place[self.document[self.question_of_key]]
        pairs = np.stack([new, self.relation[self.question_of_key], self.query[self.question_of_key], self.keys], 1)[
            new >= 0
        ]
        return build_corpus([self.documents[i] for i in chosen.tolist()], self.relations, pairs, self.note)

    def questions_of(self, chosen: ndarray) -> ndarray:
        """The questions of documents, which are in rising order; `take` has the questions in the same order."""
        return np.flatnonzero(np.isin(self.document, chosen))

    def halves(self) -> tuple[ndarray, ndarray]:
        """Every second document, to choose heads on, and the others, to report on; parts of one stay together.

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
        """Parts of the documents as documents of their own, for a model with a largest length.

        Where windows overlap, a question belongs to the first that holds the word it starts from, which has most of the
        text before it. A question with no right answer there is dropped; `len` before and after shows the number.

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
        part = (np.concatenate(first) if first else row)[row][self.question_of_key]
        start, stop = windows[part, 1], windows[part, 2]
        inside = (part >= 0) & (self.keys >= start) & (self.keys < stop)
        pairs = np.stack(
            [part, self.relation[self.question_of_key], self.query[self.question_of_key] - start, self.keys - start], 1
        )
        return build_corpus(parts, self.relations, pairs[inside], self.note)


def build_corpus(documents, relations, pairs, note: str = "") -> Corpus:
    """The corpus of links; those of one relation from one word are one question with several right answers.

    Links from a word to itself are left out; of a relation among mentions also links to a later word.
    Shapes: pairs [M, 4]: document, relation, word with the question, right word; in any order, also repeated.
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
