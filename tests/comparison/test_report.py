"""The table and the sentences follow from the numbers, made up here."""

import math

import pytest
from rich.console import Console

from sightline.comparison import report

ACCURACY = report.MEASURES["tag"]
ERROR = report.MEASURES["regress"]


def built(kind, at_end, seed=0, rate=1e-3, tokens=1000, valid=None, near=None, far=None, measure="accuracy"):
    """A finished run that learns in a straight line from 0."""
    distances = {"accuracy@1-8": near, "accuracy@9-32": far} if near is not None else {}
    return {
        "kind": kind,
        "seed": seed,
        "rate": rate,
        "encoder": {"width": 8},
        "parameters": 100,
        "steps": tokens // 10,
        "tokens": tokens,
        "seconds": 2.0,
        "loss": [[1.0, tokens // 2, 1.0], [2.0, tokens, 0.5]],
        "milestones": [[tokens * i // 4, i / 2, at_end * i / 4] for i in range(1, 5)],
        "valid": at_end if valid is None else valid,
        "test": {"loss": 0.5, measure: at_end, **distances},
    }


def test_medians_and_ranges_over_seeds():
    runs = [built("rnn", a, seed) for seed, a in enumerate((0.5, 0.9, 0.6))] + [built("lstm", 0.7)]
    first, second = report.summarise(runs, ACCURACY)
    assert (first["kind"], second["kind"]) == ("lstm", "rnn")
    assert second["time"] == {"median": 0.6, "low": 0.5, "high": 0.9}
    assert second["shown"] == 2  # the seed in the middle
    assert [run["seed"] for run in second["runs"]] == [0, 1, 2]
    assert second["tokens_per_second"] == 500


def test_the_rate_is_chosen_on_validation_of_the_first_seed_only():
    runs = [
        built("rnn", 0.9, rate=1e-2, valid=0.4),  # better on test, which must not count
        built("rnn", 0.5, rate=1e-3, valid=0.6),
        built("rnn", 0.7, rate=1e-3, seed=1, valid=0.1),
    ]
    [entry] = report.summarise(runs, ACCURACY)
    assert (entry["rate"], entry["time"]["median"]) == (1e-3, 0.6)
    assert report.best_rate(runs, {**ACCURACY, "better": "lower"}) == 1e-2


def test_equal_tokens_is_what_the_slowest_saw():
    runs = [built("rnn", 0.8, tokens=4000), built("lstm", 0.6, tokens=1000)]
    entries = {entry["kind"]: entry for entry in report.summarise(runs, ACCURACY)}
    assert report.tokens_in_common(runs) == 1000
    assert entries["rnn"]["tokens"]["median"] == pytest.approx(0.2)
    assert entries["lstm"]["tokens"]["median"] == pytest.approx(0.6)


@pytest.mark.parametrize("tokens, expected", [(99, None), (100, 0.4), (125, 0.45), (200, 0.6), (300, 0.6)])
def test_between_milestones_on_a_line(tokens, expected):
    value = report.at_tokens([[100, 1.0, 0.4], [200, 2.0, 0.6]], tokens)
    assert value == expected or math.isclose(value, expected)


def sentences(runs, measure=ACCURACY, baselines=(), unit="distance"):
    encoders = report.summarise(runs, measure)
    shared = report.tokens_in_common(runs)
    return report.sentences(encoders, measure, list(baselines), "50 s each", shared, unit)


def test_who_wins_is_said_with_its_lead():
    lines = sentences([built("rnn", 0.8, tokens=4000), built("lstm", 0.6), built("convolution", 0.7, tokens=1500)])
    assert lines == [
        "With 50 s each, rnn is best: accuracy 80.0%, 10.0 points ahead of convolution (70.0%).",
        "At equal tokens (1,000), lstm is best: accuracy 60.0%, 13.3 points ahead of convolution (46.7%).",
    ]


def test_a_lead_within_the_ranges_is_called_chance():
    near = [built("rnn", a, seed) for seed, a in enumerate((0.5, 0.7, 0.8))]
    near += [built("lstm", a, seed) for seed, a in enumerate((0.6, 0.65, 0.9))]
    assert "ranges over seeds overlap, so this may be chance" in sentences(near)[0]
    apart = [built("rnn", a, seed) for seed, a in enumerate((0.7, 0.75, 0.8))]
    apart += [built("lstm", a, seed) for seed, a in enumerate((0.4, 0.5, 0.6))]
    assert "overlap" not in sentences(apart)[0]


def test_distances_in_words():
    runs = [built("rnn", 0.7, near=0.9, far=0.4), built("lstm", 0.7, near=0.8, far=0.6)]
    assert sentences(runs)[2:] == [
        "By distance in tokens, the best is rnn at 1-8; lstm at 9-32.",
        "From the nearest (1-8) to the farthest (9-32) the accuracy changes by: rnn −50.0, lstm −20.0.",
    ]
    runs = [built("rnn", 0.7, near=0.9, far=0.7), built("lstm", 0.7, near=0.8, far=0.6)]
    assert sentences(runs)[2] == "At every distance, from 1-8 to 9-32 tokens, rnn is best."


def test_other_difficulties_in_words():
    runs = [built("rnn", 0.7), built("lstm", 0.7)]
    runs[0]["test"] |= {"accuracy@1": 0.9, "accuracy@2": 0.4}
    runs[1]["test"] |= {"accuracy@1": 0.8, "accuracy@2": 0.6}
    assert sentences(runs, unit="depth")[2:] == [
        "By depth, the best is rnn at 1; lstm at 2.",
        "From the lowest (1) to the highest (2) the accuracy changes by: rnn −50.0, lstm −20.0.",
    ]
    runs[1]["test"] |= {"accuracy@2": 0.3}
    assert sentences(runs, unit="attractors")[2] == "At every number of attractors, from 1 to 2, rnn is best."
    assert sentences(runs, unit="length")[2] == "At every length, from 1 to 2 tokens, rnn is best."
    assert report.captions(ACCURACY, "9 s", "depth")["distance"] == "On test data no encoder has seen, by depth."


def test_baselines_in_words():
    runs = [built("rnn", 0.7), built("lstm", 0.5), built("convolution", 0.6)]
    for value, who in (
        (0.4, "every encoder is"),
        (0.55, "rnn and convolution are"),
        (0.65, "rnn is"),
        (0.9, "no encoder is"),
    ):
        last = sentences(runs, baselines=[{"name": "plain rule", "value": value, "distance": {}}])[-1]
        assert last == f"A plain rule without any encoder: {value:.1%}; {who} better."


def test_a_measure_that_should_fall():
    runs = [built("rnn", 4.0, measure="mse"), built("lstm", 2.5, measure="mse")]
    lines = sentences(runs, ERROR, [{"name": "constant", "value": 3.0, "distance": {}}])
    assert lines[0] == "With 50 s each, lstm is best: mse 2.5, 1.5 ahead of rnn (4)."
    assert lines[-1] == "A constant without any encoder: 3; lstm is better."


def test_one_encoder_alone():
    assert sentences([built("rnn", 0.8)]) == ["With 50 s each, rnn reaches accuracy 80.0%."]


def test_equal_encoders_are_called_equal():
    assert sentences([built("rnn", 0.8), built("lstm", 0.8)]) == [
        "With 50 s each, rnn and lstm are equal: accuracy 80.0%.",
        "At equal tokens (1,000), rnn and lstm are equal: accuracy 80.0%.",
    ]
    three = [built("rnn", 0.8), built("convolution", 0.5), built("lstm", 0.8)]
    assert sentences(three)[0] == (
        "With 50 s each, rnn and lstm are best, and equal: accuracy 80.0%, 30.0 points ahead of convolution (50.0%)."
    )
    runs = [built("rnn", 0.7, near=0.9, far=0.7), built("lstm", 0.6, near=0.9, far=0.8)]
    assert sentences(runs)[2] == "By distance in tokens, the best is rnn and lstm equally at 1-8; lstm at 9-32."
    runs = [built(kind, 0.7, near=0.9, far=0.7) for kind in ("rnn", "lstm")]
    assert sentences(runs)[2] == "At every distance, from 1-8 to 9-32 tokens, rnn and lstm are equal."


def test_the_table_of_the_terminal():
    runs = [built("rnn", a, seed, near=0.9, far=0.4) for seed, a in enumerate((0.5, 0.7, 0.8))]
    runs += [built("lstm", 0.6, near=0.8, far=0.6, tokens=300)]
    encoders = report.summarise(runs, ACCURACY)
    shown = {
        "title": "Two encoders on [bold]data[/bold]",
        "measure": ACCURACY,
        "equal": ["at equal time", "at equal tokens"],
        "buckets": report.buckets(encoders),
        "encoders": encoders,
        "baselines": [{"name": "plain rule", "value": 0.97, "distance": {"1-8": 0.99}}],
    }
    console = Console(width=80)
    with console.capture() as captured:
        console.print(report.table(shown))
    lines = captured.get().splitlines()
    assert lines[0].strip() == "Two encoders on [bold]data[/bold]: accuracy, %"
    assert lines[1].split() == ["para-", "tokens", "equal", "equal"]
    assert lines[2].split() == ["encoder", "meters", "per", "s", "steps", "time", "tokens", "1-8", "9-32"]
    assert lines[3].split() == ["rnn", "100", "500", "100", "70.0", "21.0", "90.0", "40.0"]
    assert lines[4].split() == ["50.0–80.0", "15.0–24.0"]
    assert lines[5].split()[0] == "lstm" and lines[6].split() == ["plain", "rule", "97.0", "99.0", "–"]
