"""A table in memory gives the results of its Parquet file; what is no table is refused in every public function."""

from pathlib import Path

import numpy as np
import polars
import pyarrow
import pyarrow.parquet
import pytest
import torch
from transformers import BatchEncoding, BertConfig, BertModel

import sightline
from sightline.encoders import build
from sightline.head_roles.corpus import corpus_of
from sightline.huggingface import run
from sightline.observe import influence
from sightline.tasks import Tokenizer

pandas = pytest.importorskip("pandas")

DATA = {
    "id": list(range(60)),
    "review": [f"it is {'good' if i % 3 else 'bad'} {i}" for i in range(60)],
    "stars": [i % 3 > 0 for i in range(60)],
}
FRAME = pandas.DataFrame(DATA, index=range(60, 0, -1))
SMALL = {
    "encoder": "convolution",
    "width": 8,
    "layers": 1,
    "steps": 3,
    "progress": False,
    "text": "review",
    "label": "stars",
}


class Dataset:
    """As `datasets.Dataset` is to be read: classes are numbers, whose names stand in the features."""

    column_names = list(DATA)
    features = property(lambda self: {"stars": type("ClassLabel", (), {"names": ["False", "True"]})()})

    def __iter__(self):
        return (
            {name: int(row) if name == "stars" else row for name, row in zip(DATA, rows, strict=True)}
            for rows in zip(*DATA.values(), strict=True)
        )


TABLES = {
    "pandas": lambda: FRAME,
    "polars": lambda: polars.DataFrame(DATA),
    "polars, lazy": lambda: polars.LazyFrame(DATA),
    "Arrow": lambda: pyarrow.table(DATA),
    "batches": lambda: pyarrow.table(DATA).to_reader(7),
    "a dict of columns": lambda: DATA,
    "dicts": lambda: polars.DataFrame(DATA).iter_rows(named=True),
    "a data set": Dataset,
}


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    """A Parquet file, and what was fitted on it."""
    folder = tmp_path_factory.mktemp("fitted")
    pyarrow.parquet.write_table(pyarrow.table(DATA), folder / "reviews.parquet")
    return folder / "reviews.parquet", sightline.fit(folder / "reviews.parquet", out=folder / "run", **SMALL).eval()


@pytest.mark.parametrize("case", TABLES)
def test_a_table_is_learned_as_its_file_is(case, fitted, tmp_path):
    file, expected = fitted
    model = sightline.fit(TABLES[case](), out=tmp_path / "run", **SMALL)
    assert model.trained_on == expected.trained_on and model.task.labels == expected.task.labels
    pairs = zip(model.parameters(), expected.parameters(), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)
    assert model.config.data.data == "table"
    assert sightline.evaluate(model, TABLES[case]()) == model.results["test"]  # the part that was set aside
    assert sightline.evaluate(expected, TABLES[case]()) != model.results["test"]  # another file's: all of it
    if case != "a dict of columns":  # which one record might be, too
        answers = list(sightline.predict(model, TABLES[case]()))
        assert answers == list(sightline.predict(expected, file)) and len(answers) == 60


def test_answers_are_in_the_order_of_the_rows(fitted):
    _, model = fitted
    some = FRAME.sample(frac=1, random_state=0)
    expected = list(model.predict(some["review"].tolist()))
    columns = (some, some["review"], pandas.Index(some["review"]), polars.Series(some["review"].tolist()))
    for column in (*columns, pyarrow.array(some["review"]), some["review"].to_numpy(), tuple(some["review"])):
        assert list(model.predict(column)) == expected


def test_parts_may_be_tables(tmp_path):
    model = sightline.fit(FRAME[:40], valid=FRAME[40:50], test=pyarrow.table(DATA)[50:], out=tmp_path / "run", **SMALL)
    assert (model.config.data.valid, model.config.data.test) == ("table", "table")
    assert sightline.evaluate(model, FRAME[50:]) == model.results["test"]
    with pytest.raises(ValueError, match="table: expected other data than the model was fitted on"):
        sightline.evaluate(model, FRAME[:40])


def test_encoders_are_compared_on_a_table(tmp_path):
    settings = {"steps": 2, "width": 8, "layers": 1, "text": "review", "label": "stars"}
    result = sightline.compare(FRAME, encoders=("rnn" for _ in range(1)), out=tmp_path / "runs", tell=str, **settings)
    assert [encoder["kind"] for encoder in result["encoders"]] == ["rnn"]


