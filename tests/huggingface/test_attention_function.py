"""The attention and mask registered with transformers: masks, padded and packed input exact, the rest refused."""

import pytest
import torch
from torch import nn
from transformers import (
    BartConfig,
    BartModel,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaModel,
    MistralConfig,
    MistralModel,
    ModernBertConfig,
    ModernBertModel,
    masking_utils,
)
from transformers.cache_utils import StaticCache

from sightline.attention import Pattern, watching
from sightline.huggingface.attention_function import NAME, StandIn, attend, mask
from sightline.huggingface.mask_rules import MaskRule, mask_rule
from sightline.huggingface.row_layout import Grid, Packing, packed, padded
from tests.huggingface import small
from tests.huggingface.small import SMALL, bert, drawn

LENGTHS = torch.tensor([5, 13, 1, 17, 0])


def llama(**settings):
    return drawn(LlamaModel(LlamaConfig(**SMALL, num_key_value_heads=2, **settings)))


def mistral():
    return drawn(MistralModel(MistralConfig(**SMALL, num_key_value_heads=2, sliding_window=4)))


def modernbert():
    ids = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "cls_token_id": 1, "sep_token_id": 2}
    return drawn(ModernBertModel(ModernBertConfig(**SMALL, **ids, local_attention=4, global_attn_every_n_layers=2)))


def t5():
    return small.t5().get_encoder()


MODELS = {"bert": bert, "llama": llama, "mistral": mistral, "modernbert": modernbert, "t5": t5}
each_model = pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)


def tokens(batch: int, length: int) -> torch.Tensor:
    return torch.randint(5, 100, (batch, length), generator=torch.Generator().manual_seed(2))


def under(model, implementation, **arguments):
    model.set_attn_implementation(implementation)
    return model(**arguments)


def close(result, expected):
    """Equal to five digits of the largest value."""
    torch.testing.assert_close(result, expected, rtol=0, atol=1e-5 * float(expected.detach().abs().max()))


# --- padded ---------------------------------------------------------------------------------------------------------


@each_model
@pytest.mark.parametrize("side", ["right", "left"])
def test_padded_input_gives_eagers_values_on_every_real_token(make, side):
    model, ids = make(), tokens(5, 17)
    real = torch.arange(17) < LENGTHS[:, None]
    real = real.flip(1) if side == "left" else real
    inputs = {"input_ids": ids, "attention_mask": real.long()}
    expected = under(model, "eager", **inputs).last_hidden_state
    result = under(model, NAME, **inputs).last_hidden_state
    assert result.isfinite().all()
    close(result[real], expected[real])


@each_model
def test_what_stands_in_the_padding_changes_nothing(make):
    model, ids = make(), tokens(5, 17)
    real = torch.arange(17) < LENGTHS[:, None]
    first = under(model, NAME, input_ids=ids, attention_mask=real.long()).last_hidden_state
    other = torch.where(real, ids, 3)
    second = under(model, NAME, input_ids=other, attention_mask=real.long()).last_hidden_state
    assert torch.equal(first[real], second[real])


@pytest.mark.parametrize("make", [bert, llama, mistral, modernbert, t5])
def test_a_mask_with_holes_is_handled(make):
    model, ids = make(), tokens(3, 11)
    real = torch.rand(3, 11, generator=torch.Generator().manual_seed(3)) < 0.6
    inputs = {"input_ids": ids, "attention_mask": real.long()}
    close(under(model, NAME, **inputs).last_hidden_state[real], under(model, "eager", **inputs).last_hidden_state[real])


@each_model
def test_gradients_are_eagers(make):
    model, ids = make(), tokens(4, 13)
    real = torch.arange(13) < torch.tensor([13, 2, 7, 1])[:, None]
    grads = []
    for implementation in ("eager", NAME):
        out = under(model, implementation, input_ids=ids, attention_mask=real.long()).last_hidden_state[real]
        weights = torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view_as(out)
        parameters = list(model.parameters())
        grads.append(torch.autograd.grad((out * weights).sum(), parameters, allow_unused=True))
    result, expected = (torch.cat([g.flatten() for g in of if g is not None]) for of in reversed(grads))
    close(result, expected)


