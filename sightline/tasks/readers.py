"""Turns files into records, so that nothing after this page knows about formats, and every record knows file and line.

    .csv .tsv       a header, then one record a line; .tsv knows no quotes, .csv quotes as RFC 4180 has it
    .jsonl .ndjson  one JSON object a line
    .parquet        one record a row
    .txt            one record a line, under the column `text`
    .conllu         one record a sentence: ten columns of lists; multiword tokens (1-2) and empty nodes (1.1) are left out
    .npz            one record a sequence: `values` [T, F] (or [T]) cut by `offsets` [S + 1]; each further array has a
                    row for each sequence or, failing that, for each row of values
    -               standard input, JSON Lines if its first line opens a brace, else plain text

In the formats that have no lines, a record's line is its number, from 1.
"""

from __future__ import annotations

import csv
import itertools
import json
import re
import sys
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch

from sightline.sequences import Sequences

CONLLU = ("ID", "FORM", "LEMMA", "UPOS", "XPOS", "FEATS", "HEAD", "DEPREL", "DEPS", "MISC")
SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet", ".txt", ".conllu", ".npz")


@dataclass(frozen=True, slots=True)
class Record:
    """One row, line, object or sentence, and where it stands."""

    fields: dict[str, Any]
    file: str
    line: int

    @property
    def where(self) -> str:
        return f"{self.file}:{self.line}"

    def get(self, column: str) -> Any:
        """The value in a column.

        Raises: ValueError where there is no such column, or nothing in it.
        """
        if column not in self.fields:
            raise ValueError(
                f"{self.where}: expected a column {column!r}, got the columns {', '.join(self.fields)}; name one of these"
            )
        if self.fields[column] is None:
            raise ValueError(f"{self.where}: expected a value in column {column!r}, got none; fill it in")
        return self.fields[column]


def read(source: str | Path, encoding: str = "utf-8") -> Iterator[Record]:
    """The records of a file, or of standard input (`-`), one after the other; the suffix says the format.

    Raises: ValueError with file and line at the first thing that is not as the format has it.

    >>> import tempfile, pathlib
    >>> path = pathlib.Path(tempfile.mkdtemp(), "reviews.csv")
    >>> _ = path.write_text('review,stars\\n"Good, really",5\\n')
    >>> [(record.fields, record.line) for record in read(path)]
    [({'review': 'Good, really', 'stars': '5'}, 2)]
    """
    if str(source) == "-":
        yield from _standard_input(encoding)
        return
    name, suffix = str(source), Path(source).suffix.lower()
    if suffix not in SUFFIXES:
        raise ValueError(
            f"{name}: expected a file whose name ends in one of {' '.join(SUFFIXES)}, got {suffix or 'no ending'!r}; "
            "rename or convert it"
        )
    try:
        with open(source, "rb") as stream:
            if suffix in (".parquet", ".npz"):
                yield from (_parquet if suffix == ".parquet" else _npz)(stream, name)
                return
            lines = _lines(stream, name, encoding)
            if suffix in (".csv", ".tsv"):
                yield from _table(lines, name, quoted=suffix == ".csv")
            elif suffix == ".conllu":
                yield from _conllu(lines, name)
            else:
                yield from (_plain if suffix == ".txt" else _json_lines)(lines, name)
    except OSError as error:
        raise ValueError(
            f"{name}: cannot be read ({error.strerror or error}); check path and permissions"
        ) from None


def read_text(source: str | Path, encoding: str = "utf-8") -> str:
    """A whole plain-text file as one string, line ends as they are.

    Raises: ValueError with file and line where a byte does not decode.
    """
    try:
        with open(source, "rb") as stream:
            return "".join(_lines(stream, str(source), encoding))
    except OSError as error:
        raise ValueError(
            f"{source}: cannot be read ({error.strerror or error}); check path and permissions"
        ) from None


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


# --- lines ------------------------------------------------------------------------------------------------------------


