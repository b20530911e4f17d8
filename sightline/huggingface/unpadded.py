"""The class of a model after `unpad`: its forward runs padded calls packed, where that is known to be exact.

The class changes, and no attribute of the model, since a class goes wherever the model goes: to a deep copy, to a
replica of DataParallel, through pickle and `torch.save` into another process (where unpickling imports this package,
which registers the attention "sightline"). A bound method set on the model would stay bound to the first model in a
replica, and be lost by pickle; hooks do not see `model.forward(...)`, nor what other hooks do.

A call runs packed only if the meaning of every argument and output is known: tokens and their positions, hidden states,
and a pooled output that is proved to come from the first token's. Any other call runs padded, as the model does by
itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, wraps
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from sightline.huggingface.base_model import (
    Packability,
    arguments_for,
    ordinary_sequences,
    packed_positions,
    uncompiled,
    using_packing,
)
from sightline.huggingface.caller_packing import arguments_by_name
from sightline.huggingface.head_rows import ROWS, gives_tuple, needs_padding, side_of_padding
from sightline.huggingface.packability import prove_packed
from sightline.huggingface.row_layout import NAME, packing_in_use
from sightline.huggingface.structure import Structure
from sightline.huggingface.twin import plain_class, try_on_twin
from sightline.sequences import Sequences, offsets_of

OUTPUTS = {"last_hidden_state", "hidden_states"}  # beside a pooled one; all others fit the padded form only
SETTINGS = {"output_hidden_states", "return_dict", "num_items_in_batch"}


class Unpadded:
    """The mixin of an unpadded class: pickles name the padded class, from which the unpadded one follows."""

    padded_class: type[PreTrainedModel]

    def __reduce_ex__(self, protocol):
        rebuild, (kind, *others), *state = super().__reduce_ex__(protocol)
        if kind is not type(self):
            return rebuild, (kind, *others), *state
        return _new, (self.padded_class,), *state


@cache  # one class for all models of a class
def unpadded_class(kind: type[PreTrainedModel]) -> type[PreTrainedModel]:
    if issubclass(kind, Unpadded):
        return kind
    padded_forward = kind.forward

    @wraps(padded_forward)
    def forward(self, *args, **kwargs):
        return _call(self, padded_forward, args, kwargs)

    names = {name: getattr(kind, name) for name in ("__module__", "__qualname__", "__doc__")}
    return type(kind.__name__, (Unpadded, kind), {**names, "padded_class": kind, "forward": forward})


def _new(kind: type[PreTrainedModel]) -> PreTrainedModel:
    unpadded = unpadded_class(kind)
    return unpadded.__new__(unpadded)


# --- one call ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PackedCall:
    """A padded call [B, L] in packed form: its texts, which of the B * L rows they are, and the arguments."""

    texts: Sequences
    rows: Tensor
    shape: tuple[int, int]
    arguments: dict


def _call(base: PreTrainedModel, forward: Callable, args: tuple, kwargs: dict):
    """What `forward(base, *args, **kwargs)` returns, computed without its padding where that is known to be exact."""
    call = _packed_call(base, forward, args, kwargs)
    if call is None:
        return forward(base, *args, **kwargs)
    with using_packing(call.texts, call.rows):
        outputs = forward(base, **arguments_for(base, call.arguments))
    pools = outputs.get("pooler_output") is not None
    pool = _pooling(base) if pools else None
    rows = {name: outputs[name] for name in list(outputs.keys()) if name != "pooler_output"}
    if pools and pool is None or not all(_has_packed_rows(name, value, call) for name, value in rows.items()):
        return forward(base, *args, **kwargs)
    for name, value in rows.items():
        outputs[name] = _unpacked(value, call)
    if pool is not None:  # the packed call pooled the first token of the whole row
        outputs["pooler_output"] = pool(base, outputs["last_hidden_state"])
    return outputs


@uncompiled  # it depends on which tokens are real
def _packed_call(base: PreTrainedModel, forward: Callable, args: tuple, kwargs: dict) -> PackedCall | None:
    if base.config._attn_implementation != NAME or packing_in_use.get() is not None:
        return None
    arguments = arguments_by_name(forward, base, args, kwargs)
    arguments = {name: value for name, value in arguments.items() if value is not None}
    mask, tokens = arguments.pop("attention_mask", None), arguments.get("input_ids")
    tokens = arguments.get("inputs_embeds") if tokens is None else tokens
    if not (isinstance(mask, Tensor) and mask.dim() == 2 and isinstance(tokens, Tensor)):
        return None
    if mask.shape != tokens.shape[:2] or not all(_fits(*item) for item in arguments.items()) or _configures_more(base):
        return None
    mask = mask != 0  # as transformers reads it, whatever the numbers and their precision
    if side_of_padding(mask) != "right" or bool(mask.all()) or gives_tuple():
        return None
    packability = _packability(base)  # first, since it refuses a model that has changed
    if packability is None or needs_padding(mask, arguments.get("input_ids")):
        return None
    rows = mask.flatten().nonzero().flatten()
    packed: dict[str, Any] = {name: _packed(name, arguments[name], rows, mask) for name in ROWS & arguments.keys()}
    if any(value is None for value in packed.values()):
        return None
    offsets = offsets_of(mask.sum(1).cpu())
    texts = Sequences(packed["input_ids"][0] if "input_ids" in packed else rows, offsets)
    if packability.first is not None and "position_ids" not in packed:
        counted = packability if "input_ids" in packed else Packability(True, packability.first)
        packed["position_ids"] = packed_positions(texts, counted)[None]
    return PackedCall(texts, rows, (mask.shape[0], mask.shape[1]), {**arguments, **packed})


def _packability(base: PreTrainedModel) -> Packability | None:
    """None where the call must run padded: it runs again for gradient checkpointing, or the caller has hooks on parts.

    Raises: ValueError where the model, as it is now, cannot be packed.
    """
    if base.training and any(getattr(part, "gradient_checkpointing", False) for part in base.modules()):
        return None
    structure = Structure.of(base)
    try:
        packability = prove_packed(base, structure)
    except ValueError as error:
        raise ValueError(f'{error}; set_attn_implementation("sdpa") undoes unpad') from error
    return None if structure.hooked else packability


def _fits(name: str, value) -> bool:
    """Whether an argument fits the packed form too: not a cache, weights, or a router's numbers."""
    if name in ROWS or name in SETTINGS or value is False or "label" in name:
        return True
    return not isinstance(value, Tensor) and value in (0, "")


