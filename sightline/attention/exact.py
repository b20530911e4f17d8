"""Computes exactly, and slowly, the sequences that a fast backend computes wrong.

A fast backend multiplies what is hidden by 0, which makes NaN of NaN and of infinity, and its backward pass begins with
a rounded lse, which changes a weight by as much as lse was rounded. So each backend inspects its own results, at little
cost. A sequence whose results show such a number is computed here: in float64, tile by tile, with products that leave
out what is hidden.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TypeGuard

import torch
from torch import Tensor
from torch.nn import Parameter

from sightline.attention.masked_products import weighted_sum
from sightline.attention.reference import visible
from sightline.attention.request import Request
from sightline.attention.single_backward import Grad
from sightline.attention.strips import Strip, dropout_mask, plan

Grads = Sequence[Grad]
Scores = tuple[Tensor, Tensor, Tensor, Tensor | float]  # as `_scores` returns them
LARGEST = torch.finfo(torch.float64).max


# --- which sequences need it: bool [S], or None for none ------------------------------------------------------------


def failed(out: Tensor, lse: Tensor, request: Request, zeros: bool = False) -> Tensor | None:
    """The sequences with NaN or an overflow in out or lse; with `zeros`, a row of zeros with lse = 0 counts as one."""
    if not _can_be_read(out) or lse.numel() == 0:
        return None
    low, high = (t.item() for t in lse.aminmax())
    usual = -math.inf < low and high < math.inf
    if usual and not (zeros and low <= 0 <= high and not lse.all()) and not _has_nan(out):
        return None
    nothing = lse == -torch.inf
    rows = out.isnan().flatten(1).any(1) | ~(lse < torch.inf).all(1)
    if (chosen := _sequences(nothing.any(1), request.offsets)) is not None:
        rows |= (nothing & _sees(request, chosen)).any(1)
    if zeros:
        rows |= ((lse == 0) & (out == 0).all(-1)).any(1)
    return _sequences(rows, request.offsets)


def failed_back(grads: Grads, request: Request) -> Tensor | None:
    """The sequences with NaN in a gradient."""
    if not any(_has_nan(t) for t in grads):
        return None
    bad, (*rows, bias) = None, grads
    for t, offsets in zip(rows, (request.offsets, request.key_offsets, request.key_offsets), strict=True):
        if t is not None:
            bad = either(bad, _sequences(t.isnan().flatten(1).any(1), offsets))
    if bias is not None:
        bad = either(bad, bias.isnan().flatten(1).any(1).cpu().expand(len(request.layout)))
    return bad


def rounded(lse: Tensor, request: Request) -> Tensor | None:
    """The sequences with an lse so large that weights computed from it would be off by more than 2^-13."""
    if not _can_be_read(lse) or lse.numel() == 0:
        return None
    limit = 2**-13 / torch.finfo(lse.dtype).eps
    low, high = (t.item() for t in lse.aminmax())
    if -limit <= low and high <= limit:
        return None
    return _sequences(((lse.abs() > limit) & (lse > -torch.inf)).any(1), request.offsets)


def _has_nan(t: Tensor | None) -> bool:
    """Mostly needs one sum, which is finite."""
    return _can_be_read(t) and not math.isfinite(t.sum().item()) and bool(t.isnan().any())


def _can_be_read(t: Tensor | None) -> TypeGuard[Tensor]:
    """Whether t has numbers that may be read now."""
    if t is None or type(t) not in (Tensor, Parameter):
        return False
    return t.is_cpu or (t.is_cuda and not torch.cuda.is_current_stream_capturing())


def _sequences(rows: Tensor, offsets: Tensor) -> Tensor | None:
    """The sequences that have one of the rows, bool [T]."""
    rows = rows.nonzero().flatten().cpu()
    if len(rows) == 0:
        return None
    chosen = torch.zeros(len(offsets) - 1, dtype=torch.bool)
    chosen[torch.bucketize(rows, offsets[1:], right=True)] = True
    return chosen


def either(a: Tensor | None, b: Tensor | None) -> Tensor | None:
    return a if b is None else b if a is None else a | b


def _sees(request: Request, chosen: Tensor) -> Tensor:
    """Whether a query of the chosen sequences sees a key, bool [T, H]."""
    sees = torch.zeros(request.q.shape[:2], dtype=torch.bool, device=request.q.device)
    for strip in plan(request):
        for one in strip.each(chosen):
            for tile in one.tiles:
                into = one.queries(sees)
                into |= _seen(request, one, tile).any(-1)
    return sees


# --- forward and backward -------------------------------------------------------------------------------------------


def checked(
    out: Tensor, lse: Tensor, request: Request, zeros: bool = False, seed: int = 0
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Out and lse, the sequences that failed computed anew, and which those are; `seed` as in `attend`."""
    bad = failed(out, lse, request, zeros)
    return (out, lse, None) if bad is None else (*attend(out, lse, bad, request, seed), bad)


