"""Structure inside structure: brackets that close what was opened last, and lists in lists that are to be worked out."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar, NamedTuple

import numpy as np
from numpy.random import Generator

from sightline.tasks.synthetic.drawing import ASK, Drawn, Span, SyntheticTask, nothing
from sightline.tasks.task import NO_TARGET

CLOSE = "^"
OPERATORS = ("[MAX", "[MIN", "[MED", "[SM")
END = "]"
FEWEST, MOST = 2, 5  # arguments that a list has
INNER = 0.2  # how many arguments, besides the one that makes the depth, are lists themselves while they may be


@dataclass(frozen=True)
class Dyck(SyntheticTask):
    """At each closing bracket, which kind of bracket it closes; Dyck-(k, m) with k kinds, at most m deep.

        reads    ( [ ^ { ^ ^        length=6,kinds=3,depth=2
        answers      [   { (

    A closing bracket does not show its kind, so that reading both ways gives nothing away. `depth` is m; every string of
    the length is as likely as any other. An example is measured by the depth of the bracket that closes.
    Source: Hewitt et al. 2020, section 2.

    >>> Dyck(kinds=4).chance
    0.25
    """

    name: ClassVar[str] = "dyck"
    says: ClassVar[str] = "which bracket is closed"
    ways: ClassVar[tuple[str, ...]] = ("depth", "distance", "length")

    length: Span = Span(64, 64)
    kinds: int = 4
    depth: int = 4

    def least(self) -> dict[str, int]:
        return {"length": 2, "kinds": 2, "depth": 1}

    def check(self) -> None:
        if self.length.least == self.length.most and self.length.least % 2:
            raise ValueError(
                f"{self.name}: expected an even length, to close what is opened, got {self.length}; take {self.length.least + 1}"
            )
        if self.depth > 64:
            raise ValueError(f"{self.name}: expected a depth of at most 64, got {self.depth}; lower it")

    @property
    def vocabulary(self) -> list[str]:
        return [*self.labels, CLOSE]

    @property
    def labels(self) -> list[str]:
        return [*"([{<", *(f"({i}" for i in range(4, self.kinds))][: self.kinds]

    @property
    def chance(self) -> float:
        return 1 / self.kinds

    @property
    def widest(self) -> int:
        return self.length.most // 2 * 2

    def draw(self, rng: Generator, count: int) -> Drawn:
        halves = Span((self.length.least + 1) // 2, self.length.most // 2)
        length, width = 2 * halves.draw(rng, count), self.widest
        lot = rng.random((width, count), np.float32)
        ids = rng.integers(self.kinds, size=(width, count))
        deepest = min(self.depth, width // 2)
        up = _share_of_ways(width, deepest).ravel()
        depth = np.zeros(count, np.int64)
        at_depth, opened = np.zeros_like(ids), np.zeros_like(ids)
        last = np.zeros((deepest + 2) * count, np.int64)  # where a bracket of each depth was opened last
        column = np.arange(count)
        for place in range(width):  # an array row for each place, so that its cells lie side by side
            opens = lot[place] < up[np.maximum(length - place, 0) * (deepest + 1) + depth]
            at_depth[place] = depth + opens
            cell = at_depth[place] * count + column
            last[cell] = np.where(opens, place, last[cell])
            opened[place] = last[cell]
            depth = np.maximum(depth + 2 * opens - 1, 0)
        kept, closes = np.arange(width)[:, None] < length, opened < np.arange(width)[:, None]
        targets = np.where(kept & closes, np.take_along_axis(ids, opened, 0), NO_TARGET)
        measured = {"depth": at_depth, "distance": np.arange(width)[:, None] - opened}
        ids = np.where(closes, self.kinds, ids)
        turned = {name: column.T for name, column in measured.items()}
        return Drawn(kept.T, ids.T, targets.T, turned | {"length": length})


@lru_cache(maxsize=8)
def _share_of_ways(longest: int, deepest: int) -> np.ndarray:
    """The share of the ways back to depth 0 that begin by opening: [rows that are left, depth]."""
    ways = np.zeros(deepest + 2)  # of closing all from each depth, up to a factor
    ways[0] = 1.0
    share = np.zeros((longest + 1, deepest + 1))
    for left in range(1, longest + 1):
        opening, closing = ways[1:], np.concatenate([[0.0], ways[:-2]])  # to one deeper, to one less deep
        share[left] = opening / np.maximum(opening + closing, 1e-300)
        ways = np.append(opening + closing, 0.0)
        ways /= ways.max()
    return share


@dataclass(frozen=True)
class ListOps(SyntheticTask):
    """What nested lists come to: their largest, smallest or middle number, or their sum modulo 10.

        reads    [MAX 2 9 [MIN 4 7 ] 0 ] ?        depth=2
        answers                          9

    Lists have 2 to 5 arguments; `depth` is that of the lists, exactly. [MED of an even count is the mean of the middle
    two, rounded down; [SM is the sum. Chance is the best constant answer, worked out over all trees.
    Source: Nangia and Bowman 2018, section 2.

    >>> round(ListOps(depth=Span(1, 4)).chance, 4)
    0.1086
    """

    name: ClassVar[str] = "listops"
    says: ClassVar[str] = "what nested lists come to"
    harder: ClassVar[str] = "depth"
    ways: ClassVar[tuple[str, ...]] = ("depth", "length")

    depth: Span = Span(1, 4)

    def check(self) -> None:
        if self.depth.most > 50:
            raise ValueError(f"{self.name}: expected a depth of at most 50, got {self.depth}; lower it")

    @property
    def vocabulary(self) -> list[str]:
        return [*self.labels, *OPERATORS, END, ASK]

    @property
    def labels(self) -> list[str]:
        return [*map(str, range(10))]

    @property
    def chance(self) -> float:
        spine = shares_of_answers(self.depth.most)
        return float(spine[self.depth.least - 1 :].mean(0).max())

    @property
    def widest(self) -> int:
        return 16 * self.depth.most  # about; trees differ

    def draw(self, rng: Generator, count: int) -> Drawn:
        depth = self.depth.draw(rng, count)
        levels = _trees(rng, depth)
        sizes, values = _worked_out(levels)
        rows, length = np.arange(count), sizes[0]
        ids = np.full((count, int(length.max()) + 1), self.vocabulary.index(END))  # where neither digit nor list begins
        for level, place in zip(levels, _places(levels, sizes), strict=True):
            ids[level.tree, place] = np.where(level.operator >= 0, 10 + level.operator, level.digit)
        ids[rows, length] = self.vocabulary.index(ASK)
        targets = nothing(*ids.shape)
        targets[rows, length] = values[0]
        kept = np.arange(ids.shape[1]) <= length[:, None]
        return Drawn(kept, ids, targets, {"depth": depth, "length": length})


class Level(NamedTuple):
    """All nodes of one depth, of all trees, siblings side by side: the tree each is in, its operator (-1: a digit), its
    digit, and how many children stand in the next level (0 for a digit). Shapes: [M] each."""

    tree: np.ndarray
    operator: np.ndarray
    digit: np.ndarray
    children: np.ndarray


def _trees(rng: Generator, depth: np.ndarray) -> list[Level]:
    """One tree for each depth: a way down of lists that has this depth, and beside it lists by lot."""
    tree, down = np.arange(len(depth)), np.ones(len(depth), bool)
    levels: list[Level] = []
    while len(tree):
        lists = (depth[tree] > len(levels)) & (down | (rng.random(len(tree)) < INNER))
        children = np.where(lists, rng.integers(FEWEST, MOST + 1, len(tree)), 0)
        operator = np.where(lists, rng.integers(len(OPERATORS), size=len(tree)), -1)
        levels.append(Level(tree, operator, rng.integers(10, size=len(tree)), children))
        first = children.cumsum() - children
        further = (first + rng.integers(np.maximum(children, 1)))[down & lists]  # one child of each goes on down
        tree = tree.repeat(children)
        down = np.zeros(len(tree), bool)
        down[further] = True
    return levels


def _worked_out(levels: list[Level]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Of each level the number of tokens of its nodes, and what they come to; from the digits up."""
    sizes, values = [np.ones_like(levels[-1].digit)], [levels[-1].digit]
    for level in reversed(levels[:-1]):
        lists = level.operator >= 0
        many = level.children[lists]
        first = many.cumsum() - many
        below = values[-1]
        ranked = below[np.lexsort((below, np.arange(len(many)).repeat(many)))]
        results = (
            np.maximum.reduceat(below, first),
            np.minimum.reduceat(below, first),
            (ranked[first + (many - 1) // 2] + ranked[first + many // 2]) // 2,
            np.add.reduceat(below, first) % 10,
        )
        size, value = np.ones_like(level.digit), level.digit.copy()
        size[lists] = 2 + np.add.reduceat(sizes[-1], first)
        value[lists] = np.choose(level.operator[lists], results)
        sizes.append(size)
        values.append(value)
    return sizes[::-1], values[::-1]


def _places(levels: list[Level], sizes: list[np.ndarray]) -> list[np.ndarray]:
    """Where each node's first token stands in its sequence; from the root down."""
    places = [np.zeros_like(sizes[0])]
    for level, below in zip(levels, sizes[1:], strict=False):
        many = level.children[level.children > 0]
        before = below.cumsum() - below
        first = (many.cumsum() - many).repeat(many)
        places.append((places[-1] + 1).repeat(level.children) + before - before[first])
    return places


def shares_of_answers(deepest: int) -> np.ndarray:
    """How often trees of each depth come to each digit, [depth - 1, 10], worked out from how they are drawn."""
    even = np.full(10, 0.1)
    down, free, found = even, even, []
    for _ in range(deepest):
        down, among = _of_lists(down, free), _of_lists(free, free)
        free = INNER * among + (1 - INNER) * even
        found.append(down)
    return np.array(found)


def _of_lists(one: np.ndarray, others: np.ndarray) -> np.ndarray:
    """What lists come to if one argument is distributed like this and the others like that."""
    total = np.zeros(10)
    for many in range(FEWEST, MOST + 1):
        weight = one
        for _ in range(many - 1):
            weight = np.multiply.outer(weight, others)
        for result in _results(many):
            total += np.bincount(result, weight.ravel(), 10)
    return total / (len(OPERATORS) * (MOST + 1 - FEWEST))


@lru_cache
def _results(many: int) -> tuple[np.ndarray, ...]:
    """What each operator makes of each row of so many digits."""
    rows = np.sort(np.indices((10,) * many).reshape(many, -1), 0)
    middle = (rows[(many - 1) // 2] + rows[many // 2]) // 2
    return rows[-1], rows[0], middle, rows.sum(0) % 10
