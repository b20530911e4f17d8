"""The public function `attention`: checks the request, chooses a backend or says why none fits, and calls watchers.

A backend is a module with two functions: `refuses(request)` returns a sentence or None, `attend(request)` (out, lse).
Backends compute what `reference.py` defines, except the sink, which follows from any (out, lse) and is added here. One
is chosen before anything runs and is never replaced after an error.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator
from contextlib import contextmanager
from contextvars import ContextVar
from numbers import Real
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch._C._functorch import peek_interpreter_stack
from torch._compile import _disable_dynamo  # pyright: ignore[reportPrivateUsage]  # no public name imports so little

from sightline.attention import blockwise, cpu, cuda, native, reference
from sightline.attention.masked_products import has_tangent
from sightline.attention.origin import Origin
from sightline.attention.pattern import FULL, Pattern
from sightline.attention.request import Request
from sightline.sequences import Layout

BACKENDS = {
    "native": native,
    "cpu": cpu,
    "cuda": cuda,
    "blockwise": blockwise,
    "reference": reference,
}  # in the order they are tried

Layouts = tuple[Layout, Layout]


class Attended(NamedTuple):
    """The result: out [T, H, Dv], and lse [T, H] in nats, from which any weight follows exactly."""

    out: Tensor
    lse: Tensor


def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    offsets: Tensor | Layout,
    pattern: Pattern = FULL,
    *,
    key_offsets: Tensor | Layout | None = None,
    scale: float | None = None,
    dropout: float = 0.0,
    softcap: float | None = None,
    bias: Tensor | None = None,
    sink: Tensor | None = None,
    backend: str | None = None,
    origin: Origin | None = None,
) -> Attended:
    """Attention inside each sequence of a pack, exact, without padding.

    Shapes: q [T, H, D], k [R, G, D], v [R, G, Dv] with H a multiple of G; offsets [S + 1] over the T rows and
    key_offsets [S + 1] over the R rows (None: the same; then R = T), as int64 tensors or as `Sequences.layout`, which
    is not checked again in every layer. Where a sequence has more keys than queries, its last query stands at its last
    key.
    `scale` is any finite number (None: 1 / sqrt(D)); `dropout` is the probability that a weight is dropped; with a
    `softcap` c, scores become c tanh(scores / c). `bias` [S or 1, H or 1, N, M] is then added to the scores: query i of
    sequence s meets key j at bias[s, h, i, j], i and j counted from 0 in their own sequence; N and M are at least the
    longest, any strides do. `sink` [H] is the score of one more key, whose value is zero, and lse counts it.
    `origin` tells watchers which module calls, and for which rows of its batch.
    What the pattern, a bias of -inf or another sequence hides changes nothing, NaN and infinity included: neither out
    nor lse nor the gradient of a row that does not see it. Only the backend "cuda" does not search for NaN, since that
    waits for the GPU: there it may spread to other rows of its own sequence. A visible NaN shows; a score beyond the
    largest number of its dtype counts as that number.
    Returns: out [T, H, Dv] in the input's dtype and lse [T, H] in nats, float32 or wider; a query with no visible key
    has out = 0 and lse = -inf (with a sink, its score). Gradients flow through both, to q, k, v, bias and sink; only
    the backend "reference" has second and forward derivatives, the others refuse them.
    Raises: ValueError or TypeError for shapes, dtypes or offsets that do not fit, or if the named backend refuses.
    Source: Vaswani et al. 2017, equation 1; for softcap, bias and sink see `reference.py`.

    >>> q = k = v = torch.eye(3)[:, None]                   # three rows, one head of width 3
    >>> attention(q, k, v, torch.tensor([0, 2, 3])).lse     # log of two terms, two terms, one
    tensor([[1.0229],
            [1.0229],
            [0.5774]])
    """
    if torch.compiler.is_dynamo_compiling():
        others: dict[str, Any] = {"softcap": softcap, "bias": bias, "sink": sink, "backend": backend, "origin": origin}
        return _untraced(q, k, v, offsets, pattern, key_offsets=key_offsets, scale=scale, dropout=dropout, **others)
    if peek_interpreter_stack() is not None:  # pyright: ignore[reportUnnecessaryComparison]  # outside of it, it is
        raise TypeError(
            "attention: expected tensors outside torch.func, got its wrappers; use torch.autograd, or forward_ad"
        )
    scale = float(max(1, q.shape[-1]) ** -0.5) if scale is None else _finite("scale", scale, "multiply q by it instead")
    dropout = _finite("dropout", dropout, "it is the share of weights dropped")
    softcap = None if softcap is None else _finite("softcap", softcap, "None leaves the scores as they are")
    layouts = _check(q, k, v, offsets, key_offsets, pattern, dropout)
    request = Request(q, k, v, *layouts, pattern, scale, dropout, softcap, bias, sink)
    if not (softcap is None and bias is None and sink is None):
        _check_scores(request)
    chosen = _choose(backend, request)
    attended = Attended(*chosen.attend(request))
    if sink is not None and chosen is not reference:  # which includes it
        attended = _with_sink(*attended, sink)
    for watcher in _watchers.get():
        watcher(request._replace(origin=origin), attended)
    return attended


_untraced = _disable_dynamo(attention)  # a graph breaks here: what runs depends on the offsets' values


def _with_sink(out: Tensor, lse: Tensor, sink: Tensor) -> Attended:
    """One more key, whose value is zero: lse' = log(exp(lse) + exp(sink)), out' = out exp(lse - lse')."""
    sink = sink.to(lse.dtype).clamp(max=torch.finfo(lse.dtype).max).expand_as(lse)
    unseen = (lse == -torch.inf)[..., None]
    blind = unseen[..., 0] & (sink == -torch.inf)  # neither a key nor a sink: as without one
    lse, sink = lse.masked_fill(blind, 0), sink.masked_fill(blind, 0)
    share = (lse - sink).sigmoid()  # exp(lse - lse'), and 0 with a gradient of 0 where lse = -inf
    with_sink = torch.logaddexp(lse, sink).masked_fill(blind, -torch.inf)
    return Attended((out * share[..., None]).masked_fill(unseen, 0).to(out.dtype), with_sink)


_watchers: ContextVar[tuple[Callable[..., Any], ...]] = ContextVar("watchers", default=())


@contextmanager
def watching(look: Callable[..., Any]) -> Generator[None]:
    """Calls `look(request, attended)` after each attention made in this context.

    Nested watchers all look; other threads are not seen.
    """
    token = _watchers.set((*_watchers.get(), look))
    try:
        yield
    finally:
        _watchers.reset(token)


def _choose(name: str | None, request: Request):
    if name is not None and name not in BACKENDS:
        raise ValueError(
            f"attention: expected a backend out of {', '.join(BACKENDS)}, got {name!r}; leave it out to have one chosen"
        )
    reasons = []
    names = tuple(BACKENDS) if name is None else (name,)
    if has_tangent(request.q, request.k, request.v, request.bias, request.sink):
        if "reference" not in names:
            raise ValueError(f"attention: {name}: has no forward derivatives; use backend='reference'")
        names = ("reference",)
    for candidate in names:
        refusal = BACKENDS[candidate].refuses(request)
        if refusal is None:
            return BACKENDS[candidate]
        reasons.append(refusal)
    raise ValueError(f"attention: {'; '.join(reasons)}")


def _finite(name: str, number: Any, instead: str) -> float:
    """A finite number as a float, from Python, numpy or a tensor without axes. Raises: TypeError or ValueError."""
    if type(number) is float and math.isfinite(number):
        return number
    if isinstance(number, Tensor) and number.requires_grad:
        raise TypeError(f"attention: expected {name} as a number, got a tensor that requires a gradient; {instead}")
    plain = number.item() if isinstance(number, (Tensor, np.ndarray)) and number.ndim == 0 else number
    if isinstance(plain, (bool, np.bool_)) or not isinstance(plain, Real):
        what = f"a {type(number).__name__}" if plain is number else f"{plain!r}"
        raise TypeError(f"attention: expected {name} as a number, got {what}; {instead}")
    try:
        plain = float(plain)
    except OverflowError:
        raise ValueError(
            f"attention: expected a {name} within the range of a float, got one beyond; {instead}"
        ) from None
    if not math.isfinite(plain):
        raise ValueError(f"attention: expected a finite {name}, got {number}; {instead}")
    return plain


_QKV = "q [T, H, D], k [R, G, D] and v [R, G, Dv]"


def _check(q: Tensor, k: Tensor, v: Tensor, offsets: Any, key_offsets: Any, pattern: Any, dropout: float) -> Layouts:
    """Raises if the request makes no sense; gives the layouts of queries and keys."""
    shapes = [list(t.shape) for t in (q, k, v)]
    if q.dim() != 3 or k.dim() != 3 or v.dim() != 3:
        raise ValueError(f"attention: expected {_QKV}, got {shapes}; split the heads off the width")
    (_, heads, width), (rows, groups, key_width), (value_rows, value_groups, _) = shapes
    alike = width == key_width and rows == value_rows and groups == value_groups
    if not alike or groups == 0 or heads % groups:
        fits = f"{_QKV} with H a multiple of G"
        raise ValueError(f"attention: expected {fits}, got {shapes}; make the widths and heads agree")
    if not (q.dtype == k.dtype == v.dtype and q.dtype.is_floating_point and q.device == k.device == v.device):
        kinds = ", ".join(f"{t.dtype} on {t.device}" for t in (q, k, v))
        raise TypeError(
            f"attention: expected q, k and v of one floating dtype on one device, got {kinds}; convert them"
        )
    if not isinstance(pattern, Pattern):
        raise TypeError(
            f"attention: expected a Pattern, got {type(pattern).__name__}; for everything leave it out, or CAUSAL, or "
            "Pattern(left, right)"
        )
    if not 0 <= dropout < 1:
        raise ValueError(
            f"attention: expected a dropout from 0 to below 1, got {dropout}; it is the share of weights dropped"
        )
    layout = _layout("offsets", offsets, len(q))
    if key_offsets is None:
        if len(q) != len(k):
            raise ValueError(
                f"attention: expected as many keys as queries, got {len(k)} and {len(q)}; or give key_offsets"
            )
        return layout, layout
    key_layout = _layout("key_offsets", key_offsets, len(k))
    if len(key_layout) != len(layout):
        raise ValueError(
            f"attention: expected offsets and key_offsets of the same sequences, got {len(layout)} and "
            f"{len(key_layout)}; give one key range for each"
        )
    return layout, key_layout


def _check_scores(request: Request) -> None:
    """Raises if softcap, bias or sink make no sense."""
    q, softcap, bias, sink = request.q, request.softcap, request.bias, request.sink
    if softcap is not None and softcap <= 0:
        raise ValueError(
            f"attention: expected a softcap above 0, got {softcap}; scores stay below it, and None leaves them as "
            "they are"
        )
    tensors: list[tuple[str, str, Any]] = [("bias", "[S or 1, H or 1, N, M]", bias), ("sink", "[H]", sink)]
    for name, shape, t in tensors:
        if t is not None and not (isinstance(t, Tensor) and t.is_floating_point() and t.device == q.device):
            what = f"{t.dtype} on {t.device}" if isinstance(t, Tensor) else type(t).__name__
            raise TypeError(
                f"attention: expected {name} as a floating tensor {shape} on {q.device}, got {what}; convert it"
            )
    heads = q.shape[1]
    if sink is not None and sink.shape != (heads,):
        raise ValueError(
            f"attention: expected sink [{heads}], got {list(sink.shape)}; give one score for each head of q"
        )
    if bias is None:
        return
    sequences, n, m = len(request.layout), request.layout.longest, request.key_layout.longest
    fits = bias.dim() == 4 and bias.shape[0] in (1, sequences) and bias.shape[1] in (1, heads)
    if not (fits and bias.shape[2] >= n and bias.shape[3] >= m):
        raise ValueError(
            f"attention: expected bias [{sequences} or 1, {heads} or 1, {n} or more, {m} or more], got "
            f"{list(bias.shape)}; give one number for each query and key of the longest sequence"
        )


def _layout(name: str, offsets: Any, rows: int) -> Layout:
    """The layout, or that of bare offsets. Raises: TypeError or ValueError where they do not fit so many rows."""
    if isinstance(offsets, Layout):
        layout = offsets
    elif not isinstance(offsets, Tensor):
        raise TypeError(f"{_OFFSETS.format(name)}, got {type(offsets).__name__}; use Sequences.layout")
    elif offsets.dtype != torch.int64 or offsets.device.type != "cpu" or offsets.dim() != 1:
        kind = f"{offsets.dtype} {list(offsets.shape)} on {offsets.device}"
        raise TypeError(f"{_OFFSETS.format(name)}, got {kind}; use Sequences.layout")
    else:
        layout = Layout.of(offsets, f"attention: expected {name}")
    if layout.rows != rows:
        raise ValueError(
            f"attention: expected {name} that end at {rows} rows, got {layout.rows}; use Sequences, which checks them "
            "once"
        )
    return layout


_OFFSETS = "attention: expected {} as an int64 tensor [S + 1] on the CPU, or a Layout"
