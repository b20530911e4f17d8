"""Pieces and words against the text they were cut from, and words called by name."""

import random

import pytest

from sightline.models import cut, shown
from tests.lens.observed import SENTENCE, text


def joined(units) -> str:
    return "".join(unit.space + unit.text for unit in units)


def test_pieces_and_words_are_the_text():
    found = text()
    assert joined(found.pieces[1:-1]) == joined(found.words[1:-1]) == SENTENCE
    assert [word.text for word in found.words][:7] == ["[CLS]", "The", "Law", "is", "unbelievable", ",", "but"]
    assert found.word_of[4:7] == [4, 4, 4] and found.special_words == {0, 13}


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
    found = cut(whole, spans, [whole[a:b] for a, b in spans])
    end = spans[-1][1]
    assert (
        joined(found.pieces) == joined(found.words).rstrip() == whole[:end].rstrip()
        or joined(found.pieces) == whole[:end]
    )
    assert len(found.pieces) == len(spans) and found.word_of == sorted(found.word_of)
    assert set(found.word_of) == set(range(len(found.words)))


def test_pieces_that_share_a_letter_and_pieces_of_nothing_stay():
    found = cut("a 😀!", [(0, 1), (2, 3), (2, 3), (2, 3), (3, 4), (4, 4)], ["a", "Ø", "Ù", "Ú", "!", "<x>"])
    assert [p.text for p in found.pieces] == ["a", "😀", "Ù", "Ú", "!", "<x>"]
    assert [w.text for w in found.words][:3] == ["a", "😀", "!"]


def test_a_piece_across_words_makes_them_one():
    found = cut("New York is", [(0, 8), (9, 11)], ["New York", "is"])
    assert [w.text for w in found.words] == ["New York", "is"]


def test_blanks_belong_before_the_word():
    found = cut("so it goes", [(0, 2), (2, 5), (5, 10)], ["so", " it", " goes"])
    assert [tuple(word) for word in found.words] == [("", "so"), (" ", "it"), (" ", "goes")]


def test_pieces_of_blanks_belong_to_the_word_that_follows():
    letters = "to  be\n!"
    found = cut(letters, [(i, i + 1) for i in range(len(letters))], list(letters))
    assert [tuple(word) for word in found.words] == [("", "to"), ("  ", "be"), ("\n", "!")]
    assert found.word_of == [0, 0, 1, 1, 1, 1, 2, 2]


def test_control_characters_are_shown_and_do_not_act():
    assert shown("a\x00\u202eb\x1b") == "a\u2400\u25ccb\u241b"
    found = cut("a\x00 b", [(0, 1), (3, 4)], ["a", "b"])
    assert found.pieces[1].space == "\u2400 "


def test_words_are_called_by_name():
    found = text()
    assert found.pair("its:1:Law") == (7, 2) and found.pair("its:2:law") == (10, 2)
    assert found.pair("Law:its:2") == (2, 10)
    with pytest.raises(ValueError, match="got 'its', which occurs 2 times; say which: its:1 or its:2"):
        found.pair("its:Law")
    with pytest.raises(ValueError, match="got 'it', which is not in it"):
        found.pair("it:Law")
    with pytest.raises(ValueError, match="one of the 2 places of 'its', got 3"):
        found.pair("its:3:Law")
    for wrong in ("Law", "Law:", ":Law", "its:2", ""):
        with pytest.raises(ValueError, match="two words with a colon between"):
            found.pair(wrong)
