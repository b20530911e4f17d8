"""Watching changes nothing, and what was seen is exact."""

import itertools
import threading

import pytest
import torch

from sightline.attention import Pattern, attention
from sightline.encoders import build
from sightline.observe import watch
from sightline.observe.watch import Call
from sightline.sequences import Sequences

LENGTHS = [7, 0, 1, 13, 5]


def _pack(vocabulary=11):
    offsets = [0, *itertools.accumulate(LENGTHS)]
    return Sequences(torch.randint(vocabulary, (offsets[-1],)), offsets)


@pytest.mark.parametrize(
    "options", [{}, {"causal": True}, {"window": 2}, {"key_heads": 2, "causal": True, "window": 3}]
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_weights_are_those_of_dense_attention(options, dtype):
    torch.manual_seed(0)
    encoder = build("self-attention", vocabulary=11, width=16, layers=2, heads=4, **options).to(dtype)
    x = _pack()
    with torch.no_grad(), watch(encoder) as seen:
        encoder(x)
    assert len(seen.calls) == 2
    for layer, (sequence, n) in itertools.product(range(2), enumerate(LENGTHS)):
        weights = seen.weights(layer, sequence)
        assert weights.shape == (4, n, n) and weights.dtype == dtype
        call = seen.calls[layer]
        first = int(call.offsets[sequence])
        for head, i in itertools.product(range(4), range(n)):
            keys = [j for j in range(n) if _sees(call.pattern, i, j)]
            q = call.q[first + i, head].double()
            k = call.k[[first + j for j in keys], head * call.k.shape[1] // 4].double()
            expected = torch.zeros(n, dtype=torch.float64)
            expected[keys] = (k @ q * call.scale).softmax(0)
            torch.testing.assert_close(weights[head, i].double(), expected, atol=1e-6, rtol=1e-5)


def _sees(pattern, i, j):
    return (pattern.left is None or i - j <= pattern.left) and (
        pattern.right is None or j - i <= pattern.right
    )


def test_outputs_and_gradients_are_bit_identical():
    torch.manual_seed(0)
    encoder = build("self-attention", vocabulary=11, width=16, layers=2)
    x = _pack()

    def run():
        encoder.zero_grad()
        out = encoder(x).values
        out.square().sum().backward()
        return [out.detach(), *(p.grad.clone() for p in encoder.parameters())]

    plain = run()
    with watch(encoder):
        watched = run()
    assert all(map(torch.equal, plain, watched))
    assert all(map(torch.equal, plain, run()))


def test_fewer_queries_than_keys_and_a_query_that_sees_nothing():
    torch.manual_seed(0)
    q, k, v = torch.randn(3, 2, 4), torch.randn(5, 1, 4), torch.randn(5, 1, 4)
    offsets, key_offsets, pattern = torch.tensor([0, 2, 3]), torch.tensor([0, 5, 5]), Pattern(right=0)
    attended = attention(q, k, v, offsets, pattern, key_offsets=key_offsets)
    call = Call(q, k, attended.lse, offsets, key_offsets, pattern, 0.5)
    weights = call.weights(0)
    assert weights.shape == (2, 2, 5)
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 2))
    assert (weights[:, 0, 4] == 0).all()  # the first of the two stands at the fourth key
    torch.testing.assert_close(torch.einsum("hqk,kd->qhd", weights, v[:5, 0]), attended.out[:2])
    assert call.weights(1).shape == (2, 1, 0)


@pytest.mark.parametrize("first", [1, 2])
def test_softcap_bias_and_sink_are_in_the_weights(first):
    torch.manual_seed(0)
    encoder = build("self-attention", vocabulary=11, width=8, layers=1)
    q, k, v = torch.randn(9, 4, 3), torch.randn(9, 2, 3), torch.eye(9)[:, None].expand(-1, 2, -1)
    bias, sink = torch.randn(first, 4, 6, 7), torch.randn(4)
    bias[0, :, 1] = -torch.inf
    with watch(encoder) as seen:
        out = attention(q, k, v, torch.tensor([0, 3, 9]), softcap=1.5, bias=bias, sink=sink).out
    for s, rows in enumerate((slice(0, 3), slice(3, 9))):
        weights = seen.weights(0, s)
        torch.testing.assert_close(weights.transpose(0, 1), out[rows, :, rows])
        taken = (sink[:, None] - seen.calls[0].lse[rows].T).exp()
        torch.testing.assert_close(weights.sum(-1), 1 - taken)


def test_the_last_pass_is_shown_and_watchers_do_not_meet():
    encoder = build("self-attention", vocabulary=11, width=8, layers=2)
    one, two = _pack(), Sequences(torch.tensor([1, 2]), [0, 2])
    with torch.no_grad(), watch(encoder) as outer:
        encoder(one)
        with watch(encoder) as inner:
            encoder(two)
        other = threading.Thread(target=encoder, args=(one,))
        other.start()
        other.join()
    assert (len(outer.calls), len(inner.calls)) == (4, 2)
    assert torch.equal(outer.weights(1, 0), inner.weights(1, 0))


def test_what_was_not_seen_is_refused():
    encoder = build("self-attention", vocabulary=11, width=8, layers=2)
    with watch(encoder) as seen:
        pass
    with pytest.raises(ValueError, match="layer from 0 to 1 of a forward pass, got 0 of 0 seen"):
        seen.weights(0, 0)
    with torch.no_grad(), watch(encoder) as seen:
        encoder(_pack())
    with pytest.raises(ValueError, match="layer from 0 to 1"):
        seen.weights(2, 0)
    with pytest.raises(ValueError, match="sequence from 0 to 4, got -1"):
        seen.weights(0, -1)
    with (
        pytest.raises(ValueError, match="expected a model with self-attention, got Linear"),
        watch(torch.nn.Linear(1, 1)),
    ):
        pass
