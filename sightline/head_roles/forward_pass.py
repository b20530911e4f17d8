"""One forward pass of a pack of documents: each call of attention is observed, and its weights are added to the sums.

Pack          documents sorted by length -> one forward, or several of equal lengths where a model cannot be packed
ForwardPass   a call of attention -> its layer and documents -> sums and answers
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from sightline.attention import Attended, Request, watching
from sightline.head_roles.definition import add_sums
from sightline.head_roles.layout import Item, Layout
from sightline.head_roles.runs import Runs
from sightline.head_roles.totals import EDGES, SINK, Sums
from sightline.kernels import head_sums
from sightline.kernels.toolchain import library
from sightline.models.opening import OpenModel, evaluating
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
        self._layouts: dict[tuple[int, int], Layout] = {}
        self._runs: dict[tuple[int, int], Runs] = {}

    def layout(self, start: int, stop: int) -> Layout:
        """The layout of documents `start` to `stop`."""
        if (start, stop) not in self._layouts:
            self._layouts[start, stop] = Layout(self.items[start:stop])
        return self._layouts[start, stop]

    def runs(self, start: int, stop: int, heads: int) -> Runs:
        """The same as tensors."""
        if (start, stop) not in self._runs:
            self._runs[start, stop] = Runs(self.layout(start, stop), heads, self.device)
        return self._runs[start, stop]


def backend(device: torch.device) -> str:
    """What computes sums there: each backend has its own last bits."""
    in_c = device.type == "cpu" and library(head_sums.HEAD_SUMS)
    return f"{'C' if in_c else 'PyTorch'} on {device.type}"


class _LastLayer(Exception):
    """Stops a forward pass after the last layer of attention."""


class ForwardPass:
    """Runs packs through a model, and adds the weights of each layer to sums.

    `layers` and `heads` are those of the model, from a pass of a few tokens.
    Raises: ValueError where no attention is seen, or layers have different numbers of heads.
    """

    def __init__(self, model: OpenModel):
        self.model = model
        seen: list[tuple[int, int]] = []
        ids = torch.tensor([*model.before, 0, *model.after], device=model.device)
        self.run(Sequences(ids, [0, len(ids)]), lambda layer, start, call: seen.append((layer, call.q.shape[1])))
        if not seen:
            raise ValueError(
                f"{model.name}: expected attention that can be seen, got none that goes through transformers' "
                f"interface; {INFLUENCE}"
            )
        heads = sorted({heads for _, heads in seen})
        if len(heads) > 1:
            raise ValueError(
                f"{model.name}: expected as many heads in each layer, got {' and '.join(map(str, heads))}; "
                "use another model"
            )
        self.layers, self.heads = 1 + max(layer for layer, _ in seen), heads[0]

    def __call__(self, pack: Pack, sums: Sums, answers: Tensor) -> None:
        """Adds the weights of every head in a pack to sums, and its answers to answers, uint8 [questions, L, H]."""
        done = 0

        def add(layer: int, start: int, call: Call) -> None:
            nonlocal done
            self._check(layer, start, call, pack)
            documents = start, start + len(call.offsets) - 1
            if layer == 0:
                sums.count(pack.layout(*documents).counts)
            if head_sums.fits(call):
                constants = {"edges": len(EDGES), "sink_weight": SINK}
                head_sums.add(call, pack.layout(*documents).arrays | constants, sums.layer(layer), answers[:, layer])
            else:
                add_sums(call, pack.runs(*documents, self.heads), sums.layer(layer), answers[:, layer])
            if layer == self.layers - 1:
                done += len(call.offsets) - 1
                if done == len(pack.items):
                    raise _LastLayer

        self.run(pack.sequences, add)

    def _check(self, layer: int, start: int, call: Call, pack: Pack) -> None:
        """Raises ValueError unless a call is of a known layer, over whole documents."""
        expected = pack.sequences.lengths[start : start + len(call.offsets) - 1]
        whole = torch.equal(call.offsets.diff(), expected) and torch.equal(call.key_offsets, call.offsets)
        if layer >= self.layers or not whole:
            raise ValueError(
                f"{self.model.name}: expected {self.layers} layers that attend within whole documents, got calls of "
                "attention over other pieces of them, or over keys that are no pieces; use another model"
            )

    def run(self, sequences: Sequences, each: Callable[[int, int, Call], object]) -> None:
        """Calls `each` for each call of attention in a pass, with its layer and the first of its sequences."""
        layer, first, stop = -1, 0, 0  # of the running forward: its layer, its first sequence and the last one's end
        encoder = self.model.encoder
        callers = Callers(encoder)

        def observe(request: Request, attended: Attended) -> None:
            nonlocal layer, first, stop
            caller = callers.caller(request)
            if caller is None:
                return  # another model's
            if caller.first_of_pass:  # of the documents after those of the previous one
                layer, first = -1, stop
            layer += caller.first_of_layer
            start = first + (caller.origin.sequence or 0)
            stop = max(stop, start + len(request.offsets) - 1)
            each(layer, start, call_of(request, attended.lse))

        try:
            with torch.no_grad(), evaluating(encoder), forwards_noted(encoder), watching(observe):
                self.model.encode(sequences)
        except _LastLayer:
            pass
