"""The attention that transformers calls by the name "sightline": any of its models, padded or packed, through our operator.

Two functions are registered. `mask` is called by a model once per forward (and once per kind of layer); it computes no
mask, but returns a stand-in that carries the rule. `attend` is called by every layer with that stand-in; it takes the rows
that are real, calls `sightline.attention`, and puts the result back. Whatever it does not know how to do exactly, it refuses.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import sdpa_mask

from sightline.attention import Pattern, attention
from sightline.huggingface.caller_packing import Asked, asked_packing, of_offsets, of_positions
from sightline.huggingface.head_rows import needs_padding, refuse_whole_texts
from sightline.huggingface.mask_rules import Reading, read
from sightline.huggingface.packability import vouch
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
)


@dataclass(frozen=True, eq=False)
class Rule:
    """What one mask says, and what follows from it, worked out when a layer first asks and kept for the others."""

    grid: Grid
    reading: Reading | None  # None: no rule can be read, so that the mask must be evaluated
    keep: Tensor | None  # bool [B, Lk]: which keys are real; None: all
    packing: Packing | None  # of `run` and `unpad`
    every_row: bool  # rows of padding are computed as eager attention computes them
    device: torch.device
    arguments: dict = field(repr=False)  # to evaluate the mask with

    @cached_property
    def rows(self) -> Rows:
        if self.packing is not None:
            return packed(self.packing, self.grid, self.reading)
        return padded(self.reading, self.grid, self.keep, self.device)

    @cached_property
    def asked(self) -> Asked | None:
        return asked_packing()

    @cached_property
    def blind(self) -> Tensor:
        """Which queries see nothing, [B, 1, Lq, 1]."""
        return ~self.evaluated.any(-1, keepdim=True)

    @cached_property
    def evaluated(self) -> Tensor:
        return sdpa_mask(**self.arguments, allow_is_causal_skip=False, allow_is_bidirectional_skip=False)


class StandIn(torch.Tensor):
    """A tensor [B, 1, Lq, Lk] of one number, seen through strides, in place of a mask, with the mask's rule.

    It may be handed on, looked up in and moved; a model that computes with it is refused.
    """

    rule: Rule | None = None

    @classmethod
    def of(cls, rule: Rule, dtype: torch.dtype) -> StandIn:
        one = torch.full((1, 1, 1, 1), torch.nan, dtype=dtype, device=rule.device)
        made = one.expand(rule.grid.batch, 1, rule.grid.queries, rule.grid.keys).as_subclass(cls)
        made.rule = rule  # and should a way be found around __torch_function__, NaN would show it
        return made

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        result = super().__torch_function__(function, types, args, kwargs or {})
        if isinstance(result, StandIn) and result.rule is None:
            if function not in _HANDED_ON or result.shape != args[0].shape:
                raise ValueError(
                    f"{WHERE}: expected the model to pass its mask on as it was made, but it computes with it "
                    f"({getattr(function, '__name__', function)}); use another implementation for this model"
                )
            result.rule = args[0].rule
        return result


_HANDED_ON = (Tensor.__getitem__, Tensor.to, Tensor.contiguous, Tensor.detach, Tensor.clone, Tensor.expand)


@torch.compiler.disable  # a compiled graph breaks here, and in `attend`: what they do depends on what is real
def mask(
    batch_size: int,
    q_length: int,
    kv_length: int,
    q_offset: int | Tensor = 0,
    kv_offset: int | Tensor = 0,
    mask_function=None,
    attention_mask: Tensor | None = None,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    use_vmap: bool = False,
    **_,
) -> StandIn:
    """What a model gets for a mask: a stand-in that carries the rule. Arguments as transformers' `sdpa_mask`."""
    q_offset, kv_offset = int(q_offset), int(kv_offset)
    grid = Grid(batch_size, q_length, kv_length, q_offset, kv_offset)
    keep = None
    if attention_mask is not None:
        keep = attention_mask[:, kv_offset : kv_offset + kv_length].to(torch.bool)
        keep = torch.nn.functional.pad(keep, (0, kv_length - keep.shape[1]))  # a fixed cache has room for more
        keep = None if bool(keep.all()) else keep.expand(batch_size, -1)
    arguments = {
        "batch_size": batch_size,
        "q_length": q_length,
        "kv_length": kv_length,
        "q_offset": q_offset,
        "kv_offset": kv_offset,
        "mask_function": mask_function,
        "attention_mask": attention_mask,
        "use_vmap": use_vmap,
        "device": device,
    }
    reading, packing = read(mask_function), packing_in_use.get()
    every_row = keep is not None and packing is None and _needs_every_row(reading, keep, grid)
    rule = Rule(grid, reading, keep, packing, every_row, torch.device(device), arguments)
    if rule.packing is not None and (rule.reading is None or keep is not None):
        raise ValueError(
            f"{WHERE}: expected packed input under a mask of distances only, got another mask; give this model padded input"
        )
    return StandIn.of(rule, dtype)


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

    Shapes: query [B, H, Lq, D], key [B, G, Lk, D], value [B, G, Lk, Dv] -> (out [B, Lq, H, Dv], None); rows that are padding
    get zeros or what their own query finds, as it comes cheaper.
    Raises: ValueError, with a sentence, for all that would not be exact.
    """
    _refuse(others)
    batch, heads, queries, _ = query.shape
    grid = Grid(batch, queries, key.shape[2], key.shape[2] - queries)
    bias = None if position_bias is None else position_bias.reshape((-1, *position_bias.shape[-3:]))
    if query.dtype != value.dtype and torch.is_autocast_enabled(query.device.type):
        lower = torch.get_autocast_dtype(query.device.type)
        query, key, value = query.to(lower), key.to(lower), value.to(lower)
    rule = getattr(attention_mask, "rule", None)
    given = _given_packing(grid, rule, attention_mask, cu_seq_lens_q, cu_seq_lens_k, position_ids, bias is not None)
    if attention_mask is None:
        causal = getattr(module, "is_causal", True) if is_causal is None else is_causal
        rows = _without_mask(grid, given, bool(causal) and queries > 1, sliding_window)
    elif rule is not None and rule.reading is not None and not rule.every_row:
        if (queries, key.shape[2]) != (rule.grid.queries, rule.grid.keys):
            raise ValueError(
                f"{WHERE}: expected {rule.grid.queries} queries and {rule.grid.keys} keys, as the mask was made for, got "
                f"{queries} and {key.shape[2]}; use another implementation for this model"
            )
        rows = rule.rows if given is None else packed(given, grid, rule.reading)
    else:
        rows = Rows(*_even(grid), Pattern(), aligned=True)
        seen = attention_mask if rule is None else rule.evaluated | rule.blind
        hidden = _as_bias(seen, query, grid)
        bias = hidden if bias is None else bias + hidden
    operands = (_rows(query, rows.queries), _rows(key, rows.keys), _rows(value, rows.keys))
    how = {"scale": scaling, "dropout": dropout, "softcap": softcap, "sink": s_aux}
    how = {name: given for name, given in how.items() if given is not None}
    out = _attend(*operands, rows, grid, bias, how)
    if rows.queries is not None:
        out = out.new_zeros(batch * queries, *out.shape[1:]).index_copy(0, rows.queries, out)
    out = out.unflatten(0, (batch, queries))
    if rule is not None and (rule.every_row or rule.reading is None) and bool(rule.blind.any()):
        alike = _alike(query, key, value, position_bias, how)
        out = torch.where(rule.blind.transpose(1, 2), alike, out).contiguous()
    return out, None


# --- what is computed ---------------------------------------------------------------------------------------------------


def _attend(q: Tensor, k: Tensor, v: Tensor, rows: Rows, grid: Grid, bias: Tensor | None, how: dict) -> Tensor:
    offsets, key_offsets = rows.offsets, rows.key_offsets
    if torch.equal(offsets, key_offsets):
        key_offsets = None
    if bias is None or rows.aligned:
        return attention(q, k, v, offsets, rows.pattern, key_offsets=key_offsets, bias=bias, **how).out
    return _one_by_one(q, k, v, rows, grid, bias, how)


def _one_by_one(q: Tensor, k: Tensor, v: Tensor, rows: Rows, grid: Grid, bias: Tensor, how: dict) -> Tensor:
    """Each sequence with its own piece of the bias, which the model made for the batch as it lay."""
    device = q.device
    places = torch.arange(grid.batch * grid.queries, device=device) if rows.queries is None else rows.queries
    key_places = torch.arange(grid.batch * grid.keys, device=device) if rows.keys is None else rows.keys
    out = [q.new_zeros(0, q.shape[1], v.shape[2])]
    for s in range(len(rows.offsets) - 1):
        mine, keys = (slice(*o[s : s + 2].tolist()) for o in (rows.offsets, rows.key_offsets))
        if mine.stop == mine.start:
            continue
        row = int(places[mine.start]) // grid.queries
        piece = bias[row if len(bias) > 1 else 0][:, places[mine] % grid.queries][:, :, key_places[keys] % grid.keys]
        ends = (torch.tensor([0, t.stop - t.start]) for t in (mine, keys))
        starts, key_starts = ends
        attended = attention(
            q[mine], k[keys], v[keys], starts, rows.pattern, key_offsets=key_starts, bias=piece[None], **how
        )
        out.append(attended.out)
    return torch.cat(out)


def _rows(t: Tensor, index: Tensor | None) -> Tensor:
    """[B, H, L, D] -> [B * L, H, D], or the rows of it that are named; no copy where the batch lies so already."""
    rows = t.transpose(1, 2).flatten(0, 1)
    return rows if index is None else rows.index_select(0, index)


def _even(grid: Grid) -> tuple[Tensor, Tensor]:
    return tuple(torch.arange(grid.batch + 1) * n for n in (grid.queries, grid.keys))


def _as_bias(given: Tensor, query: Tensor, grid: Grid) -> Tensor:
    """A mask that came ready-made, as numbers to add to the scores."""
    fits = given.dim() == 4 and given.shape[2] in (1, grid.queries) and given.shape[3] in (1, grid.keys)
    if not fits:
        raise ValueError(
            f"{WHERE}: expected a mask [B, L] or [B, 1 or H, {grid.queries}, {grid.keys}], got {list(given.shape)}; "
            "use another implementation for this model"
        )
    given = given.expand(-1, -1, grid.queries, grid.keys)
    if given.dtype == torch.bool:
        return torch.zeros(given.shape, dtype=query.dtype, device=query.device).masked_fill(~given, -torch.inf)
    return given.to(query.dtype)


def _needs_every_row(reading: Reading | None, keep: Tensor, grid: Grid) -> bool:
    """Whether more can be read than `padded` computes: texts without a token, holes in a window, padding in an ordered pattern."""
    windowed = reading is not None and (reading.pattern.left is not None or reading.pattern.right not in (None, 0))
    if not bool(keep.any(1).all()) or windowed and has_holes(keep):
        return True
    if reading is None or reading.sequences is not None or reading == Reading() or grid.queries == 1:
        return False
    start = grid.first_query - grid.first_key
    asking = keep[:, start : start + grid.queries]
    return asking.shape[1] == grid.queries and not bool(asking.all()) and needs_padding(asking)


def _alike(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, how: dict) -> Tensor:
    """What eager attention gives a query that sees nothing: all keys alike, [B, Lq, H, Dv], and gradients as if it saw them."""
    if "sink" in how:  # which then takes all
        return v.new_zeros(len(q), q.shape[2], q.shape[1], v.shape[3])
    k, v = (t.repeat_interleave(q.shape[1] // t.shape[1], 1) for t in (k, v))
    scores = q @ k.transpose(2, 3) * how.get("scale", q.shape[3] ** -0.5)
    if "softcap" in how:
        scores = how["softcap"] * torch.tanh(scores / how["softcap"])
    scores = scores if bias is None else scores + bias
    weights = (scores - scores.detach()).softmax(-1)
    return (torch.nn.functional.dropout(weights, how.get("dropout", 0.0)) @ v).transpose(1, 2)


# --- what is refused ----------------------------------------------------------------------------------------------------


def _refuse(others: dict) -> None:
    if others.get("output_attentions"):
        raise ValueError(
            f"{WHERE}: expected output_attentions=False, since no weights are made here; look with sightline.watch(model), "
            'or use attn_implementation="eager"'
        )
    for name in ("cache", "head_mask", "indices", "block_indices", "block_table"):
        if others.get(name) is not None:
            raise ValueError(
                f"{WHERE}: expected attention over all keys by their distance, got {name!r}, which is not computed here; "
                'use attn_implementation="eager"'
            )


def _without_mask(grid: Grid, given: Packing | None, causal: bool, window: int | None) -> Rows:
    """A model that made no mask: everything is seen, or all that came before."""
    if window is not None and not causal and grid.keys > window:
        raise ValueError(
            f"{WHERE}: expected a mask for a window of {window} keys, got none; use another implementation for this model"
        )
    pattern = Pattern(None if window is None or not causal else window - 1, 0 if causal else None)
    if given is not None:
        return packed(given, grid, Reading(pattern))
    return Rows(*_even(grid), pattern, aligned=True)


def _given_packing(grid: Grid, rule: Rule | None, mask, cu_q, cu_k, position_ids, biased: bool) -> Packing | None:
    """The packing that came with the call; None where the input is not packed, or the mask's rule knows of it.

    Raises: ValueError where packed input was given and has not come through, comes with a mask, or is not what the model
    is made for.
    """
    packing = packing_in_use.get()
    if packing is not None and biased:
        raise ValueError(
            f"{WHERE}: expected a model without a bias for pairs of positions, which packed input would have between all its "
            "tokens, got one; give it padded input, or batches of equal lengths"
        )
    trusted = packing is not None or proving.get() or rule is not None and rule.packing is not None
    asked = None
    if not trusted and grid.queries > 1:
        asked = asked_packing() if rule is None else rule.asked
    if asked is not None:  # by whoever called the model, which may not be made for it
        vouch(asked.model, asked.positions)
        refuse_whole_texts(asked.model)
        if position_ids is None and asked.axes:  # these models keep them for their rotations only
            position_ids = asked.positions
    plain = mask is None or rule is not None and rule.keep is None and rule.reading is not None
    # `read`: as eager finds it, in whatever positions; `masked`: by the caller, or by a model whose caller left it out and asked
    read = plain and rule is not None and rule.reading.sequences is not None
    masked = rule is not None and rule.arguments["attention_mask"] is not None
    if packing is None and cu_q is not None:
        packing = of_offsets(cu_q, cu_q if cu_k is None else cu_k)
    told = plain and not read and (asked is not None or not masked)
    if packing is None and told and grid.queries == grid.keys and position_ids is not None:
        packing = of_positions(position_ids, grid)
    if packing is not None and not plain:
        raise ValueError(f"{WHERE}: expected packed input without a padding mask, got both; leave attention_mask out")
    if asked is not None and packing is None and not read:
        raise ValueError(
            f"{WHERE}: expected {type(asked.model).__name__} to pass packed input on to its attention, but it does not; give "
            "it padded input, or use sightline.huggingface.run(model, sequences)"
        )
    return packing


AttentionInterface.register(NAME, attend)
AttentionMaskInterface.register(NAME, mask)
