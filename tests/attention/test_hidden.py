"""Hidden values change nothing, NaN and infinity included; a scale is any finite number: alike on every backend."""

import pytest
import torch

from sightline.attention import CAUSAL, FULL, Pattern, attention
from tests.attention.cases import Case, examine, offsets_of, through_the_door

BACKENDS = ("native", "cpu", "blockwise", "reference")
backends = pytest.mark.parametrize("backend", BACKENDS)
wild = pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
ROWS, SEEN = 40, slice(0, 20)  # the first 20 queries see none of what is spoiled


def qkv(dtype=torch.float32):
    numbers = torch.Generator().manual_seed(0)
    return torch.randn(3, ROWS, 2, 17, generator=numbers, dtype=torch.float64).to(dtype).unbind()


def answers(q, k, v, pattern, backend, bias=None, grad=None):
    q, k, v = (t.clone().requires_grad_() for t in (q, k, v))
    out, lse = attention(q, k, v, torch.tensor([0, ROWS]), pattern, bias=bias, backend=backend)
    grads = torch.ones_like(out) if grad is None else grad
    return out.detach(), lse.detach(), torch.autograd.grad([out, lse], (q, k, v), [grads, torch.ones_like(lse)])


def same(result, right, rows):
    torch.testing.assert_close(result[rows], right[rows], rtol=1e-4, atol=1e-5)


@backends
@wild
@pytest.mark.parametrize("which", ["q", "k", "v"])
@pytest.mark.parametrize("pattern", [CAUSAL, Pattern(500, 0), Pattern(5, 2)])
def test_rows_that_are_hidden(backend, bad, which, pattern):
    tensors = dict(zip("qkv", qkv(), strict=True))
    right = answers(*tensors.values(), pattern, backend)
    spoiled = {name: t.clone() for name, t in tensors.items()}
    spoiled[which][30:] = bad
    out, lse, grads = answers(*spoiled.values(), pattern, backend)
    same(out, right[0], SEEN)
    same(lse, right[1], SEEN)
    same(grads[0], right[2][0], SEEN)
    if pattern.left == 5:  # then the first keys are not seen by what is spoiled either
        same(grads[1], right[2][1], SEEN)
        same(grads[2], right[2][2], SEEN)
    assert bad == bad or out[35].isnan().all()  # what is seen shows


@pytest.mark.parametrize("backend", ["cpu", "blockwise", "reference"])
@pytest.mark.parametrize("pattern", [FULL, CAUSAL, Pattern(5, 2)])
def test_what_a_bias_hides(backend, pattern):
    """NaN in cells that the pattern hides, and in keys and values whose bias is -inf."""
    q, k, v = qkv()
    bias = torch.zeros(1, 1, ROWS, ROWS)
    bias[..., 7] = bias[..., 33] = -torch.inf
    right = answers(q, k, v, pattern, backend, bias)
    k, v = k.clone(), v.clone()
    k[7], v[33], v[7], k[33] = torch.nan, torch.nan, torch.inf, -torch.inf
    place = torch.arange(ROWS)
    if pattern.right is not None:
        bias = bias.masked_fill(place[None] > place[:, None] + pattern.right, torch.nan)
    for result, expected in zip(answers(q, k, v, pattern, backend, bias), right, strict=True):
        for a, b in zip(result, expected, strict=True) if isinstance(result, tuple) else ((result, expected),):
            same(a, b, slice(None))


@backends
def test_a_gradient_of_a_row_goes_where_the_row_looks(backend):
    q, k, v = qkv()
    grad = torch.ones(ROWS, 2, 17)
    right = answers(q, k, v, CAUSAL, backend, grad=grad)
    grad[10] = torch.nan
    result = answers(q, k, v, CAUSAL, backend, grad=grad)
    for name, a, b in zip("qkv", result[2], right[2], strict=True):
        same(a, b, slice(11, None))
        assert a[10 if name == "q" else slice(0, 11)].isnan().any()


@backends
def test_only_the_sequence_that_has_nan_is_computed_another_way(backend):
    q, k, v = qkv()
    offsets = torch.tensor([0, 11, 22, 33, ROWS])
    right = attention(q, k, v, offsets, CAUSAL, backend=backend)
    v = v.clone()
    v[25] = torch.nan
    result = attention(q, k, v, offsets, CAUSAL, backend=backend)
    for rows in (slice(0, 22), slice(33, None)):
        assert torch.equal(result.out[rows], right.out[rows]) and torch.equal(result.lse[rows], right.lse[rows])


