"""The definition of attention over packed sequences: the one place that says what is right; every backend must agree.

For query i and key j of one sequence, with places counted so that the last query stands at the last key:

    s_ij   = scale * q_i . k_j            scores, for the keys j that the pattern shows to i
    s_ij   = c tanh(s_ij / c)             with a softcap c
    s_ij   = s_ij + bias_ij               with a bias; both counted from 0 in their own sequence
    lse_i  = log sum_j exp(s_ij)          in nats; with a sink, it is one more term of the sum: exp(sink)
    w_ij   = exp(s_ij - lse_i)            weights; each row sums to one, less what a sink takes
    out_i  = sum_j w_ij v_j

Source: Vaswani et al. 2017, equation 1 (Q = q, K = k, V = v, scale = 1 / sqrt(d_k)); Gemma Team 2024, section 2 (softcap);
Raffel et al. 2020, section 2.1 (bias); OpenAI 2025, gpt-oss (sink). A query that sees no key, or only such as a bias of -inf
hides, has out = 0 and, without a sink, lse = -inf. Memory n x n per sequence: read it, test against it, do not run it on
long input.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sightline.attention.pattern import Pattern
from sightline.attention.request import Request


def visible(queries: int, keys: int, behind: int, pattern: Pattern, device=None) -> Tensor:
    """bool [queries, keys]: does the query see the key, where query i stands at key `i + behind`."""
    place = torch.arange(queries, device=device)[:, None] + behind
    distance = torch.arange(keys, device=device) - place
    seen = torch.ones(queries, keys, dtype=torch.bool, device=device)
    beyond = queries + keys + abs(behind)  # nothing is as far, and int64 holds no number of any size
    if pattern.left is not None:
        seen &= distance >= -min(pattern.left, beyond)
    if pattern.right is not None:
        seen &= distance <= min(pattern.right, beyond)
    return seen


def scores_of(q: Tensor, k: Tensor, pattern: Pattern, scale: float, softcap=None, bias=None) -> Tensor:
    """The scores of one sequence, -inf where hidden. Shapes: q [n, H, D], k [m, G, D], bias [H or 1, N, M] -> [H, n, m]."""
    k = k.repeat_interleave(q.shape[1] // k.shape[1], 1)
    scores = torch.einsum("qhd,khd->hqk", q, k) * scale
    if softcap is not None:
        scores = softcap * (scores / softcap).tanh()
    if bias is not None:
        scores = scores + bias[:, : len(q), : len(k)].to(scores.dtype)
    seen = visible(len(q), len(k), len(k) - len(q), pattern, q.device)
    return scores.masked_fill(~seen | (scores == -torch.inf), -torch.inf)


def attend_one(scores: Tensor, v: Tensor, dropout: float, sink: Tensor | None) -> tuple[Tensor, Tensor]:
    """One sequence. Shapes: scores [H, n, m], v [m, G, Dv], sink [H] -> out [n, H, Dv], lse [n, H]."""
    heads, n, m = scores.shape
    if sink is not None:  # a further key, whose value is zero
        scores = torch.cat([scores, sink.to(scores.dtype)[:, None, None].expand(-1, n, 1)], 2)
    lse = scores.to(torch.promote_types(scores.dtype, torch.float32)).logsumexp(-1)  # [H, n]
    base = lse.masked_fill(lse == -torch.inf, 0.0)  # subtracting -inf from -inf would be NaN
    weights = (scores - base[..., None].to(scores.dtype)).exp()[..., :m]
    weights = torch.nn.functional.dropout(weights, dropout)
    return torch.einsum("hqk,khd->qhd", weights, v.repeat_interleave(heads // v.shape[1], 1)), lse.T


def refuses(request: Request) -> str | None:
    return None


def attend(request: Request) -> tuple[Tensor, Tensor]:
    """All sequences, one after the other. Shapes as in `operator.attention`."""
    q, k, v, offsets, key_offsets, pattern, scale, dropout, softcap, bias, sink = request
    out, lse = [], []
    for s in range(len(offsets) - 1):
        rows, keys = slice(*offsets[s : s + 2].tolist()), slice(*key_offsets[s : s + 2].tolist())
        its_bias = None if bias is None else bias[s if len(bias) > 1 else 0]
        scores = scores_of(q[rows], k[keys], pattern, scale, softcap, its_bias)
        o, l = attend_one(scores, v[keys], dropout, sink)
        out.append(o)
        lse.append(l)
    if not out:
        nothing = sum(t.sum() * 0 for t in (q, k, v, bias, sink) if t is not None)
        wide = torch.promote_types(q.dtype, torch.float32)
        return q.new_zeros(0, q.shape[1], v.shape[2]) + nothing, (q.new_zeros(0, q.shape[1]) + nothing).to(
            wide
        )
    return torch.cat(out), torch.cat(lse)
