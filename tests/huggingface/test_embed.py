"""Vectors are those of sentence-transformers, in the order of the texts; what cannot be followed is refused."""

import json
import random
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense, LayerNorm, Normalize
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import nn
from transformers import AutoModel, AutoTokenizer, BertConfig, PreTrainedTokenizerFast, RobertaConfig, T5Config

from sightline.huggingface import embed as module  # the module or, once it is exported, the function of its name
from tests.huggingface.folders import MINILM, SIZE, encode, save_model, save_sentence_transformer

if callable(module):
    import sys

    module = sys.modules["sightline.huggingface.embed"]
embed = module.embed

TEXTS = [
    "The cat sat on the mat.",
    "",
    "Ein Häuschen; 日本語のテキスト; عربى; 🙂🙃; ﬁne",
    "A",
    " \t\n ",
    "padding " * 30,
    "The cat sat on the mat.",
    "[MASK] is a word of the tokenizer's own, and so is [SEP].",
]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def plain(place):
    return save_model(place / "plain")


@pytest.fixture
def copy(plain, tmp_path):
    """A folder that may be spoilt."""
    return shutil.copytree(plain, tmp_path / "model")


# ---- as sentence-transformers ----------------------------------------------------------------------------------------


def test_a_real_model_gives_the_vectors_of_sentence_transformers_in_the_order_given(monkeypatch, capfd):
    texts = [*TEXTS, "unequal lengths are what sentences have, " * 25, "word " * 254]
    random.Random(0).shuffle(texts)
    expected = encode(MINILM, texts)
    capfd.readouterr()
    actual = embed(MINILM, iter(texts))
    assert capfd.readouterr().err.count("MiniLM") == 0  # nothing to be told
    assert actual.dtype == torch.float32 and actual.shape == (10, 384)
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-5)
    monkeypatch.setattr(module, "WINDOW", 3)
    monkeypatch.setattr(module, "BATCHES", 1)
    torch.testing.assert_close(embed(MINILM, texts, tokens=64), expected, rtol=0, atol=1e-5)


def test_too_long_is_said_and_cut_only_if_asked():
    texts = ["short", "word " * 255, "word " * 400]
    with pytest.raises(
        ValueError,
        match=r"text 1: expected at most 256 tokens, as many as .*model takes, got 257, "
        r"and 1 more that are too long: text 2 \(402\); shorten them",
    ):
        embed(MINILM, texts)
    torch.testing.assert_close(embed(MINILM, texts, truncate=True), encode(MINILM, texts), rtol=0, atol=1e-5)


def dense(wide=16, **options):
    return Dense(wide, 6, **options)


FOLDERS = {
    "cls": {"pooling": "cls"},
    "three modes": {"pooling": ("max", "cls", "mean_sqrt_len_tokens")},
    "dense after two modes": {
        "pooling": ("weightedmean", "lasttoken"),
        "after": lambda: [dense(32, bias=False), Normalize()],
    },
    "layer norm, gelu, identity": {
        "after": lambda: [LayerNorm(16), dense(activation_function=nn.GELU()), Dense(6, 3, activation_function=None)]
    },
    "a prompt": {"default_prompt_name": "query", "prompts": {"query": "query: ", "document": ""}},
    "a prompt that is not pooled": {
        **{"include_prompt": False, "pooling": ("mean", "weightedmean", "cls")},
        **{"default_prompt_name": "query", "prompts": {"query": "a question: "}},
    },
    "positions from padding on": {
        "config": RobertaConfig(**{**SIZE, "max_position_embeddings": 90, "pad_token_id": 1})
    },
    "an encoder of two": {
        "config": T5Config(
            vocab_size=30522, d_model=16, d_kv=8, d_ff=24, num_layers=2, num_heads=2, initializer_factor=3.0
        )
    },
}


@pytest.mark.parametrize("case", FOLDERS)
def test_what_the_folder_says_is_done(case, tmp_path):
    options = dict(FOLDERS[case])
    torch.manual_seed(2)
    folder = save_sentence_transformer(tmp_path, *options.pop("after", list)(), **options)
    expected = encode(folder, TEXTS)
    actual = embed(folder, TEXTS)
    assert actual.shape == expected.shape
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5)


def test_of_a_whole_encoder_and_decoder_the_encoder_is_taken(tmp_path):
    folder = save_model(tmp_path, FOLDERS["an encoder of two"]["config"])
    torch.testing.assert_close(embed(folder, TEXTS), encode(folder, TEXTS), rtol=1e-5, atol=1e-5)


