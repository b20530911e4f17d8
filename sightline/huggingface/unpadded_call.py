"""A padded call that runs packed inside: which calls can, and how what comes out is put back to where it was padded.

A call runs packed only if every argument and every output is known by what it means: tokens and their positions, hidden states,
and a pooled output that is proved to be made of the first token's. Any other call runs padded, as the model does by itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel

from sightline.huggingface.caller_packing import arguments_by_name
from sightline.huggingface.head_rows import ROWS, gives_tuple, needs_padding, side_of_padding
from sightline.huggingface.packability import Way, arguments_for, packable, packing, positions_in, probe
from sightline.huggingface.row_layout import NAME, packing_in_use
from sightline.huggingface.twin import apart, plain_class
from sightline.sequences import Sequences

OUTPUTS = {"last_hidden_state", "hidden_states"}  # beside a pooled one; all others fit the padded form only
SETTINGS = {"output_hidden_states", "use_cache", "return_dict", "num_items_in_batch"}


@dataclass(frozen=True)
class PackedCall:
    """A padded call [B, L] as a packed one: its texts, which of the B * L rows they are, and the arguments in packed form."""

    texts: Sequences
    rows: Tensor
    shape: tuple[int, int]
    arguments: dict


def call_unpadded(base: PreTrainedModel, whole: Callable, args: tuple, kwargs: dict):
    """What `whole(base, *args, **kwargs)` returns, computed without its padding where that is known to be right."""
    call = _packed_call(base, whole, args, kwargs)
    if call is None:
        return whole(base, *args, **kwargs)
    with packing(call.texts, call.rows):
        outputs = whole(base, **arguments_for(base, call.arguments))
    pools = outputs.get("pooler_output") is not None
    pool = _pooling(base) if pools else None
    rows = {name: outputs[name] for name in list(outputs.keys()) if name != "pooler_output"}
    if pools and pool is None or not all(_is_of_rows(name, value, call) for name, value in rows.items()):
        return whole(base, *args, **kwargs)
    for name, value in rows.items():
        outputs[name] = _unpacked(value, call)
    if pools:  # it was made from the first token of the one long row
        outputs["pooler_output"] = pool(base, outputs["last_hidden_state"])
    return outputs


@torch.compiler.disable  # it depends on what is real
def _packed_call(base: PreTrainedModel, whole: Callable, args: tuple, kwargs: dict) -> PackedCall | None:
    if base.config._attn_implementation != NAME or packing_in_use.get() is not None:
        return None
    arguments = arguments_by_name(whole, base, args, kwargs)
    arguments = {name: value for name, value in arguments.items() if value is not None}
    mask, tokens = arguments.pop("attention_mask", None), arguments.get("input_ids")
    tokens = arguments.get("inputs_embeds") if tokens is None else tokens
    if not (isinstance(mask, Tensor) and mask.dim() == 2 and isinstance(tokens, Tensor)):
        return None
    if mask.shape != tokens.shape[:2] or not _is_known(base, arguments):
        return None
    mask = mask != 0  # as transformers reads it, whatever the numbers and their precision
    if side_of_padding(mask) != "right" or bool(mask.all()) or gives_tuple():
        return None
    again = base.training and any(getattr(part, "gradient_checkpointing", False) for part in base.modules())
    way = None if again else packable(base)  # first, since it refuses a model that has changed
    if way is None or needs_padding(mask, arguments.get("input_ids")):
        return None
    rows = mask.flatten().nonzero().flatten()
    packed = {name: _packed(name, arguments[name], rows, mask) for name in ROWS & arguments.keys()}
    if any(value is None for value in packed.values()):
        return None
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), mask.sum(1).cpu().cumsum(0)])
    texts = Sequences(packed["input_ids"][0] if "input_ids" in packed else rows, offsets)
    if way.first is not None and "position_ids" not in packed:
        counted = way if "input_ids" in packed else Way(True, way.first)
        packed["position_ids"] = positions_in(texts, counted)[None]
    return PackedCall(texts, rows, mask.shape, {**arguments, **packed})


def _is_known(base: PreTrainedModel, arguments: dict) -> bool:
    """Whether nothing is given or configured that fits the padded form only: a cache, weights, a router's numbers, a tuple."""
    for name, value in arguments.items():
        if (
            name in ROWS
            or value is False
            or "label" in name
            or name in SETTINGS
            and not (name == "use_cache" and value)
        ):
            continue
        if isinstance(value, Tensor) or value not in (0, ""):
            return False
    configured = (name for name in vars(base.config) if name.startswith(("output_", "_output_")))
    return not any(getattr(base.config, name) for name in configured if "hidden_states" not in name)


def _packed(name: str, value: Tensor, rows: Tensor, mask: Tensor) -> Tensor | None:
    """The real rows of [B, L, ...] as [1, T, ...], or of positions on several axes [R, B, L] as [R, 1, T]."""
    if name == "position_ids" and value.dim() == 3:
        if value.shape[2] != mask.shape[1] or value.shape[1] not in (1, len(mask)):
            return None
        return value.expand(-1, *mask.shape).flatten(1).index_select(1, rows)[:, None]
    if name == "position_ids" and value.dim() > 2:
        return None
    return value.expand(*mask.shape, *value.shape[2:]).flatten(0, 1).index_select(0, rows)[None]


def _is_of_rows(name: str, value, call: PackedCall) -> bool:
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


# --- the pooled output --------------------------------------------------------------------------------------------------


def _by_pooler(base: PreTrainedModel, hidden: Tensor) -> Tensor:
    return base.pooler(hidden)


def _by_first_row(base: PreTrainedModel, hidden: Tensor) -> Tensor:  # as ALBERT
    return base.pooler_activation(base.pooler(hidden[:, 0]))


_poolings: dict[tuple, Callable | None] = {}  # class of the model and of its pooler -> by which of these it is made


@torch.compiler.disable
def _pooling(base: PreTrainedModel) -> Callable | None:
    """How the model makes its pooled output of its hidden states [B, L, E], found by trial; None: in another way."""
    kinds = (plain_class(type(base)), *(type(getattr(base, name, None)) for name in ("pooler", "pooler_activation")))
    if kinds not in _poolings:
        try:
            _poolings[kinds] = apart(base, _try_poolings)
        except (ValueError, TypeError, RuntimeError, AttributeError, IndexError):
            _poolings[kinds] = None
    return _poolings[kinds]


def _try_poolings(base: PreTrainedModel) -> Callable | None:
    base.set_attn_implementation("eager")
    ids = probe(base, (6, 6)).values.view(2, 6)
    outputs = base(**arguments_for(base, {"input_ids": ids, "return_dict": True}))
    for pooling in (_by_pooler, _by_first_row):
        try:
            pooled = pooling(base, outputs.last_hidden_state)
        except (AttributeError, TypeError, RuntimeError, IndexError):
            continue
        if pooled.shape == outputs.pooler_output.shape and torch.allclose(pooled, outputs.pooler_output, 1e-4, 1e-5):
            return pooling
    return None
