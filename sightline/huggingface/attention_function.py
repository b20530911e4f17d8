"""The attention that transformers calls by the name "sightline": any of its models, padded or packed.

Two functions are registered. `mask` is called by a model once per forward (and once per kind of layer); it computes no
mask but returns a stand-in that carries a plan. `attend` is called by every layer with that stand-in; it takes the rows
that are real, calls `sightline.attention`, and puts the result back. What it cannot compute exactly, it refuses.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, cast

import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import sdpa_mask

from sightline.attention import Origin, Pattern, attention
from sightline.huggingface.caller_packing import PackedInput, packed_input, packing_of_offsets, packing_of_positions
from sightline.huggingface.head_rows import needs_padding, refuse_whole_texts
from sightline.huggingface.mask_rules import MaskRule, mask_rule
from sightline.huggingface.packability import check_packed_input
from sightline.huggingface.row_layout import (
    NAME,
    WHERE,
    Grid,
    Packing,
    Rows,
    has_holes,
    packed,
    packing_in_use,
    padded,
    proving,
    whole_rows,
)


@dataclass(frozen=True, eq=False)
class MaskPlan:
    """What one mask says, and what follows from it, computed when the first layer needs it and kept for the others.

    Without a `rule` the mask must be evaluated. `keep` [B, Lk] says which keys are real (None: all), `packing` is that
    of `run` and `unpad`, and with `every_row` rows of padding are computed as eager attention computes them.
    """

    grid: Grid
    rule: MaskRule | Any  # Any stands for None
    keep: Tensor | None
    packing: Packing | None
    every_row: bool
    device: torch.device
    arguments: dict = field(repr=False)  # of `sdpa_mask`, to evaluate the mask

    @cached_property
    def rows(self) -> Rows:
        if self.packing is not None:
            return packed(self.packing, self.grid, self.rule)
        return padded(self.rule, self.grid, self.keep, self.device)

    @cached_property
    def packed_input(self) -> PackedInput | None:
        return packed_input()

    @cached_property
    def blind(self) -> Tensor:
        """Which queries see nothing, [B, 1, Lq, 1]."""
        return ~self.evaluated.any(-1, keepdim=True)

    @cached_property
    def evaluated(self) -> Tensor:
        return cast(Tensor, sdpa_mask(**self.arguments, allow_is_causal_skip=False, allow_is_bidirectional_skip=False))


class StandIn(torch.Tensor):
    """A tensor [B, 1, Lq, Lk] of one number, expanded by strides, in place of a mask, with the mask's plan.

    It may be passed on, indexed and moved; a model that computes with it is refused.
    """

    plan: MaskPlan | None = None

    @classmethod
    def of(cls, plan: MaskPlan, dtype: torch.dtype) -> StandIn:
        one = torch.full(
            (1, 1, 1, 1), torch.nan, dtype=dtype, device=plan.device
        )  # NaN shows where it is computed with
        stand_in = one.expand(plan.grid.batch, 1, plan.grid.queries, plan.grid.keys).as_subclass(cls)
        stand_in.plan = plan
        return stand_in

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        result = super().__torch_function__(function, types, args, kwargs or {})
        if isinstance(result, StandIn) and result.plan is None:
            if function not in _PASSING_ON or result.shape != args[0].shape:
                raise ValueError(
                    f"{WHERE}: expected the model to pass its mask on unchanged, but it computes with it "
                    f"({getattr(function, '__name__', function)}); use another implementation for this model"
                )
            result.plan = args[0].plan
        return result


_PASSING_ON = (Tensor.__getitem__, Tensor.to, Tensor.contiguous, Tensor.detach, Tensor.clone, Tensor.expand)


@torch.compiler.disable  # a compiled graph breaks here, and in `attend`: what they do depends on what is real
def mask(
    batch_size: int,
    q_length: int,
    kv_length: int,
    q_offset: int | Tensor = 0,
    kv_offset: int | Tensor = 0,
    mask_function: Any = None,
    attention_mask: Tensor | None = None,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    use_vmap: bool = False,
    **_,
) -> StandIn:
    """What a model gets for a mask: a stand-in that carries the plan. Arguments as transformers' `sdpa_mask`."""
    q_offset, kv_offset = int(q_offset), int(kv_offset)
    grid = Grid(batch_size, q_length, kv_length, q_offset, kv_offset)
    keep = None
    if attention_mask is not None:
        keep = attention_mask[:, kv_offset : kv_offset + kv_length].to(torch.bool)
        keep = torch.nn.functional.pad(keep, (0, kv_length - keep.shape[1]))  # a fixed cache has room for more
        keep = None if bool(keep.all()) else keep.expand(batch_size, -1)
    rule, packing = mask_rule(mask_function), packing_in_use.get()
    if packing is not None and (rule is None or keep is not None):
        raise ValueError(
            f"{WHERE}: expected packed input under a mask of distances only, got another mask; "
            "give this model padded input"
        )
    every_row = keep is not None and packing is None and _needs_every_row(rule, keep, grid)
    sizes = {"batch_size": batch_size, "q_length": q_length, "kv_length": kv_length}
    places = {"q_offset": q_offset, "kv_offset": kv_offset, "use_vmap": use_vmap, "device": device}
    arguments = {**sizes, **places, "mask_function": mask_function, "attention_mask": attention_mask}
    return StandIn.of(MaskPlan(grid, rule, keep, packing, every_row, torch.device(device), arguments), dtype)


