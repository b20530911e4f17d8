"""From records to examples, by a task and its tokenizer: the same in training, in evaluation and in use.

A text is one string, one list of words, or rows of numbers, the same in all records of a data set. Where the task tags
words, a string is split at blanks. In a record with one column only, that column is the text.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np
import torch

from sightline.tasks.examples import Examples, packed
from sightline.tasks.records import Record, short
from sightline.tasks.task import Task
from sightline.tasks.tokenizing import Encoded, Tokenizer

AT_ONCE = 1024  # records answered together, when they come from a pipe


def encode(records: Sequence[Record], task: Task, tokenizer: Tokenizer | None) -> Examples:
    """Labelled examples.

    Raises: ValueError with file and line where text or label is missing or of another kind.
    """
    inputs, values = _inputs(records, task, tokenizer)
    examples = task.examples(records, inputs)
    return replace(examples, texts=values) if len(examples) == len(values) else examples  # else they are chunks


def questions(records: Iterable[Record], task: Task, tokenizer: Tokenizer | None) -> Iterator[Examples]:
    """Examples without labels, AT_ONCE at a time, one sequence for each record in order; `texts` holds the inputs."""
    records = iter(records)
    while batch := list(islice(records, AT_ONCE)):
        inputs, values = _inputs(batch, task, tokenizer)
        yield replace(task.questions(batch, inputs), texts=values)


def texts(records: Iterable[Record], column: str, split: bool) -> list[str] | list[list[str]]:
    """The text column: all strings (with `split`, split at blanks), or all lists of words.

    Raises: ValueError with file and line for anything else.
    """
    values: list[Any] = []
    for record in records:
        value = _text(record, column)
        if isinstance(value, str) and split:
            value = value.split()
        words = isinstance(value, list) and all(isinstance(word, str) for word in value)
        if not (isinstance(value, str) or words) or (values and type(value) is not type(values[0])):
            raise ValueError(
                f"{record.where}: expected in column {column!r} a text, or a list of words, as in the records before, "
                f"got {short(value)}; give each record the same kind"
            )
        if not all(map(_is_unicode, [value] if isinstance(value, str) else value)):
            raise ValueError(
                f"{record.where}: expected a text in column {column!r}, got half of a surrogate pair in "
                f"{short(value)}; decode it anew as UTF-8"
            )
        values.append(value)
    return values


def _is_unicode(text: str) -> bool:
    try:
        return text.isascii() or bool(text.encode())
    except UnicodeEncodeError:
        return False


def _inputs(records: Sequence[Record], task: Task, tokenizer: Tokenizer | None) -> tuple[Encoded, list]:
    for record in records:
        if task.text not in record.fields and task.label in record.fields:
            record.get(task.text)  # raises: a label alone is not the text
    if tokenizer is None:
        arrays = _vectors(records, task.text)
        joined = np.concatenate(arrays) if arrays else np.zeros((0, 1), np.float32)
        vectors = packed(torch.from_numpy(joined), list(map(len, arrays)))
        return Encoded(vectors, vectors.positions), arrays
    values = texts(records, task.text, split=task.name == "tag")
    return tokenizer.encode(values), values


def _text(record: Record, column: str) -> Any:
    only = next(iter(record.fields)) if len(record.fields) == 1 else column
    return record.get(column if column in record.fields else only)


def _vectors(records: Sequence[Record], column: str) -> list[np.ndarray]:
    """float32 [L, F] for each record, F the same for all."""
    arrays: list[np.ndarray] = []
    for record in records:
        value = _text(record, column)
        try:
            with np.errstate(over="ignore"):
                array = np.asarray(value, dtype=np.float32)
        except (ValueError, TypeError, OverflowError):
            array = np.zeros(())
        array = array[:, None] if array.ndim == 1 and array.size else array
        if array.ndim != 2 and array.size:
            raise ValueError(
                f"{record.where}: expected in column {column!r} rows of numbers, all as long, got {short(value)}; "
                "give a list of equally long lists"
            )
        if not np.isfinite(array).all():
            row, feature = np.argwhere(~np.isfinite(array))[0].tolist()
            raise ValueError(
                f"{record.where}: expected finite numbers in column {column!r}, got {array[row, feature]} in row "
                f"{row}, feature {feature} (from 0) of this sequence; fill it in or leave the row out"
            )
        arrays.append(array)
    width = next((array.shape[1] for array in arrays if array.size), 1)
    for record, array in zip(records, arrays, strict=True):
        if array.size and array.shape[1] != width:
            raise ValueError(
                f"{record.where}: expected rows of {width} numbers in column {column!r}, as in the records before, got "
                f"{array.shape[1]}; give each row as many"
            )
    return [array if array.size else np.zeros((0, width), np.float32) for array in arrays]
