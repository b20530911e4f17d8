"""What needs no training: fields, paths, lengths, Jacobians, chains of operations; and rules that can refute."""

import copy
import math
from types import SimpleNamespace

import pytest
import torch

from sightline.encoders import KINDS, build
from sightline.sequences import Sequences
from studies.claims.claim import Stage
from studies.claims.length import LENGTHS, dependence
from studies.claims.parallel import PARALLEL, crossing, exponent, longest_chain
from studies.claims.wiring import FIELDS, PATH, VARIANTS


def ran(claim, only):
    """The results of some of a claim's cells, by name."""
    return {cell.name: cell.run(None, {}) for cell in claim.cells(Stage("quick")) if cell.name.startswith(only)}


@pytest.fixture(scope="module")
def wired():
    return ran(PATH, "wiring/")


@pytest.fixture(scope="module")
def reading():
    return ran(LENGTHS, "reading/")


@pytest.fixture(scope="module")
def chained():
    return ran(PARALLEL, "chain/")


def test_paths_as_the_paper_has_them(wired):
    by_name = {one["name"]: {p["length"]: p for p in one["path"]} for one in wired.values()}
    assert by_name.keys() == VARIANTS.keys()
    for n in (7, 16, 32, 64):
        expected = {
            "self-attention": 1,
            "self-attention, window 16": math.ceil((n - 1) / 16),
            "rnn": n,
            "lstm": n,
            "convolution": math.ceil((n - 1) / 2),
            "dilated convolution": math.ceil(math.log2(1 + (n - 1) / 2)),
            "fully-connected": 1,
        }
        assert {name: paths[n]["calculated"] for name, paths in by_name.items()} == expected
        tried = {name: paths[n]["tried"] for name, paths in by_name.items()}
        assert tried == expected | {"rnn": 1, "lstm": 1}


def test_fields_by_trial(wired):
    for one in wired.values():
        for entry in one["field"]:
            assert all(layer["equal"] for layer in entry["layers"])
    last = {one["name"]: one["field"][-1]["layers"][-1]["middle"] for one in wired.values()}
    assert last == {
        "self-attention": 128, "self-attention, window 16": 97, "rnn": 128, "lstm": 128,
        "convolution": 13, "dilated convolution": 29, "fully-connected": 128,
    }  # fmt: skip


@pytest.mark.parametrize("claim", [PATH, FIELDS])
def test_they_hold_and_would_be_refuted(claim, wired):
    assert claim.judge({}).verdict == "not run"
    judgement = claim.judge(wired)
    assert judgement.verdict == "holds" and "every length tried" in judgement.sentences[0]
    assert any("read both ways here" in sentence for sentence in judgement.sentences)
    assert all(len(row) == len(table["columns"]) for table in judgement.tables for row in table["rows"])
    wrong = copy.deepcopy(wired)
    wrong["wiring/convolution"]["field"][3]["layers"][1]["equal"] = False
    assert claim.judge(wrong).verdict == "does not hold"
    wrong = copy.deepcopy(wired)
    wrong["wiring/self-attention"]["path"][3]["tried"] = 2
    wrong["wiring/self-attention"]["field"][3]["layers"][0]["heard"] -= 1
    assert claim.judge(wrong).verdict == "does not hold"


def test_who_reads_what(reading):
    refuses = {
        name.removeprefix("reading/"): [int(n) for n, refusal in one["reads"].items() if refusal]
        for name, one in reading.items()
    }
    assert refuses == {**dict.fromkeys(KINDS, []), "fully-connected": [65, 256, 1024]}
    index = {one["kind"]: one["dependence"] for one in reading.values()}
    assert index["convolution"] == index["fully-connected"] == 0.0
    assert all(0.05 < index[kind] < 1 for kind in ("self-attention", "rnn", "lstm"))


@pytest.mark.parametrize("kind", KINDS)
def test_the_index_is_that_of_whole_jacobians(kind):
    torch.manual_seed(0)
    more = {"largest": 5} if kind == "fully-connected" else {}
    mixer = build(kind, features=4, width=4, layers=1, **more).blocks[0].mixer.double()
    inputs = torch.randn(2, 5, 4).double()
    one, other = (
        torch.autograd.functional.jacobian(lambda x: mixer(Sequences(x, [0, 5])).values, x).reshape(20, 20)
        for x in inputs
    )
    expected = (one - other).norm() ** 2 / (one.norm() ** 2 + other.norm() ** 2)
    assert dependence(mixer, inputs) == pytest.approx(float(expected), abs=1e-12)


def test_the_ends_of_the_index():
    def mixer(x):
        return x.with_values(x.values.square() / 2)  # the derivative is x itself

    x = torch.tensor([[1.0], [0.0]])
    assert dependence(mixer, torch.stack([x, x])) == 0.0
    assert dependence(mixer, torch.stack([x, x.flip(0)])) == 1.0
    assert dependence(mixer, torch.stack([x, -x])) == 2.0  # opposite: more than nothing in common


