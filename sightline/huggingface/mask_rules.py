"""Rules: what a transformers mask function says, read once per forward as a pattern and as which rows belong together.

transformers describes a mask as a small tree of functions (causal AND window AND same sequence ...), which eager attention
evaluates for every pair of tokens. Here the tree is read instead: its leaves are functions that transformers itself makes,
known by their code. What cannot be read so (a mask of the user's own making) is evaluated for every pair, as eager does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import masking_utils as made

from sightline.attention import Pattern

_anything = torch.zeros(1, 1, dtype=torch.int64)
_KNOWN = {  # a function's code -> what it says; made by the very functions that make them for models
    made.causal_mask_function.__code__: "causal",
    made.bidirectional_mask_function.__code__: "all",
    made.and_masks().__code__: "and",
    made.sliding_window_overlay(1).__code__: "window",
    made.sliding_window_bidirectional_overlay(1).__code__: "both windows",
    made.chunked_overlay(1, _anything).__code__: "chunks",
    made.packed_sequence_mask_function(_anything).__code__: "same sequence",
}
if hasattr(made, "remap_positions_for_packed_sequence"):  # newer versions of transformers have it
    _of_positions = made.remap_positions_for_packed_sequence(made.causal_mask_function, _anything)
    _KNOWN[_of_positions.__code__] = "own positions"


@dataclass(frozen=True)
class Reading:
    """What a mask function says: which keys a query sees by distance, and which rows see each other at all."""

    pattern: Pattern = Pattern()
    sequences: Tensor | None = None  # [B, L] sequence of each row, where several lie in one row of the batch
    chunk: int | None = None  # keys are seen only in the chunk of the query; chunks begin after the padding on the left
    padding: Tensor | None = None  # [B] how much that is

    def __and__(self, other: Reading) -> Reading | None:
        """What both say together; None where one reading cannot hold it."""
        if self.sequences is not None and other.sequences is not None or self.chunk and other.chunk:
            return None
        left, right = (_nearer(a, b) for a, b in zip(_sides(self), _sides(other), strict=True))
        sequences = other.sequences if self.sequences is None else self.sequences
        chunked = self if self.chunk else other
        return Reading(Pattern(left, right), sequences, chunked.chunk, chunked.padding)


def read(function: Callable) -> Reading | None:
    """What the mask function says, or None where it is not one of those that transformers makes.

    >>> from transformers.masking_utils import sliding_window_causal_mask_function
    >>> read(sliding_window_causal_mask_function(4)).pattern
    Pattern(left=3, right=0)
    """
    kind = _KNOWN.get(getattr(function, "__code__", None))
    if kind is None:
        return None
    held = dict(zip(function.__code__.co_freevars, (c.cell_contents for c in function.__closure__ or ()), strict=True))
    if kind == "causal":
        return Reading(Pattern(right=0))
    if kind == "window":  # transformers counts the query itself
        return Reading(Pattern(left=held["sliding_window"] - 1))
    if kind == "both windows":  # and here it does not
        return Reading(Pattern(held["sliding_window"], held["sliding_window"]))
    if kind == "chunks":
        return Reading(chunk=held["chunk_size"], padding=held["left_padding"])
    if kind == "same sequence":
        return Reading(sequences=held["packed_sequence_mask"])
    if kind == "own positions":  # within one sequence distances stay what they are
        return read(held["mask_function"])
    both = Reading()
    for part in map(read, held.get("mask_functions", ())):
        both = None if part is None or both is None else both & part
    return both


def _nearer(a: int | None, b: int | None) -> int | None:
    return b if a is None else a if b is None else min(a, b)


def _sides(reading: Reading) -> tuple[int | None, int | None]:
    return reading.pattern.left, reading.pattern.right
