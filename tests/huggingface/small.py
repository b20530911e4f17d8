"""Small random models of a few families, with weights so large that a wrong key shows; and how each packs."""

import pytest
import torch
from torch import nn
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    BertConfig,
    BertModel,
    GPT2Config,
    GPT2Model,
    LlamaConfig,
    LlamaForCausalLM,
    RobertaConfig,
    RobertaModel,
    T5Config,
    T5ForConditionalGeneration,
)

from sightline.huggingface.base_model import Packability

SMALL = {
    "vocab_size": 100,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 40,
}
BART = {"decoder_layers": 1, "encoder_ffn_dim": 48, "decoder_ffn_dim": 48, "max_position_embeddings": 40}
HEADS = {"encoder_attention_heads": 4, "decoder_attention_heads": 4}


def drawn(model):
    torch.manual_seed(1)
    for weight in model.parameters():
        nn.init.normal_(weight, std=0.3) if weight.dim() > 1 else nn.init.uniform_(weight, 0.5, 1.5)
    return model.eval()


def bert(**settings):
    return drawn(BertModel(BertConfig(**SMALL, **settings)))


def roberta():
    return drawn(RobertaModel(RobertaConfig(**SMALL, pad_token_id=1)))


def llama():
    return drawn(LlamaForCausalLM(LlamaConfig(**SMALL, num_key_value_heads=2)))


def gpt2():
    return drawn(
        GPT2Model(
            GPT2Config(vocab_size=100, n_embd=32, n_layer=2, n_head=4, n_positions=40, bos_token_id=1, eos_token_id=2)
        )
    )


def t5():
    return drawn(
        T5ForConditionalGeneration(T5Config(vocab_size=100, d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=4))
    )


def bart():
    return drawn(
        BartForConditionalGeneration(BartConfig(vocab_size=100, d_model=32, encoder_layers=2, **BART, **HEADS))
    )


PACKABILITY = {  # how each of these takes many sequences at once
    bert: Packability(True, 0),
    roberta: Packability(True, 2, 1),
    llama: Packability(True, 0),
    gpt2: Packability(True, 0),
    t5: Packability(False),
    bart: Packability(False),
}
each_model = pytest.mark.parametrize("make", PACKABILITY, ids=lambda make: make.__name__)
