"""`corpus_of`: which formats are recognised, links and texts, bindings of scope, and what is refused."""

import ast
import json

import numpy as np
import pytest

from sightline.head_roles.corpus import corpus_of
from sightline.tasks import roles, scope
from sightline.tasks.synthetic import synthetic_task

TEXT = "The cat chased its tail."


def lines(tmp_path, *records, name: str = "a.jsonl"):
    path = tmp_path / name
    path.write_text("".join(json.dumps(record) + "\n" for record in records), "utf-8")
    return path


def link(a, b, **more) -> dict:
    return {"from": a, "to": b, **more}


def test_links_of_ones_own(tmp_path):
    own = [link([15, 18], [0, 7], relation="owner"), link([15, 18], [19, 23], relation="owner"), link([0, 3], [4, 7])]
    corpus = corpus_of(lines(tmp_path, {"text": TEXT, "links": own}, {"text": "No links."}, {"text": " ", "links": []}))
    assert {name: len(rows) for name, rows in corpus.groups.items()} == {"owner": 1, "link": 1}
    assert [(int(corpus.query[q]), int(k)) for q, k in zip(corpus.question_of_key, corpus.keys, strict=True)] == [
        (3, 1),
        (3, 4),
        (0, 1),
    ]
    assert len(corpus.documents) == 2 and corpus.documents[0].name == "a.jsonl:1"
    assert corpus.note == "Left out: 1 text without words."


@pytest.mark.parametrize(
    "record, message",
    [
        ({"words": "x"}, r'expected "text" with a text and "links" with a list, got words \(str\); write'),
        ({"text": 3}, r"expected \"text\" with a text .* got text \(int\)"),
        ({"text": TEXT, "links": {}}, r"expected .* got text \(str\), links \(dict\)"),
        (
            {"text": TEXT, "links": [7]},
            r'expected a link with "from", "to" and perhaps "relation", got 7; write these alone',
        ),
        ({"text": TEXT, "links": [{"from": [0, 3]}]}, r"expected a link with .* got \{'from'"),
        ({"text": TEXT, "links": [link([0, 3], [4, 7], kind="x")]}, r"expected a link with .* got \{'from'"),
        ({"text": TEXT, "links": [link([0, 3], [4, 7], relation=" ")]}, r"expected the name of a relation, got ' '"),
        (
            {"text": TEXT, "links": [link([3, 0], [4, 7])]},
            r'expected "from" as \[first .* of the text, got \[3, 0\]; count',
        ),
        (
            {"text": TEXT, "links": [link([0, 3], [4, 99])]},
            r'expected "to" as .* inside the 24 of the text, got \[4, 99\]',
        ),
        ({"text": TEXT, "links": [link([-3, 2], [4, 7])]}, r'expected "from" as'),
        ({"text": TEXT, "links": [link([0, 2.0], [4, 7])]}, r'expected "from" as'),
        ({"text": TEXT, "links": [link(0, [4, 7])]}, r'expected "from" as .* got 0'),
        (
            {"text": TEXT, "links": [link([0, 3], [3, 4])]},
            r"expected \"to\" to hold a word, got ' ' at \[3, 4\]; correct it",
        ),
    ],
)
def test_links_that_are_none(tmp_path, record, message):
    with pytest.raises(ValueError, match=rf"^a\.jsonl:2: {message}"):
        corpus_of(lines(tmp_path, {"text": "x"}, record))


