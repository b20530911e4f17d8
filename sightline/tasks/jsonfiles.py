"""JSON Lines, an object a line; or one array of objects, which may spread over lines.

JSON that no record can be is refused with its line: half of a surrogate pair, a name twice in one object, numbers of
thousands of digits, and more than DEEPEST lists in lists.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

from sightline.files import unique_names
from sightline.tasks.records import Record

DEEPEST = 16
TOO_DEEP = f"too deep a recursion: more than {DEEPEST} lists in lists"
STRINGS = re.compile(r'"(?:[^"\\]|\\.)*"')
BRACKETS = re.compile(r"[\[\]{}]")
BLANKS = re.compile(r"[ \t\r\n]*")
DECODER = json.JSONDecoder(object_pairs_hook=unique_names)


def objects(lines: Iterable[str], name: str) -> Iterator[Record]:
    """The records of JSON Lines, as the lines come; of an array, after all lines are read.

    Raises: ValueError, with file and line, for what is no JSON object.

    >>> [record.fields for record in objects(["[\\n", '{"a": 1},\\n', '{"a": 2}]'], "a.json")]
    [{'a': 1}, {'a': 2}]
    """
    numbered = enumerate(lines, 1)
    begin = next((pair for pair in numbered if pair[1].strip()), (0, ""))
    if begin[1].lstrip().startswith("["):
        rest = ("\n" if line.isspace() else line for _, line in numbered)
        yield from _array("\n" * (begin[0] - 1) + begin[1] + "".join(rest), name)
        return
    for number, line in itertools.chain([begin], numbered):
        if not line.strip():
            continue
        value, end = _value(line, _past_blanks(line, 0), name, number)
        if line[end:].strip():
            raise _fault(name, number, f"Extra data, column {end + 1}")
        yield _record(value, name, number)


def _past_blanks(text: str, position: int) -> int:
    match = BLANKS.match(text, position)
    return match.end() if match else position


def _array(text: str, name: str) -> Iterator[Record]:
    position = text.index("[") + 1
    number = 1 + text.count("\n", 0, position)
    while True:
        start = _past_blanks(text, position)
        number += text.count("\n", position, start)
        if text.startswith("]", start):
            break
        value, end = _value(text, start, name, number)
        yield _record(value, name, number, listed=True)
        position = _past_blanks(text, end)
        number += text.count("\n", start, position)
        if text.startswith(",", position):
            position += 1
        elif not text.startswith("]", position):
            raise _fault(name, number, "expected a comma or the end of the array")
    if text[start + 1 :].strip():
        raise _fault(name, number, "Extra data after the array")


def _value(text: str, start: int, name: str, number: int) -> tuple[Any, int]:
    try:
        value, end = DECODER.raw_decode(text, start)
    except RecursionError:
        raise _fault(name, number, TOO_DEEP) from None
    except json.JSONDecodeError as error:
        raise _fault(name, number, f"{error.msg}, column {error.colno}") from None
    except ValueError as error:
        reason = "a number of thousands of digits" if "integer string" in str(error) else str(error)
        raise _fault(name, number, reason) from None
    source = text[start:end]
    if source.count("[") + source.count("{") > DEEPEST and _depth(source) > DEEPEST:
        raise _fault(name, number, TOO_DEEP)
    if "\\ud" in source.lower():  # half of a surrogate pair is JSON, but not text
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            raise _fault(name, number, f"{error.reason}: half of a surrogate pair") from None
    return value, end


def _depth(source: str) -> int:
    signs = BRACKETS.findall(STRINGS.sub("", source))
    return max(itertools.accumulate(1 if sign in "[{" else -1 for sign in signs))


def _record(value: Any, name: str, number: int, listed: bool = False) -> Record:
    if not isinstance(value, dict):
        raise ValueError(
            f"{name}:{number}: expected a JSON object on one line, got {'a list of ' * listed}{type(value).__name__}; "
            'write one {"column": value} a line, or an array of such objects'
        )
    return Record(value, name, number)


def _fault(name: str, number: int, reason: str) -> ValueError:
    return ValueError(
        f"{name}:{number}: expected a JSON object on one line, got a fault ({reason}); correct it, or give an array of "
        "objects"
    )
