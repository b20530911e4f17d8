"""Statistics computed from all weights in float64: the definition that the library is compared with."""

import torch

from sightline.attention import FULL, attention
from sightline.observe.calls import Call
from sightline.observe.distances import BINS


def offsets_of(lengths):
    return torch.tensor([0, *lengths]).cumsum(0)


def random_call(lengths, key_lengths=None, pattern=FULL, heads=(4, 2), width=8, dtype=torch.float32, **extra):
    """A call with random queries and keys; `extra` is softcap, bias or sink."""
    offsets = offsets_of(lengths)
    key_offsets = offsets if key_lengths is None else offsets_of(key_lengths)
    q, k = (torch.randn(int(o[-1]), h, width, dtype=dtype) for o, h in zip((offsets, key_offsets), heads, strict=True))
    return call_of(q, k, offsets, key_offsets, pattern, **extra)


def call_of(q, k, offsets, key_offsets, pattern=FULL, **extra):
    lse = attention(q, k, k, offsets, pattern, key_offsets=key_offsets, **extra).lse
    heads, groups = q.shape[1], k.shape[1]
    bias = extra.get("bias")
    bias = None if bias is None else tuple(bias.expand(len(offsets) - 1, -1, -1, -1))
    options = q.shape[2] ** -0.5, torch.arange(heads) // (heads // groups), extra.get("softcap"), bias
    return Call(q, k, lse, offsets, key_offsets, pattern, *options)


def weights(call, sequence):
    """[H, n, m], one pair at a time in words, all at once in float64; sinks are in lse already."""
    rows, keys = (slice(*o[sequence : sequence + 2].tolist()) for o in (call.offsets, call.key_offsets))
    q, k = call.q[rows].double(), call.k[keys].double()[:, call.groups]
    scores = torch.einsum("ihd,jhd->hij", q, k) * call.scale
    if call.softcap is not None:
        scores = call.softcap * (scores / call.softcap).tanh()
    n, m = scores.shape[1:]
    if call.bias is not None:
        scores = scores + call.bias[sequence][:, :n, :m].double()
    away = torch.arange(m) - (torch.arange(n)[:, None] + m - n)
    seen = torch.ones(n, m, dtype=torch.bool)
    if call.pattern.left is not None:
        seen &= away >= -call.pattern.left
    if call.pattern.right is not None:
        seen &= away <= call.pattern.right
    lse = call.lse[rows].double().T[..., None]
    return (scores - lse).exp().masked_fill(~seen | (scores == -torch.inf), 0), away


def compare(call, result, links, special=None):
    """Raises AssertionError where statistics are not those of the weights."""
    histogram = torch.zeros(call.q.shape[1], 2 * BINS + 1, dtype=torch.float64)
    for s in range(len(call.offsets) - 1):
        w, away = weights(call, s)
        rows, keys = (slice(*o[s : s + 2].tolist()) for o in (call.offsets, call.key_offsets))
        n, m = w.shape[1:]
        _near(result.entropy[rows], -torch.special.xlogy(w, w).sum(-1).T)
        _near(result.distance[rows], (w * away.abs()).sum(-1).T)
        _near(result.received[keys], w.sum(1).T)
        _near(result.first[rows], w[..., 0].T if m else torch.zeros(n, len(w)))
        _near(result.special[rows], torch.zeros(n, len(w)) if special is None else w[..., special[keys]].sum(-1).T)
        size = torch.where(away == 0, 0, 1 + away.abs().clamp_min(1).double().log2().ceil())
        histogram.index_add_(1, (BINS + away.sign() * size).long().flatten(), w.flatten(1))
        best = w.transpose(0, 1).sort(-1, descending=True).values[..., :links]
        actual, at = result.weights[rows], result.keys[rows].long()
        _near(actual[..., : best.shape[2]], best)
        assert (actual[..., best.shape[2] :] == 0).all() and (at[..., best.shape[2] :] == -1).all()
        if m:
            _near(actual, w.transpose(0, 1).gather(2, at.clamp_min(0)).masked_fill(at < 0, 0))
        for row in at.flatten(0, 1).tolist():
            there = [key for key in row if key >= 0]
            assert len(set(there)) == len(there)
    _near(result.histogram, histogram)


def _near(result, expected):
    assert result.dtype == torch.float32
    largest = float(expected.abs().max()) if expected.numel() else 1.0
    torch.testing.assert_close(result.double(), expected.double(), atol=3e-6 * max(1.0, largest), rtol=1e-5)
