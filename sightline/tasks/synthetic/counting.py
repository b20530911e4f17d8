"""A state to be carried from the first token to the last: parity and counting, which no look at a few tokens answers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.random import Generator

from sightline.tasks.regress import Regress
from sightline.tasks.synthetic.drawing import ASK, Drawn, Span, SyntheticTask, nothing
from sightline.tasks.task import NO_TARGET


@dataclass(frozen=True)
class Modular(SyntheticTask):
    """The sum of all digits, modulo `modulus`.

        reads    4 1 0 3 3 ?        length=5,modulus=5
        answers            1

        reads    4 1 0 3 3          the same with each=1: the sum so far, at every digit
        answers  4 0 0 3 1

    `length` counts the digits, which are below the modulus. Source: Deletang et al. 2023, table 1 (modular arithmetic
    without brackets; here with sums only).

    >>> Modular(modulus=5).chance
    0.2
    """

    name: ClassVar[str] = "modular"
    says: ClassVar[str] = "the sum of all digits, modulo a number"
    ways: ClassVar[tuple[str, ...]] = ("length",)

    length: Span = Span(1, 40)
    each: int = 0
    modulus: int = 5

    def least(self) -> dict[str, int]:
        return {"modulus": 2}

    def check(self) -> None:
        if self.each > 1:
            raise ValueError(
                f"{self.name}: expected each to be 1, to ask at each digit, or 0, to ask at the end, got {self.each}; choose one"
            )

    @property
    def vocabulary(self) -> list[str]:
        return [*map(str, range(self.modulus)), ASK]

    @property
    def labels(self) -> list[str]:
        return [*map(str, range(self.modulus))]

    @property
    def chance(self) -> float:
        return 1 / self.modulus

    @property
    def widest(self) -> int:
        return self.length.most + 1

    def draw(self, rng: Generator, count: int) -> Drawn:
        length, rows, place = self.length.draw(rng, count), np.arange(count), np.arange(self.widest)
        ids = rng.integers(self.modulus, size=(count, self.widest))
        if self.each:
            kept = place < length[:, None]
            so_far = np.where(kept, ids.cumsum(1) % self.modulus, NO_TARGET)
            return Drawn(kept, ids, so_far, {"length": np.broadcast_to(place + 1, ids.shape)})
        targets = nothing(count, self.widest)
        targets[rows, length] = np.where(place < length[:, None], ids, 0).sum(1) % self.modulus
        ids[rows, length] = self.modulus
        return Drawn(place <= length[:, None], ids, targets, {"length": length})


@dataclass(frozen=True)
class Parity(Modular):
    """Whether the number of ones is even or odd.

        reads    1 0 1 1 ?        length=4
        answers          odd

    `length` counts the bits; with each=1 the answer so far is asked at every bit. Source: Hahn 2020, section 5; Deletang et al. 2023, table 1 (lengths 1-40 train, 41-500 test).

    >>> Parity(length=Span(1, 40), test=Span(41, 200)).chance
    0.5
    """

    name: ClassVar[str] = "parity"
    says: ClassVar[str] = "whether the number of ones is even or odd"

    modulus: ClassVar[int] = 2

    @property
    def labels(self) -> list[str]:
        return ["even", "odd"]


@dataclass(frozen=True)
class Adding(SyntheticTask):
    """The sum of the two numbers that are marked, among many that are not.

        reads    0.3 0.9 0.5 0.2 0.7 0.6        length=6
                 0   1   0   0   1   0
        answers                          1.6

    Numbers are uniform in 0 to 1; one mark stands in each half. The answer is read at the last row, since a mean over rows
    would do the adding itself. `distance` is from the first mark to the end. Chance is a mean squared error: 1 always
    answered. Source: Hochreiter and Schmidhuber 1997, section 5.4; with these numbers Le et al. 2015, section 4.1.

    >>> round(Adding().chance, 4)
    0.1667
    """

    name: ClassVar[str] = "adding"
    says: ClassVar[str] = "the sum of the two numbers that are marked"

    length: Span = Span(50, 50)

    def least(self) -> dict[str, int]:
        return {"length": 2}

    @property
    def vocabulary(self) -> None:
        return None

    @property
    def labels(self) -> list[str]:
        return []

    @property
    def chance(self) -> float:
        return 1 / 6

    @property
    def widest(self) -> int:
        return self.length.most

    @property
    def task(self) -> Regress:
        return Regress("values", "sum", (1.0,), (math.sqrt(1 / 6),), pool="last")

    def draw(self, rng: Generator, count: int) -> Drawn:
        length, rows = self.length.draw(rng, count), np.arange(count)
        values = np.zeros((count, self.widest, 2), np.float32)
        values[:, :, 0] = rng.random((count, self.widest), np.float32)
        half = length // 2
        first, second = rng.integers(half), rng.integers(half, length)
        values[rows, first, 1] = values[rows, second, 1] = 1
        total = values[rows, first, 0].astype(np.float64) + values[rows, second, 0]
        targets = ((total - 1.0) / math.sqrt(1 / 6)).astype(np.float32)[:, None]
        kept = np.arange(self.widest) < length[:, None]
        return Drawn(kept, values, targets, {"distance": length - 1 - first, "length": length})
