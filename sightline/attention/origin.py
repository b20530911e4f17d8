"""Origin: which module calls attention, and from which rows of a batch; for watchers, read by no backend."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn


class Origin(NamedTuple):
    """The caller, in terms of the batch that it has; holds only what the module has computed anyway.

    `queries` and `keys` are the rows that take part, of the B * Lq and B * Lk rows of a padded batch of `shape`
    (B, Lq, Lk); None: all of them. A module that calls for one sequence at a time states which `sequence`, and its rows
    of queries, `own`. `unpadded` are the rows in the caller's padded batch of the rows of a batch without padding.
    """

    module: nn.Module | None = None
    queries: Tensor | None = None
    keys: Tensor | None = None
    shape: tuple[int, int, int] | None = None
    unpadded: Tensor | None = None
    sequence: int | None = None
    own: Tensor | None = None
