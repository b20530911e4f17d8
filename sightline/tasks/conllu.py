"""Reads CoNLL-U, sentence by sentence: comments, then rows of ten fields whose words are numbered from 1."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import NamedTuple

from sightline.tasks.records import Record
from sightline.textfiles import without_end

FIELDS = ("ID", "FORM", "LEMMA", "UPOS", "XPOS", "FEATS", "HEAD", "DEPREL", "DEPS", "MISC")
NO_WORD = re.compile(r"\d+[-.]\d+")  # the ID of a multiword token (1-2) or an empty node (1.1)


class Row(NamedTuple):
    """The line of a row, whether it is a word (no multiword token or empty node), and its ten fields."""

    line: int
    is_word: bool
    id: str
    form: str
    lemma: str
    upos: str
    xpos: str
    feats: str
    head: str
    deprel: str
    deps: str
    misc: str


class Sentence(NamedTuple):
    """The comment lines before the first row, and the rows."""

    comments: list[str]
    rows: list[Row]


def sentences(lines: Iterable[str], name: str) -> Iterator[Sentence]:
    """The sentences of a file, with those that have only comments.

    Raises: ValueError with `name` and line where a row has not ten fields, or its number is not that of the next word.
    """
    comments: list[str] = []
    rows: list[Row] = []
    words = 0
    for number, line in enumerate(chain(lines, [""]), 1):
        line = without_end(line)
        if not line.strip():
            if comments or rows:
                yield Sentence(comments, rows)
            comments, rows, words = [], [], 0
        elif line.startswith("#"):
            comments += [] if rows else [line]
        else:
            row = _row(line, f"{name}:{number}", number, words + 1)
            words += row.is_word
            rows.append(row)


def _row(line: str, where: str, number: int, next_word: int) -> Row:
    fields = line.split("\t")
    if len(fields) != len(FIELDS) or "" in fields:
        what = f"{len(fields)}" if len(fields) != len(FIELDS) else f"an empty {FIELDS[fields.index('')]}"
        raise ValueError(
            f"{where}: expected {len(FIELDS)} fields parted by tabs, got {what}; write _ for what is not known"
        )
    is_word = fields[0] == str(next_word)
    if not is_word and not NO_WORD.fullmatch(fields[0]):
        raise ValueError(
            f"{where}: expected the word number {next_word}, got {fields[0]!r}; "
            "number words from 1 and end each sentence with an empty line"
        )
    return Row(number, is_word, *fields)


def records(lines: Iterable[str], name: str) -> Iterator[Record]:
    """A record for each sentence: the ten columns of its words, as lists."""
    for _, rows in sentences(lines, name):
        words = [row for row in rows if row.is_word]
        if words:
            columns = map(list, zip(*(row[2:] for row in words), strict=True))
            yield Record(dict(zip(FIELDS, columns, strict=True)), name, words[0].line)
