"""Files to examples: the choice of columns, what is refused, what is set aside; on own and, if there, real files."""

import json
import os
import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sightline.tasks import Classify, Language, load, load_test, questions, read_records, scope
from sightline.tasks.columns import choose
from sightline.tasks.data import split
from sightline.tasks.readers import Record
from sightline.tasks.tokenizing import Tokenizer

SHARED = Path(os.environ.get("SIGHTLINE_DATA", Path(__file__).parents[3] / "shared" / "data"))


def rows(**columns):
    return [
        Record(dict(zip(columns, row, strict=True)), "a.jsonl", n + 2)
        for n, row in enumerate(zip(*columns.values(), strict=True))
    ]


SENTENCES = ["It is good all over", "It was rather bad", "I do not know it"]
WORDS = [["the", "duck"], ["a", "goose"], ["some", "birds"]]


@pytest.mark.parametrize(
    "columns, options, expected",
    [
        ({"t": SENTENCES, "y": ["1", "2", "3"]}, {}, ("classify", "t", "y", "text")),
        ({"t": SENTENCES, "y": [True, False, True]}, {}, ("classify", "t", "y", "text")),
        ({"t": SENTENCES, "y": ["good", "bad", "bad"]}, {}, ("classify", "t", "y", "text")),
        ({"y": ["good", "bad", "bad"], "t": SENTENCES}, {"text": "y"}, ("classify", "y", "t", "text")),
        ({"t": SENTENCES, "y": ["1.5", "2", "-3e2"]}, {}, ("regress", "t", "y", "text")),
        ({"t": SENTENCES, "y": ["1", "2", "3"]}, {"task": "regress"}, ("regress", "t", "y", "text")),
        ({"t": SENTENCES * 10, "y": list(range(30))}, {}, ("regress", "t", "y", "text")),
        ({"t": SENTENCES, "y": [[1.5, 2], [2, 3], [1, 1]]}, {}, ("regress", "t", "y", "text")),
        ({"t": SENTENCES}, {"task": "language"}, ("language", "t", None, "text")),
        ({"t": SENTENCES, "y": ["1", "2", "3"]}, {"task": "language"}, ("language", "t", None, "text")),
        ({"id": ["1", "2", "3"], "t": SENTENCES, "y": ["a", "b", "b"]}, {"label": "y"}, ("classify", "t", "y", "text")),
        ({"w": WORDS, "y": [["D", "N"]] * 3}, {}, ("tag", "w", "y", "words")),
        ({"id": ["a", "b", "c"], "w": WORDS, "y": [[1, 2]] * 3}, {}, ("tag", "w", "y", "words")),
        ({"w": WORDS, "y": ["1", "2", "1"]}, {}, ("classify", "w", "y", "words")),
        ({"v": [np.eye(2)] * 3, "y": ["a", "b", "b"]}, {}, ("classify", "v", "y", "vectors")),
        ({"v": [[[0.5]], [], [[1.5]]], "y": [[1], [], [0]]}, {}, ("tag", "v", "y", "vectors")),
        ({"v": [[[0.5]], [[2.5]], [[1.5]]], "y": [0.5, 1.5, 2]}, {}, ("regress", "v", "y", "vectors")),
        ({"t": SENTENCES, "y": [None, "a", "b"]}, {}, ("classify", "t", "y", "text")),
    ],
)
def test_the_task_is_picked_from_the_columns(columns, options, expected):
    choice = choose(rows(**columns), *(options.get(name) for name in ("task", "text", "label")))
    assert choice[:4] == expected


