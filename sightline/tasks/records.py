"""One record of a data set, with file and line: the output of all readers, the input of all tasks."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

NAMED = 20  # columns that a message names


@dataclass(frozen=True, slots=True)
class Record:
    """One row, line, object or sentence, with its file and line."""

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
                f"{self.where}: expected a column {column!r}, got the columns {named(self.fields)}; name one of these"
            )
        if self.fields[column] is None:
            raise ValueError(f"{self.where}: expected a value in column {column!r}, got none; fill it in")
        return self.fields[column]


def named(columns: Iterable[str]) -> str:
    """Columns as a message names them: the first of many."""
    columns = list(columns)
    more = f", and {len(columns) - NAMED:,} more" if len(columns) > NAMED else ""
    return ", ".join(map(str, columns[:NAMED])) + more if columns else "none"


def short(value: Any) -> str:
    """A value as a message shows it, in one line."""
    if hasattr(value, "shape"):
        return f"an array {list(value.shape)}"
    if isinstance(value, (list, str, bytes)):
        value = value[:100]  # the rest is not shown
    shown = " ".join(repr(value).split())
    return shown if len(shown) <= 60 else shown[:57] + "..."
