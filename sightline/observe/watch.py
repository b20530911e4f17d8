"""Watching a model: a watcher keeps queries, keys and lse of each attention call, and changes no bit of the outputs.

    with watch(model) as seen:
        model(...)
    seen.layer(3).entropy

For long input it keeps the statistics alone, so that memory grows with the number of tokens and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from sightline.attention import Attended, Request, watching
from sightline.observe.joining import chosen
from sightline.observe.layer import Layer
from sightline.observe.recording import Recorder
from sightline.observe.routing import INFLUENCE, routed
from sightline.observe.statistics import Statistics, statistics
from sightline.observe.tiles import Tile


class Seen:
    """What a watcher has seen of the last forward pass; `layers` is the number of attention layers in one.

    `names` are the layers' names in the order in which they ran: in an encoder-decoder the encoder's, then by turns the
    decoder's own and its cross-attention.
    """

    def __init__(self, source):
        self._source = source  # a Recorder, or what was saved of one

    @property
    def names(self) -> list[str]:
        return list(self._source.names)

    @property
    def watched(self) -> list[str]:
        """The names of the layers that were watched."""
        return [name for name in self.names if self._source.layer(name) is not None]

    @property
    def layers(self) -> int:
        return len(self.names)

    def layer(self, which: int | str) -> Layer:
        """A layer by its number, from 0, or by its name.

        Raises: ValueError for a layer that was not seen.
        """
        names = self.names
        if not names:
            raise ValueError(
                "watch: expected a forward pass inside the context, got none that went through sightline's attention; "
                f"run the model there, and if you did: {INFLUENCE}"
            )
        known = which in names if isinstance(which, str) else 0 <= which < len(names)
        if not known:
            raise ValueError(
                f"watch: expected a layer from 0 to {len(names) - 1} or one of {', '.join(names)}, got {which!r}; "
                "choose one"
            )
        name = which if isinstance(which, str) else names[which]
        layer = self._source.layer(name)
        if layer is None:
            raise ValueError(
                f"watch: expected a layer that was watched, got {which!r}, which `layers` leaves out; watch it too"
            )
        return layer

    def tile(self, layer: int | str, head: int, rows=None, columns=None, sequence: int = 0, at=(1, 1)) -> Tile:
        """A rectangle of one head's map, as `Layer.tile` gives it.

        Raises: ValueError for a layer, head or sequence that was not seen, or outside the map.
        """
        return self.layer(layer).tile(head, rows, columns, sequence, at)

    def alone(self, sequence: int, layers: Iterable[int | str] | None = None) -> Seen:
        """What was seen of one sequence, in these layers or all that were watched, as if there were no other.

        Raises: ValueError for a sequence or layers that were not seen, or where the map was not kept.
        """
        return Seen(_Alone([self.layer(which) for which in (self.watched if layers is None else layers)], sequence))

    def save(self, folder: str | Path) -> None:
        """Writes what was seen to a new folder, which `sightline.observe.load` reads.

        Raises: ValueError where the folder exists, or nothing was seen.
        """
        from sightline.observe.files import save  # which brings safetensors

        save(self, folder)

    def __repr__(self) -> str:
        return f"Seen({self.layers} layers: {', '.join(self.names)})"


class _Alone:
    """Layers by their names, each with one sequence."""

    def __init__(self, layers: list[Layer], sequence: int):
        self.names = {layer.name: number for number, layer in enumerate(layers)}
        self._layers = {layer.name: _of_one(layer, sequence) for layer in layers}

    def layer(self, name: str) -> Layer | None:
        return self._layers.get(name)


def _of_one(layer: Layer, sequence: int) -> Layer:
    call = layer.mapped(sequence)
    if len(layer.offsets) == 2:
        return layer
    call = chosen(call, [sequence])
    rows, keys = (slice(*o[sequence : sequence + 2].tolist()) for o in (layer.offsets, layer.key_offsets))

    def of_sequence() -> Statistics:
        """Slices per-row statistics; recomputes sums over the batch."""
        of_batch = layer.statistics
        sliced = {name: value[rows] for name, value in vars(of_batch).items()}
        sliced |= {"received": of_batch.received[keys], "histogram": statistics(call, 1).histogram}
        return Statistics(**sliced)

    return Layer(layer.name, layer.heads, call, of_sequence)


@contextmanager
def watch(
    model: nn.Module,
    layers: Iterable[int | str] | None = None,
    heads: Iterable[int] | None = None,
    links: int = 8,
    special: Tensor | Iterable[int] | None = None,
    keep_map: bool = False,
) -> Iterator[Seen]:
    """Sees what each attention layer of a model looks at; a model on sightline's attention keeps every bit.

    Takes any of our encoders, and any Hugging Face model whose attention goes through transformers' interface. The
    latter runs on the attention "sightline" meanwhile: if it ran on "sdpa" or "eager" before, its outputs differ by
    rounding, about 1e-7 of their size in float32, as between those two. Works for packed and padded input, `run`,
    `generate` and single steps. `layers` (numbers or names) and `heads` choose; `links` is the number of keys kept for
    each query. `special` marks special tokens among the keys: bool [R], or token ids where the model is called with
    ids. With `keep_map`, queries and keys of long input are kept too, on disk, for tiles of the map.

    Raises: ValueError where the model has no attention that can be seen, for layers or heads it has not, and for
    negative links.

    >>> from sightline.encoders import build
    >>> from sightline.sequences import Sequences
    >>> encoder = build("self-attention", vocabulary=9, width=8, layers=2, heads=4)
    >>> with watch(encoder) as seen:
    ...     encodings = encoder(Sequences(torch.tensor([1, 2, 3, 4]), [0, 3, 4]))
    >>> seen.layer(1).entropy.shape, seen.layer(1).weights(sequence=0).shape
    (torch.Size([4, 4]), torch.Size([4, 3, 3]))
    """
    if not isinstance(links, int) or links < 0:
        raise ValueError(
            f"watch: expected links as a number of keys, 0 or more, got {links!r}; say how many to keep for each query"
        )
    with routed(model):
        recorder = Recorder(model, layers, heads, links, special, keep_map)

        def look(request: Request, attended: Attended) -> None:
            with torch.no_grad():
                recorder.add(request, attended.lse)

        try:
            with watching(look):
                yield Seen(recorder)
        finally:
            recorder.close()
    recorder.check()
