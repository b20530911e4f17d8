"""Receptive fields: calculation and trial agree for every encoder, and with a search through the steps."""

import math

import pytest
import torch

from sightline.encoders import KINDS, build
from sightline.sequences import Sequences
from studies.claims.receptive_field import connections, fields_by_trial, longest_path, reach

LENGTHS = (1, 2, 7, 13, 32)
SETTINGS = [
    *((kind, {"causal": causal}) for kind in KINDS for causal in (False, True)),
    *(("self-attention", {"window": w, "causal": c}) for w in (0, 1, 3, 50) for c in (False, True)),
    *(
        ("convolution", {"kernel": k, "dilation": d, "causal": c})
        for k in (1, 2, 3, 5, 9)
        for d in ("plain", "dilated")
        for c in (False, True)
        if k % 2 or c
    ),
]
every = pytest.mark.parametrize("kind, settings", SETTINGS, ids=str)


def built(kind, layers, settings, largest=32):
    more = {"largest": largest} if kind == "fully-connected" else {}
    return build(kind, features=4, width=8, layers=layers, **settings, **more)


def band(length, left, right):
    back = torch.arange(length)[:, None] - torch.arange(length)
    return (back <= (length if left is None else left)) & (-back <= (length if right is None else right))


@every
@pytest.mark.parametrize("length", LENGTHS)
def test_fields_by_trial_are_the_calculated_ones(kind, settings, length):
    torch.manual_seed(0)
    fields = fields_by_trial(built(kind, 3, settings), length)
    for seen, (left, right) in zip(fields, reach(kind, 3, **settings), strict=True):
        assert torch.equal(seen, band(length, left, right))


@every
def test_the_whole_encoder_hears_the_same(kind, settings):
    """A change of an input of the whole encoder, norms and mlps too, changes the calculated rows and no others."""
    torch.manual_seed(0)
    encoder, length = built(kind, 2, settings), 11
    expected = band(length, *reach(kind, 2, **settings)[-1])
    values = torch.randn(3 * length, 4)
    offsets = [0, length, 2 * length, 3 * length]
    before = encoder(Sequences(values, offsets)).values
    for j in range(length):
        changed = values.clone()
        changed[length + j] = torch.nan if kind in ("rnn", "lstm") else 1 - changed[length + j]
        after = encoder(Sequences(changed, offsets)).values
        differs = (after != before).any(1).view(3, length)  # between two neighbours in the pack
        assert torch.equal(differs[1], expected[:, j]) and not differs[0].any() and not differs[2].any()


@every
@pytest.mark.parametrize("length", [n for n in LENGTHS if n > 1])
def test_the_longest_path_is_as_many_layers_as_it_takes(kind, settings, length):
    most = longest_path(kind, length, **settings)
    causal = settings.get("causal", False)
    all_there_is = band(length, None, 0 if causal else None)
    if kind in ("rnn", "lstm"):
        assert most == 1 + steps_through_states(length, causal)
        return
    layers = 2 if most is None else most
    fields = fields_by_trial(built(kind, layers, settings), length)
    assert [torch.equal(seen, all_there_is) for seen in fields] == [False] * (layers - 1) + [most is not None]


def steps_through_states(length, causal):
    """The most transitions between states on the shortest way from any input to any output, searched step by step."""
    most = 0
    for start in range(length):
        for step in (1,) if causal else (1, -1):
            place, steps = start, 0
            while 0 <= place + step < length:
                place, steps = place + step, steps + 1
            most = max(most, steps)
    return most


def test_paths_as_the_paper_has_them():
    for n in (2, 17, 100, 1000):
        assert longest_path("self-attention", n) == longest_path("fully-connected", n) == 1
        assert longest_path("rnn", n) == longest_path("lstm", n) == longest_path("lstm", n, causal=True) == n
        for kernel in (3, 5, 9):
            assert longest_path("convolution", n, kernel=kernel) == math.ceil((n - 1) / (kernel // 2))
            dilated = longest_path("convolution", n, kernel=kernel, dilation="dilated")
            assert dilated == math.ceil(math.log2(1 + (n - 1) / (kernel // 2)))
        assert longest_path("self-attention", n, window=4) == math.ceil((n - 1) / 4)
    assert longest_path("convolution", 9, kernel=1) is longest_path("self-attention", 9, window=0) is None
    assert (longest_path("lstm", 0), longest_path("lstm", 1), longest_path("self-attention", 1)) == (0, 1, 1)


def test_a_long_state_that_forgets_still_hears():
    """A change would drown in rounding after so many steps; a NaN does not."""
    torch.manual_seed(0)
    mixer = built("rnn", 1, {"causal": True}).blocks[0].mixer
    with torch.no_grad():
        mixer.directions[0].weight_hh_l0.mul_(1e-3)
    assert bool(connections(mixer, 8, 200)[-1, 0])


def test_too_long_for_a_fully_connected_encoder():
    with pytest.raises(ValueError, match="longer than the largest length 8 this encoder was built for"):
        fields_by_trial(built("fully-connected", 1, {}, largest=8), 9)
