"""Attention and its gradients as dense sums in NumPy, by sequence and head; independent of sightline.

A hidden pair is no term of any sum. Beside each result stands its size, the same sums over absolute values: rounding
errors grow with it.
"""

from __future__ import annotations

import numpy as np

LARGEST = np.finfo(np.float64).max  # a score beyond it is it


def total(weights, x, seen):
    """sum_j w_ij x_j over the visible j [n, D]."""
    if np.isfinite(x).all() and np.isfinite(weights).all():
        return np.where(seen, weights, 0) @ x
    return np.where(seen[..., None], weights[..., None] * x[None], 0).sum(1)


def attend(batch: dict, wide) -> tuple[dict, dict]:
    """Results and sizes by name: out, lse, and dq, dk, dv, dbias, dsink for `grad_out` and `grad_lse` (or None).

    `batch` has arrays q, k, v, offsets, key_offsets, bias, sink, grad_out, grad_lse, and numbers left, right, scale,
    softcap.
    """
    with np.errstate(all="ignore"):
        return _attend(batch, wide)


def _attend(batch: dict, wide):
    q, k, v = (batch[name].astype(wide) for name in "qkv")
    (rows, heads, _), groups, width = q.shape, k.shape[1], v.shape[2]
    values = {"out": np.zeros((rows, heads, width), wide), "lse": np.zeros((rows, heads), wide)}
    values |= {
        "d" + name: np.zeros(batch[name].shape, wide)
        for name in ("q", "k", "v", "bias", "sink")
        if batch[name] is not None
    }
    sizes = {name: np.zeros_like(t) for name, t in values.items()}
    steps = np.zeros((rows, heads), wide)  # how large are the terms of the scores of a row
    for s in range(len(batch["offsets"]) - 1):
        own = slice(*batch["offsets"][s : s + 2]), slice(*batch["key_offsets"][s : s + 2])
        for h in range(heads):
            _head(batch, wide, (q, k, v), s, h, h // (heads // groups), *own, values, sizes, steps)
    sizes["steps"] = steps
    return values, sizes


def _head(batch, wide, tensors, s, h, g, rows, keys, values, sizes, steps):
    q, k, v = (t[part, head] for t, part, head in zip(tensors, (rows, keys, keys), (h, g, g), strict=True))
    (n, _), m = q.shape, len(k)
    if n == 0:
        return
    distance = np.arange(m)[None] - (np.arange(n)[:, None] + m - n)
    seen = np.ones((n, m), bool)
    if batch["left"] is not None:
        seen &= distance >= -batch["left"]
    if batch["right"] is not None:
        seen &= distance <= batch["right"]
    scores, steep = q @ k.T * wide(batch["scale"]), np.ones((n, m), wide)
    step = abs(batch["scale"]) * (np.nan_to_num(abs(q), posinf=0) @ np.nan_to_num(abs(k), posinf=0).T)
    if batch["softcap"] is not None:
        tanh = np.tanh(scores / batch["softcap"])
        scores, steep = batch["softcap"] * tanh, 1 - tanh**2
    bias = place = None
    if batch["bias"] is not None:
        place = s if len(batch["bias"]) > 1 else 0, h if batch["bias"].shape[1] > 1 else 0
        bias = batch["bias"][place][:n, :m].astype(wide)
        seen, scores = seen & (bias != -np.inf), scores + bias
        step = step + np.nan_to_num(abs(bias))
    steep, moves = np.where(abs(scores) > LARGEST, 0, steep), ~(abs(scores) > LARGEST)
    scores = np.clip(scores, -LARGEST, LARGEST)
    steps[rows, h] = np.where(seen, step, 0).max(1, initial=0)
    scores = np.where(seen, scores, -np.inf)
    sink = -np.inf if batch["sink"] is None else batch["sink"][h].astype(wide)
    peak = np.maximum(scores.max(1, initial=-np.inf), sink)
    base = np.where(peak == -np.inf, 0, peak)[:, None]
    terms, last = np.exp(scores - base), np.exp(sink - base[:, 0])
    sums = terms.sum(1) + last
    values["lse"][rows, h] = np.where(sums == 0, -np.inf, base[:, 0] + np.log(np.where(sums == 0, 1, sums)))
    sizes["lse"][rows, h] = abs(np.nan_to_num(base[:, 0])) + 1
    sums = np.where(sums == 0, 1, sums)[:, None]
    weights, taken = terms / sums, last / sums[:, 0]
    values["out"][rows, h] = total(weights, v, seen)
    sizes["out"][rows, h] = total(weights, abs(v), seen)
    grad, grad_lse = (batch[name] for name in ("grad_out", "grad_lse"))
    through_out = grad is not None
    v = v if through_out else np.zeros_like(v)
    grad = np.zeros((n, v.shape[1]), wide) if grad is None else grad[rows, h].astype(wide)
    grad_lse = np.zeros(n, wide) if grad_lse is None else grad_lse[rows, h].astype(wide)
    grad_weights, size = np.where(seen, grad @ v.T, 0), np.where(seen, abs(grad) @ abs(v).T, 0)
    mean = np.where(seen, weights * grad_weights, 0).sum(1)
    ds = np.where(seen & moves, weights * (grad_weights - (mean - grad_lse)[:, None]), 0)
    mean_size = np.where(seen, weights * size, 0).sum(1) + abs(grad_lse)
    ds_size = np.where(seen, weights * (size + mean_size[:, None]), 0)
    if not through_out:
        grad = None
    _add(values, place, (rows, keys, h, g), ds, ds * steep, weights, q, k, grad, seen, wide(batch["scale"]))
    _add(
        sizes,
        place,
        (rows, keys, h, g),
        ds_size,
        ds_size,
        weights,
        abs(q),
        abs(k),
        None if grad is None else abs(grad),
        seen,
        wide(abs(batch["scale"])),
    )
    if sink > -np.inf:
        values["dsink"][h] -= (taken * (mean - grad_lse)).sum()
        sizes["dsink"][h] += mean_size.sum()  # what others take is known to a unit of one


def _add(into, place, where, ds, inner, weights, q, k, grad, seen, scale):
    rows, keys, h, g = where
    into["dq"][rows, h] = total(inner, k, seen) * scale
    into["dk"][keys, g] += total(inner.T, q, seen.T) * scale
    if grad is not None:
        into["dv"][keys, g] += total(weights.T, grad, seen.T)
    if place is not None:
        into["dbias"][place][: len(q), : len(k)] += ds
