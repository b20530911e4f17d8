"""How a model takes many sequences at once: found by trial, since families count positions and look around in their own ways.

Packing is safe only if nothing in the model looks across sequences and if positions are counted anew in each, from 0, from
padding_idx + 1, or by the model itself. No table of families is kept: before a model is first used so, a few tokens are run
packed and alone, and the first way that agrees is the way. None agreeing, it is refused.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from sightline.attention import watching
from sightline.huggingface.rows import NAME, Packing, packing_in_use, proving
from sightline.sequences import Sequences

PROBE = (5, 2, 7)  # lengths that are run packed and alone
CLOSE = {
    torch.float64: 1e-9,
    torch.float32: 1e-4,
    torch.bfloat16: 5e-2,
    torch.float16: 1e-2,
}  # relative to the largest


@dataclass(frozen=True)
class Way:
    """How a model takes many sequences at once: `first` is the number of a first position; None: the model counts itself."""

    packed: bool
    first: int | None = None
    padding: int | None = None  # tokens of this id are not counted, where positions begin after it


_ways: WeakKeyDictionary[PreTrainedModel, Way | str] = WeakKeyDictionary()  # or why there is none


def way_of(base: PreTrainedModel) -> Way:
    """The way that is proved for this model, found when first asked; turns its attention to "sightline".

    Raises: ValueError where no way gives each sequence what it gets alone.
    """
    if base not in _ways:
        before, trial = base.config._attn_implementation, proving.set(True)
        try:
            with torch.no_grad(), evaluating(base):
                _ways[base] = _prove(base)
        finally:
            proving.reset(trial)
            base.set_attn_implementation(before)
    if isinstance(_ways[base], str):
        raise ValueError(_ways[base])
    if base.config._attn_implementation != NAME:
        base.set_attn_implementation(NAME)
    return _ways[base]


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """The model without dropout; afterwards each of its parts is in the mode it was in."""
    modes = {part: part.training for part in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for part, training in modes.items():
            part.training = training


def vouch(model: PreTrainedModel, positions: Tensor | None) -> None:
    """Raises ValueError unless the model, given packed input by its caller, gives each sequence what it gets alone."""
    name, base = type(model).__name__, base_of(model)
    way = way_of(base)
    if not way.packed:
        raise ValueError(
            f"{name}: expected padded input, got packed; it looks or counts across the whole row: use "
            "sightline.huggingface.run(model, sequences)"
        )
    if way.padding is not None and positions is not None and int(positions.min()) != way.first:
        raise ValueError(
            f"{name}: expected packed positions that begin at {way.first}, as it counts them, got {int(positions.min())}; "
            f"add {way.first} to those that a collator counts from 0, or use sightline.huggingface.run(model, sequences)"
        )


def _prove(base: PreTrainedModel) -> Way | str:
    base.set_attn_implementation("eager")
    try:
        ids = probe(base, PROBE)
        rows = [hidden_of(base(**arguments_for(base, {"input_ids": one[None]})))[0] for one in ids]
    except (AttributeError, TypeError, ValueError) as error:
        raise ValueError(
            f"{type(base).__name__}: expected a model that runs on token ids alone, got {type(error).__name__} from a few: "
            f"{error}; use it as it is, or the part of it that takes text"
        ) from error
    alone = torch.cat(rows)
    if not bool(alone.isfinite().all()):
        raise ValueError(
            f"{type(base).__name__}: expected finite hidden states, got NaN or infinity from a few tokens; its weights are "
            "damaged: load them again"
        )
    base.set_attn_implementation(NAME)
    padding = getattr(base.config.get_text_config(), "pad_token_id", None)
    takes_positions = "position_ids" in _parameters(type(base))
    ways = [Way(True, 0)] if takes_positions else [Way(True)]
    if takes_positions and padding is not None:
        ways.append(Way(True, padding + 1, padding))
    reasons = {}
    for way in [*ways, Way(False)]:
        calls = []
        try:
            with watching(lambda *_, calls=calls: calls.append(1)):
                found = packed_rows(base, ids, way) if way.packed else rows_in_runs(base, ids)
        except (ValueError, IndexError, RuntimeError, TypeError) as error:
            reasons[str(error)] = None
            continue
        if not calls:
            return (
                f"{type(base).__name__}: expected attention through transformers' interface, but this model computes its own; "
                "it cannot run without padding: use it as it is"
            )
        if _close(found, alone):
            return way
    detail = "; ".join(reasons) or "each sequence got something else than alone"
    return f"{type(base).__name__}: cannot run without padding: {detail}; use it as it is"


def probe(base: PreTrainedModel, lengths: tuple[int, ...]) -> Sequences:
    """A few sequences of ordinary token ids: none of those with a meaning of their own."""
    config = base.config.get_text_config()
    special = {
        getattr(config, name, None)
        for name in ("pad_token_id", "bos_token_id", "eos_token_id", "mask_token_id")
    }
    ids = [i for i in range(min(config.vocab_size, 100)) if i not in special]
    rows = torch.tensor([ids[7 * i % len(ids)] for i in range(sum(lengths))], device=base.device)
    return Sequences(rows, [0, *torch.tensor(lengths).cumsum(0).tolist()])


def _close(found: Tensor, expected: Tensor) -> bool:
    worst = (found.double() - expected.double()).abs().max()
    return bool(worst <= CLOSE.get(found.dtype, 1e-2) * expected.double().abs().max().clamp_min(1e-6))


# --- one call -----------------------------------------------------------------------------------------------------------


def packed_rows(base: PreTrainedModel, batch: Sequences, way: Way) -> Tensor:
    """The hidden rows [T, E] of one packed batch."""
    ids = batch.values[None]
    arguments = {"input_ids": ids}
    if way.first is not None:
        arguments["position_ids"] = positions_in(batch, way)[None]
    with packing(batch):
        return hidden_of(base(**arguments_for(base, arguments)))[0]


def rows_in_runs(base: PreTrainedModel, batch: Sequences) -> Tensor:
    """The same by batches of equal lengths, which need neither padding nor a mask."""
    rows = []
    for first, count, length in batch.runs:
        if length:
            ids = batch[first : first + count].values.view(count, length)
            rows.append(hidden_of(base(**arguments_for(base, {"input_ids": ids}))).flatten(0, 1))
    return torch.cat(rows)


@contextmanager
def packing(batch: Sequences) -> Iterator[None]:
    """Within it, attention of this thread's models takes its rows to be this batch's."""
    token = packing_in_use.set(Packing(batch.offsets, batch.offsets))
    try:
        yield
    finally:
        packing_in_use.reset(token)


def positions_in(batch: Sequences, way: Way) -> Tensor:
    if way.padding is None:
        return batch.positions + way.first
    real = (batch.values != way.padding).long()  # as RoBERTa counts: a padding token has no number of its own
    count = torch.cat([real.new_zeros(1), real.cumsum(0)])
    before = count[batch.offsets[:-1].to(count.device)][batch.sequence_ids]
    return (count[1:] - before) * real + way.padding


def hidden_of(outputs) -> Tensor:
    return outputs.last_hidden_state if hasattr(outputs, "last_hidden_state") else outputs[0]


@lru_cache(64)
def _parameters(kind: type) -> frozenset[str]:
    return frozenset(inspect.signature(kind.forward).parameters)


@torch.compiler.disable
def arguments_for(base: PreTrainedModel, given: dict) -> dict:
    return {**given, "use_cache": False} if "use_cache" in _parameters(type(base)) else given


def base_of(model: PreTrainedModel) -> PreTrainedModel:
    """The part that turns tokens into hidden states."""
    if not isinstance(model, PreTrainedModel):
        raise TypeError(
            f"run: expected a Hugging Face model, got {type(model).__name__}; load one with AutoModel.from_pretrained"
        )
    base = model.base_model
    if model.config.is_encoder_decoder and (hasattr(model, "decoder") or hasattr(base, "decoder")):
        return model.get_encoder()
    return getattr(model, "model", model) if base is model else base


def most_positions(base: PreTrainedModel, way: Way) -> int | None:
    """How many positions the model has learned; None where they are computed and have no end."""
    first = way.first or 0
    for name, part in base.named_modules():
        last = name.rpartition(".")[2]
        learned = last == "wpe" or "position" in last and "relative" not in last
        if learned and isinstance(part, nn.Embedding):
            return part.num_embeddings - first
    return None
