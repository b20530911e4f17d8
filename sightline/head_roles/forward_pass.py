"""A pack of documents on its way through the model: each layer's queries and keys are taken at the operator's tap as it runs.

pack     documents sorted by length -> one forward, or several of equal lengths, where a model cannot be packed
tap      a call of attention -> which layer, which documents -> what its weights say
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from sightline.attention import Attended, Request, watching
from sightline.head_roles.definition import look
from sightline.head_roles.layout import SCORES, Item, Run
from sightline.head_roles.native import Laid, fits, read
from sightline.head_roles.subject import Subject
from sightline.head_roles.totals import Sums
from sightline.observe.callers import Callers, forwards_noted
from sightline.observe.calls import Call, call_of
from sightline.observe.routing import INFLUENCE
from sightline.sequences import Sequences


class Pack:
    """Documents that go through the model together, in order of their lengths, none of which is 0."""

    def __init__(self, items: Sequence[Item], device: torch.device):
        self.items, self.device = list(items), device
        lengths = torch.tensor([0, *(len(item.read.ids) for item in items)])
        ids = torch.from_numpy(np.concatenate([item.read.ids for item in items]))
        self.sequences = Sequences(ids.to(device), lengths.cumsum(0))
        self._runs: dict[tuple[int, int], list[Run]] = {}
        self._laid: dict[tuple[int, int], Laid] = {}

    def runs(self, start: int, stop: int, heads: int) -> list[Run]:
        """Documents `start` to `stop` as runs of equal lengths, in as many as keep their weights few; rows count from `start`."""
        if (start, stop) not in self._runs:
            made, lengths = [], self.sequences.lengths[start:stop]
            for first, count, n in Sequences(torch.zeros(int(lengths.sum())), _offsets(lengths)).runs:
                row, most = int(lengths[:first].sum()), max(1, SCORES // (n * n * heads))
                for i in range(0, count, most):
                    chosen = self.items[start + first + i : start + first + min(i + most, count)]
                    made.append(Run(first + i, row + i * n, chosen, self.device))
            self._runs[start, stop] = made
        return self._runs[start, stop]

    def laid(self, start: int, stop: int) -> Laid:
        """Documents `start` to `stop` as they are read in C."""
        if (start, stop) not in self._laid:
            self._laid[start, stop] = Laid(self.items[start:stop])
        return self._laid[start, stop]


def _offsets(lengths: Tensor) -> Tensor:
    return torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])


class _Enough(Exception):
    """The last layer has been seen: what comes after it in the model is of no interest here."""


class Tap:
    """Runs packs through a subject and gives each layer's calls to `look`.

    `layers` and `heads` are those of the model, found by running a few tokens.
    Raises: ValueError where no attention is seen, or layers have different numbers of heads.
    """

    def __init__(self, subject: Subject):
        self.subject = subject
        self._layer = self._passed = self._next = 0
        seen: list[tuple[int, int]] = []
        ids = torch.tensor([*subject.before, 0, *subject.after], device=subject.device)

        def note(layer: int, start: int, call: Call) -> None:
            seen.append((layer, call.q.shape[1]))

        self.run(Sequences(ids, [0, len(ids)]), note)
        kinds = sorted({heads for _, heads in seen})
        if not seen:
            raise ValueError(
                f"{subject.name}: expected attention that can be seen, got none that goes through transformers' interface; {INFLUENCE}"
            )
        if len(kinds) > 1:
            raise ValueError(
                f"{subject.name}: expected as many heads in each layer, got {' and '.join(map(str, kinds))}; use another model"
            )
        self.layers, self.heads = 1 + max(layer for layer, _ in seen), kinds[0]

    def __call__(self, pack: Pack, sums: Sums, answers: Tensor) -> None:
        """Adds what every head does in a pack; answers, uint8 [questions, L, H], get those of its documents."""
        done = 0

        def each(layer: int, start: int, call: Call) -> None:
            nonlocal done
            count = len(call.offsets) - 1
            expected = pack.sequences.lengths[start : start + count]
            whole = torch.equal(call.offsets.diff(), expected) and torch.equal(call.key_offsets, call.offsets)
            if layer >= self.layers or not whole:
                raise ValueError(
                    f"{self.subject.name}: expected {self.layers} layers that attend within whole documents, got calls of attention "
                    "over other pieces of them, or over keys that are no pieces; use another model"
                )
            if fits(call):
                read(call, pack.laid(start, start + count), layer, sums, answers[:, layer])
            else:
                look(call, pack.runs(start, start + count, self.heads), layer, sums, answers[:, layer])
            if layer == self.layers - 1:
                done += count
                if done == len(pack.items):
                    raise _Enough

        self.run(pack.sequences, each)

    def run(self, sequences: Sequences, each: Callable[[int, int, Call], None]) -> None:
        """Gives each call of a pass: its layer, the first of the sequences it is of, and the call itself."""
        self._layer, self._passed, self._next = -1, 0, 0
        callers = Callers(self.subject.model)

        def taken(request: Request, attended: Attended) -> None:
            caller = callers.caller(request)
            if caller is None:
                return  # another model's
            if caller.first_of_pass:  # of the documents after those of the last
                self._layer, self._passed = -1, self._next
            self._layer += caller.first_of_layer
            start = self._passed + (caller.origin.sequence or 0)
            self._next = max(self._next, start + len(request.offsets) - 1)
            each(self._layer, start, call_of(request, attended.lse))

        try:
            model = self.subject.model
            with torch.no_grad(), _evaluating(model), forwards_noted(model), watching(taken):
                self.subject.run(model, sequences)
        except _Enough:
            pass


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    modes = [(part, part.training) for part in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training