def test_the_spelling_of_older_versions_and_their_lower_case(copy):
    (copy / "1_Pooling").mkdir()
    kinds = [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")]
    modules = [
        {"idx": i, "name": str(i), "path": p, "type": f"sentence_transformers.models.{k}"}
        for i, (p, k) in enumerate(kinds)
    ]
    (copy / "modules.json").write_text(json.dumps(modules))
    old = {"word_embedding_dimension": 16, "pooling_mode_mean_tokens": True, "pooling_mode_cls_token": True}
    (copy / "1_Pooling" / "config.json").write_text(json.dumps({**old, "pooling_mode_max_tokens": False}))
    (copy / "sentence_bert_config.json").write_text('{"max_seq_length": 11, "do_lower_case": true}')
    tokenizer = json.loads((copy / "tokenizer.json").read_text())
    tokenizer["normalizer"]["lowercase"] = False  # as of a cased model
    (copy / "tokenizer.json").write_text(json.dumps(tokenizer))
    config = json.loads((copy / "tokenizer_config.json").read_text())
    (copy / "tokenizer_config.json").write_text(json.dumps({**config, "do_lower_case": False}))
    texts = ["THE Cat sat", "the cat SAT", *TEXTS]
    actual = embed(copy, texts, truncate=True)
    torch.testing.assert_close(actual, encode(copy, texts), rtol=1e-5, atol=1e-5)
    assert torch.equal(actual[0], actual[1]) and actual.shape == (10, 32)
    with pytest.raises(ValueError, match="text 4: expected at most 11 tokens"):
        embed(copy, texts)


# ---- as the caller says ----------------------------------------------------------------------------------------------


def test_pooling_and_length_one_as_the_caller_says():
    raw = embed(MINILM, TEXTS[:3], normalize=False)
    assert (raw.norm(dim=1) > 1.5).all()
    torch.testing.assert_close(nn.functional.normalize(raw), embed(MINILM, TEXTS[:3]))
    both = embed(MINILM, TEXTS[:3], pooling=["cls", "mean"], normalize=True)
    torch.testing.assert_close(both.norm(dim=1), torch.ones(3))
    torch.testing.assert_close(nn.functional.normalize(both[:, 384:]), embed(MINILM, TEXTS[:3]))


def test_a_loaded_model_with_its_tokenizer(plain, capsys):
    model = AutoModel.from_pretrained(plain).train()
    tokenizer = AutoTokenizer.from_pretrained(plain)
    capsys.readouterr()
    actual = embed(model, TEXTS, tokenizer=tokenizer, pooling="mean")
    assert capsys.readouterr().err == ""
    assert model.training and next(model.parameters()).requires_grad
    assert torch.equal(actual, embed(plain, TEXTS, pooling="mean"))
    assert "the mean is taken" not in capsys.readouterr().err
    embed(plain, ["a"])
    assert "nothing here says how to pool, so the mean is taken" in capsys.readouterr().err
    embed(model, ["a"], tokenizer=tokenizer)
    assert "the mean is taken" in capsys.readouterr().err


def test_prompts_that_are_not_put_in_front_are_said(tmp_path, capsys):
    folder = save_sentence_transformer(tmp_path, prompts={"query": "query: ", "document": ""})
    capsys.readouterr()
    torch.testing.assert_close(embed(folder, TEXTS), encode(folder, TEXTS), rtol=1e-5, atol=1e-5)
    assert "no prompt is put before the texts; the model knows query, write one" in capsys.readouterr().err


def test_no_texts_and_a_text_of_no_tokens(plain):
    assert embed(plain, []).shape == (0, 16)
    words = Tokenizer(models.WordLevel({"a": 5, "b": 6}, unk_token="a"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    bare = PreTrainedTokenizerFast(tokenizer_object=words)
    model = AutoModel.from_pretrained(plain)
    actual = embed(model, ["a b", "", "b"], tokenizer=bare, pooling="mean")
    assert not actual[1].any() and actual[[0, 2]].abs().sum(1).all()


def test_bfloat16_is_near_and_given_in_float32():
    exact, actual = embed(MINILM, TEXTS), embed(MINILM, TEXTS, precision="bfloat16")
    theirs = SentenceTransformer(str(MINILM), device="cpu", model_kwargs={"dtype": torch.bfloat16})
    error = (theirs.encode(TEXTS, convert_to_tensor=True).float() - exact).abs().max()
    assert actual.dtype == torch.float32 and 0 < (actual - exact).abs().max() <= 2 * error + 1e-6


# ---- bad input -------------------------------------------------------------------------------------------------------


def change(path, **values):
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def nan_in_all(folder):
    weights = load_file(folder / "model.safetensors")
    weights["encoder.layer.1.output.dense.weight"][0, 0] = float("nan")
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


def nan_in_a_word(folder):
    weights = load_file(folder / "model.safetensors")
    weights["embeddings.word_embeddings.weight"][4937] = float("nan")  # "cat"
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


def weights_that_are_missing(folder):
    weights = load_file(folder / "model.safetensors")
    del weights["encoder.layer.1.output.dense.weight"]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


SPOILT = {
    "no model": (lambda f: (f / "config.json").unlink(),
        "expected the folder of a Hugging Face model .*got one that does not load"),
    "a kind that is none": (lambda f: change(f / "config.json", model_type="brett"), "one that does not load .*brett"),
    "weights cut short": (lambda f: (f / "model.safetensors").write_bytes(b"\0" * 99), "one that does not load"),
    "weights of another size": (lambda f: change(f / "config.json", intermediate_size=25), "one that does not load"),
    "weights that are missing": (weights_that_are_missing,
        "got none for encoder.layer.1.output.dense.weight, which would stay random"),
    "NaN in all": (nan_in_all,
        "expected weights that are numbers, got NaN or infinity in encoder.layer.1.output.dense.weight"),
    "NaN in a word": (nan_in_a_word,
        "text 1: expected a vector of numbers, got .* infinity in embeddings.word_embeddings"),
    "no tokenizer": (lambda f: [drop(f / f"tokenizer{end}.json") for end in ("", "_config")],
        "expected a tokenizer beside the model, got one without words"),
    "a tokenizer that does not read": (lambda f: (f / "tokenizer.json").write_text("{"),
        "expected a tokenizer beside the model"),
    "modules that do not read": (lambda f: (f / "modules.json").write_text("["), "modules.json: expected JSON, got: "),
    "modules that are none": (lambda f: (f / "modules.json").write_text("{}"), "expected a JSON list, got a dict"),
}  # fmt: skip


@pytest.mark.parametrize("case", SPOILT)
def test_a_folder_that_is_spoilt_is_one_sentence(case, copy):
    spoil, expected = SPOILT[case]
    spoil(copy)
    with pytest.raises(ValueError, match=expected) as caught:
        embed(copy, ["a dog", "a cat"])
    assert str(copy) in str(caught.value) or "text 1" in str(caught.value)


def drop(path):
    path.unlink()


ODD = {
    "another module": (lambda f: modules(f, 2, "sentence_transformers.models.WordWeights"),
        "got WordWeights; use sentence-tr"),
    "code of its own": (lambda f: modules(f, 0, "own.Transformer"),
        "expected a Transformer, then a Pooling, got own.Transformer, Pooling"),
    "no pooling": (lambda f: modules(f, 1, "sentence_transformers.models.SpladePooling"),
        "got Transformer, SpladePooling"),
    "an unknown mode": (lambda f: change(f / "1_Pooling/config.json", pooling_mode="median"),
        "config.json: expected pooling by .*got median"),
    "no pooling config": (lambda f: drop(f / "1_Pooling/config.json"),
        "1_Pooling/config.json: expected this file, as modules.json says"),
    "an activation of its own": (lambda f: change(f / "2_Dense/config.json", activation_function="own.Act"),
        "activation of torch.nn .*got own.Act"),
    "no activation": (lambda f: change(f / "2_Dense/config.json", activation_function="torch.nn.functional"),
        "got torch.nn.functional"),
    "a residual": (lambda f: change(f / "2_Dense/config.json", use_residual=True), "got a residual"),
    "another input": (lambda f: change(f / "2_Dense/config.json", module_input_name="token_embeddings"),
        "got Dense on .*token_embeddings"),
    "another size": (lambda f: change(f / "2_Dense/config.json", in_features=17),
        "expected the sizes and weights of a Dense, got .*size mismatch"),
    "another task": (lambda f: change(f / "sentence_bert_config.json", transformer_task="fill-mask"),
        "not followed here"),
    "other processing": (
        lambda f: change(f / "sentence_bert_config.json", processing_kwargs={"text": {"padding": "x"}}),
        "got processing_kwargs"),
    "a cross-encoder": (lambda f: change(f / "config_sentence_transformers.json", model_type="CrossEncoder"),
        "got a CrossEncoder; it gives no vector"),
    "a prompt that is not there": (
        lambda f: change(f / "config_sentence_transformers.json", default_prompt_name="quest"),
        "expected a prompt 'quest'"),
}  # fmt: skip


def modules(folder, number, kind):
    listed = json.loads((folder / "modules.json").read_text())
    listed[number]["type"] = kind
    (folder / "modules.json").write_text(json.dumps(listed))


@pytest.fixture(scope="module")
def whole(place):
    return save_sentence_transformer(place / "dense", Dense(16, 6))


@pytest.mark.parametrize("case", ODD)
def test_what_is_not_followed_is_refused(case, whole, tmp_path):
    folder = shutil.copytree(whole, tmp_path / "model")
    spoil, expected = ODD[case]
    spoil(folder)
    with pytest.raises(ValueError, match=expected) as caught:
        embed(folder, ["a"])
    assert str(folder) in str(caught.value)


WRONG = {
    "one text": (dict(texts="a"), TypeError, "expected an iterable of texts, got one text; put it in a list"),
    "a number": (dict(texts=["a", 3]), TypeError, "text 1: expected a text, got int"),
    "half a letter": (dict(texts=["a", "\ud800"]), ValueError, "text 1: expected a text, got half of a surrogate pair"),
    "no model": (dict(model=3), TypeError, "or a loaded model, got an int"),
    "a mode": (dict(pooling="median"), ValueError, "pooling: expected pooling by one or more of cls, .*got median"),
    "no mode": (dict(pooling=[]), ValueError, "pooling: expected pooling by one or more of cls, .*got none"),
    "a precision": (dict(precision="int8"), ValueError, "precision: expected float32 or bfloat16, got 'int8'"),
    "a device": (dict(device="moon"), ValueError, "device: expected one that is here, got moon"),
    "a batch of nothing": (dict(tokens=0), ValueError, "tokens: expected a batch of 1 token or more, got 0"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_a_caller_can_get_wrong(case, plain):
    options, kind, expected = WRONG[case]
    with pytest.raises(kind, match=expected):
        embed(**{"model": plain, "texts": ["a"], "pooling": "mean", **options})


def test_pooling_must_fit_the_layers_after_it(whole):
    assert embed(whole, ["a"], pooling="cls").shape == (1, 6)
    with pytest.raises(ValueError, match="pooling: expected 1 of the modes, as the layers .* are made for, got 2"):
        embed(whole, ["a"], pooling=["cls", "max"])


def test_a_loaded_model_needs_a_tokenizer_and_keeps_its_precision(plain):
    model, tokenizer = AutoModel.from_pretrained(plain), AutoTokenizer.from_pretrained(plain)
    with pytest.raises(ValueError, match="in its own precision, got no tokenizer; pass tokenizer"):
        embed(model, ["a"])
    with pytest.raises(ValueError, match="in its own precision, got bfloat16"):
        embed(model, ["a"], tokenizer=tokenizer, precision="bfloat16")


def test_a_batch_that_does_not_fit_is_said(plain, monkeypatch):
    def full(*arguments, **options):
        raise torch.OutOfMemoryError("no room")

    embedder = module.Embedder(plain, pooling="mean", tokens=64)
    monkeypatch.setattr(module, "run", full)
    with pytest.raises(ValueError, match="tokens: expected a batch that fits into memory, got 64; halve it"):
        embedder([("text 0", "a")])


# ---- the hub ---------------------------------------------------------------------------------------------------------


def test_a_name_on_the_hub_is_read_from_its_copies_as_a_folder_is(whole, tmp_path, monkeypatch):
    """Off line, from the cache that the hub's own client keeps, with a file that is known not to be there."""
    cache = tmp_path / "models--someone--small"
    shutil.copytree(whole, cache / "snapshots" / "c0ffee")
    (cache / "refs").mkdir()
    (cache / "refs" / "main").write_text("c0ffee")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("transformers.utils.hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert torch.equal(embed("someone/small", TEXTS), embed(whole, TEXTS))
    (cache / "snapshots" / "c0ffee" / "modules.json").unlink()
    with pytest.raises(ValueError, match="someone/small: .*the hub does not answer for modules.json"):
        embed("someone/small", TEXTS)
    (cache / ".no_exist" / "c0ffee").mkdir(parents=True)
    (cache / ".no_exist" / "c0ffee" / "modules.json").touch()
    assert embed("someone/small", TEXTS).shape == (8, 16)  # no Dense, then
    for name in ("someone/other", "other", "/no/where"):
        with pytest.raises(
            ValueError, match="expected the folder of a Hugging Face model or a name on the hub, got no folder"
        ):
            embed(name, TEXTS)


def test_positions_are_counted_as_the_family_counts_them(tmp_path):
    folder = save_model(tmp_path, RobertaConfig(**{**SIZE, "max_position_embeddings": 20, "pad_token_id": 1}))
    assert module.Embedder(folder, pooling="mean").longest == 18
    assert embed(folder, ["a " * 16], pooling="mean").isfinite().all()
    with pytest.raises(ValueError, match="text 0: expected at most 18 tokens, .* got 19"):
        embed(folder, ["a " * 17], pooling="mean")
    assert module.Embedder(save_model(tmp_path / "b", BertConfig(**SIZE))).longest == 80
