"""Coreference in brat's stand-off and in Entity= of CoNLL-U: mentions that nest, overlap or have gaps, and bad
files."""

import os
from pathlib import Path

import numpy as np
import pytest

from sightline.head_roles import conllu, coreference
from sightline.head_roles.corpus import corpus_of

SHARED = Path(os.environ.get("SIGHTLINE_DATA", Path(__file__).parents[3] / "shared" / "data")) / "litbank-coref"
TEXT = "Ann , a friend of Bob , came . She saw Ann 's dog and it saw her .\n"


def folder(tmp_path, *lines: str, text: str = TEXT) -> Path:
    (tmp_path / "a.ann").write_text("\n".join(lines) + "\n", "utf-8", newline="")
    (tmp_path / "a.txt").write_text(text, "utf-8", newline="")
    return tmp_path


def stretch(number: int, kind: str, words: str, text: str = TEXT, nth: int = 0) -> str:
    start = -1
    for _ in range(nth + 1):
        start = text.index(words, start + 1)
    return f"T{number}\t{kind} {start} {start + len(words)}\t{words}"


def links_of(corpus) -> set:
    """(relation, place of the word, places of the right words), and of all the words that stand for mentions."""
    return {
        (corpus.relations[r].name, int(q), tuple(corpus.keys[a:b].tolist()))
        for r, q, a, b in zip(corpus.relation, corpus.query, corpus.offsets, corpus.offsets[1:], strict=False)
    }


MENTIONS = [
    stretch(0, "PROP_PER", "Ann"),
    stretch(1, "NOM_PER", "a friend of Bob"),
    stretch(2, "PROP_PER", "Bob"),
    stretch(3, "PRON_PER", "She"),
    stretch(4, "PROP_PER", "Ann", nth=1),
    stretch(5, "NOM_VEH", "Ann 's dog"),
    stretch(6, "PRON_VEH", "it"),
    stretch(7, "PRON_PER", "her"),
]
# Words: 0 Ann 1 , 2 a 3 friend 4 of 5 Bob 6 , 7 came 8 . 9 She 10 saw 11 Ann 12 's 13 dog 14 and 15 it 16 saw 17 her


def entity(number: int, name: str, mention: str) -> str:
    return mention.replace(mention.split("\t")[0], f"T{number}").replace(mention.split("\t")[1].split()[0], name)


def test_entities_named_over_mentions(tmp_path):
    named = [entity(50 + i, "Ann-0", MENTIONS[i]) for i in (0, 3, 4, 7)] + [
        entity(60, "dog-1", MENTIONS[5]),
        entity(61, "dog-1", MENTIONS[6]),
    ]
    corpus = corpus_of(folder(tmp_path, *MENTIONS, *named, "R1\tcop Arg1:T0 Arg2:T1", "#1\tNote T1\tx", ""))
    assert links_of(corpus) == {
        ("coref:pronoun", 9, (0,)),
        ("coref:name", 11, (0, 9)),
        ("coref:pronoun", 15, (13,)),
        ("coref:pronoun", 17, (0, 9, 11)),
    }
    assert corpus.documents[0].mentions.tolist() == [0, 5, 9, 11, 13, 15, 17]  # "a friend of Bob" and "Bob": one word
    assert corpus.among_mentions.all() and corpus.note == ""


@pytest.mark.parametrize(
    "same",
    [
        ["*\tCoref T0 T3 T4", "*\tCoref T7 T3"],
        ["R1\tCoreference Arg1:T3 Arg2:T0", "R2\tcoref Arg1:T4 Arg2:T3", "R3\tCoref Arg1:T7 Arg2:T0"],
        ["*\tCoref T0 T3", "*\tCoref T4 T7", "R1\tCoref Arg1:T7 Arg2:T3"],
    ],
)
def test_entities_by_equivalence_and_by_relation(tmp_path, same):
    corpus = corpus_of(folder(tmp_path, *same, *MENTIONS))  # a line may come before the mentions it names
    assert links_of(corpus) == {
        ("coref:pronoun", 9, (0,)),
        ("coref:name", 11, (0, 9)),
        ("coref:pronoun", 17, (0, 9, 11)),
    }


def test_a_mention_with_a_hole_and_mentions_that_overlap(tmp_path):
    text = "old Ann and Bob Lee ran , they said"
    lines = [
        "T1\tPerson 0 7;16 19\told Ann Lee",
        "T2\tPerson 4 15\tAnn and Bob",
        "T3\tPRON_PER 26 30\tthey",
        "*\tCoref T1 T3",
        "*\tCoref T2 T3",
    ]
    corpus = corpus_of(folder(tmp_path, *lines, text=text))
    assert links_of(corpus) == {("coref:other", 4, (3,)), ("coref:pronoun", 7, (3, 4))}


def test_line_ends_count_as_they_stand(tmp_path):
    text = "Ann\r\nsaw \u00e9\r\nher"
    lines = ["T1\tPROP_PER 0 3\tAnn", "T2\tPRON_PER 12 15\ther", "*\tCoref T1 T2"]
    corpus = corpus_of(folder(tmp_path, *lines, text=text))
    assert links_of(corpus) == {("coref:pronoun", 3, (0,))}


