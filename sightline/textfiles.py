"""Reads text: encoding and line ends, the same in every command. Begin with `decode_lines`.

Encoding    UTF-8, unless another is named. A byte-order mark of UTF-8, UTF-16 or UTF-32 counts more than any name, and
            is no part of the text. Nothing is guessed: bytes that are not of the encoding are refused with file, line
            and byte, and so is UTF-8 under the name of a one-byte encoding (latin-1).
Line ends   \\n and \\r\\n; a lone \\r, as on old Macs, only in a text without any \\n, since it is a blank elsewhere.
            Nothing else: `str.splitlines` also cuts at form feeds, U+0085 and U+2028, which stand inside texts.
Refused     NUL bytes, archives and other files that are no text, folders.
"""

from __future__ import annotations

import codecs
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

STANDARD_INPUT = "standard input"
CHUNK = 1 << 20  # bytes read at once from a file; a pipe gives what it has
MARKS = {  # longest first: the mark of UTF-32 begins with that of UTF-16
    codecs.BOM_UTF32_LE: "utf-32-le",
    codecs.BOM_UTF32_BE: "utf-32-be",
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
}
NOT_TEXT = {  # the first bytes of a file, what it is, and what to do
    b"\x1f\x8b": ("a gzip archive", "unpack it first"),
    b"BZh": ("a bzip2 archive", "unpack it first"),
    b"\xfd7zXZ\0": ("an xz archive", "unpack it first"),
    b"\x28\xb5\x2f\xfd": ("a zstd archive", "unpack it first"),
    b"PK\x03\x04": ("a zip archive or an office document", "unpack it, or save the table as CSV"),
    b"\xd0\xcf\x11\xe0": ("an office document", "save the table as CSV"),
    b"%PDF-": ("a PDF", "save its text"),
    b"PAR1": ("a Parquet file", "let its name end in .parquet"),
    b"SQLite format 3\0": ("a database", "save the table as CSV"),
}
NO_TEXT_CODECS = ("idna", "punycode", "unicode-escape", "raw-unicode-escape", "undefined", "utf-7")
LINE, LINE_OF_MACS = re.compile(r"[^\n]*\n|[^\n]+"), re.compile(r"[^\r]*\r|[^\r]+")
# Likely in UTF-8, not in one-byte text: an accented letter, a character of three or four bytes, two letters of two.
PLAINLY_UTF8 = re.compile(
    rb"[\xc2\xc3][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}|[\xf0-\xf4][\x80-\xbf]{3}|(?:[\xc4-\xdf][\x80-\xbf]){2}"
)


def read_lines(source: str | Path, encoding: str | None = None) -> Iterator[str]:
    """The lines of a file, or of standard input (`-`), as they come, each without its end.

    Raises: ValueError, with file and line, for what is not text of the encoding (None: UTF-8).

    >>> import tempfile, pathlib
    >>> path = pathlib.Path(tempfile.mkdtemp(), "plays.txt")
    >>> _ = path.write_bytes("\\ufeffone\\r\\ntwo\\x0cthree\\nfour".encode())
    >>> list(read_lines(path))
    ['one', 'two\\x0cthree', 'four']
    """
    with open_source(source) as (stream, name):
        yield from map(without_end, decode_lines(stream, name, encoding))


def read_text(source: str | Path, encoding: str | None = None) -> str:
    """A whole file, or standard input (`-`), as one string: line ends as they are, no byte-order mark.

    Raises: ValueError, with file and line, for what is not text of the encoding (None: UTF-8).
    """
    with open_source(source) as (stream, name):
        return "".join(decode_lines(stream, name, encoding))


def without_end(line: str) -> str:
    return line.rstrip("\r\n")


def printable_path(path: str | os.PathLike) -> str:
    """A path for messages and JSON: bytes of a name that are not UTF-8 are escaped.

    >>> printable_path("caf\\udce9.csv")
    'caf\\\\xe9.csv'
    """
    try:
        return str(path).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:  # half of a surrogate pair that encodes no byte
        return str(path).encode("utf-8", "backslashreplace").decode()


@contextmanager
def open_source(source: str | os.PathLike) -> Iterator[tuple[BinaryIO, str]]:
    """The bytes of a file, or of standard input (`-`), and its name in messages.

    Raises: ValueError where it does not exist or cannot be read.
    """
    if str(source) == "-":
        stream = getattr(sys.stdin, "buffer", None)
        if stream is None:
            raise ValueError(f"{STANDARD_INPUT}: expected bytes, got none, since it is closed; name a file")
        yield stream, STANDARD_INPUT
        return
    name = printable_path(source)
    try:
        folder = Path(source).is_dir()
        stream = None if folder else open(source, "rb")
    except (OSError, ValueError) as error:  # a ValueError for a NUL in the name
        raise _unreadable(name, error) from None
    if stream is None:
        raise ValueError(f"{name}: expected a file, got a folder; name a file in it")
    with stream:
        try:
            yield stream, name
        except OSError as error:
            raise _unreadable(name, error) from None


