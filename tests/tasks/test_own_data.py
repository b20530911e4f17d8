"""Files as people bring them: the task by all records, what is no label, and what would cost memory or crash."""

import io
import json
import tracemalloc
import zipfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
import torch

from sightline.tasks import Classify, Record, Tag, Tokenizer, arrays, encode, load, questions, read_records

TEXTS = [f"{'good' if i % 2 else 'bad'} thing {i} of many" for i in range(40)]  # of five words


def csv_of(tmp_path, values, name="a.csv"):
    (tmp_path / name).write_text("text,y\n" + "".join(f'{t},"{v}"\n' for t, v in zip(TEXTS, values, strict=True)))
    return tmp_path / name


def json_of(tmp_path, values):
    rows = [{"text": t, "y": v} if v != "absent" else {"text": t} for t, v in zip(TEXTS, values, strict=True)]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path / "a.jsonl"


# --- the task ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "values, line",
    [
        (["inf", "nan"] * 20, "classify, since column 'y' has 2 values"),
        (["3e1", "1e2"] * 20, "classify, since column 'y' has 2 values"),
        (["3e1", "120", "077", "12e4"] * 10, "classify, since column 'y' has 4 values"),
        (
            ["0.0", "1.0"] * 20,
            "classify, since column 'y' has 2 different whole numbers; --task regress takes them as quantities",
        ),
        ([i % 5 for i in range(40)], "classify, since column 'y' has 5 different whole numbers; --task regress"),
        (
            [i % 20 + (i % 20 > 9) for i in range(40)],
            "classify, since column 'y' has 20 different whole numbers; --task regress",
        ),
        (
            list(range(40)),
            "regress, since column 'y' has 40 different whole numbers; --task classify takes them as labels",
        ),
        (
            [1990 + i % 21 for i in range(40)],
            "regress, since column 'y' has 21 different whole numbers; --task classify",
        ),
        (
            [i / 2 for i in range(40)],
            "regress, since column 'y' has 40 different numbers; --task classify takes them as labels",
        ),
        ([f"{i}e-05" for i in range(40)], "regress, since column 'y' has 40 different numbers"),
        (["True", "FALSE"] * 20, "classify, since column 'y' has true and false; --label names another column"),
        (
            ["O O X O O", "X O O O X"] * 20,
            "tag, since column 'y' has a tag for each word; --label names another column",
        ),
    ],
)
def test_the_task_is_chosen_and_said(tmp_path, values, line):
    first, second = load(csv_of(tmp_path, values)).chosen.split("\n")
    assert first.startswith("data: 40 records of a.csv: text 'text', label 'y'")
    assert first.endswith("; 32 train, 4 valid, 4 test; --text and --label name other columns")
    assert second.startswith(f"task: {line}")


def test_numbered_classes_that_repeat_are_labels(tmp_path):
    rows = "".join(f"item {i} wants thing {i % 40},{i % 40}\n" for i in range(120))
    (tmp_path / "intents.csv").write_text("text,intent\n" + rows)
    data = load(tmp_path / "intents.csv")
    assert len(data.task.labels) == 40 and "has 40 different whole numbers without gaps; --task regress" in data.chosen
    assert load(tmp_path / "intents.csv", task="regress").chosen.endswith("task: regress, as --task says")


def test_all_records_decide_and_not_the_first(tmp_path):
    data = load(json_of(tmp_path, ["absent", *["ab"[i % 2] for i in range(39)]]))
    assert (
        data.task == Classify("text", "y", ("a", "b"))
        and "; 1 without a label left out, the first a.jsonl:1;" in data.chosen
    )
    data = load(json_of(tmp_path, [*["1"] * 20, *["b"] * 20]))
    assert data.task.labels == ("1", "b")
    (tmp_path / "b.jsonl").write_text(
        "".join(json.dumps({"text": t}) + "\n" for t in TEXTS) + '{"text": "x", "y": 1}\n'
    )
    with pytest.raises(ValueError, match="got one; give a file to validate on"):  # one text has a label
        load(tmp_path / "b.jsonl")


def test_a_table_is_language_only_if_the_task_says_so(tmp_path):
    (tmp_path / "a.csv").write_text("body\n" + "".join(f"{t}\n" for t in TEXTS))
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"body": t}) + "\n" for t in TEXTS))
    for name in ("a.csv", "a.jsonl"):
        with pytest.raises(ValueError, match="got only 'body'; add one, .*--task language to learn the text itself"):
            load(tmp_path / name)
        assert load(tmp_path / name, task="language").chosen.endswith("task: language, as --task says")


