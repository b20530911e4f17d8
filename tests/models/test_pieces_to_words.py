"""Tokens of real tokenizers of every kind, joined to the words of the text: with the text at hand, and without."""

import random

import pytest
import regex
from tokenizers import Encoding

from sightline.models import cut, direction, find_spans, text_of, visible
from tests.models.tokenizer_kinds import KINDS

MIXED = (
    "The caf\u00e9 \u4e2d\u56fd \u7231\u4f60 \u0939\u093f\u0928\u094d\u0926\u0940 \ud55c\uad6d\uc5b4 "
    "\U0001f468\u200d\U0001f469\u200d\U0001f467 so."
)
WHOLE = ["\u0939\u093f\u0928\u094d\u0926\u0940", "\ud55c\uad6d\uc5b4", "\U0001f468\u200d\U0001f469\u200d\U0001f467"]
ODD = [
    "a", "b", "The", "Law", " ", "  ", "\n", "\t", "'", "-", "_", "\u6211", "\u4e2d", "\u00e9", "e\u0301", "\U0001f600",
]  # fmt: skip
ODD += [
    "\U0001f468\u200d\U0001f469\u200d\U0001f467",
    "\U0001f44d\U0001f3fb",
    "\U0001f1e9\U0001f1ea",
    "1\ufe0f\u20e3",
    ".",
]
ODD += [
    "\u0939\u093f",
    "\u0928\u094d\u0926\u0940",
    "\ud55c\uad6d",
    "\u1112\u1161\u11ab",
    "\u05e9",
    "\u05dc\u05d5\u05dd",
    "\u0645\u0631",
]
ODD += [
    "\u200c",
    "\u200d",
    "\u200b",
    "\u200f",
    "##",
    "##a",
    "\u00bd",
    "\u2026",
    "\ufb01",
    "\u00ad",
    "\u0301",
    " \u0301",
]
ODD += [
    "\u0e44\u0e17\u0e22",
    "\x00",
    "\x1c",
    "\ufe0f",
    "\u00df",
    "\u0130",
    "\u2139",
    "\U00020001",
    "@@",
    "\u2581",
    "\u0120",
]
ODD += ["<0xE6>", "[UNK]", "</w>", "\u0600\u0661"]


@pytest.fixture(scope="module")
def kinds():
    return {name: make() for name, make in KINDS.items()}


def words(text) -> list[str]:
    return [word.text for word in text.words]


def of_encoding(encoding) -> list[str]:
    return words(text_of([encoding], 0, len(encoding.tokens)))


def joined(text, level: str = "words") -> str:
    units, special = getattr(text, level), text.special_words if level == "words" else set()
    special = special or {i for i, one in enumerate(text.special) if one and level == "pieces"}
    whole = "".join(unit.space + unit.text for i, unit in enumerate(units) if i not in special)
    return whole + text.ends[level == "words"]


def check(text: str, result) -> None:
    """The words give back the text, every piece has its word, and no word ends inside a letter."""
    assert joined(result) == visible(text)
    assert result.word_of == sorted(result.word_of)
    assert set(result.word_of) == set(range(len(result.words)))
    bounds = {0, *(letter.end() for letter in regex.finditer(r"\X", text))}
    at, special = 0, result.special_words
    for i, word in enumerate(result.words):
        if i not in special:
            first, at = at + len(word.space), at + len(word.space) + len(word.text)
            assert not word.text or {first, at} <= bounds, (text, word)


@pytest.mark.parametrize("kind", KINDS)
def test_any_text_comes_back_from_its_words(kinds, kind):
    for seed in range(120):
        lots = random.Random(seed)
        text = "".join(lots.choice(ODD) for _ in range(lots.randint(0, 18)))
        encoding = kinds[kind].encode(text)
        special = encoding.special_tokens_mask
        result = cut(text, encoding.offsets, encoding.tokens, special)
        assert len(result.pieces) == len(result.word_of) == len(encoding.tokens)
        check(text, result)


