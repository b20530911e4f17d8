"""Forgetting: from fabricated results to a verdict; recurrences fade, stay, learn nothing, or guess."""

import pytest

from sightline.encoders import KINDS
from studies.claims.forgetting import FORGETTING, GRID, GRID_TEST
from tests.studies.claims.study_results import even, runs


def near_and_far(**ends):
    both = dict.fromkeys(KINDS, (0.9, 0.9)) | {name.replace("_", "-"): value for name, value in ends.items()}
    return {name: {"1-8": near, "33-128": far} for name, (near, far) in both.items()}


FADING = runs("copy", even(0.9, rnn=0.5, lstm=0.6), buckets=near_and_far(rnn=(0.9, 0.1), lstm=(0.9, 0.3)))
STEADY = runs("agreement", even(0.9), buckets=near_and_far())
UNLEARNED = runs("adding", even(0.2), buckets=near_and_far())
EMPTY = runs("mqar", even(0.9, rnn=0.01, lstm=0.01), buckets=near_and_far(rnn=(0.01, 0.01), lstm=(0.01, 0.0)))
LEVEL = runs(
    "copy", even(0.9, rnn=0.5), buckets=near_and_far(rnn=(0.9, 0.1), lstm=(0.9, 0.9))
)  # the better one keeps it


@pytest.mark.parametrize(
    "results, verdict",
    [
        ({}, "not run"),
        (UNLEARNED, "not settled"),
        (FADING, "holds"),
        (FADING | UNLEARNED, "holds"),
        (FADING | STEADY, "holds when"),
        (FADING | EMPTY, "holds"),
        (STEADY, "does not hold"),
        (LEVEL, "does not hold"),
    ],
)
def test_forgetting(results, verdict):
    assert FORGETTING.judge(results).verdict == verdict


def test_forgetting_says_what_was_seen():
    judgement = FORGETTING.judge(FADING | STEADY)
    assert judgement.sentences[0].startswith("It holds on copy; on agreement ")
    assert any(
        "copy: from 1-8 to 33-128 tokens the skill of lstm changes by -60 points" in sentence
        for sentence in judgement.sentences
    )
    influence = {"before": [[1, 2.0], [64, 0.2]], "after": [[1, 4.0], [64, 4e-8]]}
    mqar = runs("mqar", even(0.9), tests={kind: {"length 256": 0.99} for kind in KINDS}, further=influence)
    judgement = FORGETTING.judge(mqar)
    assert any(
        "Associative recall at length 256, width 64, 16 pairs: self-attention 99.0%" in sentence
        for sentence in judgement.sentences
    )
    assert any("self-attention 0.1 and 1e-08 (64 or more tokens away)" in sentence for sentence in judgement.sentences)
    assert [p["title"].partition(" training")[0] for p in judgement.pictures] == [
        "Influence by distance, before",
        "Influence by distance, after",
    ]


def test_what_a_guess_would_have_had_as_well_was_not_remembered():
    """Nearby there are fewer pairs to guess among: a recurrence that falls as the guess does has nothing to forget."""
    mqar = runs("mqar", even(0.9, rnn=0.1, lstm=0.2), buckets=near_and_far(rnn=(0.1, 0.1), lstm=(0.31, 0.19)))
    alone = FORGETTING.judge(mqar | STEADY)
    assert alone.verdict == "holds when"
    floors = {
        "constant": {"1-8": 0.05, "33-128": 0.05},
        "guess": {"": 0.2, "1-8": 0.3, "33-128": 0.19},
        "tests": {"length 256": 0.15},
    }
    judgement = FORGETTING.judge(mqar | STEADY | {"floors/mqar": floors})
    assert judgement.verdict == "does not hold"
    assert judgement.sentences[0].endswith("end behind it; on mqar it learned nothing that could be forgotten.")
    (table,) = [one for one in judgement.tables if one["title"].startswith("mqar")]
    assert [row[-2:] for row in table["rows"][-2:]] == [[0.05, 0.05], [0.3, 0.19]]
    (picture,) = [one for one in judgement.pictures if one["title"].startswith("mqar")]
    assert picture["levels"][0]["points"] == [[0, 0.3], [1, 0.19]]


def test_the_floor_is_that_of_the_distance():
    """A task whose far answers are nearly all alike: the same accuracy is less there."""
    scope = runs("scope", even(0.9, rnn=0.5), buckets=near_and_far(rnn=(0.5, 0.5), lstm=(0.9, 0.7)))
    floors = {"constant": {"1-8": 0.5, "33-128": 0.75}, "guess": {}, "tests": {}}
    assert FORGETTING.judge(scope).verdict == "holds"
    (sentence,) = [s for s in FORGETTING.judge(scope | {"floors/scope": floors}).sentences if s.startswith("scope:")]
    assert "skill of lstm changes by -100 points and that of self-attention by -20" in sentence
    assert sentence.endswith("and the convolution, which does not hear that far, 60%.")


def test_the_larger_grid_is_shown_where_it_was_run():
    assert {study.name for study in GRID} == {f"mqar-{n}-{w}" for n in (64, 128, 256, 512) for w in (64, 128, 256)}
    table = FORGETTING.judge(
        FADING
        | runs(
            "mqar-512-64",
            even(0.5),
            tests={kind: {GRID_TEST: 1.0 if kind == "self-attention" else 0.1} for kind in KINDS},
        )
    ).tables[-1]
    assert table["rows"][0][0] == "512 × 64" and table["rows"][0][1]["median"] == pytest.approx(1.0)
