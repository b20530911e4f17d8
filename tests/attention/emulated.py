"""PyTorch's flash kernels for packed sequences emulated in float32, to test their callers without a GPU.

Checks shapes, layouts, alignment, how windows are read, and what the kernels do where nothing is visible.
"""

from __future__ import annotations

import torch


def flash(
    q, k, v, bounds, key_bounds, most, most_keys, dropout, causal, debug, *, scale, window_size_left, window_size_right
):
    """`aten::_flash_attention_forward`: out [T, H, D], lse [H, T], and three results nobody needs."""
    _demand(q, k, v, bounds, key_bounds, most, most_keys)
    assert dropout == 0.0 and not debug
    left, right = _window(most_keys, causal, window_size_left, window_size_right)
    out = torch.zeros(q.shape)
    lse = torch.full((q.shape[1], len(q)), torch.inf)  # +inf: nothing visible
    for rows, keys in _sequences(bounds, key_bounds):
        scores, visible = _scores(q[rows], k[keys], scale, left, right)
        level = scores.logsumexp(-1)
        sees = visible.any(-1)
        lse[:, rows] = level.masked_fill(~sees, torch.inf)
        weights = (scores - lse[:, rows, None]).exp()
        out[rows] = torch.einsum("hqk,khd->qhd", weights, _repeated(v[keys], q))
    heads, groups = q.shape[1], k.shape[1]
    if most == 1 and heads > groups and window_size_left < 0 and window_size_right < 0:
        # heads of one group and queries change places; lse comes back in the order [G, T, H / G]
        assert len(q) == len(bounds) - 1, "an empty sequence cannot change places"
        lse = lse.unflatten(0, (groups, -1)).transpose(1, 2).reshape(heads, -1)
    return out.to(q.dtype), lse, None, None, None


def flash_backward(
    grad, q, k, v, out, lse, bounds, key_bounds, most, most_keys, dropout, causal, rng_state, unused,
    *, scale, window_size_left, window_size_right,
):  # fmt: skip
    """`aten::_flash_attention_backward`: the gradients of q, k and v."""
    _demand(q, k, v, bounds, key_bounds, most, most_keys)
    assert grad.shape == out.shape == q.shape and grad.dtype == out.dtype == q.dtype
    assert lse.shape == (q.shape[1], len(q)) and lse.dtype == torch.float32
    assert dropout == 0.0 and rng_state.dtype == torch.uint64
    left, right = _window(most_keys, causal, window_size_left, window_size_right)
    dq, dk, dv = (torch.zeros(t.shape) for t in (q, k, v))
    for rows, keys in _sequences(bounds, key_bounds):
        scores, visible = _scores(q[rows], k[keys], scale, left, right)
        weights = (scores - lse[:, rows, None]).exp()  # NaN if lse were -inf
        g = grad[rows].float()
        slope = (g * out[rows].float()).sum(-1).T[..., None]
        ds = weights * (torch.einsum("qhd,khd->hqk", g, _repeated(v[keys], q)) - slope)
        groups = k.shape[1]
        dq[rows] = scale * torch.einsum("hqk,khd->qhd", ds, _repeated(k[keys], q))
        for total, each in ((dk, scale * torch.einsum("hqk,qhd->khd", ds, q[rows].float())),
                            (dv, torch.einsum("hqk,qhd->khd", weights, g))):  # fmt: skip
            total[keys] = each.unflatten(1, (groups, -1)).sum(2)
    return tuple(t.to(q.dtype) for t in (dq, dk, dv))


def _demand(q, k, v, bounds, key_bounds, most, most_keys):
    """What is checked by the kernels, and what is not checked and would stop the device."""
    assert q.dtype == k.dtype == v.dtype and q.dtype in (torch.float16, torch.bfloat16)
    assert q.shape[2] == k.shape[2] == v.shape[2] <= 256 and q.shape[2] % 8 == 0
    assert k.shape == v.shape and q.shape[1] % k.shape[1] == 0
    assert len(q) > 0 and len(k) > 0 and most > 0
    for t in (q, k, v):
        assert t.stride(-1) == 1 and t.data_ptr() % 16 == 0 and all(step % 8 == 0 for step in t.stride()[:-1])
    for offsets, rows, longest in ((bounds, q, most), (key_bounds, k, most_keys)):
        assert offsets.dtype == torch.int32 and offsets.is_contiguous() and offsets[-1] == len(rows)
        assert offsets.diff().max() <= longest
    assert len(bounds) == len(key_bounds) > 1


def _window(most_keys: int, causal: bool, left: int, right: int) -> tuple[int, int]:
    """As the kernels read it: a side is without limit from `most_keys` on, but only if both are or the other is 0."""
    right = 0 if causal else right
    left, right = (-1 if side >= most_keys else side for side in (left, right))
    if left < 0 and right >= 0:
        left = most_keys
    elif left >= 0 and right < 0:
        right = most_keys
    return left, right


def _sequences(bounds, key_bounds):
    for s in range(len(bounds) - 1):
        yield slice(*bounds[s : s + 2].tolist()), slice(*key_bounds[s : s + 2].tolist())


def _scores(q, k, scale, left, right):
    """Scores [H, n, m] with -inf where hidden, and what is visible [n, m]; the last query stands at the last key."""
    assert scale > 0  # the mask of -inf is multiplied by it
    distance = torch.arange(len(k)) - (torch.arange(len(q))[:, None] + len(k) - len(q))
    visible = torch.ones(distance.shape, dtype=torch.bool)
    if left >= 0:
        visible &= distance >= -left
    if right >= 0:
        visible &= distance <= right
    scores = scale * torch.einsum("qhd,khd->hqk", q.float(), _repeated(k, q))
    return scores.masked_fill(~visible, -torch.inf), visible


def _repeated(t, q):
    return t.float().repeat_interleave(q.shape[1] // t.shape[1], 1)
