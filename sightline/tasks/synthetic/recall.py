"""Finding by content: what stood beside a token that is read again, wherever that was."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.random import Generator

from sightline.tasks.synthetic.drawing import FILL, Drawn, Span, SyntheticTask, chosen, letters, nothing
from sightline.tasks.task import NO_TARGET

POWER = 0.01  # how the queries thin out with distance: as gap ** (POWER - 1), from the paper


@dataclass(frozen=True)
class Recall(SyntheticTask):
    """Multi-query associative recall: at each key that comes again, the value it came with.

        reads    k2 v5 k7 v1 . k7 . . k2        length=9,pairs=2
        answers                v1     v5

    `length` counts all rows. The queries stand anywhere behind the pairs, near ones more often. `keys` and `values` are
    how many different ones there are; one of each is drawn for a pair, and no key twice in a sequence. Chance is the
    best constant answer; one who answers with any value of the sequence does better, about 1 / pairs. With `pairs=2-16`
    each sequence has its own number of them, at most a third of its length: the easy ones lead to the hard ones.
    Source: Arora et al. 2023 (zoology), section 3.1 and appendix C: lengths 64, 128, 256, 512 with 4 to 64 pairs, mixed.

    >>> Recall(length=Span(128, 128), pairs=Span(16, 16)).chance
    0.015625
    """

    name: ClassVar[str] = "mqar"
    says: ClassVar[str] = "at each key that comes again, the value it came with"

    length: Span = Span(64, 64)
    pairs: Span = Span(8, 8)
    keys: int = 64
    values: int = 64

    def least(self) -> dict[str, int]:
        return {"pairs": 1, "keys": 2, "values": 2}

    def check(self) -> None:
        if self.pairs.most > self.keys:
            raise ValueError(
                f"{self.name}: expected at least as many keys as pairs, got {self.keys} for {self.pairs}; raise keys"
            )
        if self.length.least < 3 * self.pairs.least:
            raise ValueError(
                f"{self.name}: expected a length of at least three times pairs={self.pairs.least}, to ask for each, got "
                f"{self.length.least}; raise length or ask for fewer pairs"
            )

    @property
    def vocabulary(self) -> list[str]:
        return [*(f"k{i}" for i in range(self.keys)), *self.labels, FILL]

    @property
    def labels(self) -> list[str]:
        return [f"v{i}" for i in range(self.values)]

    @property
    def chance(self) -> float:
        return 1 / self.values

    @property
    def widest(self) -> int:
        return self.length.most

    def draw(self, rng: Generator, count: int) -> Drawn:
        length, place = self.length.draw(rng, count)[:, None], np.arange(self.widest)
        most = np.minimum(self.pairs.most, length // 3)
        pairs = rng.integers(self.pairs.least, most + 1)
        keys = self._keys(rng, count)
        told = rng.integers(self.values, size=keys.shape)
        pair, tells = np.broadcast_to(place // 2, (count, self.widest)), place < 2 * pairs
        gap = np.maximum(place - 2 * pairs + 1, 1)
        behind = ~tells & (place < length)
        again = chosen(behind, pairs, rng, (POWER - 1) * np.log(gap))
        asked = again >= 0
        pair = np.where(tells, pair, np.where(asked, again, 0))
        key, value = (np.take_along_axis(some, pair, 1) for some in (keys, told))
        ids = np.where(tells & (place % 2 == 1), value + self.keys, key)
        ids[~tells & ~asked] = self.keys + self.values
        targets = np.where(asked, value, NO_TARGET)
        return Drawn(place < length, ids, targets, {"distance": place - 2 * pair, "length": length[:, 0]})

    def _keys(self, rng: Generator, count: int) -> np.ndarray:
        """Different keys for the pairs of each sequence, in any order (Floyd's way to draw without putting back)."""
        pairs = self.pairs.most
        keys = np.empty((count, pairs), np.int64)
        for i in range(pairs):
            last = self.keys - pairs + i
            lot = rng.integers(last + 1, size=count)
            keys[:, i] = np.where((keys[:, :i] == lot[:, None]).any(1), last, lot)
        return rng.permuted(keys, axis=1)


@dataclass(frozen=True)
class Induction(SyntheticTask):
    """The last token stood once before: say what followed it then.

        reads    c a f d b e f        length=6
        answers              d

    `length` counts the tokens before the last one. Source: Olsson et al. 2022 (induction heads), as one question.

    >>> Induction(symbols=20).chance
    0.05
    """

    name: ClassVar[str] = "induction"
    says: ClassVar[str] = "what followed the last token where it stood before"

    length: Span = Span(32, 32)
    symbols: int = 16

    def least(self) -> dict[str, int]:
        return {"length": 2, "symbols": 3}

    @property
    def vocabulary(self) -> list[str]:
        return letters(self.symbols)

    @property
    def labels(self) -> list[str]:
        return letters(self.symbols)

    @property
    def chance(self) -> float:
        return 1 / self.symbols

    @property
    def widest(self) -> int:
        return self.length.most + 1

    def draw(self, rng: Generator, count: int) -> Drawn:
        length, rows = self.length.draw(rng, count), np.arange(count)
        again = rng.integers(self.symbols, size=count)
        ids = rng.integers(self.symbols - 1, size=(count, self.widest))
        ids += ids >= again[:, None]  # any symbol but the one that comes again
        before = rng.integers(length - 1)
        ids[rows, before] = ids[rows, length] = again
        targets = nothing(count, self.widest)
        targets[rows, length] = ids[rows, before + 1]
        return Drawn(
            np.arange(self.widest) <= length[:, None], ids, targets, {"distance": length - before, "length": length}
        )
