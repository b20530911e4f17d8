"""Reading CoNLL-U: words as the model sees them, relations both ways, every way a file can be wrong, and real trees."""

import os
from pathlib import Path

import numpy as np
import pytest

from sightline.head_roles import baselines, conllu
from sightline.head_roles.corpus import corpus_of

SHARED = Path(os.environ.get("SIGHTLINE_DATA", Path(__file__).parents[3] / "shared" / "data")) / "ud-english-ewt"


def row(id_, form, head="_", relation="_", misc="_", upos="X") -> str:
    return "\t".join([str(id_), form, "_", upos, "_", "_", str(head), relation, "_", misc])


def written(tmp_path, *rows: str, name: str = "a.conllu") -> Path:
    path = tmp_path / name
    path.write_text("\n".join(rows) + "\n", "utf-8")
    return path


def spelled(corpus) -> set:
    """(relation, word that looks, word that is right) of every right answer."""
    return {
        (corpus.relations[corpus.relation[q]].name, words[corpus.query[q]], words[k])
        for q, k in zip(corpus.question_of_key, corpus.keys, strict=True)
        for words in [corpus.documents[corpus.document[q]].words]
    }


def test_relations_both_ways(tmp_path):
    path = written(
        tmp_path,
        "# text = a dog, cats sleep",
        row(1, "a", 2, "det"),
        row(2, "dog", 5, "nsubj", "SpaceAfter=No"),
        row(3, ",", 2, "punct"),
        row(4, "cats", 2, "conj:and"),
        row(5, "sleep", 0, "root"),
    )
    corpus = conllu.dependencies([path])
    assert corpus.documents[0].text == "a dog, cats sleep" and corpus.documents[0].name == "a.conllu:2"
    there = {("det", "a", "dog"), ("nsubj", "dog", "sleep"), ("punct", ",", "dog"), ("conj:and", "cats", "dog")}
    assert spelled(corpus) == there | {(name + "<-", key, query) for name, query, key in there}
    assert not corpus.among_mentions.any() and corpus.note == ""


def test_a_head_of_several_asks_once(tmp_path):
    path = written(tmp_path, row(1, "x", 3, "conj"), row(2, "y", 3, "conj"), row(3, "z", 0, "root"))
    corpus = conllu.dependencies([path])
    back = corpus.groups["conj<-"]
    assert corpus.query[back].tolist() == [2] and corpus.keys[np.isin(corpus.question_of_key, back)].tolist() == [0, 1]
    assert len(corpus.groups["conj"]) == 2


def test_multiword_tokens_and_empty_nodes(tmp_path):
    path = written(
        tmp_path,
        row("1-2", "don't", misc="SpaceAfter=No"),
        row(1, "do", 5, "aux"),
        row(2, "n't", 5, "advmod"),
        row("2.1", "ghost"),
        row("3-4", "du"),
        row(3, "de", 5, "case"),
        row(4, "le", 3, "det"),
        row(5, "go", 0, "root"),
        "",
        row("1-2", "vámonos", misc="SpaceAfter=No"),
        row(1, "vamos", 0, "root"),
        row(2, "nos", 1, "obj"),
        row(3, "!", 1, "punct"),
    )
    corpus = conllu.dependencies([path])
    assert [d.text for d in corpus.documents] == ["don'tdu go", "vámonos!"]
    assert corpus.documents[0].words == ("do", "n't", "du", "go")
    there = {("aux", "do", "go"), ("advmod", "n't", "go"), ("case", "du", "go"), ("punct", "!", "vámonos")}
    assert {link for link in spelled(corpus) if not link[0].endswith("<-")} == there  # det and obj are inside one word


def test_sentences_without_words_are_counted(tmp_path):
    path = written(
        tmp_path,
        "# global.columns = x",
        "",
        "# text = nothing",
        "",
        "",
        row("0.1", "ghost"),
        "",
        row(1, "x", 0, "root"),
    )
    corpus = corpus_of(path)
    assert len(corpus.documents) == 1 and corpus.documents[0].words == ("x",)
    assert corpus.note == "Left out: 2 sentences without words. No link between two words was found."


def test_words_without_heads_and_line_ends(tmp_path):
    path = tmp_path / "a.conllu"
    path.write_bytes("\r\n".join(["\ufeff# x", row(1, "x", 2, "det"), row(2, "y")]).encode())  # no last line end
    assert spelled(conllu.dependencies([path])) == {("det", "x", "y"), ("det<-", "y", "x")}


