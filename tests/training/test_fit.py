"""What people call must work from a file to an answer, for every task and encoder, and refuse in one sentence."""

import io
import json

import numpy as np
import pytest
import torch

from sightline.encoders import KINDS
from sightline.tasks import load, load_test
from sightline.training.config import RunConfig
from sightline.training.model import Model
from sightline.training.runs import evaluate, fit, generate, predict
from tests.training.small_runs import refusal

SMALL_SETTINGS = {"width": 8, "layers": 1, "tokens": 64}
SMALL = SMALL_SETTINGS | {"progress": False}


@pytest.mark.parametrize("kind", KINDS)
def test_from_a_file_to_answers(reviews, tmp_path, kind):
    model = fit(reviews, encoder=kind, out=tmp_path / "run", steps=4, **SMALL)
    assert model.config.encoder.kind == kind and model.config.encoder.causal is False
    assert model.results["valid"].keys() == model.results["test"].keys() == {"loss", "accuracy"}
    assert json.loads((tmp_path / "run" / "results.json").read_text()) == model.results
    answers = list(predict(tmp_path / "run", ["a good one", "a bad one"]))
    assert [set(answer) for answer in answers] == [{"label", "probability"}] * 2
    assert evaluate(tmp_path / "run", reviews) == evaluate(model, reviews)


def test_learns(reviews, tmp_path):
    model = fit(reviews, encoder="convolution", out=tmp_path / "run", steps=80, rate=1e-2, **SMALL)
    assert model.results["valid"]["accuracy"] > 0.9 and model.results["test"]["accuracy"] > 0.9


def test_tags(tmp_path):
    rows = [{"words": ["the", "duck", f"w{n}"], "tags": ["D", "N", "X"]} for n in range(30)]
    (tmp_path / "tags.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    fit(tmp_path / "tags.jsonl", out=tmp_path / "run", steps=60, rate=1e-2, **SMALL)
    assert list(predict(tmp_path / "run", [["the", "duck"], []])) == [
        {"words": ["the", "duck"], "tags": ["D", "N"]},
        {"words": [], "tags": []},
    ]


def test_vectors(tmp_path):
    values = np.random.default_rng(0).normal(size=(200, 3)).astype(np.float32)
    offsets = np.arange(0, 201, 5)
    np.savez(tmp_path / "v.npz", values=values, offsets=offsets, price=values[:, 0].reshape(40, 5).sum(1))
    model = fit(tmp_path / "v.npz", out=tmp_path / "run", steps=3, **SMALL)
    assert model.config.encoder.features == 3 and model.task.name == "regress"
    assert [answer.keys() for answer in predict(tmp_path / "run", tmp_path / "v.npz")] == [{"value": 0}.keys()] * 40


@pytest.mark.parametrize("kind", KINDS)
def test_language(tmp_path, kind):
    (tmp_path / "plays.txt").write_text("to be or not to be " * 60)
    model = fit(tmp_path / "plays.txt", encoder=kind, out=tmp_path / "run", steps=30, context=24, rate=1e-2, **SMALL)
    assert model.config.encoder.causal is True
    assert len("".join(generate(tmp_path / "run", "to b", length=10))) == 10


def test_standard_input(reviews, tmp_path, monkeypatch):
    fit(reviews, out=tmp_path / "run", steps=2, **SMALL)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b'{"review": "good"}\n{"review": "bad"}\n')))
    assert len(list(predict(tmp_path / "run", "-"))) == 2


def test_the_configuration_can_be_given_back(reviews, tmp_path):
    first = fit(reviews, encoder="lstm", out=tmp_path / "a", steps=3, rate=2e-3, **SMALL)
    again = fit(reviews, config=tmp_path / "a" / "config.json", out=tmp_path / "b", progress=False)
    assert again.config == first.config
    assert (tmp_path / "a" / "model.safetensors").read_bytes() == (tmp_path / "b" / "model.safetensors").read_bytes()
    other = fit(reviews, config=first.config, out=tmp_path / "c", width=4, progress=False)
    assert other.config.encoder.width == 4 and other.config.training.rate == 2e-3


def test_data_that_is_loaded_already(reviews, tmp_path):
    data = load(reviews)
    model = fit(data, encoder="rnn", out=tmp_path / "run", steps=2, **SMALL)
    assert model.config.data.data == ""
    assert evaluate(model, data.test) == model.results["test"]


