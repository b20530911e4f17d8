"""Runs a model on sequences of any lengths without padding: packed into one row, or, where a model forbids that, in equal lengths."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import wraps
from types import MethodType

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from sightline.batching import sorted_batches
from sightline.huggingface import attending  # noqa: F401  registers
from sightline.huggingface.unpadded_call import call_unpadded
from sightline.huggingface.ways import (
    Way,
    arguments_for,
    base_of,
    most_positions,
    packed_rows,
    probe,
    rows_in_runs,
    way_of,
)
from sightline.sequences import Sequences


def run(model: PreTrainedModel, sequences: Iterable | Sequences, *, tokens: int | None = None) -> Sequences:
    """The last hidden state of every token of every sequence, without padding: of the encoder, where there is a decoder too.

    Sorts by length, packs `tokens` tokens at a time (None: 2,048 on a CPU, which stay in its cache, 16,384 elsewhere), and
    gives all back in the order given; gradients flow unless you turn them off. From then on the model's attention is
    "sightline".

    Shapes: token ids, one list or tensor [n] for each sequence (or `Sequences` [T]) -> `Sequences` [T, E].
    Raises: ValueError for a model that cannot be run so, named with the reason; for a sequence longer than its positions, and
    for ids that it has not; TypeError for what are no ids.

    >>> import sightline.huggingface as hf
    >>> from transformers import BertConfig, BertModel
    >>> model = BertModel(BertConfig(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64)).eval()
    >>> hf.run(model, [[101, 7592, 102], [101, 102]])
    Sequences(2 sequences, 5 rows, row shape [32], torch.float32, cpu)
    """
    base = base_of(model)
    way = way_of(base)
    inputs = _as_sequences(sequences)
    _check_ids(base, inputs.values)
    _check_lengths(base, way, inputs.lengths)
    order, parts = [], []
    for batch in sorted_batches(inputs.lengths.tolist(), tokens or usual_tokens(base.device)):
        chosen = inputs[batch].to(base.device)
        order += batch
        if len(chosen.values):
            parts.append(packed_rows(base, chosen, way) if way.packed else rows_in_runs(base, chosen))
    if not parts:
        nothing = torch.zeros(
            0, base.config.get_text_config().hidden_size, dtype=base.dtype, device=base.device
        )
        return inputs.with_values(nothing)
    lengths = inputs.lengths[order]
    whole = Sequences(torch.cat(parts), torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)]))
    return whole[torch.tensor(order).argsort()]


def usual_tokens(device: torch.device) -> int:
    return 2048 if device.type == "cpu" else 16_384


def unpad(model: nn.Module) -> nn.Module:
    """From now on padded calls of this model run packed inside: the same call, the same outputs, without the padding's work.

    Takes any Hugging Face model, or an object that holds one, as a SentenceTransformer does; gives it back. A call runs packed
    if its mask [B, L] is padded on the right, each text has a token, and nothing that it gives back depends on rows of padding:
    labels there are -100, and the head reads other rows. What a head reads is tried, once for each class and each set of
    arguments. Any other call (with a cache, routers' numbers, a tuple) runs padded, on the attention "sightline", and every
    value is eager attention's. Rows of padding come back as zeros from a packed call, and no cache does, even if the model's
    config has `use_cache`: pass `use_cache=True` for one; `generate` does. `set_attn_implementation("sdpa")` undoes it.

    Raises: TypeError where no Hugging Face model is found; ValueError for one that cannot be packed, with the reason.
    """
    held = model if isinstance(model, PreTrainedModel) else None
    if held is None and isinstance(model, nn.Module):
        held = next((part for part in model.modules() if isinstance(part, PreTrainedModel)), None)
    if held is None:
        raise TypeError(
            f"unpad: expected a Hugging Face model or an object that holds one, got {type(model).__name__}; load one first"
        )
    base = base_of(held)
    if not way_of(base).packed:
        raise ValueError(
            f"unpad: expected a model that can be packed into one row, but {type(base).__name__} looks or counts "
            "across the whole row; use sightline.huggingface.run(model, sequences), which runs equal lengths together"
        )
    if not hasattr(base, "pooler") and _pools(base):
        raise ValueError(
            f"unpad: expected a model whose pooled output is made by its `pooler`, but {type(base).__name__} takes it from the "
            "row on its way; use sightline.huggingface.run(model, sequences)"
        )
    if not hasattr(base.forward, "whole"):
        base.forward = MethodType(_unpadding(type(base).forward), base)
    return model


def _as_sequences(sequences: Iterable | Sequences) -> Sequences:
    if isinstance(sequences, Sequences):
        rows = [sequences.values]
    else:
        try:
            rows = [torch.as_tensor(one) for one in sequences]
        except (TypeError, ValueError, RuntimeError) as error:
            raise TypeError(
                f"run: expected token ids, a list or tensor [n] for each sequence, got others ({error}); tokenize first"
            ) from None
    for row in rows:
        if row.dim() != 1 or row.numel() and (row.is_floating_point() or row.dtype == torch.bool):
            raise TypeError(
                f"run: expected token ids, integers [n], for each sequence, got {row.dtype} {list(row.shape)}; tokenize first"
            )
    if isinstance(sequences, Sequences):
        return sequences
    rows = [row.long() for row in rows]  # an empty list says nothing of its dtype
    return Sequences.from_list(rows) if rows else Sequences(torch.zeros(0, dtype=torch.int64), [0])


def _check_ids(base: PreTrainedModel, ids: Tensor) -> None:
    table = getattr(base.get_input_embeddings(), "weight", None)
    if table is not None and len(ids) and not (0 <= int(ids.min()) and int(ids.max()) < len(table)):
        raise ValueError(
            f"run: expected token ids from 0 to {len(table) - 1}, got {int(ids.min())} to {int(ids.max())}; use the model's "
            "own tokenizer"
        )


def _check_lengths(base: PreTrainedModel, way: Way, lengths: Tensor) -> None:
    limit = most_positions(base, way)
    if limit is not None and len(lengths) and int(lengths.max()) > limit:
        raise ValueError(
            f"{type(base).__name__}: expected at most {limit} tokens, as many as it has positions for, got "
            f"{int(lengths.max())} in sequence {int(lengths.argmax())}; cut it, or use another model"
        )


def _unpadding(whole: Callable) -> Callable:
    """The model's forward, which packs a padded call, and puts every output's rows back to where they were padded."""

    @wraps(whole)
    def forward(self, *args, **kwargs):
        return call_unpadded(self, whole, args, kwargs)

    forward.whole = whole
    return forward


@torch.no_grad()
def _pools(base: PreTrainedModel) -> bool:
    ids = probe(base, (2,)).values[None]
    return getattr(base(**arguments_for(base, {"input_ids": ids})), "pooler_output", None) is not None
