"""The definition of attention over packed sequences, with which every backend must agree.

For query i and key j of one sequence, with places counted so that the last query stands at the last key:

    s_ij   = scale * q_i . k_j            scores, for the keys j that the pattern shows to i
    s_ij   = c tanh(s_ij / c)             with a softcap c
    s_ij   = s_ij + bias_ij               with a bias; both counted from 0 in their own sequence
    lse_i  = log sum_j exp(s_ij)          in nats; with a sink, exp(sink) is one more term of the sum
    w_ij   = exp(s_ij - lse_i)            weights; each row sums to one, less what a sink takes
    out_i  = sum_j w_ij v_j

Source: Vaswani et al. 2017, equation 1 (Q = q, K = k, V = v, scale = 1 / sqrt(d_k)); Gemma Team 2024, section 2
(softcap); Raffel et al. 2020, section 2.1 (bias); OpenAI 2025, gpt-oss (sink). Every sum runs over visible pairs only:
what the pattern or a bias of -inf hides changes nothing, NaN included, nor does its gradient. A query that sees no key
has out = 0 and, without a sink, lse = -inf. A score beyond the largest number of its dtype counts as that number.
Memory n x n per sequence: for reading and for tests, not for long input.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sightline.attention.masked_products import Scores, WeightedSum
from sightline.attention.pattern import Pattern
from sightline.attention.request import Request


def visible(queries: int, keys: int, behind: int, pattern: Pattern, device: torch.device | None = None) -> Tensor:
    """bool [queries, keys]: does the query see the key, where query i stands at key `i + behind`."""
    place = torch.arange(queries, device=device)[:, None] + behind
    distance = torch.arange(keys, device=device) - place
    seen = torch.ones(queries, keys, dtype=torch.bool, device=device)
    beyond = queries + keys + abs(behind)  # no distance is as large, and a reach may exceed int64
    if pattern.left is not None:
        seen &= distance >= -min(pattern.left, beyond)
    if pattern.right is not None:
        seen &= distance <= min(pattern.right, beyond)
    return seen


def scores_of(
    q: Tensor, k: Tensor, pattern: Pattern, scale: float, softcap: float | None = None, bias: Tensor | None = None
) -> Tensor:
    """The scores of one sequence, -inf where hidden.

    Shapes: q [n, H, D], k [m, G, D], bias [H or 1, N, M] -> [H, n, m].
    """
    q, k = q.transpose(0, 1), k.repeat_interleave(q.shape[1] // k.shape[1], 1).transpose(0, 1)
    (_, n, _), m = q.shape, k.shape[1]
    seen = visible(n, m, m - n, pattern, q.device)
    if bias is not None:
        bias = bias[:, :n, :m]
        seen = seen & (bias != -torch.inf)
        bias = bias.to(q.dtype)
    largest = torch.finfo(torch.promote_types(q.dtype, torch.float32)).max  # PyTorch multiplies in float32 or wider
    scores = Scores.apply(q, k, seen) * max(-largest, min(scale, largest))
    if softcap is not None:
        scores = softcap * (scores / softcap).tanh()
    if bias is not None:
        scores = scores + bias
    beyond = scores.detach().abs() > torch.finfo(q.dtype).max
    scores = scores.where(~beyond, scores.detach().sign() * torch.finfo(q.dtype).max)
    return scores.masked_fill(~seen, -torch.inf)


def attend_one(scores: Tensor, v: Tensor, dropout: float, sink: Tensor | None) -> tuple[Tensor, Tensor]:
    """One sequence. Shapes: scores [H, n, m], v [m, G, Dv], sink [H] -> out [n, H, Dv], lse [n, H]."""
    heads, n, m = scores.shape
    seen = scores != -torch.inf
    if sink is not None:  # a further key, whose value is zero
        sink = sink.to(scores.dtype).clamp(max=torch.finfo(scores.dtype).max)
        scores = torch.cat([scores, sink[:, None, None].expand(-1, n, 1)], 2)
    wide = scores.to(torch.promote_types(scores.dtype, torch.float32))
    # The largest score is subtracted first, so that the weights sum to one however large the scores are.
    peak = wide.detach().amax(-1, keepdim=True) if wide.shape[2] else wide.new_full((heads, n, 1), -torch.inf)
    peak = peak.masked_fill(peak == -torch.inf, 0)
    terms = (wide - peak).exp()
    total = terms.sum(-1, keepdim=True)  # [H, n, 1]
    blind = total == 0
    total = total.masked_fill(blind, 1)
    lse = (peak + total.log()).masked_fill(blind, -torch.inf)[..., 0]
    weights = (terms / total)[..., :m].to(scores.dtype)
    weights = torch.nn.functional.dropout(weights, dropout)
    v = v.repeat_interleave(heads // v.shape[1], 1).transpose(0, 1)
    return WeightedSum.apply(weights, v, seen).transpose(0, 1), lse.T


def refuses(request: Request) -> str | None:
    return None


def attend(request: Request) -> tuple[Tensor, Tensor]:
    """All sequences, one after the other. Shapes as in `operator.attention`."""
    q, k, v, layout, key_layout, pattern, scale, dropout, softcap, bias, sink = request[:11]
    out, lse = [], []
    with torch.autocast(q.device.type, enabled=False):
        for s in range(len(layout)):
            rows, keys = (slice(*o.starts[s : s + 2].tolist()) for o in (layout, key_layout))
            sequence_bias = None if bias is None else bias[s if len(bias) > 1 else 0]
            scores = scores_of(q[rows], k[keys], pattern, scale, softcap, sequence_bias)
            o, l = attend_one(scores, v[keys], dropout, sink)
            out.append(o)
            lse.append(l)
    if not out:
        nothing = sum(t.sum() * 0 for t in (q, k, v, bias, sink) if t is not None)
        wide = torch.promote_types(q.dtype, torch.float32)
        return q.new_zeros(0, q.shape[1], v.shape[2]) + nothing, (q.new_zeros(0, q.shape[1]) + nothing).to(wide)
    return torch.cat(out), torch.cat(lse)
