"""The folder or name of a model may lie about anything: one sentence, little time and memory, no code of its own."""

import json
import shutil
import socket
import struct
import threading
import time

import pytest
import torch
from safetensors.torch import load_file, save_file
from sentence_transformers.sentence_transformer.modules import Dense, LayerNorm

from sightline.huggingface import embed, model_files
from sightline.huggingface.loading import load_model
from tests.huggingface.folders import save_model, save_sentence_transformer


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return save_model(tmp_path_factory.mktemp("models") / "plain")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return save_sentence_transformer(tmp_path_factory.mktemp("models"), LayerNorm(16), Dense(16, 6), pooling="cls")


def change(path, **values):
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def weights(folder, alter):
    tensors = load_file(folder / "model.safetensors")
    save_file(alter(tensors), folder / "model.safetensors", {"format": "pt"})


def nothing_in_it(folder):
    weights(folder, lambda tensors: {"x": torch.zeros(1)})
    change(folder / "config.json", hidden_size=10**5, intermediate_size=10**5)


def pickled(folder, content=b"\x80\x02cos\nsystem\nX\x04\x00\x00\x00true\x85R."):
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(content)


def token_ids(folder):
    path = folder / "tokenizer.json"
    content = json.loads(path.read_text())
    content["model"]["vocab"]["cat"] = 2_000_000_000
    path.write_text(json.dumps(content))


LIES = {
    "a hundred million layers": (lambda f: change(f / "config.json", num_hidden_layers=10**8),
        "num_hidden_layers 100,000,000 in config.json, where 1,000 are many"),
    "a width of 1e9": (lambda f: change(f / "config.json", hidden_size=10**9),
        "bytes of weights, where config.json makes a model of"),
    "words without end": (lambda f: change(f / "config.json", vocab_size=10**12),
        "bytes of weights, where config.json makes a model of"),
    "nothing in the weights": (nothing_in_it, "100 bytes of weights, where config.json makes a model of 133,"),
    "a few words more": (lambda f: change(f / "config.json", vocab_size=30523),
        "its weights have other sizes than its config.json says"),
    "a negative width": (lambda f: change(f / "config.json", hidden_size=-1), "one that does not load"),
    "a width that is text": (lambda f: change(f / "config.json", hidden_size="wide"),
        "one that does not load .*hidden_size"),
    "architectures": (lambda f: change(f / "config.json", architectures=3), "one that does not load"),
    "weights of whole numbers": (lambda f: weights(f, lambda t: {k: v.to(torch.int8) for k, v in t.items()}),
        "whole numbers for .*, where the configuration knows no quantization"),
    "a header without end": (lambda f: (f / "model.safetensors").write_bytes(struct.pack("<Q", 2**62) + b"{}"),
        "one that does not load .*header"),
    "no weights": (lambda f: (f / "model.safetensors").unlink(),
        "one that does not load .*no file named model.safetensors"),
    "a pickle that runs code": (pickled, "one that does not load .*[Ww]eights.only"),
    "token ids without end": (token_ids,
        "text 1: expected token ids from 0 to 30521, as many as .* has embeddings, got 2000000000"),
    "a longest text that is none": (lambda f: change(f / "tokenizer_config.json", model_max_length="long"),
        "expected a tokenizer"),
    "JSON in JSON": (lambda f: (f / "modules.json").write_text("[" * 100_000), "modules.json: expected JSON, got: "),
}  # fmt: skip


@pytest.mark.parametrize("case", LIES)
def test_a_lie_is_one_sentence(case, plain, tmp_path):
    folder = shutil.copytree(plain, tmp_path / "model")
    spoil, expected = LIES[case]
    spoil(folder)
    began = time.monotonic()
    with pytest.raises(ValueError, match=expected):
        embed(folder, ["a dog", "a cat"], pooling="mean")
    assert time.monotonic() - began < 20  # on a machine that does much else


def modules(folder, value):
    (folder / "modules.json").write_text(json.dumps(value))


