"""`run`, `unpad` and `check`: a model's values without padding, its rule of positions recognised, the rest refused."""

import copy

import pytest
import torch
from torch import nn
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    CLIPTextConfig,
    CLIPTextModel,
    DebertaV2Config,
    DebertaV2Model,
    MambaConfig,
    MambaModel,
    ViTConfig,
    ViTModel,
)

from sightline.attention import watching
from sightline.huggingface import run, unpad
from sightline.huggingface.base_model import base_of
from sightline.huggingface.packability import enable_packing
from sightline.sequences import Sequences
from tests.huggingface.small import PACKABILITY, SMALL, bart, bert, drawn, each_model, gpt2, llama, roberta, t5

LENGTHS = [5, 13, 1, 17, 0, 13]


def drawn_sequences() -> list[torch.Tensor]:
    dice = torch.Generator().manual_seed(2)
    return [torch.randint(5, 100, (n,), generator=dice) for n in LENGTHS]


def texts() -> list[torch.Tensor]:
    """The same without the empty one: a row without a token has values, too, and runs padded."""
    return [one for one in drawn_sequences() if len(one)]


def alone(model, sequences) -> list[torch.Tensor]:
    base = base_of(model)
    base.set_attn_implementation("eager")
    with torch.no_grad():
        return [base(input_ids=one[None]).last_hidden_state[0] if len(one) else None for one in sequences]


def padded(sequences) -> dict:
    ids, lengths = Sequences.from_list(sequences).to_padded(0)
    return {"input_ids": ids, "attention_mask": (torch.arange(ids.shape[1]) < lengths[:, None]).long()}


def rows_attended(call) -> int:
    """The most queries that one layer's attention worked on."""
    seen = []
    with watching(lambda request, _: seen.append(len(request.q))):
        call()
    return max(seen)


def close(result, expected):
    torch.testing.assert_close(result, expected, rtol=0, atol=1e-5 * float(expected.detach().abs().max()))


# --- run ------------------------------------------------------------------------------------------------------------


@each_model
def test_run_gives_each_sequence_what_it_gets_alone(make):
    model, sequences = make(), drawn_sequences()
    expected = alone(model, sequences)
    with torch.no_grad():
        result = run(model, sequences, tokens=20)
    assert enable_packing(base_of(model)) == PACKABILITY[make]
    assert result.lengths.tolist() == LENGTHS
    for s, values in enumerate(expected):
        if values is not None:
            close(result[s], values)


def test_run_takes_lists_tensors_and_sequences():
    model, sequences = bert(), drawn_sequences()
    with torch.no_grad():
        first = run(model, sequences)
        assert torch.equal(first.values, run(model, [one.tolist() for one in sequences]).values)
        assert torch.equal(first.values, run(model, Sequences.from_list(sequences)).values)


def test_run_without_sequences_and_without_tokens():
    model = bert()
    for nothing in ([], [[]], [[], []]):
        result = run(model, nothing)
        assert len(result) == len(nothing) and result.values.shape == (0, 32)


def test_run_does_the_work_of_real_tokens_only():
    model, sequences = bert(), drawn_sequences()
    enable_packing(model)
    assert rows_attended(lambda: run(model, sequences)) == sum(LENGTHS)


def test_a_gradient_flows_through_run():
    model, sequences = bert(), [one for one in drawn_sequences() if len(one)]
    run(model, sequences).values.square().sum().backward()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    model.zero_grad()
    model.set_attn_implementation("eager")
    sum(model(input_ids=one[None]).last_hidden_state.square().sum() for one in sequences).backward()
    expected = [p.grad for p in model.parameters() if p.grad is not None]
    close(torch.cat([g.flatten() for g in gradients]), torch.cat([g.flatten() for g in expected]))


def test_finding_the_way_leaves_every_layer_in_its_mode():
    model = bert()
    model.train()
    model.encoder.layer[0].eval()
    modes = [part.training for part in model.modules()]
    enable_packing(model)
    assert [part.training for part in model.modules()] == modes


def test_roberta_counts_no_padding_token_inside_a_text():
    model, sequences = roberta(), [torch.tensor([7, 1, 8, 9]), torch.tensor([1, 5])]
    expected = alone(model, sequences)
    with torch.no_grad():
        result = run(model, sequences)
    for s, values in enumerate(expected):
        close(result[s], values)