SCALES = (-0.2, 0.0, -0.0, -4.0, 30.0, -30.0, 1e-30, -1e-40, 2)
LARGE = (1e6, -1e6, 1e30, -1e30, 3e38)


@backends
@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("pattern", [FULL, CAUSAL, Pattern(500, 0), Pattern(5, 2)])
def test_any_scale(backend, scale, pattern):
    for dtype in (torch.float32, torch.bfloat16, torch.float16) if abs(scale) < 30 else (torch.bfloat16, torch.float16):
        if backend != "native" or dtype == torch.float32:
            case = Case(f"scale {scale}", (60, 1, 0, 17), heads=(2, 1), widths=(17, 17), pattern=pattern, scale=scale)
            examine(through_the_door(backend), case, dtype)


@backends
@pytest.mark.parametrize("scale", LARGE)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_scale_so_large_that_one_key_takes_all(backend, scale, dtype):
    if (backend == "native" and dtype != torch.float32) or (backend == "reference" and scale == 3e38):
        return  # the latter's scores stand at the end of float32
    q, k, v = (t.requires_grad_() for t in qkv(dtype))
    offsets = offsets_of((ROWS,))
    out, lse = attention(q, k, v, offsets, CAUSAL, scale=scale, backend=backend)
    scores = torch.einsum("qhd,khd->hqk", q.double(), k.double()) * scale
    scores = scores.masked_fill(torch.ones(ROWS, ROWS).triu(1).bool(), -torch.inf)
    best = scores.argmax(-1).T  # [T, H]
    torch.testing.assert_close(out, v[best, torch.arange(2)])
    torch.testing.assert_close(lse, scores.amax(-1).T.clamp(-torch.finfo(dtype).max, torch.finfo(dtype).max).to(dtype))
    (dv,) = torch.autograd.grad(out.sum(), v)
    count = torch.zeros(2, ROWS).scatter_add(1, best.T, torch.ones(2, ROWS))
    torch.testing.assert_close(dv, count.T[..., None].expand_as(dv).to(dtype))


@backends
def test_a_large_score_has_the_weight_it_had_on_the_way_there(backend):
    """Two equal scores of 1e8, whose lse is rounded by more than their weights may be."""
    q = torch.tensor([1e4, 0.0]).expand(3, 1, 2).clone().requires_grad_()
    v = torch.tensor([[1.0, 2.0], [3.0, 5.0], [8.0, 13.0]])[:, None].clone().requires_grad_()
    out, lse = attention(q, q.detach(), v, torch.tensor([0, 3]), scale=1.0, backend=backend)
    dv, dq = torch.autograd.grad(out.sum() + lse.sum(), (v, q))
    torch.testing.assert_close(dv, torch.ones_like(dv))
    torch.testing.assert_close(dq, q.detach())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_rows_that_overlap(dtype):
    room = torch.randn(300, generator=torch.Generator().manual_seed(0)).to(dtype)
    windows = room.as_strided((13, 2, 33), (3, 33, 1))
    offsets, bias = torch.tensor([0, 13]), torch.zeros(1, 1, 13, 13, dtype=dtype)
    result, right = (
        attention(t, t, t, offsets, Pattern(1), bias=bias, backend="cpu") for t in (windows, windows.clone())
    )
    assert torch.equal(result.out, right.out) and torch.equal(result.lse, right.lse)


@backends
def test_a_sink_without_limit_takes_all(backend):
    q, k, v = (t.clone().requires_grad_() for t in qkv())
    sink = torch.tensor([0.0, torch.inf], requires_grad=True)
    out, lse = attention(q, k, v, torch.tensor([0, ROWS]), sink=sink, backend=backend)
    assert (out[:, 1] == 0).all() and (lse[:, 1] == torch.finfo(torch.float32).max).all()
    grads = torch.autograd.grad(out.sum() + lse.sum(), (q, k, v, sink))
    assert all(grad.isfinite().all() for grad in grads) and (grads[0][:, 1] == 0).all()