NO_DATA = {
    "bytes": (lambda: b"a.csv", "expected an iterable of rows, got a bytes"),
    "a set": (lambda: {"a"}, "got a set, which has no order"),
    "a number": (lambda: 3, "got an int"),
    "none": (lambda: None, "got a NoneType"),
    "texts": (lambda: ["a", "b"], "table, row 1: expected a dict with a value for each column, got a str"),
    "a column": (lambda: FRAME["review"], "table, row 1: expected a dict"),
    "splits": (lambda: {"train": FRAME, "test": FRAME}, r"got several: train, test; give one, as in data\['train'\]"),
    "one record": (
        lambda: {"review": "good", "stars": "1"},
        "column 'review': expected an iterable of values, got one text",
    ),
    "no rows": (lambda: FRAME[:0], "table: expected at least one record"),
    "two of one name": (lambda: FRAME.rename(columns={"id": "review"}), "two of the name 'review'"),
}


@pytest.mark.parametrize("case", NO_DATA)
def test_what_is_no_data(case, fitted, tmp_path):
    make, expected = NO_DATA[case]
    for use in (
        lambda data: sightline.fit(data, out=tmp_path / "run", **SMALL),
        lambda data: sightline.compare(data, out=tmp_path / "runs", tell=str),
        lambda data: sightline.evaluate(fitted[1], data),
    ):
        with pytest.raises((TypeError, ValueError), match=expected):
            use(make())
    assert not (tmp_path / "run").exists()


NO_RECORDS = {
    "a set": (lambda: {"a"}, "predict: expected an iterable of records, got a set"),
    "a grid": (lambda: np.array([["a"], ["b"]]), r"got an array \[2, 1\]; give one column of it"),
    "one record": (lambda: {"review": "a"}, "got one dict; put it in a list"),
    "a number": (lambda: 3, "got an int; put it in a list"),
    "a value that is missing": (
        lambda: FRAME["review"].where(FRAME["id"] > 1),
        "predict:1: expected a value in column 'review', got none",
    ),
}


@pytest.mark.parametrize("case", NO_RECORDS)
def test_what_are_no_records(case, fitted):
    make, expected = NO_RECORDS[case]
    with pytest.raises((TypeError, ValueError), match=expected):
        list(sightline.predict(fitted[1], make()))


def test_ids_and_vectors_come_in_any_list_and_in_no_table():
    encoder = build("convolution", vocabulary=9, width=8, layers=1)
    model = BertModel(
        BertConfig(vocab_size=99, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8)
    ).eval()
    ids = [[1, 2, 3], [4, 5]]
    expected = run(model, ids).values, influence(encoder, ids).profile.total
    for column in (pandas.Series(ids, index=[7, 0]), polars.Series(ids), pyarrow.array(ids), iter(ids)):
        ids = list(column) if isinstance(column, type(iter([]))) else column
        assert torch.equal(run(model, ids).values, expected[0])
        assert torch.equal(influence(encoder, ids).profile.total, expected[1])
    for table in (pandas.DataFrame({0: [1], 1: [2]}), BatchEncoding({"input_ids": [[1]]}), {(1, 2), (3,)}):
        for use in (lambda table: run(model, table), lambda table: influence(encoder, table)):
            with pytest.raises(TypeError, match="(run|influence): expected an iterable of .*, got a"):
                use(table)


def test_other_functions_that_take_lists():
    ids = (
        Tokenizer.train("words", pandas.Series(["a b a", "b b"], index=[4, 2]))
        .encode(pandas.Series(["a b"], index=[7]))
        .ids
    )
    assert len(ids.values) == 2
    assert len(sightline.Sequences.from_list(torch.arange(3)[:i] for i in range(3))) == 3
    for use, expected in {
        lambda: Tokenizer.train("words", "a b"): "tokenizer: expected an iterable of texts, got one text",
        lambda: Tokenizer.train("bytes", []).encode("abc"): "tokenizer: expected an iterable of texts, got one text",
        lambda: sightline.Sequences.from_list(pandas.DataFrame({"a": [1]})): r"from_list: .*table\['a'\]",
        lambda: corpus_of(FRAME): "heads: expected an iterable of paths, got a pandas DataFrame",
        lambda: sightline.compare("scope", encoders="lstm"): "compare: expected an iterable of encoders, got one text",
        lambda: sightline.look("model", FRAME["review"]): "look: expected a text, got Series",
    }.items():
        with pytest.raises(TypeError, match=expected):
            use()


def test_a_prompt_is_one_text(tmp_path):
    (tmp_path / "play.txt").write_text("to be or not to be, " * 20)
    model = sightline.fit(tmp_path / "play.txt", out=tmp_path / "run", **{**SMALL, "text": None, "label": None})
    for prompt in (["to", "be"], None, b"to", Path("to")):
        with pytest.raises(TypeError, match="generate: expected a text, got"):
            model.generate(prompt)
