"""A model answers the same from its folder as from memory, in the order of the records, and names what is wrong."""

import itertools
import json

import numpy as np
import pytest
import torch

from sightline.encoders import KINDS
from sightline.tasks import Classify, Language, Tag, Tokenizer, load
from sightline.training.config import RunConfig
from sightline.training.model import Model, average
from tests.training.small_runs import refusal


def small(kind="self-attention", task=None, **settings):
    torch.manual_seed(0)
    tokenizer = Tokenizer.train("words", ["a b c d"] * 2)
    largest = {"largest": 8} if kind == "fully-connected" else {}
    config = RunConfig().changed(kind=kind, width=8, layers=1, tokens=16, **largest, **settings)
    return Model(config, task or Classify("text", "label", ("no", "yes")), tokenizer).eval()


def speaker(tokens="characters", text="abcä ", stream=True, **settings):
    tokenizer = Tokenizer.train(tokens, [text] * 3)
    task = Language("text", tokenizer.size, tokenizer.end, 16, None, stream)
    torch.manual_seed(0)
    return Model(RunConfig().changed(width=8, layers=1, causal=True, **settings), task, tokenizer)


@pytest.mark.parametrize("kind", KINDS)
def test_saved_and_loaded(tmp_path, kind):
    model = small(kind)
    model.save(tmp_path / "m")
    again = Model.load(tmp_path / "m")
    texts = ["a b", "", "c", "d d d a unknown"]
    assert list(again.predict(texts)) == list(model.predict(texts))
    assert sorted(p.name for p in (tmp_path / "m").iterdir()) == [
        "config.json",
        "digests.json",
        "model.safetensors",
        "task.json",
        "tokenizer.json",
    ]
    assert not again.training


def test_vectors_have_no_tokenizer(tmp_path):
    torch.manual_seed(0)
    model = Model(RunConfig().changed(width=8, layers=1, features=3), Classify("v", "label", ("no", "yes")), None)
    model.save(tmp_path)
    rows = [np.ones((2, 3), np.float32), np.zeros((4, 3), np.float32)]
    assert list(Model.load(tmp_path).predict(rows)) == list(model.predict(rows))
    assert not (tmp_path / "tokenizer.json").exists()


def test_answers_keep_the_order_and_do_not_depend_on_neighbours():
    model = small(task=Tag("text", "tags", ("x", "y")))
    texts = ["a " * n for n in (5, 1, 30, 0, 7, 2)]
    answers = list(model.predict(texts))
    assert [len(answer["tags"]) for answer in answers] == [5, 1, 30, 0, 7, 2]
    assert answers == [next(model.predict([text])) for text in texts]


def test_a_stream_is_answered_before_it_ends():
    answers = small().predict({"text": "a"} for _ in itertools.count())
    assert len(list(itertools.islice(answers, 3000))) == 3000


def test_evaluate_counts_every_example_once(reviews):
    data = load(reviews)
    model = Model(RunConfig().changed(width=8, layers=1, tokens=50), data.task, data.tokenizer)
    measured = model.evaluate(data.train)
    model.eval()
    with torch.no_grad():
        hits = (model.scores(data.train).argmax(-1) == data.train.targets).float().mean()
    assert measured["accuracy"] == pytest.approx(float(hits))


def test_averages():
    parts = [{"loss": (3.0, 2), "accuracy": (1, 2)}, {"loss": (1.0, 2), "accuracy": (2, 2), "rare": (0, 0)}]
    assert average(parts) == {"loss": 1.0, "accuracy": 0.75}


# --- generating -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_generates_what_the_full_pass_foresees(kind):
    largest = {"largest": 20} if kind == "fully-connected" else {}
    model = speaker(kind=kind, **largest).eval()
    tokenizer = model.tokenizer
    written = "".join(model.generate("ab", length=12, temperature=0))
    ids = tokenizer.encode(["ab" + written]).ids
    with torch.no_grad():
        scores = model(ids)
    scores[:, [tokenizer.unknown, tokenizer.end]] = -torch.inf
    assert scores.argmax(-1)[1:-1].tolist() == ids.values[2:].tolist()
    assert len(written) == 12


@pytest.mark.parametrize("kind", ["bytes", "characters", "words", "bpe"])
def test_pieces_join_to_the_text_of_all_tokens(kind):
    text = "wörter über straße und €"
    model = speaker(kind, text)
    expected = iter(model.tokenizer.encode([text + " " + text]).ids.values.tolist())
    prompt = "wörter"
    for _ in model.tokenizer.encode([prompt]).ids.values:
        next(expected)

    def follow(ids, state):
        scores = torch.zeros(model.task.outputs)
        scores[next(expected, model.tokenizer.end)] = 1
        return scores, state

    model._read = follow
    length = len(model.tokenizer.encode([text + " " + text]).ids.values) - len(
        model.tokenizer.encode([prompt]).ids.values
    )
    pieces = list(model.generate(prompt, length=length, temperature=0))
    assert prompt + "".join(pieces) == text + " " + text
    assert len(pieces) > 5 and "\ufffd" not in "".join(pieces)


