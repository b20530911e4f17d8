"""A state carried from the first token to the last: parity and sums, which no few tokens answer."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.random import Generator

from sightline.tasks.regress import Regress
from sightline.tasks.synthetic.drawing import ASK, Drawn, Span, SyntheticTask, question_at
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

    name = "modular"
    says = "the sum of all digits, modulo a number"
    units = ("length",)
    minimum = {"modulus": 2}

    length: Span = Span(1, 40)
    each: int = 0
    modulus: int = 5

    def check(self) -> None:
        if self.each > 1:
            raise ValueError(
                f"{self.name}: expected each to be 1, to ask at each digit, or 0, to ask at the end, got {self.each}; "
                "choose one"
            )

    @property
    def vocabulary(self) -> list[str]:
        return [*map(str, range(self.modulus)), ASK]

    @property
    def labels(self) -> list[str]:
        return [*map(str, range(self.modulus))]

    @property
    def max_length(self) -> int:
        return self.length.most + 1

    def draw(self, rng: Generator, count: int) -> Drawn:
        length, place = self.length.draw(rng, count), np.arange(self.max_length)
        ids = rng.integers(self.modulus, size=(count, self.max_length))
        is_digit = place < length[:, None]
        sums = np.where(is_digit, ids, 0).cumsum(1) % self.modulus
        if self.each:
            targets = np.where(is_digit, sums, NO_TARGET)
            return Drawn(is_digit, ids, targets, {"length": np.broadcast_to(place + 1, ids.shape)})
        ids[np.arange(count), length] = self.modulus
        return question_at(length, ids, sums[:, -1], {"length": length})


@dataclass(frozen=True)
class Parity(Modular):
    """Whether the number of ones is even or odd.

        reads    1 0 1 1 ?        length=4
        answers          odd

    `length` counts the bits; with each=1 the answer so far is expected at every bit. Source: Hahn 2020, section 5;
    Deletang et al. 2023, table 1 (lengths 1-40 train, 41-500 test).

    >>> Parity(length=Span(1, 40), test=Span(41, 200)).chance
    0.5
    """

    name = "parity"
    says = "whether the number of ones is even or odd"

    modulus: ClassVar[int] = 2

    @property
    def labels(self) -> list[str]:
        return ["even", "odd"]


@dataclass(frozen=True)
class Adding(SyntheticTask):
    """The sum of the two marked numbers, among many unmarked ones.

        reads    0.3 0.9 0.5 0.2 0.7 0.6        length=6
                 0   1   0   0   1   0
        answers                          1.6

    Numbers are uniform in 0 to 1; one mark stands in each half. The answer is read at the last row, since a mean over
    rows would do the adding itself. `distance` is from the first mark to the end. Chance is the mean squared error of
    the constant answer 1. Source: Hochreiter and Schmidhuber 1997, section 5.4; with these numbers Le et al. 2015,
    section 4.1.

    >>> round(Adding().chance, 4)
    0.1667
    """

    name = "adding"
    says = "the sum of the two numbers that are marked"
    minimum = {"length": 2}
    vocabulary: ClassVar[None] = None
    labels: ClassVar[list[str]] = []
    chance: ClassVar[float] = 1 / 6
    task: ClassVar[Regress] = Regress("values", "sum", (1.0,), (math.sqrt(1 / 6),), pool="last")

    length: Span = Span(50, 50)

    @property
    def max_length(self) -> int:
        return self.length.most

    def draw(self, rng: Generator, count: int) -> Drawn:
        length, rows = self.length.draw(rng, count), np.arange(count)
        values = np.zeros((count, self.max_length, 2), np.float32)
        values[:, :, 0] = rng.random((count, self.max_length), np.float32)
        half = length // 2
        first, second = rng.integers(half), rng.integers(half, length)
        values[rows, first, 1] = values[rows, second, 1] = 1
        total = values[rows, first, 0].astype(np.float64) + values[rows, second, 0]
        targets = ((total - 1.0) / math.sqrt(1 / 6)).astype(np.float32)[:, None]
        kept = np.arange(self.max_length) < length[:, None]
        return Drawn(kept, values, targets, {"distance": length - 1 - first, "length": length})
