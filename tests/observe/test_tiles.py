"""Every tile at every zoom is the map's own rectangle, summed over keys and averaged over queries."""

import pytest
import torch

from sightline.attention import CAUSAL, FULL, Pattern
from sightline.observe.layer import Layer
from sightline.observe.statistics import statistics
from tests.observe.dense import random_call, weights

CASES = [((7, 0, 1, 131), None), ((3, 1, 0, 20), (7, 40, 5, 20)), ((70, 9), (200, 3))]


def layer_of(call):
    heads = list(range(call.q.shape[1]))
    return Layer("a layer", heads, call, lambda: statistics(call, 2))


def zoomed(w, rows, columns):
    """Mean and peak [cells, cells] of weights [n, m], by bounds of cells."""
    mean, peak = (torch.zeros(len(rows) - 1, len(columns) - 1, dtype=w.dtype) for _ in range(2))
    for a in range(len(rows) - 1):
        for b in range(len(columns) - 1):
            cell = w[rows[a] : rows[a + 1], columns[b] : columns[b + 1]]
            if cell.numel():
                mean[a, b], peak[a, b] = cell.sum(1).mean(), cell.max()
    return mean, peak


def near(tile, expected):
    for actual, right in zip(tile, expected, strict=True):
        assert actual.dtype == torch.float32
        torch.testing.assert_close(actual.double(), right, atol=2e-6, rtol=1e-5)


@pytest.mark.parametrize("lengths, key_lengths", CASES)
@pytest.mark.parametrize("pattern", [FULL, CAUSAL, Pattern(3, 1), Pattern(90, 0)], ids=str)
def test_any_zoom(lengths, key_lengths, pattern, poison):
    torch.manual_seed(0)
    call = random_call(lengths, key_lengths, pattern)
    layer = layer_of(call)
    for s in range(len(lengths)):
        w = weights(call, s)[0][2]
        n, m = w.shape
        for r, c in ((1, 1), (3, 2), (200, 7), (64, 1)):
            bounds = [*range(0, n, r), n], [*range(0, m, c), m]
            tile = layer.tile(2, sequence=s, at=(r, c))
            near(tile, zoomed(w, *bounds))
            if pattern in (FULL, CAUSAL) and n and m >= n:
                torch.testing.assert_close(tile.mean.sum(1), torch.ones(len(tile.mean)))
            some = (0, min(2, len(bounds[0]) - 1)), range(min(1, len(bounds[1]) - 1), len(bounds[1]) - 1)
            part = layer.tile(2, *some, sequence=s, at=(r, c))
            torch.testing.assert_close(part.mean, tile.mean[:2, 1:])


def test_words_and_sentences_are_the_same_operation():
    torch.manual_seed(0)
    call = random_call((11,), (9,), sink=torch.zeros(4))
    layer, w = layer_of(call), weights(call, 0)[0][1]
    words, others = [0, 1, 4, 4, 9, 11], [0, 2, 2, 3, 9]
    by_word = layer.tile(1, at=(words, others))
    near(by_word, zoomed(w, words, others))
    near(
        layer.tile(1, (1, 4), (2, 4), at=(torch.tensor(words), torch.tensor(others))), zoomed(w, words[1:5], others[2:])
    )
    sums = torch.tensor([w[a:b].sum(1).mean() if b > a else 0 for a, b in zip(words, words[1:], strict=False)])
    torch.testing.assert_close(by_word.mean.sum(1), sums.float())  # a sink's share is missing, and nothing else
    sentences = [0, 4, 11]  # from the words' tile, as from the tokens'
    counts = torch.tensor(words).diff()
    for row, (a, b) in enumerate(((0, 2), (2, 5))):
        mean = (by_word.mean[a:b] * counts[a:b, None]).sum(0) / counts[a:b].sum()
        torch.testing.assert_close(mean, layer.tile(1, at=(sentences, others)).mean[row])


@pytest.mark.parametrize("pattern", [FULL, CAUSAL], ids=str)
def test_a_pyramid_is_the_map_at_each_of_its_zooms(pattern):
    torch.manual_seed(0)
    call = random_call((301,), pattern=pattern, heads=(2, 1))
    layer = layer_of(call)
    pyramid = layer.pyramid(1, cells=40)
    assert pyramid.at == 8 and not pyramid.known.any()
    assert pyramid.tile().mean.isnan().all()
    share = pyramid.grow(2)
    assert 0 < share < 1
    known, right = pyramid.known, layer.tile(1, at=(8, 8))
    torch.testing.assert_close(pyramid.mean[known], right.mean[known])
    assert pyramid.tile().mean[~known].isnan().all()
    assert pyramid.grow() == 1.0 == pyramid.grow(1)
    for at in (8, 16, 64, 512):
        tile, right = pyramid.tile(at=at), layer.tile(1, at=(at, at))
        torch.testing.assert_close(tile.mean, right.mean)
        torch.testing.assert_close(tile.peak, right.peak)
        torch.testing.assert_close(tile.mean.sum(1), torch.ones(len(tile.mean)))
    part = pyramid.tile((1, 4), range(2, 5), at=24)
    torch.testing.assert_close(part.mean, layer.tile(1, (1, 4), (2, 5), at=(24, 24)).mean)


def test_half_known_rows_are_the_mean_of_what_is_known():
    call = random_call((64,), heads=(1, 1))
    pyramid = layer_of(call).pyramid(0, cells=32)
    pyramid.known[:3] = True
    pyramid.mean[:3] = torch.tensor([1.0, 2.0, 6.0])[:, None]
    assert pyramid.tile(at=8).mean[0, 0] == 3 * 4 and pyramid.tile(at=8).mean[1:].isnan().all()


def test_an_empty_sequence_has_an_empty_pyramid():
    pyramid = layer_of(random_call((0, 3))).pyramid(0, sequence=0)
    assert pyramid.grow() == 1.0 and pyramid.tile().mean.shape == (0, 0)


def test_outside_the_map():
    layer = layer_of(random_call((9, 4)))
    with pytest.raises(
        ValueError, match="expected rows from 0 to 9, as many cells as the map has at this zoom, got 3 to 10"
    ):
        layer.tile(0, rows=(3, 10))
    with pytest.raises(ValueError, match="expected columns from 0 to 2, .* got -1 to 2"):
        layer.tile(0, columns=(-1, 2), sequence=1, at=(1, 2))
    with pytest.raises(ValueError, match="expected rows from 0 to 9, .* got 5 to 4"):
        layer.tile(0, rows=(5, 4))
    with pytest.raises(ValueError, match="expected a range of cells side by side"):
        layer.tile(0, rows=range(0, 9, 2))
    with pytest.raises(ValueError, match="expected cells of 1 token or more, got 0"):
        layer.tile(0, at=(0, 1))
    with pytest.raises(ValueError, match="expected groups as offsets that start at 0, never fall and end at 9 tokens"):
        layer.tile(0, at=([0, 5, 3, 9], 1))
    with pytest.raises(ValueError, match=r"a layer: expected a head out of \[0, 1, 2, 3\], got 4"):
        layer.tile(4)
    with pytest.raises(ValueError, match="a layer: expected a sequence from 0 to 1, got 2"):
        layer.tile(0, sequence=2)
    with pytest.raises(ValueError, match="pyramid: expected a multiple of 2 tokens to a cell, got 3"):
        layer.pyramid(0, cells=5).tile(at=3)