def decode_lines(stream: BinaryIO, name: str, encoding: str | None = None) -> Iterator[str]:
    """The lines of a stream as they come, each with its end; `name` is its name in messages.

    Raises: ValueError, with name and line, for what is not text of the encoding (None: UTF-8).
    """
    codec = _codec(encoding, name)
    start = _start(stream)
    for magic, (what, advice) in NOT_TEXT.items():
        if start.startswith(magic):
            raise ValueError(f"{name}: expected text, got {what}; {advice}")
    mark = next((mark for mark in MARKS if start.startswith(mark)), b"")
    codec, start = MARKS.get(mark, codec), start[len(mark) :]
    if "\r\n".encode(codec) != b"\r\n":
        yield from _wide(start + stream.read(), name, codec)
        return
    misnamed = codec != "utf-8" and len(bytes(range(256)).decode(codec, "replace")) == 256  # while all lines are UTF-8
    plainly_utf8 = 0  # the first such line
    for number, raw in enumerate(_raw_lines(start, stream, name, codec), 1):
        try:
            line = raw.decode(codec)
        except UnicodeDecodeError as error:
            raise _undecodable(raw, error.start, "line", f"{name}:{number}", codec) from None
        if misnamed and not raw.isascii():
            misnamed = _is_utf8(raw)
            plainly_utf8 = plainly_utf8 or (number if PLAINLY_UTF8.search(raw) else 0)
        yield line.lstrip("\ufeff") if number == 1 else line
    if misnamed and plainly_utf8:
        raise ValueError(
            f"{name}:{plainly_utf8}: expected {encoding}, as the encoding is named, got a file that is UTF-8 in every "
            "line; leave --encoding out"
        )


# --- bytes ------------------------------------------------------------------------------------------------------------


def _codec(encoding: str | None, name: str) -> str:
    """Python's name of an encoding."""
    try:
        codec = codecs.lookup(encoding or "utf-8")
        if not codec._is_text_encoding or codec.name.replace("_", "-") in NO_TEXT_CODECS:
            raise LookupError
    except (LookupError, ValueError, TypeError):
        raise ValueError(
            f"{name}: expected the name of an encoding, such as utf-8, latin-1, cp1252 or utf-16, got {encoding!r}; "
            "correct --encoding"
        ) from None
    return "utf-8" if codec.name == "utf-8-sig" else codec.name


def _next_bytes(stream: BinaryIO) -> bytes:
    """As many bytes as a pipe has now, at most a CHUNK; none at the end."""
    return getattr(stream, "read1", stream.read)(CHUNK)


def _start(stream: BinaryIO) -> bytes:
    """At least 16 bytes, to recognise a byte-order mark, unless a line or the stream ends before."""
    start = b""
    while len(start) < 16 and b"\n" not in start and (more := _next_bytes(stream)):
        start += more
    return start


def _raw_lines(start: bytes, stream: BinaryIO, name: str, codec: str) -> Iterator[bytes]:
    """Lines with their ends, in an encoding that extends ASCII."""
    begun: list[bytes] = []  # parts of a line without its end
    number, chunk = 1, start
    while chunk:
        if 0 in chunk:  # at once, since a device of NUL bytes has no end
            line = number + chunk.count(b"\n", 0, chunk.index(0))
            raise ValueError(
                f"{name}:{line}: expected {codec.upper()}, got a NUL byte, which is no text; if the file is UTF-16, "
                "add --encoding utf-16-le, else take it out"
            )
        *whole, rest = chunk.split(b"\n")
        if whole:
            whole[0] = b"".join([*begun, whole[0]])
            begun.clear()
        begun.append(rest)
        number += len(whole)
        for line in whole:
            yield line + b"\n"
        chunk = _next_bytes(stream)
    last = b"".join(begun)
    if number == 1:
        yield from last.splitlines(True)  # bytes.splitlines knows these line ends only
    elif last:
        yield last


def _wide(raw: bytes, name: str, codec: str) -> Iterator[str]:
    """Lines with their ends, in an encoding that does not extend ASCII, such as UTF-16."""
    if raw and 0 not in raw and _is_utf8(raw):  # letters of ASCII have a NUL byte each in UTF-16 and UTF-32
        raise ValueError(
            f"{name}: expected {codec}, as the encoding is named, got a file that is UTF-8; leave --encoding out"
        )
    try:
        text = raw.decode(codec)
    except UnicodeDecodeError as error:
        number = 1 + raw[: error.start].decode(codec, "replace").count("\n")
        raise _undecodable(raw, error.start, "file", f"{name}:{number}", codec) from None
    if "\0" in text:
        number = 1 + text.count("\n", 0, text.index("\0"))
        raise ValueError(f"{name}:{number}: expected {codec.upper()}, got a NUL, which is no text; take it out")
    text = text.lstrip("\ufeff")
    yield from (LINE if "\n" in text else LINE_OF_MACS).findall(text)


def _is_utf8(raw: bytes) -> bool:
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _undecodable(raw: bytes, at: int, unit: str, where: str, codec: str) -> ValueError:
    advice = "name another --encoding, or convert the file to UTF-8"
    if codec == "utf-8":
        advice = "add --encoding latin-1 (from Windows: cp1252), or convert the file to UTF-8"
    actual = f"the byte 0x{raw[at]:02x} (byte {at + 1} of the {unit}), which is not"
    return ValueError(f"{where}: expected {codec.upper()}, got {actual}; {advice}")


def _unreadable(name: str, error: OSError | ValueError) -> ValueError:
    reason = getattr(error, "strerror", None) or error
    return ValueError(f"{name}: cannot be read ({reason}); check path and permissions")
