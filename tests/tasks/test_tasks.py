"""One table examines all tasks: targets from records, sums that add up, answers for each sequence, JSON and back."""

import json
import math

import pytest
import torch
import torch.nn.functional as F

from sightline.sequences import Sequences
from sightline.tasks import Classify, Language, Record, Regress, Tag, Tokenizer, encode, questions, task_from_json
from sightline.tasks.examples import Examples

TEXTS = [["the", "duck"], ["a"], [], ["the", "plump", "duck"]]
BYTES = Tokenizer.train("bytes", [])
ROWS = [
    Record(
        {"text": " ".join(words), "words": words, "tags": [w[0] for w in words], "y": n, "class": str(n % 3)},
        "a.jsonl",
        n + 1,
    )
    for n, words in enumerate(TEXTS)
]
TASKS = [
    Classify("text", "class", ("0", "1", "2")),
    Regress("text", "y", (1.5,), (2.0,)),
    Tag("words", "tags", ("a", "d", "p", "t")),
    Language("text", 258, 1, 4, "byte", stream=False),
    Language("text", 258, 1, 4, None, stream=True),
]
each_task = pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)


def scored(task, examples):
    rows = len(examples) if task.pool else len(examples.inputs.values)
    generator = torch.Generator().manual_seed(0)
    return torch.randn(rows, task.outputs, generator=generator)


@each_task
def test_json_there_and_back(task):
    assert task_from_json(json.loads(json.dumps(task.to_json()))) == task


@each_task
def test_loss_and_measures_are_sums_that_add_up(task):
    examples = encode(ROWS, task, BYTES)
    scores = scored(task, examples)
    total, count = task.loss(scores.requires_grad_(), examples)
    total.backward()
    assert scores.grad.abs().sum() > 0 and count == sum(c for _, c in [task.measures(scores, examples)["loss"]])
    parts, at = [], 0
    for s in range(len(examples)):
        one = examples.take([s])
        rows = 1 if task.pool else len(one.inputs.values)
        parts.append((one, scores.detach()[at : at + rows]))
        at += rows
    assert at == len(scores)
    torch.testing.assert_close(sum(task.loss(s, e)[0] for e, s in parts), total.detach())
    whole = task.measures(scores.detach(), examples)
    for name, (value, n) in whole.items():
        summed = [task.measures(s, e)[name] for e, s in parts]
        assert math.isclose(sum(v for v, _ in summed), value, rel_tol=1e-5) and sum(c for _, c in summed) == n
    assert all(type(number) in (int, float) for pair in whole.values() for number in pair)
    assert set(task.chance(examples)) <= set(whole)


@each_task
def test_answers_are_json_one_for_each_record_and_need_no_label(task):
    bare = [Record({task.text: row.fields[task.text]}, row.file, row.line) for row in ROWS]
    (question,) = questions(bare, task, BYTES)
    answers = task.answers(scored(task, question), question)
    assert len(answers) == len(question.texts) == len(ROWS)
    json.dumps(answers, allow_nan=False)
    if task.name == "tag":
        assert [len(answer["tags"]) for answer in answers] == [len(words) for words in TEXTS]
    if task.name == "language":
        tokens = [len(row.fields["text"]) for row in ROWS]
        assert [a["tokens"] for a in answers] == [max(n - 1, 0) if task.stream else n + 1 for n in tokens]


def test_classify():
    task = Classify.fit(ROWS, "text", "class")
    assert task == TASKS[0]
    examples = encode(ROWS, task, BYTES)
    assert examples.targets.tolist() == [0, 1, 2, 0] and examples.texts[0] == "the duck"
    scores = 20.0 * F.one_hot(torch.tensor([0, 1, 1, 0]), 3)
    assert task.measures(scores, examples)["accuracy"] == (3, 4)
    assert task.chance(examples)["accuracy"] == (2, 4)
    assert task.answers(scores, examples)[2] == {"label": "1", "probability": 1.0}
    truths = [Record({"class": value}, "a.jsonl", 1) for value in (True, 10, " x ", 1.5)]
    assert Classify.fit(truths, "text", "class").labels == ("1.5", "10", "true", "x")
    earlier = Classify("text", "class", ("1.0", "2.0"))  # as JSON spelled 1.0 once
    assert encode([Record({"text": "", "class": 2}, "a", 1)], earlier, BYTES).targets.tolist() == [1]


