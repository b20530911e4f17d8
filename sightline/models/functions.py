"""Python functions as a model of `scope` reads them: names are numbered, and spelling gives nothing away."""

from __future__ import annotations

import torch
from torch import Tensor

from sightline.models.words import Text, Unit, visible
from sightline.tasks import roles, scope

MARKS = {"NEWLINE": "\u21b5", "INDENT": "\u2192", "DEDENT": "\u2190"}


def function_text(source: str) -> tuple[Text, Tensor]:
    """The first function in a Python source that `scope` can hold, as written and as ids; `gold` are its bindings.

    Raises: ValueError where there is none.
    """
    try:
        numbered = ((function, scope.numbered_ids(function)) for function in roles.functions(source))
        function, ids = next(pair for pair in numbered if pair[1] is not None)
    except (StopIteration, SyntaxError, ValueError, RecursionError):
        raise ValueError(
            f"look: expected a Python function without inner functions, of at most {scope.LONGEST} tokens "
            f"and {scope.NAMES} names, as this model reads, got none; give the file of one"
        ) from None
    units = _units(function.spelling, function.words)
    gold = [(use, binding) for use, binding in enumerate(function.links) if binding >= 0]
    return Text(units, units, list(range(len(units))), [False] * len(units), gold), torch.tensor(ids)


def _units(spelling: list[str], words: list[str | None]) -> list[Unit]:
    """Each token with the blanks before it; the ends of lines, and beginnings and ends of blocks, as marks.

    >>> tokens = ["def", "f", "(", "x", ")", ":", "NEWLINE", "INDENT", "return", "x"]
    >>> "".join(unit.space + unit.text for unit in _units(tokens, [None if t in "fx" else t for t in tokens]))
    'def f(x): \u21b5\u2192\\n    return x'
    """
    units, ended = [], False
    for kind, token, space in zip(words, *roles.words_and_spaces(spelling, words), strict=True):
        if kind in MARKS:
            units.append(Unit(" " if kind == "NEWLINE" else "", MARKS[kind]))
        else:
            units.append(Unit("\n" * ended + space, visible(token)))
        ended = kind in MARKS
    return units
