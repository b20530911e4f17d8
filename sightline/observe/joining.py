"""Parts of what was seen become one: sequences that a layer took one by one, and steps of `generate`, rows after rows.

In a step there are a few new queries and the keys of the whole text so far. Steps belong together if the keys before the new ones
are, bit for bit, those of the rows seen last; then they are one causal call over the whole text.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.functional import pad

from sightline.attention import Pattern
from sightline.observe.calls import Call
from sightline.observe.statistics import Statistics


def interleaved(parts: list[Tensor], offsets: list[Tensor]) -> Tensor:
    """Rows of several packs of the same sequences, sequence by sequence: the first pack's rows, then the second's, ...

    >>> interleaved([torch.tensor([1, 2, 3]), torch.tensor([10, 30])], [torch.tensor([0, 2, 3]), torch.tensor([0, 1, 2])])
    tensor([ 1,  2, 10,  3, 30])
    """
    ids = [torch.repeat_interleave(torch.arange(len(o) - 1), o.diff()) for o in offsets]
    order = torch.cat(ids).argsort(stable=True)
    return torch.cat(parts).index_select(0, order.to(parts[0].device))


def side_by_side(calls: list[tuple[int, Call]]) -> Call:
    """Calls of one sequence each, with its number, as one call; a number that is left out has no rows."""
    if len(calls) == 1:
        return calls[0][1]
    first, count = calls[0][1], calls[-1][0] + 1
    lengths, key_lengths = torch.zeros(2, count, dtype=torch.int64)
    bias = [None if first.bias is None else first.bias[0][:, :0, :0]] * count
    for s, call in calls:
        lengths[s], key_lengths[s] = call.offsets[-1], call.key_offsets[-1]
        bias[s] = None if call.bias is None else call.bias[0]
    q, k, lse = (torch.cat([getattr(call, name) for _, call in calls]) for name in ("q", "k", "lse"))
    return replace(
        first, q=q, k=k, lse=lse, offsets=_offsets(lengths), key_offsets=_offsets(key_lengths),
        tokens=None if first.tokens is None else torch.cat([call.tokens for _, call in calls]),
        bias=None if first.bias is None else tuple(bias),
    )  # fmt: skip


def one_after_another(calls: list[Call]) -> Call:
    """Steps, of which each holds its new queries and its new keys alone, as one call over the whole text."""
    if len(calls) == 1:
        return calls[0]
    offsets, key_offsets = ([getattr(c, name) for c in calls] for name in ("offsets", "key_offsets"))
    tokens = None
    if all(c.tokens is not None for c in calls):
        tokens = interleaved([c.tokens for c in calls], offsets)
    return replace(
        calls[-1],
        q=interleaved([c.q for c in calls], offsets),
        k=interleaved([c.k for c in calls], key_offsets),
        lse=interleaved([c.lse for c in calls], offsets),
        offsets=sum(offsets), key_offsets=sum(key_offsets), tokens=tokens, bias=_one_bias(calls),
    )  # fmt: skip


def _one_bias(calls: list[Call]) -> tuple[Tensor, ...] | None:
    if calls[0].bias is None:
        return None
    joined, lengths = [], [c.offsets.diff().tolist() for c in calls]
    for s in range(len(calls[0].bias)):
        parts = [c.bias[s][:, : n[s]] for c, n in zip(calls, lengths, strict=True)]
        widest = max(part.shape[2] for part in parts)
        joined.append(torch.cat([pad(part, (0, widest - part.shape[2])) for part in parts], 1))
    return tuple(joined)


def taken(call: Call, sequences: list[int]) -> Call:
    """Some sequences of a call, in that order, as a search with beams chooses them."""
    index = torch.tensor(sequences)
    rows, offsets = _rows_of(call.offsets, index)
    keys, key_offsets = _rows_of(call.key_offsets, index)
    rows, keys = rows.to(call.q.device), keys.to(call.q.device)
    return replace(
        call, q=call.q[rows], lse=call.lse[rows], k=call.k[keys], offsets=offsets, key_offsets=key_offsets,
        tokens=None if call.tokens is None else call.tokens[rows],
        bias=None if call.bias is None else tuple(call.bias[s] for s in sequences),
    )  # fmt: skip


def parents(before: Call, step: Call) -> list[int] | None:
    """Which sequence of the last call each sequence of a step goes on with, as its keys say; None where it does not go on.

    A cache that slides has lost its oldest keys. `before` may be a summary, of which only the last keys are known.
    """
    old, past = before.key_offsets.diff(), step.key_offsets.diff() - step.offsets.diff()
    fresh = step.offsets.diff()
    if len(old) != len(past) or len(old) == 0 or not bool(((past > 0) & (fresh > 0)).all()):
        return None
    found = []
    for s in range(len(old)):
        others = [s, *(r for r in range(len(old)) if r != s)]  # with beams, a sequence may go on with another's past
        parent = next((r for r in others if _same(before, r, step, s, int(past[s]))), None)
        if parent is None:
            return None
        found.append(parent)
    return found


def _same(before: Call, r: int, step: Call, s: int, past: int) -> bool:
    """Whether the keys of sequence s of the step, before its new ones, are the last of sequence r."""
    start, stop = int(step.key_offsets[s]), int(before.key_offsets[r + 1])
    if not torch.equal(before.last_keys[r], step.k[start + past - 1]):
        return False
    if before.k is None:
        return r == s
    fits = past <= stop - int(before.key_offsets[r])
    return fits and torch.equal(before.k[stop - past : stop], step.k[start : start + past])


def narrowed(before: Call, step: Call) -> Pattern:
    """The pattern of both together: a step sees nothing after itself, and no further left than its keys reach."""
    left = before.pattern.left if step.pattern.left is None else step.pattern.left
    past = step.key_offsets.diff() - step.offsets.diff()
    if left is None and bool((past < before.key_offsets.diff()).any()):
        left = int(past.max())
    return Pattern(left, 0)


def only_new(step: Call) -> Call:
    """A step with its new keys alone, which do not keep the whole cache in memory."""
    fresh, stops = step.offsets.diff(), step.key_offsets[1:]
    rows = torch.arange(int(step.offsets[-1])) + torch.repeat_interleave(stops - fresh - step.offsets[:-1], fresh)
    return replace(step, k=step.k[rows.to(step.k.device)], key_offsets=step.offsets)


def added(before: Call, made: Statistics, step: Call, more: Statistics) -> tuple[Call, Statistics]:
    """Statistics of what was seen before, and of a step: those of both, with their offsets and no keys but the last."""
    offsets = [before.offsets, step.offsets]
    total = before.key_offsets + step.offsets
    missing = total.diff() - step.key_offsets.diff()
    shift = torch.repeat_interleave(missing, step.offsets.diff())[:, None, None].to(more.keys)
    more_keys = torch.where(more.keys < 0, more.keys, more.keys + shift)
    slid = torch.repeat_interleave(missing > 0, step.offsets.diff()).to(more.first.device)
    parts = {"first": more.first.masked_fill(slid[:, None], 0), "keys": more_keys}
    names = ("entropy", "distance", "first", "special", "keys", "weights")
    rows = {n: interleaved([getattr(made, n), parts.get(n, getattr(more, n))], offsets) for n in names}
    received = made.received.new_zeros(int(total[-1]), made.received.shape[1])
    for old, its in ((before.key_offsets, made.received), (step.key_offsets, more.received)):
        starts = total[:-1] if old is before.key_offsets else total[1:] - old.diff()
        place = torch.arange(len(its)) + torch.repeat_interleave(starts - old[:-1], old.diff())
        received.index_add_(0, place.to(its.device), its)
    joined = Statistics(**rows, received=received, histogram=made.histogram + more.histogram)
    lse = interleaved([before.lse, step.lse], offsets)
    rest = {"pattern": narrowed(before, step), "q": None, "k": None, "ends": step.last_keys}
    return replace(before, lse=lse, offsets=sum(offsets), key_offsets=total, **rest), joined


def _rows_of(offsets: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
    lengths = offsets.diff()[index]
    made = _offsets(lengths)
    rows = torch.arange(int(made[-1])) + torch.repeat_interleave(offsets[:-1][index] - made[:-1], lengths)
    return rows, made


def _offsets(lengths: Tensor) -> Tensor:
    return torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)])