def test_regress_is_in_the_units_of_the_data():
    rows = [Record({"text": "", "y": y}, "a.csv", 2) for y in ("10", "20", "60")]
    task = Regress.fit(rows, "text", "y")
    assert task.mean == (30.0,) and math.isclose(task.deviation[0], math.sqrt(1400 / 3))
    examples = encode(rows, task, BYTES)
    assert math.isclose(float(examples.targets.square().mean()), 1, rel_tol=1e-6)
    scores = torch.zeros(3, 1)
    measures = task.measures(scores, examples)
    assert measures["mae"] == (pytest.approx(60), 3) and measures["mse"] == (pytest.approx(1400), 3)
    assert task.chance(examples) == measures and task.answers(scores, examples)[0] == {"value": 30.0}
    several = [Record({"text": "", "y": [1, 5]}, "a", 1), Record({"text": "", "y": [3, 5]}, "a", 2)]
    task = Regress.fit(several, "text", "y")
    assert task.mean == (2.0, 5.0) and task.deviation == (1.0, 1.0) and task.outputs == 2
    assert task.answers(torch.ones(1, 2), None) == [{"value": [3.0, 6.0]}]


def test_tag_answers_at_first_pieces_and_null_asks_for_nothing():
    task = TASKS[2]
    row = Record({"words": ["the", "", "duck"], "tags": ["t", None, "d"]}, "a.jsonl", 1)
    examples = encode([row, row], task, BYTES)
    assert examples.targets.tolist() == [3, -100, -100, -100, 1, -100, -100, -100] * 2
    assert Tag.fit(ROWS, "words", "tags") == Tag("words", "tags", ("a", "d", "p", "t"))
    vectors = [Record({"values": [[0.5], [1.5]], "tags": [1, 0]}, "a.jsonl", 1)]
    assert encode(vectors, Tag.fit(vectors, "values", "tags"), None).targets.tolist() == [1, 0]


def test_accuracy_by_distance():
    targets = torch.tensor([0, 0, 1, 0, 0, -100, 1])
    distances = torch.tensor([1, 8, 9, 128, 129, 4, -1])
    examples = Examples(Sequences(torch.arange(7), [0, 7]), targets, True, distances)
    measures = TASKS[2].measures(F.one_hot(torch.tensor([0, 1, 1, 0, 1, 0, 1]), 4).float(), examples)
    by_distance = {name.partition("@")[2]: value for name, value in measures.items() if "@" in name}
    assert by_distance == {"1-8": (1, 2), "9-32": (1, 1), "33-128": (1, 1), "129+": (0, 1), "outside": (1, 1)}
    assert measures["accuracy"] == (4, 6)


def test_language_asks_for_each_token_once():
    task, stream = TASKS[3], TASKS[4]
    rows = [Record({"text": text}, "a.txt", 1) for text in ("abcdef", "")]
    ids = BYTES.encode(["abcdef"]).ids.values.tolist()
    examples = encode(rows, task, BYTES)
    assert [x.tolist() for x in examples.inputs] == [[1, *ids[:3]], ids[3:], [1]]
    assert examples.targets.tolist() == [*ids, 1, 1]
    chunks = stream.stream_examples(torch.tensor(ids))
    assert [x.tolist() for x in chunks.inputs] == [ids[:4], ids[4:5]] and chunks.targets.tolist() == ids[1:]
    (question,) = questions(rows, stream, BYTES)
    assert [x.tolist() for x in question.inputs] == [ids[:-1], []] and question.targets.tolist() == ids[1:]
    nats, count = task.measures(scored(task, examples), examples)["loss"]
    assert task.measures(scored(task, examples), examples)["bits per byte"] == (nats / math.log(2), count)
    assert task.prompt(torch.tensor(ids)).tolist() == [1, *ids] and stream.prompt(torch.tensor(ids)).tolist() == ids


def test_questions_stream():
    def endless():
        n = 0
        while True:
            n += 1
            yield Record({"text": "x"}, "standard input", n)

    question = questions(endless(), TASKS[0], BYTES)
    assert len(next(question)) == len(next(question)) == 1024
    assert list(questions([], TASKS[0], BYTES)) == []


def fields(**columns):
    return [Record(columns, "a.jsonl", 7)]


