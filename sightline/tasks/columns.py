"""Picks the text column, the label column and the task where they are not named; all records decide.

Columns:

1. CoNLL-U: FORM is the text, UPOS the label. Else a single column of vectors is the text.
2. Else the text is the column of text or lists of words that is on average twice as long as the next; of two columns of
   lists, the one with twice as many different words.
3. The label is the only other column with values; beside a list of words or vectors, the only other list.

The task, by the label of the records that have one:

    a tag for each word or row, as a list or with blanks between     tag
    true and false; texts and codes that repeat                      classify
    whole numbers: at most FEW different ones, or 0 to K (1 to K)    classify
      almost without gaps, each REPEATED times on average
    other numbers; lists of numbers of one length                    regress
    anything else                                                    refused
    no label                                                         refused, unless the task is language

What these rules leave open is refused, never guessed; `Choice` says which option changes what they chose.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from sightline.tasks import conllu
from sightline.tasks.records import Record, named, short
from sightline.tasks.values import column_kind, is_blank, label_of, number_of

TASKS = ("classify", "regress", "tag", "language")
FEW = 20  # different whole numbers, up to which they are labels
REPEATED, DENSE = 2, 0.8  # beyond: how often each is there on average, and the least share of 0 to K that is


class Choice(NamedTuple):
    """The task's name, its columns, the content of the text column (text, words, vectors), why, and what changes it."""

    task: str
    text: str
    label: str | None
    holds: str
    reason: str
    instead: str = ""


class Column(NamedTuple):
    """The label column: its name and kind, the records with a label, their values, and what the text column holds."""

    name: str
    kind: str
    records: Sequence[Record]
    values: list[Any]
    text: str
    holds: str


def choose(records: Sequence[Record], task: str | None, text: str | None, label: str | None) -> Choice:
    """The columns and the task; a column or task that is not None is kept.

    Raises: ValueError where the columns leave it open, or do not fit the task.

    >>> rows = [("Rather good", "4"), ("I liked all of it", "5"), ("No", "1")]
    >>> choose([Record({"review": r, "stars": s}, "a.csv", 2) for r, s in rows], None, None, None)[:4]
    ('classify', 'review', 'stars', 'text')
    """
    if task is not None and task not in TASKS:
        raise ValueError(f"--task: expected one of {', '.join(TASKS)}, got {task!r}; choose one")
    file = records[0].file
    columns = dict.fromkeys(column for record in records for column in record.fields)
    for column in (text, label):
        if column is not None and column not in columns:
            Record(columns, file, records[0].line).get(column)  # raises
    if tuple(columns) == conllu.FIELDS:
        text = text or "FORM"
        label = label or (None if task == "language" else "UPOS")
    kinds = {column: column_kind(r.fields.get(column) for r in records) for column in columns}
    text = text or _text(records, kinds, label)
    holds = {"words": "words", "vectors": "vectors", "numbers": "vectors"}.get(kinds[text], "text")
    if task == "language":
        if label is not None or holds == "vectors":
            actual = f"--label {label}" if label is not None else "vectors"
            raise ValueError(f"{file}: expected a text and no label for language, got {actual}; leave it out")
        return Choice(task, text, None, holds, "as --task says")
    label = label or _label(file, kinds, text)
    if label is None:
        raise ValueError(_no_column(file, kinds, text, task or holds, language=not task and holds != "vectors"))
    filled = [record for record in records if not is_blank(record.fields.get(label))]
    if not filled:
        raise ValueError(
            f"{file}: expected labels in column {label!r}, got none in {len(records):,} records; fill them in, or name "
            "another column with --label"
        )
    column = Column(label, kinds[label], filled, [record.fields[label] for record in filled], text, holds)
    _refuse_lists(column, task)
    choice = (task, "as --task says", "") if task is not None else _task(column)
    return Choice(choice[0], text, label, holds, *choice[1:])


