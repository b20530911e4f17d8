"""Streamed statistics are those of all weights in float64, for all lengths, patterns and backends."""

import pytest
import torch

from sightline.attention import CAUSAL, FULL, Pattern
from sightline.kernels import statistics as in_c
from sightline.kernels.toolchain import library
from sightline.observe import statistics as room
from sightline.observe.distances import BINS, bin_names
from sightline.observe.statistics import statistics
from tests.observe.dense import call_of, compare, offsets_of, random_call, weights

PATTERNS = [
    FULL,
    CAUSAL,
    Pattern(2, 2),
    Pattern(37, 0),
    Pattern(3, None),
    Pattern(None, 5),
    Pattern(500, 21),
    Pattern(0, 0),
]
LENGTHS = {
    "odd": ((7, 0, 1, 13, 5, 5, 5), None),
    "longer than a strip": ((131, 1, 131), None),
    "primes": ((2, 3, 97, 17, 53), None),
    "other keys": ((3, 1, 0, 20, 5, 9), (7, 40, 5, 20, 2, 0)),
    "few queries": ((9, 70), (3, 200)),
    "one row": ((1,), None),
    "empty": ((0, 0), None),
    "none": ((), None),
}
pytestmark = pytest.mark.usefixtures("step")
lengths = pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS)


@pytest.fixture(params=["native", "plain"])
def step(request, monkeypatch):
    """Runs the test with the native and with the plain step."""
    monkeypatch.setenv("SIGHTLINE_NATIVE", "01"[request.param == "native"])
    if request.param == "native" and library(in_c.STATISTICS) is None:
        pytest.skip("there is no compiler here")
    return request.param


@lengths
@pytest.mark.parametrize("pattern", PATTERNS, ids=str)
def test_every_pattern(lengths, pattern, poison):
    torch.manual_seed(0)
    call = random_call(*lengths, pattern=pattern)
    special = torch.rand(len(call.k)) < 0.2
    compare(call, statistics(call, 3, special), 3, special)


@lengths
@pytest.mark.parametrize("pattern", [FULL, Pattern(9, 2)], ids=str)
def test_softcap_bias_and_sink(lengths, pattern, poison):
    torch.manual_seed(0)
    longest = max(lengths[0], default=0), max(lengths[1] or lengths[0], default=0)
    bias = torch.randn(len(lengths[0]), 4, *longest)
    bias[torch.rand(bias.shape) < 0.3] = -torch.inf
    call = random_call(*lengths, pattern=pattern, softcap=2.0, bias=bias, sink=torch.randn(4))
    compare(call, statistics(call, 5), 5)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_dtypes(dtype):
    torch.manual_seed(0)
    call = random_call((17, 3, 70), heads=(6, 2), dtype=dtype)
    compare(call, statistics(call, 4), 4)


@pytest.mark.parametrize("pattern", [FULL, CAUSAL, Pattern(300, 7)], ids=str)
def test_several_tiles_of_keys_and_blocks_of_maxima(monkeypatch, pattern, poison):
    torch.manual_seed(0)
    for name, size in (("KEYS", 331), ("TILE", 20_000), ("COPIED", 60_000)):
        monkeypatch.setattr(room, name, size)
    call = random_call((1201, 1, 90), pattern=pattern, heads=(2, 1))
    compare(call, statistics(call, 4), 4)


def test_a_pack_gives_what_its_sequences_give_alone():
    torch.manual_seed(0)
    call = random_call((70, 3, 3, 3, 0, 20), pattern=CAUSAL)
    whole = statistics(call, 2)
    for s, n in enumerate((70, 3, 3, 3, 0, 20)):
        rows = slice(*call.offsets[s : s + 2].tolist())
        alone = statistics(call_of(call.q[rows], call.k[rows], offsets_of([n]), offsets_of([n]), CAUSAL), 2)
        for name in ("entropy", "distance", "received", "first", "weights"):
            torch.testing.assert_close(getattr(whole, name)[rows], getattr(alone, name))


def test_sums():
    torch.manual_seed(0)
    call = random_call((301, 0, 64), pattern=CAUSAL)
    result = statistics(call, 1)
    torch.testing.assert_close(result.received.sum(0), torch.full((4,), 365.0))
    torch.testing.assert_close(result.histogram.sum(1), torch.full((4,), 365.0))
    assert (result.histogram[:, BINS + 1 :] == 0).all()
    sunk = random_call((301, 0, 64), pattern=CAUSAL, sink=torch.full((4,), 1.0))
    total = torch.cat([weights(sunk, s)[0].sum(-1).T for s in range(3)]).sum(0)
    torch.testing.assert_close(statistics(sunk, 1).received.sum(0).double(), total, atol=1e-3, rtol=1e-5)
    assert (total < 360).all()


