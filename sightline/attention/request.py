"""Request: the checked arguments of one call, as backends and watchers get them; a new option changes no signature."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

from torch import Tensor

from sightline.attention.origin import Origin
from sightline.attention.pattern import Pattern
from sightline.sequences import Layout

Result = TypeVar("Result")


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

    def without_tensors(self) -> Request:
        """What a backward pass keeps of the request beside the tensors that autograd saves."""
        return self._replace(q=None, k=None, v=None, bias=None, sink=None)

    def plan(self, make: Callable[..., Result], *arguments: Any) -> Result:
        """`make(layout, key layout or None for the same, *arguments)`, computed once for the batch."""
        other = None if self.key_layout is self.layout else self.key_layout
        return self.layout.cached(make, other, *arguments)


def refusal(backend: str, request: Request, *options: str) -> str | None:
    """A sentence if the request uses one of the options, which the backend does not compute."""
    uses = {"dropout": request.dropout > 0, "softcap": request.softcap is not None, "bias": request.bias is not None}
    for option in options:
        if uses[option]:
            what = "dropout on weights; set dropout=0" if option == "dropout" else f"{option}; leave it out"
            return f"{backend}: has no {what}, or use backend='blockwise'"
    return None


def positive_scale(q: Tensor, scale: float) -> tuple[Tensor, float]:
    """Queries and a scale above 0 with the same scores: kernels multiply their own mask of -inf by the scale."""
    if scale > 0:
        return q, scale
    return (-q, -scale) if scale < 0 else (q * 0, 1.0)
