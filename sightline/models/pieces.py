"""Where the text is gone and its tokens are left, as in a notebook: the text that they make, and they laid over it.

A tokenizer's offsets say where a gap is, not what the text was: they begin anew in the second text of a pair and in each word of
a text that was cut into words, some hold the blank before a word, and several tokens may share a letter. So the letters come from
the tokens, and from the offsets only where words begin.
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
    """A token of one sequence; `gap` says whether a blank stands before it (None: as its vocabulary writes), `word` which word
    of a text that was cut into words it is of, `plain` that it is as long as its place, so that its marks are text."""

    token: str | bytes
    special: bool
    gap: bool | None = None
    word: tuple | None = None
    plain: bool = False


def text_of(pieces, sequence: int, count: int) -> Text:
    """The pieces and words of a sequence of `count` tokens, from what is left of its text.

    `pieces` is None, and then words are places in the sequence; strings or bytes, one for each token, as a vocabulary writes them
    or as they decode; or what a fast tokenizer returns for the batch. Strings may be in lists, one for each sequence. Padding is left out.

    Raises: TypeError for anything else; ValueError for a wrong number.

    >>> [word.text for word in text_of(["The", "Law", "is", "un", "##believ", "##able"], 0, 6).words]
    ['The', 'Law', 'is', 'unbelievable']
    >>> [word.text for word in text_of(["\u0120caf", "\u00c3", "\u00a9", "\u0120\u00e4\u00b8", "\u0143"], 0, 5).words]
    ['café', '中']
    """
    if pieces is None:
        pieces = [str(place) for place in range(count)]
        return _laid([_Token(place, False, i > 0) for i, place in enumerate(pieces)])
    given = getattr(pieces, "encodings", pieces)
    if isinstance(given, (list, tuple)) and given and not isinstance(given[0], (str, bytes)):
        if sequence >= len(given):
            raise ValueError(
                f"pieces: expected those of sequence {sequence}, got {len(given)} sequences; give what the model was given"
            )
        given = given[sequence]
    if hasattr(given, "offsets") and hasattr(given, "tokens"):
        tokens = _of_encoding(given, count)
    elif isinstance(given, (list, tuple)) and all(isinstance(piece, (str, bytes)) for piece in given):
        tokens = [_Token(piece, isinstance(piece, str) and bool(LIMITS.fullmatch(piece))) for piece in given]
    else:
        raise TypeError(
            f"pieces: expected a string for each token, or what a fast tokenizer gave, got {type(pieces).__name__}; give "
            "tokenizer.convert_ids_to_tokens(ids)"
        )
    if len(tokens) != count:
        raise ValueError(
            f"pieces: expected {count}, one for each token of sequence {sequence}, got {len(tokens)}; give those the model was given"
        )
    return _laid(tokens)


def _of_encoding(encoding, count: int) -> list[_Token]:
    """The tokens of an encoding that are no padding, with the gaps and seams that its offsets tell of."""
    real = [i for i, real in enumerate(encoding.attention_mask) if real]
    if len(encoding.tokens) == count:  # the model was told of no padding, and saw it
        real = list(range(count))
    of_word = getattr(encoding, "word_ids", None) or [None] * len(encoding.tokens)
    of_text = getattr(encoding, "sequence_ids", None) or [None] * len(encoding.tokens)
    spans = encoding.offsets
    apart = _cut_into_words(real, encoding, of_word, of_text)
    made, last = [], None
    for i in real:
        token, special = encoding.tokens[i], bool(encoding.special_tokens_mask[i])
        if special:
            made.append(_Token(token, True))
            continue
        gap, word = None, (of_text[i], of_word[i]) if apart else None
        if last is not None:
            (begin, end), before = spans[i], spans[last]
            same = of_word[i] is not None and of_word[i] == of_word[last]
            anew = of_text[i] != of_text[last] or begin < before[0]
            anew = anew or of_word[i] is None and begin == before[0] == 0 and 0 < end != before[1] > 0
            inside = same and token.startswith(GOES_ON)  # what the tokenizer dropped there is no blank
            gap = anew or (not same if apart else begin > before[1] and not inside)
        made.append(_Token(token, False, gap, word, spans[i][1] - spans[i][0] == len(token)))
        last = i
    return made


def _cut_into_words(real: Sequence[int], encoding, of_word, of_text) -> bool:
    """Whether the text was cut into words before: then the offsets begin anew in each."""
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


def _laid(tokens: Sequence[_Token]) -> Text:
    """The text that tokens make, and they laid over it."""
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
    """Text that grows by the bytes of tokens; a letter is there when its last byte is."""

    def __init__(self):
        self._decoder = getincrementaldecoder("utf-8")("replace")
        self._parts: list[str] = []
        self._size, self._last, self._begun = 0, "", False

    def add(self, data: bytes) -> tuple[int, int]:
        """Where the letters stand of which some bytes are added."""
        if not self._begun:
            data = data.removeprefix(b" ")  # as vocabularies write it before the first word, too
        self._begun = True
        begin = self._size
        self._take(self._decoder.decode(data))
        return begin, self._size + self._waiting * bool(data)

    def blank(self, following: bytes) -> None:
        """A blank, unless one is there."""
        self._take(self._decoder.decode(b"", True))
        self._decoder.reset()
        if self._size and not self._last.isspace() and not following[:1].isspace():
            self._take(" ")

    def apart(self, data: bytes) -> bool:
        """Whether a person writes a blank before this, where no tokenizer says it."""
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


# --- a text that is there, and tokens without places ------------------------------------------------------------------------


def placed(text: str, tokens: Sequence[str | bytes], special: Sequence[bool]) -> list[tuple[int, int]]:
    """Where tokens stand in a text, by their letters: for tokenizers that do not say it.

    Capitals, accents and width may differ. What cannot be recognised, as an unknown token, stands where it alone can stand.

    >>> placed("Café, zürich!", ["[CLS]", "cafe", "[UNK]", "zu", "##rich", "!"], [True] + [False] * 5)
    [(0, 0), (0, 4), (4, 5), (6, 8), (8, 12), (12, 13)]
    """
    letters, at = [], []  # of the text, as they are compared, and where each stands
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
        wanted = [(i, one) for i in range(max(begin, reach), end) for one in _compared(read[i : i + 1])]
        reach = max(reach, end)
        sought = "".join(one for _, one in wanted)
        first = whole.find(sought, here, here + len(sought) + FAR) if sought else -1
        if first >= 0:
            here = first + len(sought)
            place_of |= {i: at[first + nth] for nth, (i, _) in enumerate(wanted)}
    spans: list[tuple[int, int] | None] = []
    for begin, end in written:
        places = [place_of[i] for i in range(begin, end) if i in place_of]
        spans.append((min(places), max(places) + 1) if places else None)
    return _filled(text, spans, special)


def _filled(text: str, spans: list[tuple[int, int] | None], special: Sequence[bool]) -> list[tuple[int, int]]:
    """Tokens without a place have what lies between the others, but for blanks: each a part, where these are as many."""
    made: list[tuple[int, int]] = []
    reach = 0
    for lost, run in groupby(range(len(spans)), lambda i: spans[i] is None and not special[i]):
        run = list(run)
        if lost:
            past = next((later[0] for later in spans[run[-1] :] if later), len(text))
            parts = [(reach + part.start(), reach + part.end()) for part in re.finditer(r"\S+", text[reach:past])]
            last = parts[len(run) - 1 :]
            own = parts[: len(run) - 1] + ([(last[0][0], last[-1][1])] if last else [])
            end = own[-1][1] if own else reach
            made += own + [(end, end)] * (len(run) - len(own))
        else:
            made += [spans[i] or (0, 0) for i in run]
        reach = max(reach, *(end for _, end in made[-len(run) :]))
    return made


def _compared(text: str) -> str:
    folded = unicodedata.normalize("NFKD", text).casefold()
    return "".join(one for one in folded if not (one.isspace() or unicodedata.combining(one)))