def test_a_character_cut_off_by_the_end_is_shown_as_such():
    model = speaker("bytes", "ä")
    ids = iter(model.tokenizer.encode(["ä"]).ids.values.tolist())
    model._read = lambda *_: (torch.nn.functional.one_hot(torch.tensor(next(ids, 0)), model.task.outputs).float(), None)
    assert list(model.generate("b", length=1, temperature=0)) == ["\ufffd"]


def test_seeds_temperature_and_top_k():
    model = speaker()
    texts = {seed: "".join(model.generate("a", length=30, seed=seed)) for seed in (1, 2)}
    assert texts[1] == "".join(model.generate("a", length=30, seed=1)) != texts[2]
    greedy = "".join(model.generate("a", length=30, temperature=0))
    assert greedy == "".join(model.generate("a", length=30, top_k=1, seed=3))
    assert list(model.generate("a", length=0)) == []


def test_records_begin_without_a_prompt_and_end_by_themselves():
    model = speaker(stream=False)
    assert "".join(model.generate(length=20)) is not None
    model._read = lambda *_: (
        torch.nn.functional.one_hot(torch.tensor(model.tokenizer.end), model.task.outputs).float(),
        None,
    )
    assert list(model.generate("a", length=20, temperature=0)) == []


# --- what is wrong is said --------------------------------------------------------------------------------------------


def test_wrong_folders(tmp_path):
    folder = tmp_path / "m"
    assert refusal(lambda: Model.load(folder)) == (
        f"{folder}: expected the folder of a model, got one without config.json; fit a model first"
    )
    small().save(folder)

    (folder / "digests.json").unlink()  # as an earlier version left it; else each of these is named by its digest

    def broken(name, content):
        whole = (folder / name).read_bytes()
        (folder / name).unlink() if content is None else (folder / name).write_text(content)
        message = refusal(lambda: Model.load(folder))
        (folder / name).write_bytes(whole)
        return message

    assert (
        broken("model.safetensors", None)
        == f"{folder}: expected a trained model, got a run that did not end; resume it"
    )
    assert broken("model.safetensors", "").startswith(
        f"{folder}/model.safetensors: expected a whole safetensors file, got"
    )
    assert broken("task.json", None).startswith(f"{folder}/task.json: expected a file to read, got: No such")
    assert broken("task.json", "{}").startswith(f"{folder}/task.json: expected the task of the model, got: ")
    assert broken("tokenizer.json", None).startswith(f"{folder}/tokenizer.json: expected a tokenizer.json")
    config = json.loads((folder / "config.json").read_text())
    config["encoder"]["width"] = 16
    assert broken("config.json", json.dumps(config)).startswith(f"{folder}/model.safetensors: expected encoder.")
    config["encoder"]["depth"] = 16
    assert "expected a known name, got encoder.depth" in broken("config.json", json.dumps(config))
    Model.load(folder)


def test_a_sequence_beyond_the_largest_is_named():
    model = small("fully-connected")
    assert refusal(lambda: list(model.predict(["a", "a " * 9]))) == (
        "predict:2: expected at most 8 tokens, the encoder's largest, got 9; shorten it, or fit with a larger largest"
    )
    assert refusal(lambda: model.check_lengths(torch.tensor([3, 9]), "evaluate")).startswith(
        "evaluate, sequence 1: expected at"
    )


def test_any_finite_temperature_draws():
    def text_at(temperature):
        return "".join(speaker(text="abc ").generate("a", length=20, temperature=temperature))

    assert text_at(1e-40) == text_at(1e-300) == text_at(0.0) != text_at(1.0)
    assert len(text_at(1e300)) == len(text_at(1e38)) == 20


@pytest.mark.parametrize(
    "make, message",
    [
        (
            lambda: speaker(pool="mean"),
            "encoder: expected no pool for language, which answers for each token, got mean; ",
        ),
        (
            lambda: small().generate("a"),
            "generate: expected a model of language, got one of classify; fit with task language",
        ),
        (
            lambda: speaker().generate("a", length=-1),
            "generate: expected length and a finite temperature of 0 or more and top_k of 1",
        ),
        (
            lambda: speaker().generate("a", temperature=float("nan")),
            "generate: expected length and a finite temperature of 0 or more",
        ),
        (
            lambda: speaker().generate("a", temperature=float("inf")),
            "generate: expected length and a finite temperature of 0 or more",
        ),
        (lambda: speaker().generate("a", seed=10**20), "generate: expected a seed from 0 to 2**64 - 1, got 1"),
        (lambda: speaker().generate("a\udcff"), "generate: expected a text, got half of a surrogate pair"),
        (lambda: list(small().predict("good")), "predict: expected records one after the other, got one str"),
        (lambda: list(small().predict({"text": "a"})), "predict: expected records one after the other, got one d"),
        (
            lambda: list(small().predict([{"label": "yes"}])),
            "predict:1: expected a column 'text', got the columns label",
        ),
        (lambda: speaker().generate(""), "generate: expected a prompt"),
        (
            lambda: Model(RunConfig().changed(causal=False), Language("text", 5, 1, 4, None, True), None),
            "encoder: expected causal for language, got causal false; leave it out",
        ),
    ],
)
def test_what_cannot_be(make, message):
    assert refusal(make).startswith(message)