@pytest.mark.parametrize(("make", "most"), [(bert, 40), (roberta, 38), (gpt2, 40)], ids=["bert", "roberta", "gpt2"])
def test_a_sequence_longer_than_the_positions_is_refused(make, most):
    model = make()
    run(model, [[5] * most])
    with pytest.raises(
        ValueError, match=f"at most {most} tokens, as many as it has positions for, got {most + 1} in sequence 1"
    ):
        run(model, [[5, 6], [5] * (most + 1)])


def test_a_model_that_does_not_route_is_named_and_keeps_its_attention():
    model = drawn(DebertaV2Model(DebertaV2Config(**SMALL)))
    before = model.config._attn_implementation
    for use in (lambda: run(model, [[5, 6]]), lambda: unpad(model)):
        with pytest.raises(
            ValueError, match="DebertaV2Model: .*computes its own; it cannot run without padding: use it as it is"
        ):
            use()
    assert model.config._attn_implementation == before


def test_a_model_that_looks_across_a_pack_by_other_means_runs_in_equal_lengths_or_not_at_all():
    model = drawn(MambaModel(MambaConfig(vocab_size=100, hidden_size=32, num_hidden_layers=1, state_size=4)))
    with pytest.raises(ValueError, match="MambaModel: "):
        run(model, [[5, 6], [7, 8, 9]])


def test_a_model_of_something_else_than_text_is_refused():
    config = ViTConfig(hidden_size=32, num_hidden_layers=1, num_attention_heads=4, intermediate_size=48)
    model = ViTModel(config).eval()
    for use in (lambda: run(model, [[5, 6]]), lambda: unpad(model)):
        with pytest.raises(ValueError, match="ViTModel: expected a model that runs on token ids alone, got"):
            use()


@pytest.mark.parametrize("wrong", [[[1.5, 2]], [[[1, 2]]], [["a"]], [1, 2], Sequences(torch.randn(2), [0, 2])])
def test_what_are_no_ids_are_refused(wrong):
    with pytest.raises(TypeError, match=r"run: expected token ids, .* for each sequence, got .*; tokenize"):
        run(bert(), wrong)


@pytest.mark.parametrize("beyond", [-1, 100])
def test_ids_that_the_model_has_not_are_refused(beyond):
    with pytest.raises(ValueError, match="run: expected token ids from 0 to 99, got .* to .*; use the model's"):
        run(bert(), [[5, 6], [7, beyond]])


def test_damaged_weights_are_said():
    model = bert()
    model.encoder.layer[0].output.dense.bias.data[3] = torch.nan
    with pytest.raises(ValueError, match="expected finite hidden states, got NaN or infinity.*load them again"):
        run(model, [[5, 6]])


def test_what_is_no_model_is_refused():
    for use in (lambda: run(nn.Linear(2, 2), []), lambda: run("bert", [])):
        with pytest.raises(TypeError, match="run: expected a Hugging Face model, got "):
            use()
    for wrong in (nn.Linear(2, 2), "bert"):
        with pytest.raises(TypeError, match="unpad: expected a Hugging Face model or an object that holds one, got "):
            unpad(wrong)


# --- unpad ----------------------------------------------------------------------------------------------------------

PACKED = [make for make, answer in PACKABILITY.items() if answer.packed]
each_packed = pytest.mark.parametrize("make", PACKED, ids=lambda make: make.__name__)


@each_packed
def test_a_padded_call_runs_packed_and_comes_back_padded(make):
    model, sequences = make(), texts()
    base = base_of(model)
    inputs = padded(sequences)
    real = inputs["attention_mask"].bool()
    base.set_attn_implementation("eager")
    expected = base(**inputs, output_hidden_states=True)
    assert unpad(model) is model
    results = []
    assert rows_attended(lambda: results.append(base(**inputs, output_hidden_states=True))) == sum(LENGTHS)
    close(results[0].last_hidden_state[real], expected.last_hidden_state[real])
    assert (results[0].last_hidden_state[~real] == 0).all()
    assert len(results[0].hidden_states) == len(expected.hidden_states)
    for one, other in zip(results[0].hidden_states, expected.hidden_states, strict=True):
        close(one[real], other[real])


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16, torch.uint8, torch.bool])
def test_a_mask_of_any_kind_is_counted_exactly(kind):
    model = llama()  # whose positions have no end
    mask = (torch.arange(400) < torch.tensor([[400], [259]])).to(kind)
    mask = mask if kind == torch.bool else 2 * mask  # not zero is real, as transformers reads it
    inputs = {"input_ids": torch.randint(5, 100, (2, 400)), "attention_mask": mask}
    with torch.no_grad():
        expected = _eager(model, inputs)[mask != 0]
        unpad(model)
        results = []
        assert rows_attended(lambda: results.append(model(**inputs).logits[mask != 0])) == 659
    close(results[0], expected)


