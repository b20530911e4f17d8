"""The base of a Hugging Face model, from tokens to hidden states: its limits, and one forward pass."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from sightline.huggingface.row_layout import Packing, packing_in_use
from sightline.sequences import Sequences

TOLERANCES = {
    torch.float64: 1e-9,
    torch.float32: 1e-4,
    torch.bfloat16: 5e-2,
    torch.float16: 1e-2,
}  # of the largest value


Function = TypeVar("Function", bound=Callable[..., Any])


@dataclass(frozen=True)
class Packability:
    """How a model takes many sequences: in one row if `packed`, else in batches of equal lengths.

    Positions begin at `first` (None: the model counts them itself), after the id `padding` if that is not counted.
    """

    packed: bool
    first: int | None = None
    padding: int | None = None


def base_of(model: nn.Module) -> PreTrainedModel:
    """The base of a model; of one with a decoder its encoder."""
    if not isinstance(model, PreTrainedModel):
        holds_one = isinstance(model, nn.Module) and any(isinstance(part, PreTrainedModel) for part in model.modules())
        raise TypeError(
            f"run: expected a Hugging Face model, got {type(model).__name__}; "
            + ("pass the model in it" if holds_one else "load one with AutoModel.from_pretrained")
        )
    base = model.base_model
    if model.config.is_encoder_decoder and (hasattr(model, "decoder") or hasattr(base, "decoder")):
        return cast(PreTrainedModel, model.get_encoder())
    return cast(PreTrainedModel, getattr(model, "model", model) if base is model else base)


def device_of(model: nn.Module) -> torch.device:
    """Where its weights are, which a replica of DataParallel holds as attributes."""
    for part in model.modules():
        for one in (*part._parameters.values(), *vars(part).values(), *part._buffers.values()):
            if isinstance(one, Tensor):
                return one.device
    return torch.device("cpu")


def most_positions(base: PreTrainedModel, packability: Packability) -> int | None:
    """The number of positions that the model has learned; None where they are computed, without end."""
    for name, part in base.named_modules():
        last = name.rpartition(".")[2]
        learned = last == "wpe" or "position" in last and "relative" not in last
        if learned and isinstance(part, nn.Embedding):
            return part.num_embeddings - (packability.first or 0)
    return None


def steady_length(base: PreTrainedModel) -> int | None:
    """The length above which a sequence changes the rotary positions of all others; None where none does."""
    config = base.config.get_text_config()
    rope = getattr(config, "rope_parameters", None) or {}
    kinds = [one for one in (rope, *rope.values()) if isinstance(one, dict)]  # one, or one for each kind of layer
    if not any(one.get("rope_type") in ("dynamic", "longrope") for one in kinds):
        return None
    limits = [one.get("original_max_position_embeddings") for one in kinds]
    return min(n for n in (*limits, config.max_position_embeddings) if n)


def ordinary_sequences(base: PreTrainedModel, lengths: tuple[int, ...]) -> Sequences:
    """Sequences of token ids for a trial: none of the ids has a meaning of its own."""
    config = base.config.get_text_config()
    special = {getattr(config, f"{name}_token_id", None) for name in ("pad", "bos", "eos", "mask")}
    ids = [i for i in range(min(config.vocab_size, 100)) if i not in special]
    rows = torch.tensor([ids[7 * i % len(ids)] for i in range(sum(lengths))], device=device_of(base))
    return Sequences(rows, [0, *torch.tensor(lengths).cumsum(0).tolist()])


# --- one forward pass -------------------------------------------------------------------------------------------------


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """The model without dropout; afterwards each of its parts is in its former mode."""
    modes = {part: part.training for part in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for part, training in modes.items():
            part.training = training


@lru_cache(64)
def parameters_of(kind: type) -> frozenset[str]:
    """The names of the arguments that the forward of a class takes."""
    return frozenset(inspect.signature(kind.forward).parameters)


def uncompiled(function: Function) -> Function:
    """`torch.compiler.disable`, which is not annotated: the function keeps its type."""
    return cast(Function, torch.compiler.disable(function))


@uncompiled
def arguments_for(base: PreTrainedModel, arguments: dict) -> dict:
    """The arguments, without a cache if the model has one."""
    return {**arguments, "use_cache": False} if "use_cache" in parameters_of(type(base)) else arguments


def hidden_of(outputs) -> Tensor:
    return outputs.last_hidden_state if hasattr(outputs, "last_hidden_state") else outputs[0]


def rows_alone(base: PreTrainedModel, sequences: Sequences) -> Tensor:
    """The hidden rows [T, E] of each sequence by itself."""
    outputs = (base(**arguments_for(base, {"input_ids": one[None]})) for one in sequences)
    return torch.cat([hidden_of(one)[0] for one in outputs])


def packed_rows(base: PreTrainedModel, batch: Sequences, packability: Packability) -> Tensor:
    """The hidden rows [T, E] of one packed batch."""
    arguments = {"input_ids": batch.values[None]}
    if packability.first is not None:
        arguments["position_ids"] = packed_positions(batch, packability)[None]
    with using_packing(batch):
        return hidden_of(base(**arguments_for(base, arguments)))[0]


def rows_of_equal_lengths(base: PreTrainedModel, batch: Sequences) -> Tensor:
    """The same, from batches of equal lengths, which need neither padding nor a mask."""
    rows = []
    for first, count, length in batch.runs:
        if length:
            ids = batch[first : first + count].values.view(count, length)
            rows.append(hidden_of(base(**arguments_for(base, {"input_ids": ids}))).flatten(0, 1))
    return torch.cat(rows)


@contextmanager
def using_packing(batch: Sequences, rows: Tensor | None = None) -> Iterator[None]:
    """Within it, attention in this thread takes its rows to be those of this batch; `rows` as in `Packing`."""
    token = packing_in_use.set(Packing(batch.offsets, batch.offsets, rows))
    try:
        yield
    finally:
        packing_in_use.reset(token)


def packed_positions(batch: Sequences, packability: Packability) -> Tensor:
    """The position of each token in its sequence [T]; `batch` holds ids where some of them are not counted."""
    if packability.padding is None:
        return batch.positions + (packability.first or 0)
    real = (batch.values != packability.padding).long()  # as RoBERTa counts: a padding token has no number of its own
    count = torch.cat([real.new_zeros(1), real.cumsum(0)])
    before = count[batch.offsets[:-1].to(count.device)][batch.sequence_ids]
    return (count[1:] - before) * real + packability.padding


# --- outputs ----------------------------------------------------------------------------------------------------------


def tensors_in(outputs) -> Iterator[Tensor]:
    """All tensors of a model's outputs; a cache is no output."""
    if isinstance(outputs, Tensor):
        yield outputs
    elif isinstance(outputs, dict):
        yield from chain.from_iterable(map(tensors_in, outputs.values()))
    elif isinstance(outputs, tuple | list):
        yield from chain.from_iterable(map(tensors_in, outputs))


def mask_of_rows(value: Tensor, mask: Tensor) -> Tensor | None:
    """Which rows of [B, L, ...] or [B * L, ...] are real, by a mask [B, L]; None where there is no row per token."""
    if value.shape[:2] == mask.shape:
        return mask
    return mask.flatten() if value.dim() and len(value) == mask.numel() else None


def real_rows(value: Tensor, mask: Tensor) -> Tensor:
    """The rows of real tokens, or the whole tensor where it has no row per token."""
    rows = mask_of_rows(value, mask)
    return value if rows is None else value[rows]
