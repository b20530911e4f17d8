"""Batches of sequences for training: a pure function of (seed, step), so that a run can stop and resume anywhere.

lengths  5 3 3 9 5 1          what there is
shuffle  3 9 5 1 3 5          again for each epoch
windows  3 9 5 | 1 3 5        (here of 16 tokens; really of 64 batches' worth)
sort     3 5 9 | 1 3 5        within a window, so that equal lengths lie side by side
cut      3 5, 9 | 1 3, 5      batches of at most 8 tokens; a longer sequence is one alone
shuffle  9, 3 5 | 5, 1 3      the batches of a window
"""

from bisect import bisect_right
from collections.abc import Sequence

import numpy as np

WINDOW = 64  # batches' worth of sequences that are sorted together: near-equal lengths, and still a shuffle


class BatchPlan:
    """The batches of every epoch, of at most `tokens` tokens each; the position in it is one integer, the step.

    A batch is the global batch of a step, whatever the number of processes; each takes its `share`.
    A sequence longer than `tokens` is a batch of its own. A sequence of length 0 counts as one token.

    >>> plan = BatchPlan([5, 3, 3, 9, 5, 1], tokens=8)
    >>> sorted(index for batch in plan.epoch(0) for index in batch)
    [0, 1, 2, 3, 4, 5]
    >>> plan.at(plan.start(7)) == (7, plan.epoch(7)[0])
    True
    """

    def __init__(self, lengths, tokens: int = 4096, seed: int = 0):
        self.lengths = _checked("BatchPlan", lengths, tokens)
        if not len(self.lengths):
            raise ValueError("BatchPlan: expected at least one sequence, got none; check the data that was read")
        self.tokens, self.seed = int(tokens), int(seed)
        self._starts = [0]  # the first step of each epoch counted so far
        self._newest: tuple[int, list[list[int]]] = (-1, [])

    def epoch(self, epoch: int) -> list[list[int]]:
        """All batches of one epoch: lists of indices, each sequence once."""
        if self._newest[0] != epoch:
            self._newest = (epoch, self._make(epoch))
        return self._newest[1]

    def start(self, epoch: int) -> int:
        """The step at which an epoch starts. (Epochs differ by a batch or so; all before it are counted, once.)"""
        while len(self._starts) <= epoch:
            self._starts.append(self._starts[-1] + len(self.epoch(len(self._starts) - 1)))
        return self._starts[epoch]

    def at(self, step: int) -> tuple[int, list[int]]:
        """The epoch a step lies in, and its batch."""
        if step < 0:
            raise ValueError(f"BatchPlan.at: expected a step of 0 or more, got {step}")
        while self._starts[-1] <= step:
            self.start(len(self._starts))
        epoch = bisect_right(self._starts, step) - 1
        return epoch, self.epoch(epoch)[step - self._starts[epoch]]

    def _make(self, epoch: int) -> list[list[int]]:
        # Raw draws of the bit generator, sorted: numpy keeps these, but not its shuffles, the same in all versions.
        draw = np.random.PCG64([self.seed, epoch]).random_raw
        cost = np.maximum(self.lengths, 1)
        order = np.argsort(draw(len(cost)), kind="stable")
        before = np.cumsum(cost[order]) - cost[order]
        window = before // (WINDOW * self.tokens)
        sort = np.lexsort((cost[order], window))
        order, window = order[sort], window[sort]
        bounds = _cut(cost[order], self.tokens, np.flatnonzero(np.diff(window)) + 1)
        shuffled = np.lexsort((draw(len(bounds) - 1), window[bounds[:-1]]))
        rows = order.tolist()
        return [rows[bounds[i] : bounds[i + 1]] for i in shuffled]


def sorted_batches(lengths, tokens: int) -> list[list[int]]:
    """Batches for looking at everything once, as in evaluation: sorted by length, not shuffled.

    >>> sorted_batches([5, 3, 3, 9, 5, 1], tokens=8)
    [[5, 1, 2], [0], [4], [3]]
    """
    lengths = _checked("sorted_batches", lengths, tokens)
    cost = np.maximum(lengths, 1)
    order = np.argsort(cost, kind="stable")
    bounds = _cut(cost[order], tokens, np.empty(0, np.int64))
    rows = order.tolist()
    return [rows[a:b] for a, b in zip(bounds, bounds[1:], strict=False)]


def share(batch: list[int], rank: int, world: int) -> list[int]:
    """What one process of several takes of a global batch; may be empty. Together they take each sequence once.

    >>> share([4, 7, 1, 0, 3], rank=1, world=2)
    [7, 0]
    """
    return batch[rank::world]


def _cut(cost: np.ndarray, tokens: int, walls: np.ndarray) -> list[int]:
    """Bounds of batches of at most `tokens`, filled from the left, none across a wall; one search per batch."""
    ends = np.cumsum(cost)
    bounds = [0]
    for wall in [*walls.tolist(), len(cost)]:
        while bounds[-1] < wall:
            used = int(ends[bounds[-1] - 1]) if bounds[-1] else 0
            fits = int(np.searchsorted(ends, used + tokens, side="right"))
            bounds.append(min(max(fits, bounds[-1] + 1), wall))
    return bounds


def _checked(where: str, lengths: Sequence[int], tokens: int) -> np.ndarray:
    if tokens < 1:
        raise ValueError(f"{where}: expected a budget of 1 token or more, got {tokens}")
    checked = np.asarray(lengths)
    if checked.ndim != 1 or checked.size and checked.dtype.kind not in "iu":
        raise ValueError(
            f"{where}: expected a list of whole-number lengths, got {checked.dtype} of shape {checked.shape}"
        )
    if checked.size and checked.min() < 0:
        raise ValueError(f"{where}: expected lengths of 0 or more, got {checked.min()} at {checked.argmin()}")
    return checked.astype(np.int64)
