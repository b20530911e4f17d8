"""Statistics and tiles with scales that are not positive, and with hidden keys that are NaN."""

import pytest
import torch

from sightline.attention import CAUSAL, FULL, Pattern, attention
from sightline.observe.calls import Call, Piece
from sightline.observe.statistics import statistics
from sightline.observe.tiles import Cells, tile_of
from tests.observe.dense import call_of, compare

OFFSETS = torch.tensor([0, 20, 40])


def rows():
    numbers = torch.Generator().manual_seed(0)
    return torch.randn(2, 40, 2, 17, generator=numbers).unbind()


@pytest.fixture(params=["1", "0"], ids=["in C", "in PyTorch"], autouse=True)
def backend(request, monkeypatch):
    monkeypatch.setenv("SIGHTLINE_NATIVE", request.param)


@pytest.mark.parametrize("scale", [-0.2, 0.0, -0.7])
@pytest.mark.parametrize("pattern", [FULL, CAUSAL, Pattern(3, 1)])
def test_a_scale_of_any_sign(scale, pattern):
    q, k = rows()
    lse = attention(q, k, k, OFFSETS, pattern, scale=scale).lse
    call = Call(q, k, lse, OFFSETS, OFFSETS, pattern, scale, torch.arange(2))
    compare(call, statistics(call, 3), 3)


@pytest.mark.parametrize("hider", ["a window", "a bias"])
def test_a_key_that_is_hidden_may_be_nan(hider):
    q, k = rows()
    bias = None
    pattern = Pattern(3, 1) if hider == "a window" else FULL
    if hider == "a bias":
        bias = torch.zeros(1, 1, 20, 20)
        bias[..., 15] = -torch.inf
    spoiled = k.clone()
    spoiled[15] = torch.nan
    if hider == "a window":
        right, result = (call_of(q, x, OFFSETS, OFFSETS, pattern) for x in (k, spoiled))
    else:
        right, result = (call_of(q, x, OFFSETS, OFFSETS, pattern, bias=bias) for x in (k, spoiled))
    a, b = (statistics(call, 3) for call in (right, result))
    seeing = slice(0, 10) if hider == "a window" else slice(0, 40)
    for name in ("entropy", "distance", "first", "received", "weights"):
        torch.testing.assert_close(getattr(b, name)[seeing], getattr(a, name)[seeing])
    bounds = Cells(20, 1).bounds
    tiles = [tile_of(Piece(call, 0, 1, 0, 0, 20, 20, slice(0, 1)), bounds, bounds).mean for call in (right, result)]
    torch.testing.assert_close(tiles[1][:10, :10], tiles[0][:10, :10])
    torch.testing.assert_close(result.weights(0)[:, :10, :10], right.weights(0)[:, :10, :10])