@pytest.mark.parametrize("form", ["boolean", "additive", "by head"])
@pytest.mark.parametrize("make", [bert, llama])
def test_a_mask_of_the_users_own_making_is_computed_as_it_says(make, form):
    model, ids = make(), tokens(2, 9)
    seen = torch.rand(2, 1, 9, 9, generator=torch.Generator().manual_seed(4)) < 0.5
    seen |= torch.eye(9, dtype=torch.bool)
    own = torch.zeros(seen.shape).masked_fill(~seen, torch.finfo(torch.float32).min)
    expected = under(model, "eager", input_ids=ids, attention_mask=own).last_hidden_state
    own = {"boolean": seen, "additive": own, "by head": own.expand(2, 4, 9, 9)}[form]
    close(under(model, NAME, input_ids=ids, attention_mask=own).last_hidden_state, expected)


def test_a_mask_function_of_the_users_own_making_is_evaluated():
    def prefix(batch, head, q, k):
        return k < 3

    function = masking_utils.or_masks(masking_utils.causal_mask_function, prefix)
    assert mask_rule(function) is None
    stand_in = mask(2, 7, 7, mask_function=function, dtype=torch.float64)
    q, k, v = torch.randn(3, 2, 4, 7, 8, dtype=torch.float64)
    result, _ = attend(nn.Module(), q, k, v, stand_in)
    seen = torch.ones(7, 7).tril().bool() | (torch.arange(7) < 3)
    expected = nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=seen).transpose(1, 2)
    close(result, expected)


def test_cross_attention_keeps_every_query_whatever_the_lengths_and_masks():
    config = BartConfig(
        vocab_size=100, d_model=32, encoder_layers=1, decoder_layers=2, encoder_attention_heads=4,
        decoder_attention_heads=4, encoder_ffn_dim=48, decoder_ffn_dim=48, max_position_embeddings=64,
    )  # fmt: skip
    model = drawn(BartModel(config))
    inputs = {"input_ids": tokens(3, 9), "decoder_input_ids": tokens(3, 9).flip(0)}  # as many queries as keys
    inputs["attention_mask"] = (torch.arange(9) < torch.tensor([[2], [9], [1]])).long()
    close(under(model, NAME, **inputs).last_hidden_state, under(model, "eager", **inputs).last_hidden_state)


# --- packed ---------------------------------------------------------------------------------------------------------


def packed_form(lengths: list[int]) -> dict:
    offsets = torch.tensor([0, *lengths]).cumsum(0).int()
    positions = torch.cat([torch.arange(n) for n in lengths])[None]
    longest = max(lengths)
    return {
        "input_ids": tokens(1, sum(lengths)),
        "position_ids": positions,
        "cu_seq_lens_q": offsets,
        "cu_seq_lens_k": offsets,
        "max_length_q": longest,
        "max_length_k": longest,
    }


@pytest.mark.parametrize("form", ["offsets and positions", "positions"])
@pytest.mark.parametrize("make", [bert, llama, mistral])
def test_packed_input_gives_each_sequence_what_it_gets_alone(make, form):
    model, lengths = make(), [5, 1, 13, 2]
    inputs = packed_form(lengths)
    if form != "offsets and positions":
        inputs = {name: inputs[name] for name in ("input_ids", "position_ids")}
    result = under(model, NAME, **inputs).last_hidden_state[0]
    alone = [under(model, "eager", input_ids=one[None]) for one in inputs["input_ids"][0].split(lengths)]
    close(result, torch.cat([outputs.last_hidden_state[0] for outputs in alone]))


def test_a_neighbour_in_the_pack_is_never_seen():
    model, inputs = modernbert(), packed_form([5, 4, 8])
    first = under(model, NAME, **inputs).last_hidden_state[0]
    inputs["input_ids"] = inputs["input_ids"].clone()
    inputs["input_ids"][0, 5:9] = 3
    second = under(model, NAME, **inputs).last_hidden_state[0]
    assert torch.equal(first[:5], second[:5]) and torch.equal(first[9:], second[9:])
    assert not torch.equal(first[5:9], second[5:9])


def test_packed_input_that_the_model_would_not_pass_on_is_refused():
    inputs = packed_form([5, 7])
    alone = {name: inputs[name] for name in ("input_ids", "position_ids")}  # ModernBERT passes only the offsets on
    with pytest.raises(ValueError, match="expected ModernBertModel to pass packed input on.*huggingface.run"):
        under(modernbert(), NAME, **alone)


@pytest.mark.parametrize("form", ["offsets and positions", "positions"])
def test_a_model_that_counts_over_the_whole_row_is_refused_packed_input(form):
    inputs = packed_form([5, 7])
    inputs = inputs if form != "positions" else {name: inputs[name] for name in ("input_ids", "position_ids")}
    with pytest.raises(ValueError, match="BartEncoder: expected padded input, got packed; it looks or counts across"):
        under(small.bart().get_encoder(), NAME, **inputs)


