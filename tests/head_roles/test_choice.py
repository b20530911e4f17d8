"""The choice of heads: a good head is chosen, random heads gain nothing, and few questions are reported as few."""

import dataclasses

import numpy as np
import pytest

from sightline.head_roles import choice
from sightline.head_roles.gold import Corpus, Document, Relation, build_corpus

LAYERS, HEADS = 3, 4


def corpus_of(seed: int, documents: int, relations: tuple[str, ...] = ("far", "near")) -> Corpus:
    """Ten questions a document; `near` is always the word before, `far` is thrown by lot."""
    rng = np.random.default_rng(seed)
    texts = [Document("d", ("w",) * 60, (" ",) * 60, source=i) for i in range(documents)]
    pairs = []
    for number in range(documents):
        for i, name in enumerate(relations):
            queries = rng.choice(np.arange(1, 60), 5, replace=False)
            keys = queries - 1 if name == "near" else (queries + rng.integers(1, 59, 5)) % 60
            pairs += [(number, i, q, k) for q, k in zip(queries, keys, strict=True)]
    return build_corpus(texts, map(Relation, relations), pairs)


def lots(corpus: Corpus, seed: int, rate: float = 0.3) -> np.ndarray:
    return np.random.default_rng(seed).random((len(corpus), LAYERS, HEADS)) < rate


def findings(here, answers, there, answers_there, random=None) -> dict[str, choice.Finding]:
    return {one.relation: one for one in choice.choose(here, answers, there, answers_there, random)}


def test_a_head_that_knows_is_found():
    here, there = corpus_of(0, 40), corpus_of(1, 50)
    answers, answers_there = lots(here, 2), lots(there, 3)
    for corpus, array in ((here, answers), (there, answers_there)):
        array[corpus.groups["far"], 2, 1] = np.arange(len(corpus.groups["far"])) % 10 != 0
    far = findings(here, answers, there, answers_there, (lots(here, 4), lots(there, 5)))["far"]
    assert (far.layer, far.head, far.counts, far.chosen_at, far.accuracy) == (2, 1, (200, 250), 0.9, 0.9)
    assert far.interval[0] < 0.9 < far.interval[1] < 0.96 and far.interval[0] > 0.84
    assert far.by_offset < 0.1 < 0.7 < far.ahead[0] < far.ahead[1] < 0.95
    assert 0.2 < far.random < 0.4 and far.note == ""


def test_what_is_reported_is_the_other_part():
    """Of 200 heads thrown by lot the best is far better than chance where it was chosen, and is chance elsewhere."""
    here, there = corpus_of(0, 10), corpus_of(1, 200)
    rng = np.random.default_rng(2)
    answers, answers_there = (rng.random((len(c), 20, 10)) < 0.3 for c in (here, there))
    far = findings(here, answers, there, answers_there)["far"]
    best = answers[here.groups["far"]].mean(0)
    assert far.chosen_at == best.max() == best[far.layer, far.head] > 0.45
    assert far.accuracy == answers_there[there.groups["far"], far.layer, far.head].mean() < 0.36
    assert far.interval[0] < 0.3 < far.interval[1]


def test_the_offset_is_chosen_there_too():
    here, there = corpus_of(0, 20), corpus_of(1, 20)
    shifted = dataclasses.replace(
        there,
        keys=np.where(there.relation[there.question_of_key] == 1, there.query[there.question_of_key] - 2, there.keys),
    )
    near = findings(here, lots(here, 0), shifted, lots(shifted, 1))["near"]
    assert (near.offset, near.by_offset, near.by_nearest) == (-1, 0.0, 0.0)
    near = findings(here, lots(here, 0), there, lots(there, 1))["near"]
    assert (near.offset, near.by_offset, near.by_nearest) == (-1, 1.0, 1.0) and near.ahead[1] < -0.5


def test_intervals_cover_what_they_should():
    """Where documents differ in their rates, 95% of intervals contain the true rate; resampled questions would not."""
    rng, covered, widths = np.random.default_rng(0), 0, []
    corpus = corpus_of(0, 60, ("far",))
    for _ in range(100):
        rates = rng.choice([0.1, 0.9], 60)
        answers = (rng.random(len(corpus)) < rates[corpus.document])[:, None, None]
        interval = choice.choose(corpus, answers, corpus, answers)[0].interval
        covered += interval[0] <= 0.5 <= interval[1]
        widths.append(interval[1] - interval[0])
    assert 88 <= covered <= 99
    of_questions = 2 * 1.96 * np.sqrt(0.25 / len(corpus))
    assert np.mean(widths) > 1.5 * of_questions


