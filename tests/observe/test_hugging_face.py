"""Hugging Face models that route are watched: real tokens, named layers, whole texts of steps, unchanged outputs."""

import threading

import pytest
import torch
from transformers import (
    AlbertConfig,
    AlbertModel,
    BartConfig,
    BartForConditionalGeneration,
    BertConfig,
    BertModel,
    DebertaV2Config,
    DebertaV2Model,
    GptOssConfig,
    GptOssForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
)

import sightline.huggingface as shf
from sightline.observe import watch

SMALL = {
    "vocab_size": 60,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 40,
    "pad_token_id": 0,
}
KEYS = {"num_key_value_heads": 2}
DECODER = {"encoder_attention_heads": 4, "decoder_attention_heads": 4, "encoder_ffn_dim": 48, "decoder_ffn_dim": 48}


def drawn(model):
    torch.manual_seed(1)
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.3) if weight.dim() > 1 else torch.nn.init.uniform_(weight, 0.5, 1.5)
    return model.eval()


MODELS = {
    "bert": lambda: BertModel(BertConfig(**SMALL)),
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**SMALL, **KEYS)),
    "mistral": lambda: MistralForCausalLM(MistralConfig(**SMALL, **KEYS, sliding_window=4)),
    "gpt-oss": lambda: GptOssForCausalLM(
        GptOssConfig(**SMALL, **KEYS, head_dim=8, sliding_window=4, num_local_experts=2, num_experts_per_tok=1)
    ),
    "t5": lambda: T5ForConditionalGeneration(
        T5Config(vocab_size=60, d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=4, decoder_start_token_id=0)
    ),
    "bart": lambda: BartForConditionalGeneration(
        BartConfig(
            vocab_size=60, d_model=32, encoder_layers=1, decoder_layers=1, max_position_embeddings=40, **DECODER,
            pad_token_id=0, bos_token_id=1, eos_token_id=2, decoder_start_token_id=2, forced_eos_token_id=None,
        )
    ),
}  # fmt: skip


@pytest.fixture(params=MODELS)
def model(request):
    return drawn(MODELS[request.param]())


def batch(model, side="right"):
    """Three texts of 9, 6 and 2 tokens, padded on one side."""
    torch.manual_seed(2)
    ids, mask = torch.randint(5, 60, (3, 9)), torch.ones(3, 9, dtype=torch.int64)
    for row, n in ((1, 6), (2, 2)):
        mask[row, n:] = 0
    mask = mask if side == "right" else mask.flip(1)
    inputs = {"input_ids": ids * mask, "attention_mask": mask}
    if model.config.is_encoder_decoder:
        inputs["decoder_input_ids"] = ids[:, :5]
    return inputs


def decoder(name):
    return "decoder" in name


@pytest.mark.parametrize("side", ["right", "left"])
def test_weights_are_eager_ones(model, side):
    inputs = batch(model, side)
    real = inputs["attention_mask"].bool()
    with torch.no_grad(), watch(model) as seen:
        model(**inputs)
    model.set_attn_implementation("eager")
    with torch.no_grad():
        outputs = model(**inputs, output_attentions=True, return_dict=True)
    kinds = {"encoder": outputs.get("encoder_attentions"), "own": outputs.get("decoder_attentions")}
    kinds |= {"cross": outputs.get("cross_attentions"), "all": outputs.get("attentions")}
    counts = dict.fromkeys(kinds, 0)
    for name in seen.names:
        cross = "EncDec" in name or "encoder_attn" in name
        kind = "cross" if cross else "own" if decoder(name) else "encoder" if kinds["encoder"] else "all"
        expected = kinds[kind][counts[kind]]
        counts[kind] += 1
        layer = seen.layer(name)
        for s in range(3):
            queries = torch.ones(5, dtype=torch.bool) if decoder(name) else real[s]
            keys = queries if kind == "own" else real[s]
            weights = layer.weights(s)
            torch.testing.assert_close(weights, expected[s][:, queries][:, :, keys], atol=2e-6, rtol=1e-4)
        places = torch.cat([torch.arange(int(n)) for n in layer.offsets.diff()])
        whole = torch.cat([layer.weights(s)[:, :, 0].T for s in range(3)])
        torch.testing.assert_close(layer.first, whole)
        assert len(places) == len(layer.entropy)
    assert seen.layers == sum(counts.values()) and all(
        kinds[kind] is None or len(kinds[kind]) == count for kind, count in counts.items()
    )