def test_any_length_in_part(reading):
    assert LENGTHS.judge({}).verdict == "not run"
    judgement = LENGTHS.judge(reading)
    assert judgement.verdict == "holds when" and "was not measured" in judgement.sentences[0]
    assert any(
        "convolution has weights that do not depend on the input" in sentence for sentence in judgement.sentences
    )
    wrong = copy.deepcopy(reading)
    wrong["reading/fully-connected"]["reads"]["256"] = None
    assert LENGTHS.judge(wrong).verdict == "does not hold"
    wrong = copy.deepcopy(reading)
    wrong["reading/self-attention"]["reads"]["1024"] = "too long"
    assert LENGTHS.judge(wrong).verdict == "does not hold"


def test_chains(chained):
    chain = {one["kind"]: dict(map(tuple, one["chain"])) for one in chained.values()}
    for kind in ("self-attention", "convolution", "fully-connected"):
        assert len(set(chain[kind].values())) == 1
    for kind in ("rnn", "lstm"):
        steps = {(chain[kind][b] - chain[kind][a]) / (b - a) for a, b in ((8, 16), (16, 32), (32, 64))}
        assert len(steps) == 1 and steps.pop() >= 1


def test_the_longest_chain_counts_the_longer_way():
    x = torch.ones(3, requires_grad=True)
    short, long = x * 2, ((x.sin()).cos()).exp()
    assert longest_chain((short + long).sum()) == 5
    deep = x
    for _ in range(5000):  # deeper than a stack of calls may be
        deep = deep + 1
    assert longest_chain(deep) == 5000


def times(**by_kind):
    every = {kind: [[n, 1.0 * n] for n in (64, 128, 256, 512)] for kind in KINDS}
    return {"device": "cpu", "name": "", "one": every | by_kind, "many": every | by_kind}


def test_in_parallel_by_chains_and_times(chained):
    assert PARALLEL.judge({}).verdict == "not run"
    untimed = PARALLEL.judge(chained)
    assert untimed.verdict == "holds when" and untimed.sentences[0].endswith("how long it takes was not measured.")
    assert not any("machine" in sentence or "processor" in sentence for sentence in untimed.sentences)
    faster = times(**{"self-attention": [[n, 0.5 * n] for n in (64, 128, 256, 512)]})
    assert PARALLEL.judge(chained | {"time/cpu": faster}).verdict == "holds"
    crossed = times(**{"self-attention": [[n, n * n / 200] for n in (64, 128, 256, 512)]})
    judgement = PARALLEL.judge(chained | {"time/cpu": crossed})
    assert judgement.verdict == "holds when"
    assert sum("slower than lstm from n = 200 on" in sentence for sentence in judgement.sentences) == 2
    assert judgement.sentences[0].endswith("depends on the machine and on n.")
    assert any("can do little in parallel" in sentence for sentence in judgement.sentences)
    only_short = times(**{"self-attention": [[64, 99.0], [128, 1.0], [256, 1.0], [512, 1.0]]})
    judgement = PARALLEL.judge(chained | {"time/cpu": only_short})
    assert judgement.verdict == "holds when" and any(
        "slower than rnn at n = 64." in sentence for sentence in judgement.sentences
    )
    wrong = copy.deepcopy(chained)
    wrong["chain/self-attention"]["chain"][-1][1] += 1
    assert PARALLEL.judge(wrong | {"time/cpu": faster}).verdict == "does not hold"


def test_times_are_taken(monkeypatch):
    from studies.claims import parallel

    monkeypatch.setattr(parallel, "LARGEST_FULL", 8)
    monkeypatch.setattr(parallel, "TOGETHER", 16)
    measured = parallel._times("cpu", (4, 8, 32), None, {})
    assert [n for n, _ in measured["one"]["lstm"]] == [4, 8, 32]
    assert [n for n, _ in measured["one"]["fully-connected"]] == [4, 8]
    assert [n for n, _ in measured["many"]["self-attention"]] == [4, 8]
    assert all(t > 0 for kind in KINDS for _, t in measured["one"][kind])
    judgement = PARALLEL.judge(ran(PARALLEL, "chain/") | {"time/cpu": measured})
    row = next(row for row in judgement.tables[1]["rows"] if row[0] == "fully-connected")
    assert row[-1] is None  # it was not timed at 32


def test_exponents_and_crossings():
    assert exponent([[8, 1.0]]) is None
    assert exponent([[n, 3.0 * n**1.5] for n in (1, 2, 4, 8, 16)]) == pytest.approx(1.5)
    slow, fast = [[n, 2.0 * n] for n in (1, 2, 4)], [[n, 1.0 * n] for n in (1, 2, 4)]
    assert crossing(slow, fast) == 1.0 and crossing(fast, slow) is None and crossing([], fast) is None
    assert crossing([[1, 1.0], [2, 9.0], [4, 1.0]], [[1, 2.0], [2, 2.0], [4, 2.0]]) is None


def test_a_gpu_stage_has_only_what_needs_one():
    for claim in (PATH, FIELDS, LENGTHS):
        assert claim.cells(Stage("gpu")) == []
    (timed,) = PARALLEL.cells(Stage("gpu"))
    assert timed.settings["gpu"] and timed.settings["lengths"][-1] == 65536
    assert SimpleNamespace(**timed.settings).device == "gpu"