@torch.compiler.disable
def attend(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    is_causal: bool | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    position_bias: Tensor | None = None,
    cu_seq_lens_q: Tensor | None = None,
    cu_seq_lens_k: Tensor | None = None,
    position_ids: Tensor | None = None,
    **others,
) -> tuple[Tensor, None]:
    """One layer's attention, as transformers asks for it.

    Shapes: query [B, H, Lq, D], key [B, G, Lk, D], value [B, G, Lk, Dv] -> (out [B, Lq, H, Dv], None).
    Rows of padding hold unspecified values.
    Raises: ValueError for what would not be exact.
    """
    _refuse(others)
    batch, _, queries, _ = query.shape
    grid = Grid(batch, queries, key.shape[2], key.shape[2] - queries)
    bias = None if position_bias is None else position_bias.reshape((-1, *position_bias.shape[-3:]))
    if query.dtype != value.dtype and torch.is_autocast_enabled(query.device.type):
        lower = torch.get_autocast_dtype(query.device.type)
        query, key, value = query.to(lower), key.to(lower), value.to(lower)
    plan = getattr(attention_mask, "plan", None)
    if bias is not None:
        _refuse_bias()
    offsets = (
        None if cu_seq_lens_q is None else (cu_seq_lens_q, cu_seq_lens_q if cu_seq_lens_k is None else cu_seq_lens_k)
    )
    packing = _packing(grid, plan, attention_mask is None, offsets, position_ids)
    if attention_mask is None:
        causal = getattr(module, "is_causal", True) if is_causal is None else is_causal
        rows = _rows_without_mask(grid, packing, bool(causal) and queries > 1, sliding_window)
    elif plan is not None and plan.rule is not None and not plan.every_row:
        if (queries, grid.keys) != (plan.grid.queries, plan.grid.keys):
            raise ValueError(
                f"{WHERE}: expected {plan.grid.queries} queries and {plan.grid.keys} keys, as the mask was made for, "
                f"got {queries} and {grid.keys}; use another implementation for this model"
            )
        rows = plan.rows if packing is None else packed(packing, grid, plan.rule)
    else:
        rows = whole_rows(grid, Pattern())
        seen = attention_mask if plan is None else plan.evaluated | plan.blind
        hidden = _as_bias(seen, query, grid)
        bias = hidden if bias is None else bias + hidden
    operands = (_rows(query, rows.queries), _rows(key, rows.keys), _rows(value, rows.keys))
    options = {"scale": scaling, "dropout": dropout, "softcap": softcap, "sink": s_aux}
    options = {name: option for name, option in options.items() if option is not None}
    unpadded = None if packing is None else packing.rows
    origin = Origin(module, rows.queries, rows.keys, (batch, queries, grid.keys), unpadded)
    out = _attend(*operands, rows, origin, bias, options)
    if rows.queries is not None:
        out = out.new_zeros(batch * queries, *out.shape[1:]).index_copy(0, rows.queries, out)
    out = out.unflatten(0, (batch, queries))
    if plan is not None and (plan.every_row or plan.rule is None) and bool(plan.blind.any()):
        alike = _alike(query, key, value, position_bias, options)
        out = torch.where(plan.blind.transpose(1, 2), alike, out).contiguous()
    return out, None


