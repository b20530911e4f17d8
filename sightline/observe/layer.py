"""A watched layer: its statistics, computed when they are first read and then kept, and any weight."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from sightline.attention import Pattern
from sightline.observe.calls import Call, Piece
from sightline.observe.distances import bin_names
from sightline.observe.statistics import Statistics
from sightline.observe.tiles import CELLS, Cells, Pyramid, Tile, tile_of
from sightline.sequences import rows_from


class Links(NamedTuple):
    """For each query its k keys with the largest weights, largest first; among equal ones, any.

    Shapes: keys int32 [T, H, k], places in their own sequence, -1 where fewer are visible; weights float32 [T, H, k].
    """

    keys: Tensor
    weights: Tensor


_read = cast(Any, property)  # annotated by what it reads, since that is what a user gets


class Layer:
    """What the heads of one attention layer looked at in one forward pass, or in all steps of one `generate`.

    Shapes: offsets, key_offsets int64 [S + 1]; over T queries, R keys and the H heads that were watched, float32:
    `lse`, `entropy` (nats), `distance` (tokens), `first`, `special` [T, H]; `received` [R, H]; `histogram` [H, 2 BINS +
    1] with the names `bins`; `links`. Rows are real tokens, without padding. `statistics.py` has the formulas.
    """

    bins = bin_names()

    def __init__(self, name: str, heads: list[int], call: Call, make: Callable[[], Statistics]):
        self.name, self.heads, self.kept, self._make = name, heads, call, make
        self._piece: tuple | None = None

    @cached_property
    def statistics(self) -> Statistics:
        return self._make()

    offsets: Tensor = _read(lambda self: self.kept.offsets)
    key_offsets: Tensor = _read(lambda self: self.kept.key_offsets)
    pattern: Pattern = _read(lambda self: self.kept.pattern)
    scale: float = _read(lambda self: self.kept.scale)
    lse: Tensor = _read(lambda self: self.kept.lse.float())
    entropy: Tensor = _read(lambda self: self.statistics.entropy)
    distance: Tensor = _read(lambda self: self.statistics.distance)
    histogram: Tensor = _read(lambda self: self.statistics.histogram)
    received: Tensor = _read(lambda self: self.statistics.received)
    first: Tensor = _read(lambda self: self.statistics.first)
    special: Tensor = _read(lambda self: self.statistics.special)

    @property
    def links(self) -> Links:
        return Links(self.statistics.keys, self.statistics.weights)

    @property
    def link_distances(self) -> Tensor:
        """The key's place minus the query's, int32 [T, H, k]; 0 where there is no link."""
        keys, (n, m) = self.links.keys, (o.diff() for o in (self.offsets, self.key_offsets))
        place = rows_from(m - n, n)
        return (keys - place.to(keys)[:, None, None]).masked_fill(keys < 0, 0)

    def table(self):
        """A `pyarrow.Table` with one row for each query and head; see `tables.py`."""
        from sightline.observe.tables import table_of

        return table_of(self)

    def frame(self):
        """The same as a pandas DataFrame."""
        return self.table().to_pandas()

    def weights(self, sequence: int = 0) -> Tensor:
        """All weights of one short sequence, float32 or wider. Shapes: [H, n, m]: weight[head, query, key].

        Raises: ValueError for a sequence that is not there, or where the map was not kept.
        """
        return self.mapped(sequence).weights(sequence)

    def mapped(self, sequence: int = 0) -> Call:
        """The call with its queries and keys.

        Raises: ValueError for a sequence that is not there, or where the map was not kept.
        """
        if not 0 <= sequence < len(self.offsets) - 1:
            raise ValueError(
                f"{self.name}: expected a sequence from 0 to {len(self.offsets) - 2}, got {sequence}; "
                "count them in the batch"
            )
        if self.kept.q is None:
            raise ValueError(
                f"{self.name}: expected the map, got statistics alone, since the input was long; "
                "watch with keep_map=True"
            )
        return self.kept

    def piece(self, head: int, sequence: int = 0) -> Piece:
        """One head of one sequence, ready for tiles; the last one is kept.

        Raises: ValueError for a head or sequence that is not there, or where the map was not kept.
        """
        if self._piece is None or self._piece[0] != (head, sequence):
            call = self.mapped(sequence)
            if head not in self.heads:
                raise ValueError(
                    f"{self.name}: expected a head out of {self.heads}, got {head}; watch it, or choose another"
                )
            (q, q_stop), (k, k_stop) = (o[sequence : sequence + 2].tolist() for o in (call.offsets, call.key_offsets))
            place = self.heads.index(head)
            heads = slice(place, place + 1)
            self._piece = (head, sequence), Piece(call, sequence, 1, q, k, q_stop - q, k_stop - k, heads)
        return self._piece[1]

    def tile(self, head: int, rows=None, columns=None, sequence: int = 0, at=(1, 1)) -> Tile:
        """A rectangle of one head's map, exact, at any zoom.

        `at` says what a cell is, for queries and for keys: a number of tokens, or offsets of groups of tokens, such as
        words. `rows` and `columns` are pairs (first, stop) or ranges of cells; None: all.

        Raises: ValueError outside the map, and where the map was not kept.
        """
        piece = self.piece(head, sequence)
        by, across = Cells(piece.n, at[0]), Cells(piece.m, at[1])
        with torch.no_grad():
            return tile_of(piece, by.within(rows, "rows"), across.within(columns, "columns"))

    def pyramid(self, head: int, sequence: int = 0, cells: int = CELLS) -> Pyramid:
        """A head's whole map at a zoom of at most `cells` to a side, still empty; `grow` it."""
        return Pyramid(self.piece(head, sequence), cells)

    def __repr__(self) -> str:
        rows, heads = self.lse.shape
        sequences = len(self.offsets) - 1
        return f"Layer({self.name!r}, {rows} queries in {sequences} sequences, heads {self.heads}, {self.pattern})"
