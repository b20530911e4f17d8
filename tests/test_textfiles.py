"""One way to read text: encodings, byte-order marks, line ends, and what is no text."""

import codecs
import gzip
import io
import re
import sys
import types

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sightline import textfiles
from sightline.textfiles import decode_lines, printable_path, read_lines, read_text


def written(tmp_path, content, name="a.txt"):
    path = tmp_path / name
    path.write_bytes(content)
    return path


def split_lines(text):
    """The definition of a line: it ends with \\n, but in a text without any \\n with \\r."""
    ends = re.finditer(r"[^\n]*\n|[^\n]+" if "\n" in text else r"[^\r]*\r|[^\r]+", text)
    return [line.group().rstrip("\r\n") for line in ends]


class Dripping(io.RawIOBase):
    """A pipe that gives few bytes at a time."""

    def __init__(self, content, sizes):
        self.content, self.sizes, self.turn = content, sizes, 0

    def read(self, _=-1):
        size = self.sizes[self.turn % len(self.sizes)]
        self.turn += 1
        some, self.content = self.content[:size], self.content[size:]
        return some


@pytest.mark.parametrize(
    "content, expected",
    [
        (b"", []),
        (b"\n", [""]),
        (b"a", ["a"]),
        (b"a\nb\r\nc\rd", ["a", "b", "c\rd"]),
        (b"a\rb\n", ["a\rb"]),
        (b"a\rb\r\rc", ["a", "b", "", "c"]),
        (b"a\r", ["a"]),
        (b"\r\n\nb\r", ["", "", "b"]),
        ("a\x0cb\x0bc\x1cd\x1de\x1ef\x85g\u2028h\u2029i".encode(), ["a\x0cb\x0bc\x1cd\x1de\x1ef\x85g\u2028h\u2029i"]),
        (b"\xef\xbb\xbfa\n\xef\xbb\xbfb", ["a", "\ufeffb"]),
        (b"\xef\xbb\xbf\xef\xbb\xbfa\n", ["a"]),
        (b"\xef\xbb\xbf", []),
        (codecs.BOM_UTF16_LE + "é\r\nb\rc".encode("utf-16-le"), ["é", "b\rc"]),
        (codecs.BOM_UTF16_BE + "é\nb".encode("utf-16-be"), ["é", "b"]),
        (codecs.BOM_UTF32_LE + "é\nb".encode("utf-32-le"), ["é", "b"]),
        (codecs.BOM_UTF32_BE + "é\rb".encode("utf-32-be"), ["é", "b"]),
    ],
)
def test_lines_end_where_the_rule_says_and_a_mark_is_no_text(tmp_path, content, expected):
    path = written(tmp_path, content)
    assert list(read_lines(path)) == expected
    assert split_lines(read_text(path)) == expected


@given(st.text("ab\r\n\x0c\x85\u2028é", max_size=20), st.lists(st.integers(1, 5), min_size=1))
def test_a_pipe_gives_the_same_lines_in_whatever_pieces_it_comes(text, sizes):
    actual = list(decode_lines(Dripping(text.encode(), sizes), "pipe"))
    assert "".join(actual) == text
    assert [line.rstrip("\r\n") for line in actual] == split_lines(text)


@pytest.mark.parametrize(
    "encoding, content, expected",
    [
        (None, "né".encode(), "né"),
        ("UTF8", "né".encode(), "né"),
        ("utf-8-sig", "né".encode(), "né"),
        ("latin-1", b"n\xe9", "né"),
        ("cp1252", b"\x93n\xe9\x94", "“né”"),
        ("utf-16", "né\n".encode("utf-16"), "né\n"),
        ("utf-16-le", "né\n".encode("utf-16-le"), "né\n"),
        ("shift_jis", "表示\n".encode("shift_jis"), "表示\n"),
        ("gb18030", "\ufeff表示\n".encode("gb18030"), "表示\n"),
        ("latin-1", codecs.BOM_UTF8 + "né".encode(), "né"),  # the file's own mark is believed
        ("latin-1", b"NESTL\xc9\xae\nni\xf1o\n", "NESTLÉ®\nniño\n"),  # one line is UTF-8 by chance
        ("latin-1", b"NESTL\xc9\xae\n", "NESTLÉ®\n"),
        ("cp1251", "слово»…".encode("cp1251"), "слово»…"),
    ],
)
def test_encodings(tmp_path, encoding, content, expected):
    assert read_text(written(tmp_path, content), encoding) == expected


