"""A synthetic task: its settings, how it draws questions with their answers, and the parts of the data.

A task draws many sequences at once, side by side in one array. Here they are packed, and a hash of what the model reads
puts each into train, valid or test: no sequence is both learned and tested, and the same settings give the same data.
"""

from __future__ import annotations

import zlib
from abc import ABC, abstractmethod
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from numpy.random import Generator

from sightline.tasks.examples import Examples, packed
from sightline.tasks.tag import Tag
from sightline.tasks.task import NO_TARGET, Task

ASK, FILL = "?", "."  # the row where an answer is expected; a row without meaning
TENTHS = {"train": range(8), "valid": range(8, 9), "test": range(9, 10)}  # of all possible sequences
MAX_CELLS = 2**21  # drawn at once: bounds the memory
MAX_LENGTH = 2**20  # rows of one sequence
MAX_ROWS = 2**28  # of all sequences together
MAX_SYMBOLS = 2**16  # of one kind


class Span(NamedTuple):
    """Whole numbers from `least` to `most`, both included."""

    least: int
    most: int

    def draw(self, rng: Generator, count: int) -> np.ndarray:
        return rng.integers(self.least, self.most + 1, count)

    def __str__(self) -> str:
        return f"{self.least}" if self.least == self.most else f"{self.least}-{self.most}"


class Drawn(NamedTuple):
    """N sequences side by side in W columns; `kept` marks the cells that are rows of a sequence.

    Shapes: kept bool [N, W]; values int64 ids [N, W] or float32 [N, W, F]; targets int64 [N, W], or float32 [N, K];
    units, by name, [N, W] or [N], as the targets.
    """

    kept: np.ndarray
    values: np.ndarray
    targets: np.ndarray
    units: dict[str, np.ndarray]


