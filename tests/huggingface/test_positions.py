"""Positions mean packing only where they can mean nothing else; every other call gives eager attention's values."""

import pytest
import torch
from transformers import MistralConfig, MistralModel, Qwen3Config, Qwen3Model

from sightline.huggingface import unpad
from sightline.huggingface.attention_function import NAME
from sightline.observe import watch
from tests.huggingface.small import SMALL, bert, drawn, gpt2, llama, roberta

ORDERS = {
    "constant": [0] * 9,
    "reversed": list(range(8, -1, -1)),
    "permuted": [3, 0, 5, 1, 8, 2, 7, 4, 6],
    "gapped": [0, 1, 2, 5, 6, 7, 9, 10, 11],
    "begun elsewhere": [5, 6, 7, 0, 1, 2, 3, 0, 1],
    "packed": [0, 1, 2, 3, 0, 1, 2, 3, 4],
}
IDS = torch.randint(5, 100, (2, 9), generator=torch.Generator().manual_seed(0))
ONES = torch.ones(2, 9, dtype=torch.int64)


def mistral():
    return drawn(MistralModel(MistralConfig(**SMALL, num_key_value_heads=2, sliding_window=3)))


def qwen3():
    return drawn(Qwen3Model(Qwen3Config(**SMALL, num_key_value_heads=2, head_dim=8)))


MODELS = [bert, llama, gpt2, mistral]
each_model = pytest.mark.parametrize("make", MODELS, ids=lambda make: make.__name__)


def result_and_expected(make, **inputs):
    model, out = make().base_model, []
    for implementation in (NAME, "eager"):
        model.set_attn_implementation(implementation)
        with torch.no_grad():
            out.append(model(input_ids=IDS, **inputs).last_hidden_state)
    return out


def close(result, expected):
    torch.testing.assert_close(result, expected, rtol=0, atol=1e-5 * float(expected.abs().max()))


@each_model
@pytest.mark.parametrize("order", ORDERS)
def test_with_a_mask_positions_are_positions_and_nothing_else(make, order):
    positions = torch.tensor([ORDERS[order]])
    for row in (positions, torch.cat([positions, torch.arange(9)[None]])):
        close(*result_and_expected(make, attention_mask=ONES, position_ids=row))


@each_model
def test_what_pads_a_neighbour_does_not_change_a_row(make):
    model = make().base_model
    model.set_attn_implementation(NAME)
    mask = ONES.clone()
    mask[1, 6:] = 0
    inputs = {"input_ids": IDS, "position_ids": torch.tensor([ORDERS["packed"]])}
    with torch.no_grad():
        whole, padded = (model(**inputs, attention_mask=m).last_hidden_state[0] for m in (ONES, mask))
    close(padded, whole)


@each_model
@pytest.mark.parametrize("order", ["reversed", "permuted", "gapped", "begun elsewhere"])
def test_positions_that_break_off_otherwise_are_what_eager_takes_them_for(make, order):
    """Without a mask or a cache, eager attention of a decoder parts a row at every break; else it parts none."""
    positions = torch.tensor([ORDERS[order], list(range(9))])
    for options in ({}, {"use_cache": False}) if make is not bert else ({},):
        close(*result_and_expected(make, position_ids=positions, **options))


@pytest.mark.parametrize("make", [bert, llama, gpt2, roberta, qwen3], ids=lambda make: make.__name__)
def test_inference_mode_gives_the_same(make):
    model, first = make(), 2 if make is roberta else 0
    model.set_attn_implementation(NAME)
    mask, offsets = ONES.clone(), torch.tensor([0, 4, 9])
    mask[1, 6:] = 0
    packed = {"input_ids": IDS[:1], "position_ids": first + torch.tensor([ORDERS["packed"]])}
    calls = [{"input_ids": IDS, "attention_mask": mask}, packed]
    calls.append({**packed, "cu_seq_lens_q": offsets, "cu_seq_lens_k": offsets})
    for unpadded in (False, True):
        model = unpad(model) if unpadded else model
        for call in calls:
            with torch.no_grad():
                expected = model(**call)[0]
            with torch.inference_mode():
                clones = {name: t.clone() for name, t in call.items()}  # tensors of inference mode
                with watch(model) as seen:
                    result = model(**clones)[0]
                assert torch.equal(result, expected) and torch.equal(model(**clones)[0], expected)
                assert seen.layer(1).entropy.isfinite().all()


def test_positions_changed_within_inference_mode_are_read_again():
    model = bert()
    model.set_attn_implementation(NAME)
    with torch.inference_mode():
        positions = torch.tensor([ORDERS["packed"]])
        model(input_ids=IDS[:1], position_ids=positions)
        positions.copy_(torch.arange(9))
        result = model(input_ids=IDS[:1], position_ids=positions).last_hidden_state
        assert torch.equal(result, model(input_ids=IDS[:1]).last_hidden_state)


def test_generate_within_inference_mode():
    model = llama()
    model.set_attn_implementation(NAME)
    inputs = {"attention_mask": ONES, "max_new_tokens": 4, "do_sample": False}
    expected = model.generate(IDS, **inputs)
    with torch.inference_mode():
        assert torch.equal(model.generate(IDS, **inputs), expected)
