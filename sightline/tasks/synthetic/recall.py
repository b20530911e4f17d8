"""Finding by content: what stood beside a token that comes again, at any distance."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from sightline.tasks.synthetic.drawing import FILL, Drawn, LetterTask, Span, SyntheticTask, question_at, sampled
from sightline.tasks.task import NO_TARGET

POWER = 0.01  # queries at a distance `gap` are as frequent as gap ** (POWER - 1), as in the paper


@dataclass(frozen=True)
class Recall(SyntheticTask):
    """Multi-query associative recall: at each repeated key, the value it came with.

        reads    k2 v5 k7 v1 . k7 . . k2        length=9,pairs=2
        answers                v1     v5

    `length` counts all rows. The queries stand anywhere behind the pairs, near ones more often. `keys` and `values` are
    the numbers of different ones; a pair has one of each, and no key stands in two pairs of a sequence. Chance is the
    best constant answer; answering with any value of the sequence scores more, about 1 / pairs. With `pairs=2-16` each
    sequence has its own number of pairs, at most a third of its length: easy ones help to learn hard ones.
    Source: Arora et al. 2023 (zoology), section 3.1 and appendix C: lengths 64 to 512 with 4 to 64 pairs, mixed.

    >>> Recall(length=Span(128, 128), pairs=Span(16, 16)).chance
    0.015625
    """

    name = "mqar"
    says = "at each key that comes again, the value it came with"
    minimum = {"pairs": 1, "keys": 2, "values": 2}

    length: Span = Span(64, 64)
    pairs: Span = Span(8, 8)
    keys: int = 64
    values: int = 64

    def check(self) -> None:
        if self.pairs.most > self.keys:
            raise ValueError(
                f"{self.name}: expected at least as many keys as pairs, got {self.keys} for {self.pairs}; raise keys"
            )
        if self.length.least < 3 * self.pairs.least:
            raise ValueError(
                f"{self.name}: expected a length of at least three times pairs={self.pairs.least}, to ask for each, "
                f"got {self.length.least}; raise length or ask for fewer pairs"
            )

    @property
    def vocabulary(self) -> list[str]:
        return [*(f"k{i}" for i in range(self.keys)), *self.labels, FILL]

    @property
    def labels(self) -> list[str]:
        return [f"v{i}" for i in range(self.values)]

    @property
    def max_length(self) -> int:
        return self.length.most

    def draw(self, rng: Generator, count: int) -> Drawn:
        length, place = self.length.draw(rng, count)[:, None], np.arange(self.max_length)
        most = np.minimum(self.pairs.most, length // 3)
        pairs = rng.integers(self.pairs.least, most + 1)
        keys = self._keys(rng, count)
        values = rng.integers(self.values, size=keys.shape)
        in_pair = place < 2 * pairs
        gap = np.maximum(place - 2 * pairs + 1, 1)
        asked_pair = sampled(~in_pair & (place < length), pairs, rng, (POWER - 1) * np.log(gap))
        is_query = asked_pair >= 0
        pair = np.where(in_pair, place // 2, np.where(is_query, asked_pair, 0))
        key, value = (np.take_along_axis(array, pair, 1) for array in (keys, values))
        ids = np.where(in_pair & (place % 2 == 1), value + self.keys, key)
        ids[~in_pair & ~is_query] = self.keys + self.values
        targets = np.where(is_query, value, NO_TARGET)
        return Drawn(place < length, ids, targets, {"distance": place - 2 * pair, "length": length[:, 0]})

    def _keys(self, rng: Generator, count: int) -> np.ndarray:
        """Different keys for the pairs of each sequence, in random order (Floyd's sampling without replacement)."""
        pairs = self.pairs.most
        keys = np.empty((count, pairs), np.int64)
        for i in range(pairs):
            last = self.keys - pairs + i
            key = rng.integers(last + 1, size=count)
            keys[:, i] = np.where((keys[:, :i] == key[:, None]).any(1), last, key)
        return rng.permuted(keys, axis=1)


@dataclass(frozen=True)
class Induction(LetterTask):
    """The last token stood once before: which token followed it there?

        reads    c a f d b e f        length=6
        answers              d

    `length` counts the tokens before the last one. Source: Olsson et al. 2022 (induction heads), as one question.

    >>> Induction(symbols=20).chance
    0.05
    """

    name = "induction"
    says = "what followed the last token where it stood before"
    minimum = {"length": 2, "symbols": 3}

    length: Span = Span(32, 32)
    symbols: int = 16

    @property
    def max_length(self) -> int:
        return self.length.most + 1

    def draw(self, rng: Generator, count: int) -> Drawn:
        length, rows = self.length.draw(rng, count), np.arange(count)
        repeated = rng.integers(self.symbols, size=count)
        ids = rng.integers(self.symbols - 1, size=(count, self.max_length))
        ids += ids >= repeated[:, None]  # any symbol but the repeated one
        first = rng.integers(length - 1)
        ids[rows, first] = ids[rows, length] = repeated
        return question_at(length, ids, ids[rows, first + 1], {"distance": length - first, "length": length})
