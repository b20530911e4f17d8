"""Packability: how a model takes many sequences at once, proved by trial, since families count positions and look around in
their own ways.

Packing is safe only if nothing in the model looks across sequences and if positions are counted anew in each, from 0, from
padding_idx + 1, or by the model itself. No table of families is kept: before a model is first used so, a few tokens are run
packed and alone, and the way that agrees is the way. None agreeing, it is refused.

The trial is made on a twin (twin.py). What it proves holds for this model, as long as it has the same parts, of the same
classes, with the same forwards and the same settings; a model that has changed, or a copy, is proved anew.
"""

from __future__ import annotations

import inspect
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from sightline.attention import watching
from sightline.huggingface.row_layout import NAME, Packing, packing_in_use, proving
from sightline.huggingface.structure import Structure
from sightline.huggingface.twin import apart, plain_class
from sightline.sequences import Sequences

PROBE = (5, 5, 2, 7)  # lengths that are run packed and alone; two are equal, and share a batch where nothing is packed
CLOSE = {torch.float64: 1e-9, torch.float32: 1e-4, torch.bfloat16: 5e-2, torch.float16: 1e-2}  # relative to the largest
PROVED = {
    torch.bfloat16: 5e-2,
    torch.float16: 1e-2,
    torch.float64: 1e-5,
}  # else 1e-4; what is 16 bits wide is widened first


@dataclass(frozen=True)
class Way:
    """How a model takes many sequences at once: `first` is the number of a first position; None: the model counts itself."""

    packed: bool
    first: int | None = None
    padding: int | None = None  # tokens of this id are not counted, where positions begin after it


def way_of(base: PreTrainedModel) -> Way:
    """The way that is proved for this model as it is now; turns its attention to "sightline".

    Raises: ValueError where no way gives each sequence what it gets alone.
    """
    way = proved(base, Structure.of(base))
    if base.config._attn_implementation != NAME:
        base.set_attn_implementation(NAME)
    return way


def packable(base: PreTrainedModel) -> Way | None:
    """The way in which a padded call may run packed; None: it must run padded, since hooks of the caller's own are on its parts.

    Raises: ValueError where the model, as it is now, cannot be packed.
    """
    structure = Structure.of(base)
    try:
        way = packed_way(base, structure)
    except ValueError as error:
        raise ValueError(f'{error}; set_attn_implementation("sdpa") undoes unpad') from error
    return None if structure.hooked else way


def packed_way(base: PreTrainedModel, structure: Structure) -> Way:
    """As `proved`, of a model that can be packed into one row; else ValueError."""
    way = proved(base, structure)
    if not way.packed:
        raise ValueError(
            f"unpad: expected a model that can be packed into one row, but {plain_class(type(base)).__name__} looks or counts "
            "across the whole row; use sightline.huggingface.run(model, sequences), which runs equal lengths together"
        )
    return way


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
    steady = steady_length(base)
    if steady is not None and positions is not None and int(positions.max()) >= steady:
        raise ValueError(
            f"{name}: expected packed texts of at most {steady} tokens, since a longer one changes the rotary positions of all, "
            f"got {int(positions.max()) + 1}; use sightline.huggingface.run(model, sequences)"
        )


# --- what is proved, and of which model ---------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Proof:
    """A way that was proved, and the structure of the model that it was proved for.

    It lies on the model itself, so that it goes where the model goes; a copy or a pickle leaves it behind.
    """

    way: Way
    structure: Structure

    def __reduce__(self):
        return type(None), ()


_one_at_a_time = threading.Lock()


def _unlock() -> None:
    """Resets the lock in a forked child, where the thread that held it is no more."""
    global _one_at_a_time
    _one_at_a_time = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_unlock)


@torch.compiler.disable
def proved(base: PreTrainedModel, structure: Structure) -> Way:
    """As `way_of`, but the model keeps its attention. What is refused is tried anew when asked again."""
    if structure.normalizes:
        raise ValueError(
            f"{plain_class(type(base)).__name__}: expected a model that looks at one sequence at a time, but in training this "
            "one normalizes over the whole batch; call model.eval()"
        )
    way = _kept(base, structure)
    if way is None:
        with nullcontext() if proving.get() else _one_at_a_time:  # a trial has a thread of its own, and may come here
            way = _kept(base, structure)  # from another thread, meanwhile
            if way is None:
                before = structure.kept()
                way = _trial(base)
                object.__setattr__(base, "_sightline_proof", Proof(way, before))
    return way


def _kept(base: PreTrainedModel, structure: Structure) -> Way | None:
    proof = vars(base).get("_sightline_proof")
    return proof.way if proof is not None and structure.is_as(proof.structure) else None


# --- the trial --------------------------------------------------------------------------------------------------------------


class _CannotRun(ValueError):
    """The model does not run on a few tokens, under eager attention, one sequence at a time."""


def _trial(base: PreTrainedModel) -> Way:
    if device_of(base).type == "meta":
        raise ValueError(
            f"{plain_class(type(base)).__name__}: expected a model with its weights in memory, got weights that are not "
            "loaded, or lie elsewhere until they are needed; load it whole"
        )
    try:
        return apart(base, _prove)
    except (_CannotRun, torch.OutOfMemoryError):  # perhaps a model that insists on its 16 bits, or is too large for 32
        return apart(base, _prove, widen=False)


