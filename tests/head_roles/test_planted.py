"""Planted heads are reported, and no others: a BERT with weights set by hand, on sentences with known trees."""

import json

import numpy as np
import pyarrow.parquet
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from sightline.head_roles.gold import Document, Relation, build_corpus
from sightline.head_roles.report import heads

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "the", "a", "dog", "bird", "saw", "big", "old", "red"]
IDS = {word: i for i, word in enumerate(WORDS)}
POSITIONS, LAYERS, HEADS, WIDTH = 16, 2, 4, 64
FIRST_POSITION = len(WORDS)  # a row is one of the words and one of the positions, each a number of its own
SHARP = 30.0


def planted():
    """Head 0.3: a determiner looks at its noun. 1.2: the word before. 1.1: the word after. 0.0: the first token."""
    config = BertConfig(
        vocab_size=len(WORDS), hidden_size=WIDTH, num_hidden_layers=LAYERS, num_attention_heads=HEADS,
        intermediate_size=8, max_position_embeddings=POSITIONS, type_vocab_size=1, layer_norm_eps=1e-12,
    )  # fmt: skip
    model = BertModel(config, add_pooling_layer=False).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.zero_()
        embeddings = model.embeddings
        embeddings.word_embeddings.weight[:, : len(WORDS)] = torch.eye(len(WORDS))
        embeddings.position_embeddings.weight[:, FIRST_POSITION : FIRST_POSITION + POSITIONS] = torch.eye(POSITIONS)
        row = torch.zeros(WIDTH)
        row[:2] = 1
        scale = 1 / row.std(correction=0)  # a norm makes two ones of 64 numbers into this, and takes the mean away
        for part in model.modules():
            if isinstance(part, torch.nn.LayerNorm):
                part.weight.fill_(1)
                part.bias.fill_(float(row.mean() * scale))
        sharp = SHARP**0.5 / scale * (WIDTH / HEADS) ** 0.25
        for (layer, head), pairs in links().items():
            attention = model.encoder.layer[layer].attention.self
            for number, (query, key) in enumerate(pairs):
                attention.query.weight[head * WIDTH // HEADS + number, query] = sharp
                attention.key.weight[head * WIDTH // HEADS + number, key] = sharp
    return model


def links():
    """For each planted head pairs of query and key, as row numbers."""
    places = range(FIRST_POSITION, FIRST_POSITION + POSITIONS)
    return {
        (0, 3): [(IDS["the"], IDS["dog"]), (IDS["a"], IDS["bird"])],
        (1, 2): list(zip(places[1:], places[:-1], strict=True)),
        (1, 1): list(zip(places[:-1], places[1:], strict=True)),
        (0, 0): [([*range(len(WORDS))], IDS["[CLS]"])],
    }


@pytest.fixture(scope="module")
def tokenizer():
    engine = Tokenizer(models.WordLevel(IDS, unk_token="[UNK]"))
    engine.pre_tokenizer = pre_tokenizers.Whitespace()
    around = [("[CLS]", 2), ("[SEP]", 3)]
    engine.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=around)
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    return PreTrainedTokenizerFast(tokenizer_object=engine, **names)


@pytest.fixture(scope="module")
def corpus():
    """The dog saw a bird, with up to three adjectives before each; relations: det, the neighbours of words, random."""
    random, documents, pairs = np.random.default_rng(0), [], []
    for number in range(160):
        words = []
        for determiner, noun in random.permutation([("the", "dog"), ("a", "bird")]).tolist():
            start = len(words)
            words += [determiner, *random.choice(["big", "old", "red"], random.integers(0, 4)).tolist(), noun]
            pairs.append((number, 0, start, len(words) - 1))
            words += ["saw"] * ("saw" not in words)
        pairs += [(number, 1, i, i - 1) for i in range(1, len(words))]
        pairs += [(number, 2, i - 1, i) for i in range(1, len(words))]
        pairs += [(number, 3, i, random.integers(len(words))) for i in range(len(words))]
        spaces = ("", *[" "] * (len(words) - 1))
        documents.append(Document(f"sentence {number}", tuple(words), spaces, source=number))
    return build_corpus(documents, [Relation("det"), Relation("before"), Relation("after"), Relation("lot")], pairs)


@pytest.fixture(scope="module")
def reported(corpus, tokenizer, tmp_path_factory):
    folder = tmp_path_factory.mktemp("planted")
    return heads(planted(), corpus, tokenizer=tokenizer, out=folder / "out", tell=str), folder / "out"


def test_each_relation_has_the_head_that_was_planted(reported):
    relations = {relation["relation"]: relation for relation in reported[0]["relations"]}
    for name, head in {"det": (0, 3), "before": (1, 2), "after": (1, 1)}.items():
        best = relations[name]
        assert (best["layer"], best["head"], best["accuracy"]) == (*head, 1.0)
        assert best["random"] < 0.9 and best["right"]
    assert relations["det"]["by_offset"] < 0.5 and relations["before"]["by_offset"] == 1
    assert relations["lot"]["accuracy"] < 0.3  # which nobody can know
    shown = relations["det"]["right"][0]
    assert shown["words"][shown["query"]] in ("the", "a") and shown["words"][shown["keys"][0]] in ("dog", "bird")


def test_heads_are_called_what_they_are(reported):
    assert reported[0]["syntactic"] == [{"layer": 0, "head": 3, "relations": ["det"]}]
    assert reported[0]["positional"] == [[0, 0, 0, 0], [0, 1, -1, 0]]
    first = np.array(reported[0]["measures"]["first"])
    assert np.argwhere(first > 0.9).tolist() == [[0, 0]]
    offsets = np.array(reported[0]["measures"]["offset_weight"])
    assert np.argwhere(offsets > 0.9).tolist() == [[1, 1, 11], [1, 2, 9]]


def test_a_text_of_equal_weights_has_known_measures(reported):
    """Head 1.0 was left empty: all its weights are one over the length."""
    document, folder = reported
    measures = {name: values[1][0] for name, values in document["measures"].items()}
    assert measures["sink"] == 0 and measures["confidence"] == pytest.approx(measures["first"], abs=1e-5)
    assert measures["special"] == pytest.approx(2 * measures["first"], abs=1e-5)
    assert measures["separator"] == pytest.approx(measures["first"], abs=1e-5)
    assert json.loads((folder / "heads.json").read_text("utf-8")) == document


def test_a_report_on_other_words_is_refused_before_anything_is_measured(reported, corpus, tokenizer, tmp_path):
    with pytest.raises(ValueError, match="expected beside it a report on the same words, got one of BertModel"):
        heads(planted(), corpus.take(range(9)), beside=reported[0], tokenizer=tokenizer, out=tmp_path / "out", tell=str)
    assert not (tmp_path / "out").exists()


def test_the_tables_hold_a_row_for_each_head(reported):
    document, folder = reported
    table = pyarrow.parquet.read_table(folder / "heads.parquet").to_pydict()
    assert len(table["layer"]) == LAYERS * HEADS
    assert table["first"] == [value for layer in document["measures"]["first"] for value in layer]
    relations = pyarrow.parquet.read_table(folder / "relations.parquet").to_pylist()
    (best,) = [r for r in relations if (r["relation"], r["layer"], r["head"]) == ("det", 0, 3)]
    assert best["chosen_at"] == best["accuracy"] == 1


def test_texts_without_questions_have_a_table_of_relations_without_rows(tokenizer, tmp_path):
    texts = build_corpus([Document(str(i), ("the", "dog"), ("", " "), source=i) for i in range(4)], [], [])
    document = heads(planted(), texts, tokenizer=tokenizer, out=tmp_path, tell=str)
    table = pyarrow.parquet.read_table(tmp_path / "relations.parquet")
    assert table.column_names == ["relation", "layer", "head", "chosen_at", "accuracy"] and table.num_rows == 0
    assert document["relations"] == [] and len(document["measures"]["entropy"]) == LAYERS