def _lines(stream: BinaryIO, name: str, encoding: str) -> Iterator[str]:
    """Decodes line by line, so that an error has a line, and a pipe is read as it comes."""
    try:
        if "\n".encode(encoding.removesuffix("-sig")) != b"\n":
            raise LookupError
    except LookupError:
        raise ValueError(
            f"{name}: expected an encoding in which a line ends as in ASCII (utf-8, latin-1, cp1252), got {encoding!r}; "
            "convert the file to UTF-8"
        ) from None
    for number, raw in enumerate(stream, 1):
        if number == 1 and encoding.lower().startswith("utf"):
            raw = raw.removeprefix(b"\xef\xbb\xbf")
        try:
            yield raw.decode(encoding)
        except UnicodeDecodeError as error:
            raise ValueError(
                f"{name}:{number}: expected {encoding.upper()}, got the byte 0x{raw[error.start]:02x}, which is not; "
                "convert the file to UTF-8, or name its encoding"
            ) from None


def _standard_input(encoding: str) -> Iterator[Record]:
    lines = _lines(sys.stdin.buffer, "standard input", encoding)
    first = next(lines, "")
    parse = _json_lines if first.lstrip().startswith("{") else _plain
    yield from parse(itertools.chain([first] if first else [], lines), "standard input")


def _plain(lines: Iterable[str], name: str) -> Iterator[Record]:
    for number, line in enumerate(lines, 1):
        yield Record({"text": line.rstrip("\r\n")}, name, number)


def _json_lines(lines: Iterable[str], name: str) -> Iterator[Record]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            fields = json.loads(line)
            if "\\ud" in line.lower():  # half of a surrogate pair is JSON, but not text
                json.dumps(fields, ensure_ascii=False).encode("utf-8")
        except (ValueError, RecursionError) as error:
            reason = (
                f"{error.msg}, column {error.colno}" if isinstance(error, json.JSONDecodeError) else error
            )
            raise ValueError(
                f"{name}:{number}: expected a JSON object on one line, got a fault ({reason}); correct it"
            ) from None
        if not isinstance(fields, dict):
            raise ValueError(
                f"{name}:{number}: expected a JSON object on one line, got a {type(fields).__name__}; "
                'write one {"column": value} a line'
            )
        yield Record(fields, name, number)


# --- tables -----------------------------------------------------------------------------------------------------------


def _table(lines: Iterable[str], name: str, quoted: bool) -> Iterator[Record]:
    # The default limit of 128 KiB is shorter than a chapter; it is one for the process, and only ever raised here.
    csv.field_size_limit(max(csv.field_size_limit(), 2**31 - 1))
    style = {"strict": True} if quoted else {"delimiter": "\t", "quoting": csv.QUOTE_NONE}
    rows = csv.reader(lines, **style)
    header: list[str] = []
    while True:
        start = rows.line_num + 1
        try:
            row = next(rows, None)
        except csv.Error as error:
            raise ValueError(
                f"{name}:{start}: expected a row of comma-separated values, got one that does not parse ({error}); "
                'close each quote, and double those inside ("")'
            ) from None
        if row is None:
            break
        if not row:
            continue
        if not header:
            header = _checked_header(row, f"{name}:{start}")
        elif len(row) != len(header):
            raise ValueError(
                f"{name}:{start}: expected {len(header)} fields, as the header has, got {len(row)}; "
                f"{'quote a field that holds a comma' if quoted else 'take tabs out of the fields'}"
            )
        else:  # a column without a name is an index written by some tool
            yield Record({k: v for k, v in zip(header, row, strict=True) if k}, name, start)
    if not header:
        raise ValueError(
            f"{name}:1: expected a line with the names of the columns, got an empty file; write one"
        )