@pytest.mark.parametrize(
    "columns, options, message",
    [
        ({"t": SENTENCES}, {"task": "sing"}, "--task: expected one of classify, regress, tag, language, got 'sing'"),
        ({"t": SENTENCES}, {"task": "tag"}, "expected a column of labels for tag, got only 't'"),
        ({"v": [np.eye(2)] * 3}, {}, "expected a column of labels for vectors, got only 'v'"),
        (
            {"t": SENTENCES, "y": ["1", "2", "3"]},
            {"label": "z"},
            "a.jsonl:2: expected a column 'z', got the columns t, y",
        ),
        ({"t": SENTENCES, "u": SENTENCES}, {}, "plainly the text, got 't' and 'u' of much the same length; .* --text"),
        ({"w": WORDS, "x": WORDS}, {}, "plainly the text, got 'w' and 'x'"),
        (
            {"n": [1, 2, 3], "m": [1, 2, 3]},
            {},
            r"expected a column of text, got n \(whole number\), m \(whole number\)",
        ),
        ({"i": ["1"] * 3, "t": SENTENCES, "y": ["1"] * 3}, {}, "one column beside the text 't', got i, y; .* --label"),
        ({"t": SENTENCES, "y": [1, "a", [2]]}, {}, "expected labels or numbers in column 'y', got mixed values"),
        (
            {"t": SENTENCES * 20, "y": [f"id {i}" for i in range(60)]},
            {},
            "got text, 60 different in 60 records; .* --label",
        ),
        (
            {"t": SENTENCES, "y": ["a", "b", "c"]},
            {"task": "language", "label": "y"},
            "no label for language, got --label y",
        ),
        ({"v": [np.eye(2)] * 3}, {"task": "language"}, "expected a text and no label for language, got vectors"),
    ],
)
def test_what_the_columns_leave_open_is_asked_for(columns, options, message):
    with pytest.raises(ValueError, match=message):
        choose(rows(**columns), *(options.get(name) for name in ("task", "text", "label")))


# --- splitting --------------------------------------------------------------------------------------------------------


@given(st.lists(st.text(max_size=2), min_size=2), st.integers(0, 3), st.randoms())
def test_a_split_depends_on_texts_and_seed_alone(strings, seed, chance):
    records = rows(t=strings)
    if len(set(strings)) < 2:
        with pytest.raises(ValueError, match="a.jsonl: expected at least two different texts in column 't'"):
            split(records, "t", seed, ("valid", "test"))
        return
    parts = split(records, "t", seed, ("valid", "test"))
    texts = {part: {r.fields["t"] for r in parts[part]} for part in parts}
    assert sum(map(len, parts.values())) == len(records) and sum(map(len, texts.values())) == len(set(strings))
    assert len(texts["valid"]) == max(1, len(set(strings)) // 10) and len(texts["test"]) == len(set(strings)) // 10
    chance.shuffle(records)
    shuffled = split(records, "t", seed, ("valid", "test"))
    assert {part: {r.fields["t"] for r in shuffled[part]} for part in parts} == texts


def test_another_seed_is_another_split():
    records = rows(t=[f"text {i}" for i in range(200)])
    drawn = [{r.fields["t"] for r in split(records, "t", seed, ("valid",))["valid"]} for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2] and len(drawn[0]) == 20


# --- loading ----------------------------------------------------------------------------------------------------------


def table(path, number, extra=""):
    path.write_text("text,label\n" + "".join(f"word{i} and word{i % 7},{'yn'[i % 2]}\n" for i in range(number)) + extra)
    return path


def test_one_file(tmp_path):
    data = load(table(tmp_path / "a.csv", 100))
    assert data.note == "task: classify (column 'label' has 2 values) from text 'text'; 80 train, 10 valid, 10 test"
    assert (len(data.train), len(data.valid), len(data.test)) == (80, 10, 10)
    assert data.train.inputs.lengths.tolist() == [3] * 80 and data.task.labels == ("n", "y")
    again = load(table(tmp_path / "b.csv", 100))
    assert again.train.texts == data.train.texts and again.tokenizer.engine.to_str() == data.tokenizer.engine.to_str()
    assert len(load_test(tmp_path / "a.csv", data.task, data.tokenizer)) == 100


def test_the_tokenizer_sees_the_training_part_alone(tmp_path):
    table(tmp_path / "my-train.csv", 20), table(tmp_path / "dev.csv", 3, "unseen,y\nunseen,n\n")
    (tmp_path / "LICENSE.txt").write_text("not data")
    data = load(tmp_path, tokenizer="characters")
    assert len(data.valid) == 5 and data.test is None and "u" not in data.tokenizer.engine.get_vocab()
    assert data.valid.inputs[-1].tolist()[0] == data.tokenizer.unknown


def test_parts_given_one_by_one(tmp_path):
    train, valid, test = (table(tmp_path / f"{name}.csv", n) for name, n in (("a", 30), ("b", 4), ("c", 5)))
    data = load(train, valid=valid, test=test)
    assert (len(data.train), len(data.valid), len(data.test)) == (30, 4, 5)
    data = load(train, test=test)
    assert (len(data.train), len(data.valid), len(data.test)) == (27, 3, 5)


def test_two_records_are_enough_and_their_labels_are_known(tmp_path):
    data = load(table(tmp_path / "a.csv", 2))
    assert (len(data.train), len(data.valid), data.test, data.task.labels) == (1, 1, None, ("n", "y"))


def test_an_empty_text_is_a_sequence_of_length_0(tmp_path):
    data = load(table(tmp_path / "a.csv", 20, ",y\n"), seed=5)
    assert (
        0 in data.train.inputs.lengths.tolist() + data.valid.inputs.lengths.tolist() + data.test.inputs.lengths.tolist()
    )


def test_one_long_text_is_cut_where_it_was(tmp_path):
    (tmp_path / "a.txt").write_text("0123456789" * 10)
    data = load(tmp_path / "a.txt", context=8)
    assert data.note == "task: language (a plain text); tokens: 79 train, 9 valid, 9 test"
    assert data.task == Language("text", 12, 1, 8, "character", stream=True)
    assert data.train.inputs.lengths.tolist() == [8] * 9 + [7] and data.valid.inputs.lengths.tolist() == [8, 1]
    assert data.tokenizer.decode(data.valid.inputs[0]) == "01234567"
    assert data.tokenizer.decode(data.test.inputs[1]) == "8"
    whole = load_test(tmp_path / "a.txt", data.task, data.tokenizer)
    assert len(whole.targets) == 99
    (tmp_path / "train.txt").write_text("ab" * 10), (tmp_path / "test.txt").write_text("ba")
    data = load(tmp_path, tokenizer="bytes")
    assert len(data.test.targets) == 1 and data.task.unit == "byte"
    assert len(data.train.targets) == 17 and len(data.valid.targets) == 1
    assert load_test(tmp_path, data.task, data.tokenizer).targets.tolist() == data.test.targets.tolist()


def test_language_over_records(tmp_path):
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"body": f"text {i}"}) + "\n" for i in range(20)))
    data = load(tmp_path / "a.jsonl", task="language", context=4)
    assert data.task.text == "body" and not data.task.stream and (data.train.targets == data.task.end).sum() == 16
    words = load(tmp_path / "a.jsonl", task="language", tokenizer="words", vocabulary=3)
    assert words.task.vocabulary == 3 and words.task.unit is None


