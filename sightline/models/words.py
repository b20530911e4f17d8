"""A model reads pieces, a person reads words: which pieces make which word, and what is between them in the text.

    Law is unbelievable       text
    Law is un bel iev able    pieces, as the tokenizer cut them, each with its span in the text
    Law is unbelievable       words: runs of letters and digits, and every other mark by itself

Pieces that lie in one word are that word; words that share a piece are one; a special token is a word of its own. No
word ends inside a letter, whatever a letter is made of: an accent, a vowel sign, an emoji of several parts.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import NamedTuple

import numpy as np
import regex
from numpy import ndarray

from sightline.models.spelling import UNKNOWN, letters, spelled

# Scripts that are written without blanks have a word in each letter.
DENSE = r"\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
REST = r"[\p{GCB=Extend}\p{GCB=SpacingMark}\p{GCB=ZWJ}]"  # what belongs to the letter before it
_LETTER = rf"[[\p{{L}}\p{{N}}_]--[{DENSE}]--\p{{Extended_Pictographic}}]{REST}*+"
_JOINT = r"(?:['\u2019\u00ad\u00b7\u05f3\u05f4-]|(?<=[\u05d0-\u05ea])\"(?=[\u05d0-\u05ea]))"
WORD = regex.compile(
    rf"(?:{_LETTER})++(?:{_JOINT}(?:{_LETTER})++)*+"
    rf"|(?![\s\p{{Default_Ignorable_Code_Point}}])\X|[\p{{Zs}}\p{{Default_Ignorable_Code_Point}}]{REST}+",
    regex.VERSION1,
)


_MARKS = {i: 0x2400 + i for i in range(32) if chr(i) not in "\n\t"} | {0x7F: 0x2421, 0xFEFF: 0x25CC}
_MARKS |= dict.fromkeys([*range(0x80, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A)], 0x25CC)


class Unit(NamedTuple):
    """A piece or a word: what is before it in the text, and itself; all units joined are the text."""

    space: str
    text: str


@dataclass(frozen=True)
class Text:
    """A text as a model reads it; `word_of` is for each piece its word, `special` which pieces the tokenizer added.

    `gold` pairs a piece with the one it should look at, where that is known. `unknown` are the pieces that the model
    does not know. `ends` is what is left of the text after the last piece, and after the last word.
    """

    pieces: list[Unit]
    words: list[Unit]
    word_of: list[int]
    special: list[bool]
    gold: list[tuple[int, int]]
    unknown: list[int] = field(default_factory=list)
    ends: tuple[str, str] = ("", "")

    @property
    def special_words(self) -> set[int]:
        return {word for word, special in zip(self.word_of, self.special, strict=True) if special}

    @property
    def direction(self) -> str:
        """How the text is written: "rtl", from right to left, or "ltr"."""
        special = self.special_words
        return direction("".join(word.space + word.text for i, word in enumerate(self.words) if i not in special))

    @property
    def short(self) -> str:
        """Its beginning, on one line."""
        special = self.special_words
        begin = [word for i, word in enumerate(self.words[:100]) if i not in special]
        words = " ".join("".join(word.space + word.text for word in begin).split())
        line = words if len(words) <= 60 else words[:59].rstrip() + "\u2026"
        return isolated(line) if self.direction == "rtl" else line

    def word(self, name: str) -> int:
        """The number of a word, named by its spelling, or where it occurs more than once as in its:2.

        Raises: ValueError where there is no such word, or several and none is named.

        >>> spans, tokens = [(0, 3), (4, 7), (7, 8), (9, 12), (13, 16)], ["its", "law", ",", "its", "way"]
        >>> text = cut("its law, its way", spans, tokens)
        >>> text.word("Law"), text.word("its:2")
        (1, 3)
        """
        places = self._named(name)
        if len(places) == 1:
            return places[0]
        if places:
            choice = " or ".join(f"{name}:{i + 1}" for i in range(min(len(places), 4)))
            raise ValueError(
                f"link: expected a word that occurs once, got {name!r}, which occurs {len(places)} times; "
                f"say which: {choice}"
            )
        stem, colon, number = name.rpartition(":")
        if colon and number.isdecimal() and (places := self._named(stem)):
            if 0 < int(number) <= len(places):
                return places[int(number) - 1]
            raise ValueError(f"link: expected one of the {len(places)} places of {stem!r}, got {number}; count from 1")
        raise ValueError(
            f"link: expected a word of the text, got {name!r}, which is not in it; write it as the text does"
        )

    def _named(self, name: str) -> list[int]:
        """The words with exactly this spelling, or, if there is none, with other capitals."""
        exact = [i for i, word in enumerate(self.words) if word.text == name]
        return exact or [i for i, word in enumerate(self.words) if word.text.lower() == name.lower()]

    def pair(self, link: str) -> tuple[int, int]:
        """The two words of a link such as its:Law or its:2:Law.

        Raises: ValueError where it does not name two words.
        """
        cuts = [i for i, letter in enumerate(link) if letter == ":" and 0 < i < len(link) - 1]
        cuts = [i for i in cuts if not re.fullmatch(r"\d+(:.*)?", link[i + 1 :]) or self._named(link[i + 1 :])]
        if not cuts:
            raise ValueError(f"link: expected two words with a colon between, as in its:Law, got {link!r}; name both")
        return self.word(link[: cuts[0]]), self.word(link[cuts[0] + 1 :])


def cut(
    text: str,
    spans: Sequence[tuple[int, int]],
    tokens: Sequence[str | bytes],
    special: Sequence[bool] | None = None,
    words: Sequence[tuple[int, int]] | None = None,
    unknown: Sequence[int] | None = None,
) -> Text:
    """Cuts a text into pieces and words: `spans` of its tokens (characters, from and past), which `tokens` spell.

    `words` are the spans of the words, where these are known. `unknown` are the pieces that the model does not know;
    without, those whose token says so.

    >>> spans, tokens = [(0, 0), (0, 2), (2, 4), (5, 7), (7, 8)], ["<s>", "It", "'s", "so", "."]
    >>> text = cut("It's so.", spans, tokens, [True] + [False] * 4)
    >>> [word.text for word in text.words], text.word_of
    (['<s>', "It's", 'so', '.'], [0, 1, 1, 2, 3])
    """
    special = [False] * len(spans) if special is None else [bool(one) for one in special]
    spans = _in_letters(text, spans)
    spans = [  # a special token has a span only where the text holds it
        (0, 0) if added and text[slice(*span)].strip().casefold() != str(token).casefold() else span
        for span, token, added in zip(spans, tokens, special, strict=True)
    ]
    words = [match.span() for match in WORD.finditer(text)] if words is None else list(words)
    words = _without(words, [span for span, added in zip(spans, special, strict=True) if added])
    alone = [letters(one.data) for one in spelled(tokens, special)]
    spans = _with_blanks(text, spans, alone)
    numbers, places = _grouped(text, spans, special, words, alone)
    inked = [
        (begin + len(part) - len(part.lstrip() or part), end) for begin, end in spans for part in [text[begin:end]]
    ]
    pieces, rest = _units(text, inked, alone)
    named = ["".join(alone[i] for i in some) for _, some in groupby(range(len(numbers)), numbers.__getitem__)]
    units, end = _units(text, places, [name if name.strip() else "" for name in named])
    if unknown is None:
        unknown = [i for i, token in enumerate(tokens) if isinstance(token, str) and UNKNOWN.fullmatch(token)]
    return Text(pieces, units, numbers, special, [], [i for i in unknown if not special[i]], (rest, end))


def overlaps(spans: ndarray, words: ndarray) -> tuple[ndarray, ndarray]:
    """All pairs of a piece and a word that share a letter, in the order of the pieces.

    Shapes: spans [n, 2], words [W, 2], rising: characters, from and past -> piece [P], word [P].

    >>> overlaps(np.array([[0, 6], [6, 6], [7, 9]]), np.array([[0, 3], [3, 6], [7, 9]]))
    (array([0, 0, 2]), array([0, 1, 2]))
    """
    begin, end = np.asarray(spans, np.int64).reshape(-1, 2).T
    words = np.asarray(words, np.int64).reshape(-1, 2)
    some = np.flatnonzero(words[:, 1] > words[:, 0])
    starts, stops = words[some].T
    low, high = np.searchsorted(stops, begin, "right"), np.searchsorted(starts, end, "left")
    count = np.where(end > begin, np.maximum(high - low, 0), 0)
    piece = np.repeat(np.arange(len(begin)), count)
    nth = np.arange(len(piece)) - np.repeat(count.cumsum() - count, count)
    return piece, some[low[piece] + nth]


def _in_letters(text: str, spans: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Spans in characters, inside the text; those past its end must count units of UTF-16, or else bytes of UTF-8."""
    most = max((end for _, end in spans), default=0)
    if most > len(text):
        bytes_of = [len(letter.encode("utf-8", "replace")) for letter in text]
        words_of = [1 + (letter > "\uffff") for letter in text]
        units = words_of if most <= sum(words_of) else bytes_of
        at = [i for i, many in enumerate(units) for _ in range(many)] + [len(text)]  # the letter of each unit
        at += [len(text)] * (most + 1 - len(at))
        spans = [(at[begin], at[end - 1] + 1 if end > begin else at[begin]) for begin, end in spans]
    return [(min(begin, len(text)), min(max(begin, end), len(text))) for begin, end in spans]