def _checked_header(header: list[str], where: str) -> list[str]:
    names = [column.strip() for column in header]
    twice = sorted({column for column in names if column and names.count(column) > 1})
    if twice or not any(names):
        raise ValueError(
            f"{where}: expected a header in which each column has a name of its own, got "
            f"{', '.join(map(repr, twice)) + ' twice' if twice else 'no names'}; rename the columns"
        )
    return names


def _conllu(lines: Iterable[str], name: str) -> Iterator[Record]:
    words: list[list[str]] = []
    start = 0
    for number, line in enumerate(itertools.chain(lines, ["\n"]), 1):
        line = line.rstrip("\r\n")
        if not line.strip():
            if words:
                yield Record(dict(zip(CONLLU, map(list, zip(*words, strict=True)), strict=True)), name, start)
            words = []
            continue
        if line.startswith("#"):
            continue
        fields = line.split("\t")
        if len(fields) != len(CONLLU) or "" in fields:
            what = f"{len(fields)}" if len(fields) != len(CONLLU) else f"an empty {CONLLU[fields.index('')]}"
            raise ValueError(
                f"{name}:{number}: expected {len(CONLLU)} fields parted by tabs, got {what}; write _ for what is not known"
            )
        if fields[0] != str(len(words) + 1):
            if re.fullmatch(r"\d+[-.]\d+", fields[0]):
                continue
            raise ValueError(
                f"{name}:{number}: expected the word number {len(words) + 1}, got {fields[0]!r}; "
                "number words from 1 and end each sentence with an empty line"
            )
        start = start if words else number
        words.append(fields)


# --- files without lines ----------------------------------------------------------------------------------------------


def _parquet(stream: BinaryIO, name: str) -> Iterator[Record]:
    import pyarrow  # here, because it takes longer to import than most files take to read
    import pyarrow.parquet

    number = 0
    try:
        for batch in pyarrow.parquet.ParquetFile(stream).iter_batches():
            for fields in batch.to_pylist():
                number += 1
                yield Record(fields, name, number)
    except (pyarrow.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"{name}: expected a Parquet file, got one that does not read ({reason}); write it anew"
        ) from None


def _npz(stream: BinaryIO, name: str) -> Iterator[Record]:
    try:
        with np.load(stream, allow_pickle=False) as archive:
            arrays = {key: archive[key] for key in archive.files}
    except (ValueError, AttributeError, EOFError, OSError, zipfile.BadZipFile) as error:
        reason = str(error).split(". ")[0]
        raise ValueError(
            f"{name}: expected an .npz of plain arrays, got one that does not read ({reason}); save it with numpy.savez"
        ) from None
    if not {"values", "offsets"} <= arrays.keys() or arrays["values"].ndim not in (1, 2):
        shapes = ", ".join(f"{key} {list(array.shape)}" for key, array in arrays.items()) or "nothing"
        raise ValueError(
            f"{name}: expected the arrays values [T, F] and offsets [S + 1], got {shapes}; pack the sequences so"
        )
    values, offsets = arrays.pop("values"), arrays.pop("offsets")
    values = values[:, None] if values.ndim == 1 else values
    try:
        bounds = Sequences(torch.empty(len(values)), torch.from_numpy(offsets)).offsets.tolist()
    except (ValueError, TypeError) as error:
        raise ValueError(f"{name}: {error}") from None
    for key, array in arrays.items():
        if array.ndim == 0 or len(array) not in (len(bounds) - 1, len(values)):
            raise ValueError(
                f"{name}: expected {key} to have a row for each of {len(bounds) - 1} sequences or {len(values)} rows, "
                f"got {list(array.shape)}; make it as long"
            )
    for number, (start, stop) in enumerate(itertools.pairwise(bounds)):
        fields = {"values": values[start:stop]}
        for key, array in arrays.items():
            fields[key] = (array[number] if len(array) == len(bounds) - 1 else array[start:stop]).tolist()
        yield Record(fields, name, number + 1)


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
    return (
        None if number is None or number < 0 else names[number]
    )  # negative is the hub's way to withhold an answer
