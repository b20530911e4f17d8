"""Tiny models of all families that transformers can make from a configuration, for claims about all models.

A configuration is made from SMALL, as far as it has fields by those names (or by its own names for them), and from what
SPECIAL says about its family. Every weight is then drawn anew, large enough that each token's output hangs on which
keys it sees, and no bias, norm, sink or table of positions keeps the zeros or ones it starts from, since a zero hides
that it was left out.
"""

from __future__ import annotations

import dataclasses
import re

import torch
import transformers
from transformers import CONFIG_MAPPING, PreTrainedConfig, PreTrainedModel

ENCODERS = """
albert bert bert-generation big_bird camembert clip_text_model convbert data2vec-text deberta deberta-v2 distilbert
electra embedding_gemma2_text ernie esm esmc eurobert flaubert fnet gte ibert jina_embeddings_v3 layoutlm lilt
longformer markuplm megatron-bert mobilebert modernbert mpnet neomme nomic_bert nystromformer openai_privacy_filter
rembert roberta roberta-prelayernorm roc_bert roformer splinter squeezebert ultrabert xlm xlm-roberta xlm-roberta-xl
xmod yoso
""".split()
DECODERS = """
afmoe apertus arcee aria_text axk1 axk2 bailing_hybrid bamba beam biogpt bitnet bloom codegen cohere cohere2
cohere2_moe ctrl cwm dbrx deepseek_v2 deepseek_v3 deepseek_v32 deepseek_v4 diffllama doge dots1 ernie4_5
ernie4_5_moe exaone4 exaone_moe falcon falcon_h1 flex_olmo flint gemma gemma2 gemma3_text gemma3n_text gemma4_text
gemma4_unified_text glm glm4 glm4_moe glm4_moe_lite glm_moe_dsa gpt2 gpt_bigcode gpt_neo gpt_neox gpt_neox_japanese
gpt_oss gptj granite granite_swa granitemoe granitemoe_swa granitemoehybrid granitemoeshared helium hrm_text
hunyuan_v1_dense hunyuan_v1_moe hy_v3 hy_v4 hyperclovax inkling_text jais2 jamba jetmoe kimi_linear kolibri1 laguna
lfm2 lfm2_moe lfm3 llama llama4_text longcat_flash mamba mellum mimo_v2_flash minicpm3 minimax minimax_m2
minimax_m3_vl_text ministral ministral3 mistral mistral4 mixtral modernbert-decoder mpt nanochat nemotron nemotron_h
olmo olmo2 olmo3 olmo_hybrid olmoe openai-gpt opt persimmon phi phi3 phimoe qwen2 qwen2_moe qwen3 qwen3_5_text
qwen3_moe qwen3_next recurrent_gemma seed_oss smollm3 solar_open stablelm starcoder2 vaultgemma xlnet youtu zamba2
""".split()
PAIRS = """
bart bigbird_pegasus blenderbot blenderbot-small led longt5 m2m_100 marian mbart mt5 mvp nllb-moe pegasus pegasus_x
plbart switch_transformers t5 t5gemma umt5
""".split()  # an encoder and a decoder that attends to it
FAMILIES = {**dict.fromkeys(ENCODERS, "encoder"), **dict.fromkeys(DECODERS, "decoder"), **dict.fromkeys(PAIRS, "pair")}
KNOWN = [family for family in FAMILIES if family in CONFIG_MAPPING]  # to the transformers that is installed