@dataclass(frozen=True)
class SyntheticTask(ABC):
    """One synthetic task; its fields are its settings.

    Attributes: `name` as the user types it; `says` what is learned, in a few words; `harder` the setting that `test=`
    replaces in the test data; `units` the names by which `by=` can split the accuracy, the usual one first; `minimum`
    the smallest value of each setting that has one above 0; `signs` what is read besides the labels. `examples`
    sequences train, a tenth as many validate, and a tenth test; `seed` is that of the data.
    """

    name: ClassVar[str]
    says: ClassVar[str]
    harder: ClassVar[str] = "length"
    units: ClassVar[tuple[str, ...]] = ("distance", "length")
    minimum: ClassVar[dict[str, int]] = {}
    signs: ClassVar[tuple[str, ...]] = ()

    examples: int = 20_000
    seed: int = 0
    by: str = ""
    test: Span | None = None

    def __post_init__(self):
        minimum = {"examples": 1, self.harder: 1} | self.minimum
        for name in (field.name for field in fields(self) if field.name not in ("by", "test")):
            value, least = getattr(self, name), minimum.get(name, 0)
            span = value if isinstance(value, Span) else Span(value, value)
            if not least <= span.least <= span.most:
                raise ValueError(
                    f"{self.name}: expected {name} of {least} or more, the smaller number first, got {value}; change it"
                )
            most = MAX_SYMBOLS if name in ("symbols", "keys", "values", "kinds", "modulus") else 2**31
            if span.most > most:
                raise ValueError(f"{self.name}: expected {name} of at most {most:,}, got {value}; lower it")
        if self.by not in ("", *self.units):
            raise ValueError(f"{self.name}: expected by to be {' or '.join(self.units)}, got {self.by}; choose one")
        self.check()
        if self.max_length > MAX_LENGTH or self.examples * self.max_length > MAX_ROWS:
            raise ValueError(
                f"{self.name}: expected at most {MAX_LENGTH:,} rows in a sequence and {MAX_ROWS:,} in all, got "
                f"{self.examples:,} sequences of up to {self.max_length:,}; ask for fewer or shorter ones"
            )
        self.test_task()  # checks the settings of the test data, too

    def check(self) -> None:  # noqa: B027  (most have nothing to check)
        """Raises a ValueError for settings that do not go together."""

    @property
    @abstractmethod
    def labels(self) -> list[str]:
        """The answers, in the order of the targets."""

    @property
    def vocabulary(self) -> list[str] | Any:
        """What the model reads, in the order of the ids; None for vectors."""
        return [*self.labels, *self.signs]

    @property
    def chance(self) -> float:
        """The accuracy of the best constant answer (of numbers: its mean squared error), by calculation."""
        return 1 / len(self.labels)

    @property
    @abstractmethod
    def max_length(self) -> int:
        """Rows of the longest sequence, or about so many."""

    @abstractmethod
    def draw(self, rng: Generator, count: int) -> Drawn:
        """`count` sequences, each drawn independently."""

    # --- the data -----------------------------------------------------------------------------------------------------

    @property
    def task(self) -> Task:
        return Tag("tokens", "answers", tuple(self.labels))

    def test_task(self) -> SyntheticTask:
        """The task with the settings of the test data."""
        return self if self.test is None else replace(self, test=None, **{self.harder: self.test})

    def parts(self) -> dict[str, Examples]:
        """The data as {"train", "valid", "test"}; no sequence stands in two of them.

        Raises: ValueError where there are too few different sequences.
        """
        tenth = max(self.examples // 10, 1)
        if self.test is None:
            return self._parts(0, {"train": self.examples, "valid": tenth, "test": tenth})
        return self._parts(0, {"train": self.examples, "valid": tenth}) | self.test_task()._parts(1, {"test": tenth})

    def _parts(self, stream: int, counts: dict[str, int]) -> dict[str, Examples]:
        """`counts` sequences for each part, from one stream of random numbers."""
        rng = np.random.default_rng([self.seed, stream, zlib.crc32(self.name.encode())])
        at_once, attempts = max(MAX_CELLS // self.max_length, 1), 100 + 100 * sum(counts.values())
        unit = self.by or self.units[0]
        arrays: dict[str, list[tuple[np.ndarray, ...]]] = {part: [] for part in counts}
        missing = dict(counts)
        while any(missing.values()):
            count = min(at_once, 16 + max(11 * many // len(TENTHS[part]) for part, many in missing.items()))
            drawn, attempts = self.draw(rng, count), attempts - count
            tenths = tenth_of(drawn)
            for part, many in missing.items():
                rows = np.flatnonzero((tenths >= TENTHS[part][0]) & (tenths <= TENTHS[part][-1]))[:many]
                arrays[part].append(_rows(drawn, rows, unit))
                missing[part] -= len(rows)
            if attempts < 0 and any(missing.values()):
                raise ValueError(
                    f"{self.name}: expected enough different sequences to keep some for each part of the data alone, "
                    f"got too few with {self.harder} {getattr(self, self.harder)}; raise {self.harder}"
                )
        return {part: _examples(several, unit) for part, several in arrays.items()}


@dataclass(frozen=True)
class LetterTask(SyntheticTask):
    """A synthetic task whose answers are letters."""

    minimum = {"symbols": 2}

    length: Span = Span(8, 8)
    symbols: int = 8

    @property
    def labels(self) -> list[str]:
        return letters(self.symbols)


def tenth_of(drawn: Drawn) -> np.ndarray:
    """Which tenth, 0 to 9, each sequence falls in, by what the model reads and nothing else: int64 [N]."""
    values = drawn.values.view(np.int32) if drawn.values.dtype == np.float32 else drawn.values
    values = values.reshape(*drawn.kept.shape, -1).astype(np.uint64)
    features = np.arange(values.shape[2], dtype=np.uint64)
    place = (drawn.kept.cumsum(1) * len(features)).astype(np.uint64)[:, :, None] + features
    hashes = _mixed(values + place * np.uint64(0x9E3779B97F4A7C15))
    hashes[~drawn.kept] = 0
    return (_mixed(hashes.sum((1, 2), dtype=np.uint64)) % np.uint64(10)).astype(np.int64)


def _mixed(numbers: np.ndarray) -> np.ndarray:
    """A hash of each 64-bit number (the finaliser of splitmix64)."""
    numbers = (numbers ^ (numbers >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    numbers = (numbers ^ (numbers >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return numbers ^ (numbers >> np.uint64(31))


def _rows(drawn: Drawn, rows: np.ndarray, unit: str) -> tuple[np.ndarray, ...]:
    """Values, lengths, targets and distances of these sequences, without the cells that are not kept."""
    kept, targets, distances = drawn.kept[rows], drawn.targets[rows], drawn.units[unit][rows]
    if targets.dtype == np.int64:
        targets = targets[kept]
        distances = np.broadcast_to(distances[:, None] if distances.ndim == 1 else distances, kept.shape)[kept]
    return drawn.values[rows][kept], kept.sum(1), targets, distances


def _examples(arrays: list[tuple[np.ndarray, ...]], unit: str) -> Examples:
    columns = (torch.from_numpy(np.concatenate(column)) for column in zip(*arrays, strict=True))
    values, lengths, targets, distances = columns
    return Examples(packed(values, lengths), targets, targets.dtype == torch.int64, distances, unit=unit)


# --- for the tasks beside this file -----------------------------------------------------------------------------------


def letters(count: int) -> list[str]:
    """`count` different symbols: a to z, then a1 to z1, and so on.

    >>> letters(28)[-3:]
    ['z', 'a1', 'b1']
    """
    return [chr(97 + i % 26) + (str(i // 26) if i >= 26 else "") for i in range(count)]


def question_at(row: np.ndarray, ids: np.ndarray, answer: np.ndarray, units: dict[str, np.ndarray]) -> Drawn:
    """Sequences [N, W] whose last row, `row` [N], is the only one with a target: `answer` [N]."""
    targets = np.full(ids.shape, NO_TARGET, np.int64)
    targets[np.arange(len(ids)), row] = answer
    return Drawn(np.arange(ids.shape[1]) <= row[:, None], ids, targets, units)


def sampled(
    allowed: np.ndarray, count: np.ndarray | int, rng: Generator, log_weight: np.ndarray | float = 0.0
) -> np.ndarray:
    """Draws `count` of the allowed cells of each row without replacement (Gumbel's trick).

    Returns: the rank of each cell, 0 for the first drawn, -1 for one not drawn.
    Shapes: allowed bool [N, W]; count [N] or one number; int64 [N, W].
    """
    keys = np.where(allowed, rng.gumbel(size=allowed.shape) + log_weight, -np.inf)
    order = np.argsort(-keys, 1)
    rank = np.empty_like(order)
    np.put_along_axis(rank, order, np.broadcast_to(np.arange(allowed.shape[1]), allowed.shape), 1)
    return np.where(allowed & (rank < np.reshape(count, (-1, 1))), rank, -1)
