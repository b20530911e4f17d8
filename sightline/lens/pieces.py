"""An observation knows rows, a person reads words: the text of a sequence, from what the person still has of its tokens.

That is what a tokenizer gave, or a string for each token, as vocabularies write them or not; or nothing, and the words are places.
"""

from __future__ import annotations

from sightline.lens.wording import Text, cut

BEGINS, GOES_ON = ("\u0120", "\u2581"), "##"  # how vocabularies write that a word begins, or goes on
_PLAIN = [
    *range(33, 127),
    *range(161, 173),
    *range(174, 256),
]  # bytes that vocabularies of bytes write as their own letter
_BYTES = {chr(byte): byte for byte in _PLAIN} | {
    chr(256 + i): byte for i, byte in enumerate(byte for byte in range(256) if byte not in _PLAIN)
}


def said(pieces, sequence: int, count: int) -> Text:
    """The pieces and words of a sequence of `count` tokens.

    `pieces` is None, strings, one for each token, or what a fast tokenizer gave for the batch; strings may be in lists, one for
    each sequence. Padding is left out.

    Raises: TypeError for anything else; ValueError where there are not so many.

    >>> [word.text for word in said(["The", "Law", "is", "un", "##believ", "##able"], 0, 6).words]
    ['The', 'Law', 'is', 'unbelievable']
    """
    if pieces is None:
        pieces = [str(place) for place in range(count)]
    given = getattr(pieces, "encodings", pieces)
    if isinstance(given, (list, tuple)) and given and not isinstance(given[0], str):
        if sequence >= len(given):
            raise ValueError(
                f"pieces: expected those of sequence {sequence}, got {len(given)} sequences; give what the model was given"
            )
        given = given[sequence]
    if hasattr(given, "offsets") and hasattr(given, "tokens"):
        tokens, special, gaps = _of_encoding(given, count)
    elif isinstance(given, (list, tuple)) and all(isinstance(piece, str) for piece in given):
        tokens, special, gaps = list(given), [False] * len(given), None
    else:
        raise TypeError(
            f"pieces: expected a string for each token, or what a fast tokenizer gave, got {type(pieces).__name__}; give "
            "tokenizer.convert_ids_to_tokens(ids)"
        )
    if len(tokens) != count:
        raise ValueError(
            f"pieces: expected {count}, one for each token of sequence {sequence}, got {len(tokens)}; give those the model was given"
        )
    return _laid_out(tokens, special, gaps)


def _of_encoding(encoding, count: int) -> tuple[list[str], list[bool], list[bool]]:
    """Tokens, which of them were added, and before which there is a gap in the text."""
    real = [i for i, real in enumerate(encoding.attention_mask) if real]
    if len(encoding.tokens) == count:  # the model was told of no padding, and saw it
        real = list(range(count))
    special = [bool(encoding.special_tokens_mask[i]) for i in real]
    ends = [0, *(encoding.offsets[i][1] for i in real)]
    gaps = [encoding.offsets[i][0] > end for i, end in zip(real, ends, strict=False)]
    return [encoding.tokens[i] for i in real], special, gaps


def _laid_out(tokens: list[str], special: list[bool], gaps: list[bool] | None) -> Text:
    """The text that the tokens make, and they laid over it."""
    marked = any(token.startswith(BEGINS) for token in tokens)
    spaced = any(token[:1].isspace() for token in tokens)  # decoded one by one, blanks and all
    text, spans = "", []
    for i, token in enumerate(tokens):
        if special[i]:
            spans.append((0, 0))
            continue
        begins = token.startswith(BEGINS)
        if gaps is not None:
            begins = begins or gaps[i]
        elif not marked and not spaced:
            begins = not token.startswith(GOES_ON)
        spelled = _spelled(token)
        text += " " * bool(begins and text)
        begin, text = len(text + spelled) - len(spelled.lstrip() or spelled), text + spelled
        spans.append((begin, len(text)))
    return cut(text, spans, [_spelled(token) for token in tokens], special)


def _spelled(token: str) -> str:
    """A token without its mark, and bytes as the letters they make, where they make any.

    >>> _spelled("\u0120caf\u00c3\u00a9"), _spelled("caf\u00e9"), _spelled("##able"), _spelled("##")
    ('caf\u00e9', 'caf\u00e9', 'able', '##')
    """
    token = token[1:] if token.startswith(BEGINS) else token
    token = token.removeprefix(GOES_ON) or token
    try:
        token = bytes(_BYTES[letter] for letter in token).decode()
    except (KeyError, UnicodeDecodeError):
        pass
    return token.encode("utf-8", "replace").decode()  # half of a surrogate pair is no text
