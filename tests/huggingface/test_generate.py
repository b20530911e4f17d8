"""Generation chooses the tokens that eager attention chooses: with every cache, without, padded, and with beams."""

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    BartConfig,
    Gemma2Config,
    GPT2Config,
    GptOssConfig,
    LlamaConfig,
    MistralConfig,
    T5Config,
    set_seed,
)

import sightline.huggingface  # noqa: F401 (registers the attention)
from sightline.attention import watching

NEW, LENGTHS = 11, (7, 1, 13, 5)
SIZE = {
    "vocab_size": 97,
    "initializer_range": 0.4,
    "tie_word_embeddings": False,  # else a random model repeats its last token
    "bos_token_id": 1,
    "eos_token_id": None,
    "pad_token_id": 0,
}
DECODER = {
    **SIZE,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,  # grouped
    "max_position_embeddings": 64,
}
WINDOW = 6  # shorter than prompt and continuation
DECODERS = {
    "llama": lambda: LlamaConfig(**DECODER),
    "gpt2": lambda: GPT2Config(**SIZE, n_embd=32, n_layer=2, n_head=4, n_positions=64),
    "mistral, window": lambda: MistralConfig(**DECODER, sliding_window=WINDOW),
    "gemma2, soft caps and windows": lambda: Gemma2Config(
        **DECODER,
        head_dim=8,
        sliding_window=WINDOW,
        attn_logit_softcapping=2.0,
        final_logit_softcapping=None,
        layer_types=["sliding_attention", "full_attention"],
    ),
    "gpt_oss, sinks and windows": lambda: GptOssConfig(
        **DECODER,
        head_dim=8,
        sliding_window=WINDOW,
        num_local_experts=2,
        num_experts_per_tok=1,
        layer_types=["sliding_attention", "full_attention"],
    ),
}
BOTH = {
    "t5": lambda: T5Config(
        vocab_size=97,
        d_model=32,
        d_kv=8,
        d_ff=48,
        num_layers=2,
        num_heads=4,
        eos_token_id=None,
        pad_token_id=0,
        decoder_start_token_id=0,
    ),
    "bart": lambda: BartConfig(
        vocab_size=97,
        init_std=0.4,
        d_model=32,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=48,
        decoder_ffn_dim=48,
        max_position_embeddings=64,
        bos_token_id=1,
        eos_token_id=None,
        pad_token_id=0,
        decoder_start_token_id=1,
        forced_eos_token_id=None,
    ),
}
SEARCHES = {
    "growing cache": {},
    "fixed cache": {"cache_implementation": "static"},
    "no cache": {"use_cache": False},
    "beams": {"num_beams": 3},
}


def drawn(config):
    set_seed(0)
    auto = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
    return auto.from_config(config, attn_implementation="eager").eval()


def prompt(lengths, left: bool):
    """Random prompts [S, L], padded to the left or to the right, with their mask."""
    random = torch.Generator().manual_seed(1)
    longest = max(lengths)
    place = torch.arange(longest)
    real = torch.stack([place >= longest - n if left else place < n for n in lengths])
    ids = torch.randint(2, 97, real.shape, generator=random) * real
    return {"input_ids": ids, "attention_mask": real.long()}


def compare(model, inputs, **options):
    """Greedy tokens, and the logits they were chosen by, under both implementations."""
    options = {
        "max_new_tokens": NEW,
        "do_sample": False,
        "output_logits": True,
        "return_dict_in_generate": True,
        **options,
    }
    model.set_attn_implementation("eager")
    expected = model.generate(**inputs, **options)
    model.set_attn_implementation("sightline")
    calls = []
    with watching(lambda *_: calls.append(1)):
        outputs = model.generate(**inputs, **options)
    assert calls
    assert outputs.sequences.tolist() == expected.sequences.tolist()
    for step, (ours, theirs) in enumerate(zip(outputs.logits, expected.logits, strict=True)):
        error = (ours - theirs).abs().max() / theirs.abs().max()
        assert error <= 1e-5, f"step {step}: {error:.1e}"
    return expected


@pytest.mark.parametrize("search", SEARCHES)
@pytest.mark.parametrize("family", DECODERS)
def test_decoder_chooses_eagers_tokens(family, search):
    expected = compare(drawn(DECODERS[family]()), prompt(LENGTHS, left=True), **SEARCHES[search])
    new = expected.sequences[:, max(LENGTHS) :]
    assert new.shape[1] == NEW and len(new.unique()) > NEW  # a model that repeats itself would prove little


@pytest.mark.parametrize("search", SEARCHES)
@pytest.mark.parametrize("family", BOTH)
def test_encoder_decoder_chooses_eagers_tokens(family, search):
    # Tied to its embeddings, such a model would say one token again and again.
    options = {**SEARCHES[search], "no_repeat_ngram_size": 1}
    expected = compare(drawn(BOTH[family]()), prompt(LENGTHS, left=False), **options)
    assert len(expected.sequences.unique(dim=0)) == len(LENGTHS)  # what is said depends on the text


@pytest.mark.parametrize("length", [1, 2, 17, 31])
@pytest.mark.parametrize("family", DECODERS)
def test_one_prompt_of_any_length(family, length):
    compare(drawn(DECODERS[family]()), {"input_ids": prompt((length,), left=True)["input_ids"]})


@pytest.mark.parametrize("family", ["mistral, window", "gemma2, soft caps and windows", "gpt_oss, sinks and windows"])
def test_windows_are_shorter_than_the_texts(family):
    """Else the comparisons above would not see a window that is ignored."""
    config = DECODERS[family]()
    model = drawn(config)
    inputs = prompt(LENGTHS, left=True)
    model.set_attn_implementation("sightline")
    with torch.no_grad():
        narrow = model(**inputs).logits[:, -1]
        model.config.sliding_window = 64
        for module in model.modules():
            if getattr(module, "sliding_window", None) is not None:
                module.sliding_window = 64
        wide = model(**inputs).logits[:, -1]
    assert (narrow - wide)[0].abs().max() > 1e-2  # length 7
    assert (narrow - wide)[1].abs().max() < 1e-5  # length 1


def test_a_prompt_goes_on_from_its_cache():
    """A chat: the first answer's cache serves the second question, which comes as several tokens at once."""
    model = drawn(DECODERS["gpt_oss, sinks and windows"]())
    outputs = {}
    for name in ("eager", "sightline"):
        model.set_attn_implementation(name)
        inputs = prompt((9,), left=True)["input_ids"]
        first = model.generate(inputs, max_new_tokens=5, do_sample=False, return_dict_in_generate=True)
        question = torch.cat([first.sequences, inputs[:, :4]], 1)
        second = model.generate(question, past_key_values=first.past_key_values, max_new_tokens=5, do_sample=False)
        outputs[name] = second.tolist()
    assert outputs["sightline"] == outputs["eager"]


def test_one_prompt_is_not_changed_by_others_beside_it():
    model = drawn(DECODERS["llama"]())
    model.set_attn_implementation("sightline")
    inputs = prompt(LENGTHS, left=True)
    together = model.generate(**inputs, max_new_tokens=NEW, do_sample=False)[:, max(LENGTHS) :]
    for ids, mask, expected in zip(inputs["input_ids"], inputs["attention_mask"], together, strict=True):
        alone = ids[mask.bool()][None]
        outputs = model.generate(alone, max_new_tokens=NEW, do_sample=False)[:, alone.shape[1] :]
        assert outputs[0].tolist() == expected.tolist()
