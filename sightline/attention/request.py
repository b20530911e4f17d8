"""Request: the checked arguments of one call, handed whole to backends and watchers; a new option changes no signature."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor

from sightline.attention.origin import Origin
from sightline.attention.pattern import Pattern
from sightline.sequences import Layout


class Request(NamedTuple):
    """The arguments of `operator.attention`, checked, with every default filled in; shapes as there."""

    q: Tensor
    k: Tensor
    v: Tensor
    layout: Layout
    key_layout: Layout  # the same object where the keys have the offsets of the queries
    pattern: Pattern
    scale: float
    dropout: float = 0.0
    softcap: float | None = None
    bias: Tensor | None = None
    sink: Tensor | None = None
    origin: Origin | None = None  # for watchers only

    @property
    def offsets(self) -> Tensor:
        return self.layout.offsets

    @property
    def key_offsets(self) -> Tensor:
        return self.key_layout.offsets

    def plan(self, make: Callable, *arguments):
        """`make(layout, key layout or None for the same, *arguments)`, computed once for the batch."""
        other = None if self.key_layout is self.layout else self.key_layout
        return self.layout.cached(make, other, *arguments)


def positive_scale(q: Tensor, scale: float) -> tuple[Tensor, float]:
    """Queries and a scale above 0 with the same scores, for kernels that multiply their own mask of -inf by the scale."""
    if scale > 0:
        return q, scale
    return (-q, -scale) if scale < 0 else (q * 0, 1.0)
