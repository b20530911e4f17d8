"""A model reads pieces, a person reads words: which pieces make which word, and what stands between them in the text.

    Law is unbelievable       text
    Law is un bel iev able    pieces, as the tokenizer cut them, each with its place in the text
    Law is unbelievable       words: runs of letters and digits, and every other mark by itself

Pieces that lie in one word are that word; words that share a piece are one; a special token is a word of its own.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple

# Scripts that are written without blanks have a word in each letter.
DENSE = "\u0e00-\u0eff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"
WORD = re.compile(rf"[{DENSE}]|(?:(?![{DENSE}])\w)+(?:['\u2019-](?:(?![{DENSE}])\w)+)*|[^\w\s]")


class Unit(NamedTuple):
    """A piece or a word: what stands before it, and itself; together all units are the text."""

    space: str
    text: str


@dataclass(frozen=True)
class Text:
    """A text as a model reads it; `word_of` is for each piece its word, `special` which pieces the tokenizer added.

    `gold` pairs a piece with the one it should look at, where that is known.
    """

    pieces: list[Unit]
    words: list[Unit]
    word_of: list[int]
    special: list[bool]
    gold: list[tuple[int, int]]

    @property
    def special_words(self) -> set[int]:
        return {word for word, special in zip(self.word_of, self.special, strict=True) if special}

    @property
    def short(self) -> str:
        """A line of its beginning."""
        special = self.special_words
        begin = [word for i, word in enumerate(self.words[:100]) if i not in special]
        words = " ".join("".join(word.space + word.text for word in begin).split())
        return words if len(words) <= 60 else words[:59].rstrip() + "\u2026"

    def word(self, named: str) -> int:
        """The number of a word, called by its spelling, or where it occurs more than once as in its:2.

        Raises: ValueError where there is no such word, or several and none is named.

        >>> text = cut("its law, its way", [(0, 3), (4, 7), (7, 8), (9, 12), (13, 16)], ["its", "law", ",", "its", "way"])
        >>> text.word("Law"), text.word("its:2")
        (1, 3)
        """
        found = self._called(named)
        if len(found) == 1:
            return found[0]
        if found:
            choice = " or ".join(f"{named}:{i + 1}" for i in range(min(len(found), 4)))
            raise ValueError(
                f"link: expected a word that occurs once, got {named!r}, which occurs {len(found)} times; say which: {choice}"
            )
        stem, colon, number = named.rpartition(":")
        if colon and number.isdecimal() and (found := self._called(stem)):
            if 0 < int(number) <= len(found):
                return found[int(number) - 1]
            raise ValueError(
                f"link: expected one of the {len(found)} places of {stem!r}, got {number}; count from 1"
            )
        raise ValueError(
            f"link: expected a word of the text, got {named!r}, which is not in it; write it as the text does"
        )

    def _called(self, name: str) -> list[int]:
        """Spelled just so, or, if there is none, but for capitals."""
        exact = [i for i, word in enumerate(self.words) if word.text == name]
        return exact or [i for i, word in enumerate(self.words) if word.text.lower() == name.lower()]

    def pair(self, link: str) -> tuple[int, int]:
        """The two words of a link such as its:Law or its:2:Law.

        Raises: ValueError where it does not name two words.
        """
        cuts = [i for i, letter in enumerate(link) if letter == ":" and 0 < i < len(link) - 1]
        cuts = [
            i for i in cuts if not re.fullmatch(r"\d+(:.*)?", link[i + 1 :]) or self._called(link[i + 1 :])
        ]
        if not cuts:
            raise ValueError(
                f"link: expected two words with a colon between, as in its:Law, got {link!r}; name both"
            )
        return self.word(link[: cuts[0]]), self.word(link[cuts[0] + 1 :])


def cut(
    text: str,
    spans: Sequence[tuple[int, int]],
    tokens: Sequence[str],
    special: Sequence[bool] | None = None,
) -> Text:
    """Lays the pieces of a tokenizer over a text: `spans` are where they stand, `tokens` how the vocabulary writes them.

    >>> found = cut("It's so.", [(0, 1), (0, 2), (2, 4), (5, 7), (7, 8)], ["<s>", "It", "'s", "so", "."], [True] + [False] * 4)
    >>> [word.text for word in found.words], found.word_of
    (['<s>', "It's", 'so', '.'], [0, 1, 1, 2, 3])
    """
    special = [False] * len(spans) if special is None else [bool(one) for one in special]
    starts = [match.span() for match in WORD.finditer(text)]
    groups = _grouped(text, spans, special, starts)
    pieces, words, at = [], [], 0
    for (begin, end), token, added in zip(spans, tokens, special, strict=True):
        if added or max(begin, at) >= end:  # nothing of the text is left for it
            pieces.append(Unit("", shown(token)))
            continue
        begin = max(begin, at)
        begin += len(text[begin:end]) - len(text[begin:end].lstrip() or text[begin:end])
        pieces.append(Unit(shown(text[at:begin]), shown(text[begin:end])))
        at = end
    for _, of_word in groupby(range(len(groups)), groups.__getitem__):
        mine = list(of_word)
        placed = [i for i in mine if spans[i][1] > spans[i][0]]
        space, spelled = pieces[mine[0]]
        if len(mine) > 1:
            spelled = "".join(pieces[i].text for i in mine)
            if placed:
                spelled = text[min(spans[i][0] for i in placed) : max(spans[i][1] for i in placed)]
            bare = spelled.strip() or spelled
            space, spelled = space + shown(spelled[: spelled.index(bare)]), shown(bare)
        words.append(Unit(space, spelled))
    return Text(pieces, words, groups, special, [])


def _grouped(text: str, spans, special: list[bool], words: list[tuple[int, int]]) -> list[int]:
    """The number of the word of each piece, from 0, never falling."""
    numbers: list[int] = []
    number, reach, word = -1, 0, 0  # reach: where the word of the last piece ends
    for (begin, end), added in zip(spans, special, strict=True):
        blank = len(text[begin:end]) - len(text[begin:end].lstrip())
        blanks = blank == end - begin  # a piece of nothing else belongs to what follows
        if added:
            number, reach = number + 1, -1
        elif end > begin:
            if reach < 0 or begin + (0 if blanks else blank) >= reach:
                number, reach = number + 1, end
            while word < len(words) and words[word][1] <= begin + blank:
                word += 1
            for start, stop in words[word : word + 64]:
                if start >= end:
                    break
                reach = max(reach, stop)
            if blanks:
                reach = max(reach, end + 1)
        elif not numbers or reach < 0:
            number, reach = number + 1, begin
        numbers.append(number)
    return numbers


def shown(text: str) -> str:
    """Control characters as the marks that stand for them, so that none acts; line ends and tabs stay.

    >>> shown("a\\x00b\\x7f\\n")
    'a\u2400b\u2421\\n'
    """
    marks = {i: 0x2400 + i for i in range(32) if chr(i) not in "\n\t"} | {0x7F: 0x2421, 0xFEFF: 0x25CC}
    marks |= dict.fromkeys([*range(0x80, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A)], 0x25CC)
    return text.translate(marks)
