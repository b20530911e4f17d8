"""From single calls of attention to layers: which pass a call is of, which rows are real, and which steps belong together."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from types import FrameType

import torch
from torch import Tensor, nn

from sightline.attention import Request
from sightline.observe.calls import Call
from sightline.observe.layer import Layer
from sightline.observe.routing import Asking, asking


@dataclass(eq=False)
class Record:
    """The calls of one layer that make its rows, oldest first: one, or the steps of `generate`."""

    steps: list[Call]
    cross: bool
    frame: FrameType | None = None  # where the last was made
    layer: Layer | None = field(default=None, repr=False)


class Recorder:
    """Takes calls one by one as they are made, and gives layers."""

    def __init__(
        self,
        model: nn.Module,
        layers: Iterable[int | str] | None,
        heads: Iterable[int] | None,
        links: int,
        special: Tensor | None,
        keep_map: bool,
    ):
        self.layers = None if layers is None else list(layers)
        self.heads = None if heads is None else list(heads)
        self.links, self.special, self.keep_map = links, special, keep_map
        self.modules = {id(part): name or type(part).__name__ for name, part in model.named_modules()}
        self.names: dict[str, int] = {}
        self.records: dict[str, Record] = {}
        self.outermost: FrameType | None = None
        self.called: dict[str, int] = {}  # how often each module has been called in this pass

    def add(self, request: Request, lse: Tensor) -> None:
        who = asking(self.modules)
        if who is None:
            return  # another model, or attention by itself
        if who.outermost is not self.outermost:
            self.outermost, self.called = who.outermost, {}
        before = self.records.get(self._key(who.name))
        again = before is not None and before.frame is who.here  # one layer, sequence by sequence
        if not again:
            self.called[who.name] = self.called.get(who.name, 0) + 1
        key = self._key(who.name)
        number = self.names.setdefault(key, len(self.names))
        if self.layers is not None and number not in self.layers and key not in self.layers:
            return
        call = self._call(request, lse, who)
        self.records[key] = Record([call], who.cross, who.here)

    def _key(self, name: str) -> str:
        """A module that runs several times in a pass is several layers."""
        times = self.called.get(name, 1)
        return name if times <= 1 else f"{name}#{times}"

    def _call(self, request: Request, lse: Tensor, who: Asking) -> Call:
        q, k, _, offsets, key_offsets, pattern, scale, _, softcap, bias, _ = request
        heads = self._heads(q.shape[1])
        groups = torch.tensor(heads, device=k.device) // (q.shape[1] // k.shape[1])
        q, k, lse = q.detach(), k.detach(), lse.detach()
        if self.heads is not None:
            q, lse = q[:, heads], lse[:, heads]
        if bias is not None:
            bias = bias.detach().expand(len(offsets) - 1, -1, -1, -1)
            bias = tuple(bias if self.heads is None or bias.shape[1] == 1 else bias[:, heads])
        call = Call(q, k, lse, offsets, key_offsets, pattern, scale, groups, softcap, bias)
        return _without_padding(call, who)

    def _heads(self, count: int) -> list[int]:
        heads = list(range(count)) if self.heads is None else self.heads
        if not all(isinstance(head, int) and 0 <= head < count for head in heads):
            raise ValueError(f"watch: expected heads from 0 to {count - 1}, got {heads}; choose among them")
        return heads

    def layer(self, key: str) -> Layer | None:
        record = self.records.get(key)
        if record is None:
            return None
        if record.layer is None:
            call = record.steps[-1]
            heads = self.heads or list(range(call.q.shape[1]))
            record.layer = Layer(key, heads, call, None, self.links, self.special)
        return record.layer

    def close(self) -> None:
        """Lets go of the frames, and with them of what the model held."""
        self.outermost = None
        for record in self.records.values():
            record.frame = None

    def check(self) -> None:
        """Raises ValueError if layers were asked for that the model has not."""
        missing = [
            one for one in self.layers or () if one not in self.names and one not in self.names.values()
        ]
        if missing and self.names:
            raise ValueError(
                f"watch: expected layers from 0 to {len(self.names) - 1} or names out of {', '.join(self.names)}, got {missing}; "
                f"choose among them"
            )


def _without_padding(call: Call, who: Asking) -> Call:
    """A model without an order among its tokens lets its padding ask too: those queries are left out."""
    if (
        who.cross
        or who.shape is None
        or who.queries is not None
        or who.keys is None
        or who.shape[1] != who.shape[2]
    ):
        return call
    return replace(call, q=call.q[who.keys], lse=call.lse[who.keys], offsets=call.key_offsets)
