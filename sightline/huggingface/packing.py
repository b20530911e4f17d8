"""Runs a model on sequences of any lengths without padding: packed into one row, else in batches of equal lengths."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from sightline.batching import sorted_batches
from sightline.huggingface import attention_function  # noqa: F401  registers
from sightline.huggingface.base_model import (
    Packability,
    arguments_for,
    base_of,
    most_positions,
    ordinary_sequences,
    packed_rows,
    rows_of_equal_lengths,
    steady_length,
)
from sightline.huggingface.packability import enable_packing, prove_packed
from sightline.huggingface.structure import Structure, has_hooks
from sightline.huggingface.twin import plain_class, try_on_twin
from sightline.huggingface.unpadded import unpadded_class
from sightline.sequences import Sequences, offsets_of
from sightline.tabular import items_of


def run(model: PreTrainedModel, sequences: Iterable | Sequences, *, tokens: int | None = None) -> Sequences:
    """The last hidden state of every token, without padding; of the encoder where there is a decoder too.

    Sorts by length, packs `tokens` tokens at a time (None: 2,048 on a CPU, which fit its cache, 16,384 elsewhere), and
    returns all in the order of the input; gradients flow unless you turn them off. Sets the model's attention to
    "sightline".

    Shapes: token ids, one list or tensor [n] for each sequence (or `Sequences` [T]) -> `Sequences` [T, E].
    Raises: ValueError for a model that cannot run so, with the reason, for a sequence longer than its positions, and
    for ids outside its table; TypeError for what are no ids.

    >>> import sightline.huggingface as hf
    >>> from transformers import BertConfig, BertModel
    >>> config = BertConfig(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64)
    >>> hf.run(BertModel(config).eval(), [[101, 7592, 102], [101, 102]])
    Sequences(2 sequences, 5 rows, row shape [32], torch.float32, cpu)
    """
    base = base_of(model)
    packability = enable_packing(base)
    inputs = _as_sequences(sequences)
    _check_ids(base, inputs.values)
    _check_lengths(base, packability, inputs.lengths)
    packs = packability.packed and _independent(base, inputs.lengths)
    order, parts = [], []
    for batch in sorted_batches(inputs.lengths.tolist(), tokens or usual_tokens(base.device)):
        chosen = inputs[batch].to(base.device)
        order += batch
        if len(chosen.values):
            parts.append(packed_rows(base, chosen, packability) if packs else rows_of_equal_lengths(base, chosen))
    if not parts:
        nothing = torch.zeros(0, base.config.get_text_config().hidden_size, dtype=base.dtype, device=base.device)
        return inputs.with_values(nothing)
    lengths = inputs.lengths[order]
    whole = Sequences(torch.cat(parts), offsets_of(lengths))
    return whole[torch.tensor(order).argsort()]


def _independent(base: PreTrainedModel, lengths: Tensor) -> bool:
    """Whether no hook of the caller sees all sequences, and no long one changes the rotary positions of the others."""
    steady = steady_length(base)
    turned = steady is not None and len(lengths) and int(lengths.max()) > steady
    return not (turned or has_hooks(base) or Structure.of(base).hooked)


def usual_tokens(device: torch.device) -> int:
    """The tokens of a batch where the caller does not say."""
    return 2048 if device.type == "cpu" else 16_384


def unpad(model: nn.Module) -> nn.Module:
    """Makes padded calls of a model run packed inside: the same call, the same outputs, without the work on padding.

    Takes any Hugging Face model, or an object that holds some, such as a SentenceTransformer, and returns it. A call
    runs packed if its mask [B, L] is padded on the right, each text has a token, and no output depends on rows of
    padding: labels there are -100, and the head reads other rows, which is tried once per class and set of arguments.
    Any other call (with a cache, routers' numbers, a tuple, your own hooks on the model's parts) runs padded, on the
    attention "sightline", and every value is that of eager attention. A packed call returns zeros in rows of padding,
    and no cache, even if the model's config has `use_cache`: pass `use_cache=True` for one, as `generate` does.

    Copies, pickles and replicas of the model stay unpadded; `save_pretrained` writes the plain model. A model that is
    changed afterwards (an adapter, quantized parts) is tried again by its next call, and refused if it cannot be packed
    any more. `set_attn_implementation("sdpa")` undoes it.

    Raises: TypeError for an object without a Hugging Face model; ValueError, with the reason, for a model that cannot
    be packed, which then stays as it was.
    """
    bases = [base_of(one) for one in _outermost(model)] if isinstance(model, nn.Module) else []
    if not bases:
        raise TypeError(
            f"unpad: expected a Hugging Face model or an object that holds one, got {type(model).__name__}; load one "
            "first"
        )
    for base in bases:
        name = plain_class(type(base)).__name__
        if "forward" in vars(base):
            raise ValueError(
                f"unpad: expected the forward of {name} itself, got another set in its place (by accelerate's "
                "prepare, or a compiled one); call unpad before that"
            )
        prove_packed(base, Structure.of(base))
        if not hasattr(base, "pooler") and try_on_twin(base, _pools):
            raise ValueError(
                f"unpad: expected a model whose pooled output is made by its `pooler`, but {name} takes it from the "
                "row on its way; use sightline.huggingface.run(model, sequences)"
            )
    for base in bases:
        enable_packing(base)
        base.__class__ = unpadded_class(type(base))
    return model


def _outermost(module: nn.Module) -> list[PreTrainedModel]:
    """The Hugging Face models in a module that are not part of another one."""
    models, parts = {}, [module]
    for part in parts:
        if isinstance(part, PreTrainedModel):
            models[id(part)] = part
        else:
            parts.extend(one for one in part._modules.values() if one is not None)
    return list(models.values())


def _pools(twin: PreTrainedModel) -> bool:
    ids = ordinary_sequences(twin, (2,)).values[None]
    return getattr(twin(**arguments_for(twin, {"input_ids": ids})), "pooler_output", None) is not None


def _as_sequences(sequences: Iterable | Sequences) -> Sequences:
    if isinstance(sequences, Sequences):
        rows = [sequences.values]
    else:
        ids = items_of(sequences, "run", "token ids")
        try:
            rows = [torch.as_tensor(one) for one in ids]
        except (TypeError, ValueError, RuntimeError) as error:
            raise TypeError(
                f"run: expected token ids, a list or tensor [n] for each sequence, got others ({error}); tokenize first"
            ) from None
    for row in rows:
        if row.dim() != 1 or row.numel() and (row.is_floating_point() or row.dtype == torch.bool):
            raise TypeError(
                f"run: expected token ids, integers [n], for each sequence, got {row.dtype} {list(row.shape)}; "
                "tokenize first"
            )
    if isinstance(sequences, Sequences):
        return sequences
    rows = [row.long() for row in rows]  # an empty list says nothing of its dtype
    return Sequences.from_list(rows) if rows else Sequences(torch.zeros(0, dtype=torch.int64), [0])


def _check_ids(base: PreTrainedModel, ids: Tensor) -> None:
    table = getattr(base.get_input_embeddings(), "weight", None)
    if table is not None and len(ids) and not (0 <= int(ids.min()) and int(ids.max()) < len(table)):
        raise ValueError(
            f"run: expected token ids from 0 to {len(table) - 1}, got {int(ids.min())} to {int(ids.max())}; use the "
            "model's own tokenizer"
        )


def _check_lengths(base: PreTrainedModel, packability: Packability, lengths: Tensor) -> None:
    limit = most_positions(base, packability)
    if limit is not None and len(lengths) and int(lengths.max()) > limit:
        raise ValueError(
            f"{type(base).__name__}: expected at most {limit} tokens, as many as it has positions for, got "
            f"{int(lengths.max())} in sequence {int(lengths.argmax())}; cut it, or use another model"
        )
