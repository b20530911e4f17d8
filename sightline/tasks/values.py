"""What a value of a column is, the same from CSV, JSON, Parquet, arrays and tables: missing, a label, a number.

Missing     None, NaN and NaT, and text of nothing but blanks. The words NA, null, None and nan are text, since they may
            be labels.
Label       A text; equal values have the same label:
                false, False, "FALSE"                            false      a boolean, in any spelling
                1, 1.0, "1", "1.0", "+1", Decimal("1.00")        1          a number without a fraction
                2.5, "2.5", Decimal("2.5")                       2.5        any other number, as it is written
                "007", "1e2", "nan", "0x1F", "1,5"               the same   codes, which are no numbers
                date, datetime, "2024-01-31T00:00:00"            2024-01-31, or 2024-01-31 10:00:00
                " café "                                         café       without blanks around it, composed (NFC)
Number      Digits with a point and an exponent. inf, nan, 1_000 and 0,5 are none.
"""

from __future__ import annotations

import datetime
import math
import re
import unicodedata
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

import numpy as np

from sightline.tabular import is_missing

NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")
WHOLE = re.compile(r"[+-]?(0|[1-9][0-9]*)(\.0+)?")
KINDS_OF_TEXT = {  # the first that matches
    "whole number": WHOLE,
    "code": re.compile(r"[+-]?0[0-9]+"),  # leading zeros mean something
    "power": re.compile(r"[0-9]+[eE][0-9]+"),  # 3e1 is 30 among fractions, and a code among codes
    "number": NUMBER,
    "comma number": re.compile(r"[+-]?[0-9]+(\.[0-9]{3})*,[0-9]+"),
}
MOMENT = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})[T ]([0-9]{2}:[0-9]{2}:[0-9]{2})(\.[0-9]+)?(Z|[+-][0-9]{2}:[0-9]{2})?"
)
MOMENTS = (datetime.date, datetime.time, datetime.timedelta, np.datetime64)
BOOLEANS = ("false", "true")
IGNORED = -100  # many programs write it for a word without a tag
WIDER = {  # a column with values of the first kind and of one of the others is of the other kind
    "whole number": {"number", "power", "code", "comma number", "text"},
    "power": {"number", "code", "text"},
    "number": {"code", "comma number", "text"},
    "code": {"text"},
    "comma number": {"text"},
    "boolean": {"text"},
    "list as text": {"text"},
    "numbers": {"words", "vectors"},
}


def is_blank(value: Any) -> bool:
    """Whether a value is missing, or a text without a letter."""
    return not value or value.isspace() if isinstance(value, str) else is_missing(value)


def is_untagged(tag: Any) -> bool:
    """Whether a word has no tag: a blank, the `_` of CoNLL-U, or the -100 of other programs."""
    return is_blank(tag) or (isinstance(tag, str) and tag.strip() == "_") or (tag == IGNORED and type(tag) is int)


def label_of(value: Any) -> str | None:
    """The label of a value; None for what is no label, or more than one.

    >>> [label_of(value) for value in (False, "TRUE", 1.0, "1.0", "007", "1e2", " good ", ["a"])]
    ['false', 'true', '1', '1', '007', '1e2', 'good', None]
    """
    if is_blank(value) or isinstance(value, (complex, bytes)):
        return None
    if isinstance(value, (bool, np.bool_)):
        return BOOLEANS[bool(value)]
    if isinstance(value, (int, np.integer)):
        return str(int(value))
    if isinstance(value, (float, np.floating)):
        return str(int(value)) if float(value).is_integer() and abs(value) < 1e16 else str(value)
    if isinstance(value, Decimal):
        value = format(value, "f")
    elif isinstance(value, MOMENTS):
        value = getattr(value, "isoformat", value.__str__)()
    return _label_of_text(value) if isinstance(value, str) else None


def _label_of_text(text: str) -> str:
    text = unicodedata.normalize("NFC", text.strip())
    if text.lower() in BOOLEANS:
        return text.lower()
    if WHOLE.fullmatch(text):
        digits = text.partition(".")[0].removeprefix("+")
        return "0" if digits == "-0" else digits
    if moment := MOMENT.fullmatch(text):
        day, time, fraction, zone = moment.groups("")
        fraction, zone = fraction.rstrip("0").rstrip("."), zone.replace("Z", "+00:00")
        return day if (time, fraction, zone) == ("00:00:00", "", "") else f"{day} {time}{fraction}{zone}"
    return text


def number_of(value: Any) -> float | None:
    """The number of a value; None if it is none. A boolean is a label.

    >>> [number_of(value) for value in (5, "2.5", " -3e2 ", "0,5", "1_000", "nan", True)]
    [5.0, 2.5, -300.0, None, None, None, None]
    """
    if isinstance(value, str):
        value = value.strip() if NUMBER.fullmatch(value.strip()) else None
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (str, int, float, Decimal, np.number)):
        return None
    try:
        number = float(value)
    except (OverflowError, TypeError, ValueError):  # more digits than a number may have, or an imaginary part
        return None
    return number if math.isfinite(number) else None


# --- what a column holds ----------------------------------------------------------------------------------------------


def column_kind(values: Iterable[Any]) -> str:
    """The common kind of all values but the missing ones; `mixed values (...)`, or `nothing` if all are missing.

    One of: vectors, words (lists of texts), numbers (lists), boolean, whole number, number, power (1e2), code (007),
    comma number (0,5), list as text, text, objects, bytes.
    """
    kinds = {kind_of(value) for value in values} - {"nothing"}
    kinds = {kind for kind in kinds if not kinds & WIDER.get(kind, set())}
    return kinds.pop() if len(kinds) == 1 else f"mixed values ({', '.join(sorted(kinds))})" if kinds else "nothing"


def kind_of(value: Any) -> str:
    """The kind of a value, as `column_kind` names it; an empty list and a missing value are `nothing`."""
    if isinstance(value, str):
        return _kind_of_text(value.strip())
    if isinstance(value, np.ndarray):
        return "vectors"
    if isinstance(value, (list, tuple)):
        return _kind_of_list(list(value))
    if is_missing(value):
        return "nothing"
    if isinstance(value, (bool, np.bool_)):
        return "boolean"
    if isinstance(value, Decimal):
        return "whole number" if value.is_finite() and value == value.to_integral_value() else "number"
    if isinstance(value, (int, np.integer, float, np.floating)):
        return "whole number" if isinstance(value, (int, np.integer)) or float(value).is_integer() else "number"
    return "text" if isinstance(value, MOMENTS) else "bytes" if isinstance(value, bytes) else "objects"


def _kind_of_text(text: str) -> str:
    if not text:
        return "nothing"
    if text[0] == "[" and text[-1] == "]":
        return "list as text"
    if text[0] not in "+-.0123456789":  # spares most texts the patterns
        return "boolean" if len(text) < 6 and text.lower() in BOOLEANS else "text"
    return next((kind for kind, pattern in KINDS_OF_TEXT.items() if pattern.fullmatch(text)), "text")


def _kind_of_list(items: list) -> str:
    if not items:
        return "nothing"
    if isinstance(items[0], (list, tuple)):
        plain = all(isinstance(item, (list, tuple)) and (not item or _is_number(item[0])) for item in items)
        return "vectors" if plain else "lists in lists"
    if all(map(_is_number, items)):
        return "numbers"
    return "words" if all(item is None or isinstance(item, (str, bool, int, float)) for item in items) else "objects"


def _is_number(item: Any) -> bool:
    return isinstance(item, (int, float)) and not isinstance(item, bool)
