"""A whole comparison on tiny data: equal sizes, equal budgets, nothing done twice."""

import dataclasses
import json

import pytest
import torch

from sightline.comparison import compare
from sightline.comparison.page_data import machine
from sightline.comparison.protocol import SAMPLE, sample
from sightline.lens import read_page, write_page
from sightline.sequences import Sequences
from sightline.tasks import Examples
from sightline.training.model import Model

SMALL = {"width": 16, "layers": 1, "steps": 4, "tokens": 64}


@pytest.fixture(scope="module")
def reviews(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "reviews.csv"
    rows = [f"the {'good' if i % 3 else 'bad'} film number {i} of {i % 7},{i % 3}" for i in range(80)]
    path.write_text("review,stars\n" + "\n".join(rows) + "\n")
    return path


@pytest.fixture(scope="module")
def compared(reviews, tmp_path_factory):
    lines = []
    out = tmp_path_factory.mktemp("runs")
    return compare(reviews, seeds=2, rates=[1e-3, 1e-2], out=out, tell=lines.append, **SMALL), lines, out


def test_five_encoders_of_one_size(compared):
    comparison, _, _ = compared
    sizes = [e["parameters"] for e in comparison["encoders"]]
    assert len(sizes) == 5
    assert max(sizes) - min(sizes) <= 0.05 * min(sizes)
    assert [e["steps"] for e in comparison["encoders"]] == [4] * 5


def test_each_rate_once_and_each_seed_with_the_best(compared):
    comparison, lines, out = compared
    folders = {path.name for path in out.iterdir() if path.is_dir()}
    assert len(folders) == 5 * 3  # two rates with the first seed, the best rate with the second
    for e in comparison["encoders"]:
        assert [run["seed"] for run in e["runs"]] == [0, 1]
        assert f"{e['kind']}-rate{e['rate']:g}-seed1" in folders
    assert len(lines) == 1 + 15 and "4 steps" in lines[-1]


def test_curves_and_milestones(compared):
    run = compared[0]["encoders"][0]["runs"][0]
    seconds, tokens, measures = zip(*[(m[1], m[0], m[2]) for m in run["milestones"]], strict=True)
    assert list(seconds) == sorted(seconds) and list(tokens) == sorted(tokens) and tokens[-1] > 0
    assert all(0 <= measure <= 1 for measure in measures)
    assert run["loss"][-1][1] == tokens[-1]


def test_what_is_done_is_not_done_again(compared, reviews, monkeypatch):
    before, _, out = compared

    def never(*_):
        raise AssertionError("a step was taken")

    monkeypatch.setattr("sightline.training.loop._update", never)
    lines = []
    again = compare(reviews, seeds=2, rates=[1e-3, 1e-2], out=out, tell=lines.append, **SMALL)
    assert again == before == json.loads((out / "comparison.json").read_text())
    assert sum("not done again" in line for line in lines) == 15
    with pytest.raises(ValueError, match="expected the settings the run began with"):
        compare(reviews, out=out, rates=[1e-3], **{**SMALL, "steps": 9}, tell=str)


def test_a_stopped_comparison_goes_on(reviews, tmp_path, monkeypatch):
    options = {"encoders": ["rnn", "convolution"], "tell": str, **SMALL}
    whole = compare(reviews, out=tmp_path / "whole", **options)
    from sightline.training import loop

    update, calls = loop._update, []

    def stopped(*args):
        calls.append(1)
        if len(calls) == 6:
            raise KeyboardInterrupt
        return update(*args)

    monkeypatch.setattr(loop, "_update", stopped)
    with pytest.raises(KeyboardInterrupt):
        compare(reviews, out=tmp_path / "parts", **options)
    parts = compare(reviews, out=tmp_path / "parts", **options)
    assert [e["time"] for e in parts["encoders"]] == [e["time"] for e in whole["encoders"]]
    folders = [tmp_path / name / "convolution-rate0.003-seed0" for name in ("whole", "parts")]
    one, two = (Model.load(folder).state_dict() for folder in folders)
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_other_data_of_the_same_size_is_not_mixed_in(reviews, tmp_path):
    path = tmp_path / "reviews.csv"
    path.write_text(reviews.read_text())
    options = {"encoders": ["rnn"], "out": tmp_path / "runs", "tell": str, **SMALL}
    compare(path, **options)
    swapped = {"0": "1", "1": "0", "2": "2"}
    rows = [row.rpartition(",") for row in path.read_text().splitlines()]
    path.write_text("".join(f"{text},{swapped.get(label, label)}\n" for text, _, label in rows))
    with pytest.raises(ValueError, match="expected the data that the run began with, got others"):
        compare(path, **options)


def test_a_curve_that_was_lost_is_said(reviews, tmp_path):
    options = {"encoders": ["rnn"], "out": tmp_path, "tell": str, **SMALL}
    compare(reviews, **options)
    (tmp_path / "rnn-rate0.003-seed0" / "metrics.jsonl").unlink()
    with pytest.raises(ValueError, match="metrics.jsonl: expected the lines of the run up to its last step, 4, got"):
        compare(reviews, **options)


def test_the_page_holds_the_comparison(compared, tmp_path):
    comparison, _, _ = compared
    assert read_page(write_page(comparison, tmp_path / "page.html")) == comparison
    assert comparison["exhibit"] is None and comparison["buckets"] == []
    assert comparison["machine"].keys() == machine().keys() >= {"python", "torch", "sightline"}
    assert comparison["settings"]["rates tried"] == "0.001, 0.01"


@pytest.mark.parametrize("task", ["regress", "language"])
def test_measures_that_should_fall(task, tmp_path):
    if task == "regress":
        path = tmp_path / "prices.jsonl"
        path.write_text("\n".join(json.dumps({"text": f"house of {i} rooms", "price": i / 3}) for i in range(60)))
    else:
        path = tmp_path / "plays.txt"
        path.write_text("to be or not to be\n" * 60)
    options = {"encoders": ["self-attention", "lstm"], "out": tmp_path / "runs", "tell": str, "context": 16, **SMALL}
    compared = compare(path, **options)
    assert compared["measure"]["better"] == "lower"
    assert compared["encoders"][0]["time"]["median"] <= compared["encoders"][1]["time"]["median"]
    assert compared["sentences"] and compared["baselines"][0]["value"] > 0


def test_equal_time_is_the_default(reviews, tmp_path):
    compared = compare(reviews, encoders=["rnn"], seconds=0.3, width=8, layers=1, out=tmp_path, tell=str)
    assert compared["equal"] == ["at equal time", "at equal tokens"]
    assert compared["settings"]["budget"] == "0.3 s each"
    assert compared["encoders"][0]["runs"][0]["loss"][-1][0] == pytest.approx(0.3, abs=0.25)


def test_a_sample_of_validation_data():
    offsets = [0, *range(1000, 90_001, 1000)]
    many = Examples(Sequences(torch.zeros(90_000, dtype=torch.int64), offsets), torch.arange(90))
    small = sample(many)
    assert len(small.inputs.values) == SAMPLE
    assert torch.equal(small.targets, sample(many).targets)
    assert small.targets.tolist() != sorted(small.targets.tolist())
    long = dataclasses.replace(many, inputs=Sequences(many.inputs.values, [0, 90_000]), targets=torch.zeros(1))
    assert len(sample(long)) == 1


@pytest.mark.parametrize(
    "options, message",
    [
        ({"encoders": ["gru"]}, "expected encoders out of self-attention, rnn.*, got gru"),
        ({"encoders": []}, "got none; name one or more"),
        ({"seeds": 0}, "expected at least 1 seed, got 0"),
        ({"seconds": 1, "steps": 3}, "expected one budget"),
        ({"kernal": 3}, "did you mean kernel"),
        ({"kind": "lstm"}, "expected no kind, got lstm; use encoders"),
        ({"seed": 3}, "expected no seed, got 3; use seeds"),
    ],
)
def test_what_cannot_be_compared(options, message, reviews, tmp_path):
    with pytest.raises(ValueError, match=message):
        compare(reviews, out=tmp_path / "runs", tell=str, **options)
    assert not list(tmp_path.iterdir())