def _text(records: Sequence[Record], kinds: dict[str, str], label: str | None) -> str:
    vectors = [column for column, kind in kinds.items() if kind == "vectors" and column != label]
    if len(vectors) == 1:
        return vectors[0]
    candidates = [c for c, kind in kinds.items() if c != label and kind in ("text", "words", "vectors")]
    sizes = {c: sum(_characters(r.fields.get(c)) for r in records) for c in candidates}
    first, second = (sorted(candidates, key=lambda c: -sizes[c]) + [None, None])[:2]
    if first is None:
        actual = named(f"{column} ({kind})" for column, kind in kinds.items())
        advice = "name one with --text"
        if "objects" in kinds.values():
            advice += "; records are objects one a line, or in one array, as pandas writes them with orient='records'"
        raise ValueError(f"{records[0].file}: expected a column of text, got {actual}; {advice}")
    if second is None or sizes[first] >= 2 * sizes[second]:
        return first
    if kinds[first] == kinds[second] == "words":
        different = {c: len({w for r in records for w in r.fields.get(c) or ()}) for c in (first, second)}
        most, least = sorted(different, key=lambda c: -different[c])
        if different[most] >= 2 * different[least]:
            return most
    raise ValueError(
        f"{records[0].file}: expected one column that is plainly the text, got {first!r} and {second!r} of much the "
        "same length; name it with --text"
    )


def _characters(value: Any) -> int:
    if isinstance(value, list):
        return sum(len(item) for item in value if isinstance(item, (str, list)))
    return len(value) if isinstance(value, str) else 0


def _label(file: str, kinds: dict[str, str], text: str) -> str | None:
    others = [column for column, kind in kinds.items() if column != text and kind != "nothing"]
    lists = [column for column in others if kinds[column] in ("words", "numbers")]
    if len(others) > 1 and kinds[text] in ("words", "vectors") and len(lists) == 1:
        return lists[0]
    if len(others) > 1:
        raise ValueError(
            f"{file}: expected one column beside the text {text!r}, got {named(others)}; name the label with --label, "
            "or ask for --task language"
        )
    return others[0] if others else None


# --- the task ---------------------------------------------------------------------------------------------------------


def _task(column: Column) -> tuple[str, str, str]:
    """The task for a label column, why, and what changes it."""
    kind, values = column.kind, column.values
    name, other = f"column {column.name!r}", "--label names another column"
    labels = {label_of(value) for value in values}
    many = len(labels)
    if kind in ("words", "numbers", "text") and _are_tags(column, values):
        return "tag", f"{name} has a tag for each {'row' if column.holds == 'vectors' else 'word'}", other
    if kind == "numbers":
        return "regress", f"{name} has lists of numbers", other
    if kind == "boolean":
        return "classify", f"{name} has true and false", other
    if kind == "text" and (several := _several(labels)):
        raise ValueError(
            f"{column.records[0].file}: expected one label for each text in {name}, got several in one, such as "
            f"{several!r}; they are not learned at once: keep one, or ask for --task classify to take each as one label"
        )
    if kind in ("text", "code", "power") and (many <= FEW or many * 2 <= len(values)):
        return "classify", f"{name} has {many:,} values", other
    if kind == "whole number" and (many <= FEW or _are_numbered(values, many)):
        gaps = " without gaps" if many > FEW else ""
        reason = f"{name} has {many:,} different whole numbers{gaps}"
        return "classify", reason, "--task regress takes them as quantities"
    if kind in ("number", "whole number"):
        return "regress", f"{name} has {many:,} different {kind}s", "--task classify takes them as labels"
    raise ValueError(_no_label(column, many))


def _are_numbered(values: list[Any], many: int) -> bool:
    numbers = [number for value in values if (number := number_of(value)) is not None]
    if len(numbers) < len(values):  # too large for one
        return False
    least, most = min(numbers), max(numbers)
    return least in (0, 1) and many >= DENSE * (most - least + 1) and len(values) >= REPEATED * many


def _are_tags(column: Column, values: list[Any]) -> bool:
    """Whether the label has an item for each word or row: as text in each record, as a list in half of them."""
    written = all(isinstance(value, str) for value in values)
    items = [value.split() if written else value for value in values]
    counts = [_count(record.fields.get(column.text)) for record in column.records]
    right = sum(isinstance(item, list) and len(item) == n for item, n in zip(items, counts, strict=True))
    if written:  # one word beside one word is a label; and tags repeat
        different = len({tag for item in items for tag in item})
        return right == len(counts) and max(counts) > 2 and 2 * different <= sum(counts)
    return 2 * right >= len(counts) and (column.holds != "text" or max(counts) > 1)


