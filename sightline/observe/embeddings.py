"""Models behind their embedding: influence differentiates with respect to embeddings, since ids have no gradient.

The model itself does not change; a twin over the same weights runs.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from sightline import encoders
from sightline.sequences import Sequences
from sightline.tabular import items_of

Differentiable = Callable[[Sequences], tuple[Tensor, Tensor]]  # ids or vectors -> (input rows, output rows)


def differentiable(model: nn.Module) -> Differentiable:
    """A function that runs the model and gives its input rows and its output rows, with a graph between them.

    Raises: TypeError or ValueError for a model that cannot be opened there.
    """
    if is_huggingface(model):
        return _differentiable_huggingface(model)
    encoder = _twin(encoder_of(model))
    table = encoder.embedding
    weight = next(table.parameters())
    if isinstance(table, encoders.TokenEmbedding):
        encoder.embedding = nn.Identity()  # it then takes rows in place of ids

    def both(x: Sequences) -> tuple[Tensor, Tensor]:
        rows = x.values.to(weight.device)
        if isinstance(table, encoders.TokenEmbedding):
            rows = table(_ids(rows, table.table))
        rows = rows.to(weight.dtype).detach().clone().requires_grad_()
        return rows, encoder(x.with_values(rows)).values

    return both


def _differentiable_huggingface(model: nn.Module) -> Differentiable:
    from sightline.huggingface.base_model import TOLERANCES, arguments_for, base_of, hidden_of

    base = _twin(base_of(model))
    name, table = type(base).__name__, base.get_input_embeddings()
    if "inputs_embeds" not in inspect.signature(type(base).forward).parameters:
        raise ValueError(
            f"influence: expected a model that takes inputs_embeds, got {name}, which takes none; use another model"
        )

    def hidden(x: Sequences, argument: str) -> Tensor:
        """In batches of equal lengths, each sequence a row of the batch: no padding, no mask, no neighbours."""
        runs = []
        for first, count, length in x.runs:
            if length:
                rows = x[first : first + count].values.unflatten(0, (count, length))
                outputs = hidden_of(base(**arguments_for(base, {argument: rows})))
                if outputs.shape[:2] != (count, length):
                    raise ValueError(
                        f"influence: expected outputs [{count}, {length}, E], one for each input, got "
                        f"{list(outputs.shape)} from {name}; use another model"
                    )
                runs.append(outputs.flatten(0, 1))
        return torch.cat(runs)

    def both(x: Sequences) -> tuple[Tensor, Tensor]:
        x = x.with_values(_ids(x.values.to(table.weight.device), table))
        try:
            with torch.no_grad():
                expected = hidden(x, "input_ids")
        except (IndexError, RuntimeError) as error:
            raise ValueError(
                f"influence: expected sequences that {name} can take, got up to {int(x.lengths.max())} tokens: "
                f"{error}; cut them to its positions"
            ) from error
        rows = table(x.values).detach().requires_grad_()
        outputs = hidden(x.with_values(rows), "inputs_embeds")
        error = (outputs.detach() - expected).abs().max()
        if error > TOLERANCES.get(outputs.dtype, 1e-2) * expected.abs().max():
            raise ValueError(
                f"influence: expected the same outputs from ids and from their embeddings, got others from {name}; "
                "use another model"
            )
        return rows, outputs

    return both


def is_huggingface(model) -> bool:
    """Whether it is a model of transformers, without importing that."""
    return hasattr(model, "get_input_embeddings") and hasattr(model, "config")


def encoder_of(model: nn.Module) -> encoders.Encoder:
    encoder = model if isinstance(model, encoders.Encoder) else getattr(model, "encoder", None)
    if not isinstance(encoder, encoders.Encoder):
        raise TypeError(
            "influence: expected an encoder of sightline, a model that holds one, or a Hugging Face model, got "
            f"{type(model).__name__}; load one"
        )
    return encoder


def _twin(module: Any) -> Any:
    """A copy of the modules over the same weights, in evaluation; the model does not change in any thread."""
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
            "influence: expected sequences of token ids [n] or vectors [n, F], got "
            f"{type(sequences).__name__}: {error}; tokenize first"
        ) from None
    if not all(1 <= t.dim() <= 2 for t in tensors):
        raise TypeError(
            "influence: expected a list of sequences, token ids [n] or vectors [n, F], got shapes "
            f"{[list(t.shape) for t in tensors[:3]]}; give a list of one for one"
        )
    tensors = [t.long() if t.shape == (0,) else t for t in tensors]  # an empty list has no dtype
    return Sequences.from_list(tensors) if tensors else Sequences(torch.zeros(0, dtype=torch.int64), [0])


def _ids(ids: Tensor, table: Any) -> Tensor:
    if ids.dim() != 1 or ids.is_floating_point() or ids.is_complex() or ids.dtype == torch.bool:
        raise TypeError(f"influence: expected token ids, integers [n], got {ids.dtype}; tokenize first")
    if len(ids) and not (0 <= int(ids.min()) and int(ids.max()) < len(table.weight)):
        raise ValueError(
            f"influence: expected token ids from 0 to {len(table.weight) - 1}, got {int(ids.min())} to "
            f"{int(ids.max())}; use the model's own tokenizer"
        )
    return ids.long()
