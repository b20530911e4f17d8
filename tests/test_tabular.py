"""What people hand over where a list is expected is taken for what it is, or refused with what to give instead."""

import io
from pathlib import Path

import numpy as np
import polars
import pyarrow
import pytest

from sightline.tabular import describe, is_missing, is_table, items_of, table_rows

pandas = pytest.importorskip("pandas")

DATA = {"id": [3, 1, 2], "text": ["c", None, "b"], "words": [["x", "y"], ["z"], []]}
ROWS = [dict(zip(DATA, row, strict=True)) for row in zip(*DATA.values(), strict=True)]


class Lent:
    """A table of a library that is not known here, lent through Arrow's protocol."""

    columns = property(lambda self: list(DATA))

    def __arrow_c_stream__(self, requested_schema=None):
        return pyarrow.table(DATA).__arrow_c_stream__(requested_schema)


class Data:
    """As `datasets.Dataset` is to be read: names of columns and features, and rows as dicts."""

    column_names, features = list(DATA), {}

    def __iter__(self):
        return iter(ROWS)


TABLES = {
    "pandas": lambda: pandas.DataFrame(DATA, index=[2, 0, 7]),
    "pandas, of Arrow": lambda: pandas.DataFrame(DATA).convert_dtypes(dtype_backend="pyarrow"),
    "pandas, as it reads Parquet": lambda: pandas.DataFrame(
        {**DATA, "words": [np.array(w, object) for w in DATA["words"]]}
    ),
    "polars": lambda: polars.DataFrame(DATA),
    "polars, lazy": lambda: polars.LazyFrame(DATA),
    "Arrow": lambda: pyarrow.table(DATA),
    "a batch": lambda: pyarrow.table(DATA).to_batches()[0],
    "batches": lambda: pyarrow.table(DATA).to_reader(1),
    "a dict": lambda: DATA,
    "a dict of columns of all kinds": lambda: {
        "id": np.array([3, 1, 2]),
        "text": pandas.Series(DATA["text"], index=[5, 6, 5]),
        "words": pyarrow.array(DATA["words"]),
    },
    "lent": Lent,
    "a data set": Data,
}


@pytest.mark.parametrize("case", TABLES)
def test_a_table_is_its_rows_and_never_its_names(case):
    table = TABLES[case]()
    assert is_table(table) and "id, text, words" in describe(table) + " id, text, words" * (case == "batches")
    if case != "batches":
        with pytest.raises(TypeError, match=r"embed: expected an iterable of texts, got .*table\['text'\]"):
            items_of(table, "embed")
    rows = list(table_rows(table, "fit"))
    assert rows == ROWS and all(type(row["id"]) is int and type(row["words"]) is list for row in rows)


def test_rows_of_other_kinds():
    assert list(table_rows(iter(ROWS), "fit")) == ROWS
    named = np.array([(1, "a"), (2, "b")], dtype=[("n", int), ("text", "U3")])
    assert list(table_rows(named, "fit")) == [{"n": 1, "text": "a"}, {"n": 2, "text": "b"}]
    assert list(table_rows(pandas.DataFrame([["a", 1]]), "fit")) == [{"0": "a", "1": 1}]
    assert list(table_rows(pandas.DataFrame({"a": []}), "fit")) == []
    vectors = np.zeros((4, 2), np.float32)
    (row,) = table_rows({"values": [vectors]}, "fit")
    assert row["values"] is vectors


BAD_TABLES = {
    "two of one name": (
        lambda: pandas.DataFrame([["a", "b"]], columns=["text", "text"]),
        ValueError,
        "two of the name 'text'",
    ),
    "Arrow, two of one name": (lambda: pyarrow.table([[1], [2]], names=["a", "a"]), ValueError, "two of the name 'a'"),
    "names that read alike": (lambda: {1: ["a"], "1": ["b"]}, ValueError, "two of the name '1'"),
    "unequal columns": (lambda: {"a": [1], "b": [1, 2]}, ValueError, "got 1 values in 'a' and 2 in 'b'"),
    "splits": (
        lambda: {"train": Data(), "test": Data()},
        TypeError,
        r"got several: train, test; give one, as in data\['train'\]",
    ),
    "one record": (
        lambda: {"text": "abc", "label": 1},
        TypeError,
        "fit, column 'text': expected an iterable of values, got one text",
    ),
    "a list of texts": (
        lambda: ["a"],
        TypeError,
        "fit, row 1: expected a dict with a value for each column, got a str",
    ),
    "a set of columns": (lambda: {"text": {"a", "b"}}, TypeError, "got a set, which has no order"),
}


