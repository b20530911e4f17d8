"""Loads a model and its tokenizer from a folder or the hub: none of its code runs, and its sizes are checked first."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import torch
import transformers
from safetensors import SafetensorError, safe_open
from tokenizers import normalizers
from transformers import (
    AutoConfig,
    AutoModel,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from sightline.huggingface.base_model import Packability, most_positions
from sightline.huggingface.model_files import EXPECTED, NOWHERE, loading_options, one_line
from sightline.huggingface.pooling_config import PoolingConfig, read_pooling_config

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
REPEATED = re.compile(r"(^|_)(layers?|blocks|experts|groups|stages)$")  # settings that count parts of a model
MOST_REPEATED = 1000
SMALL = 10**8  # parameters that may be missing from the files of a model
WHOLE_NUMBERS = ("I8", "U8", "I16", "U16", "I32", "U32", "I64", "U64", "BOOL")


def load_model(
    source: str, dtype: torch.dtype = torch.float32, subfolder: str = "", headed: bool = False
) -> PreTrainedModel:
    """A model in evaluation, from a folder or the hub, whose code does not run; `headed` as it was saved.

    Raises: ValueError with the reason.
    """
    try:
        options = {"subfolder": subfolder, **loading_options(source)}
        config = AutoConfig.from_pretrained(source, **options)
        kind = _class_of(config, headed)
        _check_sizes(config, kind, Path(source, subfolder))
        model, report = kind.from_pretrained(source, dtype=dtype, output_loading_info=True, **options)
    except Exception as error:  # transformers raises many kinds: of files, of the network, of a configuration
        where = "one that does not load" if os.path.isdir(source) else NOWHERE
        reason = one_line(error)
        if "ignore_mismatched_sizes" in reason:  # it refers to a report that it printed elsewhere
            reason = "its weights have other sizes than its config.json says"
        raise ValueError(f"{source}: {EXPECTED}, got {where} ({reason}); check it") from None
    unused = ("pooler", "decoder.") if model.config.is_encoder_decoder else ("pooler",)
    missing = sorted(key for key in report["missing_keys"] if not any(part in key for part in unused))
    if missing:
        raise ValueError(
            f"{source}: expected weights for all of {type(model).__name__}, got none for {missing[0]}"
            f"{f' and {len(missing) - 1} more' if missing[1:] else ''}, which would stay random; fetch the model anew"
        )
    return model.eval()


def load_with_tokenizer(
    source: str, config: PoolingConfig | None = None, precision: str | None = None
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The model and its tokenizer from a folder or the hub, as `config` says; None: as the folder itself says.

    Raises: ValueError for what is no such model, or an unknown precision.
    """
    if precision not in (None, *DTYPES):
        raise ValueError(f"precision: expected {' or '.join(DTYPES)}, got {precision!r}; choose one")
    config = config or read_pooling_config(source)
    model = load_model(source, DTYPES[precision or "float32"], config.subfolder)
    try:
        options = {**(config.tokenizer or {}), "subfolder": config.subfolder, **loading_options(source)}
        tokenizer = AutoTokenizer.from_pretrained(source, **options)
        if set(tokenizer.get_vocab()) <= set(tokenizer.all_special_tokens):
            raise ValueError("one without words")  # which transformers creates where there are no files
        if config.lower:
            engine = tokenizer.backend_tokenizer
            steps = [normalizers.Lowercase(), *filter(None, [engine.normalizer])]
            engine.normalizer = normalizers.Sequence(steps)
    except Exception as error:  # of many kinds too, some of them bare
        raise ValueError(
            f"{source}: expected a tokenizer beside the model, got {one_line(error)}; save or fetch the model anew"
        ) from None
    return model, tokenizer


def longest_text(
    config: PoolingConfig, tokenizer: PreTrainedTokenizerBase, base: PreTrainedModel, packability: Packability
) -> int | None:
    """The most tokens of a text: the folder's number or else the tokenizer's, but no more than there are positions."""
    limits = [
        config.longest or tokenizer.model_max_length,
        getattr(base.config.get_text_config(), "max_position_embeddings", None),
        most_positions(base, packability),
    ]
    numbers = [n for n in limits if isinstance(n, (int, float)) and not isinstance(n, bool)]
    return min((int(n) for n in numbers if 1 <= n < 10**9), default=None)


# --- checks of a folder -----------------------------------------------------------------------------------------------


def _class_of(config: PreTrainedConfig, headed: bool) -> type:
    """The class to load: as saved if `headed`, or if it is the encoder of a T5, say; else the base."""
    name = (config.architectures or [""])[0]
    saved = getattr(transformers, name, None) if headed or name.endswith("EncoderModel") else None
    return saved if isinstance(saved, type) and issubclass(saved, PreTrainedModel) else AutoModel


def _check_sizes(config: PreTrainedConfig, kind: type, folder: Path) -> None:
    """Raises: ValueError, before memory is used, where the configuration is of a larger model than its weights."""
    for name, count in _numbers(config.to_dict()):
        if REPEATED.search(name) and count > MOST_REPEATED:
            raise ValueError(f"{name} {count:,} in config.json, where {MOST_REPEATED:,} are many")
    if not os.path.isdir(folder):
        return
    files = [path for path in folder.iterdir() if path.suffix in (".safetensors", ".bin") and path.is_file()]
    size = sum(path.stat().st_size for path in files)
    with torch.device("meta"):
        whole = (kind.from_config if kind is AutoModel else kind._from_config)(config)
    count = sum(weight.numel() for weight in whole.parameters())
    if count > SMALL + 4 * size:  # four to a byte are more than any way to store them
        raise ValueError(f"{size:,} bytes of weights, where config.json makes a model of {count:,}")
    if getattr(config, "quantization_config", None) is None:
        for path in files:
            _check_dtypes(path)


def _numbers(config: dict) -> Iterator[tuple[str, float]]:
    for key, value in config.items():
        if isinstance(value, dict):
            yield from _numbers(value)
        elif isinstance(value, (int, float)):
            yield str(key), value


def _check_dtypes(path: Path) -> None:
    """Raises: ValueError for whole numbers, which would turn into other weights as floats."""
    if path.suffix != ".safetensors":
        return
    try:
        with safe_open(path, "pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118  it is no dict
                if name.endswith((".weight", ".bias")) and tensors.get_slice(name).get_dtype() in WHOLE_NUMBERS:
                    raise ValueError(f"whole numbers for {name}, where the configuration knows no quantization")
    except SafetensorError:  # loading has a better message
        return
