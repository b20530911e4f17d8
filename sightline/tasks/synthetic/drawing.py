"""What a generated task is: settings, a way to draw questions with their answers, and parts that share no sequence.

A task draws many sequences at once, side by side in one array; here they are packed, and each goes to train, valid or
test by a hash of what the model reads. So no sequence is both learned and tested, however few there are, and the same
settings give the same data.
"""

from __future__ import annotations

import zlib
from abc import ABC, abstractmethod
from dataclasses import dataclass, fields, replace
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor

from sightline.sequences import Sequences
from sightline.tasks.examples import Examples
from sightline.tasks.tag import Tag
from sightline.tasks.task import NO_TARGET, Task

ASK, FILL = "?", "."  # the row where an answer is asked for; a row that says nothing
SHARES = {"train": range(8), "valid": range(8, 9), "test": range(9, 10)}  # tenths of all sequences there are
CELLS = 2**21  # drawn at once: bounds the memory
LONGEST = 2**20  # rows of one sequence
MOST = 2**28  # rows of data in all
DIFFERENT = 2**16  # symbols of one kind


class Span(NamedTuple):
    """Whole numbers from `least` to `most`, both included."""

    least: int
    most: int

    def draw(self, rng: Generator, count: int) -> np.ndarray:
        return rng.integers(self.least, self.most + 1, count)

    def __str__(self) -> str:
        return f"{self.least}" if self.least == self.most else f"{self.least}-{self.most}"


class Drawn(NamedTuple):
    """Sequences side by side, N of them in W columns; `kept` says which cells are rows of a sequence.

    Shapes: kept bool [N, W]; values int64 ids [N, W] or float32 [N, W, F]; targets int64 [N, W], NONE where nothing is
    asked, or float32 [N, K]; measured, by name, [N, W] or [N], as the targets.
    """

    kept: np.ndarray
    values: np.ndarray
    targets: np.ndarray
    measured: dict[str, np.ndarray]


