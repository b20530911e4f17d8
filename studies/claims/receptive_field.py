"""Which rows can tell on which, and in how many steps: what an encoder's wiring allows before anything is learned.

Two ways to the same answer. By calculation, from the settings alone:

    self-attention     every row, in 1 step; with a window of w, rows within w per layer
    rnn, lstm          every row (or, causal, every earlier one), in as many steps as there are rows between
    convolution        rows within kernel // 2 per layer, dilated within that times 1, 2, 4, ...
    fully-connected    every row, in 1 step, up to its largest length

By trial, on an encoder as it stands: one row is changed, and whatever hears it changes.
Source: Vaswani et al. 2017, table 1 (maximum path length); the trial shows the same without any formula.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sightline.encoders import Encoder, Mixer
from sightline.encoders.recurrent import Recurrent
from sightline.sequences import Sequences

Reach = tuple[int | None, int | None]  # how many rows to the left and to the right; None = all there are


def reach(
    kind: str, layers: int, *, causal: bool = False, window: int | None = None, kernel: int = 5, dilation: str = "plain"
) -> list[Reach]:
    """How far a row sees to the left and to the right after each layer, by calculation.

    The settings are those of `sightline.build`; one that does not concern the kind changes nothing.

    >>> reach("convolution", 4, kernel=3, dilation="dilated")
    [(1, 1), (3, 3), (7, 7), (15, 15)]
    >>> reach("lstm", 1), reach("self-attention", 2, causal=True, window=8)
    ([(None, None)], [(8, 0), (16, 0)])
    """
    found: list[Reach] = []
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
        found.append((left, 0 if causal else left))
    return found


def path(kind: str, length: int, **settings) -> int | None:
    """The most steps that lie between any two rows of a sequence, one of which may tell on the other, by calculation.

    A step is one layer, or in a recurrence the way from one row to the next. As many layers are taken as that needs;
    None where no number of layers is enough. The settings are those of `reach`.

    >>> path("self-attention", 512), path("lstm", 512), path("convolution", 512, kernel=5)
    (1, 512, 256)
    >>> path("convolution", 512, kernel=5, dilation="dilated"), path("self-attention", 512, window=64)
    (9, 8)
    """
    if length <= 1:
        return length
    if kind in ("rnn", "lstm"):
        return length
    if reach(kind, 1, **settings)[0][0] == 0:
        return None
    layers = 1
    while True:
        for layer, (left, _) in enumerate(reach(kind, layers, **settings), 1):
            if left is None or left >= length - 1:
                return layer
        layers *= 2


def heard(encoder: Encoder, length: int) -> list[Tensor]:
    """Which inputs each row has heard of after each layer, by trial on the encoder's own mixers.

    Shapes: bool [length, length] for each layer, [row, input]. What passes a mixer by is counted too.
    Raises: ValueError where a fully connected mixer is too small for the length.

    >>> from sightline.encoders import build
    >>> heard(build("convolution", vocabulary=9, width=8, layers=1, kernel=3), 4)[0].int().tolist()
    [[1, 1, 0, 0], [1, 1, 1, 0], [0, 1, 1, 1], [0, 0, 1, 1]]
    """
    known = torch.eye(length, dtype=torch.bool)
    found = []
    for block in encoder.blocks:
        known = known | (wiring(block.mixer, encoder.width, length).float() @ known.float() > 0)
        found.append(known)
    return found


@torch.no_grad()
def wiring(mixer: Mixer, width: int, length: int) -> Tensor:
    """Which rows hear which in one pass of a mixer, bool [row, input], by changing each row in turn.

    In a recurrence the row becomes NaN, which no number of steps washes out, as they do a number. The others hear at once
    what they hear, but multiply what they do not hear by zero, which would hand a NaN on: there the row gets other numbers.
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
