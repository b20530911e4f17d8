"""Influence is asked behind the embedding, where inputs are numbers: a model of any kind, opened there, and what may be asked of it.

The model itself stays as it is; a twin over the same weights answers.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from sightline import encoders
from sightline.sequences import Sequences
from sightline.tabular import items_of

Opened = Callable[[Sequences], tuple[Tensor, Tensor]]  # ids or vectors -> (input rows, output rows)


def opened(model: nn.Module) -> Opened:
    if is_huggingface(model):
        return _opened_huggingface(model)
    encoder = _twin(encoder_of(model))
    table = encoder.embedding
    weight = next(table.parameters())
    if isinstance(table, encoders.TokenEmbedding):
        encoder.embedding = nn.Identity()  # so that rows go in where ids went

    def both(x: Sequences) -> tuple[Tensor, Tensor]:
        rows = x.values.to(weight.device)
        if isinstance(table, encoders.TokenEmbedding):
            rows = table(_ids(rows, table.table))
        rows = rows.to(weight.dtype).detach().clone().requires_grad_()
        return rows, encoder(x.with_values(rows)).values

    return both


def _opened_huggingface(model: nn.Module) -> Opened:
    from sightline.huggingface.base_model import TOLERANCES, arguments_for, base_of, hidden_of

    base = _twin(base_of(model))
    name, table = type(base).__name__, base.get_input_embeddings()
    if "inputs_embeds" not in inspect.signature(type(base).forward).parameters:
        raise ValueError(
            f"influence: expected a model that takes inputs_embeds, got {name}, which takes none; use another model"
        )

    def hidden(x: Sequences, argument: str) -> Tensor:
        """By batches of equal lengths, each sequence a row of the batch: no padding, no mask, nothing to meet."""
        runs = []
        for first, count, length in x.runs:
            if length:
                rows = x[first : first + count].values.unflatten(0, (count, length))
                found = hidden_of(base(**arguments_for(base, {argument: rows})))
                if found.shape[:2] != (count, length):
                    raise ValueError(
                        f"influence: expected outputs [{count}, {length}, E], one for each input, got {list(found.shape)} from {name}; use another model"
                    )
                runs.append(found.flatten(0, 1))
        return torch.cat(runs)

    def both(x: Sequences) -> tuple[Tensor, Tensor]:
        x = x.with_values(_ids(x.values.to(table.weight.device), table))
        try:
            with torch.no_grad():
                expected = hidden(x, "input_ids")
        except (IndexError, RuntimeError) as error:
            raise ValueError(
                f"influence: expected sequences that {name} can take, got up to {int(x.lengths.max())} tokens: {error}; cut them to its positions"
            ) from error
        rows = table(x.values).detach().requires_grad_()
        found = hidden(x.with_values(rows), "inputs_embeds")
        off = (found.detach() - expected).abs().max()
        if off > TOLERANCES.get(found.dtype, 1e-2) * expected.abs().max():
            raise ValueError(
                f"influence: expected the same outputs from ids and from their embeddings, got others from {name}; use another model"
            )
        return rows, found

    return both


def is_huggingface(model) -> bool:
    """Told without importing transformers."""
    return hasattr(model, "get_input_embeddings") and hasattr(model, "config")


def encoder_of(model: nn.Module) -> encoders.Encoder:
    encoder = model if isinstance(model, encoders.Encoder) else getattr(model, "encoder", None)
    if not isinstance(encoder, encoders.Encoder):
        raise TypeError(
            f"influence: expected an encoder of sightline, a model that holds one, or a Hugging Face model, got {type(model).__name__}; load one"
        )
    return encoder


def _twin(module: nn.Module) -> nn.Module:
    """Modules of its own over the same weights: evaluated and opened without the model noticing, in whatever thread."""
    weights = [*module.parameters(), *module.buffers()]
    same = {id(t): nn.Parameter(t.detach(), False) if t.requires_grad else t for t in weights}
    return copy.deepcopy(module, same).eval()


def as_sequences(sequences: Sequences | Iterable) -> Sequences:
    if isinstance(sequences, Sequences):
        return sequences
    rows = items_of(sequences, "influence", "sequences")
    try:
        tensors = [torch.as_tensor(one) for one in rows]
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(
            f"influence: expected sequences of token ids [n] or vectors [n, F], got {type(sequences).__name__}: {error}; tokenize first"
        ) from None
    if not all(1 <= t.dim() <= 2 for t in tensors):
        raise TypeError(
            f"influence: expected a list of sequences, token ids [n] or vectors [n, F], got shapes {[list(t.shape) for t in tensors[:3]]}; give a list of one for one"
        )
    tensors = [t.long() if t.shape == (0,) else t for t in tensors]  # an empty list says nothing of its dtype
    return Sequences.from_list(tensors) if tensors else Sequences(torch.zeros(0, dtype=torch.int64), [0])


def _ids(ids: Tensor, table: nn.Module) -> Tensor:
    if ids.dim() != 1 or ids.is_floating_point() or ids.is_complex() or ids.dtype == torch.bool:
        raise TypeError(f"influence: expected token ids, integers [n], got {ids.dtype}; tokenize first")
    if len(ids) and not (0 <= int(ids.min()) and int(ids.max()) < len(table.weight)):
        raise ValueError(
            f"influence: expected token ids from 0 to {len(table.weight) - 1}, got {int(ids.min())} to {int(ids.max())}; use the model's own tokenizer"
        )
    return ids.long()