@pytest.mark.parametrize(
    "rows, message",
    [
        (["1\tx\t_"], r"a\.conllu:1: expected 10 fields parted by tabs, got 3; write _"),
        ([row(1, "")], r"a\.conllu:1: expected 10 fields parted by tabs, got an empty FORM; write _"),
        ([row(2, "x")], r"a\.conllu:1: expected the word number 1, got '2'; number words"),
        ([row(1, "x", 0), row(3, "y"), row(2, "z")], r"a\.conllu:2: expected the word number 2, got '3'"),
        ([row(1, "x", 0), row(1, "y")], r"a\.conllu:2: expected the word number 2, got '1'"),
        ([row("x", "x")], r"a\.conllu:1: expected the word number 1, got 'x'"),
        ([row(1, "x", 0), row("1-2", "xy"), row(2, "y")], r"a\.conllu:2: expected the range .* next word, 2, got 1-2"),
        (
            [row("1-3", "xyz"), row(1, "x"), row("2-3", "yz"), row(2, "y")],
            r"a\.conllu:3: expected the range .* got 2-3",
        ),
        ([row("1-0", "xyz")], r"a\.conllu:1: expected the range .* got 1-0"),
        ([row("1-3", "xyz"), row(1, "x"), row(2, "y")], r"a\.conllu:1: expected words up to 3 .* 1-3, got 2; correct"),
        ([row(1, "x", 7)], r"a\.conllu:1: expected as HEAD another word .* got 7 in a sentence of 1 words; correct it"),
        ([row(1, "x", 1)], r"a\.conllu:1: expected as HEAD another word .* got itself; correct it"),
        ([row(1, "x", "-1")], r"a\.conllu:1: expected as HEAD the number of a word, or 0 for the root, got '-1'"),
        ([row(1, "x", "two")], r"a\.conllu:1: expected as HEAD the number .* got 'two'; correct it"),
        (
            [row(1, "r", 0), "", row(1, "x", 0), row(2, "y", 4), row(3, "z", 2), row(4, "w", 3), row(5, "v", 2)],
            r"a\.conllu:4: expected a tree, .* in a circle \(2 <- 4 <- 3 <- 2\); correct HEAD",
        ),
    ],
)
def test_what_is_not_conllu(tmp_path, rows, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        conllu.dependencies([written(tmp_path, *rows)])


def test_bytes_that_are_no_text(tmp_path):
    path = tmp_path / "a.conllu"
    path.write_bytes(row(1, "x", 0).encode() + b"\n2\t\xff")
    with pytest.raises(ValueError, match=r"a\.conllu:2: expected UTF-8, got the byte 0xff"):
        conllu.dependencies([path])


def test_a_long_chain_is_no_circle(tmp_path):
    rows = [row(i, "x", i + 1, "dep") for i in range(1, 1000)] + [row(1000, "x", 0, "root")]
    assert len(conllu.dependencies([written(tmp_path, *rows)])) == 2 * 999


@pytest.mark.skipif(not SHARED.exists(), reason="shared data: ud-english-ewt")
def test_the_best_offsets_in_real_trees():
    """As measured beside this code, on dev and test together, from the dependent to its head."""
    corpus = corpus_of([SHARED / "en_dev.conllu", SHARED / "en_test.conllu"])
    hits = baselines.at_offsets(corpus)
    best = {name: round(100 * hits[rows].mean(0).max(), 1) for name, rows in corpus.groups.items()}
    expected = {
        "det": 58.6, "obj": 35.4, "nsubj": 35.5, "case": 38.2, "amod": 74.6, "compound": 80.0, "nmod:poss": 59.9,
        "aux": 47.6, "mark": 52.5, "conj": 27.6,
    }  # fmt: skip
    assert {name: best[name] for name in expected} == expected
    assert len(corpus.documents) == 4078 and corpus.note == ""
    text = "# text = "
    lines = [(SHARED / f"en_{part}.conllu").read_text("utf-8").splitlines() for part in ("dev", "test")]
    texts = [line.removeprefix(text).replace("\xa0", " ") for part in lines for line in part if line.startswith(text)]
    assert [document.text for document in corpus.documents] == [line.strip() for line in texts]
