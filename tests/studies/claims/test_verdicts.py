"""From numbers to verdicts: fabricated results that make each learned claim hold, hold in part, and not hold."""

import json

import pytest

from sightline.encoders import KINDS
from studies.claims import syntax
from studies.claims.cell import measure
from studies.claims.claim import VERDICTS, Stage
from studies.claims.counting import COUNTING
from studies.claims.encoder_generator import ENCODER_GENERATOR
from studies.claims.hierarchy import HIERARCHY
from studies.claims.length import CODES, LENGTHS
from studies.claims.length import STUDIES as LENGTH_STUDIES
from studies.claims.ngrams import BLOCKS, NGRAMS
from studies.claims.run import CLAIMS
from studies.claims.syntax import SYNTAX, captured, read_heads
from tests.studies.claims.study_results import even, runs

BEHIND = even(0.9, rnn=0.5, lstm=0.6)


@pytest.mark.parametrize(
    "results, verdict",
    [
        ({}, "not run"),
        (runs("dyck", even(0.1)), "not settled"),
        (runs("dyck", BEHIND), "holds"),
        (runs("dyck", even(0.9)), "does not hold"),
        (runs("dyck", even(0.5, lstm=0.9)), "does not hold"),
        (runs("dyck", BEHIND) | runs("listops", even(0.9)), "holds when"),
        (runs("dyck", BEHIND, early=even(0.5)), "does not hold"),  # behind at equal time alone: slow, and not unable
    ],
)
def test_hierarchy(results, verdict):
    assert HIERARCHY.judge(results).verdict == verdict


def test_the_sentence_on_hierarchy_is_about_the_outermost_brackets():
    depths = {kind: {"1": 0.7 if kind == "self-attention" else 0.9, "4": 1.0} for kind in KINDS}
    judgement = HIERARCHY.judge(runs("dyck", even(0.9, self_attention=0.8), buckets=depths, constant=0.5))
    (sentence,) = [sentence for sentence in judgement.sentences if sentence.startswith("dyck, after equal time")]
    assert (
        "At depth 1, where" in sentence and "self-attention 70.0%, rnn 90.0%" in sentence and "depth 4" not in sentence
    )
    assert "rnn has 80% at equal time (self-attention 60%) and 80% at equal tokens" in sentence
    assert any("has to count to find the partner" in sentence for sentence in judgement.sentences)
    level = HIERARCHY.judge(runs("dyck", even(0.9)))
    assert not any("has to count to find the partner" in sentence for sentence in level.sentences)


def test_brackets_are_shown_by_distance():
    further = {"accuracy@1-8": 1.0, "accuracy@33-128": 0.75}
    judgement = HIERARCHY.judge(runs("dyck", even(0.9), further=further))
    assert any(
        "stands 33-128 tokens away (the convolution hears 14): self-attention 75.0%" in s for s in judgement.sentences
    )
    assert judgement.tables[-1]["columns"] == ["encoder", "1-8", "33-128"]


def test_skill_at_equal_tokens_is_that_above_the_constant_of_validation_data():
    scores = dict(constant=0.5, early=even(0.9, rnn=0.87, lstm=0.87))
    results = runs("dyck", even(0.9, rnn=0.5, lstm=0.6), valid_constant=0.0, **scores)
    judgement = HIERARCHY.judge(results)
    assert judgement.verdict == "does not hold"  # 3 points of skill, where 6 would be with the constant of test data
    assert HIERARCHY.judge(runs("dyck", even(0.9, rnn=0.5, lstm=0.6), **scores)).verdict == "holds"
    assert judgement.tables[0]["rows"][-1][4:6] == [0.5, 0.0]
    assert "median and range of 3 seeds; at equal tokens: on the validation sample" in judgement.tables[0]["title"]


def test_the_number_of_seeds_is_from_the_fewest_to_the_most():
    results = runs("dyck", even(0.9))
    del results["dyck/rnn-seed1"], results["dyck/rnn-seed2"]
    assert "median and range of 1 to 3 seeds;" in HIERARCHY.judge(results).tables[0]["title"]
    assert "accuracy, one seed;" in HIERARCHY.judge(runs("dyck", even(0.9), seeds=1)).tables[0]["title"]


