"""What the commands print: tables in which no number is cut, and answers as lines in UTF-8."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from pathlib import Path
from typing import Any, TextIO

from sightline.files import replacing


def print_measures(parts: dict[str, dict[str, float]]) -> None:
    """Prints a row for each measure, of which there may be many, and a column for each part of the data."""
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("")
    for part in parts:
        table.add_column(escape(part), justify="right")
    for name in dict.fromkeys(name for measures in parts.values() for name in measures):
        cells = (f"{measures[name]:.4g}" if name in measures else "–" for measures in parts.values())
        table.add_row(escape(name), *cells)
    print_table(table)


def print_table(table: Any) -> Any:
    """Prints a rich table, wide enough that no number or heading is cut in two; returns the console."""
    from rich.console import Console

    console = Console(width=max(Console().width, Console(width=1000).measure(table).maximum))
    console.print(table)
    return console


def utf8(stream: TextIO) -> TextIO:
    """A stream of UTF-8, which programs read, whatever the encoding of the terminal."""
    if isinstance(stream, TextIOWrapper):
        stream.reconfigure(encoding="utf-8", errors="backslashreplace")
    return stream


@contextmanager
def answer_stream(path: Path | None) -> Iterator[TextIO]:
    """Standard output, or a file that appears once it is whole and is not left in part; a device or pipe stays one."""
    if path is None:
        yield utf8(sys.stdout)
        return
    with replacing(path, named=True) as file:
        stream = TextIOWrapper(file, "utf-8")
        yield stream
        stream.detach()  # flushed, and left open for `replacing`
