"""Influence in the data of a look: shares and distances by their definitions, every kind of model, refusals."""

import numpy as np
import pytest
import torch
from transformers import (
    BartConfig,
    BartModel,
    BertConfig,
    BertModel,
    BloomConfig,
    BloomModel,
    GPT2Config,
    GPT2Model,
    MambaConfig,
    MambaModel,
    T5Config,
    T5Model,
)

from sightline.lens import influence_profile, look
from sightline.lens.inline import as_weight
from sightline.observe import influence_on
from sightline.observe.distances import bins_within, by_bin, by_distance, in_bins
from sightline.tasks import Classify, Language, Tokenizer
from tests.lens.observed import SENTENCE, text
from tests.lens.test_inline import block
from tests.lens.test_reading import LAW, MINILM, ours, spelled, tiny

BLIND = {"lstm": {}, "rnn": {}, "convolution": {"kernel": 3}, "fully-connected": {"largest": 64}}


def shares(result: torch.Tensor) -> np.ndarray:
    return (result / result.sum(-1, keepdim=True)).numpy()


def mapped(data: dict) -> np.ndarray:
    n = len(data["pieces"])
    return as_weight(torch.tensor(block(data, "map/0.0").copy())).view(n, n).numpy()


# ---- distances -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 2, 3, 7, 41, 97])
def test_distances_are_those_of_the_definition(n):
    random = torch.Generator().manual_seed(n)
    map = torch.rand(2, n, n, generator=random).double().softmax(-1)
    special = torch.rand(n, generator=random) < 0.3
    rows = torch.arange(0, n, 2)
    far = by_distance(map[:, rows].masked_fill(special, 0), rows) / len(rows)
    expected = np.zeros((2, 2 * n - 1))
    for head in range(2):
        for i in rows.tolist():
            for j in range(n):
                if not special[j]:
                    expected[head, j - i + n - 1] += float(map[head, i, j]) / len(rows)
    assert np.allclose(far, expected, atol=1e-12)
    binned = [[e[low + n - 1 : high + n].sum() for low, high in bins_within(n)] for e in expected]
    assert np.allclose(in_bins(far), binned, atol=1e-12)
    streamed = [by_bin(one.masked_fill(special, 0), rows) / len(rows) for one in map[:, rows]]
    assert np.allclose(streamed, binned, atol=1e-12)
    for one, e in zip(far, expected, strict=True):
        by_side = np.array([e[n - 1]] + [e[n - 1 - d] + e[n - 1 + d] for d in range(1, n)])
        for share, result in zip((0.5, 0.9, 0.99), influence_profile.within(one), strict=True):
            reached = by_side.cumsum() >= share * e.sum() * (1 - 1e-9)
            assert result == (int(reached.argmax()) if e.sum() else None)


def test_the_profile_of_influence_is_that_of_the_shares(monkeypatch):
    random = torch.Generator().manual_seed(0)
    influence = torch.rand(16, 16, generator=random, dtype=torch.float64)
    options = []

    def inputs(model, ids, row, probes):
        options.append((row, probes))
        return influence[row]

    monkeypatch.setattr(influence_profile, "influence_on", inputs)
    model, ids = torch.nn.Linear(2, 2), torch.arange(16)
    result = influence_profile.estimate_profile(model, ids, text())
    assert options == [(list(range(16)), 4)] and "each of its 16 rows, with 4 random probes" in result["about"]
    kept = shares(influence)
    kept[:, [0, 15]] = 0  # [CLS] and [SEP]
    apart = np.arange(16) - np.arange(16)[:, None]
    expected = [kept[(apart >= low) & (apart <= high)].sum() / 16 for low, high in bins_within(16)]
    assert np.allclose(result["profile"], expected, atol=1e-6)
    monkeypatch.setattr(
        influence_profile, "PROFILE_WORK", 5 * influence_profile.SMALL * 16
    )  # a larger model is asked less
    assert (
        "from 8 of its 16 rows, with 1 random probe each"
        in influence_profile.estimate_profile(model, ids, text())["about"]
    )
    assert options[-1] == ([0, 2, 4, 6, 8, 10, 12, 14], 1)


# ---- beside weights ------------------------------------------------------------------------------------------------


def test_influence_of_a_real_model_stands_beside_its_weights():
    data = look(MINILM, LAW)
    result, n = data["influence"], len(data["pieces"])
    assert len(result["profile"]) == len(data["bins"]) and 0.5 < sum(result["profile"]) < 1
    assert data["shows"] == "weights" and data["notes"] == [] and result["within"] == sorted(result["within"])
    itself = [low for low, _ in data["bins"]].index(0)
    assert result["profile"][itself] == max(result["profile"])  # what a word encodes is most of all itself
    assert set(data["within"]) == {"all", *map(str, range(6)), *(f"{i}.{h}" for i in range(6) for h in range(12))}
    assert all(0 <= d50 <= d90 <= d99 < n for d50, d90, d99 in data["within"].values())