@pytest.mark.parametrize(
    "line, message",
    [
        ("T9\tPerson 0 900\tx", r"a\.ann:1: expected a stretch inside the 66 characters of the text, got 0 to 900"),
        ("T9\tPerson 3 0\tAnn", r"a\.ann:1: expected a stretch inside .* got 3 to 0; correct the offsets"),
        ("T9\tPerson 1 4\tAnn", r"a\.ann:1: expected 'Ann' in the text at 1 4, got 'nn '; annotate this very text"),
        ("T9\tPerson 3 4\t ", r"a\.ann:1: expected ' ' in the text at 3 4, got ' '; annotate"),
        ("T9 Person 0 3 Ann", r"a\.ann:1: expected a line as in T1, tab, Person 0 5, .*; got 'T9 Person 0 3 Ann'"),
        ("T9\tPerson -1 3\tAnn", r"a\.ann:1: expected a line as in T1"),
        (f"{MENTIONS[0]}\n{MENTIONS[0]}", r"a\.ann:2: expected a number of its own, got T0 once more; renumber it"),
        (f"{MENTIONS[0]}\n*\tCoref T0 T8", r"a\.ann:2: expected mentions of this file, got T8, which it has not"),
    ],
)
def test_what_is_not_stand_off(tmp_path, line, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        coreference.of_brat([folder(tmp_path, line) / "a.ann"])


def test_an_annotation_without_text(tmp_path):
    (tmp_path / "a.ann").write_text("")
    with pytest.raises(
        ValueError, match=r"a\.ann: expected the text it is about beside it, got no a\.txt; put the two"
    ):
        corpus_of(tmp_path)


def test_a_text_without_annotations(tmp_path):
    corpus = corpus_of(folder(tmp_path))
    assert len(corpus) == 0 and corpus.note == "No link between two words was found."


# --- Entity= --------------------------------------------------------------------------------------------------------

# fmt: off
ROWS = [
    "# newdoc", "# global.Entity = eid-etype-head-other",
    "1 the _ DET _ _ 2 det _ Entity=(e1-person-2-", "2 head _ NOUN _ _ 5 nsubj _ _", "3 of _ ADP _ _ 4 case _ _",
    "4 Rome _ PROPN _ _ 2 nmod _ Entity=(e2-place-1-)e1)", "5 came _ VERB _ _ 0 root _ SpaceAfter=No", "",
    "1-2 del _ _ _ _ _ _ _ _",
    "1 de _ ADP _ _ 3 case _ _", "2 él _ PRON _ _ 3 x _ Entity=(e1-person-1-)",
    "2.1 _ _ _ _ _ _ _ _ Entity=(e2-place-1-)",
    "3 su _ DET _ _ 4 det _ Entity=(e9-x-2-(e2-place-1-)", "4 dog _ NOUN _ _ 0 root _ Entity=e9)", "",
    "# newdoc", "1 it _ PRON _ _ 0 root _ Entity=(e9-x-1-)", "",
]
# fmt: on


def conllu_of(tmp_path, rows: list[str]) -> Path:
    path = tmp_path / "a.conllu"
    path.write_text("\n".join(r if r.startswith("#") else r.replace(" ", "\t") for r in rows) + "\n", "utf-8")
    return path


def test_entities_of_whole_documents(tmp_path):
    path = conllu_of(tmp_path, ROWS)
    corpus = corpus_of(path, kind="coreference")
    assert [d.text for d in corpus.documents] == ["the head of Rome came del su dog", "it"]
    assert [d.mentions.tolist() for d in corpus.documents] == [[1, 3, 5, 6, 7], [0]]  # by the tree: head, not Rome
    assert links_of(corpus) == {("coref:pronoun", 5, (1,)), ("coref:pronoun", 6, (3,))}
    assert corpus_of(path).note == 'Entity= is there too: kind "coreference" reads it.'
    assert len(corpus_of(path).documents) == 3


def test_an_entity_in_pieces_and_one_inside_itself(tmp_path):
    rows = [
        "1 A _ PROPN _ _ 4 x _ Entity=(e1[1/2]-p)", "2 b _ X _ _ 4 x _ _", "3 C _ PROPN _ _ 1 x _ Entity=(e1[2/2]-p)",
        "4 d _ NOUN _ _ 0 root _ Entity=(e1-p", "5 e _ PRON _ _ 4 x _ Entity=(e1-p)e1)",
    ]  # fmt: skip
    assert links_of(corpus_of(conllu_of(tmp_path, rows), "coreference")) == {
        ("coref:nominal", 3, (0,)),
        ("coref:pronoun", 4, (0, 3)),
    }


@pytest.mark.parametrize(
    "brackets, message",
    [
        ("e1)", r"a\.conllu:1: expected the end of a mention that has begun, got 'e1\)'; open it"),
        ("(e1-x", r"a\.conllu:1: expected the mention 'e1' to end in its sentence, .*; write e1\) at its last word"),
        ("e1", r"a\.conllu:1: expected Entity= with brackets as in .* got 'e1'; correct it"),
        ("(e1)(", r"a\.conllu:1: expected Entity= with brackets .* got '\(e1\)\('"),
    ],
)
def test_brackets_without_another_end(tmp_path, brackets, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        conllu.entities([conllu_of(tmp_path, [f"1 x _ X _ _ 0 root _ Entity={brackets}"])])


@pytest.mark.skipif(not SHARED.exists(), reason="shared data: litbank-coref")
def test_how_far_real_mentions_look():
    """59%, 17.7% and 10.5% by where mentions begin; from word to word, with nested mentions as one, a little less."""
    corpus = corpus_of(SHARED / "coref" / "brat")
    assert len(corpus.documents) == 100 and len(corpus.groups["coref"]) == len(corpus) == 21_114
    far = [round(100 * float(np.mean(corpus.distance > words)), 1) for words in (10, 50, 100)]
    assert far == [58.3, 17.6, 10.5]
    here, there = (corpus.take(half) for half in corpus.halves())
    assert len(here) + len(there) == len(corpus) and len(there.documents) == 50
