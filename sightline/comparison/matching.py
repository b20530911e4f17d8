"""Encoders of one size, by calculation: a comparison of mixers is fair only between models of equal size.

Everything but the mixer is shared, so the cost of the mixer is balanced beside it: the mlp of each block is narrowed or
widened until the whole has the target number of parameters. The width is reduced only where the mlp would become
narrower than the model. A fully connected mixer has a weight for every pair of positions; it gets the largest rank that
leaves its mlp at full width, and the full matrix where that fits.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

from sightline.encoders import build
from sightline.training.config import EncoderConfig

TOLERANCE = 0.05  # of the target; in practice `matched` is a hundred times nearer


def parameters(encoder: EncoderConfig, vocabulary: int | None) -> int:
    """The number of parameters of an encoder of token ids (if `vocabulary` is None, of vectors); allocates nothing.

    >>> parameters(EncoderConfig(width=64, layers=3), vocabulary=100)
    156480
    """
    with torch.device("meta"):
        built = build(**encoder.options(), vocabulary=vocabulary)
    return sum(p.numel() for p in built.parameters())


def matched(encoder: EncoderConfig, vocabulary: int | None, target: int, largest: int) -> EncoderConfig:
    """The settings of an encoder with `target` parameters, like `encoder` in all but widths and rank.

    `largest` is the longest sequence, for a fully connected encoder.
    Raises: ValueError where no width and rank come within 5% of the target.

    >>> lstm = matched(EncoderConfig(kind="lstm", width=64), 100, target=156480, largest=512)
    >>> lstm.width, lstm.hidden, parameters(lstm, 100)
    (64, 191, 156669)
    """
    if encoder.kind == "fully-connected":
        encoder = encoder.model_copy(update={"largest": encoder.largest or largest})
    widest = encoder.hidden or 4 * encoder.width
    for width in _widths(encoder):
        for ranked in _ranks(encoder.model_copy(update={"width": width, "hidden": widest}), vocabulary, target):
            hidden = _solved(ranked, "hidden", vocabulary, target)
            fitting = ranked.model_copy(update={"hidden": hidden})
            if hidden >= width and abs(parameters(fitting, vocabulary) - target) <= TOLERANCE * target:
                return fitting
    raise ValueError(
        f"compare: expected a {encoder.kind} encoder within {TOLERANCE:.0%} of {target:,} parameters, got none of "
        f"width {encoder.width} or less; make the encoders wider, or leave {encoder.kind} out"
    )


def _widths(encoder: EncoderConfig) -> Iterator[int]:
    """The configured width, then narrower ones that are multiples of the heads and of two directions."""
    step = 2 * (encoder.heads or 4)
    yield encoder.width
    yield from range((encoder.width - 1) // step * step, 0, -step)


def _ranks(encoder: EncoderConfig, vocabulary: int | None, target: int) -> Iterator[EncoderConfig]:
    """A fully connected encoder with the full matrix if it fits, then with the largest rank that does; others as is."""
    if encoder.kind != "fully-connected" or encoder.rank is not None:
        yield encoder
        return
    if parameters(encoder, vocabulary) <= target:
        yield encoder
    rank = _solved(encoder.model_copy(update={"rank": 1}), "rank", vocabulary, target)
    yield encoder.model_copy(update={"rank": min(max(rank, 1), encoder.largest or rank)})


def _solved(encoder: EncoderConfig, name: str, vocabulary: int | None, target: int) -> int:
    """The value nearest to the target of a setting on which the number of parameters depends linearly."""
    one, two = (parameters(encoder.model_copy(update={name: value}), vocabulary) for value in (1, 2))
    return 1 if one == two else round(1 + (target - one) / (two - one))
