"""Turns files into records, so that nothing after this page knows about formats, and every record knows file and line.

    .csv .tsv                a header, then a record a line; what parts the columns is told by `delimited.py`
    .jsonl .ndjson .json     an object a line, or one array of objects (`jsonfiles.py`)
    .parquet                 a record a row (`parquet.py`)
    .txt                     a record a line, under the column `text`
    .conllu                  a record a sentence: ten columns of lists (`conllu.py`)
    .npz                     a record a sequence: `values` [T, F] (or [T]) cut by `offsets` [S + 1]; each further array has a
                             row for each sequence or, failing that, for each row of values (`arrays.py`)
    -                        standard input: JSON if its first line opens an object or an array of them, else plain text

Text is read by `textfiles.py`: UTF-8, unless an encoding is named or the file bears a mark. In the formats that have no lines, a
record's line is its number, from 1.
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from sightline.tabular import table_rows
from sightline.tasks import arrays, conllu, delimited, jsonfiles, parquet
from sightline.tasks.records import Record
from sightline.textfiles import decode_lines, open_source, printable_path, read_text, without_end

__all__ = ["SUFFIXES", "TABLE", "Record", "hub", "memory_tables", "read_records", "read_text", "source_name"]

TABLES, JSON = (".csv", ".tsv"), (".jsonl", ".ndjson", ".json")
TABLE = "table"  # what a table in memory is called
SUFFIXES = (*TABLES, *JSON, ".parquet", ".txt", ".conllu", ".npz")
SHEETS = (".xlsx", ".xls", ".xlsm", ".ods")
ARCHIVES = (".gz", ".bz2", ".xz", ".zst", ".zip", ".7z", ".tar", ".tgz")
OPENS = re.compile(r"\s*(\{|\[\s*(\{|$))")  # what JSON on standard input begins with


def read_records(source: Any, encoding: str | None = None, separator: str | None = None) -> Iterator[Record]:
    """The records of a file, or of standard input (`-`), one after the other; the suffix says the format.

    `encoding` is that of text (UTF-8 if None), `separator` what parts the columns of a .csv or .tsv (told by the file if None).
    Raises: ValueError with file and line at the first thing that is not as the format has it.

    >>> import tempfile, pathlib
    >>> path = pathlib.Path(tempfile.mkdtemp(), "reviews.csv")
    >>> _ = path.write_text('review,stars\\n"Good, really",5\\n')
    >>> [(record.fields, record.line) for record in read(path)]
    [({'review': 'Good, really', 'stars': '5'}, 2)]
    """
    if not isinstance(source, (str, os.PathLike)):
        yield from _in_memory(source)
        return
    suffix = "" if str(source) == "-" else Path(source).suffix.lower()
    if suffix not in SUFFIXES and str(source) != "-" and not Path(source).is_dir():
        advice = "unpack it first" if suffix in ARCHIVES else "rename or convert it"
        advice = "save the table as .csv" if suffix in SHEETS else advice
        raise ValueError(
            f"{printable_path(source)}: expected a file whose name ends in one of {' '.join(SUFFIXES)}, got {printable_path(suffix) or 'no ending'!r}; "
            f"{advice}"
        )
    with open_source(source) as (stream, name):
        if suffix in (".parquet", ".npz"):
            yield from (parquet.rows if suffix == ".parquet" else arrays.sequences)(stream, name)
            return
        lines = decode_lines(stream, name, encoding)
        if suffix in TABLES:
            yield from delimited.table(lines, name, separator, tabs=suffix == ".tsv")
        elif suffix == ".conllu":
            yield from conllu.records(lines, name)
        elif suffix in JSON:
            yield from jsonfiles.objects(lines, name)
        elif suffix == ".txt":
            yield from _plain(lines, name)
        else:
            first = next(lines, "")
            parse = jsonfiles.objects if OPENS.match(first) else _plain
            yield from parse(itertools.chain([first] if first else [], lines), name)


def source_name(data: Any) -> str:
    """The name of data: the path of a file, or "table" for a table in memory."""
    return str(data) if isinstance(data, (str, os.PathLike)) else TABLE


def memory_tables(sources: dict[str, Any]) -> dict[str, Any]:
    """Those of data, valid and test that are tables in memory, of which a configuration holds no more than that."""
    names = sources.keys() & {"data", "valid", "test"}
    return {name: sources[name] for name in names if not isinstance(sources[name], (str, os.PathLike))}


def hub(name: str) -> dict[str, Iterator[Record]]:
    """The splits of a dataset on the Hugging Face hub (`name` or `name:configuration`); class numbers become class names.

    Raises: ValueError where `datasets` is not installed or does not find it.
    """
    try:
        from datasets import load_dataset  # an optional dependency
    except ImportError:
        raise ValueError(
            f"{name}: expected a file, a folder or, with `datasets` installed, the name of a dataset on the hub; "
            "got no such file; check the path or install sightline[hub]"
        ) from None
    try:
        splits = load_dataset(*name.split(":", 1))
    except Exception as error:  # datasets raises many kinds, its own and those of the network
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(
            f"{name}: expected a file, a folder or a dataset on the hub, got: {reason}; check the name"
        ) from None
    return {split: _hub_rows(rows, f"{name}[{split}]") for split, rows in splits.items()}


def _in_memory(table: Any) -> Iterator[Record]:
    """The records of a table in memory, or of dicts, as of a Parquet file that holds it."""
    if hasattr(type(table), "features"):  # a Dataset, which knows the names of classes
        yield from _hub_rows(table, TABLE)
        return
    for number, fields in enumerate(table_rows(table, TABLE), 1):
        yield Record({name: parquet.text_of(value) for name, value in fields.items()}, TABLE, number)


# --- text -------------------------------------------------------------------------------------------------------------


def _plain(lines: Iterable[str], name: str) -> Iterator[Record]:
    for number, line in enumerate(lines, 1):
        yield Record({"text": without_end(line)}, name, number)


# --- the hub ----------------------------------------------------------------------------------------------------------


def _hub_rows(rows: Iterable[dict], name: str) -> Iterator[Record]:
    classes = {}  # column -> names, for one class a row or a list of them
    for column, feature in getattr(rows, "features", {}).items():
        names = getattr(feature, "names", None) or getattr(getattr(feature, "feature", None), "names", None)
        if names:
            classes[column] = names
    for number, row in enumerate(rows, 1):
        fields = dict(row)
        for column, names in classes.items():
            value = fields[column]
            if isinstance(value, list):
                fields[column] = [_class_name(i, names) for i in value]
            else:
                fields[column] = _class_name(value, names)
        yield Record(fields, name, number)


def _class_name(number: int | None, names: list[str]) -> str | None:
    return None if number is None or number < 0 else names[number]  # negative is the hub's way to withhold an answer
