"""What finding a word looks like: short texts in which a head looks at a right word, others in which it looks elsewhere.

    det  1.3   right   The dog sleeps      the -> dog    92% of the weight
               wrong   The red dog sleeps  the -> red    3% on dog

Of many texts that would do, some of about ten words are read again, and those are kept in which the head gives the right
words most of its weight, and those in which least. Of a long text what stands around the words in question is kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy import ndarray

from sightline.batching import sorted_batches
from sightline.head_roles.forward_pass import Tap
from sightline.head_roles.gold import Corpus, Document
from sightline.head_roles.measuring import Measured
from sightline.head_roles.subject import Subject
from sightline.head_roles.words import Read
from sightline.observe.calls import Call, Piece
from sightline.sequences import Sequences

READ, SHOWN = 6, 2  # texts of each kind that are read again, and that are kept
TOKENS = 2048  # of texts that are read together
TYPICAL, MOST = 10, 32  # words
AROUND = 6  # words to each side of one in question
LINKS, LEAST = 6, 0.02  # of a word: the strongest, from this weight on


class Finder(NamedTuple):
    """A head, and the relation that it is asked for."""

    relation: str
    layer: int
    head: int


def examples(subject: Subject, measured: Measured, finders: Sequence[Finder]) -> list[dict[str, list[dict[str, Any]]]]:
    """For each finder texts in which it is right, those with most weight on the right words first, and wrong, with least.

    A text is {name, words, spaces, query, keys, weight: on the keys, links: [[word, weight]]}; words are counted in what is shown.
    """
    corpus = measured.corpus
    asked = [(number, q) for number, finder in enumerate(finders) for q in _candidates(measured, finder)]
    asked.sort(key=lambda pair: (int(corpus.document[pair[1]]), *pair))
    rows = _rows(subject, corpus, [(q, finders[number].layer, finders[number].head) for number, q in asked])
    found: list[list[tuple[bool, dict[str, Any]]]] = [[] for _ in finders]
    for number, question in asked:
        _, layer, head = finders[number]
        row = rows.get((question, layer, head))
        if row is not None and row.sum() > 0:
            right = bool(measured.found[question, layer, head])
            found[number].append((right, _example(corpus, question, row)))
    return [
        {
            "right": _kept([one for right, one in some if right], most=True),
            "wrong": _kept([one for right, one in some if not right], most=False),
        }
        for some in found
    ]


def _kept(some: list[dict[str, Any]], most: bool) -> list[dict[str, Any]]:
    """Those with most or least weight; of texts that are alike the first."""
    different = {(*one["words"], one["query"]): one for one in reversed(some)}
    return sorted(different.values(), key=lambda one: -one["weight"] if most else one["weight"])[:SHOWN]


def _candidates(measured: Measured, finder: Finder) -> list[int]:
    """Questions of the relation that the head answers, and some that it does not, in texts of a typical length first."""
    corpus = measured.corpus
    questions = corpus.groups.get(finder.relation, np.zeros(0, np.int64))
    lengths = np.array([len(document.words) for document in corpus.documents], np.int64)
    strange = np.abs(lengths[corpus.document[questions]] - TYPICAL) + MOST * (corpus.distance[questions] > MOST // 2)
    questions = questions[np.argsort(strange, kind="stable")]
    right = measured.found[questions, finder.layer, finder.head].astype(bool)
    return [*questions[right][:READ].tolist(), *questions[~right][:READ].tolist()]


def _rows(subject: Subject, corpus: Corpus, asked: list[tuple[int, int, int]]) -> dict[tuple[int, int, int], ndarray]:
    """For each (question, layer, head) the weights [W] that its word gives to the words; not for what the model does not read."""
    if not asked:
        return {}
    tap, found = Tap(subject), {}
    numbers = sorted({int(corpus.document[question]) for question, _, _ in asked})
    reads = dict(zip(numbers, subject.read_words([corpus.documents[i] for i in numbers]), strict=True))
    numbers = [i for i in numbers if 0 < len(reads[i].ids) <= (subject.longest or len(reads[i].ids))]
    wanted: dict[tuple[int, int], list[tuple[int, int]]] = {}  # of a document and layer
    for question, layer, head in dict.fromkeys(asked):
        wanted.setdefault((int(corpus.document[question]), layer), []).append((question, head))
    for batch in sorted_batches([len(reads[i].ids) for i in numbers], TOKENS):
        documents = [numbers[i] for i in batch]
        lengths = [len(reads[i].ids) for i in documents]
        ids = torch.from_numpy(np.concatenate([reads[i].ids for i in documents])).to(subject.device)

        def each(layer: int, start: int, call: Call, documents=documents) -> None:
            for s, document in enumerate(documents[start : start + len(call.offsets) - 1]):
                read, row = reads[document], int(call.offsets[s])
                for question, head in wanted.get((document, layer), ()):
                    word = int(corpus.query[question])
                    mine = read.pieces[slice(*read.offsets[word : word + 2].tolist())]
                    if len(mine):
                        piece = Piece(call, s, 1, row, row, len(read.ids), len(read.ids), slice(head, head + 1))
                        found[question, layer, head] = _by_word(_averaged(piece, mine), read)

        tap.run(Sequences(ids, np.cumsum([0, *lengths]).tolist()), each)
    return found


def _averaged(piece: Piece, mine: ndarray) -> ndarray:
    """What some pieces of a document give to all its pieces, on average [n]."""
    first, past = int(mine.min()), int(mine.max()) + 1
    weights = piece.logs(first, past, 0, piece.n)[0].exp()
    return weights[mine - first].mean(0).double().cpu().numpy()


def _by_word(weights: ndarray, read: Read) -> ndarray:
    return np.bincount(read.word, weights[read.pieces], read.words)


def _example(corpus: Corpus, question: int, row: ndarray) -> dict[str, Any]:
    document, query = corpus.documents[int(corpus.document[question])], int(corpus.query[question])
    keys = corpus.keys[corpus.offsets[question] : corpus.offsets[question + 1]]
    strongest = [word for word in np.argsort(-row, kind="stable")[:LINKS].tolist() if row[word] >= LEAST]
    nearest = int(keys[np.abs(keys - query).argmin()])
    kept = _around(document, [query, nearest, *strongest[:1]])
    words, spaces, place = [], [], {}
    for before, word in zip([-1, *kept], kept, strict=False):
        if word > before + 1:
            words, spaces = [*words, "…"], [*spaces, " " if words else ""]
        place[word] = len(words)
        words, spaces = [*words, document.words[word]], [*spaces, document.spaces[word]]
    if kept[-1] + 1 < len(document.words):
        words, spaces = [*words, "…"], [*spaces, " "]
    return {
        "name": document.name,
        "words": words,
        "spaces": spaces,
        "query": place[query],
        "keys": [place[key] for key in keys.tolist() if key in place],
        "weight": round(float(row[keys].sum()), 3),
        "links": [[place[word], round(float(row[word]), 3)] for word in strongest if word in place],
    }


def _around(document: Document, asked: list[int]) -> list[int]:
    """The words that are shown: all, or of a long text those around the words in question."""
    count = len(document.words)
    if count <= MOST:
        return list(range(count))
    near = {word + away for word in asked for away in range(-AROUND, AROUND + 1)}
    return sorted(word for word in near if 0 <= word < count)
