"""Tables of text as people have them: separators, quotes, and whether there is a header."""

import io
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sightline.tasks import delimited, load, load_test, read_records
from sightline.tasks.delimited import table
from sightline.textfiles import decode_lines

ROWS = [("staff was cold", "neg"), ("road was warm", "pos"), ("bed, really; fine", "pos"), ("soup was grim", "neg")]


def rows_of(content, separator=None, tabs=False, name="a.csv"):
    raw = content if isinstance(content, bytes) else content.encode()
    lines = list(decode_lines(io.BytesIO(raw), name))
    return [tuple(record.fields.values()) for record in table(lines, name, separator, tabs)]


def written(sign, quote=True, end="\n"):
    cells = [("text", "label"), *ROWS]
    return "".join(sign.join(f'"{c}"' if quote and not c.isalpha() else c for c in row) + end for row in cells)


@pytest.mark.parametrize("sign", ",;\t|")
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_the_separator_is_recognised(sign, end, mark):
    assert rows_of(mark + written(sign, end=end)) == ROWS
    assert rows_of(mark + written(sign, end=end), tabs=True) == ROWS
    for line in (f"sep={sign}", f"SEP={sign}"):
        assert rows_of(mark + line + end + written(sign, end=end)) == ROWS
    assert rows_of((mark + written(sign, end=end)).encode("utf-16")) == ROWS


@pytest.mark.parametrize(
    "content, expected",
    [
        ("text;label\nso, so;neg\nfine, yes;pos\n", [("so, so", "neg"), ("fine, yes", "pos")]),
        ("text, in English;label\nso;neg\nfine;pos\n", [("so", "neg"), ("fine", "pos")]),
        ('text, label\n"a, b", "neg"\n"c",   "pos"\n', [("a, b", "neg"), ("c", "pos")]),
        ("v1,v2,,,\nneg,so so,,,\npos,fine,,,\n", [("neg", "so so"), ("pos", "fine")]),
        ("v1,v2,,\nneg,so,x,\npos,fine,,\n", [("neg", "so", "x"), ("pos", "fine")]),
        (",text,label\n0,so,neg\n1,fine,pos\n", [("so", "neg"), ("fine", "pos")]),
        ("text,label\nso,neg,\nfine,pos,,\n", [("so", "neg"), ("fine", "pos")]),
        ("text,label\n,\nso,neg\n\n , \n", [("so", "neg")]),
        ("text\nso\n\nfine\n", [("so",), ("fine",)]),
        ("text;price\nso;0,5\nfine;1,5\n", [("so", "0,5"), ("fine", "1,5")]),
        ("text,label\na\x0cb\x0b\u2028\x85\x1cc,neg\n", [("a\x0cb\x0b\u2028\x85\x1cc", "neg")]),
        ('text,label\na\rb,neg\n"c\r\nd\re",pos\n', [("a\rb", "neg"), ("c\r\nd\re", "pos")]),
        ('text;label\n"so\nor; so";neg\nfine;pos', [("so\nor; so", "neg"), ("fine", "pos")]),
        ("text,label\n" + "z" * 200_000 + ",x\n", [("z" * 200_000, "x")]),
    ],
)
def test_tables_as_people_have_them(content, expected):
    assert rows_of(content) == expected


@pytest.mark.parametrize(
    "content, expected",
    [
        ('text\tlabel\n"He said ""no"""\tneg\n"a\ttab"\tpos\n', [('He said "no"', "neg"), ("a\ttab", "pos")]),
        ('"text"\t"label"\n"so"\t"neg"\n', [("so", "neg")]),
        ('text\tlabel\n"Fine" she said\tpos\n"so\tneg\n', [('"Fine" she said', "pos"), ('"so', "neg")]),
        ('text\tlabel\n"so\tneg\nfine"\tpos\n', [('"so', "neg"), ('fine"', "pos")]),
        ("text\tlabel\na\rb\tneg\n", [("a\rb", "neg")]),
    ],
)
def test_quotes_between_tabs_are_quotes_only_where_all_rows_say_so(content, expected):
    assert rows_of(content, tabs=True) == rows_of(content) == expected


REFUSED = [
    (
        "text,more;label\na,x;neg\nb,y;pos\n",
        r"a\.csv:1: expected one separator .* got comma \(','\) and semicolon \(';'\); name it, as in --separator ';'",
    ),
    (
        "text,more;label\na;neg\nb,y;p;q\n",
        r"a\.csv:1: expected one separator .* none: comma \(','\), by which line 2 has 1 and not 2; "
        r"semicolon \(';'\), by which line 3 has 3",
    ),
    (
        "text,label\na,neg\nb, really,pos\n",
        r"a\.csv:3: expected 2 fields, as the header has, got 3; quote a field that holds a comma",
    ),
    ("text;label\na;neg\nb\n", r"a\.csv:3: expected 2 fields, .* got 1; quote a field that holds a semicolon"),
    (
        "neg,so so\npos,fine\nneg,no\n",
        r"a\.csv:1: expected a line with the names of the columns, got 'neg', which is a "
        "value of its column in 1 of 2 rows",
    ),
    ("so so;0.5\nfine;1.5\n", r"a\.csv:1: .* got '0\.5', a number above a column of numbers; write one above it"),
    (
        "It was all good\nIt was bad\n",
        r"a\.csv:1: .* got the sentence 'It was all good'; write one above it, such as text",
    ),
    ("text,label\na,neg\ntext,label\n", r"a\.csv:3: expected a record, got the header of line 1 once more"),
    ("text:label\na:neg\n", r"a\.csv:1: .* got one column, 'text:label'; say what parts the columns with --separator"),
    ('"text" , "label"\n"a" , "b"\n', r"a\.csv:1: expected a row of comma-separated values, .* with no blank behind"),
    ("text,label\na\0b,neg\n", r"a\.csv:2: expected UTF-8, got a NUL byte"),
]


