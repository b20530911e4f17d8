"""What a value is, whatever the format: one label for one value, what is missing, what is a number."""

import datetime
import decimal
import json
import math

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from sightline.tasks import load, load_test
from sightline.tasks.values import column_kind, is_blank, is_untagged, label_of, number_of

TEXTS = [f"{'good' if i % 2 else 'bad'} thing {i} of many others that were there before" for i in range(40)]


@pytest.mark.parametrize(
    "label, spellings",
    [
        ("false", [False, "False", "FALSE", " false ", np.bool_(False)]),
        ("1", [1, 1.0, "1", "1.0", "1.000", "+1", np.int8(1), np.float32(1), decimal.Decimal("1.00")]),
        ("0", [0, 0.0, -0.0, "0", "-0.0", "0.0"]),
        ("-3", [-3, -3.0, "-3", "-3.0"]),
        ("2.5", [2.5, "2.5", decimal.Decimal("2.5"), np.float64(2.5)]),
        ("1.10", ["1.10", decimal.Decimal("1.10")]),
        ("10000000000000000000000", [10**22, "10000000000000000000000"]),
        ("007", ["007"]),
        ("1e2", ["1e2"]),
        ("nan", ["nan"]),
        ("NA", ["NA"]),
        ("null", ["null"]),
        ("1_000", ["1_000"]),
        ("0,5", ["0,5"]),
        ("café", ["café", "cafe\u0301", " caf\u00e9\u00a0"]),
        (
            "2024-01-31",
            [
                datetime.date(2024, 1, 31),
                datetime.datetime(2024, 1, 31),
                "2024-01-31T00:00:00",
                "2024-01-31 00:00:00.000",
            ],
        ),
        ("2024-01-31 10:30:00", [datetime.datetime(2024, 1, 31, 10, 30), "2024-01-31T10:30:00.000"]),
        (
            "2024-01-31 10:30:00+00:00",
            ["2024-01-31T10:30:00Z", datetime.datetime(2024, 1, 31, 10, 30, tzinfo=datetime.UTC)],
        ),
        (None, [None, "", "  ", math.nan, np.float32("nan"), np.datetime64("NaT"), ["a"], {"a": 1}, 1j, b"\xff"]),
    ],
)
def test_a_value_has_one_label(label, spellings):
    assert [label_of(value) for value in spellings] == [label] * len(spellings)


def test_missing_is_what_is_not_there():
    assert all(map(is_blank, (None, "", " \u00a0", math.nan, decimal.Decimal("nan"), np.datetime64("NaT"))))
    assert not any(map(is_blank, (0, False, "0", "nan", "NA", "null", "None", "-", [], {}, math.inf, np.zeros(2))))
    assert all(map(is_untagged, ("_", " _ ", None, "", math.nan, -100)))
    assert not any(map(is_untagged, ("-", "__", 0, -1, "-100", "O")))


def test_numbers_are_what_people_write():
    good = {
        5: 5,
        "5": 5,
        " -2.50 ": -2.5,
        "+.5": 0.5,
        "1e-05": 1e-5,
        "-3E2": -300,
        decimal.Decimal("0.25"): 0.25,
        np.int64(3): 3,
    }
    assert {value: number_of(value) for value in good} == good
    none = [
        "nan",
        "inf",
        "-Infinity",
        "1_000",
        "0,5",
        "1,000.5",
        "0x1F",
        "٣",
        "",
        "5 €",
        True,
        None,
        math.inf,
        10**400,
        1j,
        [1],
    ]
    assert [number_of(value) for value in none] == [None] * len(none)


@pytest.mark.parametrize(
    "kind, values",
    [
        ("whole number", [1, "2", 3.0, "4.0", "-5", None, ""]),
        ("number", [1, "2.5", "1e-05", 0.25]),
        ("number", ["3e1", "0.5"]),
        ("power", ["3e1", "1e2"]),
        ("power", ["3e1", "120"]),
        ("code", ["007", "12"]),
        ("boolean", [True, "FALSE", "true"]),
        ("text", ["nan", "1"]),
        ("text", ["inf", "nan"]),
        ("text", [datetime.date(2024, 1, 31)]),
        ("comma number", ["0,5", "1.000,5", "3"]),
        ("list as text", ["[0, 1]", "[]"]),
        ("words", [["a", None], [], ["b"]]),
        ("numbers", [[1, 2.5]]),
        ("vectors", [[[1, 2]], []]),
        ("lists in lists", [[["a"]]]),
        ("objects", [{"a": 1}]),
        ("bytes", [b"\xff"]),
        ("nothing", [None, "", [], math.nan]),
        ("mixed values (boolean, whole number)", [True, 1]),
    ],
)
def test_what_a_column_holds(kind, values):
    assert column_kind(values) == column_kind(reversed(values)) == kind


# --- one label from every format --------------------------------------------------------------------------------------