def test_outputs_are_those_of_the_unwatched_model_and_it_is_switched_back(model):
    inputs, before = batch(model), model.config._attn_implementation
    with torch.no_grad():
        plain = model(**inputs)[0]
        with watch(model):
            watched = model(**inputs)[0]
        assert model.config._attn_implementation == before != "sightline"
        assert torch.equal(model(**inputs)[0], plain)
        model.set_attn_implementation("sightline")
        assert torch.equal(model(**inputs)[0], watched)
        with watch(model):
            pass
    assert model.config._attn_implementation == "sightline"


def test_steps_of_generate_are_one_text(model):
    if not model.can_generate():
        return
    inputs = batch(model, "right" if model.config.is_encoder_decoder else "left")
    inputs.pop("decoder_input_ids", None)
    options = {"max_new_tokens": 7, "min_new_tokens": 7, "do_sample": False}
    with torch.no_grad(), watch(model, links=2, special=range(5, 60)) as steps:
        out = model.generate(**inputs, **options)
    model.set_attn_implementation("sightline")
    assert torch.equal(model.generate(**inputs, **options), out)
    if model.config.is_encoder_decoder:
        whole = {**inputs, "decoder_input_ids": out[:, :-1]}
    else:
        mask = torch.cat([inputs["attention_mask"], torch.ones(3, 6, dtype=torch.int64)], 1)
        whole = {"input_ids": out[:, :-1], "attention_mask": mask}
    with torch.no_grad(), watch(model, links=2, special=range(5, 60)) as once:
        model(**whole)
    assert steps.names == once.names and any(once.layer(name).special.any() for name in once.names)
    for name in once.names:
        a, b = steps.layer(name), once.layer(name)
        assert torch.equal(a.offsets, b.offsets) and torch.equal(a.key_offsets, b.key_offsets)
        for what in ("lse", "entropy", "distance", "received", "first", "special", "histogram"):
            torch.testing.assert_close(getattr(a, what), getattr(b, what), atol=5e-5, rtol=1e-4, msg=f"{name} {what}")
        for s in range(3):
            torch.testing.assert_close(a.weights(s), b.weights(s), atol=1e-5, rtol=1e-4)


def test_long_steps_are_put_together_as_statistics(monkeypatch):
    from sightline.observe import recording

    for make in ("llama", "mistral"):
        model = drawn(MODELS[make]())
        inputs = batch(model, "left")
        layers = []
        for kept in (recording.KEPT, 0):
            monkeypatch.setattr(recording, "KEPT", kept)
            with torch.no_grad(), watch(model, links=2) as seen:
                model.generate(**inputs, max_new_tokens=7, min_new_tokens=7, do_sample=False)
            layers.append(seen.layer(1))
        a, b = layers
        assert torch.equal(a.offsets, b.offsets) and torch.equal(a.key_offsets, b.key_offsets)
        for what in ("lse", "entropy", "distance", "received", "first", "histogram"):
            torch.testing.assert_close(getattr(a, what), getattr(b, what), atol=1e-5, rtol=1e-5, msg=what)
        torch.testing.assert_close(a.links.weights, b.links.weights)
        assert torch.equal(a.links.keys, b.links.keys)


def test_beams_go_on_with_one_another():
    model = drawn(MODELS["llama"]())
    passes = []
    with torch.no_grad(), watch(model) as seen:
        hook = model.register_forward_hook(
            lambda *arguments: passes.append([layer.keys.clone() for layer in arguments[-1].past_key_values.layers])
        )
        model.generate(**batch(model, "left"), max_new_tokens=7, min_new_tokens=7, num_beams=3, do_sample=False)
        hook.remove()
    reordered = [not torch.equal(a[0], b[0][:, :, :-1]) for a, b in zip(passes, passes[1:], strict=False)]
    assert any(reordered)  # else nothing is tried
    for i in range(2):
        layer = seen.layer(i)
        assert layer.offsets.diff().tolist() == [15] * 3 + [12] * 3 + [8] * 3
        for s in range(9):
            rows = slice(*layer.offsets[s : s + 2].tolist())
            expected = passes[-1][i][s].transpose(0, 1)[-(rows.stop - rows.start) :]
            assert torch.equal(layer.kept.k[rows], expected)
            torch.testing.assert_close(layer.weights(s).sum(-1), torch.ones(4, rows.stop - rows.start))