def _configures_more(base: PreTrainedModel) -> bool:
    """Whether the configuration asks for outputs that fit the padded form only."""
    configured = (name for name in vars(base.config) if name.startswith(("output_", "_output_")))
    return any(getattr(base.config, name) for name in configured if "hidden_states" not in name)


def _packed(name: str, value: Tensor, rows: Tensor, mask: Tensor) -> Tensor | None:
    """The real rows of [B, L, ...] as [1, T, ...], or of positions on several axes [R, B, L] as [R, 1, T]."""
    if name == "position_ids" and value.dim() == 3:
        if value.shape[2] != mask.shape[1] or value.shape[1] not in (1, len(mask)):
            return None
        return value.expand(-1, *mask.shape).flatten(1).index_select(1, rows)[:, None]
    if name == "position_ids" and value.dim() > 2:
        return None
    return value.expand(*mask.shape, *value.shape[2:]).flatten(0, 1).index_select(0, rows)[None]


def _has_packed_rows(name: str, value, call: PackedCall) -> bool:
    if value is None:
        return True
    layers = value if isinstance(value, tuple | list) else (value,)
    return name in OUTPUTS and all(
        isinstance(one, Tensor) and one.dim() == 3 and one.shape[:2] == (1, len(call.rows)) for one in layers
    )


def _unpacked(value: Tensor | tuple | list | None, call: PackedCall):
    if isinstance(value, tuple | list):
        return type(value)(_unpacked(one, call) for one in value)
    if value is None:
        return None
    padded = value.new_zeros(call.shape[0] * call.shape[1], value.shape[2])
    return padded.index_copy(0, call.rows, value[0]).unflatten(0, call.shape)


# --- the pooled output ------------------------------------------------------------------------------------------------


POOLINGS = (  # of hidden states [B, L, E]; the second is ALBERT's
    lambda base, hidden: base.pooler(hidden),
    lambda base, hidden: base.pooler_activation(base.pooler(hidden[:, 0])),
)
_poolings: dict[tuple, Callable | None] = {}  # classes of the model and of its pooler -> the one of POOLINGS


@uncompiled
def _pooling(base: PreTrainedModel) -> Callable | None:
    """The one of POOLINGS that gives the pooled output, by trial; None: neither."""
    kinds = (plain_class(type(base)), *(type(getattr(base, name, None)) for name in ("pooler", "pooler_activation")))
    if kinds not in _poolings:
        try:
            _poolings[kinds] = try_on_twin(base, _try_poolings)
        except (ValueError, TypeError, RuntimeError, AttributeError, IndexError):
            _poolings[kinds] = None
    return _poolings[kinds]


def _try_poolings(base: PreTrainedModel) -> Callable | None:
    base.set_attn_implementation("eager")
    ids = ordinary_sequences(base, (6, 6)).values.view(2, 6)
    outputs = base(**arguments_for(base, {"input_ids": ids, "return_dict": True}))
    for pooling in POOLINGS:
        try:
            pooled = pooling(base, outputs.last_hidden_state)
        except (AttributeError, TypeError, RuntimeError, IndexError):
            continue
        if pooled.shape == outputs.pooler_output.shape and torch.allclose(pooled, outputs.pooler_output, 1e-4, 1e-5):
            return pooling
    return None