@dataclass(frozen=True)
class SyntheticTask(ABC):
    """One generated task with its settings, which are the fields; implemented by the families beside this file.

    Attributes: `name` as it is asked for; `says` what is learned, in a few words; `harder` the setting that `test=`
    replaces for the test data; `ways` what an example can be measured by, the usual one first. `seed` is that of the
    data, `examples` how many sequences train; a tenth as many validate, and as many test.
    """

    name: ClassVar[str]
    says: ClassVar[str]
    harder: ClassVar[str] = "length"
    ways: ClassVar[tuple[str, ...]] = ("distance", "length")

    examples: int = 20_000
    seed: int = 0
    by: str = ""
    test: Span | None = None

    def __post_init__(self):
        least = {name: 1 for name in ("examples", self.harder)} | self.least()
        for name in (field.name for field in fields(self)):
            value = getattr(self, name)
            if name in ("by", "test"):
                continue
            span = value if isinstance(value, Span) else Span(value, value)
            if not least.get(name, 0) <= span.least <= span.most:
                raise ValueError(
                    f"{self.name}: expected {name} of {least.get(name, 0)} or more, the smaller number first, got {value}; change it"
                )
            most = DIFFERENT if name in ("symbols", "keys", "values", "kinds", "modulus") else 2**31
            if span.most > most:
                raise ValueError(f"{self.name}: expected {name} of at most {most:,}, got {value}; lower it")
        if self.by not in ("", *self.ways):
            raise ValueError(f"{self.name}: expected by to be {' or '.join(self.ways)}, got {self.by}; choose one")
        self.check()
        if self.widest > LONGEST or self.examples * self.widest > MOST:
            raise ValueError(
                f"{self.name}: expected at most {LONGEST:,} rows in a sequence and {MOST:,} in all, got {self.examples:,} sequences "
                f"of up to {self.widest:,}; ask for fewer or shorter ones"
            )
        if self.test is not None:
            self.tested()

    def least(self) -> dict[str, int]:
        """The smallest value of each setting that has one above 0."""
        return {}

    def check(self) -> None:  # noqa: B027  (most have nothing to check)
        """Raises a ValueError for settings that do not go together."""

    @property
    @abstractmethod
    def vocabulary(self) -> list[str] | None:
        """What the model reads, in the order of the ids; None where it reads vectors."""

    @property
    @abstractmethod
    def labels(self) -> list[str]:
        """What it answers with, in the order of the targets."""

    @property
    @abstractmethod
    def chance(self) -> float:
        """The accuracy of the best constant answer (of numbers: its mean squared error), by calculation."""

    @property
    @abstractmethod
    def widest(self) -> int:
        """Rows of the longest sequence, or about so many."""

    @abstractmethod
    def draw(self, rng: Generator, count: int) -> Drawn:
        """So many sequences, each drawn on its own."""

    # --- what is made of it -------------------------------------------------------------------------------------------

    @property
    def task(self) -> Task:
        return Tag("tokens", "answers", tuple(self.labels))

    def tested(self) -> SyntheticTask:
        """The task as the test data have it."""
        return self if self.test is None else replace(self, test=None, **{self.harder: self.test})

    def parts(self) -> dict[str, Examples]:
        """The data as {"train", "valid", "test"}; no sequence stands in two of them.

        Raises: ValueError where there are too few different sequences.
        """
        tenth = max(self.examples // 10, 1)
        if self.test is None:
            return self._parts(0, {"train": self.examples, "valid": tenth, "test": tenth})
        return self._parts(0, {"train": self.examples, "valid": tenth}) | self.tested()._parts(1, {"test": tenth})

    def _parts(self, stream: int, counts: dict[str, int]) -> dict[str, Examples]:
        """So many sequences for each part, from one stream of random numbers; each goes where its lot says."""
        rng = np.random.default_rng([self.seed, stream, zlib.crc32(self.name.encode())])
        at_once, tries = max(CELLS // self.widest, 1), 100 + 100 * sum(counts.values())
        found: dict[str, list[Examples]] = {part: [] for part in counts}
        missing = dict(counts)
        while any(missing.values()):
            some = min(at_once, 16 + max(11 * many // len(SHARES[part]) for part, many in missing.items()))
            drawn, tries = self.draw(rng, some), tries - some
            lot = lots(drawn)
            for part, many in missing.items():
                mine = np.flatnonzero((lot >= SHARES[part][0]) & (lot <= SHARES[part][-1]))[:many]
                found[part].append(packed(drawn, mine, self.by or self.ways[0]))
                missing[part] -= len(mine)
            if tries < 0 and any(missing.values()):
                raise ValueError(
                    f"{self.name}: expected enough different sequences to keep some for each part of the data alone, got too "
                    f"few with {self.harder} {getattr(self, self.harder)}; raise {self.harder}"
                )
        return {part: _joined(some) for part, some in found.items()}


def lots(drawn: Drawn) -> np.ndarray:
    """Which tenth, 0 to 9, each sequence falls in, by what the model reads and nothing else: int64 [N]."""
    values = drawn.values.view(np.int32) if drawn.values.dtype == np.float32 else drawn.values
    values = values.reshape(*drawn.kept.shape, -1).astype(np.uint64)
    place = (drawn.kept.cumsum(1) * values.shape[2]).astype(np.uint64)[:, :, None] + np.arange(
        values.shape[2], dtype=np.uint64
    )
    each = _mixed(values + place * np.uint64(0x9E3779B97F4A7C15))
    each[~drawn.kept] = 0
    return (_mixed(each.sum((1, 2), dtype=np.uint64)) % np.uint64(10)).astype(np.int64)


def _mixed(numbers: np.ndarray) -> np.ndarray:
    """Each 64-bit number turned into one that looks drawn by lot (the finaliser of splitmix64)."""
    numbers = (numbers ^ (numbers >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    numbers = (numbers ^ (numbers >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return numbers ^ (numbers >> np.uint64(31))


def packed(drawn: Drawn, rows: np.ndarray, by: str) -> Examples:
    """Some of the sequences, without the cells that are no rows, measured by one of the ways."""
    kept, targets, measured = drawn.kept[rows], drawn.targets[rows], drawn.measured[by][rows]
    per_token = targets.dtype == np.int64
    if per_token:
        targets = targets[kept]
        measured = np.broadcast_to(measured[:, None] if measured.ndim == 1 else measured, kept.shape)[kept]
    inputs = Sequences(torch.from_numpy(drawn.values[rows][kept]), _offsets(torch.from_numpy(kept.sum(1))))
    return Examples(inputs, torch.from_numpy(targets), per_token, torch.from_numpy(measured), unit=by)


def _joined(some: list[Examples]) -> Examples:
    if len(some) == 1:
        return some[0]
    inputs = Sequences(torch.cat([e.inputs.values for e in some]), _offsets(torch.cat([e.lengths for e in some])))
    targets, distances = (torch.cat([getattr(e, name) for e in some]) for name in ("targets", "distances"))
    return Examples(inputs, targets, some[0].per_token, distances=distances, unit=some[0].unit)


def _offsets(lengths: Tensor) -> Tensor:
    return torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])


# --- what several families share ----------------------------------------------------------------------------------------


def letters(count: int) -> list[str]:
    """So many different symbols: a to z, then a1 to z1, and so on.

    >>> letters(28)[-3:]
    ['z', 'a1', 'b1']
    """
    return [chr(97 + i % 26) + (str(i // 26) if i >= 26 else "") for i in range(count)]


def nothing(count: int, width: int) -> np.ndarray:
    """Targets where nothing is asked yet."""
    return np.full((count, width), NO_TARGET, dtype=np.int64)


def chosen(allowed: np.ndarray, many: np.ndarray | int, rng: Generator, weight: np.ndarray | float = 0.0) -> np.ndarray:
    """`many` of the allowed cells of each row, by lot, as their rank: 0 for the first drawn, -1 for one not drawn.

    `weight` are logarithms of how likely a cell is to be drawn next (Gumbel's way to draw without putting back).
    Shapes: allowed bool [N, W]; many [N] or one number; int64 [N, W].
    """
    lot = np.where(allowed, rng.gumbel(size=allowed.shape) + weight, -np.inf)
    order = np.argsort(-lot, 1)
    rank = np.empty_like(order)
    np.put_along_axis(rank, order, np.broadcast_to(np.arange(allowed.shape[1]), allowed.shape), 1)
    return np.where(allowed & (rank < np.reshape(many, (-1, 1))), rank, -1)
