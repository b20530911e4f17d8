"""Proves by trial how a model takes many sequences at once.

Packing into one row is exact only if nothing in the model looks across sequences and if positions are counted from the
start of each: from 0, from padding_idx + 1, or by the model itself. There is no table of families: before its first use
a model runs a few tokens packed and alone, and the packability that agrees is kept. If none agrees the model is
refused.

The trial uses a twin (twin.py). Its result holds for this model as long as its structure is the same (structure.py); a
model that has changed, and a copy, are tried again.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel

from sightline.attention import watching
from sightline.huggingface.base_model import (
    Packability,
    base_of,
    device_of,
    ordinary_sequences,
    packed_rows,
    parameters_of,
    rows_alone,
    rows_of_equal_lengths,
    steady_length,
    uncompiled,
)
from sightline.huggingface.row_layout import NAME, proving
from sightline.huggingface.structure import Structure
from sightline.huggingface.twin import plain_class, try_on_twin
from sightline.kernels.locks import ForkSafeLock
from sightline.sequences import Sequences

LENGTHS = (5, 5, 2, 7)  # of the trial; two are equal, and share a batch where nothing is packed
ALLOWED = {torch.bfloat16: 5e-2, torch.float16: 1e-2, torch.float64: 1e-5}  # else 1e-4; 16 bits are widened first


def enable_packing(base: PreTrainedModel) -> Packability:
    """Proves the packability of this model as it is now, and sets its attention to "sightline".

    Raises: ValueError where no form of packing gives each sequence what it gets alone.
    """
    packability = prove(base, Structure.of(base))
    if base.config._attn_implementation != NAME:
        base.set_attn_implementation(NAME)
    return packability


def prove_packed(base: PreTrainedModel, structure: Structure) -> Packability:
    """As `prove`. Raises: ValueError also for a model that cannot be packed into one row."""
    packability = prove(base, structure)
    if not packability.packed:
        raise ValueError(
            f"unpad: expected a model that can be packed into one row, but {plain_class(type(base)).__name__} looks or "
            "counts across the whole row; use sightline.huggingface.run(model, sequences), which runs equal lengths "
            "together"
        )
    return packability


def check_packed_input(model: PreTrainedModel, positions: Tensor | None) -> None:
    """Raises ValueError unless the model gives each sequence what it gets alone, if its caller packs the input."""
    name, base = type(model).__name__, base_of(model)
    packability, steady = enable_packing(base), steady_length(base)
    if not packability.packed:
        raise ValueError(
            f"{name}: expected padded input, got packed; it looks or counts across the whole row: use "
            "sightline.huggingface.run(model, sequences)"
        )
    if positions is None:
        return
    first, lowest, longest = packability.first, int(positions.min()), int(positions.max()) + 1
    if packability.padding is not None and lowest != first:
        raise ValueError(
            f"{name}: expected packed positions that begin at {first}, as it counts them, got {lowest}; "
            f"add {first} to those that a collator counts from 0, or use sightline.huggingface.run(model, sequences)"
        )
    if steady is not None and longest > steady:
        raise ValueError(
            f"{name}: expected packed texts of at most {steady} tokens, since a longer one changes the rotary "
            f"positions of all, got {longest}; use sightline.huggingface.run(model, sequences)"
        )


# --- what is proved, and of which model -------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Proof:
    """A packability, and the structure of the model that it was proved for.

    It is an attribute of the model, so it goes where the model goes; a copy or a pickle leaves it behind.
    """

    packability: Packability
    structure: Structure

    def __reduce__(self):
        return type(None), ()


_trials = ForkSafeLock()


@uncompiled
def prove(base: PreTrainedModel, structure: Structure) -> Packability:
    """The packability of a model with this structure, by trial unless a proof is there; its attention stays as it is.

    Raises: ValueError for a model that cannot run without padding; it is tried again at the next call.
    """
    if structure.normalizes:
        raise ValueError(
            f"{plain_class(type(base)).__name__}: expected a model that looks at one sequence at a time, but in "
            "training this one normalizes over the whole batch; call model.eval()"
        )
    packability = _proved(base, structure)
    if packability is None:
        with nullcontext() if proving.get() else _trials.lock:  # a trial has a thread of its own, and may come here
            packability = _proved(base, structure)  # by another thread in the meantime
            if packability is None:
                before = structure.snapshot()
                packability = _trial(base)
                object.__setattr__(base, "_sightline_proof", Proof(packability, before))
    return packability


def _proved(base: PreTrainedModel, structure: Structure) -> Packability | None:
    proof = vars(base).get("_sightline_proof")
    return proof.packability if proof is not None and structure.matches(proof.structure) else None


# --- the trial --------------------------------------------------------------------------------------------------------


class _CannotRun(ValueError):
    """The model does not run on a few tokens, under eager attention, one sequence at a time."""


def _trial(base: PreTrainedModel) -> Packability:
    if device_of(base).type == "meta":
        raise ValueError(
            f"{plain_class(type(base)).__name__}: expected a model with its weights in memory, got weights that are "
            "not loaded, or lie elsewhere until they are needed; load it whole"
        )
    try:
        return try_on_twin(base, _compare)
    except (_CannotRun, torch.OutOfMemoryError):  # perhaps a model that insists on its 16 bits, or is too large for 32
        return try_on_twin(base, _compare, widen=False)


def _compare(twin: PreTrainedModel) -> Packability:
    """The first packability whose rows are those of each sequence alone. Raises: ValueError if there is none."""
    name, (ids, alone) = type(twin).__name__, _rows_alone(twin)
    twin.set_attn_implementation(NAME)
    errors, reasons = {}, {}
    for packability in _candidates(twin):
        if not packability.packed and errors:
            break
        calls = []
        try:
            with watching(lambda *_, calls=calls: calls.append(1)):
                if packability.packed:
                    rows = packed_rows(twin, ids, packability)
                else:
                    rows = rows_of_equal_lengths(twin, ids)
        except torch.OutOfMemoryError:
            raise
        except (ValueError, IndexError, RuntimeError, TypeError) as error:
            reasons[str(error)] = None
            continue
        if not calls:
            raise ValueError(
                f"{name}: expected attention through transformers' interface, but this model computes its own; it "
                "cannot run without padding: use it as it is"
            )
        if (error := _error(rows, alone)) <= 1:
            errors[packability] = error
    if not errors:
        detail = "; ".join(reasons) or "each sequence got something else than alone"
        raise ValueError(f"{name}: cannot run without padding: {detail}; use it as it is")
    least = max(4 * min(errors.values()), 0.1)  # more is no rounding
    return next(packability for packability, error in errors.items() if error <= least)


def _candidates(twin: PreTrainedModel) -> list[Packability]:
    if "position_ids" not in parameters_of(type(twin)):
        return [Packability(True), Packability(False)]
    padding = getattr(twin.config.get_text_config(), "pad_token_id", None)
    after_padding = [] if padding is None else [Packability(True, padding + 1, padding)]
    return [Packability(True, 0), *after_padding, Packability(False)]


def _rows_alone(twin: PreTrainedModel) -> tuple[Sequences, Tensor]:
    """A few sequences, and the rows that eager attention gives each by itself.

    Raises: ValueError where the model does not run on them, or not even sequences of equal lengths are independent in a
    batch.
    """
    name = type(twin).__name__
    twin.set_attn_implementation("eager")
    try:
        ids = ordinary_sequences(twin, LENGTHS)
        alone, together = rows_alone(twin, ids), rows_of_equal_lengths(twin, ids)
    except torch.OutOfMemoryError:
        raise
    except (AttributeError, TypeError, ValueError, IndexError, RuntimeError) as error:
        raise _CannotRun(
            f"{name}: expected a model that runs on token ids alone, got {type(error).__name__} from a few: {error}; "
            "use it as it is, or the part of it that takes text"
        ) from error
    if not bool(alone.isfinite().all()):
        raise ValueError(
            f"{name}: expected finite hidden states, got NaN or infinity from a few tokens; its weights are damaged: "
            "load them again"
        )
    if _error(together, alone) > 1:
        raise ValueError(
            f"{name}: cannot run without padding: what it gives a sequence depends on what else is in the batch, as "
            "where activations are quantized by one scale for all; use it as it is"
        )
    return ids, alone


def _error(rows: Tensor, expected: Tensor) -> float:
    """The largest difference relative to what is allowed; features of few large numbers do not excuse the others."""
    allowed = ALLOWED.get(rows.dtype, 1e-4)
    rows, expected = rows.double(), expected.double()
    scale = expected.abs().amax(0)
    scale = scale.clamp_min(float(scale.median()))
    error = ((rows - expected).abs() / (allowed * scale).clamp_min(1e-300)).max()
    return float(error.nan_to_num(torch.inf))
