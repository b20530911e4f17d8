"""Models under `torch.compile`: the same values, and what is refused is refused there too."""

import pytest
import torch
from transformers import LlamaConfig, LlamaModel, ModernBertConfig, ModernBertModel

from sightline.attention import watching
from sightline.huggingface import run, unpad
from sightline.huggingface.row_layout import NAME
from tests.huggingface.small import SMALL, bert, drawn

OF_TRACING = "ignore:The .grad attribute:UserWarning", "ignore:Guards may run slower:RuntimeWarning"  # PyTorch's own
pytestmark = [pytest.mark.usefixtures("forgotten"), pytest.mark.filterwarnings(*OF_TRACING)]


def llama():
    return drawn(LlamaModel(LlamaConfig(**SMALL, num_key_value_heads=2)))


def padded(lengths) -> dict:
    mask = (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]).long()
    return {"input_ids": torch.randint(5, 100, mask.shape), "attention_mask": mask}


@torch.no_grad()
@pytest.mark.parametrize(("make", "use"), [(llama, "attention"), (bert, "unpad")])
def test_compiled_is_eager(make, use):
    model, beside = make(), make()
    beside.set_attn_implementation("eager")
    model.set_attn_implementation(NAME) if use == "attention" else unpad(model)
    compiled = torch.compile(model, backend="eager")
    for lengths in ([5, 13, 1, 17], [3, 4], [9, 2, 9, 1, 1]):
        arguments, rows = padded(lengths), []
        with watching(lambda request, _, rows=rows: rows.append(len(request.q))):
            actual = compiled(**arguments).last_hidden_state
        real = arguments["attention_mask"].bool()
        expected = beside(**arguments).last_hidden_state[real]
        torch.testing.assert_close(actual[real], expected, rtol=0, atol=1e-5 * float(expected.abs().max()))
        assert len(rows) == 2 and (use == "attention" or rows == [sum(lengths)] * 2)


def test_packed_input_that_would_be_dropped_on_the_way_is_refused():
    ids = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "cls_token_id": 1, "sep_token_id": 2}
    model = drawn(ModernBertModel(ModernBertConfig(**SMALL, **ids)))
    model.set_attn_implementation(NAME)
    compiled = torch.compile(model, backend="eager")
    arguments = {"input_ids": torch.randint(5, 100, (1, 12)), "position_ids": torch.arange(12)[None] % 5}
    with pytest.raises(ValueError, match="expected ModernBertModel to pass packed input on"):
        compiled(**arguments)


@torch.no_grad()
def test_packed_input_is_taken():
    model = llama()
    model.set_attn_implementation(NAME)
    compiled = torch.compile(model, backend="eager")
    for lengths in ([5, 7], [2, 9, 4]):
        arguments = torch.randint(5, 100, (1, sum(lengths)))
        positions = torch.cat([torch.arange(n) for n in lengths])[None]
        actual = compiled(input_ids=arguments, position_ids=positions).last_hidden_state[0].split(lengths)
        alone = [model(input_ids=one[None]).last_hidden_state[0] for one in arguments[0].split(lengths)]
        torch.testing.assert_close(torch.cat(actual), torch.cat(alone), rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_a_compiled_forward_is_run_and_not_unpadded():
    model, texts = bert(), [torch.tensor([5, 6, 7]), torch.tensor([8, 9])]
    alone = torch.cat([model(one[None]).last_hidden_state[0] for one in texts])
    model.forward = torch.compile(model.forward, backend="eager")
    torch.testing.assert_close(run(model, texts).values, alone, rtol=1e-4, atol=1e-4)
    with pytest.raises(ValueError, match="unpad: expected the forward of BertModel itself, .* call unpad before that"):
        unpad(model)


@torch.no_grad()
def test_a_model_compiled_before_unpad_and_one_compiled_in_place():
    arguments = padded([5, 13, 1])
    real = arguments["attention_mask"].bool()
    expected = bert()(**arguments).last_hidden_state[real]
    for use in (lambda: unpad(torch.compile(bert(), backend="eager")), _compiled_in_place):
        model, rows = use(), []
        with watching(lambda request, _, rows=rows: rows.append(len(request.q))):
            torch.testing.assert_close(model(**arguments).last_hidden_state[real], expected, rtol=1e-4, atol=1e-4)
        assert rows == [19, 19]


def _compiled_in_place():
    model = unpad(bert())
    model.compile(backend="eager")
    return model
