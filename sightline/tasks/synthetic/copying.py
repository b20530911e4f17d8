"""Repeating what was read: the plainest question about reach, since each answer is one symbol a known way back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.random import Generator

from sightline.tasks.synthetic.drawing import ASK, FILL, Drawn, Span, SyntheticTask, chosen, letters
from sightline.tasks.task import NO_TARGET


@dataclass(frozen=True)
class Copy(SyntheticTask):
    """Say again what was read, after `gap` rows that say nothing.

        reads    b a d . . ? ? ?        length=3,gap=2
        answers            b a d

    Source: Hochreiter and Schmidhuber 1997 (long lags); Arjovsky et al. 2016, section 5.1 (as drawn, `gap` is their T).

    >>> Copy(length=Span(8, 8), symbols=10).chance
    0.1
    """

    name: ClassVar[str] = "copy"
    says: ClassVar[str] = "say again what was read"
    backwards: ClassVar[bool] = False

    length: Span = Span(8, 8)
    symbols: int = 8
    gap: int = 0

    def least(self) -> dict[str, int]:
        return {"symbols": 2}

    @property
    def vocabulary(self) -> list[str]:
        return [*letters(self.symbols), FILL, ASK]

    @property
    def labels(self) -> list[str]:
        return letters(self.symbols)

    @property
    def chance(self) -> float:
        return 1 / self.symbols

    @property
    def widest(self) -> int:
        return 2 * self.length.most + self.gap

    def draw(self, rng: Generator, count: int) -> Drawn:
        read = rng.integers(self.symbols, size=(count, self.widest))
        length, place = self.length.draw(rng, count)[:, None], np.arange(self.widest)
        asked = (place >= length + self.gap) & (place < 2 * length + self.gap)
        slot = place - length - self.gap
        source = np.where(asked, length - 1 - slot if self.backwards else slot, 0)
        ids = np.where(place < length, read, np.where(asked, self.symbols + 1, self.symbols))
        targets = np.where(asked, np.take_along_axis(read, source, 1), NO_TARGET)
        measured = {"distance": place - source, "length": length[:, 0]}
        return Drawn(place < 2 * length + self.gap, ids, targets, measured)


@dataclass(frozen=True)
class Reversal(Copy):
    """Say backwards what was read; beyond the lengths that trained, with `test=`.

        reads    b a d ? ? ?        length=3
        answers        d a b

    Source: Grefenstette et al. 2015, section 4.1; Deletang et al. 2023, table 1 (reverse string).

    >>> Reversal(length=Span(1, 8), test=Span(9, 32)).tested().length
    Span(least=9, most=32)
    """

    name: ClassVar[str] = "reversal"
    says: ClassVar[str] = "say backwards what was read"
    backwards: ClassVar[bool] = True

    length: Span = Span(1, 16)


@dataclass(frozen=True)
class SelectiveCopy(SyntheticTask):
    """Say again, in order, the few symbols that stood among rows that say nothing.

        reads    . b . . a . d . ? ? ?        length=8,marked=3
        answers                  b a d

    Which rows count differs each time, so a fixed way back does not help. Source: Jing et al. 2019, section 4.2; Gu and
    Dao 2023, section 3.1.

    >>> SelectiveCopy(symbols=4).chance
    0.25
    """

    name: ClassVar[str] = "selective-copy"
    says: ClassVar[str] = "say again the symbols that stood among rows that say nothing"

    length: Span = Span(32, 32)
    marked: int = 4
    symbols: int = 8

    def least(self) -> dict[str, int]:
        return {"symbols": 2, "marked": 1}

    def check(self) -> None:
        if self.length.least < self.marked:
            raise ValueError(
                f"{self.name}: expected a length of at least marked={self.marked}, got {self.length.least}; raise length"
            )

    @property
    def vocabulary(self) -> list[str]:
        return [*letters(self.symbols), FILL, ASK]

    @property
    def labels(self) -> list[str]:
        return letters(self.symbols)

    @property
    def chance(self) -> float:
        return 1 / self.symbols

    @property
    def widest(self) -> int:
        return self.length.most + self.marked

    def draw(self, rng: Generator, count: int) -> Drawn:
        length, place = self.length.draw(rng, count)[:, None], np.arange(self.widest)
        rank = chosen(place < length, self.marked, rng)
        where = np.sort(np.where(rank >= 0, place, self.widest), 1)[:, : self.marked]
        told = rng.integers(self.symbols, size=(count, self.marked))
        slots = length + np.arange(self.marked)
        ids = np.full((count, self.widest), self.symbols)
        targets, source = np.full_like(ids, NO_TARGET), np.zeros_like(ids)
        for column, at, what in ((ids, where, told), (ids, slots, self.symbols + 1), (targets, slots, told)):
            np.put_along_axis(column, at, what, 1)
        np.put_along_axis(source, slots, where, 1)
        measured = {"distance": place - source, "length": length[:, 0]}
        return Drawn(place < length + self.marked, ids, targets, measured)
