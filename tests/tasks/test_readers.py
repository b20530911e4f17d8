"""Every format gives its records, and every way a file can be broken gives one sentence with file and line."""

import io
import json
import sys
import types

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sightline.tasks.conllu import FIELDS
from sightline.tasks.readers import hub, read_records, read_text

WORD = "{}\t{}\t_\tNOUN\t_\t_\t0\troot\t_\t_\n"


def records(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return list(read_records(path))


@pytest.mark.parametrize(
    "name, content, expected",
    [
        ("a.csv", "a,b\n1,x\n\n2,y\n", [(2, "1", "x"), (4, "2", "y")]),
        ("a.csv", "\ufeffa,b\r\n1,x\r\n", [(2, "1", "x")]),
        ("a.csv", 'a,b\n"1\n, ""q""",x\n2,y', [(2, '1\n, "q"', "x"), (4, "2", "y")]),
        ("a.csv", ",a,b\n0,1,x\n1,,y\n", [(2, "1", "x"), (3, "", "y")]),
        ("a.CSV", "a,b\n", []),
        ("a.csv", "a,b\n" + "z" * 200_000 + ",x\n", [(2, "z" * 200_000, "x")]),
        ("a.tsv", 'a\tb\n"1, \tx"\n', [(2, '"1, ', 'x"')]),
        ("a.jsonl", '{"a": 1, "b": [2]}\n\n{"a": null, "b": "é"}', [(1, 1, [2]), (3, None, "é")]),
        ("a.ndjson", "", []),
        ("a.txt", "one\n\n  two\r\n", [(1, "one"), (2, ""), (3, "  two")]),
        ("a.txt", "", []),
    ],
)
def test_text_formats(tmp_path, name, content, expected):
    actual = records(tmp_path, name, content)
    assert [(record.line, *record.fields.values()) for record in actual] == expected
    assert all(record.where == f"{tmp_path / name}:{record.line}" for record in actual)


def test_conllu(tmp_path):
    text = "# text = x\n1-2\tdon't" + "\t_" * 8 + "\n" + WORD.format(1, "do") + WORD.format(2, "n't")
    text += "2.1\tit" + "\t_" * 8 + "\n\n\n" + WORD.format(1, "a b").rstrip("\n")
    first, second = records(tmp_path, "a.conllu", text)
    assert tuple(first.fields) == FIELDS and first.line == 3 and second.line == 8
    assert (first.fields["FORM"], second.fields["FORM"]) == (["do", "n't"], ["a b"])
    assert second.fields["UPOS"] == ["NOUN"]


def test_npz(tmp_path):
    values = np.arange(6.0).reshape(3, 2)
    np.savez(
        tmp_path / "a.npz", values=values, offsets=[0, 2, 2, 3], labels=["a", "b", "c"], rows=[5, 6, 7], y=np.eye(3)
    )
    actual = list(read_records(tmp_path / "a.npz"))
    assert [record.fields["values"].tolist() for record in actual] == [[[0, 1], [2, 3]], [], [[4, 5]]]
    assert [record.fields["labels"] for record in actual] == ["a", "b", "c"]
    assert actual[2].fields["y"] == [0, 0, 1] and actual[2].line == 3
    np.savez(tmp_path / "b.npz", values=np.arange(3.0), offsets=[0, 1, 3], rows=[5, 6, 7])
    one = list(read_records(tmp_path / "b.npz"))
    assert one[1].fields["rows"] == [6, 7] and one[1].fields["values"].shape == (2, 1)


def test_parquet(tmp_path):
    table = pa.table({"text": ["a", None], "tags": [["X"], []]})
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    actual = list(read_records(tmp_path / "a.parquet"))
    assert actual[0].fields == {"text": "a", "tags": ["X"]} and actual[1].line == 2
    with pytest.raises(ValueError, match="a.parquet:2: expected a value in column 'text', got none"):
        actual[1].get("text")


def test_standard_input_is_json_lines_or_text_and_read_as_it_comes(monkeypatch):
    def feed(content):
        monkeypatch.setattr(sys, "stdin", types.SimpleNamespace(buffer=io.BytesIO(content)))
        return [(record.where, record.fields) for record in read_records("-")]

    assert feed(b'{"a": 1}\n') == [("standard input:1", {"a": 1})]
    assert feed(b"one\ntwo") == [("standard input:1", {"text": "one"}), ("standard input:2", {"text": "two"})]
    assert feed(b"") == []
    with pytest.raises(ValueError, match="standard input:2: expected UTF-8, got the byte 0xff"):
        feed(b"one\n\xff")


def test_encodings(tmp_path):
    (tmp_path / "a.txt").write_bytes("né\n".encode("latin-1"))
    assert [record.fields["text"] for record in read_records(tmp_path / "a.txt", "latin-1")] == ["né"]
    (tmp_path / "b.txt").write_bytes(b"\xef\xbb\xbfa\r\nb\n")
    assert read_text(tmp_path / "b.txt") == "a\r\nb\n"
    with pytest.raises(ValueError, match="a.txt:1: expected UTF-8, got the byte 0xe9"):
        read_text(tmp_path / "a.txt")
    with pytest.raises(ValueError, match="expected the name of an encoding, such as .* got 'klingon'"):
        list(read_records(tmp_path / "a.txt", "klingon"))


HOSTILE = [
    ("a.csv", "", r"a\.csv:1: expected a line with the names of the columns, got an empty file"),
    ("a.csv", "a,b\n1,x\n2\n", r"a\.csv:3: expected 2 fields, as the header has, got 1"),
    ("a.csv", "a,b\n1,x,y\n", r"a\.csv:2: expected 2 fields, .*got 3; quote a field that holds a comma"),
    ("a.csv", "a,b,a\n1,2,3\n", r"a\.csv:1: expected a header .*got 'a' twice"),
    ("a.csv", ",\n1,2\n", r"a\.csv:1: expected a header .*got no names"),
    ("a.csv", 'a,b\n1,x\n2,"y\n3,z\n', r"a\.csv:3: expected a row .* \(unexpected end of data\); close each quote"),
    ("a.csv", 'a,b\n"1"x,y\n', r"a\.csv:2: expected a row of comma-separated values"),
    ("a.csv", b"a,b\n1,caf\xc3\xa9\n2,caf\xe9\n", r"a\.csv:3: expected UTF-8, got the byte 0xe9"),
    ("a.tsv", "a\tb\n1\t2\t3\n", r"a\.tsv:2: expected 2 fields, .*got 3; take tabs out"),
    ("a.jsonl", '{"a": 1}\n{"a": \n', r"a\.jsonl:2: expected a JSON object .*Expecting value, column"),
    ("a.jsonl", "[1]\n", r"a\.jsonl:1: expected a JSON object on one line, got a list"),
    ("a.jsonl", '{"a": "\\ud800"}\n', r"a\.jsonl:1: expected a JSON object .*surrogates not allowed"),
    ("a.jsonl", '{"a": ' + "[" * 99_999, r"a\.jsonl:1: expected a JSON object .*recursion"),
    ("a.conllu", WORD.format(1, "x")[:-3] + "\n", r"a\.conllu:1: expected 10 fields parted by tabs, got 9"),
    ("a.conllu", WORD.format(1, ""), r"a\.conllu:1: expected 10 fields parted by tabs, got an empty FORM"),
    ("a.conllu", WORD.format(1, "x") + WORD.format(1, "y"), r"a\.conllu:2: expected the word number 2, got '1'"),
    ("a.parquet", b"PAR1 no", r"a\.parquet: expected a Parquet file, got one that does not read"),
    ("a.npz", b"PK no", r"a\.npz: expected an \.npz of plain arrays, got one that does not read"),
    ("a.npz", b"", r"a\.npz: expected an \.npz of plain arrays, got one that does not read"),
    ("a.xlsx", b"PK", r"a\.xlsx: expected a file whose name ends in .*; save the table as \.csv"),
    ("a.csv.gz", b"\x1f\x8b", r"a\.csv\.gz: expected a file whose name ends in .*; unpack it first"),
    ("a.csv", b"\x1f\x8b\x08", r"a\.csv: expected text, got a gzip archive; unpack it first"),
    ("a.xml", "<a/>", r"a\.xml: expected a file whose name ends in one of \.csv .* got '\.xml'"),
    ("a", "x", r"expected a file whose name ends in one of .* got 'no ending'"),
]


@pytest.mark.parametrize("name, content, message", HOSTILE)
def test_what_is_broken_is_said_in_one_line_with_its_place(tmp_path, name, content, message):
    with pytest.raises(ValueError, match=message) as caught:
        records(tmp_path, name, content)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "arrays, message",
    [
        ({"values": np.zeros((3, 2))}, r"expected the arrays values \[T, F\] and offsets .* got values \[3, 2\]"),
        ({"values": np.zeros((3, 2, 2)), "offsets": [0, 3]}, r"expected the arrays values \[T, F\]"),
        ({"values": np.zeros((3, 2)), "offsets": [0, 2, 1, 3]}, r"expected offsets that never fall, got 2 then 1"),
        ({"values": np.zeros((3, 2)), "offsets": [0, 2]}, r"expected offsets that end at 3 rows, got 2"),
        ({"values": np.zeros((3, 2)), "offsets": [0.0, 3.0]}, r"expected offsets as one row of integers"),
        ({"values": np.zeros((3, 2)), "offsets": [0, 3], "y": [1, 2]}, r"y to have a row for each of 1 sequences or 3"),
        ({"values": np.array([[], {}], dtype=object), "offsets": [0, 2]}, r"plain arrays, .*Object arrays cannot be"),
    ],
)
def test_npz_refuses(tmp_path, arrays, message):
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(ValueError, match=r"a\.npz: .*" + message):
        list(read_records(tmp_path / "a.npz"))