VOCABULARY = 99
SMALL = {
    "vocab_size": VOCABULARY, "hidden_size": 32, "intermediate_size": 48, "max_position_embeddings": 128,
    "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8,
    # layers of two kinds, where a family has them
    "sliding_window": 4, "use_sliding_window": True, "max_window_layers": 0, "attention_window": 4,
    "local_attention": 6,
    "local_radius": 3, "keep_window_size": 4, "relative_attention_max_distance": 12, "query_pre_attn_scalar": 8,
    # experts
    "num_experts": 4, "num_local_experts": 4, "n_routed_experts": 4, "moe_num_experts": 4, "num_experts_per_tok": 2,
    "moe_k": 2, "moe_topk": 2, "n_group": 1, "topk_group": 1, "n_shared_experts": 1, "num_shared_experts": 1,
    "moe_intermediate_size": 24, "shared_expert_intermediate_size": 24, "first_k_dense_replace": 1,
    "shared_intermediate_size": 24, "moe_shared_expert_intermediate_size": 24, "zero_expert_num": 2,
    # keys and values from a few shared numbers
    "q_lora_rank": 16, "kv_lora_rank": 16, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8, "v_head_dim": 8,
    "qk_head_dim": 16,
    "index_n_heads": 2, "index_head_dim": 16, "index_topk": 4, "index_block_size": 4, "index_topk_blocks": 2,
    "o_lora_rank": 16, "global_head_dim": 16,
    # encoder and decoder
    "num_layers": 2, "num_decoder_layers": 2, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4,
    "decoder_attention_heads": 4, "encoder_ffn_dim": 48, "decoder_ffn_dim": 48, "ffn_dim": 48, "d_kv": 8, "d_ff": 48,
    # recurrent layers beside attention
    "mamba_d_state": 8, "mamba_d_conv": 4, "mamba_expand": 2, "mamba_n_heads": 4, "mamba_d_head": 16,
    "chunk_size": 8, "mamba_chunk_size": 8, "block_size": 8,
    "mamba_num_heads": 4, "mamba_head_dim": 16, "ssm_state_size": 8, "n_groups": 1,
    "linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 8, "linear_value_head_dim": 8,
    "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1,
}  # fmt: skip
SLIDING = {"layer_types": ["sliding_attention", "full_attention"]}
LINEAR = {"layer_types": ["linear_attention", "full_attention"]}  # a recurrent layer and one of attention
GEMMA = {
    "vocab_size": VOCABULARY, "hidden_size": 32, "intermediate_size": 48, "max_position_embeddings": 128,
    "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "sliding_window": 4,
    **SLIDING, "attention_dropout": 0.0,
}  # fmt: skip
SPECIAL = {
    "axk2": {"layer_types": None},
    "bailing_hybrid": LINEAR,
    "bamba": {"attn_layer_indices": [1]},
    "codegen": {"rotary_dim": 4},
    "ctrl": {"dff": 48},
    "dbrx": {
        "attn_config": {"kv_n_heads": 2, "rope_theta": 10000.0, "clip_qkv": 8.0},
        "ffn_config": {"ffn_hidden_size": 48, "moe_num_experts": 4, "moe_top_k": 2},
    },
    "deepseek_v4": {
        "layer_types": ["compressed_sparse_attention", "heavily_compressed_attention"],
        "compress_rates": {"compressed_sparse_attention": 2, "heavily_compressed_attention": 4},
    },
    "distilbert": {"hidden_dim": 48},
    "esm": {"mask_token_id": 3},
    "esmc": {"num_key_value_heads": 4},
    "falcon_h1": {"mamba_d_ssm": 64},
    "gemma3n_text": {"num_kv_shared_layers": 0, "vocab_size_per_layer_input": VOCABULARY,
        "hidden_size_per_layer_input": 8},
    "gemma4_text": {"vocab_size_per_layer_input": VOCABULARY, "hidden_size_per_layer_input": 8},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]], "window_size": 4},
    "gptj": {"rotary_dim": 4},
    "granitemoehybrid": LINEAR,
    "hrm_text": {"H_cycles": 1, "L_cycles": 2},
    "inkling_text": {"swa_head_dim": 8, "swa_num_attention_heads": 4, "swa_num_key_value_heads": 2, "d_rel": 4,
        "rel_extent": 12, "layer_types": ["hybrid_sliding", "hybrid"]},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1, "use_mamba_kernels": False},
    "kimi_linear": {**LINEAR, "linear_head_dim": 8, "linear_num_heads": 4},
    "lfm2": {"layer_types": ["conv", "full_attention"]},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"], "num_dense_layers": 1},
    "lilt": {"hidden_size": 48, "max_2d_position_embeddings": 64},
    "llama4_text": {"layer_types": ["chunked_attention", "full_attention"], "attention_chunk_size": 4},
    "minimax": LINEAR,
    "minimax_m3_vl_text": {"layer_types": ["minimax_m3_sparse", "full_attention"]},
    "mobilebert": {"embedding_size": 32, "true_hidden_size": 32, "intra_bottleneck_size": 32,
        "normalization_type": "layer_norm"},
    "modernbert": {"layer_types": None},
    "neomme": {"head_dim": 16},
    "nemotron_h": {"layers_block_type": ["mamba", "attention"]},
    "olmo_hybrid": LINEAR,
    "qwen3_5_text": LINEAR,
    "qwen3_next": LINEAR,
    "recurrent_gemma": {"num_hidden_layers": 3, "attention_window_size": 4},
    "roc_bert": {"enable_shape": False, "enable_pronunciation": False, "pronunciation_vocab_size": 20,
        "shape_vocab_size": 20},
    "squeezebert": {"embedding_size": 32},
    "t5gemma": {"encoder": GEMMA, "decoder": GEMMA},
    "xmod": {"default_language": "en_XX"},
    "zamba2": {"layers_block_type": ["linear_attention", "hybrid"], "n_mamba_heads": 4},
}  # fmt: skip