SPANS = ("21-40", "41-80", "81-160")


@pytest.mark.parametrize(
    "results, verdict",
    [
        ({}, "not run"),
        (runs("parity", even(0.5), constant=0.5), "not settled"),
        (runs("parity", even(1.0), constant=0.5), "holds"),
        (runs("parity", even(0.5, rnn=1.0), constant=0.5), "does not hold"),
        (
            runs(
                "parity",
                even(1.0),
                tests={k: dict.fromkeys(SPANS, 1.0 if k == "rnn" else 0.5) for k in KINDS},
                constant=0.5,
            ),
            "does not hold",
        ),
        (
            runs(
                "parity",
                even(1.0),
                tests={k: dict.fromkeys(SPANS, None if k == "fully-connected" else 1.0) for k in KINDS},
            ),
            "holds",
        ),
    ],
)
def test_weakness(results, verdict):
    judgement = COUNTING.judge(results)
    assert judgement.verdict == verdict
    if verdict == "does not hold":
        assert any("rnn has 99.9%" in s or "rnn has 100.0%" in s for s in judgement.sentences)
        assert any("the fall with length is in line with" in s for s in judgement.sentences)


def test_weakness_is_shown_at_the_trained_the_first_and_the_longest_lengths():
    far = {k: dict(zip(SPANS, (0.9, 0.8, 0.7) if k == "rnn" else (0.9, 0.6, 0.5), strict=True)) for k in KINDS}
    judgement = COUNTING.judge(runs("parity", even(1.0), tests=far, constant=0.5))
    assert (
        "parity: at lengths 1-20 (trained) rnn has 100.0% and self-attention has 100.0%; at "
        "lengths 41-80 (first ahead) rnn has 80.0% and self-attention has 60.0%; "
        "at lengths 81-160 rnn has 70.0% and self-attention has 50.0% (a constant answer at the "
        "trained lengths has 50.0%)."
    ) in judgement.sentences
    refused = {k: dict.fromkeys(SPANS[:2], None if k == "fully-connected" else 0.2) for k in KINDS}
    judgement = COUNTING.judge(runs("reversal", even(0.6, fully_connected=0.9), tests=refused, constant=0.1))
    assert any("(trained) fully-connected has 90.0%" in sentence for sentence in judgement.sentences)
    assert any(
        "41-80 fully-connected refuses and self-attention has 20.0%" in sentence for sentence in judgement.sentences
    )
    assert not any("On counting," in sentence for sentence in judgement.sentences)
    assert "up to 44 comparisons, of 4 rivals" in COUNTING.rule


@pytest.mark.parametrize(
    "results, verdict",
    [
        ({}, "not run"),
        (runs("ewt", even(0.1)), "not settled"),
        (runs("ewt", even(0.9)), "holds"),
        (runs("ewt", even(0.9, fully_connected=0.3)), "holds"),
        (runs("ewt", even(0.9, rnn=0.3)), "holds"),
        (runs("ewt", even(0.9, rnn=0.3, lstm=0.4)), "does not hold"),
        (runs("ewt", even(0.9, rnn=0.3, lstm=0.4)) | runs("trec", even(0.9)), "holds when"),
    ],
)
def test_uses(results, verdict):
    assert ENCODER_GENERATOR.judge(results).verdict == verdict


def test_sentences_on_uses_follow_from_the_numbers():
    far = {kind: {"1-8": 0.9, "129+": 0.6} for kind in KINDS} | {"lstm": {"1-8": 0.5, "129+": 0.8}}
    worse = even(0.9, rnn=0.3, lstm=0.4)
    judgement = ENCODER_GENERATOR.judge(
        runs("scope", worse, buckets=far) | runs("trec", even(0.9, fully_connected=0.3))
    )
    assert judgement.sentences[0] == "On trec a recurrence reaches 90% of the best skill; on scope none does."
    assert "self-attention on 2 of 2, convolution on 2 of 2, fully-connected on 1 of 2" in judgement.sentences[1]
    (apart,) = [
        sentence for sentence in judgement.sentences if "the better recurrence, differs from self-attention" in sentence
    ]
    assert apart.endswith("by distance: -40 at 1-8, +20 at 129+.")
    assert any("not ahead of the better recurrence on trec. Encoders" in s for s in judgement.sentences)
    ahead = ENCODER_GENERATOR.judge(runs("trec", even(0.8, self_attention=0.9)))
    assert not any("not ahead" in sentence for sentence in ahead.sentences)