def test_packed_positions_that_begin_elsewhere_than_the_models_are_refused():
    inputs, model = packed_form([5, 7]), small.roberta()
    with pytest.raises(ValueError, match="positions that begin at 2, as it counts them, got 0; add 2"):
        under(model, NAME, **inputs)
    inputs["position_ids"] = inputs["position_ids"] + 2
    result = under(model, NAME, **inputs).last_hidden_state[0, 5:]
    close(result, under(model, "eager", input_ids=inputs["input_ids"][:, 5:]).last_hidden_state[0])


def test_packed_input_with_padding_is_refused():
    inputs = packed_form([5, 7])
    inputs["attention_mask"] = (torch.arange(12) < 11).long()[None]
    with pytest.raises(ValueError, match="packed input without a padding mask, got both; leave attention_mask out"):
        under(llama(), NAME, **inputs)


def test_packed_input_of_another_size_is_refused():
    inputs = packed_form([5, 7])
    inputs["cu_seq_lens_q"] = inputs["cu_seq_lens_k"] = torch.tensor([0, 5, 11])
    with pytest.raises(ValueError, match="a packed batch of 11 queries and 11 keys, got 12 and 12"):
        under(llama(), NAME, **inputs)


def test_offsets_changed_in_place_are_read_again():
    model, inputs = llama(), packed_form([5, 7])
    under(model, NAME, **inputs)
    inputs["cu_seq_lens_q"][1] = 4
    inputs["position_ids"] = torch.cat([torch.arange(4), torch.arange(8)])[None]
    result = under(model, NAME, **inputs).last_hidden_state[0, 4:]
    close(result, under(model, "eager", input_ids=inputs["input_ids"][:, 4:]).last_hidden_state[0])


# --- caches ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [llama, mistral])
@pytest.mark.parametrize("fixed", [False, True], ids=["growing", "fixed"])
def test_a_cache_filled_in_pieces_gives_what_the_whole_text_gets(make, fixed):
    model, ids = make(), tokens(2, 12)
    real = torch.ones(2, 12).long()
    real[1, :3] = 0  # padded on the left
    whole = under(model, "eager", input_ids=ids, attention_mask=real, use_cache=False).last_hidden_state
    model.set_attn_implementation(NAME)
    cache, results = StaticCache(model.config, max_cache_len=20) if fixed else None, []
    for start, stop in ((0, 7), (7, 8), (8, 12)):
        inputs = {"input_ids": ids[:, start:stop], "attention_mask": real[:, :stop], "past_key_values": cache}
        outputs = model(**inputs, use_cache=True)
        cache = outputs.past_key_values
        results.append(outputs.last_hidden_state)
    close(torch.cat(results, 1)[real.bool()], whole[real.bool()])


# --- what is refused ------------------------------------------------------------------------------------------------


def test_weights_are_not_made_and_that_is_said():
    with pytest.raises(ValueError, match="output_attentions=False, since no weights are computed here; look with"):
        under(bert(), NAME, input_ids=tokens(1, 5), output_attentions=True)


@pytest.mark.parametrize("name", ["cache", "head_mask", "indices", "block_indices", "block_table"])
def test_an_argument_that_would_change_the_result_is_refused(name):
    q = torch.randn(1, 2, 3, 4)
    with pytest.raises(ValueError, match=f"got '{name}', which is not computed here"):
        attend(nn.Module(), q, q, q, None, **{name: torch.zeros(1)})


@pytest.mark.parametrize(
    "use", [lambda m: m + 1, lambda m: m[:, :, :, :4], lambda m: torch.where(m > 0, 1, 0), lambda m: m.sum()]
)
def test_a_model_that_computes_with_its_mask_is_refused(use):
    stand_in = mask(1, 5, 5, mask_function=masking_utils.causal_mask_function)
    with pytest.raises(ValueError, match="pass its mask on unchanged, but it computes with it"):
        use(stand_in)


def test_a_mask_may_be_handed_on():
    stand_in = mask(1, 5, 5, mask_function=masking_utils.causal_mask_function)
    for same in (stand_in[:, :, :, :5], stand_in.to(torch.float64), stand_in.contiguous(), stand_in.expand(1, 1, 5, 5)):
        assert same.plan is stand_in.plan
    assert stand_in.shape == (1, 1, 5, 5) and stand_in.dim() == 4 and stand_in.dtype == torch.float32