def test_parts_of_one_document_are_drawn_together():
    corpus = corpus_of(0, 30, ("far",))
    cut = corpus.cut([(i, a, a + 30) for i in range(30) for a in (0, 30)])
    answers = np.ones((len(cut), 1, 1), bool)
    joined = choice._Resamples(cut)
    assert joined.count == 30 and len(cut.documents) == 60
    assert (joined.source == np.array([d.source for d in cut.documents])[cut.document]).all()
    assert choice.choose(cut, answers, cut, answers)[0].interval == (1.0, 1.0)


def test_the_same_data_gives_the_same_findings():
    here, there = corpus_of(0, 20), corpus_of(1, 20)
    one, two = (choice.choose(here, lots(here, 2), there, lots(there, 3)) for _ in range(2))
    assert one == two


def test_two_examples_are_said_to_be_two():
    document = Document("d", ("a", "b", "c"), ("",) * 3)
    here = build_corpus([document] * 2, [Relation("rare")], [(0, 0, 0, 1), (1, 0, 2, 1)])
    answers = np.ones((2, 1, 1), bool)
    (rare,) = choice.choose(here, answers, here, answers)
    assert (rare.counts, rare.accuracy, rare.interval, rare.ahead) == ((2, 2), 1.0, None, None)
    assert rare.note == "in 1 document only, too few for an interval"  # both have one source
    there = corpus_of(0, 20, ("far", "rare"))
    rare = findings(here, answers, there, np.ones((len(there), 1, 1), bool))["rare"]
    assert rare.note == "chosen by 2 questions only" and rare.interval == (1.0, 1.0)


def test_a_relation_that_one_part_lacks():
    here, there = corpus_of(0, 20, ("far", "only")), corpus_of(1, 20, ("other", "far"))
    rows = findings(here, lots(here, 2), there, lots(there, 3))
    only = rows["only"]
    assert set(rows) == {"far", "only"} and only.accuracy is only.interval is only.by_offset is only.random is None
    assert only.note == "not in the part reported on" and only.distances == () and only.counts == (100, 0)
    assert rows["far"].accuracy == lots(there, 3)[there.groups["far"], rows["far"].layer, rows["far"].head].mean()


def test_distances_add_up():
    here, there = corpus_of(0, 20), corpus_of(1, 30)
    for name, one in findings(here, lots(here, 2), there, lots(there, 3)).items():
        rows = there.groups[name]
        hits = lots(there, 3)[rows, one.layer, one.head]
        assert sum(count for *_, count, _ in one.distances) == len(rows) == one.counts[1]
        for low, high, count, accuracy in one.distances:
            inside = (there.distance[rows] >= low) & (there.distance[rows] <= (high or 10**6))
            assert count == inside.sum() and accuracy == pytest.approx(hits[inside].mean())


def test_arrays_of_another_corpus_or_model_are_refused():
    here, there = corpus_of(0, 5), corpus_of(1, 5, ("far",))
    for answers, answers_there, random in (
        (lots(here, 0), lots(here, 0), None),
        (lots(here, 0), lots(there, 0)[:, :2], None),
        (lots(here, 0)[..., 0], lots(there, 0)[..., 0], None),
        (lots(here, 0), lots(there, 0), (lots(there, 0), lots(there, 0))),
    ):
        with pytest.raises(
            ValueError, match=r"^choose: expected whether each head answers each question, \[\d+, layers, heads\], got"
        ):
            choice.choose(here, answers, there, answers_there, random)


def test_a_corpus_without_questions():
    corpus = build_corpus([Document("d", ("a",), ("",))], [Relation("r")], [])
    answers = np.zeros((0, LAYERS, HEADS), bool)
    assert (
        choice.choose(corpus, answers, corpus, answers) == []
        and choice.syntactic(corpus, answers, corpus, answers) == {}
    )


def test_syntactic_heads_clear_the_offset_in_both_parts():
    here, there = corpus_of(0, 40), corpus_of(1, 40)
    answers, answers_there = lots(here, 2, 0.05), lots(there, 3, 0.05)
    for corpus, array in ((here, answers), (there, answers_there)):
        array[corpus.groups["far"], 1, 2] = True
        array[corpus.groups["near"], 0, 0] = True  # no better than the word before
    answers[here.groups["far"], 2, 3] = True  # in one part only
    assert choice.syntactic(here, answers, there, answers_there) == {(1, 2): ["far"]}
    few = here.take(range(15))  # 75 questions of each relation
    assert choice.syntactic(few, np.ones((len(few), 1, 1), bool), there, np.ones((len(there), 1, 1), bool)) == {}