ST = "sentence_transformers.models."
ODD = {
    "a module that is text": (lambda f: modules(f, [{"type": ST + "Transformer"}, {"type": ST + "Pooling"}, "Dense"]),
        "expected modules.json and what it names as sentence-transformers writes them"),
    "a router": (lambda f: modules(f, [{"type": ST + "Router", "path": ""}]),
        "expected a Transformer, then a Pooling, got Router"),
    "longest of text": (lambda f: change(f / "sentence_bert_config.json", max_seq_length="512"),
        "expected max_seq_length as a number of tokens, 1 or more, got '512'"),
    "longest of nothing": (lambda f: change(f / "sentence_bert_config.json", max_seq_length=0),
        "expected max_seq_length .* got 0"),
    "longest of a half": (lambda f: change(f / "sentence_bert_config.json", max_seq_length=1.5),
        "expected max_seq_length .* got 1.5"),
    "prompts in a list": (lambda f: change(f / "config_sentence_transformers.json", prompts=["a"]),
        "as sentence-transformers writes them"),
    "a prompt that is a number": (
        lambda f: change(f / "config_sentence_transformers.json", prompts={"q": 3}, default_prompt_name="q"),
        "got 3 as the prompt 'q'"),
    "a mode that is a number": (lambda f: change(f / "1_Pooling/config.json", pooling_mode=3),
        "as sentence-transformers writes them"),
    "modality in a list": (lambda f: change(f / "sentence_bert_config.json", modality_config=[1]),
        "as sentence-transformers writes them"),
    "a dense of 1e12": (lambda f: change(f / "3_Dense/config.json", in_features=10**12, out_features=10**6),
        "expected the sizes and weights of a Dense"),
    "a norm of 1e12": (lambda f: change(f / "2_LayerNorm/config.json", dimension=10**12),
        "expected the sizes and weights of a LayerNorm"),
    "a dense of text": (lambda f: change(f / "3_Dense/config.json", in_features="16"),
        "expected the sizes and weights of a Dense"),
    "a dense of whole numbers": (lambda f: weights(f / "3_Dense", lambda t: {k: v.int() for k, v in t.items()}),
        "weights of a Dense, got torch.int32 in linear"),
    "a dense with NaN": (lambda f: weights(f / "3_Dense", lambda t: {k: v * float("nan") for k, v in t.items()}),
        "got NaN or infinity in after"),
}  # fmt: skip


@pytest.mark.parametrize("case", ODD)
def test_what_no_sentence_transformer_says(case, whole, tmp_path):
    folder = shutil.copytree(whole, tmp_path / "model")
    spoil, expected = ODD[case]
    spoil(folder)
    with pytest.raises(ValueError, match=expected):
        embed(folder, ["a"])


@pytest.mark.parametrize("name", ["", "a/b/c", "/no/where", "a\0b", "x" * 5000, "../..", "né"])
def test_what_is_no_name(name):
    with pytest.raises(ValueError, match="expected the folder of a Hugging Face model or a name on the hub, got"):
        embed(name, ["a"])


@pytest.mark.parametrize("answers", [False, True], ids=["refuses", "is silent"])
def test_a_hub_that_does_not_answer_is_not_waited_for(answers, monkeypatch):
    """It refuses the connection, or takes it and says nothing."""
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    kept = []
    if answers:
        threading.Thread(target=lambda: kept.append(listener.accept()), daemon=True).start()
    else:
        listener.close()
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", f"http://127.0.0.1:{port}")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr(model_files, "PATIENCE", 0.5)
    model_files._hub_answers.cache_clear()
    began = time.monotonic()
    try:
        for use in (lambda: embed("someone/small-model", ["a"]), lambda: load_model("someone/small-model")):
            with pytest.raises(ValueError, match="someone/small-model: expected the folder of a Hugging Face model"):
                use()
    finally:
        model_files._hub_answers.cache_clear()
        listener.close()
        for connection, _ in kept:
            connection.close()
    assert time.monotonic() - began < 10
