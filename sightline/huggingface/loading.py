"""Loads a model and its tokenizer from a folder or the hub: no code that came with it is run, and no size in it is believed."""

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

from sightline.huggingface import pooling_config as recipes
from sightline.huggingface.model_files import EXPECTED, NOWHERE, line, where_to_look
from sightline.huggingface.packability import most_positions

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
REPEATED = re.compile(
    r"(^|_)(layers?|blocks|experts|groups|stages)$"
)  # what a configuration says how many there are of
MOST_REPEATED = 1000
SMALL = 10**8  # parameters that may be missing from the files of a model
WHOLE_NUMBERS = ("I8", "U8", "I16", "U16", "I32", "U32", "I64", "U64", "BOOL")


def load(source: str, dtype: torch.dtype = torch.float32, subfolder: str = "", headed: bool = False) -> PreTrainedModel:
    """A model from a folder or the hub, without running code that came with it, ready for use; `headed` as it was saved.

    Raises: ValueError that says what was tried.
    """
    try:
        options = {"subfolder": subfolder, **where_to_look(source)}
        config = AutoConfig.from_pretrained(source, **options)
        kind = _kind(config, headed)
        _check_sizes(config, kind, Path(source, subfolder))
        model, found = kind.from_pretrained(source, dtype=dtype, output_loading_info=True, **options)
    except Exception as error:  # transformers raises many kinds: of files, of the network, of a configuration
        where = "one that does not load" if os.path.isdir(source) else NOWHERE
        reason = line(error)
        if "ignore_mismatched_sizes" in reason:  # it points to a report that it printed elsewhere
            reason = "its weights have other sizes than its config.json says"
        raise ValueError(f"{source}: {EXPECTED}, got {where} ({reason}); check it") from None
    unused = ("pooler", "decoder.") if model.config.is_encoder_decoder else ("pooler",)
    missing = sorted(key for key in found["missing_keys"] if not any(part in key for part in unused))
    if missing:
        raise ValueError(
            f"{source}: expected weights for all of {type(model).__name__}, got none for {missing[0]}"
            f"{f' and {len(missing) - 1} more' if missing[1:] else ''}, which would stay random; fetch the model anew"
        )
    return model.eval()


def load_whole(
    source: str, pooling, normalize, precision: str | None
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase, recipes.Recipe]:
    """The model, its tokenizer and its recipe, from a folder or the hub.

    Raises: ValueError for what is no such model, or an unknown precision.
    """
    if precision not in (None, *DTYPES):
        raise ValueError(f"precision: expected {' or '.join(DTYPES)}, got {precision!r}; choose one")
    recipe = recipes.chosen(recipes.read(source), source, pooling, normalize)
    model = load(source, DTYPES[precision or "float32"], recipe.subfolder)
    try:
        options = {**(recipe.tokenizer or {}), "subfolder": recipe.subfolder, **where_to_look(source)}
        tokenizer = AutoTokenizer.from_pretrained(source, **options)
        if set(tokenizer.get_vocab()) <= set(tokenizer.all_special_tokens):
            raise ValueError("one without words")  # which transformers makes up where there are no files
        if recipe.lower:
            engine = tokenizer.backend_tokenizer
            steps = [normalizers.Lowercase(), *filter(None, [engine.normalizer])]
            engine.normalizer = normalizers.Sequence(steps)
    except Exception as error:  # of many kinds too, some of them bare
        raise ValueError(
            f"{source}: expected a tokenizer beside the model, got {line(error)}; save or fetch the model anew"
        ) from None
    return model, tokenizer, recipe


def longest_text(recipe: recipes.Recipe, tokenizer: PreTrainedTokenizerBase, base: PreTrainedModel, way) -> int | None:
    """The tokens a text may have: what the folder says or else the tokenizer, but no more than there are positions."""
    limits = [
        recipe.longest or tokenizer.model_max_length,
        getattr(base.config.get_text_config(), "max_position_embeddings", None),
        most_positions(base, way),
    ]
    numbers = [n for n in limits if isinstance(n, (int, float)) and not isinstance(n, bool)]
    return min((int(n) for n in numbers if 1 <= n < 10**9), default=None)


# --- what a folder may claim --------------------------------------------------------------------------------------------


def _kind(config: PreTrainedConfig, headed: bool) -> type:
    """The class to load: as saved if `headed`, or half of a T5, say, which AutoModel would make whole; else the base."""
    name = (config.architectures or [""])[0]
    saved = getattr(transformers, name, None) if headed or name.endswith("EncoderModel") else None
    return saved if isinstance(saved, type) and issubclass(saved, PreTrainedModel) else AutoModel


def _check_sizes(config: PreTrainedConfig, kind: type, folder: Path) -> None:
    """Raises: ValueError where the configuration asks for more than its weights can be, before any of it is made."""
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
    """Whole numbers would be turned into float, and be other weights."""
    if path.suffix != ".safetensors":
        return
    try:
        with safe_open(path, "pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118  it is no dict
                if name.endswith((".weight", ".bias")) and tensors.get_slice(name).get_dtype() in WHOLE_NUMBERS:
                    raise ValueError(f"whole numbers for {name}, where the configuration knows no quantization")
    except SafetensorError:  # which loading says better
        return