@pytest.mark.parametrize("kind", KINDS)
def test_tokens_without_places_are_placed_by_their_letters(kinds, kind):
    text = MIXED.replace("\u4e2d\u56fd \u7231\u4f60", "\u7231\u4f60 X")  # which is unknown to some
    encoding = kinds[kind].encode(text)
    tokens, special = encoding.tokens, encoding.special_tokens_mask
    result = cut(text, find_spans(text, tokens, special), tokens, special)
    assert words(result) == words(cut(text, encoding.offsets, tokens, special))
    check(text, result)


@pytest.mark.parametrize("kind", KINDS)
def test_letters_cut_over_tokens_join_without_the_text(kinds, kind):
    encoding = kinds[kind].encode(MIXED)
    by_offsets, by_tokens = of_encoding(encoding), words(text_of(encoding.tokens, 0, len(encoding.tokens)))
    spelled = "".join(by_tokens)
    assert "<0x" not in spelled and not any("\u0100" <= letter <= "\u0143" for letter in spelled)
    if kind in ("GPT-2", "RoBERTa", "untrimmed", "Llama", "Unigram"):
        assert by_offsets == by_tokens
        assert {"The", "caf\u00e9", *WHOLE, "so", "."} <= set(by_tokens)
        assert "".join(by_tokens) == MIXED.replace(" ", "")


@pytest.mark.parametrize("kind", KINDS)
def test_a_text_that_was_cut_into_words_has_these_words(kinds, kind):
    inputs = ["The", "Law", "U.S.A.", "a", "b", "its"]
    encoding = kinds[kind].encode(inputs, is_pretokenized=True)
    result = of_encoding(encoding)
    result = result[1:-1] if kind == "WordPiece" else result
    assert len(result) == len(inputs)
    if kind not in ("WordPiece", "words", "letters"):  # which do not know these, or not their capitals
        assert result == inputs


@pytest.mark.parametrize("kind", ["GPT-2", "RoBERTa", "Llama", "WordPiece", "Unigram", "letters"])
def test_the_texts_of_a_pair_do_not_run_together(kinds, kind):
    for special in (False, True):
        encoding = kinds[kind].encode("The law", "sat the", add_special_tokens=special)
        result = [word.lower() for word in of_encoding(encoding) if word not in ("[CLS]", "[SEP]")]
        assert result == ["the", "law", "sat", "the"]


def test_encodings_that_were_merged_begin_anew(kinds):
    one, other = (kinds["WordPiece"].encode(text, add_special_tokens=False) for text in ("its law", "its use"))
    assert of_encoding(Encoding.merge([one, other], growing_offsets=False)) == ["its", "law", "its", "use"]


def test_windows_of_a_long_text_are_texts_of_their_own(kinds):
    tokenizer = KINDS["WordPiece"]()
    tokenizer.enable_truncation(8, stride=2, strategy="only_second")
    whole = tokenizer.encode("its law", "the use is naive, its use.")
    for window in (whole, *whole.overflowing):
        assert of_encoding(window)[:4] == ["[CLS]", "its", "law", "[SEP]"]
    assert sum("use" in of_encoding(window)[4:] for window in (whole, *whole.overflowing)) >= 2


@pytest.mark.parametrize(
    "tokens, expected",
    [
        (["the</w>", "un", "believ", "able</w>", "law</w>"], ["the", "unbelievable", "law"]),
        (["un@@", "believ@@", "able", "law"], ["unbelievable", "law"]),
        ([b"\xe4\xb8", b"\xad", b" law", b"\xf0\x9f", b"\x98\x80"], ["\u4e2d", "law", "\U0001f600"]),
        ([chr(byte) for byte in "caf\u00e9 \u4e2d".encode()], ["caf\u00e9", "\u4e2d"]),  # ByT5
        (list("The caf\u00e9"), ["The", "caf\u00e9"]),
        (["<s>", "\u2581caf", "<0xC3>", "<0xA9>", "\u2581", "<0xE4>", "<0xB8>", "<0xAD>", "</s>"],
            ["<s>", "caf\u00e9", "\u4e2d", "</s>"]),
        (["\u00e4\u00b8", "\u0143", "\u0120caf", "\u00c3", "\u00a9"], ["\u4e2d", "caf\u00e9"]),
        (["t\u0101", "##s", "\u010dau"], ["t\u0101s", "\u010dau"]),  # Latvian, whose letters stand for bytes elsewhere
        (["\u6211", "\u7231", "\u4f60"], ["\u6211", "\u7231", "\u4f60"]),
        (["##tag", "law", "[SEP]", "##tag"], ["##tag", "law", "[SEP]", "##tag"]),
        (["Hello", "\u010a", "World"], ["Hello", "World"]),
        (["\ufffd", "\ufffd", " law"], ["\ufffd", "\ufffd", "law"]),
        (["\u0120", "\u0120\u0120"], ["  "]),
    ],
)  # fmt: skip
def test_strings_are_read_as_vocabularies_write_them(tokens, expected):
    assert words(text_of(tokens, 0, len(tokens))) == expected


