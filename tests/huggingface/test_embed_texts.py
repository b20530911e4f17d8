"""Texts in every container: each in its place, none cut in silence, all checked before the first is computed."""

import sys
from pathlib import Path

import numpy as np
import peft
import polars
import pyarrow
import pytest
import torch
from sentence_transformers import SentenceTransformer
from transformers import AutoModel, AutoTokenizer, BertTokenizer, PreTrainedTokenizerFast

from sightline.huggingface import embed
from sightline.huggingface.vector_files import embed_to_file
from tests.huggingface.folders import MINILM, save_model

pandas = pytest.importorskip("pandas")

TEXTS = ["A cat sat.", "", "x", "padding " * 30, " \t\n", "cat", "日本語 🙂"]


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return save_model(tmp_path_factory.mktemp("models") / "plain")


@pytest.fixture(scope="module")
def expected(plain):
    return embed(plain, TEXTS)


def loaded(plain):
    return AutoModel.from_pretrained(plain)


HOLDERS = {
    "Series, index out of order": lambda: pandas.Series(TEXTS, index=range(len(TEXTS), 0, -1)),
    "Series of strings": lambda: pandas.Series(TEXTS, dtype="string"),
    "Series of categories": lambda: pandas.Series(TEXTS, dtype="category"),
    "Index": lambda: pandas.Index(TEXTS),
    "polars": lambda: polars.Series(TEXTS),
    "Arrow": lambda: pyarrow.array(TEXTS),
    "Arrow, in chunks": lambda: pyarrow.chunked_array([TEXTS[:2], TEXTS[2:]]),
    "numpy": lambda: np.array(TEXTS),
    "numpy, objects": lambda: np.array(TEXTS, object),
    "a tuple": lambda: tuple(TEXTS),
    "a generator": lambda: (text for text in TEXTS),
}


@pytest.mark.parametrize("case", HOLDERS)
def test_texts_in_any_column(case, plain, expected):
    assert torch.equal(embed(plain, HOLDERS[case]()), expected)


FRAME = {"id": [1, 2], "text": ["a", "b"]}
NO_TEXTS = {
    "pandas": (lambda: pandas.DataFrame(FRAME),
        r"got a pandas DataFrame with the columns id, text; give one column of it, as in table\['text'\]"),
    "polars": (lambda: polars.DataFrame(FRAME), r"got a polars DataFrame .*table\['text'\]"),
    "polars, lazy": (lambda: polars.LazyFrame(FRAME), r"got a polars LazyFrame .*table\['text'\]"),
    "Arrow": (lambda: pyarrow.table(FRAME), r"got a pyarrow Table .*table\['text'\]"),
    "a dict": (lambda: {"one": "a", "two": "b"}, "got a dict with the columns one, two"),
    "a set": (lambda: {"a", "b"}, "got a set, which has no order"),
    "bytes": (lambda: b"ab", "got a bytes; decode it"),
    "a path": (lambda: Path("texts.txt"), "got a path; read the file"),
    "a grid": (lambda: np.array([["a", "b"]]), r"got an array \[1, 2\]"),
    "missing, Series": (lambda: pandas.Series(["a", None]), "text 1: expected a text, got a missing value"),
    "missing, NaN": (lambda: ["a", float("nan")], "text 1: expected a text, got a missing value"),
    "missing, NA": (lambda: ["a", pandas.NA], "text 1: expected a text, got a missing value"),
    "missing, polars": (lambda: polars.Series(["a", None]), "text 1: expected a text, got a missing value"),
    "numbers": (lambda: pandas.Series([1, 2]), "text 0: expected a text, got int"),
    "lists": (lambda: [["a", "b"]], "text 0: expected a text, got list"),
    "rows": (lambda: [{"text": "a"}], "text 0: expected a text, got dict"),
    "bytes in a list": (lambda: [b"a"], "text 0: expected a text, got bytes"),
    "half a pair": (lambda: ["a", "b\ude00"], "text 1: expected a text, got half of a surrogate pair"),
    "two halves": (lambda: ["\ud83d\ude00"], "text 0: expected a text, got half of a surrogate pair"),
}  # fmt: skip


