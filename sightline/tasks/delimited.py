"""Tables of text: a line with the names of the columns, then a record a line; decides what separates the columns.

Separator   The named one; else that of a first line `sep=;` (Excel); else the one of comma, semicolon, tab, pipe that
            stands in the header (in a .tsv, a tab if there is one). If several do, the one by which all rows have as
            many fields as the header. If none or several remain, the file is refused. If none stands there, there is
            one column.
Quotes      As in RFC 4180; blanks after a separator are no part of a field. With tabs, quotes are quotes only if every
            row then has the header's count of fields, and no line is lost; else they are letters.
Rows        Empty ones are skipped. A row may end in separators with nothing behind them; else it has as many fields as
            the header.
Names       The first column may lack one, as an index written by a tool: it is left out. Another is called `column 3`.
One column  Its name is no sentence, and has no sign like : or ^ inside, which may be an unknown separator.
Header      A first line that stands among the rows, too, is a record: the file is refused.
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from typing import Any, NamedTuple

from sightline.tasks.records import Record, short
from sightline.tasks.values import number_of

SEPARATORS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "pipe"}
SPELLED = {"tab": "\t", "\\t": "\t", "comma": ",", "semicolon": ";", "pipe": "|"}
OFTEN = 1000  # a cell of the first line that one in so many rows has, too, is no name
DECIDE = 2**24  # letters, so that a file of any size is read in bounded memory
MAX_FIELD = 2**31 - 1  # letters; csv's own limit of 128 KiB is shorter than a chapter
UNKNOWN_SEPARATOR = re.compile(r"\w[:^~\\*#!=<>]+\w")  # in the name of an only column
Rows = list[tuple[int, list[str]]]  # the line where each begins, and its fields


class Start(NamedTuple):
    """The first lines of a file: its name in messages, whether a line `sep=` comes first, whether more lines follow."""

    lines: list[str]
    name: str
    marked: bool
    cut: bool


def table(lines: Iterable[str], name: str, separator: str | None = None, tabs: bool = False) -> Iterator[Record]:
    """The records of a delimited file, from its lines with their ends; `tabs` says that its name is .tsv.

    The first DECIDE letters decide on separator, quotes and header; the other lines are read as they come.

    Raises: ValueError, with file and line, where the separator is open, a row has another count of fields, or there is
    no header.

    >>> [record.fields for record in table(["text; label\\n", '"so; so"; 1\\n'], "a.csv")]
    [{'text': 'so; so', 'label': '1'}]
    """
    separator, lines = checked_separator(separator), map(_hide_returns, lines)
    first, letters = [], 0
    for line in lines:
        first.append(line)
        letters += len(line)
        if letters > DECIDE:
            break
    mark = _marked_separator(first)
    start = Start(first, name, mark is not None, letters > DECIDE)
    used, quotes, rows = _rows(start, separator or mark, tabs)
    header, unnamed = _header(rows, name)
    if len(header) == 1 and separator is None and UNKNOWN_SEPARATOR.search(header[0]):
        raise ValueError(
            f"{name}:{rows[0][0]}: expected columns with a comma, semicolon, tab or pipe between them, got one column, "
            f"{short(header[0])}; say what parts the columns with --separator"
        )
    if start.cut:
        rows = _read_rows(start._replace(lines=chain(first, lines)), used, quotes)
    for line, fields in islice(rows, 1, None):
        if len(fields) > len(header) and not any(fields[len(header) :]):
            fields = fields[: len(header)]
        if len(fields) != len(header):
            advice = f"quote a field that holds a {SEPARATORS.get(used, short(used))}"
            advice = "take tabs out of the fields" if used == "\t" else advice
            raise ValueError(
                f"{name}:{line}: expected {len(header)} fields, as the header has, got {len(fields)}; {advice}, or say "
                "what parts the columns with --separator"
            )
        cells = dict(zip(header, fields, strict=True))
        if unnamed:
            cells = {key: cell for key, cell in cells.items() if key and (cell or key not in unnamed)}
        yield Record(cells, name, line)


def checked_separator(separator: str | None) -> str | None:
    """The character of a separator, which is named by itself, or as tab, comma, semicolon or pipe.

    Raises: ValueError for anything else.
    """
    if separator is None:
        return None
    character = SPELLED.get(separator, separator) if isinstance(separator, str) else ""
    if len(character) != 1 or character in '"\r\n\0\ufeff' or character.isalnum():
        raise ValueError(
            f"--separator: expected one character, such as ';', or tab, got {separator!r}; name what stands between "
            "the columns"
        )
    return character


def _hide_returns(line: str) -> str:
    """Replaces a lone \\r within a line, an error to csv, by NUL, which text never holds."""
    end = len(line) - len(line.rstrip("\r\n"))
    return line[: len(line) - end].replace("\r", "\0") + line[len(line) - end :] if "\r" in line else line


# --- the separator ----------------------------------------------------------------------------------------------------


def _marked_separator(lines: list[str]) -> str | None:
    """The separator in Excel's first line `sep=;`."""
    first = lines[0].rstrip("\r\n").strip('"') if lines else ""
    return first[4] if len(first) == 5 and first[:4].lower() == "sep=" else None


