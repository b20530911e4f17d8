"""The door to attention: checks the request, chooses a backend or says why none fits, and lets watchers look.

A backend is a module with two functions: `refuses(q, k, v, pattern, dropout)` gives a sentence or None, and
`attend(q, k, v, offsets, key_offsets, pattern, scale, dropout)` gives (out, lse). Backends compute the same thing as
`reference.py`; one is chosen before anything runs and is never replaced after an error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from sightline.attention import blockwise, cpu, cuda, reference
from sightline.attention.pattern import FULL, Pattern

BACKENDS = {"cpu": cpu, "cuda": cuda, "blockwise": blockwise, "reference": reference}  # in the order they are tried


class Attended(NamedTuple):
    """What attention gives: out [T, H, Dv], and lse [T, H] in nats, from which any weight can be had exactly."""

    out: Tensor
    lse: Tensor


def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    offsets: Tensor,
    pattern: Pattern = FULL,
    *,
    key_offsets: Tensor | None = None,
    scale: float | None = None,
    dropout: float = 0.0,
    backend: str | None = None,
) -> Attended:
    """Attention inside each sequence of a pack, exact, without padding.

    Shapes: q [T, H, D], k [R, G, D], v [R, G, Dv] with H a multiple of G; offsets [S + 1] over the T rows and
    key_offsets [S + 1] over the R rows (None: the same; then R = T). Where a sequence has more keys than queries, its
    last query stands at its last key.
    Returns: out [T, H, Dv] in the input's dtype and lse [T, H] in nats, float32 or wider; a query with no visible key
    has out = 0 and lse = -inf. Gradients flow through both. `scale` is 1 / sqrt(D) unless given; `dropout` is the
    probability with which a weight is dropped.
    Raises: ValueError or TypeError for shapes, dtypes or offsets that do not fit, or if the backend asked for refuses.
    Source: Vaswani et al. 2017, equation 1.

    >>> q = k = v = torch.eye(3)[:, None]                   # three rows, one head of width 3
    >>> attention(q, k, v, torch.tensor([0, 2, 3])).lse     # log of two terms, two terms, one
    tensor([[1.0229],
            [1.0229],
            [0.5774]])
    """
    key_offsets = _check(q, k, v, offsets, key_offsets, dropout)
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    chosen = _choose(backend, q, k, v, pattern, dropout)
    attended = Attended(*chosen.attend(q, k, v, offsets, key_offsets, pattern, scale, dropout))
    for look in _watchers.get():
        look(q, k, v, offsets, key_offsets, pattern, scale, attended)
    return attended


_watchers: ContextVar[tuple[Callable, ...]] = ContextVar("watchers", default=())


@contextmanager
def watching(look: Callable) -> Iterator[None]:
    """Calls `look(q, k, v, offsets, key_offsets, pattern, scale, attended)` after each attention made in this context.

    Nested watchers all look; other threads are not seen.
    """
    token = _watchers.set((*_watchers.get(), look))
    try:
        yield
    finally:
        _watchers.reset(token)


def _choose(name: str | None, q: Tensor, k: Tensor, v: Tensor, pattern: Pattern, dropout: float):
    if name is not None and name not in BACKENDS:
        raise ValueError(
            f"attention: expected a backend out of {', '.join(BACKENDS)}, got {name!r}; leave it out to have one chosen"
        )
    reasons = []
    for candidate in BACKENDS if name is None else (name,):
        refusal = BACKENDS[candidate].refuses(q, k, v, pattern, dropout)
        if refusal is None:
            return BACKENDS[candidate]
        reasons.append(refusal)
    raise ValueError(f"attention: {'; '.join(reasons)}")


def _check(
    q: Tensor, k: Tensor, v: Tensor, offsets: Tensor, key_offsets: Tensor | None, dropout: float
) -> Tensor:
    """Raises if the request makes no sense; gives the key offsets."""
    if q.dim() != 3 or k.dim() != 3 or v.dim() != 3:
        shapes = [list(t.shape) for t in (q, k, v)]
        raise ValueError(
            f"attention: expected q [T, H, D], k [R, G, D] and v [R, G, Dv], got {shapes}; split the heads off the width"
        )
    if q.shape[2] != k.shape[2] or k.shape[:2] != v.shape[:2] or k.shape[1] == 0 or q.shape[1] % k.shape[1]:
        shapes = [list(t.shape) for t in (q, k, v)]
        raise ValueError(
            f"attention: expected q [T, H, D], k [R, G, D] and v [R, G, Dv] with H a multiple of G, got {shapes}; make the widths and heads agree"
        )
    if not (q.dtype == k.dtype == v.dtype and q.dtype.is_floating_point and q.device == k.device == v.device):
        kinds = ", ".join(f"{t.dtype} on {t.device}" for t in (q, k, v))
        raise TypeError(
            f"attention: expected q, k and v of one floating dtype on one device, got {kinds}; convert them"
        )
    if not 0 <= dropout < 1:
        raise ValueError(
            f"attention: expected a dropout from 0 to below 1, got {dropout}; it is the share of weights dropped"
        )
    _check_offsets("offsets", offsets, len(q))
    if key_offsets is None:
        if len(q) != len(k):
            raise ValueError(
                f"attention: expected as many keys as queries, got {len(k)} and {len(q)}; or give key_offsets"
            )
        return offsets
    _check_offsets("key_offsets", key_offsets, len(k))
    if len(key_offsets) != len(offsets):
        raise ValueError(
            f"attention: expected offsets and key_offsets of the same sequences, got {len(offsets) - 1} and {len(key_offsets) - 1}; give one key range for each"
        )
    return key_offsets


def _check_offsets(name: str, offsets: Tensor, rows: int) -> None:
    if (
        not isinstance(offsets, Tensor)
        or offsets.dtype != torch.int64
        or offsets.device.type != "cpu"
        or offsets.dim() != 1
    ):
        what = (
            f"{offsets.dtype} {list(offsets.shape)} on {offsets.device}"
            if isinstance(offsets, Tensor)
            else type(offsets).__name__
        )
        raise TypeError(
            f"attention: expected {name} as an int64 tensor [S + 1] on the CPU, got {what}; use Sequences.offsets"
        )
    fault = _fault(offsets.numpy().tobytes(), rows)
    if fault:
        raise ValueError(f"attention: expected {name} {fault}; use Sequences, which checks them once")


@lru_cache(256)
def _fault(offsets: bytes, rows: int) -> str | None:
    """What is wrong with these offsets, remembered, since each layer asks again about the same ones."""
    numbers = np.frombuffer(offsets, np.int64)
    if len(numbers) == 0 or numbers[0] != 0:
        return f"that start at 0, got {numbers[:1].tolist()}"
    if (np.diff(numbers) < 0).any():
        return f"that never fall, got a fall at sequence {int((np.diff(numbers) < 0).argmax())}"
    return None if numbers[-1] == rows else f"that end at {rows} rows, got {numbers[-1]}"
