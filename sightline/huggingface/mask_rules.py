"""Mask rules: what a mask function of transformers says, as a pattern and as the rows that may see each other.

transformers describes a mask as a small tree of functions (causal AND window AND same sequence ...), which eager
attention evaluates for every pair of tokens. Here the tree is read: its leaves are functions that transformers makes,
recognized by their code. A mask function of the user's own cannot be read; it is evaluated for every pair, as in eager
attention.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import masking_utils

from sightline.attention import Pattern

_anything = torch.zeros(1, 1, dtype=torch.int64)
_KINDS = {  # code of a function -> what it says
    masking_utils.causal_mask_function.__code__: "causal",
    masking_utils.bidirectional_mask_function.__code__: "all",
    masking_utils.and_masks().__code__: "and",
    masking_utils.sliding_window_overlay(1).__code__: "window",
    masking_utils.sliding_window_bidirectional_overlay(1).__code__: "both windows",
    masking_utils.chunked_overlay(1, _anything).__code__: "chunks",
    masking_utils.packed_sequence_mask_function(_anything).__code__: "same sequence",
}
if hasattr(masking_utils, "remap_positions_for_packed_sequence"):  # newer versions of transformers
    _remapped = masking_utils.remap_positions_for_packed_sequence(masking_utils.causal_mask_function, _anything)
    _KINDS[_remapped.__code__] = "own positions"


@dataclass(frozen=True)
class MaskRule:
    """Which keys a query sees by distance, and which rows see each other at all.

    `sequences` [B, L] numbers the sequence of each row, where several lie in one row of the batch. With a `chunk`, a
    query sees keys of its own chunk only; chunks begin after the `padding` [B] on the left.
    """

    pattern: Pattern = Pattern()
    sequences: Tensor | None = None
    chunk: int | None = None
    padding: Tensor | Any = None  # Any stands for None, which there is only without a chunk

    def __and__(self, other: MaskRule) -> MaskRule | None:
        """What both say together; None where one rule cannot hold it."""
        if self.sequences is not None and other.sequences is not None or self.chunk and other.chunk:
            return None
        a, b = self.pattern, other.pattern
        pattern = Pattern(_nearer(a.left, b.left), _nearer(a.right, b.right))
        sequences = other.sequences if self.sequences is None else self.sequences
        chunked = self if self.chunk else other
        return MaskRule(pattern, sequences, chunked.chunk, chunked.padding)


def mask_rule(function: Callable) -> MaskRule | None:
    """What the mask function says, or None for a function that transformers does not make.

    >>> from transformers.masking_utils import sliding_window_causal_mask_function
    >>> mask_rule(sliding_window_causal_mask_function(4)).pattern
    Pattern(left=3, right=0)
    """
    code = getattr(function, "__code__", None)
    if code not in _KINDS:
        return None
    cells = (cell.cell_contents for cell in function.__closure__ or ())
    closure = dict(zip(code.co_freevars, cells, strict=True))
    match _KINDS[code]:
        case "causal":
            return MaskRule(Pattern(right=0))
        case "window":  # transformers counts the query itself
            return MaskRule(Pattern(left=closure["sliding_window"] - 1))
        case "both windows":  # and here it does not
            return MaskRule(Pattern(closure["sliding_window"], closure["sliding_window"]))
        case "chunks":
            return MaskRule(chunk=closure["chunk_size"], padding=closure["left_padding"])
        case "same sequence":
            return MaskRule(sequences=closure["packed_sequence_mask"])
        case "own positions":  # distances within one sequence do not change
            return mask_rule(closure["mask_function"])
    joined = MaskRule()
    for part in map(mask_rule, closure.get("mask_functions", ())):
        joined = None if part is None or joined is None else joined & part
    return joined


def _nearer(a: int | None, b: int | None) -> int | None:
    return b if a is None else a if b is None else min(a, b)
