"""Recording: calls of attention become layers, of real rows alone, and of all steps of one `generate`."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from sightline.attention import Request
from sightline.observe import joining
from sightline.observe.callers import Caller, Callers
from sightline.observe.calls import Call, call_of
from sightline.observe.layer import Layer
from sightline.observe.statistics import Statistics, statistics

KEPT = 2**28  # bytes of queries and keys kept in memory; what comes after goes into statistics at once, or on disk


@dataclass(eq=False)
class Record:
    """What one layer did: the steps that make its rows, oldest first, or their statistics alone.

    `last` is the last step with all its keys, with which the next is compared. Steps `on_disk` keep queries and keys
    there, and their statistics are computed when they are read.
    """

    steps: list[Call]
    cross: bool
    last: Call
    statistics: Statistics | None = None
    layer: Layer | None = None
    on_disk: bool = False


class Recorder:
    """Takes calls one by one, in the order in which they are made, and gives layers."""

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
        self.pending: tuple[str, bool, list[tuple[int, Call]]] | None = None  # layer, cross, (sequence, call)
        self.decoder: tuple | None = None  # of this pass: shape of the padded decoder, its real rows, their offsets
        self.parents: list[int] | None = None  # sequences of the last pass that this pass continues

    def add(self, request: Request, lse: Tensor) -> None:
        caller = self.callers.caller(request)
        if caller is None:
            return  # another model, or attention by itself
        if not caller.first_of_layer:  # one layer, sequence by sequence
            if self.pending is not None:
                self.pending[2].append((caller.origin.sequence or 0, self._call(request, lse, caller)))
            return
        self.finish_layer()
        if caller.first_of_pass:
            self.decoder = self.parents = None
        key = caller.name if caller.times == 1 else f"{caller.name}#{caller.times}"  # run twice in a pass: two layers
        number = self.names.setdefault(key, len(self.names))
        if self.layers is None or number in self.layers or key in self.layers:
            self.pending = key, caller.cross, [(caller.origin.sequence or 0, self._call(request, lse, caller))]

    def _call(self, request: Request, lse: Tensor, caller: Caller) -> Call:
        count, heads = request.q.shape[1], self.heads
        if heads is not None and not (heads and all(isinstance(head, int) and 0 <= head < count for head in heads)):
            raise ValueError(f"watch: expected heads from 0 to {count - 1}, got {heads}; choose among them")
        return self._without_padding(call_of(request, lse, heads), caller)

    def _without_padding(self, call: Call, caller: Caller) -> Call:
        """The call with its tokens, and without rows of padding, which attend too where tokens have no order."""
        origin, shape = caller.origin, caller.origin.shape
        rows, offsets, bias = None, call.key_offsets, call.bias
        if shape is not None and not caller.cross and origin.queries is not None:
            self.decoder = shape[:2], origin.queries, call.offsets
        if shape is None or origin.queries is not None:
            pass  # all queries are real
        elif caller.cross and origin.sequence is None and self.decoder is not None and self.decoder[0] == shape[:2]:
            _, rows, offsets = self.decoder
        elif not caller.cross and origin.keys is not None and shape[1] == shape[2]:
            rows = origin.keys
            if origin.own is not None:
                rows = torch.isin(origin.own, origin.keys).nonzero().flatten()
                bias = None if bias is None else tuple(one[:, rows] for one in bias)
        call = replace(call, tokens=self._tokens(caller, len(call.q)))
        if rows is None:
            return call
        tokens = None if call.tokens is None else call.tokens[rows]
        return replace(call, q=call.q[rows], lse=call.lse[rows], offsets=offsets, tokens=tokens, bias=bias)

    def _tokens(self, caller: Caller, count: int) -> Tensor | None:
        """The token ids of the rows, if special tokens are named by ids and the model was called with ids."""
        if caller.tokens is None or self.special is None or isinstance(self.special, Tensor):
            return None
        tokens, origin = caller.tokens.flatten(), caller.origin
        rows = next((r for r in (origin.own, origin.queries, origin.unpadded) if r is not None), None)
        if rows is not None and len(tokens) != count:
            tokens = tokens[rows]
        return tokens if len(tokens) == count else None

    def finish_layer(self) -> None:
        """Adds the pending call to what its layer did before, if it continues that, or replaces it."""
        if self.pending is None:
            return
        (key, cross, calls), self.pending = self.pending, None
        call, record, parents = joining.side_by_side(calls), self.records.get(key), None
        if record is not None and record.cross == cross:
            parents = self._parents(record, call)
        if not cross:
            self.parents = parents
        if record is None or parents is None:
            record = self.records[key] = Record([call], cross, call)
        else:
            _append(record, call, parents, self.links)
        if record.statistics is None and not record.on_disk and self._bytes() > KEPT:
            whole = joining.one_after_another(record.steps)
            if self.keep_map:
                on_disk = {"q": _on_disk(whole.q), "k": _on_disk(whole.k), "lse": whole.lse.cpu()}
                record.last, record.on_disk = replace(whole, **on_disk), True
            else:
                record.statistics = statistics(whole, self.links, self._special(whole))
                record.last = joining.summary(whole)
            record.steps = [record.last]

    def _parents(self, record: Record, call: Call) -> list[int] | None:
        """Which sequence of the record each sequence of the call continues; None where it does not."""
        if not record.cross:
            return joining.parents(record.last, call)
        before = record.last
        if self.parents is None or before.k is None or before.k.shape != call.k.shape:
            return None
        same = torch.equal(before.k, call.k) and torch.equal(before.key_offsets, call.key_offsets)
        return self.parents if same and len(call.offsets) == len(before.offsets) else None

    def _bytes(self) -> int:
        steps = (c for r in self.records.values() for c in r.steps if r.statistics is None and not r.on_disk)
        return sum(t.numel() * t.element_size() for c in steps for t in (c.q, c.k))

    def _special(self, call: Call) -> Tensor | None:
        """Which keys are special. Raises: ValueError where that cannot be known for this number of keys."""
        rows = int(call.key_offsets[-1])
        if isinstance(self.special, Tensor):
            if self.special.dtype != torch.bool or self.special.shape != (rows,):
                raise ValueError(
                    f"watch: expected special as bool [{rows}], one for each key, got {self.special.dtype} "
                    f"{list(self.special.shape)}; or give token ids"
                )
            return self.special.to(call.lse.device)
        if self.special is None:
            return None
        others = (joining.one_after_another(r.steps).tokens for r in self.records.values() if not r.cross)
        tokens = next((t for t in (call.tokens, *others) if t is not None and len(t) == rows), None)
        if tokens is None:
            raise ValueError(
                f"watch: expected a model that is called with token ids, got none for these {rows} keys; "
                f"give special as bool [{rows}]"
            )
        return torch.isin(tokens, torch.tensor(self.special, device=tokens.device))

    def layer(self, key: str) -> Layer | None:
        self.finish_layer()
        record = self.records.get(key)
        if record is not None and record.layer is None:
            call = joining.one_after_another(record.steps)
            heads = self.heads or list(range(call.lse.shape[1]))
            compute = lambda: record.statistics or statistics(call, self.links, self._special(call))  # noqa: E731
            record.layer = Layer(key, heads, call, compute)
        return record and record.layer

    def close(self) -> None:
        """Drops the last forward, and with it the model."""
        self.finish_layer()
        self.callers.forget()

    def check(self) -> None:
        """Raises: ValueError for chosen layers that the model does not have."""
        missing = [one for one in self.layers or () if one not in self.names and one not in self.names.values()]
        if missing and self.names:
            raise ValueError(
                f"watch: expected layers from 0 to {len(self.names) - 1} or names out of {', '.join(self.names)}, "
                f"got {missing}; choose among them"
            )


def _append(record: Record, step: Call, parents: list[int], links: int) -> None:
    before, record.layer = record.last, None
    if not record.cross:
        step = replace(step, pattern=joining.joint_pattern(before, step))
    record.last = step
    if record.statistics is not None:
        more = statistics(step, links)
        record.last, record.statistics = joining.with_step(before, record.statistics, step, more)
        record.steps = [record.last]
        return
    if parents != list(range(len(parents))):
        record.steps = [joining.chosen(call, parents) for call in record.steps]
    if record.cross:
        record.steps.append(replace(step, k=step.k[:0], key_offsets=torch.zeros_like(step.key_offsets)))
    else:
        record.steps.append(joining.only_new_keys(step))


def _on_disk(t: Tensor) -> Tensor:
    """The same numbers in a file mapped into memory, which is deleted with the last tensor that uses it."""
    with tempfile.NamedTemporaryFile() as file:
        mapped = torch.from_file(file.name, shared=True, size=t.numel(), dtype=t.dtype)
    return mapped.view(t.shape).copy_(t)