def _rows(start: Start, separator: str | None, tabs: bool) -> tuple[str, bool, Rows]:
    """The separator, whether quotes are quotes, and the rows; if lines follow, the last row is left out."""
    number, header = next(((i, line) for i, line in enumerate(start.lines, 1) if line.strip()), (0, ""))
    candidates = [separator] if separator else [c for c in SEPARATORS if _separates(header, c)]
    if tabs and "\t" in candidates:
        candidates = ["\t"]
    if len(candidates) < 2:
        (only,) = candidates or ["\t" if tabs else ","]
        return only, *_rows_by(start, only)
    consistent, others = {}, []
    for candidate in candidates:
        described = f"{SEPARATORS[candidate]} ({short(candidate)})"
        try:
            quotes, rows = _rows_by(start, candidate)
        except ValueError:
            others.append(f"{described}, which does not parse")
            continue
        odd = _odd_row(rows)
        if odd is None:
            consistent[described] = candidate, quotes, rows
        else:
            others.append(f"{described}, by which line {odd[0]} has {len(odd[1])} and not {len(rows[0][1])}")
    if len(consistent) == 1:
        return next(iter(consistent.values()))
    actual = " and ".join(consistent) or "none: " + "; ".join(others)
    raise ValueError(
        f"{start.name}:{number}: expected one separator by which all rows have as many fields as the header, got "
        f"{actual}; name it, as in --separator ';'"
    )


def _separates(header: str, separator: str) -> bool:
    try:
        return separator in header and len(next(_csv_reader([header], separator), [])) > 1
    except csv.Error:  # it stands within quotes
        return False


def _csv_reader(lines: Iterable[str], separator: str, quotes: bool = True) -> Any:
    csv.field_size_limit(max(csv.field_size_limit(), MAX_FIELD))  # of the process, so it is only raised
    style: dict[str, Any] = (
        {"strict": True, "skipinitialspace": separator != " "} if quotes else {"quoting": csv.QUOTE_NONE}
    )
    return csv.reader(lines, delimiter=separator, **style)


def _rows_by(start: Start, separator: str) -> tuple[bool, Rows]:
    """Whether quotes are quotes, and the rows by a separator."""
    if separator != "\t":
        return True, _rows_so_far(start, separator, True)
    plain = _rows_so_far(start, separator, False)
    if not any(line.lstrip(" ").startswith('"') or '\t"' in line or '\t "' in line for line in start.lines):
        return False, plain
    try:
        quoted = _rows_so_far(start, separator, True)
    except ValueError:
        return False, plain
    right = not _odd_row(quoted) and (len(quoted) == len(plain) or _odd_row(plain))
    return (True, quoted) if right else (False, plain)


def _rows_so_far(start: Start, separator: str, quotes: bool) -> Rows:
    rows: Rows = []
    try:
        rows.extend(_read_rows(start, separator, quotes))
    except ValueError as error:
        if start.cut and "unexpected end of data" in str(error):  # a field goes on behind the cut
            return rows
        raise
    return rows[:-1] if start.cut and len(rows) > 1 else rows


def _read_rows(start: Start, separator: str, quotes: bool) -> Iterator[tuple[int, list[str]]]:
    """The rows that are not empty, each with the line where it begins."""
    reader, begun = _csv_reader(islice(start.lines, int(start.marked), None), separator, quotes), False
    while True:
        number = reader.line_num + 1 + start.marked
        try:
            row = next(reader, None)
        except csv.Error as error:
            raise ValueError(
                f"{start.name}:{number}: expected a row of {SEPARATORS.get(separator, short(separator))}-separated "
                f"values, got one that does not parse ({error}); close each quote, with no blank behind, and double "
                'those inside ("")'
            ) from None
        if row is None:
            return
        if any(row) or (row and not begun):
            begun = True
            yield number, [cell.replace("\0", "\r") for cell in row] if any("\0" in cell for cell in row) else row


def _odd_row(rows: Rows) -> tuple[int, list[str]] | None:
    """The first row without the header's count of fields; empty fields at its end do not count."""
    count = len(rows[0][1]) if rows else 0
    return next((row for row in rows if len(row[1]) < count or any(row[1][count:])), None)


# --- the header -------------------------------------------------------------------------------------------------------


def _header(rows: Rows, name: str) -> tuple[list[str], set[str]]:
    """The names of the columns, and those that the file does not name; the first is "" if it has none."""
    if not rows:
        raise ValueError(f"{name}:1: expected a line with the names of the columns, got an empty file; write one")
    (line, cells), rest = rows[0], rows[1:]
    header, where = [cell.strip() for cell in cells], f"{name}:{line}"
    twice = sorted(column for column, count in Counter(header).items() if column and count > 1)
    if twice or not any(header):
        actual = f"{', '.join(map(repr, twice[:5]))} twice" if twice else "no names"
        raise ValueError(
            f"{where}: expected a header in which each column has a name of its own, got {actual}; rename the columns"
        )
    if again := [number for number, fields in rest if fields == cells]:
        raise ValueError(f"{name}:{again[0]}: expected a record, got the header of line {line} once more; take it out")
    if reason := _is_record(header, rest):
        raise ValueError(
            f"{where}: expected a line with the names of the columns, got {reason}; write one above it, such as "
            f"{'text' if len(header) == 1 else 'text,label'}, or, if these are names, rename them"
        )
    names = [column or (f"column {i + 1}" if i else "") for i, column in enumerate(header)]
    return names, set(names) - set(header) | ({""} & set(header))


def _is_record(header: list[str], rows: Rows) -> str | None:
    """Why a first line is a record: a cell that is a value of its column, a number with a fraction, a sentence."""
    if len(header) == 1 and len(header[0].split()) > 2:
        return f"the sentence {short(header[0])}"
    for i, name in enumerate(header):
        cells = [fields[i] for _, fields in rows if i < len(fields)] if name else []
        count = sum(cell.strip() == name for cell in cells)
        if count and count * OFTEN >= len(rows):
            return f"{short(name)}, which is a value of its column in {count:,} of {len(rows):,} rows, too"
        if "." in name and number_of(name) is not None and rows:
            if all(number_of(cell) is not None for cell in cells):
                return f"{short(name)}, a number above a column of numbers"
    return None
