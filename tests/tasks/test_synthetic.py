"""Generated tasks as data: the same each time, nothing both learned and tested, chance as said, and what is refused."""

import json
import math
from pathlib import Path

import pytest
import torch

from sightline.sequences import Sequences
from sightline.tasks import Regress, load, load_test, task_from_json
from sightline.tasks.examples import Examples
from sightline.tasks.synthetic import TASKS, synthetic_task
from sightline.tasks.synthetic.nesting import answer_shares
from sightline.tasks.task import NO_TARGET

EASY = {  # where there are few sequences, so that a careless split would show
    "copy": "copy:length=1-3,symbols=3",
    "selective-copy": "selective-copy:length=2-4,marked=2,symbols=2",
    "reversal": "reversal:length=1-4,symbols=2",
    "mqar": "mqar:length=6,pairs=2,keys=3,values=2",
    "induction": "induction:length=2-4,symbols=3",
    "adding": "adding:length=2-3",
    "dyck": "dyck:length=2-8,kinds=2,depth=2",
    "listops": "listops:depth=1",
    "agreement": "agreement:attractors=0",
    "parity": "parity:length=2-7",
    "modular": "modular:length=1-4,modulus=3",
}
BOTH = [*TASKS, *EASY.values()]


def few(name, count, more=""):
    return synthetic_task(f"{name}{',' if ':' in name else ':'}examples={count}{more}")


def read(examples):
    return {tuple(rows.flatten().tolist()) for rows in examples.inputs}


def same(one, other):
    columns = [(e.inputs.values, e.inputs.offsets, e.targets, e.distances) for e in (one, other)]
    return all(torch.equal(a, b) for a, b in zip(*columns, strict=True))


@pytest.mark.parametrize("name", BOTH)
def test_the_same_each_time_and_another_with_another_seed(name):
    first, again, other = (few(name, 300, more).parts() for more in ("", "", ",seed=1"))
    for part, count in {"train": 300, "valid": 30, "test": 30}.items():
        assert len(first[part]) == count and same(first[part], again[part])
        assert not same(first[part], other[part])


@pytest.mark.parametrize("name", BOTH)
def test_nothing_is_both_learned_and_tested(name):
    for seed in (0, 1):
        parts = [read(e) for e in few(name, 2000, f",seed={seed}").parts().values()]
        assert sum(map(len, parts)) == len(set.union(*parts)) and all(parts)


def test_nothing_is_both_learned_and_tested_where_lengths_overlap_or_seeds_differ():
    train = read(synthetic_task("parity:length=5-9,examples=5000").parts()["train"])
    harder = synthetic_task("parity:length=5-9,test=8-11,examples=5000").parts()["test"]
    assert not train & read(harder) and set(harder.lengths.tolist()) == {9, 10, 11, 12}
    assert not train & read(synthetic_task("parity:length=5-9,examples=5000,seed=7").parts()["test"])


@pytest.mark.parametrize("name", TASKS)
def test_chance_is_what_the_best_constant_answer_gets(name):
    drawn = few(name, 8000)
    examples = drawn.parts()["train"]
    if name == "adding":
        total, count = drawn.task.chance(examples)["mse"]
        spread = math.sqrt(7 / 180 / count)  # of a squared deviation: its variance is 1/15 - 1/36
        assert abs(total / count - drawn.chance) < 4 * spread
        return
    total, count = drawn.task.chance(examples)["accuracy"]
    spread = math.sqrt(drawn.chance * (1 - drawn.chance) / count)
    most = 4 * spread if name not in ("mqar",) else 5 * spread  # the best of 64
    assert -4 * spread < total / count - drawn.chance < most


def test_chance_follows_the_settings():
    assert synthetic_task("copy:symbols=20").chance == synthetic_task("dyck:kinds=20").chance == 0.05
    assert synthetic_task("mqar:values=10").chance == synthetic_task("modular:modulus=10").chance == 0.1
    for depth in (1, 2, 6):
        examples = few(f"listops:depth={depth}", 8000).parts()["train"]
        actual = examples.targets[examples.targets != NO_TARGET].bincount(minlength=10) / len(examples)
        calculated = torch.from_numpy(answer_shares(depth)[-1])
        assert calculated.sum() == pytest.approx(1) and (actual - calculated).abs().max() < 4 * math.sqrt(
            0.11 / len(examples)
        )


