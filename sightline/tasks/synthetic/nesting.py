"""Structure inside structure: brackets that close the last open one, and nested lists to evaluate."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.random import Generator

from sightline.tasks.synthetic.drawing import ASK, Drawn, Span, SyntheticTask, question_at
from sightline.tasks.task import NO_TARGET

CLOSE = "^"
OPERATORS = ("[MAX", "[MIN", "[MED", "[SM")
END = "]"
FEWEST, MOST = 2, 5  # arguments of a list
INNER = 0.2  # share of arguments that are lists themselves, besides the one that makes the depth


@dataclass(frozen=True)
class Dyck(SyntheticTask):
    """At each closing bracket, the kind of bracket it closes; Dyck-(k, m) with k kinds, at most m deep.

        reads    ( [ ^ { ^ ^        length=6,kinds=3,depth=2
        answers      [   { (

    A closing bracket does not show its kind, so a bidirectional encoder gains nothing. `depth` is m; all strings of a
    length are equally likely. The unit `depth` is that of the bracket that closes.
    Source: Hewitt et al. 2020, section 2.

    >>> Dyck(kinds=4).chance
    0.25
    """

    name = "dyck"
    says = "which bracket is closed"
    units = ("depth", "distance", "length")
    minimum = {"length": 2, "kinds": 2, "depth": 1}
    signs = (CLOSE,)

    length: Span = Span(64, 64)
    kinds: int = 4
    depth: int = 4

    def check(self) -> None:
        if self.length.least == self.length.most and self.length.least % 2:
            raise ValueError(
                f"{self.name}: expected an even length, to close what is opened, got {self.length}; "
                f"take {self.length.least + 1}"
            )
        if self.depth > 64:
            raise ValueError(f"{self.name}: expected a depth of at most 64, got {self.depth}; lower it")

    @property
    def labels(self) -> list[str]:
        return [*"([{<", *(f"({i}" for i in range(4, self.kinds))][: self.kinds]

    @property
    def max_length(self) -> int:
        return self.length.most // 2 * 2

    def draw(self, rng: Generator, count: int) -> Drawn:
        halves = Span((self.length.least + 1) // 2, self.length.most // 2)
        length, width = 2 * halves.draw(rng, count), self.max_length
        chance = rng.random((width, count), np.float32)
        ids = rng.integers(self.kinds, size=(width, count))
        deepest = min(self.depth, width // 2)
        opening = _share_of_opening(width, deepest).ravel()
        depth = np.zeros(count, np.int64)
        at_depth, opened = np.zeros_like(ids), np.zeros_like(ids)
        last = np.zeros((deepest + 2) * count, np.int64)  # the place of the last opening bracket of each depth
        column = np.arange(count)
        for place in range(width):  # an array row for each place, so that its cells lie side by side
            opens = chance[place] < opening[np.maximum(length - place, 0) * (deepest + 1) + depth]
            at_depth[place] = depth + opens
            cell = at_depth[place] * count + column
            last[cell] = np.where(opens, place, last[cell])
            opened[place] = last[cell]
            depth = np.maximum(depth + 2 * opens - 1, 0)
        places = np.arange(width)[:, None]
        kept, closes = places < length, opened < places
        targets = np.where(kept & closes, np.take_along_axis(ids, opened, 0), NO_TARGET)
        units = {"depth": at_depth.T, "distance": (places - opened).T, "length": length}
        return Drawn(kept.T, np.where(closes, self.kinds, ids).T, targets.T, units)


@lru_cache(maxsize=8)
def _share_of_opening(longest: int, deepest: int) -> np.ndarray:
    """Of all paths back to depth 0, the share that begins with an opening bracket: [rows left, depth]."""
    paths = np.zeros(deepest + 2)  # how many close everything from each depth, up to a factor
    paths[0] = 1.0
    share = np.zeros((longest + 1, deepest + 1))
    for left in range(1, longest + 1):
        opening, closing = paths[1:], np.concatenate([[0.0], paths[:-2]])  # one deeper, one less deep
        share[left] = opening / np.maximum(opening + closing, 1e-300)
        paths = np.append(opening + closing, 0.0)
        paths /= paths.max()
    return share


@dataclass(frozen=True)
class ListOps(SyntheticTask):
    """The value of nested lists: their largest, smallest or median number, or their sum modulo 10.

        reads    [MAX 2 9 [MIN 4 7 ] 0 ] ?        depth=2
        answers                          9

    Lists have 2 to 5 arguments; `depth` is exactly that of the lists. [MED of an even count is the mean of the middle
    two, rounded down; [SM is the sum. Chance is the best constant answer, calculated over all trees.
    Source: Nangia and Bowman 2018, section 2.

    >>> round(ListOps(depth=Span(1, 4)).chance, 4)
    0.1086
    """

    name = "listops"
    says = "what nested lists come to"
    harder = "depth"
    units = ("depth", "length")
    signs = (*OPERATORS, END, ASK)

    depth: Span = Span(1, 4)

    def check(self) -> None:
        if self.depth.most > 50:
            raise ValueError(f"{self.name}: expected a depth of at most 50, got {self.depth}; lower it")

    @property
    def labels(self) -> list[str]:
        return [*map(str, range(10))]

    @property
    def chance(self) -> float:
        return float(answer_shares(self.depth.most)[self.depth.least - 1 :].mean(0).max())

    @property
    def max_length(self) -> int:
        return 16 * self.depth.most  # about; trees differ

    def draw(self, rng: Generator, count: int) -> Drawn:
        depth = self.depth.draw(rng, count)
        levels = _trees(rng, depth)
        sizes, values = _evaluated(levels)
        length = sizes[0]
        ids = np.full((count, int(length.max()) + 1), self.vocabulary.index(END))  # where neither digit nor list begins
        for level, place in zip(levels, _places(levels, sizes), strict=True):
            ids[level.tree, place] = np.where(level.operator >= 0, 10 + level.operator, level.digit)
        ids[np.arange(count), length] = self.vocabulary.index(ASK)
        return question_at(length, ids, values[0], {"depth": depth, "length": length})


class Level(NamedTuple):
    """All nodes of one depth, of all trees, siblings side by side: the tree of each, its operator (-1: a digit), its
    digit, and the number of its children in the next level (0 for a digit). Shapes: [M] each."""

    tree: np.ndarray
    operator: np.ndarray
    digit: np.ndarray
    children: np.ndarray


def _trees(rng: Generator, depth: np.ndarray) -> list[Level]:
    """One tree for each depth: a path of lists down to this depth, and random lists beside it."""
    tree, on_path = np.arange(len(depth)), np.ones(len(depth), bool)
    levels: list[Level] = []
    while len(tree):
        lists = (depth[tree] > len(levels)) & (on_path | (rng.random(len(tree)) < INNER))
        children = np.where(lists, rng.integers(FEWEST, MOST + 1, len(tree)), 0)
        operator = np.where(lists, rng.integers(len(OPERATORS), size=len(tree)), -1)
        levels.append(Level(tree, operator, rng.integers(10, size=len(tree)), children))
        first = children.cumsum() - children
        chosen = (first + rng.integers(np.maximum(children, 1)))[on_path & lists]  # one child continues the path
        tree = tree.repeat(children)
        on_path = np.zeros(len(tree), bool)
        on_path[chosen] = True
    return levels


def _evaluated(levels: list[Level]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """For each level the number of tokens of its nodes, and their values; from the digits up."""
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
    """The place of each node's first token in its sequence; from the root down."""
    places = [np.zeros_like(sizes[0])]
    for level, below in zip(levels, sizes[1:], strict=False):
        many = level.children[level.children > 0]
        before = below.cumsum() - below
        first = (many.cumsum() - many).repeat(many)
        places.append((places[-1] + 1).repeat(level.children) + before - before[first])
    return places


def answer_shares(deepest: int) -> np.ndarray:
    """The share of trees of each depth with each digit as their value, [depth - 1, 10], by calculation."""
    even = np.full(10, 0.1)
    on_path, beside, shares = even, even, []
    for _ in range(deepest):
        on_path, lists = _list_shares(on_path, beside), _list_shares(beside, beside)
        beside = INNER * lists + (1 - INNER) * even
        shares.append(on_path)
    return np.array(shares)


def _list_shares(one: np.ndarray, others: np.ndarray) -> np.ndarray:
    """The shares of a list's values, from those of one argument and of each of the others."""
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
    """The value of each operator for each combination of `many` digits."""
    rows = np.sort(np.indices((10,) * many).reshape(many, -1), 0)
    middle = (rows[(many - 1) // 2] + rows[many // 2]) // 2
    return rows[-1], rows[0], middle, rows.sum(0) % 10
