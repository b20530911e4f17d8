"""Row layout: which rows of a padded or packed batch take part in attention, and where each sequence begins.

A batch [B, L] lies in memory as B * L rows. Attention over packed sequences takes offsets over rows; padding is left
out by listing the rows that are kept. All of this is computed on the CPU, from the mask and not from the values, once
per forward.
"""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass

import torch
from torch import Tensor

from sightline.attention import FULL, Pattern
from sightline.huggingface.mask_rules import MaskRule
from sightline.sequences import offsets_of


class Name(str):
    """A name that pickle finds in this package, so that loading a model which uses it registers the attention."""

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
proving: ContextVar[bool] = ContextVar("proving", default=False)  # a model is tried, perhaps inside a call of its own


@dataclass(frozen=True, eq=False)
class Rows:
    """The rows that take part: `queries` and `keys` are indices into the B * L rows (None: all), sequence by sequence.

    `aligned` says that sequence s is row s of the batch and begins at its first place, so that a bias [B, H, L, L]
    fits.
    """

    offsets: Tensor
    key_offsets: Tensor
    pattern: Pattern
    queries: Tensor | None = None
    keys: Tensor | None = None
    aligned: bool = False


@dataclass(frozen=True)
class Grid:
    """The shape of a mask: B rows of Lq queries and Lk keys, and the places of the first of each in the text."""

    batch: int
    queries: int
    keys: int
    first_query: int = 0
    first_key: int = 0

    @property
    def shift(self) -> int:
        """Query i stands at key i + shift."""
        return self.first_query - self.first_key


def packed(packing: Packing, grid: Grid, rule: MaskRule) -> Rows:
    """The rows of input that is packed already.

    Raises: ValueError where the packing is not of this many rows.
    """
    expected = int(packing.offsets[-1]), int(packing.key_offsets[-1])
    if expected != (grid.batch * grid.queries, grid.batch * grid.keys):
        raise ValueError(
            f"{WHERE}: expected a packed batch of {expected[0]} queries and {expected[1]} keys, got "
            f"{grid.batch * grid.queries} and {grid.batch * grid.keys}; this model attends to something else than its "
            "packed input: give it padded input"
        )
    offsets, key_offsets = packing.offsets, packing.key_offsets
    if rule.chunk is not None:  # each chunk is a sequence of its own
        if not torch.equal(offsets, key_offsets):
            raise ValueError(
                f"{WHERE}: expected the same offsets for queries and keys in chunks of {rule.chunk}, got others; "
                "give padded input"
            )
        bounds = zip(offsets.tolist(), offsets[1:].tolist(), strict=False)
        starts = [start for first, stop in bounds for start in range(first, stop, rule.chunk)]
        offsets = key_offsets = torch.tensor([*starts, expected[0]])
    return Rows(offsets, key_offsets, rule.pattern)


def packing_of_numbers(numbers: Tensor) -> Packing:
    """The packing of rows [B, L] with numbers that change where a sequence begins; each row of the batch begins one."""
    new = torch.ones(numbers.shape, dtype=torch.bool)
    new[:, 1:] = (numbers.diff(dim=1) != 0).cpu()
    offsets = torch.cat([new.flatten().nonzero().flatten(), torch.tensor([numbers.numel()])])
    return Packing(offsets, offsets)


def whole_rows(grid: Grid, pattern: Pattern) -> Rows:
    """All rows: each row of the batch is a sequence."""
    starts = torch.arange(grid.batch + 1)
    return Rows(starts * grid.queries, starts * grid.keys, pattern, aligned=True)


def padded(rule: MaskRule, grid: Grid, keep: Tensor | None, device: torch.device) -> Rows:
    """The rows of a batch without the keys that `keep` [B, Lk] hides; None: every key is real."""
    if rule.sequences is not None:
        return packed(packing_of_numbers(rule.sequences.expand(grid.batch, -1)), grid, rule)
    ordered = rule.pattern != FULL or rule.chunk is not None  # queries are then the last of the keys
    unwritten = (
        rule.pattern.right == 0 and grid.shift + grid.queries < grid.keys
    )  # keys that a fixed cache has room for
    if keep is None and rule.chunk is None and not unwritten:
        return whole_rows(grid, rule.pattern)
    if ordered and not 0 <= grid.shift <= grid.keys - grid.queries:
        raise ValueError(
            f"{WHERE}: expected the {grid.queries} queries among the {grid.keys} keys, got them from key {grid.shift} "
            "on; this model orders its keys in a way that is not known: use another implementation"
        )
    kept = torch.ones(grid.batch, grid.keys, dtype=torch.bool) if keep is None else keep.cpu()
    if unwritten:
        kept = kept & (torch.arange(grid.keys) < grid.shift + grid.queries)
    asking = torch.ones(grid.batch, grid.queries, dtype=torch.bool)
    if ordered and keep is not None:
        asking = _at_queries(kept, grid)
    lengths = asking.sum(1), kept.sum(1)
    if rule.chunk is not None:
        lengths = _chunk_lengths(rule.chunk, rule.padding, grid, asking, kept)
    queries, keys = (None if bool(m.all()) else m.flatten().nonzero().flatten().to(device) for m in (asking, kept))
    aligned = rule.chunk is None and grid.shift == 0 and bool((kept[:, :-1] >= kept[:, 1:]).all())
    return Rows(offsets_of(lengths[0]), offsets_of(lengths[1]), rule.pattern, queries, keys, aligned)


def _at_queries(of_keys: Tensor, grid: Grid) -> Tensor:
    return of_keys[:, grid.shift : grid.shift + grid.queries]


def _chunk_lengths(chunk: int, padding: Tensor, grid: Grid, asking: Tensor, kept: Tensor) -> tuple[Tensor, Tensor]:
    """How many queries and keys each chunk of each row of the batch has."""
    places = grid.first_key + torch.arange(grid.keys) - padding.cpu()[:, None]
    chunks = places.div(chunk, rounding_mode="floor")
    chunks = chunks - chunks.min()
    chunks = chunks + torch.arange(grid.batch)[:, None] * (chunks.max() + 1)
    names, numbers = chunks.unique(return_inverse=True)
    parts = ((_at_queries(numbers, grid), asking), (numbers, kept))
    queries, keys = (torch.bincount(of[mask], minlength=len(names)) for of, mask in parts)
    return queries, keys


def has_holes(kept: Tensor) -> bool:
    """Whether a mask [B, L] hides a token between others."""
    rises = kept[:, 1:] & ~kept[:, :-1]
    return bool((rises.sum(1) + kept[:, 0] > 1).any())