@pytest.mark.parametrize(
    "name, expected",
    [
        ("dyck", {"1", "2", "3", "4"}),
        ("dyck:depth=9,length=64", {"1", "2", "3", "4", "5", "6", "7", "8+"}),
        ("dyck:by=distance", {"1-8", "9-32", "33-128"}),
        ("listops:depth=1-9", {"1", "2", "3", "4", "5", "6", "7", "8+"}),
        ("agreement:attractors=0-5", {"0", "1", "2", "3", "4", "5"}),
        ("agreement:by=distance", {"1-8", "9-32"}),
        ("parity:length=1-200", {"1-8", "9-32", "33-128", "129+"}),
        ("mqar:length=512,pairs=16", {"1-8", "9-32", "33-128", "129+"}),
        ("induction:length=2-300", {"1-8", "9-32", "33-128", "129+"}),
        ("adding:length=200", {"33-128", "129+"}),  # the first mark stands in the first half
        ("adding:length=2-9", {"1-8"}),
        ("copy:length=4,gap=30,by=length", {"1-8"}),
        ("copy:length=4,gap=30", {"33-128"}),
    ],
)
def test_every_difficulty_is_reached(name, expected):
    drawn = few(name, 2000)
    examples = drawn.parts()["train"]
    measures = drawn.task.measures(torch.zeros(len(examples.targets), drawn.task.outputs), examples)
    actual = {key.partition("@")[2]: count for key, (_, count) in measures.items() if "@" in key}
    reached = {bucket for bucket, count in actual.items() if count > 0}
    assert reached == expected
    target_count = int((examples.targets != NO_TARGET).sum())  # of numbers, all are
    assert sum(actual.values()) == target_count


def test_test_data_may_be_harder_than_what_is_learned():
    for name, train, test in (
        ("listops:depth=1-2,test=3-5", {1, 2}, {3, 4, 5}),
        ("agreement:attractors=0,test=1-4", {0}, {1, 2, 3, 4}),
        ("reversal:length=2-3,test=9,by=length", {2, 3}, {9}),
    ):
        parts = few(name, 300).parts()
        for part, expected in {"train": train, "valid": train, "test": test}.items():
            has_target = parts[part].targets != NO_TARGET
            assert set(parts[part].distances[has_target].tolist()) == expected


def test_lengths_of_one_where_there_are_any_and_none_of_nought():
    assert set(few("reversal:length=1-9", 200).parts()["train"].lengths.tolist()) == set(range(2, 19, 2))
    assert int(few("parity:length=1-9", 200).parts()["train"].lengths.min()) == 2
    for name in ("copy", "parity", "modular", "reversal", "listops:depth=0", "induction:length=1", "adding:length=1"):
        with pytest.raises(ValueError, match=r"expected (length|depth) of \d or more, the smaller number first, got"):
            synthetic_task(name if ":" in name else f"{name}:length=0-3")


def test_measures_split_by_what_the_examples_say():
    inputs = Sequences(torch.zeros(6, 2), [0, 2, 3, 6])
    task = Regress("values", "sum", (0.0,), (2.0,), pool="last")
    examples = Examples(inputs, torch.zeros(3, 1), distances=torch.tensor([0, 3, 9]), unit="depth")
    measures = task.measures(torch.tensor([[1.0], [2.0], [3.0]]), examples.take([2, 0, 1]))  # deviation 2
    actual = {name: value for name, value in measures.items() if "@" in name and value[1]}
    assert actual == {"mse@8+": (4, 1), "mse@0": (16, 1), "mse@3": (36, 1)}
    assert task_from_json(json.loads(json.dumps(task.to_json()))) == task
    assert examples.take([1]).unit == examples.to("cpu").unit == "depth"
    with pytest.raises(ValueError, match=r"one row of distances for each sequence \(3\), got 6"):
        Examples(inputs, torch.zeros(3, 1), distances=torch.zeros(6))


# --- from the command line's side -------------------------------------------------------------------------------------


def test_load_says_what_it_is():
    data = load("mqar:length=24,pairs=4,examples=200")
    assert data.note == (
        "task: tag (at each key that comes again, the value it came with), generated; 200 train, 20 valid, 20 test; "
        "chance is 1.6%"
    )
    assert data.tokenizer.decode(data.train.inputs[0][:2]).split()[0].startswith("k")
    assert load("adding:examples=100").note.endswith("100 train, 10 valid, 10 test; chance is an mse of 0.1667")
    assert load("adding:examples=100").tokenizer is None
    assert load("parity:examples=100", task="tag").task == data.task.__class__("tokens", "answers", ("even", "odd"))


def test_a_model_is_measured_on_other_settings_but_not_on_other_symbols():
    data = load("parity:examples=100")
    longer = load_test("parity:length=50,examples=100", data.task, data.tokenizer)
    assert set(longer.lengths.tolist()) == {51}
    for other in ("modular", "modular:modulus=2", "copy", "adding"):
        with pytest.raises(ValueError, match="expected the symbols and labels that the model has learned, got others"):
            load_test(other, data.task, data.tokenizer)


def test_a_name_is_the_task_and_a_path_the_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("parity").mkdir()
    Path("parity/train.csv").write_text("text,label\n" + "".join(f"it is {i},{i % 2}\n" for i in range(40)))
    assert load("parity:examples=100").task.name == load("parity").task.name == "tag"
    assert load("./parity").task.name == load(tmp_path / "parity").task.name == "classify"