def test_a_text_is_a_document_a_line(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("One line.\n\n  Another one \r\n", "utf-8")
    corpus = corpus_of(path, kind="text")
    assert [d.text for d in corpus.documents] == ["One line.", "  Another one"] and len(corpus) == 0
    assert corpus.documents[1].name == "a.txt:3" and corpus.note == ""


def test_what_cannot_be_recognised(tmp_path):
    with pytest.raises(ValueError, match=r"nothing: expected a file or a folder, got no such one; check the path"):
        corpus_of(tmp_path / "nothing")
    with pytest.raises(ValueError, match=r"expected files of one format .* got none; name a file"):
        corpus_of(tmp_path)
    path = lines(tmp_path, {"text": TEXT})
    with pytest.raises(ValueError, match=r"expected files of coreference, got '\.jsonl'; name a file"):
        corpus_of(path, kind="coreference")
    with pytest.raises(ValueError, match=r"^heads: expected as kind one of dependencies, coreference, .* got 'trees'"):
        corpus_of(path, kind="trees")
    (tmp_path / "b.txt").write_text("x")
    with pytest.raises(ValueError, match=r"expected files of one format .* got '\.jsonl', '\.txt'"):
        corpus_of(tmp_path)
    (tmp_path / "c.csv").write_text("x")
    with pytest.raises(ValueError, match=r"expected files of one format .* got '\.csv'"):
        corpus_of(tmp_path / "c.csv")


@pytest.mark.parametrize(
    "name, content", [("a.txt", " \n"), ("a.jsonl", '{"text": ""}'), ("a.conllu", "# x\n"), ("b.txt", "")]
)
def test_an_empty_corpus(tmp_path, name, content):
    (tmp_path / name).write_text(content)
    with pytest.raises(
        ValueError, match=rf"{name}: expected at least one sentence with words, got none; give a corpus"
    ):
        corpus_of(tmp_path / name)


def test_files_given_one_by_one_and_with_their_texts(tmp_path):
    for stem in "ab":
        (tmp_path / f"{stem}.ann").write_text("T1\tPROP_PER 0 3\tAnn\nT2\tPRON_PER 4 7\ther\n*\tCoref T1 T2\n")
        (tmp_path / f"{stem}.txt").write_text("Ann her")
    corpus = corpus_of(sorted(tmp_path.iterdir()))
    assert corpus.document.tolist() == [0, 1] == [d.source for d in corpus.documents]


# --- scope ----------------------------------------------------------------------------------------------------------


def test_bindings_are_those_of_scope(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    corpus, gold = corpus_of("scope"), scope.load()["test"]
    assert len(corpus) == int((gold.links >= 0).sum()) and len(corpus.documents) == len(gold)
    rows = gold.inputs.offsets.numpy()[corpus.document] + corpus.query
    assert (gold.links.numpy()[rows] == corpus.keys).all() and (gold.distances.numpy()[rows] == corpus.distance).all()
    names = [corpus.relations[i].name for i in corpus.relation]
    assert names == [f"binding:{scope.ROLES[role]}" for role in gold.targets[rows].tolist()]
    parsed = 0
    for document, ids, place in zip(corpus.documents, gold.inputs, gold.texts, strict=True):
        assert (document.ids == ids.numpy()).all() and len(document.words) == len(ids)
        try:
            parsed += len(ast.parse(document.text).body) == 1
        except SyntaxError:  # a function whose only statement was its docstring
            assert document.text.rstrip().endswith(":"), place
    assert parsed > 0.99 * len(gold)
    spelled = corpus.documents[corpus.document[0]].words
    assert spelled[corpus.query[0]] == spelled[corpus.keys[0]]


def test_a_function_is_laid_out_as_it_was():
    source = 'async def f(a, *b, c=-1) -> int:\n    if a[0]:\n        return {1: (2, "x")}\n    return await g(a.b)\n'
    (function,) = roles.functions(source)
    words, spaces = roles.words_and_spaces(function.spelling, function.words)
    text = "".join(np.array([spaces, words]).T.ravel())
    assert ast.dump(ast.parse(text)) == ast.dump(ast.parse(source))


def test_the_subjects_of_the_small_grammar(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    corpus = corpus_of("agreement:attractors=0-3,examples=3000")
    assert len(corpus) == len(corpus.documents) == 300 and corpus.relations[0].name == "nsubj"
    assert corpus.keys.tolist() == [5 if d.words[0] != "the" else 1 for d in corpus.documents]
    assert corpus.query.tolist() == [len(d.words) - 1 for d in corpus.documents]
    examples = synthetic_task("agreement:attractors=0-3,examples=3000").parts()["test"]
    plural = [d.words[key].endswith("s") for d, key in zip(corpus.documents, corpus.keys, strict=True)]
    assert plural == examples.targets[examples.targets >= 0].bool().tolist()
    (tmp_path / "agreement").mkdir()  # what bears the name is meant
    with pytest.raises(ValueError, match="agreement: expected files of one format"):
        corpus_of("agreement")
    with pytest.raises(ValueError, match="parity: expected a file or a folder, got no such one"):
        corpus_of("parity")
