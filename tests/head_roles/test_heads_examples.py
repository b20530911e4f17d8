"""Examples of a head have the model's own weights, by word, and are small however long the document is."""

import numpy as np
import pytest
import torch

from sightline.head_roles.examples import MOST, SHOWN, Finder, examples
from sightline.head_roles.gold import Document, Relation, build_corpus
from sightline.head_roles.measuring import measure
from sightline.models.opening import open_attention
from tests.head_roles.test_planted import corpus, planted, tokenizer  # noqa: F401  fixtures

DET, LOT, EMPTY = Finder("det", 0, 3), Finder("lot", 1, 2), Finder("lot", 1, 0)


@pytest.fixture(scope="module")
def shown(corpus, tokenizer, tmp_path_factory):  # noqa: F811
    subject = open_attention(planted(), tokenizer)
    part = corpus.take(range(40))
    measured = measure(subject, part, tmp_path_factory.mktemp("examples"))
    finders = [DET, LOT, EMPTY, Finder("nothing", 0, 0)]
    return subject, measured, dict(zip(finders, examples(subject, measured, finders), strict=True))


def test_right_and_wrong_are_those_of_the_pass(shown):
    _, measured, by_finder = shown
    part = measured.corpus
    for finder in (DET, LOT, EMPTY):
        for kind in ("right", "wrong"):
            assert len(by_finder[finder][kind]) == (0 if (finder, kind) == (DET, "wrong") else SHOWN)
            for text in by_finder[finder][kind]:
                number = [document.name for document in part.documents].index(text["name"])
                questions = part.groups[finder.relation][part.document[part.groups[finder.relation]] == number]
                (question,) = questions[part.query[questions] == text["query"]]
                assert measured.answers[question, finder.layer, finder.head] == (kind == "right")
                keys = part.keys[part.offsets[question] : part.offsets[question + 1]]
                assert text["keys"] == keys.tolist()
                assert text["words"] == list(part.documents[number].words)
        right, wrong = ([text["weight"] for text in by_finder[finder][kind]] for kind in ("right", "wrong"))
        assert right == sorted(right, reverse=True) and wrong == sorted(wrong)
        texts = [(*text["words"], text["query"]) for text in by_finder[finder]["right"]]
        assert len(set(texts)) == len(texts)
    assert by_finder[Finder("nothing", 0, 0)] == {"right": [], "wrong": []}


def test_the_weights_are_the_models_own(shown):
    subject, _, by_finder = shown
    planted_one = by_finder[DET]["right"][0]
    assert planted_one["weight"] > 0.99 and planted_one["links"][0][0] in planted_one["keys"]
    eager = planted()
    eager.set_attn_implementation("eager")
    for finder in (LOT, EMPTY):
        text = by_finder[finder]["wrong"][0]
        (read,) = subject.read_words([Document("x", tuple(text["words"]), tuple(text["spaces"]))])
        with torch.no_grad():
            weights = eager(torch.from_numpy(read.ids)[None], output_attentions=True).attentions
        row = weights[finder.layer][0, finder.head, text["query"] + 1, 1:-1].numpy()  # a word is a piece here
        assert text["weight"] == pytest.approx(row[text["keys"]].sum(), abs=1e-3)
        assert len(text["links"]) == min(6, (row >= 0.02).sum())
        for word, weight in text["links"]:
            assert weight == pytest.approx(row[word], abs=1e-3)


def test_of_a_long_text_the_words_around_are_shown(tmp_path, tokenizer):  # noqa: F811
    """300 words, in windows: the words in question are near each other, and others are left out."""
    from sightline.models.word_pieces import WordPieces
    from tests.head_roles.naive import encoder, subject

    count = 301
    words = tuple(f"w{i}" for i in range(count))
    long = Document("0", words, ("", *[" "] * (count - 1)))
    pairs = [(0, 0, 250, 20), (0, 0, 0, 300), (0, 0, 300, 0)]
    part = build_corpus([long], [Relation("far")], pairs)
    none = np.zeros(count, bool)
    ids = np.arange(count) % 19
    read = WordPieces.from_pairs(ids, none, none, np.arange(count), np.arange(count), count)
    toy = subject([read], encoder())
    measured = measure(toy, part, tmp_path)
    (by_finder,) = examples(toy, measured, [Finder("far", 1, 2)])
    texts = [*by_finder["right"], *by_finder["wrong"]]
    assert texts
    for text in texts:
        assert len(text["words"]) <= 2 * MOST and text["words"].count("…") >= 1
        assert len(text["words"]) == len(text["spaces"])
        query = text["words"][text["query"]]
        (key,) = (text["words"][key] for key in text["keys"])
        assert (int(query[1:]), int(key[1:])) in {(250, 20), (0, 300), (300, 0)}
        with torch.no_grad():
            seen = np.array([int(text["words"][word][1:]) for word, _ in text["links"]])
        assert len(seen) == len(set(seen.tolist()))
        assert sum(weight for _, weight in text["links"]) <= 1 + 1e-3
        for before, word in zip(text["words"], text["words"][1:], strict=False):
            assert "…" in (before, word) or int(word[1:]) == int(before[1:]) + 1


def test_a_word_without_pieces_shows_nothing(tmp_path):
    from sightline.models.word_pieces import WordPieces
    from tests.head_roles.naive import encoder, subject

    text = Document("0", ("a", "", "b"), ("", " ", " "))
    part = build_corpus([text], [Relation("gone")], [(0, 0, 1, 0)])
    none = np.zeros(2, bool)
    read = WordPieces.from_pairs(np.array([1, 2]), none, none, np.array([0, 2]), np.array([0, 1]), 3)
    toy = subject([read], encoder())
    (by_finder,) = examples(toy, measure(toy, part, tmp_path), [Finder("gone", 0, 0)])
    assert by_finder == {"right": [], "wrong": []}