def test_two_seeds_have_the_mean_of_both_as_their_median():
    results = runs("shakespeare", even(0.9), seeds=2)
    for one in results.values():
        one["test"]["bits per character"] = 2.0 + one["seed"]
    assert any(
        "as a generator: self-attention 2.500" in sentence for sentence in ENCODER_GENERATOR.judge(results).sentences
    )


def lengths(attention_far, studies=LENGTH_STUDIES):
    exact = {
        f"reading/{kind}": {
            "kind": kind,
            "reads": {
                str(n): "too long" if kind == "fully-connected" and n > 64 else None for n in (1, 64, 65, 256, 1024)
            },
            "dependence": 0.3,
        }
        for kind in KINDS
    }
    for study in studies:
        far = list(study.tests)[-1]
        scores = dict.fromkeys(study.variants, 0.8) | {"self-attention": 0.9}
        tests = {name: {far: attention_far if name in CODES else None} for name in study.variants}
        exact |= runs(study.name, scores, tests=tests)
    return exact


def test_any_length_holds_only_if_answers_stay_right_and_nothing_else_would_do():
    assert LENGTHS.judge(lengths(0.89)).verdict == "holds"
    judgement = LENGTHS.judge(lengths(0.5))
    assert judgement.verdict == "holds when" and "less than 90% of what was learned is kept" in judgement.sentences[0]
    results = lengths(0.89)
    results["reading/convolution"]["dependence"] = 0.0
    judgement = LENGTHS.judge(results)
    assert judgement.verdict == "holds when" and "are not needed for it" in judgement.sentences[0]
    assert any(cell == "refuses" for table in judgement.tables for row in table["rows"] for cell in row)


def windows(same, clear):
    filters = {"clearness": [0.2, clear, clear, 0.9], "by lot": 0.2, "clearest": [[7, 0.9, ["a b c d e"]]]}
    return {"same": same, "alone": 0.8, "blocks": [[size, 0.7] for size in BLOCKS], "filters": filters}


@pytest.mark.parametrize(
    "same, clear, verdict",
    [(1.0, 0.6, "holds"), (1.0, 0.4, "holds"), (1.0, 0.39, "holds when"), (0.99, 0.6, "does not hold")],
)
def test_ngrams(same, clear, verdict):
    assert NGRAMS.judge({}).verdict == "not run"
    results = runs("trec", even(0.8), further=windows(same, clear))
    judgement = NGRAMS.judge(results | {"untrained/trec": {"clearness": [0.1, 0.2, 0.9]}})
    assert judgement.verdict == verdict
    assert NGRAMS.judge(results).verdict != "holds"  # without the control nothing is known
    assert judgement.tables[1]["rows"] == [["7", "90%", "a b c d e"]]
    assert (
        f"In the median filter {clear:.1%} of the 20 strongest 5-grams share one token at one "
        "place; before any training 20.0%, of as many drawn at random 20.0%"
    ) in judgement.sentences[1]


def test_the_median_filter_lies_between_two_and_the_least_of_runs_counts():
    results = runs("trec", even(0.8), further=windows(1.0, 0.6))
    last = windows(1.0, 0.6)
    last["filters"] |= {"clearness": [0.2, 0.3, 0.4, 0.9]}
    results["trec/convolution-seed2"]["further"] = last
    judgement = NGRAMS.judge(results)
    assert judgement.verdict == "holds when" and "In the median filter 35.0% of" in judgement.sentences[1]


# ---- heads -----------------------------------------------------------------------------------------------------------


def relation(name, accuracy, by_offset=0.4, ahead=(0.2, 0.3), random=0.1, count=200, nearest=0.1, same=None):
    return {
        "relation": name,
        "layer": 3,
        "head": 5,
        "counts": [count, count],
        "accuracy": accuracy,
        "interval": [0.7, 0.9],
        "by_offset": by_offset,
        "ahead": list(ahead),
        "by_nearest": nearest,
        "by_same_word": same,
        "random": random,
        "distances": [],
        "note": "",
    }