@pytest.mark.parametrize(
    "encoding, content, message",
    [
        (
            None,
            b"one\ncaf\xe9 x\n",
            r"a\.txt:2: expected UTF-8, got the byte 0xe9 \(byte 4 of the line\), which is not; add "
            r"--encoding latin-1 .*cp1252",
        ),
        (None, b"a\rb\r\n\n\xff", r"a\.txt:3: expected UTF-8, got the byte 0xff \(byte 1 "),
        (None, b"a\n\xed\xa0\x80", r"a\.txt:2: expected UTF-8, got the byte 0xed"),  # half of a surrogate pair
        (None, b"a\nb\xc3", r"a\.txt:2: expected UTF-8, got the byte 0xc3 \(byte 2 of the line\)"),
        (None, b"a\nb\0c\n", r"a\.txt:2: expected UTF-8, got a NUL byte"),
        (None, "ab\nc".encode("utf-16-le"), r"a\.txt:1: .* got a NUL byte, .* add --encoding utf-16-le"),
        ("cp1252", b"a\x81", r"a\.txt:1: expected CP1252, got the byte 0x81 .* name another --encoding"),
        ("utf-16-le", b"a\0b", r"a\.txt:1: expected UTF-16-LE, got the byte 0x62 \(byte 3 of the file\)"),
        ("utf-16-le", b"a\0\n\0\0\0", r"a\.txt:2: expected UTF-16-LE, got a NUL"),
        ("utf-16", b"plain ascii\n", r"a\.txt: expected utf-16, .* got a file that is UTF-8; leave --encoding out"),
        ("latin-1", "a\ncafé\n".encode(), r"a\.txt:2: expected latin-1, .* UTF-8 in every line; leave --encoding out"),
        ("cp1252", "привет".encode(), r"a\.txt:1: expected cp1252, as the encoding is named, got a file that is UTF-8"),
        ("klingon", b"a", r"a\.txt: expected the name of an encoding, such as .*, got 'klingon'; correct --encoding"),
        ("hex", b"a", r"expected the name of an encoding"),
        ("unicode_escape", b"a", r"expected the name of an encoding"),
        ("a\0b", b"a", r"expected the name of an encoding"),
        (7, b"a", r"expected the name of an encoding, .*got 7"),
        (None, gzip.compress(b"a", mtime=0), r"a\.txt: expected text, got a gzip archive; unpack it first"),
        (None, b"PK\x03\x04rest", r"a\.txt: expected text, got a zip archive or an office document; unpack it"),
        (None, b"PAR1....", r"a\.txt: expected text, got a Parquet file; let its name end in \.parquet"),
    ],
)
def test_what_is_no_text_is_refused_with_its_place(tmp_path, encoding, content, message):
    with pytest.raises(ValueError, match=message):
        list(read_lines(written(tmp_path, content), encoding))
    with pytest.raises(ValueError, match=message):
        read_text(tmp_path / "a.txt", encoding)


def test_what_is_no_file(tmp_path):
    for source, message in {
        tmp_path: "expected a file, got a folder; name a file in it",
        tmp_path / "none.txt": r"none\.txt: cannot be read \(No such file or directory\); check path",
        "a\0b": r"cannot be read \(embedded null byte\)",
        "a" * 300: r"cannot be read \(File name too long\)",
    }.items():
        with pytest.raises(ValueError, match=message):
            read_text(source)


def test_a_device_that_never_ends_is_refused_at_once():
    with pytest.raises(ValueError, match=r"/dev/zero:1: expected UTF-8, got a NUL byte"):
        read_text("/dev/zero")


def test_a_name_that_is_no_utf8_is_shown_escaped(tmp_path):
    path = tmp_path / "caf\udce9.txt"
    path.write_bytes(b"\xff")
    with pytest.raises(ValueError, match=r"caf\\xe9\.txt:1: expected UTF-8") as caught:
        read_text(path)
    str(caught.value).encode()
    assert (
        printable_path("\ud800") == "\\ud800" and printable_path(b"\xe9".decode("utf-8", "surrogateescape")) == "\\xe9"
    )


def test_standard_input(monkeypatch):
    monkeypatch.setattr(sys, "stdin", types.SimpleNamespace(buffer=io.BytesIO(b"\xef\xbb\xbfone\rtwo")))
    assert list(read_lines("-")) == ["one", "two"]
    monkeypatch.setattr(sys, "stdin", types.SimpleNamespace(buffer=io.BytesIO(b"one\n\xff")))
    with pytest.raises(ValueError, match=r"standard input:2: expected UTF-8"):
        list(read_lines("-"))
    for closed in (None, io.StringIO("a")):
        monkeypatch.setattr(sys, "stdin", closed)
        with pytest.raises(ValueError, match="standard input: expected bytes, got none"):
            read_text("-")


def test_a_line_longer_than_what_is_read_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(textfiles, "CHUNK", 4)
    text = "é" * 50 + "\r\n" + "b" * 11 + "\r" + "c\n\n\nd"
    assert read_text(written(tmp_path, text.encode())) == text
    assert list(read_lines(tmp_path / "a.txt")) == split_lines(text)