def test_tagging_from_conllu_with_any_column_as_the_tag(tmp_path):
    random.seed(0)
    with open(tmp_path / "a.conllu", "w") as file:
        for _ in range(20):
            for n in range(1, random.randint(2, 5)):
                file.write(f"{n}\tw{random.randint(0, 9)}\t_\tNOUN\t{'XY'[n % 2]}\t_\t0\troot\t_\t_\n")
            file.write("\n")
    data = load(tmp_path / "a.conllu", label="XPOS", tokenizer="bpe")
    assert data.task.labels == ("X", "Y") and data.task.name == "tag"
    assert (data.train.targets >= 0).sum() < len(data.train.targets)
    (question,) = questions([Record({"text": "one unheard of"}, "standard input", 1)], data.task, data.tokenizer)
    assert (question.targets == 0).sum() == 3 and question.texts == [["one", "unheard", "of"]]
    with pytest.raises(ValueError, match=r"a\.conllu: expected at least two different tags in column 'UPOS'"):
        load(tmp_path / "a.conllu")


@pytest.mark.parametrize("per_row", [False, True])
def test_vectors(tmp_path, per_row):
    lengths = np.array([3, 0, 2, 4] * 5)
    values = np.random.default_rng(0).normal(size=(lengths.sum(), 6))
    labels = np.arange(lengths.sum() if per_row else len(lengths)) % 3
    np.savez(tmp_path / "a.npz", values=values, offsets=np.append(0, lengths.cumsum()), labels=labels)
    data = load(tmp_path / "a.npz")
    assert data.tokenizer is None and data.task.name == ("tag" if per_row else "classify")
    assert data.train.inputs.values.shape[1] == 6 and str(data.train.inputs.values.dtype) == "torch.float32"
    assert data.task.labels == ("0", "1", "2")


def test_a_tokenizer_that_is_given(tmp_path):
    Tokenizer.train("bytes", []).save(tmp_path)
    path = table(tmp_path / "a.csv", 20)
    assert load(path, tokenizer=tmp_path / "tokenizer.json").tokenizer.size == 258
    with pytest.raises(ValueError, match="expected no size beside a tokenizer that is given, got 9"):
        load(path, tokenizer=tmp_path / "tokenizer.json", vocabulary=9)
    with pytest.raises(
        ValueError, match="expected one of bytes, characters, words, bpe or a tokenizer.json, got 'wrods'"
    ):
        load(path, tokenizer="wrods")


