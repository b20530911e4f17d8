"""After `unpad`, heads that read rows of padding get eager attention's, and packed texts are not answered as one."""

import copy
import functools

import pytest
import torch
from torch import nn
from transformers import (
    AlbertConfig,
    AlbertForSequenceClassification,
    BertConfig,
    BertForSequenceClassification,
    BertForTokenClassification,
    BertModel,
    BertPreTrainedModel,
    GPT2Config,
    GPT2DoubleHeadsModel,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    MixtralConfig,
    MixtralForCausalLM,
    OPTConfig,
    OPTForCausalLM,
)

from sightline.attention import watching
from sightline.huggingface import unpad
from sightline.huggingface.row_layout import NAME, packing_in_use
from tests.huggingface.head_classes import differences
from tests.huggingface.small import SMALL, bert, drawn

MASK = (torch.arange(9) < torch.tensor([[9], [4], [2]])).long()
IDS = torch.randint(5, 95, (3, 9), generator=torch.Generator().manual_seed(0)) * MASK
OTHER = IDS.masked_fill(MASK == 0, 7)  # padding that is not the padding token
IGNORED = IDS.masked_fill(MASK == 0, -100)
SEVERAL = torch.tensor([[0, 1, 2, 3, 0, 1, 2, 3, 4]])  # positions of two texts in one row
BERT = {**SMALL, "num_labels": 3}


class Reading(BertPreTrainedModel):
    """A user's head, which reads other rows than transformers' heads do; its `self` has another name, too."""

    def __init__(this, config, which):
        super().__init__(config)
        this.bert, this.answer, this.which = BertModel(config), nn.Linear(32, 3), which
        this.post_init()

    def forward(this, input_ids, attention_mask=None, **others):
        rows = this.bert(input_ids, attention_mask=attention_mask)[0]
        real = None if attention_mask is None else attention_mask[..., None]
        if this.which == "tokens of three":
            return (this.answer(nn.functional.avg_pool1d(rows.transpose(1, 2), 3, 1, 1).transpose(1, 2)),)
        read = {
            "first": lambda: rows[:, 0],
            "last": lambda: rows[:, -1],
            "mean": lambda: rows.mean(1),
            "greatest": lambda: rows.amax(1),
            "mean of the real": lambda: (rows * real).sum(1) / real.sum(1),
        }
        return (this.answer(read[this.which]()),)


def reading(which):
    return lambda: drawn(Reading(BertConfig(**SMALL), which))


def llama(kind=LlamaForCausalLM, **settings):
    return drawn(kind(LlamaConfig(**SMALL, num_key_value_heads=2, num_labels=3, pad_token_id=0, **settings)))


def gpt2(kind):
    sizes = {"vocab_size": 100, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 40}
    return drawn(kind(GPT2Config(**sizes, bos_token_id=1, eos_token_id=2, pad_token_id=0)))


def mixtral(**settings):
    return drawn(MixtralForCausalLM(MixtralConfig(**SMALL, num_key_value_heads=2, num_local_experts=4, **settings)))


def opt():
    sizes = {"ffn_dim": 48, "word_embed_proj_dim": 32, "pad_token_id": 0}
    return drawn(OPTForCausalLM(OPTConfig(**{**SMALL, "dropout": 0.0}, **sizes)))


def albert():
    return drawn(AlbertForSequenceClassification(AlbertConfig(**BERT, embedding_size=16)))


def texts(kind=BertForSequenceClassification, **settings):
    return drawn(kind(BertConfig(**BERT, **settings)))


classified = functools.partial(llama, LlamaForSequenceClassification)
routed = {"labels": IGNORED, "output_router_logits": True}
CALLS = {  # what is called, with what beside ids and mask, and whether it runs packed
    "first row": (reading("first"), {}, True),
    "last row": (reading("last"), {}, False),
    "mean of all rows": (reading("mean"), {}, False),
    "mean of real rows": (reading("mean of the real"), {}, True),
    "greatest of all rows": (reading("greatest"), {}, False),
    "rows and their neighbours": (reading("tokens of three"), {}, False),
    "two heads, last row": (lambda: gpt2(GPT2DoubleHeadsModel), {}, False),
    "two heads, named rows": (lambda: gpt2(GPT2DoubleHeadsModel), {"mc_token_ids": torch.tensor([8, 8, 8])}, False),
    "last token by its id": (classified, {}, True),
    "last token by its id, where padding has others": (classified, {"input_ids": OTHER}, False),
    "last row, since there are no ids": (classified, {"input_ids": None, "inputs_embeds": torch.ones(3, 9, 32)}, False),
    "embeddings": (llama, {"input_ids": None, "inputs_embeds": torch.ones(3, 9, 32)}, True),
    "padding token not known": (lambda: texts(pad_token_id=None), {}, False),
    "labels on padding": (llama, {"labels": IDS}, False),
    "labels on real rows": (llama, {"labels": IGNORED}, True),
    "last rows only": (llama, {"logits_to_keep": 2}, False),
    "all rows": (llama, {"logits_to_keep": 0}, True),
    "a named row": (llama, {"logits_to_keep": torch.tensor([0])}, True),
    "a named row of padding": (llama, {"logits_to_keep": torch.tensor([4])}, False),
    "positions from 3": (llama, {"position_ids": 3 + torch.arange(9)[None]}, True),
    "routers": (mixtral, routed, False),
    "routers, labels on padding": (mixtral, {**routed, "labels": IDS}, False),
    "routers by configuration": (lambda: mixtral(output_router_logits=True), {"labels": IDS}, False),
    "experts": (mixtral, {"labels": IGNORED}, True),
    "a pooler of one row": (albert, {}, True),
    "token types for all": (lambda: bert(), {"token_type_ids": torch.ones(1, 9).long()}, True),
    "a head that goes past the model": (opt, {"labels": IGNORED}, False),
    "a text without a token": (texts, {"attention_mask": MASK * torch.tensor([[1], [0], [1]])}, False),
    "a mask of zeros": (lambda: bert(), {"attention_mask": MASK * 0}, False),
    "a tuple by configuration": (lambda: texts(return_dict=False), {}, False),
    "a tuple without a cache": (llama, {"return_dict": False, "output_hidden_states": True}, False),
}