@pytest.mark.parametrize("case", BAD_TABLES)
def test_what_is_no_table(case):
    make, kind, expected = BAD_TABLES[case]
    with pytest.raises(kind, match=expected):
        list(table_rows(make(), "fit"))


TEXTS = ["b", None, "a"]
COLUMNS = {
    "Series, index out of order": lambda: pandas.Series(TEXTS, index=[2, 0, 1]),
    "Series of strings": lambda: pandas.Series(TEXTS, dtype="string"),
    "Series of objects": lambda: pandas.Series(["b", float("nan"), "a"], dtype=object),
    "Series of categories": lambda: pandas.Series(TEXTS, dtype="category"),
    "Series with NA": lambda: pandas.Series(["b", pandas.NA, "a"], dtype=object),
    "Index": lambda: pandas.Index(TEXTS),
    "polars": lambda: polars.Series(TEXTS),
    "polars, categories": lambda: polars.Series(TEXTS, dtype=polars.Categorical),
    "Arrow": lambda: pyarrow.array(TEXTS),
    "Arrow, large": lambda: pyarrow.array(TEXTS, pyarrow.large_string()),
    "Arrow, dictionary": lambda: pyarrow.array(TEXTS).dictionary_encode(),
    "Arrow, in chunks": lambda: pyarrow.chunked_array([["b"], [None, "a"]]),
    "numpy, objects": lambda: np.array(TEXTS, object),
    "a tuple": lambda: tuple(TEXTS),
    "a generator": lambda: (text for text in TEXTS),
    "values of a dict": lambda: dict(enumerate(TEXTS)).values(),
}


@pytest.mark.parametrize("case", COLUMNS)
def test_a_column_is_its_values_in_their_order(case):
    column = COLUMNS[case]()
    assert not is_table(column) and list(items_of(column, "embed")) == TEXTS


def test_numpy_values_are_plain():
    assert [type(one) for one in items_of(np.array(["a"]), "embed")] == [str]
    assert [type(one) for one in items_of(np.array([1.5]), "embed")] == [float]
    assert [one.shape for one in items_of(np.zeros((2, 3)), "predict")] == [(3,), (3,)]
    assert list(items_of(pandas.MultiIndex.from_tuples([("a", 1)]), "embed")) == [("a", 1)]


NO_COLUMNS = {
    "text": (lambda: "abc", "got one text; put it in a list"),
    "bytes": (lambda: b"abc", "got a bytes; decode it"),
    "path": (lambda: Path("a.txt"), "got a path; read the file"),
    "file": (lambda: io.StringIO("a\n"), "got an open file, whose lines keep their ends"),
    "set": (lambda: {"a"}, "got a set, which has no order; give a list"),
    "frozen set": (lambda: frozenset("a"), "got a frozenset, which has no order; give a list"),
    "grid": (lambda: np.array([["a"], ["b"]]), r"got an array \[2, 1\]; give one column of it, as in array\[:, 0\]"),
    "no dimension": (lambda: np.array("a"), "got a numpy ndarray; put it in a list"),
    "number": (lambda: 3, "got an int; put it in a list"),
    "none": (lambda: None, "got a NoneType; put it in a list"),
    "other columns": (
        lambda: polars.DataFrame({"x": [1]}),
        r"got a polars DataFrame with the columns x; .*table\['x'\]",
    ),
}


@pytest.mark.parametrize("case", NO_COLUMNS)
def test_what_is_no_column(case):
    make, expected = NO_COLUMNS[case]
    with pytest.raises(TypeError, match=f"^embed: expected an iterable of texts, {expected}"):
        items_of(make(), "embed")


def test_what_is_missing():
    missing = [None, float("nan"), np.float32("nan"), pandas.NA, pandas.NaT]
    assert all(map(is_missing, missing)) and not any(map(is_missing, ["", 0, False, "nan", [], np.zeros(2)]))
