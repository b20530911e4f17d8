"""A layer as it was seen: its statistics, made when they are first asked for and then kept, and any weight."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import NamedTuple

from torch import Tensor

from sightline.attention import Pattern
from sightline.observe.calls import Call
from sightline.observe.statistics import Statistics, bins


class Links(NamedTuple):
    """For each query the keys it looks at most, strongest first; of equal ones, any.

    Shapes: keys int32 [T, H, k], places in their own sequence, -1 where fewer are visible; weights float32 [T, H, k].
    """

    keys: Tensor
    weights: Tensor


class Layer:
    """What the heads of one attention layer looked at in one forward pass, or in all steps of one `generate`.

    Shapes: offsets, key_offsets int64 [S + 1]; over T queries, R keys and the H heads that were watched, float32:
    `lse`, `entropy` (nats), `distance` (tokens), `first`, `special` [T, H]; `received` [R, H]; `histogram` [H, 2 BINS + 1] with
    the names `bins`; `links`. Rows are real tokens, without padding. `statistics.py` has the formulas.
    """

    bins = bins()

    def __init__(self, name: str, heads: list[int], call: Call, make: Callable[[], Statistics]):
        self.name, self.heads, self._call, self._make = name, heads, call, make

    @cached_property
    def _statistics(self) -> Statistics:
        return self._make()

    offsets: Tensor = property(lambda self: self._call.offsets)
    key_offsets: Tensor = property(lambda self: self._call.key_offsets)
    pattern: Pattern = property(lambda self: self._call.pattern)
    scale: float = property(lambda self: self._call.scale)
    lse: Tensor = property(lambda self: self._call.lse.float())
    entropy: Tensor = property(lambda self: self._statistics.entropy)
    distance: Tensor = property(lambda self: self._statistics.distance)
    histogram: Tensor = property(lambda self: self._statistics.histogram)
    received: Tensor = property(lambda self: self._statistics.received)
    first: Tensor = property(lambda self: self._statistics.first)
    special: Tensor = property(lambda self: self._statistics.special)

    @property
    def links(self) -> Links:
        return Links(self._statistics.keys, self._statistics.weights)

    def weights(self, sequence: int = 0) -> Tensor:
        """All weights of one short sequence, float32 or wider. Shapes: [H, n, m]: weight[head, query, key].

        Raises: ValueError for a sequence that is not there, or where the map was not kept.
        """
        return self.call(sequence).weights(sequence)

    def call(self, sequence: int = 0) -> Call:
        """The call with its queries and keys.

        Raises: ValueError for a sequence that is not there, or where the map was not kept.
        """
        if not 0 <= sequence < len(self.offsets) - 1:
            raise ValueError(
                f"{self.name}: expected a sequence from 0 to {len(self.offsets) - 2}, got {sequence}; count them in the batch"
            )
        if self._call.q is None:
            raise ValueError(
                f"{self.name}: expected the map, got statistics alone, since the input was long; watch with keep_map=True"
            )
        return self._call

    def __repr__(self) -> str:
        rows, heads = self.lse.shape
        return f"Layer({self.name!r}, {rows} queries in {len(self.offsets) - 1} sequences, heads {self.heads}, {self.pattern})"