def test_the_folder_is_named_by_data_and_encoder(reviews, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fit(reviews, encoder="rnn", steps=1, **SMALL)
    assert (tmp_path / "runs" / "reviews-rnn" / "model.safetensors").exists()


def test_seeds_differ_and_repeat(reviews, tmp_path):
    losses = [
        fit(reviews, out=tmp_path / str(number), steps=2, seed=seed, **SMALL).results["valid"]["loss"]
        for number, seed in enumerate((0, 0, 1))
    ]
    assert losses[0] == losses[1] != losses[2]


def test_a_folder_with_files_is_not_written_over(reviews, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.txt").write_text("mine")
    assert refusal(lambda: fit(reviews, out=tmp_path / "run", steps=1, **SMALL)) == (
        f"{tmp_path / 'run'}: expected a new or empty folder, got one with files; resume the run, write over it with "
        "overwrite, or name another out"
    )
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["thesis.txt"]


def test_resuming_asks_for_the_same(reviews, tmp_path):
    out = tmp_path / "run"
    fit(reviews, out=out, steps=2, **SMALL)
    fit(reviews, out=out, resume=True, progress=False)
    assert refusal(lambda: fit(reviews, out=out, resume=True, rate=0.5)) == (
        f"{out}: expected the settings the run began with, rate 0.001, got 0.5; leave it out, or start anew in "
        "another folder"
    )
    assert "width 8, got 16; leave it out" in refusal(
        lambda: fit(
            reviews, out=out, resume=True, config=RunConfig().changed(**(SMALL_SETTINGS | {"width": 16, "steps": 2}))
        )
    )
    reviews.write_text(reviews.read_text() + "new new good,5\n" * 9)
    assert "expected the same as the data gives now, got another; restore the data" in refusal(
        lambda: fit(reviews, out=out, resume=True)
    )


def swapped(path):
    """The same texts, with the other label each."""
    rows = path.read_text().replace(",5\n", ",five\n").replace(",1\n", ",5\n").replace(",five\n", ",1\n")
    path.write_text(rows)


def test_resuming_asks_for_the_same_labels(reviews, tmp_path):
    out = tmp_path / "run"
    fit(reviews, out=out, steps=2, **SMALL)
    swapped(reviews)
    assert "expected the data that the run began with, got others" in refusal(
        lambda: fit(reviews, out=out, resume=True, progress=False)
    )


def test_a_finished_run_whose_lines_are_lost_still_has_its_results(reviews, tmp_path):
    first = fit(reviews, out=tmp_path / "run", steps=3, **SMALL)
    (tmp_path / "run" / "metrics.jsonl").unlink()
    assert fit(reviews, out=tmp_path / "run", resume=True, progress=False).results == first.results


@pytest.mark.parametrize("name", ["reviews.csv", "plays.txt"])
def test_of_its_own_file_a_model_is_measured_on_the_test_part(reviews, tmp_path, name):
    path = reviews.parent / name
    if name == "plays.txt":
        path.write_text("to be or not to be " * 60)
    model = fit(path, out=tmp_path / "run", steps=2, **SMALL)
    assert evaluate(tmp_path / "run", path) == evaluate(model, path) == model.results["test"]
    other = tmp_path / "other" / name
    other.parent.mkdir()
    other.write_text(path.read_text() + path.read_text().removeprefix("review,stars\n"))
    whole = evaluate(model, other)
    assert whole != model.results["test"]
    if name == "reviews.csv":
        assert whole == pytest.approx(evaluate(model, load_test(path, model.task, model.tokenizer)))
        swapped(path)
        assert evaluate(model, path)["accuracy"] == pytest.approx(1 - whole["accuracy"])


def test_its_own_file_without_a_test_part_is_refused(reviews, tmp_path):
    (tmp_path / "valid.csv").write_text("review,stars\ngood,5\nbad,1\n")
    model = fit(reviews, valid=str(tmp_path / "valid.csv"), out=tmp_path / "run", steps=1, **SMALL)
    assert "expected other data than the model was fitted on, got the same" in refusal(lambda: evaluate(model, reviews))


def test_what_one_data_set_decided_is_decided_anew_for_another(reviews, tmp_path):
    (tmp_path / "plays.txt").write_text("to be or not to be " * 60)
    fit(tmp_path / "plays.txt", out=tmp_path / "plays", steps=1, context=16, **SMALL)
    start = tmp_path / "plays" / "config.json"
    assert fit(reviews, config=start, out=tmp_path / "a", progress=False).config.encoder.causal is False
    named = fit(reviews, config=start, causal=True, out=tmp_path / "b", progress=False)
    assert named.config.encoder.causal is True
    kept = fit(reviews, config=tmp_path / "b" / "config.json", out=tmp_path / "c", progress=False)
    assert kept.config.encoder.causal is True  # which that data had not decided
    (tmp_path / "short.csv").write_text("text,label\n" + "so so,1\nfine,0\n" * 9)
    settings = {"encoder": "fully-connected", "steps": 1, "largest": 100}
    fit(tmp_path / "short.csv", out=tmp_path / "d", **settings, **SMALL)
    start = tmp_path / "d" / "config.json"
    same = fit(tmp_path / "short.csv", config=start, out=tmp_path / "e", progress=False)
    other = fit(reviews, config=start, out=tmp_path / "f", progress=False)
    assert (same.config.encoder.largest, other.config.encoder.largest) == (100, 91)


def test_nothing_is_made_where_the_data_or_a_setting_is_wrong(reviews, tmp_path):
    out = tmp_path / "run"
    assert "did you mean width?" in refusal(lambda: fit(reviews, out=out, widht=3))
    assert "expected a column 'text'" in refusal(lambda: fit(reviews, out=out, text="text"))
    too_long = refusal(lambda: fit(reviews, encoder="fully-connected", largest=50, out=out, steps=1, **SMALL))
    assert " data, sequence " in too_long and "expected at most 50 tokens, the encoder's largest, got 91; " in too_long
    assert not out.exists()


def test_a_model_that_is_not_there(tmp_path):
    for call in (
        lambda: evaluate(tmp_path, "x.csv"),
        lambda: list(predict(tmp_path, ["a"])),
        lambda: generate(tmp_path),
    ):
        assert refusal(call).startswith(f"{tmp_path}: expected the folder of a model, got one without config.json")


def test_a_label_seen_only_in_the_test(reviews, tmp_path):
    model = fit(reviews, out=tmp_path / "run", steps=1, **SMALL)
    (tmp_path / "test.csv").write_text("review,stars\ngood,5\nbad,7\n")
    assert f"{tmp_path / 'test.csv'}:3: " in refusal(lambda: evaluate(model, tmp_path / "test.csv"))


def test_the_weights_do_not_depend_on_random_numbers_drawn_before(reviews, tmp_path):
    torch.rand(7)
    one = fit(reviews, out=tmp_path / "a", steps=2, **SMALL)
    torch.rand(3)
    two = fit(reviews, out=tmp_path / "b", steps=2, **SMALL)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    assert isinstance(Model.load(tmp_path / "a"), Model) and isinstance(one.config, RunConfig)