def _with_blanks(text: str, spans: list[tuple[int, int]], alone: Sequence[str]) -> list[tuple[int, int]]:
    """Widens the empty spans of pieces of blanks: some tokenizers place these past their blanks."""
    widened, reach = [], 0
    for (begin, end), name in zip(spans, alone, strict=True):
        if begin == end and name.isspace():
            while begin > max(reach, end - len(name)) and text[begin - 1].isspace():
                begin -= 1
            while end == reach and end < begin + len(name) and text[end : end + 1].isspace():
                end += 1
        widened.append((begin, end))
        reach = max(reach, end)
    return widened


def _grouped(text: str, spans, special, words, alone) -> tuple[list[int], list[tuple[int, int]]]:
    """For each piece the number of its word, from 0, never falling; and the spans of these words."""
    piece, word = overlaps(np.array(spans, np.int64).reshape(-1, 2), np.array(words, np.int64).reshape(-1, 2))
    bounds = np.searchsorted(piece, np.arange(len(spans) + 1)).tolist()
    word = word.tolist()
    numbers: list[int] = []
    places: list[list[int]] = []
    reach, edge, begun = -1, 0, False  # the group's last word; where it ends; whether one more piece may belong to it
    for i, (begin, end) in enumerate(spans):
        own = [] if special[i] else word[bounds[i] : bounds[i + 1]]
        letters = text[begin:end] if end > begin else alone[i]
        away = own and begun and reach < 0 and any(map(str.isspace, text[edge : words[own[0]][0]]))
        # A piece of blanks belongs to the word that follows.
        if special[i] or not begun or away or reach >= 0 and (own[0] > reach if own else letters.isspace()):
            places.append([begin, end])
            reach = -1
        numbers.append(len(places) - 1)
        begun, edge = not special[i], max(end, begin)
        if own:
            place = places[-1]
            low, high = words[own[0]][0], words[own[-1]][1]
            places[-1] = [low, high] if reach < 0 else [min(place[0], low), max(place[1], high)]
            reach = max(reach, own[-1])
        elif end > begin and reach < 0 and not special[i]:
            places[-1] = [min(places[-1][0], begin), max(places[-1][1], end)]
    return numbers, [(begin, end) for begin, end in places]


