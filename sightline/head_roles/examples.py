"""Examples of a head: short texts in which its largest weight is on a right word, and texts in which it is not.

    det  1.3   right   The dog sleeps      the -> dog    92% of the weight
               wrong   The red dog sleeps  the -> red    3% on dog

Out of some candidates of about ten words, the texts with most weight on the right words are examples of right, those
with least of wrong. Of a long text only the words around those in question are kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy import ndarray

from sightline.batching import sorted_batches
from sightline.head_roles.forward_pass import ForwardPass
from sightline.head_roles.gold import Corpus, Document
from sightline.head_roles.measuring import Measured
from sightline.models.opening import OpenModel
from sightline.observe.calls import Call, Piece
from sightline.sequences import Sequences

CANDIDATES, SHOWN = 6, 2  # texts of each kind
TOKENS = 2048  # in a forward pass
TYPICAL, MOST = 10, 32  # words
AROUND = 6  # words kept to each side of a word in question
LINKS, LEAST = 6, 0.02  # links of a word, with at least this weight


class Finder(NamedTuple):
    """A head, and a relation to show it for."""

    relation: str
    layer: int
    head: int


def examples(model: OpenModel, measured: Measured, finders: Sequence[Finder]) -> list[dict[str, list[dict[str, Any]]]]:
    """For each finder {"right": texts with most weight on the right words first, "wrong": texts with least first}.

    A text is {name, words, spaces, query, keys, weight: on the keys, links: [[word, weight]]}; words count in the text.
    """
    corpus = measured.corpus
    pairs = [(number, q) for number, finder in enumerate(finders) for q in _candidates(measured, finder)]
    pairs.sort(key=lambda pair: (int(corpus.document[pair[1]]), *pair))
    rows = _rows(model, corpus, [(q, finders[number].layer, finders[number].head) for number, q in pairs])
    texts: list[dict[str, list[dict[str, Any]]]] = [{"right": [], "wrong": []} for _ in finders]
    for number, question in pairs:
        _, layer, head = finders[number]
        row = rows.get((question, layer, head))
        if row is not None and row.sum() > 0:
            kind = "right" if measured.answers[question, layer, head] else "wrong"
            texts[number][kind].append(_example(corpus, question, row))
    return [{kind: _shown(several, most=kind == "right") for kind, several in both.items()} for both in texts]


def _shown(texts: list[dict[str, Any]], most: bool) -> list[dict[str, Any]]:
    """The texts with most or least weight; of equal texts the first."""
    different = {(*text["words"], text["query"]): text for text in reversed(texts)}
    return sorted(different.values(), key=lambda text: -text["weight"] if most else text["weight"])[:SHOWN]


def _candidates(measured: Measured, finder: Finder) -> list[int]:
    """Questions of the relation on which the head is right, and some on which it is not; of a typical length first."""
    corpus = measured.corpus
    questions = corpus.groups.get(finder.relation, np.zeros(0, np.int64))
    lengths = np.array([len(document.words) for document in corpus.documents], np.int64)
    cost = np.abs(lengths[corpus.document[questions]] - TYPICAL) + MOST * (corpus.distance[questions] > MOST // 2)
    questions = questions[np.argsort(cost, kind="stable")]
    right = measured.answers[questions, finder.layer, finder.head].astype(bool)
    return [*questions[right][:CANDIDATES].tolist(), *questions[~right][:CANDIDATES].tolist()]


def _rows(model: OpenModel, corpus: Corpus, places: list[tuple[int, int, int]]) -> dict[tuple, ndarray]:
    """The weights [W] of the query's word on the words, for each (question, layer, head) that the model can read."""
    if not places:
        return {}
    forward, rows = ForwardPass(model), {}
    numbers = sorted({int(corpus.document[question]) for question, _, _ in places})
    reads = dict(zip(numbers, model.read_words([corpus.documents[i] for i in numbers]), strict=True))
    numbers = [i for i in numbers if 0 < len(reads[i].ids) <= (model.longest or len(reads[i].ids))]
    by_layer: dict[tuple[int, int], list[tuple[int, int]]] = {}  # (document, layer) -> (question, head)
    for question, layer, head in dict.fromkeys(places):
        by_layer.setdefault((int(corpus.document[question]), layer), []).append((question, head))
    for batch in sorted_batches([len(reads[i].ids) for i in numbers], TOKENS):
        documents = [numbers[i] for i in batch]
        lengths = [len(reads[i].ids) for i in documents]
        ids = torch.from_numpy(np.concatenate([reads[i].ids for i in documents])).to(model.device)

        def each(layer: int, start: int, call: Call, documents=documents) -> None:
            for s, document in enumerate(documents[start : start + len(call.offsets) - 1]):
                read, row = reads[document], int(call.offsets[s])
                for question, head in by_layer.get((document, layer), ()):
                    word = int(corpus.query[question])
                    pieces = read.pieces[slice(*read.offsets[word : word + 2].tolist())]
                    if len(pieces):
                        piece = Piece(call, s, 1, row, row, len(read.ids), len(read.ids), slice(head, head + 1))
                        weights = _averaged(piece, pieces)
                        rows[question, layer, head] = np.bincount(read.word, weights[read.pieces], read.words)

        forward.run(Sequences(ids, np.cumsum([0, *lengths]).tolist()), each)
    return rows


def _averaged(piece: Piece, queries: ndarray) -> ndarray:
    """The weights of some queries of a document on all its pieces, on average [n]."""
    first, past = int(queries.min()), int(queries.max()) + 1
    weights = piece.logs(first, past, 0, piece.n)[0].exp()
    return weights[queries - first].mean(0).double().cpu().numpy()


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


def _around(document: Document, words: list[int]) -> list[int]:
    """All words, or of a long text those around some words."""
    count = len(document.words)
    if count <= MOST:
        return list(range(count))
    near = {word + away for word in words for away in range(-AROUND, AROUND + 1)}
    return sorted(word for word in near if 0 <= word < count)
