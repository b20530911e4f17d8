"""A padded call of a model after `unpad`: packed on the way in, padded again on the way out."""

from __future__ import annotations

import inspect
from collections.abc import Callable

import torch
from torch import Tensor
from transformers import PreTrainedModel

from sightline.huggingface.packability import Way, arguments_for, packable, packing, positions_in
from sightline.huggingface.rows import NAME, packing_in_use
from sightline.sequences import Sequences

ROWS = {
    "input_ids",
    "inputs_embeds",
    "token_type_ids",
    "position_ids",
}  # arguments with one entry for each token


def call_unpadded(base: PreTrainedModel, whole: Callable, args: tuple, kwargs: dict):
    """What `whole`, the forward of the model's class, gives for a call: computed packed where that can be, put back padded."""
    call = _packable(base, whole, args, kwargs)
    if call is None:
        return whole(base, *args, **kwargs)
    batch, rows, shape, arguments = call
    with packing(batch):
        outputs = whole(base, **arguments_for(base, arguments))
    for name in list(outputs.keys()):
        outputs[name] = _back(outputs[name], rows, shape)
    if outputs.get("pooler_output") is not None:  # made from the first token of the one long row
        outputs["pooler_output"] = base.pooler(outputs["last_hidden_state"])
    return outputs


@torch.compiler.disable  # it depends on what is real
def _packable(base: PreTrainedModel, whole: Callable, args: tuple, kwargs: dict):
    """(sequences, rows kept, padded shape, packed arguments) of a call that can be packed, else None."""
    if base.config._attn_implementation != NAME or packing_in_use.get() is not None:
        return None
    given = dict(inspect.signature(whole).bind_partial(base, *args, **kwargs).arguments)
    given.update(given.pop("kwargs", {}))
    given = {name: value for name, value in given.items() if value is not None and name != "self"}
    mask, tokens = given.pop("attention_mask", None), given.get("input_ids", given.get("inputs_embeds"))
    if not (
        isinstance(mask, Tensor) and mask.dim() == 2 and tokens is not None and mask.shape == tokens.shape[:2]
    ):
        return None
    mask = mask != 0  # as transformers reads it, whatever the numbers and their precision
    plain = all(name in ROWS or _is_a_setting(value) for name, value in given.items())
    padded = bool((mask[:, :-1] | ~mask[:, 1:]).all()) and not bool(mask.all())  # on the right, and at all
    asked = given.get("use_cache") or given.get("output_attentions") or given.get("return_dict") is False
    again = base.training and any(getattr(part, "gradient_checkpointing", False) for part in base.modules())
    if not (plain and padded) or asked or again:
        return None
    way = packable(base)
    if way is None:
        return None
    rows = mask.flatten().nonzero().flatten()
    packed = {name: given[name].expand(*mask.shape, *given[name].shape[2:]) for name in ROWS & given.keys()}
    packed = {name: value.flatten(0, 1).index_select(0, rows)[None] for name, value in packed.items()}
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), mask.sum(1).cpu().cumsum(0)])
    batch = Sequences(packed["input_ids"][0] if "input_ids" in packed else rows, offsets)
    if way.first is not None and "position_ids" not in packed:
        counted = way if "input_ids" in packed else Way(True, way.first)
        packed["position_ids"] = positions_in(batch, counted)[None]
    return batch, rows, mask.shape, {**given, **packed}


def _is_a_setting(value) -> bool:
    return isinstance(value, (bool, str, int, float)) or isinstance(value, Tensor) and value.dim() == 0


def _back(value, rows: Tensor, shape: tuple[int, int]):
    if isinstance(value, Tensor) and value.shape[:2] == (1, len(rows)):
        out = value.new_zeros(shape[0] * shape[1], *value.shape[2:])
        return out.index_copy(0, rows, value[0]).unflatten(0, shape)
    if isinstance(value, (tuple, list)):
        return type(value)(_back(one, rows, shape) for one in value)
    return value