REFUSED = [
    (
        TASKS[0],
        fields(text="x", **{"class": "9"}),
        r"a\.jsonl:7: expected in column 'class' one of the 3 labels .*0, 1, 2.*got '9'",
    ),
    (TASKS[0], fields(text="x", **{"class": " "}), r"a\.jsonl:7: expected a label in column 'class', got none"),
    (TASKS[0], fields(text="x", **{"class": ["0"]}), r"a\.jsonl:7: expected one label in column 'class', got \['0'\]"),
    (TASKS[0], fields(text="x", label="0"), r"a\.jsonl:7: expected a column 'class', got the columns text, label"),
    (TASKS[0], fields(words="x", **{"class": "0"}), r"a\.jsonl:7: expected a column 'text'"),
    (TASKS[0], fields(text=5, **{"class": "0"}), r"a\.jsonl:7: expected in column 'text' a text, or a list of words"),
    (TASKS[0], fields(text="x", **{"class": "0"}) + fields(text=["x"]), r"as in the records before, got \['x'\]"),
    (TASKS[1], fields(text="x", y="much"), r"a\.jsonl:7: expected a finite number in column 'y', got 'much'"),
    (TASKS[1], fields(text="x", y="nan"), r"a\.jsonl:7: expected a finite number in column 'y', got 'nan'"),
    (TASKS[1], fields(text="x", y=1e200), r"a\.jsonl:7: expected numbers up to 1e\+140 in column 'y', got 1e\+200"),
    (TASKS[1], fields(text="x", y=1e139), r"a\.jsonl:7: .* a number like those the model was fitted on, got 1e\+139"),
    (TASKS[1], fields(text="x", y=[]), r"a\.jsonl:7: expected a finite number in column 'y', got \[\]"),
    (TASKS[1], fields(text="x", y=[1, 2]), r"a\.jsonl:7: expected 1 numbers in column 'y', got 2"),
    (TASKS[2], fields(words=["a", "b"], tags=["a"]), r"a\.jsonl:7: .* one tag for each of 2 words or rows, got 1"),
    (
        TASKS[2],
        fields(words=["a"], tags=5),
        r"a\.jsonl:7: expected tags in column 'tags', got 5; give a list, or a text with blanks between",
    ),
    (TASKS[2], fields(words=["a"], tags=["z"]), r"a\.jsonl:7: expected in column 'tags' one of the 4 labels"),
]


@pytest.mark.parametrize("task, rows, message", REFUSED)
def test_a_record_that_does_not_fit_is_refused_with_its_place(task, rows, message):
    with pytest.raises(ValueError, match=message):
        encode(rows, task, BYTES)


@pytest.mark.parametrize(
    "values, message",
    [
        (
            [[1, 2], [3, float("nan")]],
            r"a\.jsonl:7: expected finite numbers in column 'v', got nan in row 1, feature 1",
        ),
        ([[1e300]], r"a\.jsonl:7: expected finite numbers in column 'v', got inf in row 0"),
        ([[1, 2], [3]], r"a\.jsonl:7: expected in column 'v' rows of numbers, all as long, got \[\[1, 2\], \[3\]\]"),
        ("text", r"a\.jsonl:7: expected in column 'v' rows of numbers, all as long, got 'text'"),
        ([[1.0]], r"a\.jsonl:7: expected rows of 2 numbers in column 'v', as in the records before, got 1"),
    ],
)
def test_vectors_that_do_not_fit_are_refused_with_their_place(values, message):
    task = Classify("v", "class", ("0", "1"))
    before = [Record({"v": [], "class": 0}, "a.jsonl", 1), Record({"v": [[1, 2]], "class": 0}, "a.jsonl", 2)]
    assert encode(before, task, None).inputs.values.tolist() == [[1, 2]]
    with pytest.raises(ValueError, match=message):
        encode(before + fields(v=values, **{"class": 0}), task, None)


def test_other_messages():
    with pytest.raises(
        ValueError, match=r"a\.jsonl: expected at least two different labels in column 'x', got only 'a'"
    ):
        Classify.fit(fields(x="a"), "text", "x")
    with pytest.raises(ValueError, match=r"a\.jsonl: expected at least two different tags in column 'x', got only 'a'"):
        Tag.fit(fields(x=["a", None]), "text", "x")
    with pytest.raises(ValueError, match="language: expected a text of at least 2 tokens, got 1"):
        TASKS[4].stream_examples(torch.tensor([5]))
    with pytest.raises(ValueError, match="generate: expected a prompt"):
        TASKS[4].prompt(torch.tensor([], dtype=torch.int64))
    for saved in ({"task": "sing"}, {"task": "tag"}, {"task": "tag", "x": 1}, {}, [], None):
        with pytest.raises(ValueError, match="task: expected the JSON of one of classify, regress, tag, language"):
            task_from_json(saved)