@pytest.mark.parametrize(
    "values, message",
    [
        (
            [["a"], ["a", "b"]],
            r"a\.jsonl:1: expected one label in column 'y', got a list of them, such as \['a', 'b'\]; several labels",
        ),
        ([["a"], ["b"]], r"got a list of them, such as \['a'\]; several labels"),
        ([[0, 1, 1], [1, 1, 0]], r"got a list of them, such as \[0, 1, 1\]; several labels"),
        ([[0, 1], [1, 0]], r"got a row with one 1, such as \[0, 1\]; give the number of the class, its argmax"),
        (["[0, 1, 1]", "[1, 1, 0]"], r"got a list of them, such as \[0, 1, 1\]; several labels"),
        (["['a', 'b']", "['b']"], r"got a list of them, such as \['a', 'b'\]; several labels"),
        (
            ["['O', 'X', 'O', 'O', 'O']", "['O', 'O', 'O', 'O', 'O']"],
            "got lists as text, .*give tags with blanks between, or lists in JSON Lines",
        ),
        (["[1.5, 2]", "[2.5, 3]"], "got lists as text, .*; give lists of numbers in JSON Lines"),
        (["[so]", "[no x, y]"], "got text in brackets|several labels"),
        (
            ["a|b", "b", "a", "b|c", "c"] * 8,
            r"got several in one, such as 'a\|b'; .* --task classify to take each as one label",
        ),
        (["a, b", "b", "a", "a"], "got several in one, such as 'a, b'"),
        (["0,5", "1,5"], "got numbers with a decimal comma, such as '0,5'; write them with a point"),
        ([*[i / 7 for i in range(39)], "n/a"], "got numbers but for 1, the first 'n/a' in line 40; correct them"),
        ([{"a": 1}], r"got objects, 1 different in 40 records"),
        ([[["a"]]], "got lists in lists"),
        ([1, "a", ["b"]], r"got mixed values \(text, words\)"),
    ],
)
def test_what_is_no_label_is_explained(tmp_path, values, message):
    with pytest.raises(ValueError, match=message):
        load(json_of(tmp_path, (values * 40)[:40]))


def test_lists_that_are_quantities_or_tags_are_learned(tmp_path):
    assert load(json_of(tmp_path, [[0.5, i] for i in range(40)])).task.name == "regress"
    assert load(json_of(tmp_path, [[0, 1, i % 2] for i in range(40)]), task="regress").task.outputs == 3
    assert load(json_of(tmp_path, [[0, 1, 0, 1, i % 2] for i in range(40)])).task.labels == ("0", "1")


def test_regress_says_which_value_is_no_number(tmp_path):
    for value in ("0,5", "1_000", "nan", "much"):
        path = csv_of(tmp_path, [value, *range(39)])
        with pytest.raises(
            ValueError, match=rf"a\.csv:2: expected a finite number in column 'y', got '{value}'; write it with digits"
        ):
            load(path, task="regress")


# --- tags -------------------------------------------------------------------------------------------------------------


def test_an_unknown_tag_is_not_asked_for(tmp_path):
    rows = [
        [f"{i}\tw{n}{i}\t_\t{tag}\t_\t_\t0\troot\t_\t_\n" for i, tag in enumerate(("NOUN", "_", "VERB"), 1)]
        for n in range(20)
    ]
    (tmp_path / "a.conllu").write_text("".join("".join(row) + "\n" for row in rows))
    data = load(tmp_path / "a.conllu")
    assert data.task.labels == ("NOUN", "VERB")
    question = data.train.targets >= 0
    assert int(question.sum()) == 2 * len(data.train)
    scores = torch.zeros(len(data.train.targets), 2)
    assert (
        data.task.loss(scores, data.train)[1]
        == data.task.measures(scores, data.train)["accuracy"][1]
        == 2 * len(data.train)
    )
    with pytest.raises(ValueError, match=r"a\.conllu: expected at least two different tags in column 'XPOS', got none"):
        load(tmp_path / "a.conllu", label="XPOS")
    row = [Record({"w": ["a", "b", "c", "d"], "t": ["X", -100, None, "Y"]}, "a.jsonl", 1)]
    assert Tag.fit(row, "w", "t").labels == ("X", "Y")


def test_predicted_tags_come_with_their_words():
    task, tokenizer = Tag("words", "tags", ("a", "b")), Tokenizer.train("bytes", [])
    rows = [Record({"words": "two words"}, "a", 1), Record({"words": "x"}, "a", 2)]
    (question,) = questions(rows, task, tokenizer)
    scores = torch.zeros(len(question.inputs.values), 2)
    assert task.answers(scores, question) == [
        {"words": ["two", "words"], "tags": ["a", "a"]},
        {"words": ["x"], "tags": ["a"]},
    ]
    vectors = [Record({"words": [[0.5], [1.5]]}, "a", 1)]
    (question,) = questions(vectors, task, None)
    assert task.answers(torch.zeros(2, 2), question) == [{"tags": ["a", "a"]}]


