"""Five encoders behind one interface: `build` makes them by name; each mixer has a file of its own.

Begin with encoder.py, then self_attention.py; readouts.py turns encodings into scores.
"""

from __future__ import annotations

from typing import Any

from sightline.encoders.convolution import Convolution
from sightline.encoders.encoder import Block, Encoder, Mixer, TokenEmbedding, VectorEmbedding
from sightline.encoders.fully_connected import FullyConnected
from sightline.encoders.readouts import Readout
from sightline.encoders.recurrent import Recurrent
from sightline.encoders.self_attention import SelfAttention

KINDS = ("self-attention", "rnn", "lstm", "convolution", "fully-connected")


def build(
    kind: str | type[Mixer],
    *,
    vocabulary: int | None = None,
    features: int | None = None,
    width: int = 128,
    layers: int = 3,
    hidden: int | None = None,
    dropout: float = 0.0,
    causal: bool = False,
    dilation: str = "plain",
    **mixer: Any,
) -> Encoder:
    """An encoder of one of the five kinds, or of your own class of mixer, for token ids or vectors.

    `vocabulary` is the number of token ids, `features` the width of the vectors; exactly one of them is set.
    `hidden` is the width inside each block's mlp (None: four times the width). `dilation` is "plain" (all 1) or
    "dilated" (1, 2, 4, ... by layer) and concerns convolutions; all other options go to the mixer: `heads`,
    `key_heads`, `window`, `rotary` (self-attention), `kernel` (convolution), `largest`, `rank`, `heads`
    (fully-connected). A class of mixer of your own gets `width` and the further options; it states itself whether it is
    causal.
    Raises: ValueError for an unknown kind or dilation, or where not exactly one of vocabulary and features is given;
    TypeError for an option the mixer does not have, or lacks.

    >>> import torch
    >>> from sightline.sequences import Sequences
    >>> encoder = build("lstm", vocabulary=10, width=16, layers=1)
    >>> encoder(Sequences(torch.tensor([1, 2, 3]), [0, 1, 3]))
    Sequences(2 sequences, 3 rows, row shape [16], torch.float32, cpu)
    """
    if (vocabulary is None) == (features is None):
        raise ValueError(
            f"build: expected either vocabulary or features, got {vocabulary} and {features}; name the one that the "
            "input has"
        )
    if dilation not in ("plain", "dilated"):
        raise ValueError(f"build: expected dilation plain or dilated, got {dilation!r}; choose one")
    embedding = VectorEmbedding(features or 0, width) if vocabulary is None else TokenEmbedding(vocabulary, width)

    def new_mixer(layer: int) -> Mixer:
        if isinstance(kind, type) and issubclass(kind, Mixer):  # pyright: ignore[reportUnnecessaryIsInstance]
            if causal and not getattr(kind, "causal", False):
                raise ValueError(
                    f"build: expected causal=False for {kind.__name__}, which states it itself, got True; leave it out"
                )
            return kind(width, **mixer)
        match kind:
            case "self-attention":
                return SelfAttention(width, causal=causal, **mixer)
            case "rnn" | "lstm":
                return Recurrent(width, cell=kind, causal=causal, **mixer)
            case "convolution":
                return Convolution(width, causal=causal, dilation=2**layer if dilation == "dilated" else 1, **mixer)
            case "fully-connected" if "largest" not in mixer:
                raise TypeError(
                    "build: expected largest for fully-connected, got none; give the length of the longest sequence"
                )
            case "fully-connected":
                return FullyConnected(width, causal=causal, **mixer)
            case _:
                raise ValueError(f"build: expected one of {', '.join(KINDS)}, got {kind!r}; choose one")

    hidden = 4 * width if hidden is None else hidden
    blocks = [Block(new_mixer(layer), width, hidden, dropout) for layer in range(layers)]
    return Encoder(embedding, blocks, width, dropout)


__all__ = [
    "Block",
    "Convolution",
    "Encoder",
    "FullyConnected",
    "KINDS",
    "Mixer",
    "Readout",
    "Recurrent",
    "SelfAttention",
    "TokenEmbedding",
    "VectorEmbedding",
    "build",
]