def compared(make, extra, prepare=unpad) -> tuple[list[str], bool]:
    """(what differs from eager attention, whether the call ran packed)"""
    arguments = {"input_ids": IDS, "attention_mask": MASK, **extra}
    arguments = {name: value for name, value in arguments.items() if value is not None}
    model = make()
    beside, packed = copy.deepcopy(model), []
    model.set_attn_implementation("eager")
    prepare(beside)
    with torch.no_grad(), watching(lambda *_: packed.append(packing_in_use.get() is not None)):
        expected, actual = model(**arguments), beside(**arguments)
    if isinstance(expected, tuple):
        expected, actual = ([t for t in o if isinstance(t, (torch.Tensor, tuple))] for o in (expected, actual))
        expected, actual = tuple(expected), tuple(actual)
    else:
        expected, actual = ({n: v for n, v in o.items() if "past" not in n} for o in (expected, actual))
    return differences(actual, expected, arguments["attention_mask"].bool(), 2e-5), packed[-1]


@pytest.mark.parametrize("call", CALLS)
def test_what_a_head_reads_is_eagers_and_only_where_it_can_be_the_call_runs_packed(call):
    make, extra, packed = CALLS[call]
    assert compared(make, extra) == ([], packed)


@pytest.mark.parametrize("call", ["labels on padding", "last row", "two heads, last row", "a mask of zeros"])
def test_so_does_attention_without_unpad(call):
    make, extra, _ = CALLS[call]
    assert compared(make, extra, lambda model: model.set_attn_implementation(NAME)) == ([], False)


def test_a_head_that_is_set_otherwise_is_tried_anew():
    make = reading("mean of the real")
    model, beside = make(), make()
    unpad(model)
    for which in ("mean of the real", "mean"):
        model.which = beside.which = which
        with torch.no_grad():
            actual, expected = (m(input_ids=IDS, attention_mask=MASK)[0] for m in (model, beside))
        torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-4)


WHOLE = {"bert": texts, "llama": classified, "two heads": lambda: gpt2(GPT2DoubleHeadsModel), "own": reading("mean")}


@pytest.mark.parametrize("make", WHOLE.values(), ids=WHOLE)
@pytest.mark.parametrize("offsets", [False, True])
def test_packed_texts_are_not_answered_as_one(make, offsets):
    model, arguments = make(), {"input_ids": 5 + torch.arange(9)[None], "position_ids": SEVERAL}
    model.set_attn_implementation(NAME)
    if offsets:
        arguments |= dict.fromkeys(("cu_seq_lens_q", "cu_seq_lens_k"), torch.tensor([0, 4, 9]))
    with pytest.raises(ValueError, match="expected padded input, got packed texts in one row, for which it gives one"):
        model(**arguments)
    model(input_ids=IDS[:1])  # one text is no pack


def test_packed_texts_are_answered_token_by_token():
    model = texts(BertForTokenClassification)
    model.set_attn_implementation(NAME)
    ids = 5 + torch.arange(9)[None]
    with torch.no_grad():
        actual = model(input_ids=ids, position_ids=SEVERAL).logits[0].split([4, 5])
        for ours, one in zip(actual, ids.split([4, 5], 1), strict=True):
            torch.testing.assert_close(ours, model(input_ids=one).logits[0], rtol=1e-4, atol=1e-4)


def test_weights_of_attention_are_refused():
    with pytest.raises(ValueError, match="expected output_attentions=False, since no weights are computed here"):
        unpad(bert())(input_ids=IDS, attention_mask=MASK, output_attentions=True)
