"""Observes a model while it runs, without a change to its results: weights of attention, and influence of inputs.

`watch` records every call of attention (watch, recording, joining); a `Layer` gives its statistics, links and tiles;
`influence` differentiates. Begin with `calls.py`, which defines a weight, then `statistics.py` and `watch.py`.
"""

from sightline.observe.influence import Influence, Profile, influence, influence_on, untrained
from sightline.observe.layer import Layer, Links
from sightline.observe.tiles import Pyramid, Tile
from sightline.observe.watch import Seen, watch

__all__ = [
    "Influence",
    "Layer",
    "Links",
    "Profile",
    "Pyramid",
    "Seen",
    "Tile",
    "influence",
    "influence_on",
    "load",
    "untrained",
    "watch",
]


def load(folder) -> Seen:
    """The observations that `seen.save(folder)` wrote.

    Raises: ValueError where a file is missing, damaged, or of another version.

    >>> import pathlib, tempfile, torch; from sightline.encoders import build; from sightline.sequences import Sequences
    >>> encoder = build("self-attention", vocabulary=9, width=8, layers=1, heads=2)
    >>> with watch(encoder) as seen:
    ...     encodings = encoder(Sequences(torch.tensor([1, 2, 3, 4]), [0, 3, 4]))
    >>> seen.save(folder := pathlib.Path(tempfile.mkdtemp(), "seen"))
    >>> torch.equal(load(folder).layer(0).entropy, seen.layer(0).entropy)
    True
    """
    from sightline.observe.files import Stored  # imports safetensors

    return Seen(Stored(folder))