def test_chinese_without_blanks_gets_none():
    assert joined(text_of(["\u6211", "\u7231", "\u4f60"], 0, 3)) == "\u6211\u7231\u4f60"


def test_blanks_are_not_doubled():
    class Spaced:  # offsets that hold the blank before a word
        tokens = ["\u2581its", "\u2581law", "\u2581is"]
        offsets, special_tokens_mask, attention_mask = [(0, 3), (3, 7), (7, 10)], [0] * 3, [1] * 3

    assert joined(text_of([Spaced()], 0, 3)) == "its law is"
    Spaced.tokens, Spaced.offsets = [" its", " law", " is"], [(0, 3), (4, 7), (8, 10)]
    assert joined(text_of([Spaced()], 0, 3)) == "its law is"


def test_a_word_that_begins_with_a_mark_of_the_vocabulary_keeps_it():
    class Hashed:
        tokens = ["##tag", "its", "##tag", "un", "##it"]
        offsets = [(0, 5), (6, 9), (9, 14), (15, 17), (17, 19)]
        special_tokens_mask, attention_mask = [0] * 5, [1] * 5

    assert words(text_of([Hashed()], 0, 5)) == ["##tag", "its", "##tag", "unit"]


def test_places_may_count_bytes_or_units_of_sixteen_bits():
    text = "\u4e2d\u56fd caf\u00e9 \U0001f600 law"
    spans = [match.span() for match in regex.finditer(r"\S+", text)]
    for code, size in (("utf-8", 1), ("utf-16-le", 2)):
        counted = [tuple(len(text[:end].encode(code)) // size for end in span) for span in spans]
        assert words(cut(text, counted, ["x"] * 4)) == text.split()


def test_an_unknown_token_is_known_as_one():
    result = cut("my \U0001f600 dog", [(0, 2), (3, 4), (5, 8)], ["my", "[UNK]", "dog"])
    assert words(result) == ["my", "\U0001f600", "dog"] and result.unknown == [1]
    assert text_of(["a", "<unk>", "[UNK]"], 0, 3).unknown == [1, 2]
    assert cut("a b", [(0, 1), (2, 3)], ["a", "b"], unknown=[1]).unknown == [1]


def test_a_special_token_that_the_text_holds_is_the_text():
    result = cut("so[MASK]it", [(0, 2), (2, 8), (8, 10)], ["so", "[MASK]", "it"], [False, True, False])
    assert words(result) == ["so", "[MASK]", "it"] and "".join(u.space + u.text for u in result.words) == "so[MASK]it"


def test_the_first_letter_with_a_direction_decides():
    hebrew, arabic = "\u05e9\u05dc\u05d5\u05dd", "\u0645\u0631\u062d\u0628\u0627"
    for text, expected in (
        (hebrew, "rtl"),
        (f"(1) {arabic}, world", "rtl"),
        (f"He said {hebrew}", "ltr"),
        (f"\u2067{hebrew}\u2069 so", "ltr"),  # what is isolated does not count
        ("\u200f1, 2", "rtl"),
        ("123 !", "ltr"),
        ("", "ltr"),
    ):
        assert direction(text) == expected
    result = cut(hebrew, [(0, 0), (0, 4), (0, 0)], ["[CLS]", hebrew, "[SEP]"], [True, False, True])
    assert result.direction == "rtl"  # whatever the tokenizer adds