@pytest.mark.parametrize("case", NO_TEXTS)
def test_what_are_no_texts_is_said_before_the_model_is_loaded(case):
    make, expected = NO_TEXTS[case]
    with pytest.raises((TypeError, ValueError), match=expected):
        embed("no/where", make())


def test_pairs_are_pairs(plain, tmp_path):
    for source in (["ab", "cd"], [("one", "a", 3)], [("one",)], pandas.DataFrame(FRAME), {"one": "a"}):
        with pytest.raises(
            TypeError, match=r"embed: expected (\(name, text\)|an iterable of \(name, text\) pairs), got"
        ):
            embed_to_file(plain, source, tmp_path / "v.npy")
    assert not list(tmp_path.iterdir())


def test_all_texts_are_looked_at_before_the_first_is_computed(plain, monkeypatch):
    def run(*arguments, **options):
        raise AssertionError("computed")

    monkeypatch.setattr(sys.modules["sightline.huggingface.embed"], "run", run)
    texts = ["short"] * 3000
    for i in (2100, 2500, 2700, 2900):
        texts[i] = "long " * (80 + i // 100)
    with pytest.raises(
        ValueError,
        match=r"text 2100: expected at most 80 tokens, .* got 103, and 3 more that are too long: "
        r"text 2500 \(107\), text 2700 \(109\), ...; shorten them, or let them be cut with truncate=True",
    ):
        embed(plain, texts)
    with pytest.raises(ValueError, match="text 1: expected at most 80 tokens, .* got 82; shorten it, or let it be"):
        embed(plain, ["a", "字" * 80])
    with pytest.raises(AssertionError):
        embed(plain, texts, truncate=True)


def test_what_the_tokenizer_presets_is_not_done(plain, expected):
    preset = AutoTokenizer.from_pretrained(plain)
    preset.backend_tokenizer.enable_truncation(4)
    preset.backend_tokenizer.enable_padding(length=20)
    tokenizers = [
        preset,
        PreTrainedTokenizerFast(tokenizer_object=preset.backend_tokenizer),
        AutoTokenizer.from_pretrained(plain, padding="max_length", truncation=True, padding_side="left"),
        BertTokenizer.from_pretrained(plain),
    ]
    for tokenizer in tokenizers:
        assert torch.equal(embed(loaded(plain), TEXTS, tokenizer=tokenizer), expected)


def test_whatever_the_caller_is_in_the_vectors_are_the_same(plain, expected):
    tokenizer = AutoTokenizer.from_pretrained(plain)
    for around in (torch.autocast("cpu", dtype=torch.bfloat16), torch.inference_mode(), torch.no_grad()):
        with around:
            assert torch.equal(embed(plain, TEXTS), expected)
            assert torch.equal(embed(loaded(plain), TEXTS, tokenizer=tokenizer), expected)
    training = loaded(plain).train()
    assert torch.equal(embed(training, TEXTS, tokenizer=tokenizer), expected) and training.training


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # peft's
def test_other_models_say_what_to_give():
    model, tokenizer = AutoModel.from_pretrained(MINILM), AutoTokenizer.from_pretrained(MINILM)
    adapted = peft.get_peft_model(model, peft.LoraConfig(target_modules=["query"]))
    for source, options, expected in (
        (SentenceTransformer(str(MINILM), device="cpu"), {},
            r"got a sentence_transformers SentenceTransformer; .*unpad\(model\).encode\(texts\)"),
        (adapted, {"tokenizer": tokenizer}, r"got a peft PeftModel; give model.merge_and_unload\(\)"),
        (model, {"tokenizer": tokenizer.backend_tokenizer},
            "tokenizer: expected one of transformers, got a tokenizers Tokenizer"),
        (model, {"tokenizer": str(MINILM)}, "tokenizer: expected one of transformers, got a str"),
        (MINILM, {"tokenizer": tokenizer}, "expected no tokenizer beside .*, which has its own"),
    ):  # fmt: skip
        with pytest.raises((TypeError, ValueError), match=expected):
            embed(source, TEXTS, **options)