def _count(value: Any) -> int:
    """Words of a text, items of a list, rows of an array."""
    return len(value.split()) if isinstance(value, str) else len(value) if isinstance(value, (list, np.ndarray)) else 0


# --- columns that are no label ----------------------------------------------------------------------------------------


def _refuse_lists(column: Column, task: str | None) -> None:
    """Raises where a label is several labels: lists that are neither tags nor quantities."""
    kind, written = column.kind, column.kind == "list as text"
    values: list[Any] = column.values
    where, first = f"{column.records[0].where}: expected one label in column {column.name!r}", short(values[0])
    if written:
        values = [_as_list(value) for value in values]
        if None in values:
            raise ValueError(
                f"{where}, got text in brackets, such as {first}; take them off, or give lists in JSON Lines"
            )
        kind = "numbers" if all(number_of(x) is not None for value in values for x in value) else "words"
    elif kind not in ("words", "numbers") or task == "tag":
        return
    binary = kind == "numbers" and all(number_of(x) in (0, 1) for value in values for x in value)
    tags = task is None and _are_tags(column, values)
    if tags or (kind == "numbers" and (task == "regress" or not binary)):
        if written:
            advice = "tags with blanks between, or lists" if tags else "lists of numbers"
            raise ValueError(f"{where}, got lists as text, such as {first}; give {advice} in JSON Lines")
        return
    actual = short(next((value for value in values if len(value) != 1), values[0]))
    if binary and all(sum(number_of(x) or 0 for x in value) == 1 and len(value) > 1 for value in values):
        raise ValueError(
            f"{where}, got a row with one 1, such as {actual}; give the number of the class, its argmax, instead"
        )
    raise ValueError(
        f"{where}, got a list of them, such as {actual}; several labels for a text are not learned at once: keep one, "
        "or fit a model for each label, with a column of true and false"
    )


def _several(labels: set[str | None]) -> str | None:
    """A label that is several, if each part of all labels with this separator is part of another label, too."""
    for sign in "|;,":
        parts = {label: [part.strip() for part in label.split(sign)] for label in labels if label}
        joined = [label for label, own in parts.items() if len(own) > 1]
        counts = Counter(part for own in parts.values() for part in set(own))
        if joined and all(counts[part] > 1 and part for label in joined for part in parts[label]):
            return min(joined)
    return None


def _as_list(text: Any) -> list | None:
    try:
        items = json.loads(text.replace("'", '"'))
    except (ValueError, RecursionError, AttributeError):
        items = text.strip("[] ").split() if isinstance(text, str) else None  # as NumPy writes one
    return items if isinstance(items, list) and all(isinstance(x, (str, int, float)) for x in items) else None


def _no_label(column: Column, many: int) -> str:
    kind, values = column.kind, column.values
    where = f"{column.records[0].file}: expected labels or numbers in column {column.name!r}"
    if kind == "comma number":
        example = short(next(v for v in values if number_of(v) is None))
        return (
            f"{where}, got numbers with a decimal comma, such as {example}; write them with a point for the fraction "
            "and nothing for thousands, as in 1000.5, or ask for --task classify to take them as labels"
        )
    odd = [i for i, value in enumerate(values) if number_of(value) is None]
    if kind == "text" and 2 * len(odd) < len(values):
        return (
            f"{where}, got numbers but for {len(odd):,}, the first {short(values[odd[0]])} in line "
            f"{column.records[odd[0]].line}; correct them, leave them empty, or ask for --task classify"
        )
    if kind == "bytes":
        return f"{where}, got bytes that are not UTF-8, such as {short(values[0])}; save them as text"
    return (
        f"{where}, got {kind}, {many:,} different in {len(values):,} records; name the label with --label, or the task "
        "with --task"
    )


def _no_column(file: str, kinds: dict[str, str], text: str, what: str, language: bool) -> str:
    empty = [column for column in kinds if column != text]
    actual = f"only {text!r}" + (f", with nothing in {named(empty)}" if empty else "")
    advice = ["add one"]
    if file.lower().endswith((".csv", ".tsv")) and not empty:
        advice.append("say what parts the columns with --separator")
    if language:
        advice.append("ask for --task language to learn the text itself")
    return f"{file}: expected a column of labels for {what}, got {actual}; {', or '.join(advice)}"
