"""Tables and lists that people pass: recognises a table, a column, a list, and refuses what is none of these.

    table     DataFrame (pandas, polars), Table, RecordBatch (Arrow), Dataset, structured array, dict of columns
    column    Series, Index, Array, ChunkedArray, numpy array; a list, a tuple, a generator
    refused   one text, bytes, a path, an open file, a set

`table_rows` reads a table, `items_of` a column: iterating a table gives the names of its columns, iterating a text its
letters. Objects of other libraries are recognised by their methods; no library is imported but Arrow, where needed.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from typing import Any

import numpy as np

SHOWN = 5  # names of columns in a message
NAMES = ("columns", "column_names")  # attributes of tables with the names of their columns
REFUSED = (  # types that are no column, what they are (None: by `describe`), what to do
    (str, "one text", "; put it in a list"),
    ((bytes, bytearray, memoryview), None, "; decode it, and put it in a list"),
    (os.PathLike, "a path", "; read the file, and give its lines as a list"),
    (io.IOBase, "an open file, whose lines keep their ends", "; give file.read().split('\\n')"),
    ((set, frozenset), None, ", which has no order; give a list"),
)


def is_table(thing: Any) -> bool:
    """Whether this is a table: rows under named columns.

    >>> is_table({"text": ["a"], "label": [1]}), is_table(["a"]), is_table(np.array(["a"]))
    (True, False, False)
    """
    kind = type(thing)
    if isinstance(thing, np.ndarray):
        return thing.dtype.names is not None
    stream = hasattr(kind, "__arrow_c_stream__") and not hasattr(kind, "dtype") and hasattr(kind, "schema")
    return isinstance(thing, Mapping) or stream or any(hasattr(kind, name) for name in NAMES)


def table_rows(table: Any, where: str) -> Iterator[dict[str, Any]]:
    """The rows of a table, or of an iterable of dicts: by column, plain Python values, None for a missing one.

    An index is not a column. Messages begin with `where`.
    Raises: TypeError for what is no table; ValueError for two columns of one name, and for columns of unequal lengths.

    >>> list(table_rows({"text": ["a", "b"], "label": np.array([1, 0])}, "fit"))
    [{'text': 'a', 'label': 1}, {'text': 'b', 'label': 0}]
    """
    if not is_table(table):
        return _dicts(items_of(table, where, "rows"), where)
    kind = type(table)
    if hasattr(kind, "collect") and hasattr(kind, "lazy"):  # a lazy table of polars
        table = table.collect()
        kind = type(table)
    if isinstance(table, Mapping):
        if any(map(is_table, table.values())):  # the splits of a data set
            names = ", ".join(map(str, table))
            raise TypeError(
                f"{where}: expected one table, got several: {names}; give one, as in data[{next(iter(table))!r}]"
            )
        return _of_columns(table, table.values(), where)
    if isinstance(table, np.ndarray):
        return _of_columns(table.dtype.names, (table[name] for name in table.dtype.names), where)
    if hasattr(kind, "iloc"):
        return _of_columns(table.columns, (table.iloc[:, i] for i in range(len(table.columns))), where)
    if hasattr(kind, "iter_rows"):
        return _dicts(table.iter_rows(named=True), where)
    if hasattr(kind, "to_batches") or hasattr(kind, "to_pylist"):
        return _of_batches(table.to_batches() if hasattr(kind, "to_batches") else [table], where)
    if hasattr(kind, "features"):  # a Dataset
        return _dicts(table, where)
    if hasattr(kind, "__arrow_c_stream__"):
        import pyarrow  # here, because few tables need it

        return _of_batches(pyarrow.RecordBatchReader.from_stream(table), where)
    raise TypeError(
        f"{where}: expected a table that can be read here, got {describe(table)}; turn it into a pandas or Arrow table "
        "first"
    )


def items_of(column: Any, where: str, what: str = "texts") -> Iterator[Any]:
    """The items of a column, a list or any other iterable: plain Python values, None for a missing one.

    Raises: TypeError for a table, one text, bytes, a path, a set, an array of more dimensions.

    >>> list(items_of(np.array(["a", "b"]), "embed"))
    ['a', 'b']
    >>> list(items_of("ab", "embed"))
    Traceback (most recent call last):
    TypeError: embed: expected an iterable of texts, got one text; put it in a list
    """
    reason = _refusal(column, what)
    if reason is None:
        try:
            return iter(_values(column))
        except TypeError:  # a number, say, or an array without a dimension
            reason = f"got {describe(column)}; put it in a list"
    raise TypeError(f"{where}: expected an iterable of {what}, {reason}")


def is_missing(value: Any) -> bool:
    """Whether there is no value: None, NaN, NaT and the like.

    >>> is_missing(None), is_missing(float("nan")), is_missing(""), is_missing(0)
    (True, True, False, False)
    """
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return True
    return isinstance(value, (float, Decimal, np.floating, np.datetime64)) and bool(value != value)


def describe(thing: Any) -> str:
    """The type of a thing, for a message, with its library and its columns.

    >>> describe([1]), describe(np.zeros(2)), describe({"text": []})
    ('a list', 'a numpy ndarray', 'a dict with the columns text')
    """
    kind = type(thing)
    library = kind.__module__.partition(".")[0]
    name = kind.__name__ if library in ("builtins", "__main__") else f"{library} {kind.__name__}"
    names = _names(thing) if is_table(thing) else []
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    columns = f" with the columns {', '.join(map(str, names[:SHOWN]))}{more}" if names else ""
    return f"a{'n' * (name[0] in 'aeio')} {name}{columns}"


def _names(table: Any) -> list[Any]:
    if isinstance(table, Mapping):
        return list(table)
    if isinstance(table, np.ndarray):
        return list(table.dtype.names)
    if hasattr(type(table), "collect_schema"):  # reads no lazy table, and does not warn
        return list(table.collect_schema())
    names = next((getattr(table, name) for name in ("column_names", "columns") if hasattr(type(table), name)), None)
    return list(names) if isinstance(names, Iterable) and not isinstance(names, (str, bytes)) else []


def _refusal(column: Any, what: str) -> str | None:
    """Why this is no column, and what to do."""
    for kinds, what_it_is, advice in REFUSED:
        if isinstance(column, kinds):
            return f"got {what_it_is or describe(column)}{advice}"
    if is_table(column):
        names = _names(column)
        name = "text" if "text" in names or not names else names[0]
        return f"got {describe(column)}; give one column of it, as in table[{name!r}]"
    if isinstance(column, np.ndarray) and column.ndim > 1 and column.dtype.kind in "OUST":
        return f"got an array {list(column.shape)}; give one column of it, as in array[:, 0]"
    return None


def _values(column: Any) -> Iterable[Any]:
    kind = type(column)
    if getattr(column, "nlevels", 1) > 1:  # an index of tuples, of pandas
        return list(column)
    if hasattr(kind, "isna") and hasattr(kind, "tolist"):  # pandas
        values = zip(column.tolist(), column.isna().tolist(), strict=True)
        return [None if missing else _plain(value) for value, missing in values]
    if isinstance(column, np.ndarray):
        return map(_plain, column.tolist()) if column.ndim == 1 else iter(column)
    if hasattr(kind, "to_list") and hasattr(kind, "dtype"):  # polars
        return column.to_list()
    if hasattr(kind, "chunks") and hasattr(kind, "to_pylist"):  # Arrow, in chunks or not
        return (value for chunk in column.chunks for value in chunk.to_pylist())
    return column.to_pylist() if hasattr(kind, "to_pylist") else column


def _plain(value: Any) -> Any:
    """A Python number or list for one of numpy; arrays of vectors stay."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray) and (value.ndim == 1 or value.dtype.kind not in "biufc"):
        return [_plain(one) for one in value.tolist()]
    return value