def test_a_causal_model_is_moved_by_nothing_ahead(tmp_path):
    torch.manual_seed(0)
    size = {"vocab_size": 30522, "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 64}
    data = look(tiny(tmp_path / "gpt", GPT2Model(GPT2Config(**size))), SENTENCE)
    shares = zip(data["influence"]["profile"], data["bins"], strict=True)
    assert [share for share, (low, _) in shares if low > 0 and share] == []


def test_a_gradient_that_cannot_be_had_is_said(monkeypatch):
    def refused(*_, **__):
        raise ValueError("influence: expected outputs with a gradient, got none; use another model")

    monkeypatch.setattr(influence_profile, "influence_on", refused)
    result = look(ours(Classify("text", "label", ("a", "b")), Tokenizer.train("words", [LAW] * 2)), LAW)["influence"]
    assert result["profile"] == result["within"] == []
    assert (
        result["about"]
        == "Influence is not shown: influence: expected outputs with a gradient, got none; use another model."
    )


# ---- alone ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", BLIND)
@pytest.mark.parametrize("causal", [False, True])
def test_an_encoder_without_attention_shows_what_moves_it(kind, causal):
    tokenizer = Tokenizer.train("words", [LAW] * 2)
    writer = Language("text", tokenizer.size, tokenizer.end, 64, "token", stream=True)
    task = writer if causal else Classify("text", "label", ("a", "b"))
    model = ours(task, tokenizer, kind=kind, heads=None, **BLIND[kind])
    data = look(model, LAW, link="its:Law")
    assert (data["shows"], data["layers"], data["heads"], data["influence"]) == ("influence", 1, 1, None)
    assert data["title"].startswith(f"What moves {data['model']}: The Law")
    assert f"an encoder of kind {kind} has none" in data["notes"][0] and data["notes"][1].endswith("It is exact.")
    result, n = mapped(data), len(data["pieces"])
    expected = shares(influence_on(model, model.tokenizer.encode([LAW]).ids.values, range(n)))
    assert np.abs(result - expected).max() < 0.004
    if causal:
        assert np.triu(result, 1).max() == 0
    assert [view for view, _ in data["link"]["there"]] == ["0.0"] and spelled(data)[data["link"]["from"]] == "its"


def test_models_that_compute_their_own_attention_or_none(tmp_path):
    torch.manual_seed(0)
    mamba = MambaModel(MambaConfig(vocab_size=30522, hidden_size=16, num_hidden_layers=1, state_size=4))
    bloom = BloomModel(BloomConfig(vocab_size=30522, hidden_size=16, n_layer=2, n_head=2))
    for name, model in (("mamba", mamba), ("bloom", bloom)):
        data = look(tiny(tmp_path / name, model), SENTENCE)
        result = mapped(data)
        assert data["shows"] == "influence" and np.triu(result, 1).max() == 0
        assert np.abs(result.sum(-1) - 1).max() < 0.02 and (result.diagonal() > 0).all()
        assert f"{type(model).__name__}: expected attention through transformers' interface" in data["notes"][0]


def test_a_text_too_long_to_ask_each_piece_is_refused(monkeypatch):
    task, tokenizer = Classify("text", "label", ("a", "b")), Tokenizer.train("words", [LAW] * 2)
    model = ours(task, tokenizer, kind="rnn", heads=None)
    with pytest.raises(ValueError, match="at most 400 tokens for a model of 2 million weights .* got 401; shorten"):
        look(model, "law " * 401)
    with pytest.raises(ValueError, match="at most 400 tokens .* got 3000; shorten"):
        look(model, "law " * 3000)
    monkeypatch.setattr(influence_profile, "MAP_WORK", 32 * influence_profile.SMALL * 9 + 1)
    assert look(model, "law " * 4)["notes"][1].endswith("It is exact.")
    assert look(model, "law " * 6)["notes"][1].endswith("It is estimated with 8 random probes for each piece.")
    with pytest.raises(ValueError, match="at most 12 tokens"):
        look(model, "law " * 13)
    with pytest.raises(ValueError, match="no layer or head for Encoder, as an encoder of kind rnn has none, got 0"):
        look(model, "law", layer=0)


def test_shares_of_a_row_that_nothing_moves_are_none():
    assert influence_profile._shares(torch.tensor([[0.0, 0.0], [1.0, 3.0]])).tolist() == [[0, 0], [0.25, 0.75]]


# ---- two halves ----------------------------------------------------------------------------------------------------


def test_of_an_encoder_decoder_the_encoder_is_shown(tmp_path):
    torch.manual_seed(0)
    t5 = T5Config(vocab_size=30522, d_model=16, d_kv=8, d_ff=16, num_layers=2, num_decoder_layers=3, num_heads=2)
    bart = BartConfig(vocab_size=30522, d_model=16, encoder_layers=2, decoder_layers=3, encoder_attention_heads=2)
    bart.update(
        {"decoder_attention_heads": 4, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16, "max_position_embeddings": 64}
    )
    for name, model in (("t5", T5Model(t5)), ("bart", BartModel(bart))):
        data = look(tiny(tmp_path / name, model), SENTENCE)
        assert (data["shows"], data["layers"], data["heads"]) == ("weights", 2, 2)
        assert data["notes"] == ["Shown is the encoder, as it reads the text; the decoder, which writes, is not."]
        assert len(data["influence"]["profile"]) == len(data["bins"])
    bert = BertConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16)
    assert look(tiny(tmp_path / "bert", BertModel(bert)), SENTENCE)["notes"] == []
