"""Scale, softcap and dropout are finite numbers of any kind; what else attention accepts or refuses besides tensors."""

import numpy as np
import pytest
import torch

from sightline.attention import CAUSAL, FULL, Pattern, attention

Q = torch.randn(5, 4, 8, generator=torch.Generator().manual_seed(0))
K = torch.randn(5, 2, 8, generator=torch.Generator().manual_seed(1))
OFFSETS = torch.tensor([0, 2, 5])

FAULTS = {
    "a scale that is NaN": (
        lambda: attention(Q, K, K, OFFSETS, scale=float("nan")),
        ValueError,
        "attention: expected a finite scale, got nan; multiply q by it instead",
    ),
    "a scale without limit, from numpy": (
        lambda: attention(Q, K, K, OFFSETS, scale=np.float32("inf")),
        ValueError,
        "attention: expected a finite scale, got inf; multiply q by it instead",
    ),
    "a scale that is NaN, in a tensor": (
        lambda: attention(Q, K, K, OFFSETS, scale=torch.tensor(float("nan"))),
        ValueError,
        "attention: expected a finite scale, got nan; multiply q by it instead",
    ),
    "a scale too large for a float": (
        lambda: attention(Q, K, K, OFFSETS, scale=10**400),
        ValueError,
        "attention: expected a scale within the range of a float, got one beyond; multiply q by it instead",
    ),
    "a scale that is a truth": (
        lambda: attention(Q, K, K, OFFSETS, scale=True),
        TypeError,
        "attention: expected scale as a number, got a bool; multiply q by it instead",
    ),
    "a truth in a tensor": (
        lambda: attention(Q, K, K, OFFSETS, scale=torch.tensor(True)),
        TypeError,
        "attention: expected scale as a number, got True; multiply q by it instead",
    ),
    "a scale in letters": (
        lambda: attention(Q, K, K, OFFSETS, scale="0.5"),
        TypeError,
        "attention: expected scale as a number, got a str; multiply q by it instead",
    ),
    "a complex scale": (
        lambda: attention(Q, K, K, OFFSETS, scale=1j),
        TypeError,
        "attention: expected scale as a number, got a complex; multiply q by it instead",
    ),
    "a scale for each head": (
        lambda: attention(Q, K, K, OFFSETS, scale=torch.ones(4)),
        TypeError,
        "attention: expected scale as a number, got a Tensor; multiply q by it instead",
    ),
    "a dropout that is NaN": (
        lambda: attention(Q, K, K, OFFSETS, dropout=float("nan")),
        ValueError,
        "attention: expected a finite dropout, got nan; it is the share of weights dropped",
    ),
    "a softcap that is NaN": (
        lambda: attention(Q, K, K, OFFSETS, softcap=float("nan")),
        ValueError,
        "attention: expected a finite softcap, got nan; None leaves the scores as they are",
    ),
    "a map over queries": (
        lambda: torch.func.vmap(lambda q: attention(q, q, q, OFFSETS).out)(Q[None]),
        TypeError,
        "attention: expected tensors outside torch.func, got its wrappers; use torch.autograd, or forward_ad",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_number_that_is_none(fault):
    call, kind, sentence = FAULTS[fault]
    with pytest.raises(kind) as caught:
        call()
    assert str(caught.value) == sentence


@pytest.mark.parametrize(
    "scale", [2, np.float64(0.5), np.int32(3), np.array(0.25), torch.tensor(-0.5), torch.tensor(2)]
)
def test_a_scale_is_any_kind_of_number(scale):
    result, right = (attention(Q, K, K, OFFSETS, scale=s) for s in (scale, float(scale)))
    assert torch.equal(result.out, right.out)


@pytest.mark.parametrize("seen", [FULL, CAUSAL, Pattern(1, 0)])
def test_forward_derivatives_are_exact_or_refused(seen):
    forward = torch.autograd.forward_ad
    q, k, v = torch.randn(3, 5, 4, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    moves = torch.randn(3, *q.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)

    def out(step):
        return attention(*(t + step * move for t, move in zip((q, k, v), moves, strict=True)), OFFSETS, seen).out

    with forward.dual_level():
        duals = [forward.make_dual(t, move) for t, move in zip((q, k, v), moves, strict=True)]
        tangent = forward.unpack_dual(attention(*duals, OFFSETS, seen).out).tangent
        with pytest.raises(ValueError, match="^attention: cpu: has no forward derivatives; use backend='reference'$"):
            attention(*duals, OFFSETS, seen, backend="cpu")
        assert torch.equal(attention(q, k, v, OFFSETS, seen, backend="cpu").out, attention(q, k, v, OFFSETS, seen).out)
    torch.testing.assert_close(tangent, (out(1e-6) - out(-1e-6)) / 2e-6, rtol=1e-6, atol=1e-8)