def build(family: str, dtype: torch.dtype = torch.float64) -> PreTrainedModel:
    """A tiny model of the family with random weights, under eager attention, in eval mode."""
    settings = configuration(CONFIG_MAPPING[family], SPECIAL.get(family, {}))
    return drawn_model(_class_for(family, type(settings)), settings, family, dtype)


def drawn_model(
    kind: type[PreTrainedModel], settings: PreTrainedConfig, family: str, dtype: torch.dtype
) -> PreTrainedModel:
    """A model of the class with random weights, under eager attention, in eval mode."""
    torch.manual_seed(len(family) + sum(map(ord, family)))
    model = kind._from_config(settings, attn_implementation="eager")
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(0, 0.25)
            else:
                parameter.add_(0.2 * torch.randn_like(parameter))
    if model.can_generate():
        model.generation_config.update(bos_token_id=1, decoder_start_token_id=1)
    model.set_experts_implementation("eager")  # the others know no float64
    return model.to(dtype).eval()


def configuration(kind: type[PreTrainedConfig], special: dict) -> PreTrainedConfig:
    fields = {f.name: f.default for f in dataclasses.fields(kind)}
    own = SMALL | {kind.attribute_map.get(name, name): value for name, value in SMALL.items()}
    if {"layer_types", "sliding_window"} <= fields.keys():
        own |= SLIDING
    if "kv_lora_rank" in fields:  # all heads share the same few numbers: there are no groups
        own["num_key_value_heads"] = own["num_attention_heads"]
    for name, default in fields.items():
        if re.search("drop", name) and isinstance(default, float | int) and not isinstance(default, bool):
            own[name] = 0.0
    return kind(**{name: value for name, value in own.items() if name in fields} | special)


def _class_for(family: str, kind: type[PreTrainedConfig]) -> type[PreTrainedModel]:
    heads = {"encoder": "MaskedLM", "decoder": "CausalLM", "pair": "Seq2SeqLM"}[FAMILIES[family]]
    for auto in (getattr(transformers, f"AutoModelFor{heads}"), transformers.AutoModel):
        if kind in auto._model_mapping:
            kinds = auto._model_mapping[kind]
            return kinds[0] if isinstance(kinds, tuple) else kinds
    raise KeyError(family)
