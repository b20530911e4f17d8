"""Parquet: a record a row. A file that claims far more content than its bytes can hold is not read."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from typing import Any, BinaryIO

from sightline.tasks.records import Record

ROWS, BYTES = 1_000_000, 2**30  # rows of a file, and bytes of a column, that are always allowed
PER_BYTE = 64  # rows, or bytes of a column, for each byte of a larger file


def rows(stream: BinaryIO, name: str) -> Iterator[Record]:
    """The records of a Parquet file; binary columns with UTF-8 are text.

    Raises: ValueError where it does not read, two columns have one name, or it claims too much.
    """
    import pyarrow  # here, since importing takes longer than reading most files
    import pyarrow.parquet

    number = 0
    try:
        file = pyarrow.parquet.ParquetFile(stream)
        names = file.schema_arrow.names
        twice = next((column for column, count in Counter(names).items() if count > 1), None)
        claim = _claim(file.metadata, stream)
        if twice is None and claim is None:
            for batch in file.iter_batches():
                binary = [f.name for f in batch.schema if "binary" in str(f.type)]
                for fields in batch.to_pylist():
                    for column in binary:
                        fields[column] = text_of(fields[column])
                    number += 1
                    yield Record(fields, name, number)
    except (pyarrow.ArrowException, OSError, ValueError, OverflowError, MemoryError) as error:
        reason = (str(error).split("\n")[0] or type(error).__name__).rstrip(".")
        raise ValueError(
            f"{name}: expected a Parquet file, got one that does not read ({reason}); write it anew"
        ) from None
    if twice is not None:
        raise ValueError(
            f"{name}: expected columns that each have a name of their own, got {twice!r} twice; rename one"
        )
    if claim is not None:
        raise ValueError(f"{name}: expected a Parquet file that holds what it claims, got {claim}; write it anew")


def text_of(value: Any) -> Any:
    """Bytes, also in lists, as UTF-8 text; other values, and bytes that are not UTF-8, unchanged."""
    if isinstance(value, list):
        return [text_of(item) for item in value]
    try:
        return value.decode("utf-8") if isinstance(value, bytes) else value
    except UnicodeDecodeError:
        return value


def _claim(metadata: Any, stream: BinaryIO) -> str | None:
    size = os.fstat(stream.fileno()).st_size
    if metadata.num_rows > max(ROWS, PER_BYTE * size):
        return f"{metadata.num_rows:,} rows in {size:,} bytes"
    for group in range(metadata.num_row_groups):
        for column in range(metadata.num_columns):
            bytes_ = metadata.row_group(group).column(column).total_uncompressed_size
            if bytes_ > max(BYTES, PER_BYTE * size):
                return f"a column of {bytes_:,} bytes in a file of {size:,}"
    return None
