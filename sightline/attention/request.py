"""Request: what one call of attention asks for, handed whole to backends and watchers, so that a new wish lengthens no list."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from sightline.attention.origin import Origin
from sightline.attention.pattern import Pattern


def kept(offsets: Tensor, key_offsets: Tensor) -> tuple[Tensor, Tensor]:
    """Offsets for the way back, since the caller may fill his anew before; one where they are one."""
    own = offsets.clone()
    return own, own if key_offsets is offsets else key_offsets.clone()


class Request(NamedTuple):
    """The arguments of `operator.attention`, checked, with every default filled in; shapes as there."""

    q: Tensor
    k: Tensor
    v: Tensor
    offsets: Tensor
    key_offsets: Tensor  # the very offsets, if the keys have no others
    pattern: Pattern
    scale: float
    dropout: float = 0.0
    softcap: float | None = None
    bias: Tensor | None = None
    sink: Tensor | None = None
    origin: Origin | None = None  # for watchers only


def positive(q: Tensor, scale: float) -> tuple[Tensor, float]:
    """Queries and a scale above 0 with the same scores, for kernels that multiply their own mask of -inf by the scale."""
    if scale > 0:
        return q, scale
    return (-q, -scale) if scale < 0 else (q * 0, 1.0)