def test_a_label_seen_only_in_test_is_refused_with_its_place(tmp_path):
    table(tmp_path / "train.csv", 20), table(tmp_path / "test.csv", 3, "strange,z\n")
    message = r"test\.csv:5: expected in column 'label' one of the 2 labels seen in training \(n, y\), got 'z'"
    with pytest.raises(ValueError, match=message):
        load(tmp_path)
    data = load(tmp_path / "train.csv")
    with pytest.raises(ValueError, match=message):
        load_test(tmp_path, data.task, data.tokenizer)


def test_scope_is_at_hand():
    data = load("scope")
    assert data.task.name == "tag" and data.tokenizer.size == len(scope.VOCABULARY) + 2
    assert data.note.startswith("task: tag (what each use of a name stands for) in the functions of Python 3.")
    assert len(load_test("scope", data.task, data.tokenizer)) == len(data.test)
    with pytest.raises(ValueError, match="scope: expected the symbols and labels that the model has learned"):
        load_test("scope", Classify("text", "label", ("a", "b")), data.tokenizer)
    (question,) = questions([Record({"tokens": ["def", "name0", "oops"]}, "a.jsonl", 1)], data.task, data.tokenizer)
    assert question.inputs.values[2] == data.tokenizer.unknown
    with pytest.raises(ValueError, match="scope: expected no tokenizer, since this data set has its own, got bpe"):
        load("scope", tokenizer="bpe")
    with pytest.raises(ValueError, match="scope: expected no task, since this data set has its own, got language"):
        load("scope", task="language")


@pytest.mark.parametrize(
    "files, arguments, message",
    [
        ({}, {}, r"expected a file with 'train' in its name that ends in one of .*, got none"),
        ({"test.csv": "a,b\n"}, {}, r"expected a file with 'train' in its name .*, got test"),
        ({"train.csv": "a", "a.train.tsv": "a"}, {}, r"expected one train file, got a\.train\.tsv and train\.csv"),
        ({"train.csv": "text,label\n"}, {}, r"train\.csv: expected at least one record, got none"),
        ({"train.txt": ""}, {}, r"train\.txt: expected a text, got an empty file"),
        ({"train.txt": "abc" * 6}, {}, r"train\.txt: expected at least 20 characters, .*, got 18"),
        ({"train.txt": "abc" * 20}, {"context": 0}, "context: expected at least 1 token, got 0"),
        ({"train.txt": "a\nb\n"}, {"task": "classify"}, "expected a column of labels for classify, got only 'text'"),
    ],
)
def test_refused(tmp_path, files, arguments, message):
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=message):
        load(tmp_path, **arguments)


def test_what_is_not_there(tmp_path):
    with pytest.raises(ValueError, match=r"nothing\.csv: cannot be read \(No such file"):
        load(tmp_path / "nothing.csv")
    table(tmp_path / "a.csv", 9)
    with pytest.raises(ValueError, match="nothing-of-the-kind: expected a file, a folder or"):
        load("nothing-of-the-kind", valid=tmp_path / "a.csv")
    data = load(tmp_path / "a.csv")
    table(tmp_path / "train.csv", 9)
    with pytest.raises(ValueError, match="expected at least one record to test on, got none"):
        load_test(tmp_path, data.task, data.tokenizer)


@pytest.mark.skipif(not (SHARED / "banking77").exists(), reason="shared data: banking77")
def test_banking77():
    data = load(SHARED / "banking77")
    assert (len(data.train), len(data.valid), len(data.test)) == (9003, 1000, 3080) and data.task.outputs == 77


@pytest.mark.skipif(not (SHARED / "tinyshakespeare").exists(), reason="shared data: tinyshakespeare")
def test_tiny_shakespeare():
    data = load(SHARED / "tinyshakespeare" / "input.txt", context=64)
    assert data.note.endswith("tokens: 892315 train, 111538 valid, 111538 test") and data.tokenizer.size == 67


@pytest.mark.skipif(not (SHARED / "ud-english-ewt").exists(), reason="shared data: ud-english-ewt")
def test_ewt():
    dev = list(read_records(SHARED / "ud-english-ewt" / "en_dev.conllu"))
    assert len(dev) == 2001 and sum(len(record.fields["FORM"]) for record in dev) == 25_147
