"""Rows: which rows of a padded or packed batch are attended from and to, and where each sequence begins, once per forward.

A batch [B, L] lies in memory as B * L rows. Attention over packed sequences wants offsets over rows; padding is left out by
naming the rows that are kept. All of this is decided on the CPU, from the mask and not from the values.
"""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass

import torch
from torch import Tensor

from sightline.attention import Pattern
from sightline.huggingface.mask_rules import Reading


class Name(str):
    """A name that a pickle looks up in this package, so that who loads a model which is set to it has registered it."""

    def __reduce__(self):
        return Name, (str(self),)


NAME = Name("sightline")
WHERE = f"attention {NAME!r}"


@dataclass(frozen=True, eq=False)
class Packing:
    """Where the sequences of a packed batch begin: int64 [S + 1] on the CPU, over its queries and over its keys.

    `rows` [T] are the rows that its tokens had in the caller's padded batch, if there was one.
    """

    offsets: Tensor
    key_offsets: Tensor
    rows: Tensor | None = None


packing_in_use: ContextVar[Packing | None] = ContextVar("packing_in_use", default=None)  # set by `run` and `unpad`
proving: ContextVar[bool] = ContextVar(
    "proving", default=False
)  # a model is being tried, perhaps inside a call of its own


@dataclass(frozen=True, eq=False)
class Rows:
    """Which rows take part: `queries` and `keys` are indices into the B * L rows (None: all of them), sequence by sequence.

    `aligned` says that sequence s is row s of the batch and begins at its first place, so that a bias [B, H, L, L] fits.
    """

    offsets: Tensor
    key_offsets: Tensor
    pattern: Pattern
    queries: Tensor | None = None
    keys: Tensor | None = None
    aligned: bool = False


@dataclass(frozen=True)
class Grid:
    """The shape a mask is made for: B rows of Lq queries and Lk keys, and the places of the first of each in the text."""

    batch: int
    queries: int
    keys: int
    first_query: int = 0
    first_key: int = 0


def packed(packing: Packing, grid: Grid, reading: Reading) -> Rows:
    """Rows of input that is packed already.

    Raises: ValueError where the packing is not of this many rows.
    """
    expected = int(packing.offsets[-1]), int(packing.key_offsets[-1])
    if expected != (grid.batch * grid.queries, grid.batch * grid.keys):
        raise ValueError(
            f"{WHERE}: expected a packed batch of {expected[0]} queries and {expected[1]} keys, got "
            f"{grid.batch * grid.queries} and {grid.batch * grid.keys}; this model attends to something else than its packed "
            "input: give it padded input"
        )
    offsets, key_offsets = packing.offsets, packing.key_offsets
    if reading.chunk is not None:  # each chunk is a sequence of its own
        if not torch.equal(offsets, key_offsets):
            raise ValueError(
                f"{WHERE}: expected the same offsets for queries and keys in chunks of {reading.chunk}, got others; give padded input"
            )
        bounds = zip(offsets.tolist(), offsets[1:].tolist(), strict=False)
        starts = [start for first, stop in bounds for start in range(first, stop, reading.chunk)]
        offsets = key_offsets = torch.tensor([*starts, expected[0]])
    return Rows(offsets, key_offsets, reading.pattern)


def of_sequences(sequences: Tensor) -> Packing:
    """The packing that numbers [B, L] say, which change where a new sequence begins; each row of the batch begins one."""
    new = torch.ones(sequences.shape, dtype=torch.bool)
    new[:, 1:] = (sequences.diff(dim=1) != 0).cpu()
    offsets = torch.cat([new.flatten().nonzero().flatten(), torch.tensor([sequences.numel()])])
    return Packing(offsets, offsets)


def padded(reading: Reading, grid: Grid, keep: Tensor | None, device: torch.device) -> Rows:
    """Rows of a batch that a mask [B, Lk] may thin out, without holes in a window; `keep` is None where every key is real."""
    if reading.sequences is not None:
        return packed(of_sequences(reading.sequences.expand(grid.batch, -1)), grid, reading)
    pattern, ordered = reading.pattern, reading.pattern != Pattern() or reading.chunk is not None
    shift = grid.first_query - grid.first_key  # query i stands at key i + shift
    if keep is None and reading.chunk is None:
        written = min(grid.keys, shift + grid.queries) if pattern.right == 0 else grid.keys
        if written == grid.keys:  # nothing to leave out
            lengths = (torch.full((grid.batch,), n) for n in (grid.queries, grid.keys))
            return Rows(*map(_offsets, lengths), pattern, aligned=True)
    kept = torch.ones(grid.batch, grid.keys, dtype=torch.bool) if keep is None else keep.cpu()
    asking = torch.ones(grid.batch, grid.queries, dtype=torch.bool)
    if ordered:  # the queries are the last of the keys: what is padding there is padding here
        if not 0 <= shift <= grid.keys - grid.queries:
            raise ValueError(
                f"{WHERE}: expected the {grid.queries} queries among the {grid.keys} keys, got them from key {shift} on; "
                "this model orders its keys in a way that is not known: use another implementation"
            )
        if pattern.right == 0:  # what a fixed cache has room for but has not yet written
            kept = kept & (torch.arange(grid.keys) < shift + grid.queries)
        if keep is not None:
            asking = kept[:, shift : shift + grid.queries]
    places = torch.zeros(grid.batch, grid.keys, dtype=torch.int64)
    if reading.chunk is not None:
        places = grid.first_key + torch.arange(grid.keys) - reading.padding.cpu()[:, None]
        places = places.div(reading.chunk, rounding_mode="floor")
    rows, keys = (places[:, shift : shift + grid.queries] if ordered else places[:, :1].expand_as(asking), places)
    lengths, key_lengths = _lengths(_numbered(rows, keys), asking, kept)
    aligned = reading.chunk is None and bool((kept[:, :-1] >= kept[:, 1:]).all())
    aligned = aligned and shift == 0
    indices = (None if bool(m.all()) else m.flatten().nonzero().flatten().to(device) for m in (asking, kept))
    return Rows(_offsets(lengths), _offsets(key_lengths), pattern, *indices, aligned=aligned)


def _numbered(rows: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
    """The same places with different numbers in different rows of the batch."""
    low = min(int(keys.min()), 0)
    step = int(keys.max()) - low + 1
    base = torch.arange(len(keys))[:, None] * step - low
    return rows + base, keys + base


def _lengths(places: tuple[Tensor, Tensor], asking: Tensor, kept: Tensor) -> tuple[Tensor, Tensor]:
    """How many queries and keys each sequence has, in the order of their places."""
    names, number = torch.cat([places[1].flatten(), places[0].flatten()]).unique(return_inverse=True)
    of_keys, of_queries = number.split([kept.numel(), asking.numel()])
    return tuple(
        torch.bincount(of[mask.flatten()], minlength=len(names)) for of, mask in ((of_queries, asking), (of_keys, kept))
    )


def has_holes(kept: Tensor) -> bool:
    """Whether a mask [B, L] hides a token between others."""
    rises = kept[:, 1:] & ~kept[:, :-1]
    return bool((rises.sum(1) + kept[:, 0] > 1).any())


def _offsets(lengths: Tensor) -> Tensor:
    return torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)])
