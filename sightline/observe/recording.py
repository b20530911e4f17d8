"""From single calls of attention to layers: which pass a call is of, which rows are real, and which steps belong together."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from sightline.attention import Request
from sightline.observe.callers import Caller, Callers
from sightline.observe.calls import Call
from sightline.observe.joining import added, narrowed, one_after_another, only_new, parents, side_by_side, taken
from sightline.observe.layer import Layer
from sightline.observe.statistics import Statistics, statistics

KEPT = (
    2**28
)  # bytes of queries and keys that are kept in memory; what comes after is put into statistics at once, or on disk


@dataclass(eq=False)
class Record:
    """What one layer did: the steps that make its rows, oldest first, or, once they are let go, their statistics."""

    steps: list[Call]
    cross: bool
    last: Call  # the last step whole, with which the next is compared
    statistics: Statistics | None = None
    layer: Layer | None = None
    on_disk: bool = (
        False  # where the steps have their queries and keys; statistics are then made when they are asked for
    )


class Recorder:
    """Takes calls one by one as they are made, and gives layers."""

    def __init__(
        self,
        model: nn.Module,
        layers: Iterable[int | str] | None,
        heads: Iterable[int] | None,
        links: int,
        special: Tensor | Iterable[int] | None,
        keep_map: bool,
    ):
        self.layers = None if layers is None else list(layers)
        self.heads = None if heads is None else list(heads)
        self.links, self.keep_map = links, keep_map
        self.special = special if special is None or isinstance(special, Tensor) else list(special)
        self.callers = Callers(model)
        self.names: dict[str, int] = {}
        self.records: dict[str, Record] = {}
        self.pending: tuple[str, bool, list[tuple[int, Call]]] | None = None
        self.asked: tuple | None = None  # which rows of a padded decoder are real, and their offsets
        self.parents: list[int] | None = None  # what this pass goes on with

    def add(self, request: Request, lse: Tensor) -> None:
        caller = self.callers.caller(request)
        if caller is None:
            return  # another model, or attention by itself
        if not caller.first_of_layer:  # one layer, sequence by sequence
            if self.pending is not None:
                self.pending[2].append((caller.origin.sequence, self._call(request, lse, caller)))
            return
        self.settle()
        if caller.first_of_pass:
            self.asked = self.parents = None
        key = caller.name if caller.times == 1 else f"{caller.name}#{caller.times}"  # run twice in a pass: two layers
        number = self.names.setdefault(key, len(self.names))
        if self.layers is None or number in self.layers or key in self.layers:
            self.pending = key, caller.cross, [(caller.origin.sequence or 0, self._call(request, lse, caller))]

    def _call(self, request: Request, lse: Tensor, caller: Caller) -> Call:
        q, k, _, offsets, key_offsets, pattern, scale = request[:7]
        softcap, bias = request.softcap, request.bias
        heads = self._heads(q.shape[1])
        groups = torch.tensor(heads, device=k.device) // (q.shape[1] // k.shape[1])
        some = slice(None) if self.heads is None else heads
        q, k, lse = q.detach()[:, some], k.detach(), lse.detach()[:, some]
        if bias is not None:
            bias = bias.detach().expand(len(offsets) - 1, -1, -1, -1)
            bias = tuple(bias if bias.shape[1] == 1 else bias[:, some])
        call = Call(q, k, lse, offsets, key_offsets, pattern, scale, groups, softcap, bias)
        return self._real(call, caller)

    def _heads(self, count: int) -> list[int]:
        heads = list(range(count)) if self.heads is None else self.heads
        if not heads or not all(isinstance(head, int) and 0 <= head < count for head in heads):
            raise ValueError(f"watch: expected heads from 0 to {count - 1}, got {heads}; choose among them")
        return heads

    def _real(self, call: Call, caller: Caller) -> Call:
        """The call with its tokens, and without the padding that a model with no order among its tokens lets ask too."""
        who, shape = caller.origin, caller.origin.shape
        asked = next((rows for rows in (who.own, who.queries, who.unpadded) if rows is not None), None)
        rows, offsets, bias = None, call.key_offsets, call.bias
        if shape is not None and not caller.cross and who.queries is not None:
            self.asked = shape[:2], who.queries, call.offsets
        if shape is None or who.queries is not None:
            pass  # nobody asks but real tokens
        elif caller.cross and who.sequence is None and self.asked is not None and self.asked[0] == shape[:2]:
            _, rows, offsets = self.asked
        elif not caller.cross and who.keys is not None and shape[1] == shape[2]:
            rows = who.keys
            if who.own is not None:
                rows = torch.isin(who.own, who.keys).nonzero().flatten()
                bias = None if bias is None else tuple(one[:, rows] for one in bias)
        tokens = None if isinstance(self.special, Tensor) or self.special is None else caller.tokens
        if tokens is not None:
            tokens = tokens.flatten() if asked is None else tokens.flatten()[asked]
            tokens = tokens if len(tokens) == len(call.q) else None
        if rows is None:
            return replace(call, tokens=tokens)
        tokens = None if tokens is None else tokens[rows]
        return replace(call, q=call.q[rows], lse=call.lse[rows], offsets=offsets, tokens=tokens, bias=bias)

    def settle(self) -> None:
        """Puts the last call where it belongs: it goes on with what its layer did before, or takes its place."""
        if self.pending is None:
            return
        key, cross, calls = self.pending
        self.pending, call = None, side_by_side(calls)
        record = self.records.get(key)
        goes_on = None
        if record is not None and record.cross == cross:
            goes_on = self._goes_on(record, call)
        if not cross:
            self.parents = goes_on
        if goes_on is None:
            record = self.records[key] = Record([call], cross, call)
        else:
            _append(record, call, goes_on, self.links)
        if record.statistics is None and not record.on_disk and self._kept() > KEPT:
            whole = one_after_another(record.steps)
            if self.keep_map:
                kept = {"q": _on_disk(whole.q), "k": _on_disk(whole.k), "lse": whole.lse.cpu()}
                record.last, record.on_disk = replace(whole, **kept), True
                record.steps = [record.last]
                return
            record.statistics = statistics(whole, self.links, self._special(whole))
            rest = {"q": None, "k": None, "bias": None, "ends": whole.last_keys}
            record.last = replace(whole, **rest)
            record.steps = [record.last]

    def _goes_on(self, record: Record, call: Call) -> list[int] | None:
        if not record.cross:
            return parents(record.last, call)
        before = record.last
        if self.parents is None or before.k is None or before.k.shape != call.k.shape:
            return None
        same = torch.equal(before.k, call.k) and torch.equal(before.key_offsets, call.key_offsets)
        return self.parents if same and len(call.offsets) == len(before.offsets) else None

    def _kept(self) -> int:
        kept = (c for r in self.records.values() for c in r.steps if r.statistics is None and not r.on_disk)
        return sum(t.numel() * t.element_size() for c in kept for t in (c.q, c.k))

    def _special(self, call: Call) -> Tensor | None:
        """Which keys are special; raises ValueError if it was told for another number of keys."""
        rows = int(call.key_offsets[-1])
        if isinstance(self.special, Tensor):
            if self.special.dtype != torch.bool or self.special.shape != (rows,):
                what = f"{self.special.dtype} {list(self.special.shape)}"
                raise ValueError(
                    f"watch: expected special as bool [{rows}], one for each key, got {what}; or give token ids"
                )
            return self.special.to(call.lse.device)
        if self.special is None:
            return None
        known = [one_after_another(r.steps).tokens for r in self.records.values() if not r.cross]
        mine = [call.tokens, *known]
        tokens = next((t for t in mine if t is not None and len(t) == rows), None)
        if tokens is None:
            raise ValueError(
                f"watch: expected a model that is called with token ids, got none for these {rows} keys; give special as bool [{rows}]"
            )
        return torch.isin(tokens, torch.tensor(self.special, device=tokens.device))

    def layer(self, key: str) -> Layer | None:
        self.settle()
        record = self.records.get(key)
        if record is None:
            return None
        if record.layer is None:
            call = one_after_another(record.steps)
            heads = self.heads or list(range(call.lse.shape[1]))
            record.layer = Layer(key, heads, call, lambda: self._statistics(record, call))
        return record.layer

    def _statistics(self, record: Record, call: Call) -> Statistics:
        return record.statistics or statistics(call, self.links, self._special(call))

    def close(self) -> None:
        """Drops the last forward, and with it the model."""
        self.settle()
        self.callers.forget()

    def check(self) -> None:
        """Raises ValueError if layers were asked for that the model has not."""
        missing = [one for one in self.layers or () if one not in self.names and one not in self.names.values()]
        if missing and self.names:
            raise ValueError(
                f"watch: expected layers from 0 to {len(self.names) - 1} or names out of {', '.join(self.names)}, got {missing}; "
                f"choose among them"
            )


def _append(record: Record, step: Call, goes_on: list[int], links: int) -> None:
    before, record.layer = record.last, None
    if not record.cross:
        step = replace(step, pattern=narrowed(before, step))
    record.last = step
    if record.statistics is not None:
        more = statistics(step, links)
        call, record.statistics = added(before, record.statistics, step, more)
        record.steps, record.last = [call], call
        return
    if goes_on != list(range(len(goes_on))):
        record.steps = [taken(call, goes_on) for call in record.steps]
    if record.cross:
        nothing = torch.zeros_like(step.key_offsets)
        record.steps.append(replace(step, k=step.k[:0], key_offsets=nothing))
    else:
        record.steps.append(only_new(step))


def _on_disk(t: Tensor) -> Tensor:
    """The same numbers in a file that is mapped into memory, and is gone when nobody holds them."""
    with tempfile.NamedTemporaryFile() as file:
        mapped = torch.from_file(file.name, shared=True, size=t.numel(), dtype=t.dtype)
    return mapped.view(t.shape).copy_(t)
