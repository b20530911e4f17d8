"""Picks, where nobody said, which column is the text, which the label, and which task that makes.

The rules, in order:

1. CoNLL-U: FORM is the text, UPOS the label. Vectors are the text wherever there are any.
2. Else the text is the column of text or lists of words that is on average twice as long as the next; between two lists of words,
   the one with twice as many different words.
3. The label is the only other column; or, beside a list of words, the only other list.
4. No label: language. A list for each word or row: tag. Text, or whole numbers of at most FEW values: classify. Other
   numbers: regress.

What the rules leave open is asked for, never guessed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from sightline.tasks.readers import CONLLU, Record

TASKS = ("classify", "regress", "tag", "language")
FEW = 20  # different whole numbers, up to which they are taken for labels
LOOK = 1000  # records looked at to tell what a column holds


class Choice(NamedTuple):
    """The task's name, its columns, what the text column holds (text, words, vectors), and why this was chosen."""

    task: str
    text: str
    label: str | None
    holds: str
    reason: str


def choose(records: Sequence[Record], task: str | None, text: str | None, label: str | None) -> Choice:
    """What is learned from which columns; what was given is kept.

    Raises: ValueError where the columns leave it open, or hold nothing of the kind.

    >>> rows = [("Rather good", "4"), ("I liked all of it", "5"), ("No", "1")]
    >>> choose([Record({"review": r, "stars": s}, "a.csv", 2) for r, s in rows], None, None, None)
    Choice(task='classify', text='review', label='stars', holds='text', reason="column 'stars' has 3 values")
    """
    if task is not None and task not in TASKS:
        raise ValueError(f"--task: expected one of {', '.join(TASKS)}, got {task!r}; choose one")
    for column in (text, label):
        if column is not None:
            records[0].get(column)
    if tuple(records[0].fields) == CONLLU:
        text = text or "FORM"
        label = label or (None if task == "language" else "UPOS")
    look = records[:LOOK]
    kinds = {column: _kind([r.fields.get(column) for r in look]) for column in records[0].fields}
    text = text or _text(look, kinds, label)
    holds = kinds[text] if kinds[text] in ("words", "vectors") else "text"
    if task == "language":
        if label is not None or holds == "vectors":
            got = f"--label {label}" if label is not None else "vectors"
            raise ValueError(
                f"{records[0].file}: expected a text and no label for language, got {got}; leave it out"
            )
        return Choice(task, text, None, holds, "as asked")
    label = label or _label(records[0].file, kinds, text)
    if label is None:
        if task is not None or holds == "vectors":
            raise ValueError(
                f"{records[0].file}: expected a column of labels for {task or 'vectors'}, got only {text!r}; add one"
            )
        return Choice("language", text, None, holds, f"column {text!r} is all there is")
    if task is not None:
        return Choice(task, text, label, holds, "as asked")
    task, reason = _task(records, holds, label)
    return Choice(task, text, label, holds, reason)


def _text(records: Sequence[Record], kinds: dict[str, str], label: str | None) -> str:
    vectors = [column for column, kind in kinds.items() if kind == "vectors"]
    if len(vectors) == 1:
        return vectors[0]
    found = [c for c, kind in kinds.items() if c != label and kind in ("text", "words", "vectors")]
    sizes = {c: sum(_characters(r.fields.get(c)) for r in records) for c in found}
    first, second = (sorted(found, key=lambda c: -sizes[c]) + [None, None])[:2]
    if first is None:
        raise ValueError(
            f"{records[0].file}: expected a column of text, got {_listed(kinds)}; name one with --text"
        )
    if second is None or sizes[first] >= 2 * sizes[second]:
        return first
    if kinds[first] == kinds[second] == "words":
        distinct = {c: len({w for r in records for w in r.fields.get(c) or ()}) for c in (first, second)}
        most, least = sorted(distinct, key=lambda c: -distinct[c])
        if distinct[most] >= 2 * distinct[least]:
            return most
    raise ValueError(
        f"{records[0].file}: expected one column that is plainly the text, got {first!r} and {second!r} of much the same "
        "length; name it with --text"
    )


def _label(file: str, kinds: dict[str, str], text: str) -> str | None:
    others = [column for column, kind in kinds.items() if column != text and kind != "empty"]
    lists = [column for column in others if kinds[column] in ("words", "numbers")]
    if len(others) > 1 and kinds[text] in ("words", "vectors") and len(lists) == 1:
        return lists[0]
    if len(others) > 1:
        raise ValueError(
            f"{file}: expected one column beside the text {text!r}, got {', '.join(others)}; name the label with --label, "
            "or ask for --task language"
        )
    return others[0] if others else None


def _task(records: Sequence[Record], holds: str, label: str) -> tuple[str, str]:
    values = [record.fields.get(label) for record in records]
    kind, many = _kind(values), len({str(value) for value in values})
    if kind == "words" or (kind == "numbers" and holds != "text" and _whole(values)):
        return "tag", f"column {label!r} has lists of tags"
    if kind in ("number", "numbers") or (kind == "whole number" and many > FEW):
        return "regress", f"column {label!r} has {many} different numbers"
    if kind == "whole number" or (kind == "text" and (many <= FEW or many * 2 <= len(values))):
        return "classify", f"column {label!r} has {many} values"
    raise ValueError(
        f"{records[0].file}: expected labels or numbers in column {label!r}, got {kind}, {many} different in "
        f"{len(values)} records; name the label with --label, or the task with --task"
    )


# --- what a column holds ----------------------------------------------------------------------------------------------


def _kind(values: list[Any]) -> str:
    """One of: vectors, words, numbers (lists of them), whole number, number, text, empty; what all values are at once."""
    kinds = {_kind_of(value) for value in values if value is not None and not _is_empty(value)}
    for narrow, wide in (
        ("whole number", "number"),
        ("number", "text"),
        ("numbers", "words"),
        ("numbers", "vectors"),
    ):
        if {narrow, wide} <= kinds:
            kinds -= {narrow}
    return kinds.pop() if len(kinds) == 1 else "mixed values" if kinds else "empty"


def _is_empty(value: Any) -> bool:
    return isinstance(value, (str, list)) and len(value) == 0


def _kind_of(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return "vectors"
    if isinstance(value, list):
        if isinstance(value[0], list):
            return "vectors"
        return "numbers" if all(isinstance(item, (int, float)) for item in value) else "words"
    if isinstance(value, str) and re.fullmatch(r"\s*[+-]?\d+\s*", value):
        return "whole number"
    if isinstance(value, (bool, str)):
        try:
            float(value if isinstance(value, str) else "true")
        except ValueError:
            return "text"
        return "number"
    return "whole number" if isinstance(value, int) else "number" if isinstance(value, float) else "objects"


def _whole(values: list[Any]) -> bool:
    return all(isinstance(item, int) for value in values for item in value or ())


def _characters(value: Any) -> int:
    return (
        sum(map(_characters, value))
        if isinstance(value, list)
        else len(value)
        if isinstance(value, str)
        else 0
    )


def _listed(kinds: dict[str, str]) -> str:
    return ", ".join(f"{column} ({kind})" for column, kind in kinds.items()) or "no columns"