def test_other_sizes_than_the_mask_was_made_for_are_refused():
    stand_in = mask(1, 5, 5, mask_function=masking_utils.causal_mask_function)
    q = torch.randn(1, 2, 4, 4)
    with pytest.raises(ValueError, match="5 queries and 5 keys, as the mask was made for, got 4 and 4"):
        attend(nn.Module(), q, q, q, stand_in)


def test_masks_of_other_shapes_are_refused():
    q = torch.randn(1, 2, 4, 4)
    with pytest.raises(ValueError, match=r"a mask \[B, L\] or \[B, 1 or H, 4, 4\], got \[1, 4, 4\]"):
        attend(nn.Module(), q, q, q, torch.zeros(1, 4, 4))


def test_a_window_without_a_mask_is_causal_or_refused():
    q, k, v = torch.randn(3, 1, 2, 9, 4, dtype=torch.float64)
    result, _ = attend(nn.Module(), q, k, v, None, is_causal=True, sliding_window=3)
    place = torch.arange(9)
    seen = (place <= place[:, None]) & (place > place[:, None] - 3)
    close(result, nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=seen).transpose(1, 2))
    with pytest.raises(ValueError, match="a mask for a window of 3 keys, got none"):
        attend(nn.Module(), q, k, v, None, is_causal=False, sliding_window=3)


def test_keys_in_an_unknown_order_are_refused():
    with pytest.raises(ValueError, match="the 4 queries among the 5 keys, got them from key 3 on"):
        padded(MaskRule(Pattern(right=0)), Grid(1, 4, 5, first_query=3), torch.tensor([[1, 1, 1, 1, 0]]), "cpu")


def test_chunks_of_cross_attention_are_refused():
    packing = Packing(torch.tensor([0, 2, 4]), torch.tensor([0, 1, 4]))
    with pytest.raises(ValueError, match="the same offsets for queries and keys in chunks of 2"):
        packed(packing, Grid(1, 4, 4), MaskRule(Pattern(right=0), chunk=2))


# --- what it costs --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("left", [0, 3])
def test_chunks_begin_after_the_padding(left):
    length, size = 11, 4
    real = (torch.arange(length) >= left)[None]
    function = masking_utils.chunked_causal_mask_function(size, torch.tensor([left]))
    q, k, v = torch.randn(3, 1, 2, length, 8, dtype=torch.float64)
    result, _ = attend(nn.Module(), q, k, v, mask(1, length, length, mask_function=function, attention_mask=real))
    seen = masking_utils.sdpa_mask(
        1, length, length, mask_function=function, attention_mask=real, allow_is_causal_skip=False
    )
    expected = nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=seen).transpose(1, 2)
    close(result[real], expected[real])


def test_the_stand_in_takes_no_memory():
    stand_in = mask(4, 10_000, 10_000, mask_function=masking_utils.causal_mask_function)
    assert isinstance(stand_in, StandIn) and stand_in.shape == (4, 1, 10_000, 10_000)
    assert stand_in.untyped_storage().nbytes() == 4


def test_the_indices_are_made_once_for_all_layers(monkeypatch):
    from sightline.huggingface import attention_function as attending

    calls = []
    monkeypatch.setattr(attending, "padded", lambda *arguments: calls.append(1) or padded(*arguments))
    model = llama()
    with watching(lambda *_: calls.append("layer")):
        under(model, NAME, input_ids=tokens(2, 7), attention_mask=torch.tensor([[1] * 7, [0] * 3 + [1] * 4]))
    assert calls == [1, "layer", "layer"]


def test_dropout_drops_in_training_and_not_else():
    model = bert(attention_probs_dropout_prob=0.5, hidden_dropout_prob=0.0)
    ids = tokens(2, 9)
    assert torch.equal(*(under(model, NAME, input_ids=ids).last_hidden_state for _ in range(2)))
    model.train()
    torch.manual_seed(0)
    first, second = (under(model, NAME, input_ids=ids).last_hidden_state for _ in range(2))
    assert not torch.equal(first, second)


def test_autocast_runs_in_the_lower_precision():
    model = drawn(LlamaForCausalLM(LlamaConfig(**SMALL, num_key_value_heads=2))).float()
    ids = tokens(2, 9)
    with torch.autocast("cpu", torch.bfloat16):
        expected = under(model, "sdpa", input_ids=ids).logits
        result = under(model, NAME, input_ids=ids).logits
    assert result.dtype == expected.dtype
    exact = under(model, "eager", input_ids=ids).logits
    assert (result - exact).abs().max() <= 2 * (expected - exact).abs().max() + 1e-3
