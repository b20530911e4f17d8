"""Softcap, bias and sink mean what their models mean, whatever the form in which they are passed."""

import resource

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from sightline.attention import CAUSAL, FULL, Pattern, attention

OFFSETS = torch.tensor([0, 5, 5, 12, 19])
backends = pytest.mark.parametrize("backend", ["cpu", "blockwise", "reference"])


def drawn(*shape, dtype=torch.float32, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def qkv(rows=19, heads=4, groups=2, dtype=torch.float32):
    return drawn(rows, heads, 8, dtype=dtype), *drawn(2, rows, groups, 8, dtype=dtype, seed=1)


# --- what they mean -------------------------------------------------------------------------------------------------


@backends
def test_a_bias_is_what_pytorch_adds_to_the_scores(backend):
    q, k, v = qkv(7, groups=4, dtype=torch.float64)
    bias = drawn(1, 4, 7, 7, dtype=torch.float64)
    out = attention(q, k, v, torch.tensor([0, 7]), bias=bias, scale=0.3, backend=backend).out
    dense = scaled_dot_product_attention(*(t.transpose(0, 1)[None] for t in (q, k, v)), bias, scale=0.3)
    torch.testing.assert_close(out, dense[0].transpose(0, 1))


@backends
def test_a_sink_is_one_more_key_without_a_value(backend):
    q, k, v = qkv(7, groups=4, dtype=torch.float64)
    sink = drawn(4, dtype=torch.float64, seed=2)
    out, lse = attention(q, k, v, torch.tensor([0, 7]), sink=sink, scale=0.3, backend=backend)
    scores = torch.cat([torch.einsum("qhd,khd->hqk", q, k) * 0.3, sink[:, None, None].expand(-1, 7, 1)], 2)
    torch.testing.assert_close(out, torch.einsum("hqk,khd->qhd", scores.softmax(2)[..., :-1], v))
    torch.testing.assert_close(lse, scores.logsumexp(2).T)


@pytest.mark.parametrize("backend", ["blockwise", "reference"])
def test_a_softcap_bends_the_scores_before_the_bias(backend):
    q, k, v = qkv(7, groups=4, dtype=torch.float64)
    bias, capped = drawn(1, 1, 7, 7, dtype=torch.float64), torch.einsum("qhd,khd->hqk", q, k)
    capped = 2.5 * torch.tanh(capped / 2.5)
    options = {"softcap": 2.5, "bias": bias, "scale": 1.0}
    out, lse = attention(q, k, v, torch.tensor([0, 7]), **options, backend=backend)
    torch.testing.assert_close(lse, (capped + bias[0]).logsumexp(2).T)
    torch.testing.assert_close(out, torch.einsum("hqk,khd->qhd", (capped + bias[0]).softmax(2), v))


@backends
def test_where_nothing_is_seen_all_goes_to_the_sink(backend):
    q, k, v = (t.requires_grad_() for t in qkv(3))
    sink = drawn(4, seed=2).requires_grad_()
    keys, offsets = torch.tensor([0, 0, 3]), torch.tensor([0, 2, 3])
    out, lse = attention(q, k, v, offsets, key_offsets=keys, sink=sink, backend=backend)
    assert (out[:2] == 0).all() and torch.equal(lse[:2], sink.expand(2, -1)) and (out[2] != 0).all()
    for t in torch.autograd.grad(out.sum() + lse[:2].sum(), (q, k, v, sink)):
        assert t.isfinite().all()


# --- the ways they come ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pattern", [FULL, CAUSAL, Pattern(2, 1)])
@pytest.mark.parametrize("backend", ["cpu", "blockwise"])
def test_a_bias_of_any_strides(backend, pattern):
    bias = drawn(4, 4, 8, 9)
    expected = attention(*qkv(), OFFSETS, pattern, bias=bias, backend=backend)
    for view in (
        bias.transpose(2, 3).contiguous().transpose(2, 3),
        bias.permute(2, 3, 0, 1).contiguous().permute(2, 3, 0, 1),
        torch.stack([bias, -bias], -1)[..., 0],
        torch.cat([bias[..., :1], bias], -1)[..., 1:],
    ):
        results = attention(*qkv(), OFFSETS, pattern, bias=view, backend=backend)
        assert all(torch.equal(a, b) for a, b in zip(results, expected, strict=True))
    for shape in ((1, 1, 1, 9), (1, 4, 8, 1), (4, 1, 1, 1)):
        small = drawn(*shape, seed=3)
        results, whole = (
            attention(*qkv(), OFFSETS, pattern, bias=b, backend=backend)
            for b in (small.expand(4, 4, 8, 9), small.expand(4, 4, 8, 9).contiguous())
        )
        assert all(torch.equal(a, b) for a, b in zip(results, whole, strict=True))


DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("backend", ["cpu", "blockwise"])
def test_the_dtype_of_bias_and_sink_makes_no_difference(backend, dtype):
    offsets = torch.tensor([0, 40, 80, 97])  # long enough for whole vectors of numbers
    bias, sink = (drawn(3, 1, 40, 40) * 4).round() / 4, drawn(4).round()  # which all dtypes hold exactly
    expected, *others = (
        attention(*qkv(97, dtype=dtype), offsets, CAUSAL, bias=bias.to(other), sink=sink.to(other), backend=backend)
        for other in (dtype, *DTYPES)
    )
    for attended in others:
        assert all(torch.equal(a, b) for a, b in zip(attended, expected, strict=True))


@pytest.mark.parametrize("backend", ["cpu", "blockwise"])
def test_a_bias_wider_than_the_input_is_not_rounded(backend):
    q = torch.zeros(2, 1, 8, dtype=torch.bfloat16)
    bias = torch.tensor([[[[1 + 2**-12]]], [[[3 - 2**-12]]]])
    lse = attention(q, q, q, torch.tensor([0, 1, 2]), bias=bias, backend=backend).lse
    assert torch.equal(lse, bias[:, 0, 0])


def test_each_gradient_is_of_the_dtype_of_what_it_belongs_to():
    q, k, v = (t.requires_grad_() for t in qkv(dtype=torch.bfloat16))
    bias, sink = drawn(1, 1, 7, 7).requires_grad_(), drawn(4).requires_grad_()
    out = attention(q, k, v, OFFSETS, bias=bias, sink=sink).out
    assert [t.dtype for t in torch.autograd.grad(out.float().square().sum(), (q, bias, sink))] == [
        torch.bfloat16,
        torch.float32,
        torch.float32,
    ]


@pytest.mark.parametrize("learned", ["q", "bias", "sink"])
def test_only_one_needs_a_gradient(learned):
    q, k, v = qkv()
    inputs = {"q": q, "bias": drawn(1, 4, 7, 7), "sink": drawn(4)}

    def grad(*names):
        t = {name: t.clone().requires_grad_(name in names) for name, t in inputs.items()}
        out, lse = attention(t["q"], k, v, OFFSETS, bias=t["bias"], sink=t["sink"], backend="blockwise")
        return torch.autograd.grad(out.square().sum() + lse.sum(), t[learned])[0]

    assert torch.equal(grad(learned), grad("q", "bias", "sink"))


@pytest.mark.parametrize("backend", ["cpu", "blockwise"])
@pytest.mark.parametrize("pattern", [FULL, CAUSAL, Pattern(2, 1)])
def test_a_bad_bias_stays_in_its_sequence(backend, pattern):
    bias = drawn(4, 4, 7, 7)
    q, k, v = (t.requires_grad_() for t in qkv())

    def run(bias):
        out, lse = attention(q, k, v, OFFSETS, pattern, bias=bias, backend=backend)
        return out, lse, *torch.autograd.grad(out.sum() + lse.sum(), (q, k, v))

    clean, spoiled = run(bias), bias.clone()
    spoiled[2] = torch.nan
    for a, b in zip(run(spoiled), clean, strict=True):
        assert torch.equal(a[:5], b[:5]) and torch.equal(a[12:], b[12:]) and a[5:12].isnan().any()


@pytest.mark.parametrize("backend", ["cpu", "blockwise"])
def test_autocast_changes_nothing(backend):
    options = {"bias": drawn(4, 4, 7, 7), "sink": drawn(4), "backend": backend}
    plain = attention(*qkv(), OFFSETS, **options)
    with torch.autocast("cpu", torch.bfloat16):
        cast = attention(*qkv(), OFFSETS, **options)
    assert all(torch.equal(a, b) for a, b in zip(plain, cast, strict=True))


@pytest.mark.parametrize("pattern", [FULL, Pattern(3, 1)])
def test_dropout_has_the_gradient_of_the_weights_it_kept(pattern):
    unit = torch.eye(19, dtype=torch.float64)[:, None].expand(-1, 2, -1)
    tensors = *qkv(dtype=torch.float64), drawn(1, 4, 7, 7, dtype=torch.float64), drawn(4, dtype=torch.float64)
    q, k, v, bias, sink = (t.requires_grad_() for t in tensors)
    options = {"softcap": 1.5, "bias": bias, "sink": sink}

    def dropped(v):
        torch.manual_seed(3)
        return attention(q, k, v, OFFSETS, pattern, dropout=0.4, **options, backend="blockwise")

    kept = (dropped(unit).out.detach() != 0).double() / 0.6
    weights, level = attention(q, k, unit, OFFSETS, pattern, **options, backend="reference")
    plain = torch.einsum("qhk,khd->qhd", weights * kept, v.repeat_interleave(2, 1))
    out, lse = dropped(v)
    torch.testing.assert_close(out, plain)
    grads, expected = (
        torch.autograd.grad(o.square().sum() + l.sin().sum(), (q, k, v, bias, sink))
        for o, l in ((out, lse), (plain, level))
    )
    for result, want in zip(grads, expected, strict=True):
        torch.testing.assert_close(result, want)


@pytest.mark.parametrize(("backend", "rows"), [("cpu", 12_000), ("blockwise", 6_000)])
def test_an_expanded_bias_costs_nothing(backend, rows):
    offsets = torch.tensor([0, rows])
    q, k, v = (t.requires_grad_() for t in qkv(rows, heads=1, groups=1))
    bias = drawn(1, 1, 1, rows).expand(1, 1, rows, rows)
    some = bias[..., :300, :300]
    attention(*(t[:300] for t in (q, k, v)), torch.tensor([0, 300]), bias=some, backend=backend)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    out, lse = attention(q, k, v, offsets, bias=bias, backend=backend)
    (out.sum() + lse.sum()).backward()
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    assert grown < 2 * rows * rows  # half of one square in float32
