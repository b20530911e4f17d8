"""Tables of text: a line with the names of the columns, then a record a line; one place decides what parts the columns.

Separator   The one that is named; else that of a first line `sep=;` (Excel); else comma, semicolon, tab or pipe, whichever stands
            in the header (in a .tsv, a tab if one does). If several do, the one by which all rows have as many fields as the
            header. If that is still none or several, the file is refused. If none does, there is one column.
Quotes      As RFC 4180 has it; blanks after a separator are no part of a field. With tabs, quotes are quotes only if every row
            then has the header's count of fields, and no line is lost; else they are letters.
Rows        Empty ones are skipped. A row may end in separators with nothing behind them; else it has as many fields as the header.
Names       The first column may lack one, an index that some tool wrote: it is left out. Another is called `column 3`.
One column  Its name is no sentence, and has no sign like : or ^ inside, which may be a separator that is not known here.
Header      A first line that stands among the rows, too, is none: the file is refused, since a record would be lost.
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import chain, islice

from sightline.tasks.records import Record, short
from sightline.tasks.values import number_of

SEPARATORS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "pipe"}
SPELLED = {"tab": "\t", "\\t": "\t", "comma": ",", "semicolon": ";", "pipe": "|"}
OFTEN = 1000  # a cell of the first line that every so manyth row has, too, is no name
DECIDE = 2**24  # letters, so that a file of any size is read in bounded memory
LARGEST = 2**31 - 1  # letters of a field; csv's own limit of 128 KiB is shorter than a chapter
ANOTHER = re.compile(r"\w[:^~\\*#!=<>]+\w")  # in the name of an only column, perhaps another separator
Rows = list[tuple[int, list[str]]]  # the line where each begins, and its fields


def table(lines: Iterable[str], name: str, separator: str | None = None, tabs: bool = False) -> Iterator[Record]:
    """The records of a delimited file, given as lines with their ends; `tabs` says that its name is .tsv.

    What is decided by all rows is decided by those of the first DECIDE letters; the others are read as they come.

    Raises: ValueError, with file and line, where the separator is open, a row has another count of fields, or there is no header.

    >>> [record.fields for record in table(["text; label\\n", '"so; so"; 1\\n'], "a.csv")]
    [{'text': 'so; so', 'label': '1'}]
    """
    separator, lines = checked_separator(separator), map(_without_returns, lines)
    head, letters = [], 0
    for line in lines:
        head.append(line)
        letters += len(line)
        if letters > DECIDE:
            break
    marked = _marked(head)
    skip, cut = marked is not None, letters > DECIDE
    used, quotes, rows = _rows(head, name, separator or marked, tabs, skip, cut)
    header, unnamed = _header(rows, name)
    if len(header) == 1 and separator is None and ANOTHER.search(header[0]):
        raise ValueError(
            f"{name}:{rows[0][0]}: expected columns with a comma, semicolon, tab or pipe between them, got one column, "
            f"{short(header[0])}; say what parts the columns with --separator"
        )
    for line, fields in islice(_read(chain(head, lines), name, used, quotes, skip) if cut else rows, 1, None):
        if len(fields) > len(header) and not any(fields[len(header) :]):
            fields = fields[: len(header)]
        if len(fields) != len(header):
            advice = f"quote a field that holds a {SEPARATORS.get(used, short(used))}"
            advice = "take tabs out of the fields" if used == "\t" else advice
            raise ValueError(
                f"{name}:{line}: expected {len(header)} fields, as the header has, got {len(fields)}; {advice}, or say what parts "
                "the columns with --separator"
            )
        if unnamed:
            cells = {k: v for i, (k, v) in enumerate(zip(header, fields, strict=True)) if k and (v or i not in unnamed)}
        else:
            cells = dict(zip(header, fields, strict=True))
        yield Record(cells, name, line)


def checked_separator(separator: str | None) -> str | None:
    """The character that a separator is named by: itself, or as tab, comma, semicolon or pipe.

    Raises: ValueError where it is none.
    """
    if separator is None:
        return None
    character = SPELLED.get(separator, separator) if isinstance(separator, str) else ""
    if len(character) != 1 or character in '"\r\n\0\ufeff' or character.isalnum():
        raise ValueError(
            f"--separator: expected one character, such as ';', or tab, got {separator!r}; name what stands between the columns"
        )
    return character


def _without_returns(line: str) -> str:
    """A lone \\r within a line is a blank to us, and an error to csv: it is NUL, which text never holds, until csv is done."""
    end = len(line) - len(line.rstrip("\r\n"))
    return line[: len(line) - end].replace("\r", "\0") + line[len(line) - end :] if "\r" in line else line


# --- the separator ----------------------------------------------------------------------------------------------------


def _marked(lines: list[str]) -> str | None:
    """The separator that Excel's first line names."""
    first = lines[0].rstrip("\r\n").strip('"') if lines else ""
    return first[4] if len(first) == 5 and first[:4].lower() == "sep=" else None