def _units(text: str, spans, alone: Sequence[str]) -> tuple[list[Unit], str]:
    """The units at these spans, and the rest of the text; a unit whose letters are taken has its own spelling."""
    units, at = [], 0
    for (begin, end), name in zip(spans, alone, strict=True):
        begin = max(begin, at)
        if begin >= end:
            units.append(Unit("", visible(name)))
            continue
        units.append(Unit(visible(text[at:begin]), visible(text[begin:end])))
        at = end
    return units, visible(text[at:])


def _without(words: list[tuple[int, int]], others: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """The spans of words, cut where others are."""
    others = [(begin, end) for begin, end in others if end > begin]
    if not others:
        return words
    parts = []
    for begin, end in words:
        for first, past in others:
            if first < end and past > begin:
                parts.append((begin, first))
                begin = max(begin, past)
        parts.append((begin, end))
    return [(begin, end) for begin, end in parts if end > begin]


def direction(text: str) -> str:
    """How a text is written, by its first letter that has a direction: "rtl" or "ltr".

    Source: Unicode Standard Annex 9, rules P2 and P3.

    >>> direction("(1) \u05e9\u05dc\u05d5\u05dd, world"), direction("123")
    ('rtl', 'ltr')
    """
    isolates = 0
    for letter in text:
        kind = unicodedata.bidirectional(letter)
        if kind in ("LRI", "RLI", "FSI"):
            isolates += 1
        elif kind == "PDI":
            isolates = max(0, isolates - 1)
        elif not isolates and kind in ("L", "R", "AL"):
            return "ltr" if kind == "L" else "rtl"
    return "ltr"


def isolated(text: str) -> str:
    """Text that keeps its own direction inside other text, between the marks FSI and PDI."""
    return f"\u2068{text}\u2069"


def visible(text: str) -> str:
    """Replaces control characters by visible marks, so that none has an effect; line ends and tabs stay.

    >>> visible("a\\x00b\\x7f\\n")
    'a\u2400b\u2421\\n'
    """
    return text.translate(_MARKS)
