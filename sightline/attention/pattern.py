"""Pattern: which keys a query sees, as two numbers instead of a mask, so that a backend can skip what is hidden."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Pattern:
    """How many keys a query sees to its left and to its right, besides the one at its own place; None = all.

    Raises: ValueError for a negative number.

    >>> Pattern()                # everything
    Pattern(left=None, right=None)
    >>> Pattern(right=0)         # causal: itself and all before
    Pattern(left=None, right=0)
    >>> Pattern(2, 2)            # a window of five
    Pattern(left=2, right=2)
    """

    left: int | None = None
    right: int | None = None

    def __post_init__(self):
        for side, reach in (("left", self.left), ("right", self.right)):
            if not isinstance(reach, int | None) or (reach or 0) < 0:  # pyright: ignore[reportUnnecessaryIsInstance]
                raise ValueError(
                    f"Pattern: expected {side} as a count from 0 up or None, got {reach!r}; None means all"
                )


FULL = Pattern()
CAUSAL = Pattern(right=0)