def _rows(
    lines: list[str], name: str, separator: str | None, tabs: bool, skip: bool, cut: bool
) -> tuple[str, bool, Rows]:
    """The separator, whether quotes are quotes, and the rows that this gives; the last of lines that are cut short is left out."""
    first = next((line for line in lines if line.strip()), "")
    candidates = [separator] if separator else [c for c in SEPARATORS if _parts(first, c)]
    if tabs and "\t" in candidates:
        candidates = ["\t"]
    if len(candidates) < 2:
        (only,) = candidates or ["\t" if tabs else ","]
        return only, *_parsed(lines, name, only, skip, cut)
    consistent, others = {}, []
    for candidate in candidates:
        called = f"{SEPARATORS[candidate]} ({short(candidate)})"
        try:
            quotes, rows = _parsed(lines, name, candidate, skip, cut)
        except ValueError:
            others.append(f"{called}, which does not parse")
            continue
        odd = _odd_row(rows)
        if odd is None:
            consistent[candidate] = called, quotes, rows
        else:
            others.append(f"{called}, by which line {odd[0]} has {len(odd[1])} and not {len(rows[0][1])}")
    if len(consistent) == 1:
        [(candidate, (_, quotes, rows))] = consistent.items()
        return candidate, quotes, rows
    got = " and ".join(called for called, *_ in consistent.values()) or "none: " + "; ".join(others)
    number = 1 + next(i for i, line in enumerate(lines) if line.strip())
    raise ValueError(
        f"{name}:{number}: expected one separator by which all rows have as many fields as the header, got {got}; name it, as in "
        "--separator ';'"
    )


def _parts(header: str, separator: str) -> bool:
    try:
        return separator in header and len(next(_reader([header], separator), [])) > 1
    except csv.Error:  # it stands within quotes
        return False


def _reader(lines: Iterable[str], separator: str, quotes: bool = True) -> Iterator[list[str]]:
    csv.field_size_limit(max(csv.field_size_limit(), LARGEST))  # one for the process, and only ever raised here
    style = {"strict": True, "skipinitialspace": separator != " "} if quotes else {"quoting": csv.QUOTE_NONE}
    return csv.reader(lines, delimiter=separator, **style)


def _parsed(lines: list[str], name: str, separator: str, skip: bool, cut: bool) -> tuple[bool, Rows]:
    if separator != "\t":
        return True, _all(lines, name, separator, True, skip, cut)
    plain = _all(lines, name, separator, False, skip, cut)
    if not any(line.lstrip(" ").startswith('"') or '\t"' in line or '\t "' in line for line in lines):
        return False, plain
    try:
        quoted = _all(lines, name, separator, True, skip, cut)
    except ValueError:
        return False, plain
    right = not _odd_row(quoted) and (len(quoted) == len(plain) or _odd_row(plain))
    return (True, quoted) if right else (False, plain)