@pytest.mark.parametrize("value", ["a\ud800", ["a", "\udcff"]])
def test_half_a_surrogate_pair_is_no_text(value):
    with pytest.raises(
        ValueError, match="predict:1: expected a text in column 'text', got half of a surrogate pair in"
    ):
        list(
            questions(
                [Record({"text": value}, "predict", 1)], Classify("text", "y", ("a", "b")), Tokenizer.train("bytes", [])
            )
        )


# --- JSON -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content, lines",
    [
        ('[{"a": 1}, {"a": 2}]', [1, 1]),
        ('\n[\n {\n  "a": 1\n },\n\n {"a": 2}\n]\n', [3, 7]),
        ("[]", []),
        ('{"a": 1}\n\n{"a": 2}', [1, 3]),
        ('  {"a": 1}  \r\n{"a": 2}\r\n', [1, 2]),
    ],
)
@pytest.mark.parametrize("suffix", ["json", "jsonl", "ndjson"])
def test_json_is_objects_a_line_or_an_array(tmp_path, content, lines, suffix):
    (tmp_path / f"a.{suffix}").write_text(content)
    actual = list(read_records(tmp_path / f"a.{suffix}"))
    assert [record.fields for record in actual] == [{"a": 1}, {"a": 2}][: len(lines)] and [
        r.line for r in actual
    ] == lines


@pytest.mark.parametrize(
    "content, message",
    [
        ('{"a": 1, "a": 2}', r":1: .*the name 'a' twice in one object"),
        ('{"a": {"b": 1, "b": 2}}', r":1: .*the name 'b' twice"),
        ('{"a": ' + "1" * 9999 + "}", ":1: .*a number of thousands of digits"),
        ('{"a": ' + "[" * 17 + "]" * 17 + "}", ":1: .*more than 16 lists in lists"),
        ('{"a": ' + '{"a": ' * 900 + "1" + "}" * 901, ":1: .*more than 16 lists in lists"),
        ('{"a": ' + "[" * 100_000, ":1: .*more than 16 lists in lists"),
        ('{"a": 1} {"a": 2}', ":1: .*Extra data, column 9"),
        ('[{"a": 1}\n {"a": 2}]', ":2: .*expected a comma or the end of the array"),
        ('[{"a": 1},\n 5]', ":2: .*got a list of int"),
        ('[{"a": 1},\n{"a": ', ":2: .*Expecting value"),
        ('[{"a": 1}]\n{"a": 2}', ":1: .*Extra data after the array"),
        ('{\n"a": 1\n}', ":1: .*or give an array of objects"),
        ('{"a\\udc00": 1}', ":1: .*half of a surrogate pair"),
    ],
)
def test_json_that_is_no_record(tmp_path, content, message):
    (tmp_path / "a.jsonl").write_text(content)
    with pytest.raises(ValueError, match=r"a\.jsonl" + message):
        list(read_records(tmp_path / "a.jsonl"))


# --- arrays and Parquet -----------------------------------------------------------------------------------------------

V, O, Y = np.arange(12.0).reshape(6, 2), np.array([0, 2, 3, 6]), np.array([0, 1, 0])


@pytest.mark.parametrize(
    "saved, fields",
    [
        ({"values": np.asfortranarray(V), "offsets": O.astype(">i4"), "y": Y.astype(">i2")}, [0, 1, 0]),
        (
            {"values": V.astype(">f4"), "offsets": O.astype(np.uint64), "y": np.array([b"a", b"b", b"a"])},
            ["a", "b", "a"],
        ),
        ({"values": V.astype(np.float16), "offsets": O, "y": np.array([0.1, 0.5, 0.1], np.float32)}, [0.1, 0.5, 0.1]),
        ({"values": V.astype(bool), "offsets": O, "y": Y.astype(bool)}, [False, True, False]),
    ],
)
def test_arrays_of_every_kind_of_number(tmp_path, saved, fields):
    np.savez_compressed(tmp_path / "a.npz", **saved)
    actual = list(read_records(tmp_path / "a.npz"))
    assert [record.fields["y"] for record in actual] == fields
    assert np.array_equal(np.concatenate([r.fields["values"] for r in actual]), saved["values"].astype(V.dtype))