def test_equal_weights_give_different_keys_and_far_ones_are_still_in_order():
    offsets = offsets_of([1000])
    equal = statistics(call_of(torch.zeros(1000, 1, 4), torch.zeros(1000, 1, 4), offsets, offsets, CAUSAL), 8)
    for row in (0, 3, 999):
        keys = equal.keys[row, 0].tolist()
        there = [key for key in keys if key >= 0]
        assert len(set(there)) == min(8, row + 1) and max(there) <= row
        assert keys[len(there) :] == [-1] * (8 - len(there))
    q, k = torch.full((1, 1, 1), 1000.0), torch.tensor([3.0, 9.0, 1.0, 2.0]).view(4, 1, 1)
    far = statistics(call_of(q, k, offsets_of([1]), offsets_of([4])), 4)
    assert far.keys.flatten().tolist() == [1, 0, 3, 2]  # though three weights are 0 in float32
    assert far.weights.flatten().tolist() == [1, 0, 0, 0] and far.entropy.item() == 0


def test_the_bins_are_named():
    assert len(bin_names()) == 2 * BINS + 1 and bin_names()[BINS] == "0"
    assert bin_names()[BINS + 3] == "3..4" and bin_names()[BINS - 4] == "-8..-5"
    assert bin_names()[-1] == f"{2 ** (BINS - 2) + 1}..{2 ** (BINS - 1)}"


@pytest.mark.parametrize("links", [0, 1, 17, 40])
def test_any_number_of_links(links, poison):
    torch.manual_seed(0)
    call = random_call((33, 0, 1, 101), heads=(2, 1), pattern=Pattern(30, 3))
    result = statistics(call, links)
    assert result.keys.shape == (135, 2, links)
    compare(call, result, links)


@pytest.mark.parametrize("order", ["rising", "falling", "waves"])
def test_links_where_each_key_is_stronger_than_the_last(order):
    place = torch.arange(2003.0)
    k = {"rising": place, "falling": -place, "waves": (place * 0.7).sin() * place}[order] / 300
    q, k = torch.tensor([1.0, -0.5, 0.3]).view(3, 1, 1), k.view(-1, 1, 1)
    call = call_of(q, k, offsets_of([3]), offsets_of([2003]))
    result = statistics(call, 9)
    compare(call, result, 9)
    expected = (q[:, 0] * k[:, 0].T).topk(9).indices
    assert torch.equal(result.keys[:, 0].long(), expected)


def test_no_wronger_than_twice_the_plain_weights_in_float32():
    """The contract; a few units in the last place besides."""
    torch.manual_seed(0)
    q, k = 3 * torch.randn(997, 1, 32), torch.randn(997, 1, 32)
    offsets = offsets_of([997])
    call = call_of(q, k, offsets, offsets, CAUSAL)
    result = statistics(call, 5)

    def all_at_once(dtype):
        q, k = (t[:, 0].to(dtype) for t in (call.q, call.k))
        away = (torch.arange(997)[:, None] - torch.arange(997)).to(dtype)
        logs = (q @ k.T) * call.scale - call.lse.to(dtype)
        w = logs.exp().masked_fill(away < 0, 0)
        return {
            "entropy": -(w * logs).sum(1),
            "distance": (w * away.abs()).sum(1),
            "received": w.sum(0),
            "first": w[:, 0],
            "weights": w.topk(5).values,
        }

    right, plain = all_at_once(torch.float64), all_at_once(torch.float32)
    for name, expected in right.items():
        error = (getattr(result, name)[:, 0].double() - expected).abs().max()
        allowed = 2 * (plain[name].double() - expected).abs().max() + 4 * 2**-23 * expected.abs().max()
        assert error <= allowed, name


def test_nan_stays_where_it_is():
    torch.manual_seed(0)
    call = random_call((40, 3), heads=(2, 1))
    call.q[7, 1] = torch.nan
    result = statistics(call, 2)
    for t in (result.entropy, result.distance, result.first):
        assert t.isnan().nonzero().tolist() == [[7, 1]]
    assert result.received.isnan().nonzero().tolist() == [[row, 1] for row in range(40)]
    assert not result.received[:, 0].isnan().any() and not result.histogram[0].isnan().any()


def test_a_head_that_is_a_view_of_something_else():
    torch.manual_seed(0)
    q, k = torch.randn(8, 61, 6)[..., ::2], torch.randn(61, 8, 9)[:, 2:6:2, 1:7:2]
    q = q.permute(1, 0, 2)[:, 1:7:3]
    offsets = offsets_of([40, 21])
    call = call_of(q, k, offsets, offsets, Pattern(9, 4))
    compare(call, statistics(call, 3), 3)