def _of_columns(names: Iterable[Any], columns: Iterable[Any], where: str) -> Iterator[dict[str, Any]]:
    names = _checked(names, where)
    pairs = zip(names, columns, strict=True)
    values = {name: list(items_of(column, f"{where}, column {name!r}", "values")) for name, column in pairs}
    lengths = {name: len(column) for name, column in values.items()}
    if len(set(lengths.values())) > 1:
        one, other = min(lengths, key=lengths.__getitem__), max(lengths, key=lengths.__getitem__)
        raise ValueError(
            f"{where}: expected columns of one length, got {lengths[one]} values in {one!r} and {lengths[other]} in "
            f"{other!r}; make them as long"
        )
    return (dict(zip(names, row, strict=True)) for row in zip(*values.values(), strict=True))


def _of_batches(batches: Iterable[Any], where: str) -> Iterator[dict[str, Any]]:
    for batch in batches:
        _checked(batch.schema.names, where)
        yield from batch.to_pylist()


def _dicts(rows: Iterable[Any], where: str) -> Iterator[dict[str, Any]]:
    for number, row in enumerate(rows, 1):
        if not isinstance(row, Mapping):
            raise TypeError(
                f"{where}, row {number}: expected a dict with a value for each column, got {describe(row)}; give a "
                'table, or rows as in {"text": ..., "label": ...}'
            )
        yield {name: _plain(value) for name, value in zip(_checked(list(row), where), row.values(), strict=True)}


def _checked(names: Iterable[Any], where: str) -> list[str]:
    """The names of columns as text, each different."""
    names = [str(name) for name in names]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{where}: expected columns with a name each, got two of the name {twice!r}; rename one")
    return names