@pytest.mark.parametrize(
    "saved, message",
    [
        (
            {"values": V + 1j, "offsets": O},
            "expected real numbers in values, got complex128; give real and imaginary parts as two features",
        ),
        ({"values": V.astype(str), "offsets": O}, "expected real numbers in values, got <U"),
        ({"values": V, "offsets": O, "y": np.zeros(3, [("a", "i4")])}, "expected numbers or texts in y, got"),
        ({"values": V, "offsets": np.array(["0"])}, "expected integers in offsets, got <U1"),
        ({"values": V, "offsets": np.array(0)}, "Sequences: expected offsets as one row of integers"),
        (
            {"values": np.array(3.0), "offsets": O},
            r"expected the arrays values \[T, F\] .*, got values \[\], .*numpy\.savez\(file, values="
            r"np\.concatenate\(list\)",
        ),
        (
            {"X": np.array([V, V[:2]], dtype=object), "y": Y},
            r"expected an \.npz of plain arrays, got Python objects in X, such as arrays of unequal lengths "
            r".*pack a list of arrays by numpy\.savez",
        ),
    ],
)
def test_arrays_that_are_no_sequences(tmp_path, saved, message):
    np.savez(tmp_path / "a.npz", **saved)
    with pytest.raises(ValueError, match=r"a\.npz: " + message):
        list(read_records(tmp_path / "a.npz"))


@pytest.mark.parametrize(
    "shape, descr", [((10**12, 3), "<f8"), ((-1, 3), "<f8"), ((10**12,), "<U0"), ((2**62, 2**62), "<f8")]
)
def test_a_header_that_claims_too_much_costs_nothing(tmp_path, shape, descr):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": descr, "fortran_order": False, "shape": shape})
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("values.npy", header.getvalue())
        archive.writestr("offsets.npy", header.getvalue())
    tracemalloc.start()
    with pytest.raises(ValueError, match=r"a\.npz: .* does not read \(values claims -?[0-9,]+ bytes, and has 0\)"):
        list(read_records(tmp_path / "a.npz"))
    assert tracemalloc.get_traced_memory()[1] < 2**22
    tracemalloc.stop()


def test_an_archive_that_unpacks_to_far_more_than_it_is_is_not_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr(arrays, "BYTES", 2**20)  # in place of a gibibyte
    np.savez_compressed(tmp_path / "a.npz", values=np.zeros(2**22), offsets=[0, 2**22])
    tracemalloc.start()
    with pytest.raises(ValueError, match=r"a\.npz: .* does not read \([0-9,]+ bytes that unpack to 33,554,"):
        list(read_records(tmp_path / "a.npz"))
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()


def test_parquet_as_it_comes(tmp_path):
    def actual(**columns):
        pa.parquet.write_table(pa.table(columns), tmp_path / "a.parquet")
        return [tuple(record.fields.values()) for record in read_records(tmp_path / "a.parquet")]

    assert actual(text=[b"caf\xc3\xa9"], y=[b"\xff"]) == [("café", b"\xff")]
    assert actual(text=["a"], y=pa.array(["b"]).dictionary_encode()) == [("a", "b")]
    table = pa.table([["a"], [1], [2]], names=["text", "y", "y"])
    pa.parquet.write_table(table, tmp_path / "b.parquet")
    with pytest.raises(
        ValueError, match=r"b\.parquet: expected columns that each have a name of their own, got 'y' twice"
    ):
        list(read_records(tmp_path / "b.parquet"))
    pa.parquet.write_table(pa.table({"text": pa.array(["a"] * 2_000_000).dictionary_encode()}), tmp_path / "c.parquet")
    with pytest.raises(ValueError, match=r"c\.parquet: .* holds what it claims, got 2,000,000 rows in [0-9,]+ bytes"):
        list(read_records(tmp_path / "c.parquet"))
    pa.parquet.write_table(pa.table({"text": [b"\xff"] * 9, "y": ["a", "b", "c"] * 3}), tmp_path / "d.parquet")
    with pytest.raises(ValueError, match=r"got bytes that are not UTF-8, such as b'\\xff'"):
        load(tmp_path / "d.parquet")


def test_every_damaged_byte_of_a_parquet_file_is_one_sentence(tmp_path):
    pa.parquet.write_table(pa.table({"text": TEXTS, "y": [i % 2 for i in range(40)]}), tmp_path / "a.parquet")
    whole = (tmp_path / "a.parquet").read_bytes()
    for at in range(4, len(whole) - 4, 7):
        (tmp_path / "b.parquet").write_bytes(whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :])
        try:
            list(read_records(tmp_path / "b.parquet"))
        except ValueError as error:
            assert str(error).startswith(str(tmp_path)) and "\n" not in str(error)


def test_huge_integers_and_unequal_rows_are_no_vectors():
    task = Classify("v", "y", ("0", "1"))
    for value in ([[10**400]], [[1], [2, 3]], [[["a"]]], [[None]]):
        with pytest.raises(
            ValueError, match=r"a:1: expected (in column 'v' rows of numbers|finite numbers in column 'v')"
        ):
            encode([Record({"v": value, "y": 0}, "a", 1)], task, None)
