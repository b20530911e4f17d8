"""Every answer of every generated task, worked out again from what the model reads, the slow and plain way.

Each checker gives, for each place that is asked, the answer and then what it is measured by, in the order of `ways`.
"""

from statistics import median

import pytest
import torch

from sightline.tasks.synthetic import TASKS, synthetic_task
from sightline.tasks.synthetic.agreement import NOUNS


def copy(words):
    symbols = words[: words.count("?")]
    return {len(words) - len(symbols) + i: (w, len(words) - len(symbols), len(symbols)) for i, w in enumerate(symbols)}


def reversal(words):
    n = len(words) // 2
    return {n + i: (words[n - 1 - i], 2 * i + 1, n) for i in range(n)}


def selective_copy(words):
    symbols = [(i, w) for i, w in enumerate(words) if w not in ".?"]
    slots = [i for i, w in enumerate(words) if w == "?"]
    assert len(slots) == len(symbols) and slots[-1] == len(words) - 1
    return {slot: (w, slot - i, slots[0]) for slot, (i, w) in zip(slots, symbols, strict=True)}


def mqar(words):
    first, answers = {}, {}
    for i, word in enumerate(words):
        if word.startswith("k") and word in first:
            assert word not in [words[j] for j in answers], "each key is asked for once"
            answers[i] = (words[first[word] + 1], i - first[word], len(words))
        elif word.startswith("k"):
            assert i % 2 == 0 and words[i + 1].startswith("v")
            first[word] = i
    assert len(answers) == len(first)
    return answers


def induction(words):
    assert words.count(words[-1]) == 2
    before = words.index(words[-1])
    return {len(words) - 1: (words[before + 1], len(words) - 1 - before, len(words) - 1)}


def parity(words):
    return {len(words) - 1: ("even odd".split()[words.count("1") % 2], len(words) - 1)}


def modular(words):
    return {len(words) - 1: (str(sum(map(int, words[:-1])) % 5), len(words) - 1)}


def parity_so_far(words):
    return {i: ("even odd".split()[words[: i + 1].count("1") % 2], i + 1) for i in range(len(words))}


def modular_so_far(words):
    return {i: (str(sum(map(int, words[: i + 1])) % 7), i + 1) for i in range(len(words))}


def dyck(words):
    stack, answers = [], {}
    for i, word in enumerate(words):
        if word == "^":
            depth, (j, opened) = len(stack), stack.pop()
            answers[i] = (opened, depth, i - j, len(words))
        else:
            stack.append((i, word))
            assert len(stack) <= 4
    assert not stack
    return answers


def listops(words):
    def tree(at):
        if words[at].isdigit():
            return int(words[at]), 0, at + 1
        operator, arguments, depth, at = words[at], [], 0, at + 1
        while words[at] != "]":
            value, below, at = tree(at)
            arguments.append(value)
            depth = max(depth, below)
        assert 2 <= len(arguments) <= 5
        value = {
            "[MAX": max(arguments),
            "[MIN": min(arguments),
            "[MED": int(median(arguments)),
            "[SM": sum(arguments) % 10,
        }[operator]
        return value, depth + 1, at + 1

    value, depth, end = tree(0)
    assert words[end] == "?" and end == len(words) - 1
    return {end: (str(value), depth, end)}


def agreement(words):
    start = words.index(",") + 1 if "," in words else 0
    of = {noun: "singular" for noun in NOUNS} | {f"{noun}s": "plural" for noun in NOUNS}
    subject, *others = [(i, of[w]) for i, w in enumerate(words) if i >= start and w in of]
    misled = sum(number != subject[1] for _, number in others)
    assert len(others) - misled <= 2 and words[start] == "the" and subject[0] == start + 1
    return {len(words) - 1: (subject[1], misled, len(words) - 1 - subject[0])}


NAIVE = {
    "copy:length=3-9,gap=4,examples=500": copy,
    "reversal:length=1-7,examples=500": reversal,
    "selective-copy:length=4-20,examples=500": selective_copy,
    "mqar:length=20-40,pairs=5,keys=9,examples=500": mqar,
    "mqar:length=3-40,pairs=1-9,keys=9,examples=500": mqar,
    "induction:length=2-30,symbols=9,examples=500": induction,
    "parity:examples=500": parity,
    "parity:length=1-30,each=1,examples=500": parity_so_far,
    "modular:examples=500": modular,
    "modular:length=1-30,modulus=7,each=1,examples=500": modular_so_far,
    "dyck:length=2-41,examples=500": dyck,
    "listops:depth=1-5,examples=500": listops,
    "agreement:examples=500": agreement,
}


def test_every_task_is_checked():
    assert {name.partition(":")[0] for name in NAIVE} | {"adding"} == TASKS.keys()


@pytest.mark.parametrize("name", NAIVE)
def test_answers_are_right(name):
    vocabulary, labels = synthetic_task(name).vocabulary, synthetic_task(name).labels
    for column, by in enumerate(synthetic_task(name).units, 1):
        for examples in synthetic_task(f"{name},by={by}").parts().values():
            columns = [examples.inputs.values, examples.targets, examples.distances]
            columns = zip(*(examples.inputs.with_values(c).to_list() for c in columns), strict=True)
            assert examples.unit == by
            for ids, targets, measured in columns:
                expected = NAIVE[name]([vocabulary[i] for i in ids.tolist()])
                actual = {i: labels[t] for i, t in enumerate(targets.tolist()) if t != -100}
                assert actual == {i: answer[0] for i, answer in expected.items()}
                assert {i: int(measured[i]) for i in actual} == {i: answer[column] for i, answer in expected.items()}


def test_adding_is_right():
    task = synthetic_task("adding:length=2-30,examples=500").task
    for by in ("distance", "length"):
        for examples in synthetic_task(f"adding:length=2-30,examples=500,by={by}").parts().values():
            answers = task.answers(examples.targets, examples)
            for i, rows in enumerate(examples.inputs):
                (first, second), n = (rows[:, 1] == 1).nonzero().flatten().tolist(), len(rows)
                assert rows[:, 1].sum() == 2 and first < n // 2 <= second
                assert answers[i]["value"] == pytest.approx(float(rows[[first, second], 0].sum()), abs=1e-5)
                assert examples.distances[i] == (n - 1 - first if by == "distance" else n)
                assert 0 <= float(rows[:, 0].min()) <= float(rows[:, 0].max()) < 1


def test_brackets_of_one_length_are_equally_likely():
    examples = synthetic_task("dyck:length=8,kinds=2,depth=3,examples=40000").parts()["train"]
    shapes = (examples.inputs.values == 2).reshape(-1, 8)
    _, counts = torch.unique(shapes, dim=0, return_counts=True)
    assert len(counts) == 13  # of the 14 strings of four pairs, the one that is four deep is out
    expected = len(shapes) / 13
    assert (counts - expected).abs().max() < 0.3 * expected  # 16 colourings of each, of which some are kept aside
