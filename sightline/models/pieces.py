"""From tokens alone, as in a notebook that has no text: the text that they spell, its pieces and words.

A tokenizer's offsets say where a gap is, not what the text was: they restart in the second text of a pair and in each
word of a text that was cut into words, some include the blank before a word, and several tokens may share a letter. So
the letters come from the tokens, and the offsets only say where words begin.
"""

from __future__ import annotations

import re
import unicodedata
from codecs import getincrementaldecoder
from collections.abc import Sequence
from itertools import groupby
from typing import NamedTuple

import regex

from sightline.models.spelling import GOES_ON, LIMITS, UNKNOWN, spelled
from sightline.models.words import DENSE, REST, Text, cut

_DENSE, _REST = regex.compile(rf"[{DENSE}]"), regex.compile(REST)
FAR = 64  # letters of a text that a tokenizer may have dropped between two tokens


class _Token(NamedTuple):
    """A token of one sequence.

    `gap`: whether a blank is before it; None: as its vocabulary writes. `word`: its word, of a text that was cut into
    words. `plain`: it is as long as its span, so that its marks are text.
    """

    token: str | bytes
    special: bool
    gap: bool | None = None
    word: tuple | None = None
    plain: bool = False


def text_of(pieces, sequence: int, count: int) -> Text:
    """The pieces and words of a sequence of `count` tokens.

    `pieces` is None, and then words are places in the sequence; strings or bytes, one for each token, as a vocabulary
    writes them or as they decode; or what a fast tokenizer returns for the batch. Strings may be in lists, one for each
    sequence. Padding is left out.

    Raises: TypeError for anything else; ValueError for a wrong number.

    >>> [word.text for word in text_of(["The", "Law", "is", "un", "##believ", "##able"], 0, 6).words]
    ['The', 'Law', 'is', 'unbelievable']
    >>> [word.text for word in text_of(["\u0120caf", "\u00c3", "\u00a9", "\u0120\u00e4\u00b8", "\u0143"], 0, 5).words]
    ['café', '中']
    """
    if pieces is None:
        pieces = [str(place) for place in range(count)]
        return _joined([_Token(place, False, i > 0) for i, place in enumerate(pieces)])
    own = getattr(pieces, "encodings", pieces)
    if isinstance(own, (list, tuple)) and own and not isinstance(own[0], (str, bytes)):
        if sequence >= len(own):
            raise ValueError(
                f"pieces: expected those of sequence {sequence}, got {len(own)} sequences; "
                "give what the model was given"
            )
        own = own[sequence]
    if hasattr(own, "offsets") and hasattr(own, "tokens"):
        tokens = _from_encoding(own, count)
    elif isinstance(own, (list, tuple)) and all(isinstance(piece, (str, bytes)) for piece in own):
        tokens = [_Token(piece, isinstance(piece, str) and bool(LIMITS.fullmatch(piece))) for piece in own]
    else:
        raise TypeError(
            f"pieces: expected a string for each token, or what a fast tokenizer gave, got {type(pieces).__name__}; "
            "give tokenizer.convert_ids_to_tokens(ids)"
        )
    if len(tokens) != count:
        raise ValueError(
            f"pieces: expected {count}, one for each token of sequence {sequence}, got {len(tokens)}; "
            "give those the model was given"
        )
    return _joined(tokens)


def _from_encoding(encoding, count: int) -> list[_Token]:
    """The tokens of an encoding that are no padding, with the gaps that its offsets show."""
    real = [i for i, real in enumerate(encoding.attention_mask) if real]
    if len(encoding.tokens) == count:  # the model had no mask, and saw the padding
        real = list(range(count))
    of_word = getattr(encoding, "word_ids", None) or [None] * len(encoding.tokens)
    of_text = getattr(encoding, "sequence_ids", None) or [None] * len(encoding.tokens)
    spans = encoding.offsets
    apart = _cut_into_words(real, encoding, of_word, of_text)
    tokens, last = [], None
    for i in real:
        token = encoding.tokens[i]
        if encoding.special_tokens_mask[i]:
            tokens.append(_Token(token, True))
            continue
        gap, word = None, (of_text[i], of_word[i]) if apart else None
        if last is not None:
            (begin, end), before = spans[i], spans[last]
            same = of_word[i] is not None and of_word[i] == of_word[last]
            restart = of_text[i] != of_text[last] or begin < before[0]
            restart = restart or of_word[i] is None and begin == before[0] == 0 and 0 < end != before[1] > 0
            inside = same and token.startswith(GOES_ON)  # what the tokenizer dropped there is no blank
            gap = restart or (not same if apart else begin > before[1] and not inside)
        tokens.append(_Token(token, False, gap, word, spans[i][1] - spans[i][0] == len(token)))
        last = i
    return tokens


def _cut_into_words(real: Sequence[int], encoding, of_word, of_text) -> bool:
    """Whether the text was cut into words before tokenizing: then the offsets restart in each."""
    changes = 0
    last = None
    for i in real:
        begin, end = encoding.offsets[i]
        if encoding.special_tokens_mask[i] or end == begin:
            continue
        if last is not None and of_text[i] == of_text[last] and of_word[i] != of_word[last]:
            if begin != 0 or of_word[last] is None or of_word[i] < of_word[last]:
                return False
            changes += 1
        last = i
    return changes > 0


