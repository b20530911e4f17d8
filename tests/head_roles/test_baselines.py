"""What needs no model, against loops over the words."""

import numpy as np
import pytest

from sightline.head_roles import baselines
from sightline.head_roles.gold import Document, Relation, build_corpus


def questions(seed: int):
    """A random corpus with many equal words; of each question (document, query, among mentions, right words)."""
    rng = np.random.default_rng(seed)
    documents, pairs = [], []
    for number in range(12):
        words = tuple(rng.choice(["a", "A", "b", "c"], rng.integers(0, 40)).tolist())
        mentions = np.flatnonzero(rng.random(len(words)) < 0.5)
        documents.append(Document("d", words, ("",) * len(words), mentions, source=number))
        pairs += [(number, rng.integers(2), *rng.integers(len(words), size=2)) for _ in range(30) if words]
    corpus = build_corpus(documents, [Relation("plain"), Relation("coref:x", mentions=True)], pairs)
    rows = zip(corpus.document, corpus.query, corpus.among_mentions, corpus.offsets, corpus.offsets[1:], strict=False)
    return corpus, [(documents[d], int(q), among, corpus.keys[a:b].tolist()) for d, q, among, a, b in rows]


@pytest.mark.parametrize("seed", range(8))
def test_offsets(seed):
    corpus, every = questions(seed)
    hits = baselines.at_offsets(corpus)
    assert baselines.OFFSETS.tolist() == [*range(-10, 0), *range(1, 11)]
    assert hits.tolist() == [[q + offset in right for offset in baselines.OFFSETS] for _, q, _, right in every]


@pytest.mark.parametrize("seed", range(8))
def test_nearest(seed):
    corpus, every = questions(seed)
    for hit, (document, query, among, right) in zip(baselines.nearest(corpus), every, strict=True):
        before = [m for m in document.mentions.tolist() if m < query] if among else [query - 1]
        assert hit == (bool(before) and before[-1] in right)


@pytest.mark.parametrize("seed", range(8))
def test_same_word(seed):
    corpus, every = questions(seed)
    for hit, (document, query, among, right) in zip(baselines.same_word(corpus), every, strict=True):
        alike = [i for i, word in enumerate(document.words) if word.lower() == document.words[query].lower()]
        mentions = [i for i in alike if i < query and i in document.mentions]
        word = alike[0] if not among else mentions[-1] if mentions else -1
        assert hit == (word in right)


def test_they_find_something_in_what_is_drawn():
    results = [
        baseline(questions(seed)[0]) for seed in range(8) for baseline in (baselines.nearest, baselines.same_word)
    ]
    assert all(one.any() and not one.all() for one in results)


def test_a_corpus_without_questions():
    corpus = build_corpus([Document("d", ("a",), ("",)), Document("e", (), ())], [Relation("r")], [])
    assert baselines.at_offsets(corpus).shape == (0, 20)
    assert baselines.nearest(corpus).shape == baselines.same_word(corpus).shape == (0,)