def _prove(twin: PreTrainedModel) -> Way:
    """Raises: ValueError with the reason, where there is no way."""
    name, (ids, alone) = type(twin).__name__, _alone(twin)
    twin.set_attn_implementation(NAME)
    padding = getattr(twin.config.get_text_config(), "pad_token_id", None)
    takes_positions = "position_ids" in _parameters(type(twin))
    ways = [Way(True, 0)] if takes_positions else [Way(True)]
    if takes_positions and padding is not None:
        ways.append(Way(True, padding + 1, padding))
    errors, reasons = {}, {}
    for way in [*ways, Way(False)]:
        if not way.packed and errors:
            break
        calls = []
        try:
            with watching(lambda *_, calls=calls: calls.append(1)):
                rows = packed_rows(twin, ids, way) if way.packed else rows_in_runs(twin, ids)
        except torch.OutOfMemoryError:
            raise
        except (ValueError, IndexError, RuntimeError, TypeError) as error:
            reasons[str(error)] = None
            continue
        if not calls:
            raise ValueError(
                f"{name}: expected attention through transformers' interface, but this model computes its own; it cannot run "
                "without padding: use it as it is"
            )
        if (error := _error(rows, alone)) <= 1:
            errors[way] = error
    if not errors:
        detail = "; ".join(reasons) or "each sequence got something else than alone"
        raise ValueError(f"{name}: cannot run without padding: {detail}; use it as it is")
    least = max(4 * min(errors.values()), 0.1)  # more is no rounding
    return next(way for way, error in errors.items() if error <= least)


def _alone(twin: PreTrainedModel) -> tuple[Sequences, Tensor]:
    """A few sequences, and the rows that eager attention gives each by itself.

    Raises: ValueError where the model does not run on them, or not even sequences of equal lengths are alone in a batch.
    """
    name = type(twin).__name__
    twin.set_attn_implementation("eager")
    try:
        ids = probe(twin, PROBE)
        rows = [hidden_of(twin(**arguments_for(twin, {"input_ids": one[None]})))[0] for one in ids]
        alone, together = torch.cat(rows), rows_in_runs(twin, ids)
    except torch.OutOfMemoryError:
        raise
    except (AttributeError, TypeError, ValueError, IndexError, RuntimeError) as error:
        raise _CannotRun(
            f"{name}: expected a model that runs on token ids alone, got {type(error).__name__} from a few: {error}; use it "
            "as it is, or the part of it that takes text"
        ) from error
    if not bool(alone.isfinite().all()):
        raise ValueError(
            f"{name}: expected finite hidden states, got NaN or infinity from a few tokens; its weights are damaged: load "
            "them again"
        )
    if _error(together, alone) > 1:
        raise ValueError(
            f"{name}: cannot run without padding: what it gives a sequence depends on what else is in the batch, as where "
            "activations are quantized by one scale for all; use it as it is"
        )
    return ids, alone


def probe(base: PreTrainedModel, lengths: tuple[int, ...]) -> Sequences:
    """A few sequences of ordinary token ids: none of those with a meaning of their own."""
    config = base.config.get_text_config()
    special = {
        getattr(config, name, None) for name in ("pad_token_id", "bos_token_id", "eos_token_id", "mask_token_id")
    }
    ids = [i for i in range(min(config.vocab_size, 100)) if i not in special]
    rows = torch.tensor([ids[7 * i % len(ids)] for i in range(sum(lengths))], device=device_of(base))
    return Sequences(rows, [0, *torch.tensor(lengths).cumsum(0).tolist()])


def device_of(model: nn.Module) -> torch.device:
    """Where its weights are, which a replica of DataParallel holds as attributes."""
    for part in model.modules():
        for one in (*part._parameters.values(), *vars(part).values(), *part._buffers.values()):
            if isinstance(one, Tensor):
                return one.device
    return torch.device("cpu")


def _error(rows: Tensor, expected: Tensor) -> float:
    """The largest difference by what is allowed: 1 is just so. Features of few large numbers do not excuse the others."""
    allowed = PROVED.get(rows.dtype, 1e-4)
    rows, expected = rows.double(), expected.double()
    scale = expected.abs().amax(0)
    scale = scale.clamp_min(float(scale.median()))
    error = ((rows - expected).abs() / (allowed * scale).clamp_min(1e-300)).max()
    return float(error.nan_to_num(torch.inf))


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
def packing(batch: Sequences, rows: Tensor | None = None) -> Iterator[None]:
    """Within it, attention of this thread's models takes its rows to be this batch's; `rows` as in `Packing`."""
    token = packing_in_use.set(Packing(batch.offsets, batch.offsets, rows))
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
            f"run: expected a Hugging Face model, got {type(model).__name__}; "
            + ("pass the model in it" if _holds_one(model) else "load one with AutoModel.from_pretrained")
        )
    base = model.base_model
    if model.config.is_encoder_decoder and (hasattr(model, "decoder") or hasattr(base, "decoder")):
        return model.get_encoder()
    return getattr(model, "model", model) if base is model else base


def steady_length(base: PreTrainedModel) -> int | None:
    """How long sequences may be before the longest changes the rotary positions of all; None: it never does."""
    config = base.config.get_text_config()
    rope = getattr(config, "rope_parameters", None) or {}
    kinds = [one for one in (rope, *rope.values()) if isinstance(one, dict)]  # one, or one for each kind of layer
    if not any(one.get("rope_type") in ("dynamic", "longrope") for one in kinds):
        return None
    limits = [one.get("original_max_position_embeddings") for one in kinds]
    return min(n for n in (*limits, config.max_position_embeddings) if n)


def _holds_one(model) -> bool:
    return isinstance(model, nn.Module) and any(isinstance(part, PreTrainedModel) for part in model.modules())


def most_positions(base: PreTrainedModel, way: Way) -> int | None:
    """How many positions the model has learned; None where they are computed and have no end."""
    first = way.first or 0
    for name, part in base.named_modules():
        last = name.rpartition(".")[2]
        learned = last == "wpe" or "position" in last and "relative" not in last
        if learned and isinstance(part, nn.Embedding):
            return part.num_embeddings - first
    return None