def test_run_and_unpad():
    model = drawn(MODELS["bert"]())
    texts = [[5, 6, 7], [8], list(range(5, 16))]
    with torch.no_grad(), watch(model) as alone:
        model(input_ids=torch.tensor([texts[2]]))
    with torch.no_grad(), watch(model) as seen:
        shf.run(model, texts)
    assert seen.layer(1).offsets.diff().sort().values.tolist() == [1, 3, 11]
    longest = int(seen.layer(1).offsets.diff().argmax())
    torch.testing.assert_close(seen.layer(1).weights(longest), alone.layer(1).weights(0), atol=1e-5, rtol=1e-4)
    assert model.config._attn_implementation != "sightline"
    shf.unpad(model)
    inputs = batch(model)
    with torch.no_grad(), watch(model) as seen:
        model(**inputs)
    assert seen.layer(0).offsets.tolist() == [0, 9, 15, 17] == seen.layer(0).key_offsets.tolist()


def test_a_layer_that_runs_twice_is_two():
    model = drawn(AlbertModel(AlbertConfig(**SMALL, embedding_size=16)))
    inputs = batch(model)
    with torch.no_grad(), watch(model) as seen:
        model(**inputs)
        model(**inputs)
    assert seen.layers == 2 and seen.names[1] == seen.names[0] + "#2"
    assert not torch.equal(seen.layer(0).entropy, seen.layer(1).entropy)


def test_two_threads_on_one_model():
    model = drawn(MODELS["bert"]())
    before, inputs = model.config._attn_implementation, batch(model)
    inside, go, watches = threading.Barrier(2), threading.Event(), {}

    def look(name):
        with torch.no_grad(), watch(model) as seen:
            inside.wait(20)
            if name == "late":
                go.wait(20)
            model(**{key: value[: 1 if name == "late" else 3] for key, value in inputs.items()})
        watches[name] = seen
        go.set()

    threads = [threading.Thread(target=look, args=(name,)) for name in ("early", "late")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(watches["early"].layer(1).offsets) == 4 and len(watches["late"].layer(1).offsets) == 2
    assert model.config._attn_implementation == before


def test_an_exception_inside_undoes_it():
    model = drawn(MODELS["llama"]())
    before = model.config._attn_implementation
    with pytest.raises(KeyError, match="inside"), watch(model, layers=[99]):
        raise KeyError("inside")
    assert model.config._attn_implementation == before
    with pytest.raises(ValueError, match=r"watch: expected heads from 0 to 3, got \[4\]"), watch(model, heads=[4]):
        model(**batch(model))
    assert model.config._attn_implementation == before


def test_a_model_that_does_not_route_is_refused():
    model = DebertaV2Model(DebertaV2Config(**SMALL))
    before = model.config._attn_implementation
    with (
        pytest.raises(ValueError, match="DebertaV2Model computes its own; sightline.observe.influence shows"),
        watch(model),
    ):
        pass
    assert model.config._attn_implementation == before


def test_special_tokens_that_cannot_be_known():
    model = drawn(MODELS["bert"]())
    with torch.no_grad(), watch(model, special=[5]) as seen:
        model(inputs_embeds=torch.randn(1, 4, 32))
    with pytest.raises(ValueError, match="expected a model that is called with token ids, got none for these 4 keys"):
        _ = seen.layer(0).special
    with torch.no_grad(), watch(model, special=torch.ones(3, dtype=torch.bool)) as seen:
        model(input_ids=torch.tensor([[5, 6, 7, 8]]))
    with pytest.raises(ValueError, match=r"expected special as bool \[4\], one for each key, got torch.bool \[3\]"):
        _ = seen.layer(0).special