# --- what is computed -------------------------------------------------------------------------------------------------


def _attend(q: Tensor, k: Tensor, v: Tensor, rows: Rows, origin: Origin, bias: Tensor | None, options: dict) -> Tensor:
    options = options | {"key_offsets": None if torch.equal(rows.offsets, rows.key_offsets) else rows.key_offsets}
    if bias is None or rows.aligned:
        return attention(q, k, v, rows.offsets, rows.pattern, bias=bias, origin=origin, **options).out
    return _one_by_one(q, k, v, rows, origin, bias, options)


def _one_by_one(q: Tensor, k: Tensor, v: Tensor, rows: Rows, origin: Origin, bias: Tensor, options: dict) -> Tensor:
    """Each sequence with its own piece of the bias, which the model computed for the batch with its padding."""
    batch, queries, keys = origin.shape  # pyright: ignore[reportGeneralTypeIssues]  # every call from here has one
    places = torch.arange(batch * queries, device=q.device) if rows.queries is None else rows.queries
    key_places = torch.arange(batch * keys, device=q.device) if rows.keys is None else rows.keys
    out = [q.new_zeros(0, q.shape[1], v.shape[2])]
    for s in range(len(rows.offsets) - 1):
        at, key_at = (slice(*o[s : s + 2].tolist()) for o in (rows.offsets, rows.key_offsets))
        if at.stop == at.start:
            continue
        own = places[at]
        row = int(own[0]) // queries if len(bias) > 1 else 0
        piece = bias[row][:, own % queries][:, :, key_places[key_at] % keys]
        offsets, key_offsets = (torch.tensor([0, t.stop - t.start]) for t in (at, key_at))
        one = {"key_offsets": key_offsets, "bias": piece[None], "origin": origin._replace(sequence=s, own=own)}
        out.append(attention(q[at], k[key_at], v[key_at], offsets, rows.pattern, **options | one).out)
    return torch.cat(out)


def _rows(t: Tensor, index: Tensor | None) -> Tensor:
    """[B, H, L, D] -> [B * L, H, D], or the rows of it in `index`; no copy where the batch lies so in memory."""
    rows = t.transpose(1, 2).flatten(0, 1)
    return rows if index is None else rows.index_select(0, index)


def _as_bias(ready: Tensor, query: Tensor, grid: Grid) -> Tensor:
    """A ready-made mask as numbers to add to the scores."""
    if not (ready.dim() == 4 and ready.shape[2] in (1, grid.queries) and ready.shape[3] in (1, grid.keys)):
        raise ValueError(
            f"{WHERE}: expected a mask [B, L] or [B, 1 or H, {grid.queries}, {grid.keys}], got {list(ready.shape)}; "
            "use another implementation for this model"
        )
    ready = ready.expand(-1, -1, grid.queries, grid.keys)
    if ready.dtype == torch.bool:
        return torch.zeros(ready.shape, dtype=query.dtype, device=query.device).masked_fill(~ready, -torch.inf)
    return ready.to(query.dtype)


def _needs_every_row(rule: MaskRule | None, keep: Tensor, grid: Grid) -> bool:
    """Whether `padded` leaves out what may be read: texts without a token, holes in a window, padding in a pattern."""
    windowed = rule is not None and (rule.pattern.left is not None or rule.pattern.right not in (None, 0))
    if not bool(keep.any(1).all()) or windowed and has_holes(keep):
        return True
    if rule is None or rule.sequences is not None or rule == MaskRule() or grid.queries == 1:
        return False
    asking = keep[:, grid.shift : grid.shift + grid.queries]
    return asking.shape[1] == grid.queries and not bool(asking.all()) and needs_padding(asking)