@pytest.mark.parametrize("content, message", REFUSED)
def test_what_is_open_or_broken_is_said(content, message):
    with pytest.raises(ValueError, match=message):
        rows_of(content)


def test_a_separator_that_is_named():
    assert rows_of("text,more;label\na,x;neg\n", ";") == [("a,x", "neg")]
    assert rows_of("text:label\na:neg\n", ":") == rows_of("text label\na neg\n", " ") == [("a", "neg")]
    assert rows_of("a,b\tc\n1,2\t3\n", "tab") == rows_of("a,b\tc\n1,2\t3\n", "\\t") == [("1,2", "3")]
    assert rows_of("sep=;\ntext|label\na|neg\n", "|") == [("a", "neg")]
    for none in ("ab", "", '"', "x", "\n", 5):
        with pytest.raises(ValueError, match="--separator: expected one character, such as ';', or tab, got"):
            rows_of("a,b\n1,2\n", none)


def test_many_columns_and_rows_take_time_in_proportion():
    def seconds(columns, rows):
        header = ",".join(f"c{i}" for i in range(columns))
        content = header + "\n" + (",".join("1" * columns) + "\n") * rows
        began = time.process_time()
        assert len(rows_of(content)) == rows
        return time.process_time() - began

    assert seconds(20_000, 8) < 20 * max(seconds(2_000, 8), 0.005)


cell = st.text(st.characters(codec="utf-8", exclude_characters="\0\r"), min_size=1, max_size=6).map(lambda c: f"x{c}")


@given(st.lists(st.tuples(cell, cell), min_size=1, max_size=6), st.sampled_from(",;|\t"))
def test_what_is_quoted_comes_back(rows, sign):
    doubled = [[c.replace('"', '""') for c in row] for row in rows]
    content = f"text{sign}label\n" + "".join(f'"{a}"{sign}"{b}"\n' for a, b in doubled)
    assert rows_of(content, tabs=sign == "\t") == rows


def test_files_are_read_so_in_training_and_in_evaluation(tmp_path):
    texts = [(f"it is {'good' if i % 2 else 'bad'}, number {i}", i % 2) for i in range(60)]
    for name, sign in (("a.csv", ";"), ("b.tsv", "|"), ("c.csv", "\t")):
        (tmp_path / name).write_text(f"text{sign}label\n" + "".join(f"{t}{sign}{y}\n" for t, y in texts))
        data = load(tmp_path / name)
        assert data.task.name == "classify" and data.task.labels == ("0", "1")
        assert len(load_test(tmp_path / name, data.task, data.tokenizer)) == 60
    (tmp_path / "d.csv").write_text("text:label\n" + "".join(f"{t}:{y}\n" for t, y in texts))
    for reading in (
        load,
        lambda path: load_test(path, data.task, data.tokenizer),
        lambda path: list(read_records(path)),
    ):
        with pytest.raises(ValueError, match=r"d\.csv:1: .* with --separator"):
            reading(tmp_path / "d.csv")
    assert load(tmp_path / "d.csv", separator=":").task == data.task
    assert len(load_test(tmp_path / "d.csv", data.task, data.tokenizer, separator=":")) == 60


@pytest.mark.parametrize("letters", [15, 20, 45, 70, 10_000])
@pytest.mark.parametrize("sign, tabs", [(",", False), (";", False), ("\t", True)])
def test_what_is_decided_by_the_first_rows_is_read_to_the_end_as_it_comes(monkeypatch, letters, sign, tabs):
    monkeypatch.setattr(delimited, "DECIDE", letters)
    rows = [(f"it is{sign}x{sign}y\n{i}" if i % 3 == 2 else f"it was {i}", "ab"[i % 2]) for i in range(20)]
    content = f"text{sign}label\n" + "".join(f'"{t}"{sign}{y}\n' for t, y in rows)
    assert rows_of(content, tabs=tabs) == rows
    if not tabs:
        with pytest.raises(ValueError, match=r"a\.csv:28: expected 2 fields"):
            rows_of(f"{content}so{sign}a{sign}b\n")

    def endless():
        yield f"text{sign}label\n"
        while True:
            yield f"so so{sign}a\n"

    assert next(table(endless(), "a.csv", sign)).fields == {"text": "so so", "label": "a"}