def _joined(tokens: Sequence[_Token]) -> Text:
    """The text that tokens spell, with its pieces and words."""
    special = [one.special for one in tokens]
    alone = [one.special or isinstance(one.token, str) and bool(UNKNOWN.fullmatch(one.token)) for one in tokens]
    written = spelled([one.token for one in tokens], alone, [one.plain for one in tokens])
    joined, spans, words, after = _Joined(), [], {}, False
    for one, read in zip(tokens, written, strict=True):
        if one.special:
            spans.append((0, 0))
            after = True
            continue
        if after or one.gap or one.gap is None and read.begins and joined.apart(read.data):
            joined.blank(read.data)
        span = joined.add(read.data)
        if one.word is not None:
            first, past = words.get(one.word, span)
            words[one.word] = min(first, span[0]), max(past, span[1])
        spans.append(span)
        after = False
    text = joined.end()
    parts = [(first, past, text[first:past]) for first, past in words.values()]
    places = [(past - len(part.lstrip()), past) for _, past, part in parts] if words else None
    return cut(text, spans, [one.token for one in tokens], special, places)


class _Joined:
    """Text that grows by the bytes of tokens; a letter is complete with its last byte."""

    def __init__(self):
        self._decoder = getincrementaldecoder("utf-8")("replace")
        self._parts: list[str] = []
        self._size, self._last, self._begun = 0, "", False

    def add(self, data: bytes) -> tuple[int, int]:
        """The span of the letters of which these are bytes."""
        if not self._begun:
            data = data.removeprefix(b" ")  # vocabularies write it before the first word, too
        self._begun = True
        begin = self._size
        self._take(self._decoder.decode(data))
        return begin, self._size + self._waiting * bool(data)

    def blank(self, following: bytes) -> None:
        """Adds a blank, unless one is there."""
        self._take(self._decoder.decode(b"", True))
        self._decoder.reset()
        if self._size and not self._last.isspace() and not following[:1].isspace():
            self._take(" ")

    def apart(self, data: bytes) -> bool:
        """Whether people write a blank before this, if the tokenizer does not say."""
        following = data.decode("utf-8", "ignore")
        return not (_DENSE.match(self._last) and _DENSE.match(following) or _REST.match(following))

    def end(self) -> str:
        self._take(self._decoder.decode(b"", True))
        return "".join(self._parts)

    @property
    def _waiting(self) -> bool:
        return bool(self._decoder.getstate()[0])

    def _take(self, text: str) -> None:
        self._parts.append(text)
        self._size += len(text)
        self._last = text[-1:] or self._last


# --- a known text, and tokens without spans -------------------------------------------------------------------------


def find_spans(text: str, tokens: Sequence[str | bytes], special: Sequence[bool]) -> list[tuple[int, int]]:
    """The spans of tokens in a text, by their letters: for tokenizers that give none.

    Capitals, accents and width may differ. What has other letters, such as an unknown token, has the span left for it.

    >>> find_spans("Café, zürich!", ["[CLS]", "cafe", "[UNK]", "zu", "##rich", "!"], [True] + [False] * 5)
    [(0, 0), (0, 4), (4, 5), (6, 8), (8, 12), (12, 13)]
    """
    letters, at = [], []  # of the text, as they are compared, and the place of each
    for place, letter in enumerate(text):
        for one in _compared(letter):
            letters.append(one)
            at.append(place)
    whole, here = "".join(letters), 0
    alone = [
        added or isinstance(token, str) and bool(UNKNOWN.fullmatch(token))
        for token, added in zip(tokens, special, strict=True)
    ]
    joined = _Joined()
    written = [
        (0, 0) if plain else joined.add(one.data) for one, plain in zip(spelled(tokens, alone), alone, strict=True)
    ]
    read = joined.end()
    place_of: dict[int, int] = {}  # of each letter of the tokens, its place in the text
    reach = 0
    for begin, end in written:
        own = [(i, one) for i in range(max(begin, reach), end) for one in _compared(read[i : i + 1])]
        reach = max(reach, end)
        spelling = "".join(one for _, one in own)
        first = whole.find(spelling, here, here + len(spelling) + FAR) if spelling else -1
        if first >= 0:
            here = first + len(spelling)
            place_of |= {i: at[first + nth] for nth, (i, _) in enumerate(own)}
    spans: list[tuple[int, int] | None] = []
    for begin, end in written:
        places = [place_of[i] for i in range(begin, end) if i in place_of]
        spans.append((min(places), max(places) + 1) if places else None)
    return _filled(text, spans, special)


def _filled(text: str, spans: list[tuple[int, int] | None], special: Sequence[bool]) -> list[tuple[int, int]]:
    """Gives tokens without a span the words between the others: one each, the last one the rest."""
    filled: list[tuple[int, int]] = []
    reach = 0
    for lost, run in groupby(range(len(spans)), lambda i: spans[i] is None and not special[i]):
        run = list(run)
        if lost:
            past = next((later[0] for later in spans[run[-1] :] if later), len(text))
            parts = [(reach + part.start(), reach + part.end()) for part in re.finditer(r"\S+", text[reach:past])]
            last = parts[len(run) - 1 :]
            own = parts[: len(run) - 1] + ([(last[0][0], last[-1][1])] if last else [])
            end = own[-1][1] if own else reach
            filled += own + [(end, end)] * (len(run) - len(own))
        else:
            filled += [spans[i] or (0, 0) for i in run]
        reach = max(reach, *(end for _, end in filled[-len(run) :]))
    return filled


def _compared(text: str) -> str:
    folded = unicodedata.normalize("NFKD", text).casefold()
    return "".join(one for one in folded if not (one.isspace() or unicodedata.combining(one)))
