"""Joining: sequences that a layer took one by one, and steps of `generate`, become one call.

A step has a few new queries, and the keys of the whole text so far. It continues an earlier step if its keys before the
new ones are, bit for bit, the keys of that step; together they are one causal call over the whole text.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.functional import pad

from sightline.attention import Pattern
from sightline.observe.calls import Call
from sightline.observe.statistics import Statistics
from sightline.sequences import offsets_of, rows_from


def interleaved(parts: list[Tensor], offsets: list[Tensor]) -> Tensor:
    """Rows of several packs of the same sequences, sequence by sequence: the first pack's rows, then the second's, ...

    >>> offsets = [torch.tensor([0, 2, 3]), torch.tensor([0, 1, 2])]
    >>> interleaved([torch.tensor([1, 2, 3]), torch.tensor([10, 30])], offsets)
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
        first, q=q, k=k, lse=lse, offsets=offsets_of(lengths), key_offsets=offsets_of(key_lengths),
        tokens=None if first.tokens is None else torch.cat([call.tokens for _, call in calls]),
        bias=None if first.bias is None else tuple(bias),
    )  # fmt: skip


def one_after_another(calls: list[Call]) -> Call:
    """Steps that hold their new queries and their new keys alone, as one call over the whole text."""
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


def chosen(call: Call, sequences: list[int]) -> Call:
    """These sequences of a call, in this order, as a search with beams chooses them."""
    index = torch.tensor(sequences)
    lengths, key_lengths = call.offsets.diff()[index], call.key_offsets.diff()[index]
    rows = rows_from(call.offsets[index], lengths).to(call.lse.device)
    keys = rows_from(call.key_offsets[index], key_lengths).to(call.lse.device)
    return replace(
        call, q=call.q[rows], lse=call.lse[rows], k=call.k[keys],
        offsets=offsets_of(lengths), key_offsets=offsets_of(key_lengths),
        tokens=None if call.tokens is None else call.tokens[rows],
        bias=None if call.bias is None else tuple(call.bias[s] for s in sequences),
    )  # fmt: skip


def parents(before: Call, step: Call) -> list[int] | None:
    """Which sequence of the call before each sequence of a step continues, as its keys say; None where one does not.

    A cache that slides has lost its oldest keys. `before` may be a summary, which has the last keys only.
    """
    old, new = before.key_offsets.diff(), step.offsets.diff()
    past = step.key_offsets.diff() - new
    if len(old) != len(past) or len(old) == 0 or not bool(((past > 0) & (new > 0)).all()):
        return None
    continued = []
    for s in range(len(old)):
        others = [s, *(r for r in range(len(old)) if r != s)]  # with beams, a sequence may continue another one
        parent = next((r for r in others if _continues(before, r, step, s, int(past[s]))), None)
        if parent is None:
            return None
        continued.append(parent)
    return continued


def _continues(before: Call, r: int, step: Call, s: int, past: int) -> bool:
    """Whether the keys of sequence s of the step, before its new ones, are the last of sequence r."""
    start, stop = int(step.key_offsets[s]), int(before.key_offsets[r + 1])
    if not torch.equal(before.last_keys[r], step.k[start + past - 1]):
        return False
    if before.k is None:
        return r == s
    fits = past <= stop - int(before.key_offsets[r])
    return fits and torch.equal(before.k[stop - past : stop], step.k[start : start + past])


def joint_pattern(before: Call, step: Call) -> Pattern:
    """The pattern of both together: a step sees nothing after itself, and no further left than its keys reach."""
    left = before.pattern.left if step.pattern.left is None else step.pattern.left
    past = step.key_offsets.diff() - step.offsets.diff()
    if left is None and bool((past < before.key_offsets.diff()).any()):
        left = int(past.max())
    return Pattern(left, 0)


def only_new_keys(step: Call) -> Call:
    """A step with its new keys alone, so that it does not keep the whole cache in memory."""
    new = step.offsets.diff()
    rows = rows_from(step.key_offsets[1:] - new, new)
    return replace(step, k=step.k[rows.to(step.k.device)], key_offsets=step.offsets)


def summary(call: Call) -> Call:
    """A call without its queries and keys, but for the last key of each sequence."""
    return replace(call, q=None, k=None, bias=None, ends=call.last_keys)


def with_step(before: Call, known: Statistics, step: Call, more: Statistics) -> tuple[Call, Statistics]:
    """A summary and its statistics, and a step and its own: the summary and the statistics of both."""
    offsets, new = [before.offsets, step.offsets], step.offsets.diff()
    total = before.key_offsets + step.offsets
    missing = total.diff() - step.key_offsets.diff()  # keys that a sliding cache has lost
    shift = torch.repeat_interleave(missing, new)[:, None, None].to(more.keys)
    lost = (shift > 0)[:, 0].to(more.first.device)
    names = ("entropy", "distance", "first", "special", "keys", "weights")
    added: dict[str, Tensor] = {n: getattr(more, n) for n in names} | {
        "keys": torch.where(more.keys < 0, more.keys, more.keys + shift),
        "first": more.first.masked_fill(lost, 0),
    }
    rows = {n: interleaved([getattr(known, n), added[n]], offsets) for n in names}
    received = known.received.new_zeros(int(total[-1]), known.received.shape[1])
    lengths, step_lengths = before.key_offsets.diff(), step.key_offsets.diff()
    for starts, count, mass in (
        (total[:-1], lengths, known.received),
        (total[1:] - step_lengths, step_lengths, more.received),
    ):
        received.index_add_(0, rows_from(starts, count).to(mass.device), mass)
    joined = Statistics(**rows, received=received, histogram=known.histogram + more.histogram)
    lse, pattern = interleaved([before.lse, step.lse], offsets), joint_pattern(before, step)
    of_both = {"lse": lse, "offsets": sum(offsets), "key_offsets": total, "pattern": pattern}
    return replace(before, **of_both, q=None, k=None, ends=step.last_keys), joined
