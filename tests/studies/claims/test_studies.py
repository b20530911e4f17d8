"""A study trains on equal terms, chooses on validation data alone, and keeps what its claim asks for."""

import pytest
import torch

from sightline.sequences import Sequences
from sightline.tasks import Examples
from studies.claims import texts
from studies.claims.cell import measure, read_records
from studies.claims.claim import Stage
from studies.claims.forgetting import influence_by_distance
from studies.claims.ngrams import N, _clearness, shuffled, window_measures
from studies.claims.study import RATES, Outcome, Study

SMALL = {"width": 16, "layers": 1, "tokens": 256}
DYCK = "dyck:length=2-12,kinds=2,depth=2,examples=400"


@pytest.fixture(scope="module")
def study():
    return Study(
        "small", DYCK, {"20": "dyck:length=20,kinds=2,depth=2"}, SMALL, quick_seconds=0.4, further=influence_by_distance
    )


@pytest.fixture(scope="module")
def results(study, tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    records = {}
    for cell in study.cells(Stage("quick")):
        records[cell.name] = measure(cell, records, folder)
    assert read_records(folder) == records and not list((folder / "runs").rglob("*.safetensors"))
    return {name: one["result"] for name, one in records.items()}


def test_the_runs_of_a_study(study):
    quick, full, gpu = (study.cells(Stage(name)) for name in ("quick", "full", "gpu"))
    assert len(quick) == 5 and {cell.turn for cell in quick} == {1}
    assert len(full) == 5 * (len(RATES) + 2) and len(gpu) == 5 * len(RATES)
    lstm = [(cell.name, cell.turn, cell.settings["seed"]) for cell in full if cell.settings["kind"] == "lstm"]
    assert lstm == [
        ("small/lstm-rate0.003", 1, 0),
        ("small/lstm-rate0.001", 2, 0),
        ("small/lstm-rate0.01", 2, 0),
        ("small/lstm-seed1", 3, 1),
        ("small/lstm-seed2", 4, 2),
    ]
    assert all(cell.settings["gpu"] for cell in gpu) and not any("gpu" in cell.settings for cell in full)


def test_equal_size_equal_time_and_longer_tests(study, results):
    sizes = [one["parameters"] for one in results.values()]
    assert max(sizes) - min(sizes) <= 0.05 * min(sizes)
    outcome = study.outcome(results)
    assert outcome.on("fully-connected", "20") is None
    assert "expected at most 12 tokens" in outcome.refusal("fully-connected", "20")
    for name in ("self-attention", "rnn", "lstm", "convolution"):
        assert 0 <= outcome.on(name, "20")["median"] <= 1 and outcome.refusal(name, "20") is None
    assert outcome.buckets() == ["1", "2"] and 0.4 < outcome.constant < 0.6
    assert study.outcome({}) is None


def test_influence_before_and_after(results):
    for one in results.values():
        assert [d for d, _ in one["further"]["before"]] == [d for d, _ in one["further"]["after"]] == [0, 1, 2, 4, 8]
    reach = dict(map(tuple, results["small/convolution-rate0.003"]["further"]["after"]))
    assert reach[2] > 0 and reach[4] == reach[8] == 0.0  # kernel 5, one layer
    attention = results["small/self-attention-rate0.003"]["further"]
    assert attention["before"] != attention["after"] and attention["after"][-1][1] > 0


def run(name, rate, seed, valid, test, **more):
    base = {
        "name": name,
        "rate": rate,
        "seed": seed,
        "valid": valid,
        "test": {"accuracy": test},
        "tests": {},
        "unit": "length",
        "measure": {"name": "accuracy", "better": "higher", "percent": True},
        "constant": 0.5,
        "constant_valid": 0.4,
        "tokens": 100,
        "milestones": [[50, 1.0, 0.5], [100, 2.0, valid]],
        "further": {},
    }
    return base | more


def test_the_rate_is_chosen_on_validation_data_with_the_first_seed(study):
    runs = [
        run("lstm", 1e-2, 0, valid=0.8, test=0.6),
        run("lstm", 3e-3, 0, valid=0.7, test=0.99),
        run("lstm", 1e-2, 1, valid=0.1, test=0.7),
        run("lstm", 1e-2, 2, valid=0.1, test=0.9),
    ]
    outcome = Outcome(study, runs)
    assert outcome.at_end("lstm") == {"median": 0.7, "low": 0.6, "high": 0.9}
    records = {"small/lstm-rate0.01": runs[0], "small/lstm-rate0.003": runs[1]}
    assert study._best_rate("lstm", RATES, records) == 1e-2
    assert study._best_rate("lstm", RATES, {}) == RATES[0]


def test_a_rate_counts_once_all_encoders_have_tried_it(study):
    results = {
        "small/lstm-rate0.003": run("lstm", 3e-3, 0, 0.6, 0.6),
        "small/rnn-rate0.003": run("rnn", 3e-3, 0, 0.5, 0.5),
    }
    results["small/lstm-rate0.01"] = run("lstm", 1e-2, 0, 0.9, 0.9)
    assert study.outcome(results).at_end("lstm")["median"] == 0.6
    results["small/rnn-rate0.01"] = run("rnn", 1e-2, 0, 0.1, 0.1)
    outcome = study.outcome(results)
    assert outcome.at_end("lstm")["median"] == 0.9 and outcome.at_end("rnn")["median"] == 0.5
    assert outcome.skill(0.7, outcome.constant_valid) == pytest.approx(0.5) and outcome.skill(0.75) == 0.5


def test_a_run_that_diverges_is_kept_as_one_and_counts_for_nothing(tmp_path):
    study = Study("wild", DYCK, {}, SMALL | {"clip": 1e30, "weight_decay": 1e6}, quick_seconds=5.0)
    results = {cell.name: measure(cell, {}, tmp_path)["result"] for cell in study.cells(Stage("quick"))[:2]}
    assert {"name", "rate", "seed", "diverged"} == results["wild/rnn-rate0.003"].keys()
    assert "expected a loss that is a number" in results["wild/rnn-rate0.003"]["diverged"]
    assert study.outcome(results) is None and study._best_rate("rnn", RATES, results) == RATES[0]
    results["wild/lstm-rate0.003"] = run("lstm", 3e-3, 0, 0.6, 0.6)
    assert study.outcome(results).names == ["lstm"]


def test_equal_tokens_are_those_of_the_slowest(study):
    runs = [run("rnn", 1e-3, 0, 0.9, 0.9), run("lstm", 1e-2, 0, 0.6, 0.6, tokens=75)]
    outcome = Outcome(study, runs)
    assert outcome.at_tokens("rnn")["median"] == pytest.approx(0.7)
    assert Outcome(study, [runs[0], run("lstm", 1e-2, 0, 0.6, 0.6, tokens=20)]).at_tokens("rnn") is None


def test_skill_and_who_is_ahead(study):
    outcome = Outcome(study, [run("rnn", 1e-3, 0, 0.9, 0.9), run("lstm", 1e-2, 0, 0.6, 0.6)])
    assert outcome.skill(0.75) == 0.5 and outcome.best(["rnn", "lstm"]) == "rnn"
    high, low = {"median": 0.9, "low": 0.7, "high": 0.9}, {"median": 0.5, "low": 0.4, "high": 0.7}
    assert outcome.ahead(high, low) == 0.0  # the ranges meet
    assert outcome.ahead(high, low | {"high": 0.6}) == pytest.approx(0.4)
    measure = {"name": "loss", "better": "lower", "percent": False}
    loss = run("rnn", 1e-3, 0, 1.0, 1.0) | {"measure": measure, "test": {"loss": 1.0}, "constant": 4.0}
    assert Outcome(study, [loss]).skill(1.0) == 0.75


# ---- n-grams ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def classified(tmp_path_factory):
    """Texts whose class follows from one pair of words, and one-layer encoders that have learned a little."""
    from sightline.tasks import load
    from sightline.training.runs import fit

    folder = tmp_path_factory.mktemp("texts")
    words = "red green blue old new the of".split()
    random = torch.Generator().manual_seed(0)
    rows = ["text,label"]
    for i in range(400):
        drawn = [words[j] for j in torch.randint(len(words), (3 + i % 12,), generator=random).tolist()]
        at = i % (len(drawn) + 1)
        rows.append(
            f"{' '.join([*drawn[:at], *(('bad', 'film') if i % 2 else ('good', 'film')), *drawn[at:]])},{i % 2}"
        )
    (folder / "texts.csv").write_text("\n".join(rows))
    data = load(folder / "texts.csv")
    settings = {"width": 16, "layers": 1, "pool": "max", "steps": 60, "rate": 1e-2, "progress": False}
    return data, {
        kind: fit(data, encoder=kind, out=folder / kind, **settings) for kind in ("convolution", "self-attention")
    }


def test_a_convolution_is_its_n_grams(classified):
    data, models = classified
    results = {kind: window_measures(model, data, 0) for kind, model in models.items()}
    assert results["convolution"]["same"] == 1.0
    assert results["convolution"]["alone"] == models["convolution"].evaluate(data.test)["accuracy"] > 0.9
    assert "filters" not in results["self-attention"] and [size for size, _ in results["convolution"]["blocks"]][
        :2
    ] == [1, 2]
    filters = results["convolution"]["filters"]
    assert len(filters["clearness"]) == 16 and 0 < filters["by lot"] < 1
    assert all(len(gram.split()) == N for _, _, grams in filters["clearest"] for gram in grams)
    assert filters["clearest"][0][1] == max(filters["clearness"])


def test_windows_are_those_of_the_field(classified):
    """Against each window encoded by itself, one by one."""
    from studies.claims.ngrams import _scores_from_windows

    data, models = classified
    model, some = models["self-attention"].eval(), data.test.take([0, 3, 5])
    scores = []
    with torch.no_grad():
        for ids in some.inputs:
            rows = []
            for i in range(len(ids)):
                first = max(0, i - N // 2)
                window = ids[first : i + N // 2 + 1]
                rows.append(model.encoder(Sequences(window, [0, len(window)])).values[i - first])
            scores.append(model.readout(Sequences(torch.stack(rows), [0, len(rows)]))[0])
    assert torch.allclose(_scores_from_windows(model, some), torch.stack(scores), atol=1e-5)


@pytest.mark.parametrize("size", [1, 2, 3, 50])
def test_blocks_stay_whole(size):
    offsets = [0, 0, 1, 8, 12]
    one = Examples(Sequences(torch.arange(12), offsets), torch.zeros(4, dtype=torch.int64))
    mixed = shuffled(one, size, torch.Generator().manual_seed(3))
    assert mixed.inputs.offsets.tolist() == offsets
    for before, after in zip(one.inputs, mixed.inputs, strict=True):
        assert sorted(after.tolist()) == before.tolist()
        blocks, rest = {tuple(b.tolist()) for b in before.split(size)}, after.tolist()
        while rest:
            block = next(b for b in blocks if list(b) == rest[: len(b)])
            rest = rest[len(block) :]
    if size == 50:
        assert torch.equal(mixed.inputs.values, one.inputs.values)


def test_clearness_is_of_one_word_at_one_place():
    assert _clearness(torch.tensor([[1, 2], [3, 2], [4, 2], [2, 9]])) == 0.75
    assert _clearness(torch.tensor([[1, 2], [2, 1]])) == 0.5


# ---- texts -----------------------------------------------------------------------------------------------------------


def test_docstrings_of_a_library(tmp_path, monkeypatch):
    for package in ("one", "two", "test"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "a.py").write_text(
            f'"""The package {package} does things.\n\nMore of it."""\n\ndef f():\n    """Shared '
            'by all of them here."""\n'
            f'\nclass C:\n    """Too short."""\n'
        )
    (tmp_path / "one" / "broken.py").write_text("def (")
    (tmp_path / "alone.py").write_text('"""A module that is in no package."""')
    monkeypatch.setattr(texts.sysconfig, "get_paths", lambda: {"stdlib": str(tmp_path)})
    assert texts.docstrings() == [("The package one does things.", "one"), ("The package two does things.", "two")]


def test_missing_data_sets_are_reported(tmp_path):
    assert "the data set ewt is not there; name its folder with --data" == texts.missing("ewt", tmp_path)
    (tmp_path / "tinyshakespeare").mkdir()
    (tmp_path / "tinyshakespeare" / "input.txt").write_text("to be or not to be " * 20)
    assert texts.missing("shakespeare", tmp_path) == texts.missing("parity", None) == ""
    data = texts.read_text("shakespeare", tmp_path, context=16)
    assert [len(part.targets) for part in (data.train, data.valid, data.test)] == [341, 18, 18]


def test_trec_as_it_is_distributed(tmp_path):
    (tmp_path / "trec").mkdir()
    for part, count in (("train", 40), ("test", 4)):
        lines = [f"{('NUM', 'HUM')[i % 2]} How many or who , number {i} \xe9 ?" for i in range(count)]
        (tmp_path / "trec" / f"TREC.{part}.all").write_text("\n".join(lines), "latin-1")
    data = texts.read_text("trec", tmp_path)
    assert data.task.labels == ("HUM", "NUM") and len(data.test) == 4 and len(data.train) + len(data.valid) == 40
