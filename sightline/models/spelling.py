"""How vocabularies write text: each token as bytes or letters, and whether a word begins there.

    ["\u0120caf", "\u00c3", "\u00a9"]        bytes, each as a letter (GPT-2, RoBERTa)      " café"
    ["\u2581caf", "<0xC3>", "<0xA9>"]   letters, and bytes by number (Llama)       " café"
    ["un", "##able"], ["un@@", "able"], ["un", "able</w>"]                       "unable"

A letter may be cut over several tokens, so bytes are joined before they are decoded.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

BEGINS = ("\u0120", "\u2581")  # a blank, in byte-level vocabularies and in those of SentencePiece
GOES_ON, ENDS, CUT = "##", "</w>", "@@"  # in the middle of a word, at its end, before more of it
FRAGMENT = "\u25cc"  # stands for a token that is the rest of a letter
LIMITS = re.compile(r"\[(CLS|SEP|PAD|BOS|EOS)\]|</?s>|<(bos|eos|cls|sep|pad)>|<\|[^|<>\s]{1,40}\|>")
UNKNOWN = re.compile(r"\[UNK\]|<\|?unk\|?>", re.IGNORECASE)
BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_PLAIN = [*range(33, 127), *range(161, 173), *range(174, 256)]  # bytes that are written as their own letter
_BYTES = {chr(byte): byte for byte in _PLAIN} | {
    chr(256 + i): byte for i, byte in enumerate(byte for byte in range(256) if byte not in _PLAIN)
}
_BLANK = re.compile("[\u0120\u010a\u0109\u010d]+")  # blank, line feed, tab and return in byte-level vocabularies
_CONTROL = re.compile("[\u0100-\u011f]")  # control characters in them


class Spelled(NamedTuple):
    """A token as bytes of text; by its marks a word begins with it (`begins`), or it continues one (`goes_on`)."""

    data: bytes
    begins: bool = False
    goes_on: bool = False


def spelled(
    tokens: Sequence[str | bytes], plain: Sequence[bool] | None = None, whole: Sequence[bool] | None = None
) -> list[Spelled]:
    """The tokens of one sequence as bytes of text, read by the conventions that they show together.

    `plain` are the tokens that are written as they are, such as special ones; `whole` those whose marks are text.

    >>> b"".join(one.data for one in spelled(["\u0120caf", "\u00c3", "\u00a9"])).decode()
    ' café'
    >>> [one.goes_on for one in spelled(["un", "##able"])]
    [False, True]
    """
    plain = [False] * len(tokens) if plain is None else list(plain)
    whole = [False] * len(tokens) if whole is None else list(whole)
    ordinary = [token for token, alone in zip(tokens, plain, strict=True) if not alone]
    read = _reader(ordinary)
    texts = []
    for i, (token, alone) in enumerate(zip(tokens, plain, strict=True)):
        first = whole[i] or i == 0 or plain[i - 1]  # it continues nothing, so the mark that it would is text
        marked = first and isinstance(token, str) and token.startswith(GOES_ON)
        texts.append(Spelled(_encoded(token)) if alone or marked else read(token))
    return texts


def letters(data: bytes) -> str:
    """A token by itself as text, or a mark where it is a part of a letter.

    >>> letters(b"law"), letters(bytes([0xC3]))
    ('law', '\u25cc')
    """
    try:
        return data.decode()
    except UnicodeDecodeError:
        rest = data.decode("utf-8", "ignore")
        return rest if rest.strip() else FRAGMENT


def _reader(ordinary: Sequence[str | bytes]):
    """The function that reads a token, chosen by the marks of all tokens."""
    strings = [token for token in ordinary if isinstance(token, str)]
    if strings and _in_bytes(strings):
        return _byte_level
    if max(strings, default="") > "\u007f" and all(len(t) == 1 and t < "\u0100" for t in strings) and _decodes(strings):
        return lambda token: Spelled(token if isinstance(token, bytes) else token.encode("latin-1"))
    if any(BEGINS[1] in token or BYTE.fullmatch(token) for token in strings):
        return _sentence_piece
    if any(token.endswith(ENDS) for token in strings):
        return _suffixed
    if any(token.endswith(CUT) and token != CUT for token in strings):
        return _prefixed
    spaced = any(token[:1].isspace() or token[-1:].isspace() for token in strings)  # decoded one by one, with blanks
    return (lambda token: Spelled(_encoded(token))) if spaced else _word_piece


def _byte_level(token: str | bytes) -> Spelled:
    if isinstance(token, bytes) or not all(letter in _BYTES for letter in token):  # an added token is written as it is
        return Spelled(_encoded(token))
    return Spelled(bytes(_BYTES[letter] for letter in token))


def _sentence_piece(token: str | bytes) -> Spelled:
    byte = isinstance(token, str) and BYTE.fullmatch(token)
    return Spelled(bytes([int(byte[1], 16)]) if byte else _encoded(token).replace(_encoded(BEGINS[1]), b" "))


def _suffixed(token: str | bytes) -> Spelled:
    text = _encoded(token)
    return Spelled(text.removesuffix(ENDS.encode()) + b" " * text.endswith(ENDS.encode()))


def _prefixed(token: str | bytes) -> Spelled:
    text = _encoded(token)
    return Spelled(text.removesuffix(CUT.encode()) if text.endswith(CUT.encode()) else text + b" ")


def _word_piece(token: str | bytes) -> Spelled:
    if isinstance(token, bytes):
        return Spelled(token)
    inner = token.removeprefix(GOES_ON)
    goes_on = inner != token and inner != ""
    return Spelled(_encoded(inner if goes_on else token), begins=not goes_on, goes_on=goes_on)


def _encoded(token: str | bytes) -> bytes:
    return token if isinstance(token, bytes) else token.encode("utf-8", "replace")


def _in_bytes(tokens: list[str]) -> bool:
    """Whether these are tokens of a byte-level vocabulary: their letters all stand for bytes, and these are text."""
    some = [token for token in tokens if all(letter in _BYTES for letter in token)]
    data = [_BYTES[letter] for token in some for letter in token]
    if any(BEGINS[0] in token for token in some):
        return _is_text(data, 0.9)
    if any(_CONTROL.search(token) and not _BLANK.fullmatch(token) for token in some):
        return False
    shows = any(byte > 127 for byte in data) or any(map(_BLANK.fullmatch, some))
    return len(some) == len(tokens) and shows and _is_text(data)


def _decodes(tokens: list[str]) -> bool:
    try:
        return bool("".join(tokens).encode("latin-1").decode())
    except UnicodeDecodeError:
        return False


def _is_text(data, share: float = 1.0) -> bool:
    """Whether bytes are UTF-8, but for a letter that is cut at either end, or for a share of the letters."""
    text = bytes(data).decode("utf-8", "replace").strip("\ufffd")
    return text.count("\ufffd") <= (1 - share) * len(text)
