"""Repeating what was read: each answer is one symbol at a known distance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.random import Generator

from sightline.tasks.synthetic.drawing import ASK, FILL, Drawn, LetterTask, Span, sampled
from sightline.tasks.task import NO_TARGET


@dataclass(frozen=True)
class Copy(LetterTask):
    """Repeat the input, after `gap` rows without meaning.

        reads    b a d . . ? ? ?        length=3,gap=2
        answers            b a d

    Source: Hochreiter and Schmidhuber 1997 (long lags); Arjovsky et al. 2016, section 5.1 (`gap` is their T).

    >>> Copy(length=Span(8, 8), symbols=10).chance
    0.1
    """

    name = "copy"
    says = "say again what was read"
    signs = (FILL, ASK)
    backwards: ClassVar[bool] = False

    gap: int = 0

    @property
    def max_length(self) -> int:
        return 2 * self.length.most + self.gap

    def draw(self, rng: Generator, count: int) -> Drawn:
        symbols = rng.integers(self.symbols, size=(count, self.max_length))
        length, place = self.length.draw(rng, count)[:, None], np.arange(self.max_length)
        slot = place - length - self.gap  # of the answer
        is_answer = (slot >= 0) & (slot < length)
        source = np.where(is_answer, length - 1 - slot if self.backwards else slot, 0)
        ids = np.where(place < length, symbols, np.where(is_answer, self.symbols + 1, self.symbols))
        targets = np.where(is_answer, np.take_along_axis(symbols, source, 1), NO_TARGET)
        return Drawn(slot < length, ids, targets, {"distance": place - source, "length": length[:, 0]})


@dataclass(frozen=True)
class Reversal(Copy):
    """Repeat the input backwards; with `test=`, also at lengths beyond those of training.

        reads    b a d ? ? ?        length=3
        answers        d a b

    Source: Grefenstette et al. 2015, section 4.1; Deletang et al. 2023, table 1 (reverse string).

    >>> Reversal(length=Span(1, 8), test=Span(9, 32)).test_task().length
    Span(least=9, most=32)
    """

    name = "reversal"
    says = "say backwards what was read"
    backwards: ClassVar[bool] = True

    length: Span = Span(1, 16)


@dataclass(frozen=True)
class SelectiveCopy(LetterTask):
    """Repeat, in order, the few symbols among rows without meaning.

        reads    . b . . a . d . ? ? ?        length=8,marked=3
        answers                  b a d

    The rows that count differ each time, so a fixed distance does not help. Source: Jing et al. 2019, section 4.2; Gu
    and Dao 2023, section 3.1.

    >>> SelectiveCopy(symbols=4).chance
    0.25
    """

    name = "selective-copy"
    says = "say again the symbols that stood among rows that say nothing"
    minimum = {"symbols": 2, "marked": 1}
    signs = (FILL, ASK)

    length: Span = Span(32, 32)
    marked: int = 4

    def check(self) -> None:
        if self.length.least < self.marked:
            raise ValueError(
                f"{self.name}: expected a length of at least marked={self.marked}, got {self.length.least}; "
                "raise length"
            )

    @property
    def max_length(self) -> int:
        return self.length.most + self.marked

    def draw(self, rng: Generator, count: int) -> Drawn:
        length, place = self.length.draw(rng, count)[:, None], np.arange(self.max_length)
        rank = sampled(place < length, self.marked, rng)
        source = np.sort(np.where(rank >= 0, place, self.max_length), 1)[:, : self.marked]
        symbols = rng.integers(self.symbols, size=(count, self.marked))
        slots = length + np.arange(self.marked)
        ids = np.full((count, self.max_length), self.symbols)
        targets, distance = np.full_like(ids, NO_TARGET), np.zeros_like(ids) + place
        for array, columns, values in (
            (ids, source, symbols),
            (ids, slots, self.symbols + 1),
            (targets, slots, symbols),
            (distance, slots, slots - source),
        ):
            np.put_along_axis(array, columns, values, 1)
        return Drawn(place < length + self.marked, ids, targets, {"distance": distance, "length": length[:, 0]})