def test_a_file_that_is_not_there(tmp_path):
    for attempt in (lambda p: list(read_records(p)), read_text):
        with pytest.raises(ValueError, match=r"a\.csv: cannot be read \(No such file or directory\); check path"):
            attempt(tmp_path / "a.csv")


cell = st.text(st.characters(codec="utf-8"), max_size=8)


@settings(max_examples=25)
@given(st.lists(st.tuples(cell, cell), max_size=5))
def test_json_lines_come_back_as_written(tmp_path_factory, rows):
    path = tmp_path_factory.getbasetemp() / "a.jsonl"
    path.write_text("".join(json.dumps({"a": a, "b": b}, ensure_ascii=bool(a)) + "\n" for a, b in rows), "utf-8")
    assert [tuple(record.fields.values()) for record in read_records(path)] == rows


def test_hub(monkeypatch):
    def rows(names):
        column = types.SimpleNamespace(names=names)
        listed = types.SimpleNamespace(feature=column)

        class Rows(list):
            features = {"text": types.SimpleNamespace(), "label": column, "tags": listed}

        return Rows([{"text": "x", "label": 1, "tags": [0, -100]}, {"text": "y", "label": -1, "tags": []}])

    def load_dataset(name, configuration=None):
        if name != "known":
            raise RuntimeError("not\nfound")
        return {"train": rows(["no", configuration])}

    with pytest.raises(ValueError, match=r"known: expected a file, a folder or, with `datasets` installed"):
        monkeypatch.setitem(sys.modules, "datasets", None)
        hub("known")
    monkeypatch.setitem(sys.modules, "datasets", types.SimpleNamespace(load_dataset=load_dataset))
    first, second = hub("known:yes")["train"]
    assert first.fields == {"text": "x", "label": "yes", "tags": ["no", None]}
    assert second.fields["label"] is None and second.where == "known:yes[train]:2"
    with pytest.raises(ValueError, match="else: expected a file, .* got: not found; check the name"):
        hub("else")
