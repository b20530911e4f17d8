"""A comparison of mixers is fair only between models of one size: here the sizes are made equal, by calculation.

Everything but the mixer is shared, so the mixer's cost is balanced where it stands: the mlp of each block is made
narrower or wider until the whole has as many parameters as asked. Only where that would leave an mlp narrower than the
model itself is the width reduced. A fully connected mixer has a size for every pair of positions; it gets the largest
rank that leaves its mlp as wide as was asked, and the full matrix where even that fits.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

from sightline.encoders import build
from sightline.training.config import EncoderConfig

TOLERANCE = 0.05  # of the target; what `matched` returns is in practice a hundred times nearer


def parameters(encoder: EncoderConfig, vocabulary: int | None) -> int:
    """How many parameters an encoder has, for token ids (or, if None, for its vectors); nothing is allocated.

    >>> parameters(EncoderConfig(width=64, layers=3), vocabulary=100)
    156480
    """
    with torch.device("meta"):
        built = build(**encoder.options(), vocabulary=vocabulary)
    return sum(p.numel() for p in built.parameters())


def matched(encoder: EncoderConfig, vocabulary: int | None, target: int, largest: int) -> EncoderConfig:
    """The settings of an encoder with `target` parameters, like `encoder` in all but widths and rank.

    `largest` is the longest sequence, which only a fully connected encoder needs to know.
    Raises: ValueError where no width and rank come within 5% of the target.

    >>> lstm = matched(EncoderConfig(kind="lstm", width=64), 100, target=156480, largest=512)
    >>> lstm.width, lstm.hidden, parameters(lstm, 100)
    (64, 191, 156669)
    """
    if encoder.kind == "fully-connected":
        encoder = encoder.model_copy(update={"largest": encoder.largest or largest})
    wanted = encoder.hidden or 4 * encoder.width
    for width in _widths(encoder):
        for ranked in _ranks(encoder.model_copy(update={"width": width, "hidden": wanted}), vocabulary, target):
            hidden = _solved(ranked, "hidden", vocabulary, target)
            found = ranked.model_copy(update={"hidden": hidden})
            if hidden >= width and abs(parameters(found, vocabulary) - target) <= TOLERANCE * target:
                return found
    raise ValueError(
        f"compare: expected a {encoder.kind} encoder within {TOLERANCE:.0%} of {target:,} parameters, got none of width "
        f"{encoder.width} or less; make the encoders wider, or leave {encoder.kind} out"
    )


def _widths(encoder: EncoderConfig) -> Iterator[int]:
    """The width asked for, then narrower ones that heads and two directions can share."""
    step = 2 * (encoder.heads or 4)
    yield encoder.width
    yield from range((encoder.width - 1) // step * step, 0, -step)


def _ranks(encoder: EncoderConfig, vocabulary: int | None, target: int) -> Iterator[EncoderConfig]:
    """Over positions the full matrix where it fits, else the largest rank that does; other kinds as they are."""
    if encoder.kind != "fully-connected" or encoder.rank is not None:
        yield encoder
        return
    if parameters(encoder, vocabulary) <= target:
        yield encoder
    rank = _solved(encoder.model_copy(update={"rank": 1}), "rank", vocabulary, target)
    yield encoder.model_copy(update={"rank": min(max(rank, 1), encoder.largest)})


def _solved(encoder: EncoderConfig, name: str, vocabulary: int | None, target: int) -> int:
    """The value of a setting, on which the number of parameters depends linearly, that comes nearest to the target."""
    one, two = (parameters(encoder.model_copy(update={name: value}), vocabulary) for value in (1, 2))
    return 1 if one == two else round(1 + (target - one) / (two - one))
