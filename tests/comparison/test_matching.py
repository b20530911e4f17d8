"""Encoders of one size, whatever their kind."""

import pytest

from sightline.comparison.matching import TOLERANCE, matched, parameters
from sightline.encoders import KINDS
from sightline.training.config import EncoderConfig

OTHERS = [kind for kind in KINDS if kind != "self-attention"]


@pytest.mark.parametrize("kind", OTHERS)
@pytest.mark.parametrize(
    "base", [{"width": 16, "layers": 1}, {"width": 64}, {"width": 128, "layers": 4, "causal": True}]
)
@pytest.mark.parametrize("largest", [8, 512])
def test_every_kind_comes_to_the_size_of_self_attention(kind, base, largest):
    target = parameters(EncoderConfig(**base), 100)
    encoder = matched(EncoderConfig(kind=kind, **base), 100, target, largest)
    assert abs(parameters(encoder, 100) - target) <= TOLERANCE * target
    assert encoder.hidden >= encoder.width
    assert (encoder.layers, encoder.causal) == (base.get("layers", 3), base.get("causal"))
    assert encoder.largest == (largest if kind == "fully-connected" else None)


@pytest.mark.parametrize("kind", OTHERS)
@pytest.mark.parametrize("target", [20_000, 200_000, 2_000_000])
def test_every_kind_comes_to_a_given_size(kind, target):
    encoder = matched(EncoderConfig(kind=kind, width=64), 50, target, 200)
    assert abs(parameters(encoder, 50) - target) <= TOLERANCE * target


def test_vectors_too():
    target = parameters(EncoderConfig(width=16, features=5), None)
    assert (
        abs(parameters(matched(EncoderConfig(kind="lstm", width=16, features=5), None, target, 9), None) - target) < 200
    )


def test_the_matrix_over_positions_is_full_where_it_fits_and_of_low_rank_where_not():
    target = parameters(EncoderConfig(width=64), 50)
    fully = EncoderConfig(kind="fully-connected", width=64)
    assert matched(fully, 50, target, 32).rank is None
    ranks = [matched(fully, 50, target, largest).rank for largest in (200, 500, 2000)]
    assert ranks == sorted(ranks, reverse=True) and ranks[-1] >= 1
    assert matched(fully.model_copy(update={"rank": 3}), 50, target, 500).rank == 3


def test_what_cannot_be_made_so_small_is_refused():
    target = parameters(EncoderConfig(width=16), 50)
    with pytest.raises(
        ValueError, match="expected a fully-connected encoder within 5% of .* or leave fully-connected out"
    ):
        matched(EncoderConfig(kind="fully-connected", width=16), 50, target, 100_000)