def test_the_pooled_output_and_the_head_on_top_are_the_padded_ones():
    model = drawn(BertForSequenceClassification(BertConfig(**SMALL, num_labels=3)))
    inputs = padded(texts())
    inputs["labels"] = torch.tensor([0, 1, 2, 0, 1])
    model.set_attn_implementation("eager")
    expected = model(**inputs)
    unpad(model)
    results = []
    assert rows_attended(lambda: results.append(model(**inputs))) == sum(LENGTHS)
    close(results[0].logits, expected.logits)
    close(results[0].loss, expected.loss)


def test_what_fits_only_the_padded_form_runs_padded():
    model = llama()
    inputs = padded(texts())
    model.set_attn_implementation("eager")
    expected = model(**inputs, use_cache=True)
    unpad(model)
    results = []
    assert rows_attended(lambda: results.append(model(**inputs, use_cache=True))) == inputs["attention_mask"].sum()
    real = inputs["attention_mask"].bool()
    close(results[0].logits[real], expected.logits[real])
    assert results[0].past_key_values.get_seq_length() == 17
    left = {name: value.flip(1) for name, value in inputs.items()}
    close(model(**left).logits[real.flip(1)], _eager(model, left)[real.flip(1)])
    assert isinstance(model(**inputs, return_dict=False), tuple)
    assert model(**inputs).past_key_values is None  # packed, as `unpad` says, unless a cache is asked for


def _eager(model, inputs):
    twin = copy.deepcopy(model)
    twin.set_attn_implementation("eager")
    return twin(**inputs).logits


def test_unpad_twice_is_once_and_can_be_undone_and_copied():
    model = unpad(unpad(bert()))
    inputs = padded(texts())
    twin = copy.deepcopy(model)
    for param in twin.parameters():
        param.data.mul_(2)
    assert not torch.equal(twin(**inputs).last_hidden_state, model(**inputs).last_hidden_state)
    assert rows_attended(lambda: twin(**inputs)) == sum(LENGTHS)
    model.set_attn_implementation("sdpa")
    with watching(lambda *_: pytest.fail("sightline was called")):
        out = model(**inputs).last_hidden_state
    assert (out[inputs["attention_mask"] == 0] != 0).any()


def test_a_call_that_fails_leaves_nothing_behind():
    model = unpad(bert())
    inputs = padded(texts())
    wrong = {**inputs, "input_ids": inputs["input_ids"] + 1000}
    with pytest.raises(IndexError):
        model(**wrong)
    whole = torch.randint(5, 100, (2, 9))
    model(input_ids=whole)  # would be taken for packed otherwise


def test_unpad_refuses_a_model_that_pools_on_its_way():
    config = CLIPTextConfig(**SMALL, bos_token_id=1, eos_token_id=2)
    with pytest.raises(
        ValueError, match="whose pooled output is made by its `pooler`, but CLIPTextModel takes it from"
    ):
        unpad(drawn(CLIPTextModel(config)))


def test_gradient_checkpointing_stays_right():
    model = unpad(bert(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0))
    inputs, grads = padded(texts()), []
    real = inputs["attention_mask"].bool()
    model.train()
    for again in (False, True):
        if again:
            enable = "activation_checkpointing_enable"  # as newer versions of transformers call it
            (getattr(model, enable, None) or model.gradient_checkpointing_enable)()
        model.zero_grad()
        model(**inputs).last_hidden_state[real].square().sum().backward()
        grads.append(torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]))
    close(grads[1], grads[0])


@pytest.mark.parametrize("make", [t5, bart])
def test_a_model_that_cannot_be_packed_is_refused_by_unpad_with_what_to_do(make):
    with pytest.raises(
        ValueError, match="unpad: expected a model that can be packed into one row, but .* use sightline"
    ):
        unpad(make())