@pytest.mark.parametrize(
    "relations, verdict",
    [
        ([relation("obj", 0.8), relation("coref:name", 0.8)], "holds"),
        ([relation("obj", 0.8)], "holds when"),
        ([relation("obj", 0.8), relation("coref:name", 0.45)], "holds when"),
        (
            [
                relation("obj", 0.45),
                relation("det", 0.8, ahead=(-0.1, 0.3)),
                relation("case", 0.8, random=0.75),
                relation("det", 0.8, nearest=0.72),
                relation("coref", 0.8, same=0.72),
                relation("coref:name", 0.85, same=0.71)
                | {"interval": [0.7, 0.9]},  # the interval does not lie above it
            ],
            "does not hold",
        ),
        ([relation("obj", 0.8), relation("coref:name", 0.8, same=0.6)], "holds"),
        ([relation("obj", 0.8), relation("binding", 0.8)], "holds"),
        ([relation("obj", 0.8, count=50)], "not run"),
    ],
)
def test_heads(relations, verdict, tmp_path):
    document = {"format": "sightline heads", "version": 1, "model": "bert", "relations": relations}
    (tmp_path / "heads.json").write_text(json.dumps(document))
    results = {"heads/relations": {"files": [read_heads(tmp_path / "heads.json")]}}
    assert SYNTAX.judge(results).verdict == verdict
    assert SYNTAX.judge({}).verdict == "not run" and "sightline heads" in SYNTAX.judge({}).sentences[0]


def test_without_results_minutes_fit_an_encoder_to_a_small_grammar(monkeypatch, tmp_path):
    monkeypatch.setattr(syntax, "SECONDS", 0.5)
    (cell,) = SYNTAX.cells(Stage("quick"))
    result = measure(cell, {}, tmp_path)["result"]
    ((model, relations),) = ((file["model"], file["relations"]) for file in result["files"])
    assert model == "self-attention of 0.5 seconds on agreement:attractors=0-3"
    assert [one["relation"] for one in relations] == ["nsubj"] and relations[0]["counts"] == [1000, 1000]
    judgement = SYNTAX.judge({cell.name: result})
    assert judgement.verdict in ("holds when", "does not hold")
    assert any("a single relation, in sentences of a small grammar" in sentence for sentence in judgement.sentences)
    (copied,) = SYNTAX.cells(Stage("quick", heads=(tmp_path,)))
    (full,) = SYNTAX.cells(Stage("full"))
    assert copied.name == full.name == "heads/relations" and full.missing and not copied.missing


def test_of_several_models_the_least_counts():
    good, bad = ([relation("obj", 0.8), relation("coref", 0.8)], [relation("obj", 0.45), relation("coref", 0.8)])
    files = [{"model": "one", "relations": good}, {"model": "two", "relations": bad}]
    judgement = SYNTAX.judge({"heads/relations": {"files": files}})
    assert judgement.verdict == "holds when"
    assert "0 of 1 to 1 of 1 (by model) relations of syntax, 1 of 1 relations of reference" in judgement.sentences[0]
    alone = [{"model": model["model"], "relations": model["relations"][:1]} for model in files]
    assert SYNTAX.judge({"heads/relations": {"files": alone}}).verdict == "holds when"


def test_a_relation_without_numbers_is_not_captured():
    assert (
        captured(relation("obj", 0.8))
        and not captured(relation("obj", None))
        and not captured(relation("obj", 0.8) | {"ahead": None})
    )


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"format": "sightline heads", "version": 9}', '{"format": "x", "version": 1}']
)
def test_other_files_are_no_results_of_heads(content, tmp_path):
    (tmp_path / "heads.json").write_text(content)
    with pytest.raises(
        ValueError, match="heads.json: expected the heads.json of sightline heads, version 1, got another"
    ):
        read_heads(tmp_path / "heads.json")


# ---- all -------------------------------------------------------------------------------------------------------------


def test_ten_claims_each_with_its_rule():
    assert [claim.number for claim in CLAIMS] == list(range(1, 11))
    for claim in CLAIMS:
        assert claim.says and claim.measured and claim.rule.lower().count("hold") >= 2 and claim.sources
        assert claim.judge({}).verdict == "not run" in VERDICTS and claim.judge({}).sentences