@pytest.mark.parametrize(
    "name, message",
    [
        (
            "parities:length=3",
            "expected one of copy, selective-copy, .*, modular before the colon, got parities; choose one",
        ),
        (
            "parity:lenght=3",
            "as in parity:length=1-40, each of examples, seed, by, test, length, each at most once, got lenght",
        ),
        ("parity:modulus=3", "each of examples, seed, by, test, length, each at most once, got modulus"),
        ("parity:length=3,length=4", "at most once, got length twice; correct it"),
        ("parity:length", "at most once, got length; correct it"),
        ("listops:3", "as in listops:depth=1-4, each of .* got 3; correct it"),
        ("parity:length=three", "expected length to be a whole number or a range such as 1-40, got 'three'"),
        ("parity:length=-3", "a whole number or a range such as 1-40, got '-3'"),
        ("parity:length=", "a whole number or a range such as 1-40, got ''"),
        ("parity:length=1.5", "a whole number or a range such as 1-40, got '1.5'"),
        ("parity:length=٣", "a whole number or a range such as 1-40, got '٣'"),
        ("parity:examples=1-3", "expected examples to be a whole number, got '1-3'; correct it"),
        ("parity:examples=nan", "expected examples to be a whole number, got 'nan'; correct it"),
        ("parity:examples=0", "expected examples of 1 or more, the smaller number first, got 0"),
        ("parity:length=9-2", "expected length of 1 or more, the smaller number first, got 9-2; change it"),
        ("parity:test=0-2", "expected length of 1 or more, the smaller number first, got 0-2"),
        ("parity:seed=99999999999", "expected seed of at most 2,147,483,648, got 99999999999; lower it"),
        ("parity:each=2", "expected each to be 1, to ask at each digit, or 0, to ask at the end, got 2; choose one"),
        ("parity:by=depth", "expected by to be length, got depth; choose one"),
        ("dyck:by=colour", "expected by to be depth or distance or length, got colour; choose one"),
        ("parity:length=9999999", "expected at most 1,048,576 rows in a sequence and 268,435,456 in all, got 20,000"),
        ("parity:examples=99999999", "got 99,999,999 sequences of up to 41; ask for fewer or shorter ones"),
        ("copy:symbols=1", "expected symbols of 2 or more"),
        ("mqar:keys=70000", "expected keys of at most 65,536, got 70000; lower it"),
        ("selective-copy:length=3", "expected a length of at least marked=4, got 3; raise length"),
        ("selective-copy:test=2-9", "expected a length of at least marked=4, got 2; raise length"),
        ("mqar:pairs=100,length=512", "expected at least as many keys as pairs, got 64 for 100; raise keys"),
        ("mqar:length=20", "at least three times pairs=8, to ask for each, got 20; raise length or ask for fewer"),
        ("dyck:length=7", "expected an even length, to close what is opened, got 7; take 8"),
        ("dyck:depth=65", "expected a depth of at most 64, got 65; lower it"),
        ("listops:depth=51", "expected a depth of at most 50, got 51; lower it"),
    ],
)
def test_settings_that_cannot_be(name, message):
    with pytest.raises(ValueError, match=message):
        load(name)


def test_too_few_sequences_for_all_parts():
    with pytest.raises(ValueError, match="expected enough different sequences .* with length 1; raise length"):
        load("parity:length=1,examples=50")


def test_options_that_generated_data_do_not_have():
    for option in ({"valid": "a.csv"}, {"test": "a.csv"}, {"task": "classify"}, {"text": "t"}, {"label": "l"}):
        with pytest.raises(
            ValueError, match=f"parity: expected no {next(iter(option))}, since this data set has its own"
        ):
            load("parity", **option)
    with pytest.raises(ValueError, match="adding: expected no task, since this data set has its own, got tag"):
        load("adding", task="tag")


def test_other_names_stay_what_they_were():
    assert (
        synthetic_task("reviews.csv")
        is synthetic_task("glue:sst2")
        is synthetic_task("runs/a:b=c/x.csv")
        is synthetic_task("scope")
        is None
    )


def test_keys_are_as_likely_in_each_pair():
    rows = few("mqar:length=9,pairs=3,keys=4,values=30", 8000).parts()["train"].inputs.values.reshape(-1, 9)
    keys = rows[:, [0, 2, 4]]
    assert all(len(set(row)) == 3 for row in keys.tolist())
    for pair in keys.t():
        assert (pair.bincount(minlength=4) / 8000 - 0.25).abs().max() < 4 * math.sqrt(0.25 * 0.75 / 8000)
    _, orders = torch.unique(keys, dim=0, return_counts=True)
    assert len(orders) == 24 and (orders / 8000 - 1 / 24).abs().max() < 5 * math.sqrt(1 / 24 / 8000)


def test_many_keys_as_in_the_paper():
    examples = few("mqar:length=128,pairs=16,keys=4096,values=4096", 200).parts()["train"]
    assert int(examples.inputs.values.max()) == 8192 and int((examples.targets != NO_TARGET).sum()) == 16 * 200


def test_pairs_of_each_sequence_are_at_most_a_third_of_it():
    examples = few("mqar:length=3-12,pairs=1-3,keys=4,values=4", 4000).parts()["train"]
    target_counts = torch.zeros(len(examples), dtype=torch.long)
    target_counts.index_add_(0, examples.inputs.sequence_ids, (examples.targets != NO_TARGET).long())
    for length in range(3, 13):
        many = target_counts[examples.lengths == length]
        assert many.unique().tolist() == list(range(1, min(3, length // 3) + 1))
