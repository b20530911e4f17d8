"""Runs a model on sequences of any lengths without padding: packed into one row, or, where a model forbids that, in equal lengths."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from sightline.batching import sorted_batches
from sightline.huggingface import attention_function  # noqa: F401  registers
from sightline.huggingface.packability import (
    Way,
    arguments_for,
    base_of,
    most_positions,
    packed_rows,
    packed_way,
    probe,
    rows_in_runs,
    steady_length,
    way_of,
)
from sightline.huggingface.structure import Structure, has_hooks
from sightline.huggingface.twin import apart, plain_class
from sightline.huggingface.unpadded import unpadded_class
from sightline.sequences import Sequences
from sightline.tabular import items_of


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
    packs = way.packed and _alike(base, inputs.lengths)
    order, parts = [], []
    for batch in sorted_batches(inputs.lengths.tolist(), tokens or usual_tokens(base.device)):
        chosen = inputs[batch].to(base.device)
        order += batch
        if len(chosen.values):
            parts.append(packed_rows(base, chosen, way) if packs else rows_in_runs(base, chosen))
    if not parts:
        nothing = torch.zeros(0, base.config.get_text_config().hidden_size, dtype=base.dtype, device=base.device)
        return inputs.with_values(nothing)
    lengths = inputs.lengths[order]
    whole = Sequences(torch.cat(parts), torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)]))
    return whole[torch.tensor(order).argsort()]


def _alike(base: PreTrainedModel, lengths: Tensor) -> bool:
    """Whether these sequences are the same beside others: no hook of the caller's sees them all, nor a longer one turns them."""
    steady = steady_length(base)
    turned = steady is not None and len(lengths) and int(lengths.max()) > steady
    return not (turned or has_hooks(base) or Structure.of(base).hooked)


def usual_tokens(device: torch.device) -> int:
    return 2048 if device.type == "cpu" else 16_384


def unpad(model: nn.Module) -> nn.Module:
    """From now on padded calls of this model run packed inside: the same call, the same outputs, without the padding's work.

    Takes any Hugging Face model, or an object that holds some, as a SentenceTransformer does; gives it back. A call runs packed
    if its mask [B, L] is padded on the right, each text has a token, and nothing that it gives back depends on rows of padding:
    labels there are -100, and the head reads other rows. What a head reads is tried, once for each class and each set of
    arguments. Any other call (with a cache, routers' numbers, a tuple, your own hooks on the model's parts) runs padded, on the
    attention "sightline", and every value is eager attention's. Rows of padding come back as zeros from a packed call, and no
    cache does, even if the model's config has `use_cache`: pass `use_cache=True` for one; `generate` does.

    Copies, pickles and replicas of the model stay so; what `save_pretrained` writes is the plain model. A model that is changed
    afterwards (an adapter, quantized parts) is tried anew by its next call, and refused if it cannot be packed any more.
    `set_attn_implementation("sdpa")` undoes it.

    Raises: TypeError where no Hugging Face model is found; ValueError for one that cannot be packed, with the reason; then
    nothing is changed.
    """
    bases = [base_of(one) for one in _outermost(model)] if isinstance(model, nn.Module) else []
    if not bases:
        raise TypeError(
            f"unpad: expected a Hugging Face model or an object that holds one, got {type(model).__name__}; load one first"
        )
    for base in bases:
        name = plain_class(type(base)).__name__
        if "forward" in vars(base):
            raise ValueError(
                f"unpad: expected the forward of {name} itself, got another set in its place (by accelerate's prepare, or a "
                "compiled one); call unpad before that"
            )
        packed_way(base, Structure.of(base))
        if not hasattr(base, "pooler") and apart(base, _pools):
            raise ValueError(
                f"unpad: expected a model whose pooled output is made by its `pooler`, but {name} takes it from the "
                "row on its way; use sightline.huggingface.run(model, sequences)"
            )
    for base in bases:
        way_of(base)
        base.__class__ = unpadded_class(type(base))
    return model


def _outermost(module: nn.Module) -> list[PreTrainedModel]:
    """The Hugging Face models in a module that are within no other one."""
    models, parts = {}, [module]
    for part in parts:
        if isinstance(part, PreTrainedModel):
            models[id(part)] = part
        else:
            parts.extend(one for one in part._modules.values() if one is not None)
    return list(models.values())


def _pools(twin: PreTrainedModel) -> bool:
    ids = probe(twin, (2,)).values[None]
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