def _all(lines: list[str], name: str, separator: str, quotes: bool, skip: bool, cut: bool) -> Rows:
    rows: Rows = []
    try:
        rows.extend(_read(lines, name, separator, quotes, skip))
    except ValueError as error:
        if cut and "unexpected end of data" in str(error):  # a field that goes on behind the cut
            return rows
        raise
    return rows[:-1] if cut and len(rows) > 1 else rows


def _read(lines: Iterable[str], name: str, separator: str, quotes: bool, skip: bool) -> Iterator[tuple[int, list[str]]]:
    """The rows that are not empty, each with the line where it begins."""
    reader, begun = _reader(islice(lines, int(skip), None), separator, quotes), False
    while True:
        start = reader.line_num + 1 + skip
        try:
            row = next(reader, None)
        except csv.Error as error:
            raise ValueError(
                f"{name}:{start}: expected a row of {SEPARATORS.get(separator, short(separator))}-separated values, got one that "
                f'does not parse ({error}); close each quote, with no blank behind, and double those inside ("")'
            ) from None
        if row is None:
            return
        if any(row) or (row and not begun):
            begun = True
            yield start, [cell.replace("\0", "\r") for cell in row] if any("\0" in cell for cell in row) else row


def _odd_row(rows: Rows) -> tuple[int, list[str]] | None:
    """The first row that has not the header's count of fields, but for empty ones at its end."""
    count = len(rows[0][1]) if rows else 0
    return next((row for row in rows if len(row[1]) < count or any(row[1][count:])), None)


# --- the header -------------------------------------------------------------------------------------------------------


def _header(rows: Rows, name: str) -> tuple[list[str], set[int]]:
    """The names of the columns, and the numbers of those that had none; the first is left without."""
    if not rows:
        raise ValueError(f"{name}:1: expected a line with the names of the columns, got an empty file; write one")
    (line, cells), rest = rows[0], rows[1:]
    header, where = [cell.strip() for cell in cells], f"{name}:{line}"
    twice = sorted(column for column, count in Counter(header).items() if column and count > 1)
    if twice or not any(header):
        got = f"{', '.join(map(repr, twice[:5]))} twice" if twice else "no names"
        raise ValueError(
            f"{where}: expected a header in which each column has a name of its own, got {got}; rename the columns"
        )
    again = [line for line, fields in rest if fields == cells]
    if again:
        raise ValueError(
            f"{name}:{again[0]}: expected a record, got the header of line {rows[0][0]} once more; take it out"
        )
    if reason := _is_record(header, rest):
        raise ValueError(
            f"{where}: expected a line with the names of the columns, got {reason}; write one above it, such as "
            f"{'text' if len(header) == 1 else 'text,label'}, or, if these are names, rename them"
        )
    unnamed = {i for i, column in enumerate(header) if not column}
    return [column or (f"column {i + 1}" if i else "") for i, column in enumerate(header)], unnamed


def _is_record(header: list[str], rows: Rows) -> str | None:
    """Why a first line is taken for a record: a cell that is a value of its column, a number with a fraction, a sentence."""
    if len(header) == 1 and len(header[0].split()) > 2:
        return f"the sentence {short(header[0])}"
    values = {i: 0 for i, cell in enumerate(header) if cell}
    for _, fields in rows:
        for i in values:
            if i < len(fields) and fields[i].strip() == header[i]:
                values[i] += 1
    for i, count in values.items():
        if count and count * OFTEN >= len(rows):
            return f"{short(header[i])}, which is a value of its column in {count:,} of {len(rows):,} rows, too"
        if "." in header[i] and number_of(header[i]) is not None and rows:
            if all(number_of(fields[i]) is not None for _, fields in rows if i < len(fields)):
                return f"{short(header[i])}, a number above a column of numbers"
    return None
