"""Reads files, standard input and tables in memory as records, each with file and line; later steps know no formats.

    .csv .tsv                a header, then a record a line (`delimited.py`)
    .jsonl .ndjson .json     an object a line, or one array of objects (`jsonfiles.py`)
    .parquet                 a record a row (`parquet.py`)
    .txt                     a record a line, under the column `text`
    .conllu                  a record a sentence: ten columns of lists (`conllu.py`)
    .npz                     a record a sequence of vectors, with its labels (`arrays.py`)
    -                        standard input: JSON if its first line opens an object or an array of them, else plain text

Text is read by `textfiles.py`: UTF-8, unless an encoding is named or the file has a byte-order mark. In formats without
lines, the line of a record is its number, from 1.
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

TABLE = "table"  # the name of a table in memory
OPENS_JSON = re.compile(r"\s*(\{|\[\s*(\{|$))")


def _plain_text(lines: Iterable[str], name: str) -> Iterator[Record]:
    for number, line in enumerate(lines, 1):
        yield Record({"text": without_end(line)}, name, number)


def _piped(lines: Iterator[str], name: str) -> Iterator[Record]:
    first = list(itertools.islice(lines, 1))
    is_json = first and OPENS_JSON.match(first[0])
    return (jsonfiles.objects if is_json else _plain_text)(itertools.chain(first, lines), name)


BINARY = {".parquet": parquet.rows, ".npz": arrays.sequences}  # (stream, name) -> records
JSON = dict.fromkeys((".jsonl", ".ndjson", ".json"), jsonfiles.objects)
TEXT = {".csv": delimited.table, ".tsv": delimited.table} | JSON  # (lines, name) -> records
TEXT |= {".txt": _plain_text, ".conllu": conllu.records, "-": _piped}
SUFFIXES = (".csv", ".tsv", *JSON, ".parquet", ".txt", ".conllu", ".npz")
ADVICE: dict[str, str] = dict.fromkeys((".gz", ".bz2", ".xz", ".zst", ".zip", ".7z", ".tar", ".tgz"), "unpack it first")
ADVICE |= dict.fromkeys((".xlsx", ".xls", ".xlsm", ".ods"), "save the table as .csv")


def read_records(source: Any, encoding: str | None = None, separator: str | None = None) -> Iterator[Record]:
    """The records of a file, of standard input (`-`) or of a table in memory; the suffix says the format.

    `encoding` is that of text (None: UTF-8), `separator` that of a .csv or .tsv (None: the file decides).

    Raises: ValueError with file and line at the first fault.

    >>> import tempfile, pathlib
    >>> path = pathlib.Path(tempfile.mkdtemp(), "reviews.csv")
    >>> _ = path.write_text('review,stars\\n"Good, really",5\\n')
    >>> [(record.fields, record.line) for record in read_records(path)]
    [({'review': 'Good, really', 'stars': '5'}, 2)]
    """
    if not isinstance(source, (str, os.PathLike)):
        yield from _table_records(source)
        return
    suffix = "-" if str(source) == "-" else Path(source).suffix.lower()
    if suffix not in (*SUFFIXES, "-") and not Path(source).is_dir():
        raise ValueError(
            f"{printable_path(source)}: expected a file whose name ends in one of {' '.join(SUFFIXES)}, got "
            f"{printable_path(suffix) or 'no ending'!r}; {ADVICE.get(suffix, 'rename or convert it')}"
        )
    with open_source(source) as (stream, name):
        if suffix in BINARY:
            yield from BINARY[suffix](stream, name)
        else:
            options = {"separator": separator, "tabs": suffix == ".tsv"} if suffix in (".csv", ".tsv") else {}
            yield from TEXT[suffix](decode_lines(stream, name, encoding), name, **options)


def source_name(data: Any) -> str:
    """The path of a file, or "table" for a table in memory."""
    return str(data) if isinstance(data, (str, os.PathLike)) else TABLE


def memory_tables(sources: dict[str, Any]) -> dict[str, Any]:
    """Those of data, valid and test that are tables in memory."""
    names = sources.keys() & {"data", "valid", "test"}
    return {name: sources[name] for name in names if not isinstance(sources[name], (str, os.PathLike))}


def _table_records(table: Any) -> Iterator[Record]:
    """As `parquet.rows` of a file with this table."""
    if hasattr(type(table), "features"):  # a Dataset, which knows the names of classes
        yield from _hub_rows(table, TABLE)
        return
    for number, fields in enumerate(table_rows(table, TABLE), 1):
        yield Record({name: parquet.text_of(value) for name, value in fields.items()}, TABLE, number)


# --- the hub ----------------------------------------------------------------------------------------------------------


def hub(name: str) -> dict[str, Iterator[Record]]:
    """The splits of a dataset on the Hugging Face hub (`name` or `name:configuration`); class numbers become names.

    Raises: ValueError where `datasets` is not installed or does not find it.
    """
    expected = f"{name}: expected a file, a folder or"
    try:
        from datasets import load_dataset  # pyright: ignore[reportMissingImports]  # an optional dependency
    except ImportError:
        raise ValueError(
            f"{expected}, with `datasets` installed, the name of a dataset on the hub; got no such file; check the "
            "path or install sightline[hub]"
        ) from None
    try:
        splits = load_dataset(*name.split(":", 1))
    except Exception as error:  # datasets raises many kinds, its own and those of the network
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"{expected} a dataset on the hub, got: {reason}; check the name") from None
    return {split: _hub_rows(rows, f"{name}[{split}]") for split, rows in splits.items()}


def _hub_rows(rows: Iterable[dict], name: str) -> Iterator[Record]:
    classes = {}  # by column: the names, for one class a row or a list of them
    for column, feature in getattr(rows, "features", {}).items():
        names = getattr(feature, "names", None) or getattr(getattr(feature, "feature", None), "names", None)
        if names:
            classes[column] = names
    for number, row in enumerate(rows, 1):
        fields = dict(row)
        for column, names in classes.items():
            value = fields[column]
            listed = [_class_name(i, names) for i in (value if isinstance(value, list) else [value])]
            fields[column] = listed if isinstance(value, list) else listed[0]
        yield Record(fields, name, number)


def _class_name(number: int | None, names: list[str]) -> str | None:
    return None if number is None or number < 0 else names[number]  # the hub withholds an answer by a negative number
