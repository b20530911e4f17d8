"""The definition of attention over packed sequences: the one place that says what is right; every backend must agree.

For query i and key j of one sequence, with places counted so that the last query stands at the last key:

    s_ij   = scale * q_i . k_j            scores, for the keys j that the pattern shows to i
    lse_i  = log sum_j exp(s_ij)          in nats
    w_ij   = exp(s_ij - lse_i)            weights; each row sums to one
    out_i  = sum_j w_ij v_j

Source: Vaswani et al. 2017, equation 1 (Q = q, K = k, V = v, scale = 1 / sqrt(d_k)). A query that sees no key has
out = 0 and lse = -inf. Memory n x n per sequence: read it, test against it, do not run it on long input.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sightline.attention.pattern import Pattern


def visible(queries: int, keys: int, behind: int, pattern: Pattern, device=None) -> Tensor:
    """bool [queries, keys]: does the query see the key, where query i stands at key `i + behind`."""
    place = torch.arange(queries, device=device)[:, None] + behind
    distance = torch.arange(keys, device=device) - place
    seen = torch.ones(queries, keys, dtype=torch.bool, device=device)
    if pattern.left is not None:
        seen &= distance >= -pattern.left
    if pattern.right is not None:
        seen &= distance <= pattern.right
    return seen


def attend_one(q: Tensor, k: Tensor, v: Tensor, pattern: Pattern, scale: float, dropout: float = 0.0):
    """One sequence. Shapes: q [n, H, D], k [m, G, D], v [m, G, Dv] -> out [n, H, Dv], lse [n, H]."""
    repeat = q.shape[1] // max(k.shape[1], 1)
    k, v = k.repeat_interleave(repeat, 1), v.repeat_interleave(repeat, 1)
    seen = visible(len(q), len(k), len(k) - len(q), pattern, q.device)
    scores = torch.einsum("qhd,khd->hqk", q, k) * scale
    scores = scores.masked_fill(~seen, -torch.inf)
    lse = scores.to(torch.promote_types(q.dtype, torch.float32)).logsumexp(-1)  # [H, n]
    sees = seen.any(-1)  # subtracting -inf from -inf would be NaN
    weights = (scores - lse.masked_fill(~sees, 0.0)[..., None].to(scores.dtype)).exp()
    weights = torch.nn.functional.dropout(weights, dropout)
    return torch.einsum("hqk,khd->qhd", weights, v), lse.T


def refuses(q, k, v, pattern, dropout) -> str | None:
    return None


def attend(q, k, v, offsets, key_offsets, pattern, scale, dropout):
    """All sequences, one after the other. Shapes as in `operator.attention`."""
    out, lse = [], []
    for s in range(len(offsets) - 1):
        rows, keys = slice(*offsets[s : s + 2].tolist()), slice(*key_offsets[s : s + 2].tolist())
        o, l = attend_one(q[rows], k[keys], v[keys], pattern, scale, dropout)
        out.append(o)
        lse.append(l)
    if not out:
        nothing = q.sum() * 0 + k.sum() * 0 + v.sum() * 0
        wide = torch.promote_types(q.dtype, torch.float32)
        return q.new_zeros(0, q.shape[1], v.shape[2]) + nothing, (q.new_zeros(0, q.shape[1]) + nothing).to(
            wide
        )
    return torch.cat(out), torch.cat(lse)
