"""Pieces and words against the text they were cut from, and words called by name."""

import random

import pytest

from sightline.models import cut, visible
from tests.lens.observed import SENTENCE, text


def joined(units) -> str:
    return "".join(unit.space + unit.text for unit in units)


def test_pieces_and_words_are_the_text():
    result = text()
    assert joined(result.pieces[1:-1]) == joined(result.words[1:-1]) == SENTENCE
    assert [word.text for word in result.words][:7] == ["[CLS]", "The", "Law", "is", "unbelievable", ",", "but"]
    assert result.word_of[4:7] == [4, 4, 4] and result.special_words == {0, 13}


@pytest.mark.parametrize("seed", range(20))
def test_any_cut_gives_back_the_text(seed):
    lots = random.Random(seed)
    whole = (
        "".join(
            lots.choice(["a", "b", " ", "  ", "\n", "'", "-", "我", "é", "😀", ".", "\t"]) for _ in range(30)
        ).strip()
        or "a"
    )
    ends = sorted(lots.sample(range(1, len(whole)), min(12, len(whole) - 1))) + [len(whole)]
    spans = [(a, b) for a, b in zip([0, *ends], ends, strict=False) if whole[a:b].strip()]
    result = cut(whole, spans, [whole[a:b] for a, b in spans])
    end = spans[-1][1]
    assert (
        joined(result.pieces) == joined(result.words).rstrip() == whole[:end].rstrip()
        or joined(result.pieces) == whole[:end]
    )
    assert len(result.pieces) == len(spans) and result.word_of == sorted(result.word_of)
    assert set(result.word_of) == set(range(len(result.words)))


def test_pieces_that_share_a_letter_and_pieces_of_nothing_stay():
    result = cut("a 😀!", [(0, 1), (2, 3), (2, 3), (2, 3), (3, 4), (4, 4)], ["a", "Ø", "Ù", "Ú", "!", "<x>"])
    assert [p.text for p in result.pieces] == ["a", "😀", "Ù", "Ú", "!", "<x>"]
    assert [w.text for w in result.words][:3] == ["a", "😀", "!"]


def test_a_piece_across_words_makes_them_one():
    result = cut("New York is", [(0, 8), (9, 11)], ["New York", "is"])
    assert [w.text for w in result.words] == ["New York", "is"]


def test_blanks_belong_before_the_word():
    result = cut("so it goes", [(0, 2), (2, 5), (5, 10)], ["so", " it", " goes"])
    assert [tuple(word) for word in result.words] == [("", "so"), (" ", "it"), (" ", "goes")]


def test_pieces_of_blanks_belong_to_the_word_that_follows():
    letters = "to  be\n!"
    result = cut(letters, [(i, i + 1) for i in range(len(letters))], list(letters))
    assert [tuple(word) for word in result.words] == [("", "to"), ("  ", "be"), ("\n", "!")]
    assert result.word_of == [0, 0, 1, 1, 1, 1, 2, 2]


def test_control_characters_are_shown_and_do_not_act():
    assert visible("a\x00\u202eb\x1b") == "a\u2400\u25ccb\u241b"
    result = cut("a\x00 b", [(0, 1), (3, 4)], ["a", "b"])
    assert result.pieces[1].space == "\u2400 "


def test_words_are_called_by_name():
    result = text()
    assert result.pair("its:1:Law") == (7, 2) and result.pair("its:2:law") == (10, 2)
    assert result.pair("Law:its:2") == (2, 10)
    with pytest.raises(ValueError, match="got 'its', which occurs 2 times; say which: its:1 or its:2"):
        result.pair("its:Law")
    with pytest.raises(ValueError, match="got 'it', which is not in it"):
        result.pair("it:Law")
    with pytest.raises(ValueError, match="one of the 2 places of 'its', got 3"):
        result.pair("its:3:Law")
    for wrong in ("Law", "Law:", ":Law", "its:2", ""):
        with pytest.raises(ValueError, match="two words with a colon between"):
            result.pair(wrong)
