"""Receptive fields and path lengths: what an encoder's wiring allows before anything is learned.

Two methods give the same answer. By calculation, from the settings alone:

    self-attention     every row, in 1 step; with a window of w, rows within w per layer
    rnn, lstm          every row (or, causal, every earlier one), in as many steps as there are rows between
    convolution        rows within kernel // 2 per layer, dilated within that times 1, 2, 4, ...
    fully-connected    every row, in 1 step, up to its largest length

By trial, on a built encoder: one row is changed, and every row that depends on it changes.
Source: Vaswani et al. 2017, table 1 (maximum path length); the trial needs no formula.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sightline.encoders import Encoder, Mixer
from sightline.encoders.recurrent import Recurrent
from sightline.sequences import Sequences
from studies.claims.claim import RECURRENT

Reach = tuple[int | None, int | None]  # how many rows to the left and to the right; None = all there are


def reach(
    kind: str, layers: int, *, causal: bool = False, window: int | None = None, kernel: int = 5, dilation: str = "plain"
) -> list[Reach]:
    """How far a row sees to the left and to the right after each layer, by calculation.

    The settings are those of `sightline.build`; one that does not apply to the kind is ignored.

    >>> reach("convolution", 4, kernel=3, dilation="dilated")
    [(1, 1), (3, 3), (7, 7), (15, 15)]
    >>> reach("lstm", 1), reach("self-attention", 2, causal=True, window=8)
    ([(None, None)], [(8, 0), (16, 0)])
    """
    reaches: list[Reach] = []
    left: int | None = 0
    for layer in range(layers):
        match kind:
            case "convolution":
                taps = kernel - 1 if causal else kernel // 2
                step = taps * (2**layer if dilation == "dilated" else 1)
            case "self-attention":
                step = window
            case _:
                step = None
        left = None if step is None or left is None else left + step
        reaches.append((left, 0 if causal else left))
    return reaches


def longest_path(kind: str, length: int, **settings) -> int | None:
    """The most steps between any two rows of a sequence of which one depends on the other, by calculation.

    A step is one layer, or in a recurrence the transition from one row to the next. As many layers are taken as needed;
    None if no number of layers is enough. The settings are those of `reach`.

    >>> longest_path("self-attention", 512), longest_path("lstm", 512), longest_path("convolution", 512, kernel=5)
    (1, 512, 256)
    >>> longest_path("convolution", 512, kernel=5, dilation="dilated"), longest_path("self-attention", 512, window=64)
    (9, 8)
    """
    if length <= 1 or kind in RECURRENT:
        return length
    if reach(kind, 1, **settings)[0][0] == 0:
        return None
    layers = 1
    while True:
        for layer, (left, _) in enumerate(reach(kind, layers, **settings), 1):
            if left is None or left >= length - 1:
                return layer
        layers *= 2


def band(length: int, left: int | None, right: int | None) -> Tensor:
    """The field that a reach allows, bool [length, length], [row, input]."""
    back = torch.arange(length)[:, None] - torch.arange(length)
    return (back <= (length if left is None else left)) & (-back <= (length if right is None else right))


def fields_by_trial(encoder: Encoder, length: int) -> list[Tensor]:
    """The receptive fields after each layer, by trial on the encoder's own mixers.

    Shapes: bool [length, length] for each layer, [row, input]. The residual connection past a mixer counts too.
    Raises: ValueError if a fully connected mixer is too small for the length.

    >>> from sightline.encoders import build
    >>> fields_by_trial(build("convolution", vocabulary=9, width=8, layers=1, kernel=3), 4)[0].int().tolist()
    [[1, 1, 0, 0], [1, 1, 1, 0], [0, 1, 1, 1], [0, 0, 1, 1]]
    """
    field = torch.eye(length, dtype=torch.bool)
    fields = []
    for block in encoder.blocks:
        field = field | (connections(block.mixer, encoder.width, length).float() @ field.float() > 0)
        fields.append(field)
    return fields


@torch.no_grad()
def connections(mixer: Mixer, width: int, length: int) -> Tensor:
    """Which rows depend on which in one pass of a mixer, bool [row, input], by changing each row in turn.

    In a recurrence the changed row is NaN, since rounding may remove a change of a number over many steps. Other mixers
    multiply what they ignore by zero, which would carry a NaN on; there the row gets other numbers.
    """
    like = next(mixer.parameters())
    each = torch.arange(length)
    values = torch.randn(length, width, generator=torch.Generator().manual_seed(0)).repeat(length, 1, 1)
    changed = values.clone()  # a sequence for each input
    changed[each, each] = torch.nan if isinstance(mixer, Recurrent) else values[each, each].flip(1) + 1.0
    offsets = torch.arange(length + 1) * length
    before, after = (
        mixer(Sequences(x.flatten(0, 1).to(like), offsets)).values.view(length, length, -1) for x in (values, changed)
    )
    return (before != after).any(2).t().cpu()