def _alike(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, options: dict) -> Tensor:
    """What eager attention gives a query that sees nothing: all keys alike, [B, Lq, H, Dv], with gradients."""
    if "sink" in options:  # which then takes all
        return v.new_zeros(len(q), q.shape[2], q.shape[1], v.shape[3])
    k, v = (t.repeat_interleave(q.shape[1] // t.shape[1], 1) for t in (k, v))
    scores = q @ k.transpose(2, 3) * options.get("scale", q.shape[3] ** -0.5)
    if "softcap" in options:
        scores = options["softcap"] * torch.tanh(scores / options["softcap"])
    scores = scores if bias is None else scores + bias
    weights = (scores - scores.detach()).softmax(-1)
    return (torch.nn.functional.dropout(weights, options.get("dropout", 0.0)) @ v).transpose(1, 2)


def _rows_without_mask(grid: Grid, packing: Packing | None, causal: bool, window: int | None) -> Rows:
    """A model that made no mask: everything is seen, or all that came before."""
    if window is not None and not causal and grid.keys > window:
        raise ValueError(
            f"{WHERE}: expected a mask for a window of {window} keys, got none; "
            "use another implementation for this model"
        )
    pattern = Pattern(None if window is None or not causal else window - 1, 0 if causal else None)
    return whole_rows(grid, pattern) if packing is None else packed(packing, grid, MaskRule(pattern))


# --- which packing ----------------------------------------------------------------------------------------------------


def _packing(
    grid: Grid, plan: MaskPlan | None, no_mask: bool, offsets: tuple[Tensor, Tensor] | None, positions: Tensor | None
) -> Packing | None:
    """The packing of a call, or None where input is not packed or the mask's rule knows of it. The first that applies:

    - the packing of `run` or `unpad`, where one is in use;
    - that of the offsets, where the call has cu_seq_lens_q;
    - that of positions that begin again, under a mask which is a rule and numbers no sequences itself, where the caller
      gave packed input or no attention_mask.

    Raises: ValueError where the caller gave packed input that the model drops or cannot take, or a padding mask too.
    """
    by_rule = no_mask or plan is not None and plan.keep is None and plan.rule is not None
    numbered = by_rule and plan is not None and getattr(plan.rule, "sequences", None) is not None
    masked = plan is not None and plan.arguments["attention_mask"] is not None
    packing = packing_in_use.get()
    caller = None if packing is not None or grid.queries == 1 else _untrusted_input(plan)
    if positions is None and caller is not None and caller.axes:  # these models keep them for their rotations only
        positions = caller.positions
    if packing is None and offsets is not None:
        packing = packing_of_offsets(*offsets)
    by_positions = by_rule and not numbered and (caller is not None or not masked) and grid.queries == grid.keys
    if packing is None and by_positions and positions is not None:
        packing = packing_of_positions(positions, grid.batch, grid.queries)
    if packing is not None and not by_rule:
        raise ValueError(f"{WHERE}: expected packed input without a padding mask, got both; leave attention_mask out")
    if caller is not None and packing is None and not numbered:
        raise ValueError(
            f"{WHERE}: expected {type(caller.model).__name__} to pass packed input on to its attention, but it does "
            "not; give it padded input, or use sightline.huggingface.run(model, sequences)"
        )
    return packing


def _untrusted_input(plan: MaskPlan | None) -> PackedInput | None:
    """Packed input from whoever called the model, which may not be made for it; None for other input and in trials."""
    if proving.get() or plan is not None and plan.packing is not None:
        return None
    caller = packed_input() if plan is None else plan.packed_input
    if caller is not None:
        check_packed_input(caller.model, caller.positions)
        refuse_whole_texts(caller.model)
    return caller


# --- what is refused --------------------------------------------------------------------------------------------------


def _refuse(others: dict) -> None:
    if others.get("output_attentions"):
        raise ValueError(
            f"{WHERE}: expected output_attentions=False, since no weights are computed here; look with "
            'sightline.watch(model), or use attn_implementation="eager"'
        )
    for name in ("cache", "head_mask", "indices", "block_indices", "block_table"):
        if others.get(name) is not None:
            raise ValueError(
                f"{WHERE}: expected attention over all keys by their distance, got {name!r}, which is not computed "
                'here; use attn_implementation="eager"'
            )


def _refuse_bias() -> None:
    if packing_in_use.get() is not None:
        raise ValueError(
            f"{WHERE}: expected a model without a bias for pairs of positions, which packed input would have between "
            "all its tokens, got one; give it padded input, or batches of equal lengths"
        )


AttentionInterface.register(NAME, attend)
AttentionMaskInterface.register(NAME, mask)