def as_csv(path, values):
    path.with_suffix(".csv").write_text("text,y\n" + "".join(f"{t},{v}\n" for t, v in zip(TEXTS, values, strict=True)))
    return path.with_suffix(".csv")


def as_json(path, values):
    rows = (json.dumps({"text": t, "y": v}) + "\n" for t, v in zip(TEXTS, values, strict=True))
    path.with_suffix(".jsonl").write_text("".join(rows))
    return path.with_suffix(".jsonl")


def as_parquet(path, values):
    pa.parquet.write_table(pa.table({"text": TEXTS, "y": values}), path.with_suffix(".parquet"))
    return path.with_suffix(".parquet")


BOOLS, INTS = [False, True] * 20, [0, 1] * 20
DATES = [datetime.date(2024, 1, 1), datetime.date(2024, 2, 1)] * 20
SAME = {
    "booleans": (
        ("false", "true"),
        [
            (as_csv, BOOLS),
            (as_csv, [str(b).upper() for b in BOOLS]),
            (as_csv, [str(b).lower() for b in BOOLS]),
            (as_json, BOOLS),
            (as_json, [str(b) for b in BOOLS]),
            (as_parquet, BOOLS),
            (as_parquet, pa.array([str(b) for b in BOOLS]).dictionary_encode()),
        ],
    ),
    "numbers": (
        ("0", "1"),
        [
            (as_csv, INTS),
            (as_csv, ["0.0", "1.0"] * 20),
            (as_json, INTS),
            (as_json, [0, 1.0, 0.0, 1] * 10),
            (as_json, ["0", 1] * 20),
            (as_parquet, INTS),
            (as_parquet, pa.array(INTS, pa.float32())),
            (as_parquet, [decimal.Decimal(i).quantize(decimal.Decimal("0.01")) for i in INTS]),
            (as_parquet, pa.array([b"0", b"1"] * 20)),
        ],
    ),
    "dates": (
        ("2024-01-01", "2024-02-01"),
        [
            (as_csv, DATES),
            (as_csv, [f"{d} 00:00:00" for d in DATES]),
            (as_json, [f"{d}T00:00:00.000" for d in DATES]),
            (as_parquet, DATES),
            (as_parquet, pa.array([datetime.datetime(d.year, d.month, 1) for d in DATES])),
        ],
    ),
}


@pytest.mark.parametrize("what", SAME)
def test_fit_on_one_format_and_evaluate_on_another(tmp_path, what):
    labels, files = SAME[what]
    paths = [write(tmp_path / f"f{i}", values) for i, (write, values) in enumerate(files)]
    for path in paths:
        assert load(path).task.labels == labels
    data = load(paths[0])
    right = load_test(paths[0], data.task, data.tokenizer).targets.tolist()
    assert sorted(set(right)) == [0, 1]
    for path in paths:
        assert load_test(path, data.task, data.tokenizer).targets.tolist() == right


def test_true_is_not_one(tmp_path):
    for path in (as_json(tmp_path / "a", [True, 1, False, 0] * 10), as_csv(tmp_path / "b", ["True", "0"] * 20)):
        with pytest.raises(ValueError, match=r"in column 'y', got mixed values \(boolean, whole number\)"):
            load(path)
        with pytest.raises(ValueError, match="expected one way to write a label in column 'y', got "):
            load(as_json(tmp_path / "c", [True, 1] * 20), task="classify")
    data = load(as_csv(tmp_path / "d", BOOLS))
    with pytest.raises(ValueError, match=r"e\.csv:2: .* one of the 2 labels seen in training \(false, true\), got '0'"):
        load_test(as_csv(tmp_path / "e", INTS), data.task, data.tokenizer)


@pytest.mark.parametrize(
    "write, hole",
    [(as_csv, ""), (as_csv, " "), (as_json, None), (as_json, math.nan), (as_json, ""), (as_parquet, None)],
)
def test_a_missing_label_is_left_out_of_training_and_refused_in_a_test(tmp_path, write, hole):
    values = [hole if i % 10 == 3 else "ab"[i % 2] for i in range(40)]
    path = write(tmp_path / "a", values)
    data = load(path)
    assert data.task.labels == ("a", "b") and len(data.train) + len(data.valid) + len(data.test) == 36
    line = 5 if write is as_csv else 4
    assert f"data: 40 records of {path.name}: " in data.chosen
    assert f"; 4 without a label left out, the first {path.name}:{line}; " in data.chosen
    with pytest.raises(
        ValueError, match=rf":{line}: expected a label in column 'y', got none, as in 4 of 40 records; fill them in"
    ):
        load_test(path, data.task, data.tokenizer)
    training = write(tmp_path / "b", ["ab"[i % 2] for i in range(40)])
    parts = load(training, valid=path, test=path)
    assert (len(parts.train), len(parts.valid), len(parts.test)) == (40, 36, 36)
    with pytest.raises(ValueError, match="got only 'text', with nothing in y; add one"):
        load(write(tmp_path / "c", pa.array([None] * 40, pa.string()) if write is as_parquet else [hole] * 40))