def attend(out: Tensor, lse: Tensor, chosen: Tensor, request: Request, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Out and lse, those of the chosen sequences computed anew; `seed` draws the same dropout as in `blockwise`."""
    q, v = request.q, request.v
    wide = q.new_zeros(*q.shape[:2], v.shape[2], dtype=torch.float64)
    levels = q.new_full(q.shape[:2], -torch.inf, dtype=torch.float64)
    with torch.autocast(q.device.type, enabled=False):
        dice = torch.Generator(q.device).manual_seed(seed)
        for strip in _strips(request, chosen):
            base, total = _level(request, strip)
            mixed = strip.queries(wide)
            for tile in strip.tiles:
                weights, seen, *_ = _weights(request, strip, tile, base, total)
                weights = weights * _kept(weights, request, dice)
                mixed += weighted_sum(weights, _keys(v, request, strip, tile), seen)
            strip.queries(levels).copy_((base + total.log())[..., 0])
    largest = torch.finfo(lse.dtype).max
    levels = levels.clamp(-largest, largest).masked_fill(levels == -torch.inf, -torch.inf)
    rows = _rows(chosen, request.offsets, q.device)
    return torch.where(rows[..., None], wide.to(out.dtype), out), torch.where(rows, levels.to(lse.dtype), lse)


def derive(grads: Grads, chosen: Tensor, grad_out: Grad, grad_lse: Grad, request: Request, seed: int = 0) -> list[Grad]:
    """The gradients of q, k, v and, if there is one, bias, those of the chosen sequences computed anew.

    With w the weights, z the dropout's 0 or 1 / (1 - p), and d the derivative of a score by its product:
    dv = (w z)^T grad,  ds = w (z grad v^T - sum_j w z grad v^T + grad_lse) = dbias,  dq = scale d ds k,
    dk = scale (d ds)^T q.
    """
    q, k, v, bias = *request[:3], None if grads[3] is None else request.bias
    through_out = grad_out is not None
    if not through_out:
        grad_out, v = q.new_zeros(1).expand(*q.shape[:2], v.shape[2]), torch.zeros_like(v)
    tensors = (q, k, v) if bias is None else (q, k, v, bias)
    dq, dk, dv, *db = (torch.zeros(t.shape, dtype=torch.float64, device=t.device) for t in tensors)
    with torch.autocast(q.device.type, enabled=False):
        dice = torch.Generator(q.device).manual_seed(seed)
        for strip in _strips(request, chosen, bias):
            base, total = _level(request, strip)
            grad, queries = (strip.queries(t).double() for t in (grad_out, q))
            slope, drawn = torch.zeros_like(total), dice.get_state()
            for tile in strip.tiles:
                weights, seen, *_ = _weights(request, strip, tile, base, total)
                changes = (grad @ _keys(v, request, strip, tile).mT).masked_fill(~seen, 0)
                slope += (weights * changes * _kept(weights, request, dice)).sum(-1, keepdim=True)
            if grad_lse is not None:
                slope -= strip.queries(grad_lse).double()[..., None]
            dice.set_state(drawn)
            for tile in strip.tiles:
                weights, seen, moves, steep = _weights(request, strip, tile, base, total)
                keys, values = (_keys(t, request, strip, tile) for t in (k, v))
                kept = _kept(weights, request, dice)
                ds = (weights * ((grad @ values.mT) * kept - slope)).masked_fill(~(seen & moves), 0)
                for into in (strip.pairs(t, tile) for t in db):
                    into += ds.sum_to_size(into.shape)
                ds = ds * steep
                strip.queries(dq).add_(weighted_sum(ds, keys, seen))
                parts = [(dk, ds.mT, queries), (dv, (weights * kept).mT, grad)]
                for into, left, right in parts if through_out else parts[:1]:
                    part = weighted_sum(left, right, seen.mT)
                    strip.keys(into, tile).add_(part.unflatten(1, (k.shape[1], -1)).sum(2))
    rows, keys = (_rows(chosen, o, q.device)[..., None] for o in (request.offsets, request.key_offsets))
    shared = torch.ones(1, dtype=torch.bool)
    where = [rows, keys, keys, *((shared if len(t) == 1 else chosen).to(q.device)[:, None, None, None] for t in db)]
    exact = dq * request.scale, dk * request.scale, dv, *db
    merged = zip(where, exact, grads, strict=False)
    merged = [None if old is None else torch.where(w, new.to(old.dtype), old) for w, new, old in merged]
    return merged if db else [*merged, None]


def corrected(
    grads: Grads, failed: Tensor | None, lse: Tensor, grad_out: Grad, grad_lse: Grad, request: Request, seed: int = 0
) -> Grads:
    """The gradients of a fast backend, computed anew where forward failed, NaN shows, or lse is too large."""
    bad = either(failed, either(rounded(lse, request), failed_back(grads, request)))
    return grads if bad is None else derive(grads, bad, grad_out, grad_lse, request, seed)


def _strips(request: Request, chosen: Tensor, bias: Tensor | None = None) -> Iterable[Strip]:
    """Strips of the chosen sequences, one by one; all strips if dropout follows their order or they share a bias."""
    if request.dropout or (bias is not None and len(bias) == 1):
        return plan(request)
    return (one for strip in plan(request) for one in strip.each(chosen))


def _rows(chosen: Tensor, offsets: Tensor, device: torch.device) -> Tensor:
    """Whether a row belongs to a chosen sequence, bool [T, 1]."""
    return chosen.repeat_interleave(offsets.diff())[:, None].to(device)


def _level(request: Request, strip: Strip) -> tuple[Tensor, Tensor]:
    """The largest score of each query, or 0, and the sum of exp(score - largest), 0 without keys: [count, H, n, 1]."""
    shape = strip.count, request.q.shape[1], strip.stop - strip.start, 1
    base = peak = torch.full(shape, -torch.inf, dtype=torch.float64, device=request.q.device)
    total = torch.zeros_like(peak)
    for tile in strip.tiles:
        scores, *_ = _scores(request, strip, tile)
        higher = torch.maximum(peak, scores.amax(-1, keepdim=True))
        base = higher.masked_fill(higher == -torch.inf, 0)
        total = total * (peak - base).exp() + (scores - base).exp().sum(-1, keepdim=True)
        peak = higher
    return base, total


def _weights(request: Request, strip: Strip, tile: tuple[int, int], base: Tensor, total: Tensor) -> Scores:
    """Weights [count, H, n, m] before dropout, and all that `_scores` returns after the scores."""
    scores, seen, moves, steep = _scores(request, strip, tile)
    return (scores - base).exp() / total.masked_fill(total == 0, 1), seen, moves, steep


def _scores(request: Request, strip: Strip, tile: tuple[int, int]) -> Scores:
    """Scores [count, H, n, m], -inf where hidden; what is seen; which scores are in float64's range; and the derivative
    of a score by its product."""
    scores = strip.queries(request.q).double() @ _keys(request.k, request, strip, tile).mT * request.scale
    steep = 1.0
    if request.softcap is not None:
        tanh = (scores / request.softcap).tanh()
        scores, steep = tanh * request.softcap, 1 - tanh.square()
    seen = _seen(request, strip, tile)
    if request.bias is not None:
        scores = scores + strip.pairs(request.bias, tile)
    moves = ~(scores.abs() > LARGEST)  # true of NaN too
    return scores.clamp(-LARGEST, LARGEST).masked_fill(~seen, -torch.inf), seen, moves, steep


def _seen(request: Request, strip: Strip, tile: tuple[int, int]) -> Tensor:
    """Which query sees which key, bool [n, m], or [count or 1, H or 1, n, m] with a bias."""
    lo, hi = tile
    behind = strip.start + strip.m - strip.n - lo
    seen = visible(strip.stop - strip.start, hi - lo, behind, request.pattern, request.q.device)
    return seen if request.bias is None else seen & (strip.pairs(request.bias, tile) != -torch.inf)


def _keys(t: Tensor, request: Request, strip: Strip, tile: tuple[int, int]) -> Tensor:
    """The keys of a tile, or its values, once for each head of q: [count, H, m, D]."""
    return strip.keys(t, tile).double().repeat_interleave(request.q.shape[1] // t.shape[1], 1)


def _kept(weights: Tensor, request: Request, dice: torch.Generator) -> Tensor | float:
    if not request.dropout:
        return 1.0
    return dropout_mask(weights.to(torch.promote_types(request.q.dtype, torch.float32)), request.dropout, dice).double()
