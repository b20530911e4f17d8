"""Cells run in the order of the plan, continue after a stop, keep to a budget, and never mix with other results."""

import dataclasses
import json
import os
import time
from functools import partial

import pytest
import torch

from studies.claims import cell as cells
from studies.claims import run_claims
from studies.claims.cell import Cell, is_measured, measure, read_records
from studies.claims.claim import Claim, Judgement
from studies.claims.document import DOCUMENT, read_document


@pytest.fixture
def plan(monkeypatch):
    """The order in which cells ran, and the plan of three fabricated claims, which a test may change."""
    order = []

    def one(name, turn=0, seconds=0.0, missing="", **settings):
        def run(folder, results):
            order.append(name)
            folder.mkdir(parents=True)
            (folder / "half-done").write_text("x")
            return {"name": name, "before": sorted(results)}

        return Cell(name, {"size": 3, **settings}, run, turn, seconds, missing)

    plans = {
        1: [one("a/one"), one("b/late", turn=2)],
        2: [one("b/early", turn=1), one("b/late", turn=2)],
        3: [one("c/absent", missing="the data set c is not there")],
    }

    def claim(number):
        def of(stage):
            return plans[number] if stage.name != "gpu" else [one(f"g/{number}", turn=1, gpu=True)] * (number == 2)

        def judge(results):
            return Judgement("holds" if results else "not run", [f"{len(results)} cells."])

        return Claim(
            number, f"Claim {number}", "It is so.", "All.", "Holds if there are results.", ("A book",), of, judge
        )

    monkeypatch.setitem(run_claims.__globals__, "CLAIMS", tuple(map(claim, plans)))
    return order, plans


def test_each_cell_once_and_by_turns(plan, tmp_path):
    order, _ = plan
    lines = []
    document = run_claims(out=tmp_path, tell=lines.append)
    assert order == ["a/one", "b/early", "b/late"]
    records = read_records(tmp_path)
    assert records["b/late"]["result"] == {"name": "b/late", "before": ["b/early"]}
    assert records["a/one"]["machine"].keys() >= {"python", "torch", "processor", "sightline"}
    assert [claim["verdict"] for claim in document["claims"]] == ["holds", "holds", "not run"]
    assert document["claims"][1]["cells"] == {"measured": 2, "planned": 3}
    left = [{"group": "g", "missing": 1, "planned": 1}]
    assert document["claims"][1]["left_out"] == [{"why": "it needs a GPU, and --gpu", "what": left}]
    assert "Not run (the data set c is not there): c 1 of 1." in lines
    assert read_document(tmp_path) == document
    assert not list((tmp_path / "runs").rglob("half-done"))


def _doubled(number, folder, results):
    """At module level, so that another process can import it."""
    if number < 0:
        raise OSError("the disk is full")
    before = {name: one["doubled"] for name, one in results.items()}
    return {"doubled": 2 * number, "before": before, "process": os.getpid(), "threads": torch.get_num_threads()}


def test_side_by_side_on_one_core_each_and_turn_by_turn(plan, tmp_path):
    _, plans = plan
    plans[1] = [Cell(f"a/{i}", {}, partial(_doubled, i), turn=min(i, 1)) for i in range(4)]
    plans[2] = [Cell("a/late", {}, partial(_doubled, 4), turn=2), Cell("b/late", {}, partial(_doubled, 5), turn=2)]
    run_claims(jobs=2, out=tmp_path, tell=str)
    results = {name: records["result"] for name, records in read_records(tmp_path).items()}
    assert {name: one["doubled"] for name, one in results.items()} == {
        **{f"a/{i}": 2 * i for i in range(4)},
        "a/late": 8,
        "b/late": 10,
    }
    assert results["a/late"]["before"] == {f"a/{i}": 2 * i for i in range(4)} and not results["b/late"]["before"]
    assert results["a/0"]["process"] == os.getpid() not in {results[f"a/{i}"]["process"] for i in (1, 2, 3)}
    assert {one["threads"] for name, one in results.items() if name != "a/0"} == {1}
    with pytest.raises(ValueError, match="expected one job or more, got 0; give as many as there are cores"):
        run_claims(jobs=0, out=tmp_path, tell=str)


def _waits(folder, results):
    time.sleep(0.2)


def test_a_run_that_shared_its_core_is_reported(plan, tmp_path):
    _, plans = plan
    plans[2] = [Cell("a/waits", {}, _waits, turn=1), Cell("a/exact", {}, _waits)]
    lines = []
    run_claims(only=[2], out=tmp_path, tell=lines.append)
    assert read_records(tmp_path)["a/waits"]["core"] < 0.5
    (line,) = [line for line in lines if line.startswith("disturbed")]
    assert line.startswith("disturbed: a/waits had ") and line.endswith(
        "% of a core; remove its file to measure it again"
    )


def test_an_error_in_another_process_is_raised_and_other_results_are_kept(plan, tmp_path):
    _, plans = plan
    plans[2] = [Cell(f"a/{i}", {}, partial(_doubled, i), turn=1) for i in (1, -1)]
    with pytest.raises(OSError, match="the disk is full"):
        run_claims(only=[2], jobs=2, out=tmp_path, tell=str)
    assert read_records(tmp_path).keys() == {"a/1"}


def test_measured_cells_are_not_measured_again(plan, tmp_path):
    order, _ = plan
    first = run_claims(out=tmp_path, tell=str)
    order.clear()
    assert run_claims(out=tmp_path, tell=str) == first
    assert order == []


def test_a_stop_loses_only_the_cell_it_came_in(plan, tmp_path):
    order, plans = plan
    whole = plans[2][0]

    def stopped(folder, results):
        raise KeyboardInterrupt

    plans[2][0] = dataclasses.replace(whole, run=stopped)
    with pytest.raises(KeyboardInterrupt):
        run_claims(out=tmp_path, tell=str)
    assert read_records(tmp_path).keys() == {"a/one"}
    plans[2][0] = whole
    run_claims(out=tmp_path, tell=str)
    assert order == ["a/one", "b/early", "b/late"]


def test_only_some_claims_or_tasks(plan, tmp_path):
    order, _ = plan
    run_claims(only=[2], out=tmp_path / "2", tell=str)
    assert order == ["b/early", "b/late"]
    order.clear()
    run_claims(only=["a"], out=tmp_path / "a", tell=str)
    assert order == ["a/one"]
    with pytest.raises(
        ValueError, match="expected numbers from 1 to 3, or tasks out of a, b, c, g, got 4; choose some"
    ):
        run_claims(only=[4], out=tmp_path / "4", tell=str)
    with pytest.raises(ValueError, match="got mqar"):
        run_claims(only=["1", "mqar"], out=tmp_path / "4", tell=str)
    assert not (tmp_path / "4").exists()


def test_a_budget_leaves_out_what_would_not_fit(plan, tmp_path):
    order, plans = plan
    plans[2][0] = dataclasses.replace(plans[2][0], seconds=120.0)
    lines = []
    document = run_claims(minutes=1, out=tmp_path, tell=lines.append)
    assert order == ["a/one", "b/late"]
    reason = "no time left in the budget; the same command goes on"
    left = [{"group": "b", "missing": 1, "planned": 2}]
    assert {"why": reason, "what": left} in document["claims"][1]["left_out"]
    assert f"Not run ({reason}): b 1 of 2." in lines
    run_claims(out=tmp_path, tell=str)
    assert order == ["a/one", "b/late", "b/early"]
    for minutes in (0, -1, float("nan")):
        with pytest.raises(ValueError, match="expected more than 0 minutes, got"):
            run_claims(minutes=minutes, out=tmp_path, tell=str)


def test_a_missing_gpu_is_refused(plan, tmp_path, monkeypatch):
    order, _ = plan
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(ValueError, match="expected a GPU for the larger grid, got none; leave out --gpu"):
        run_claims(gpu=True, out=tmp_path, tell=str)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    document = run_claims(gpu=True, out=tmp_path, tell=str)
    assert "g/2" in order and document["gpu"] and document["claims"][1]["left_out"] == []


def test_results_of_another_version_are_refused(plan, tmp_path, monkeypatch):
    run_claims(out=tmp_path, tell=str)
    monkeypatch.setattr(cells, "VERSION", cells.VERSION + 1)
    with pytest.raises(
        ValueError, match="one.json: expected a result of version 2, got version 1; name another --out, or remove"
    ):
        run_claims(out=tmp_path, tell=str)


def test_results_with_other_settings_are_refused(plan, tmp_path):
    _, plans = plan
    run_claims(out=tmp_path, tell=str)
    plans[1][0] = dataclasses.replace(plans[1][0], settings={"size": 4})
    with pytest.raises(ValueError, match="one.json: expected a result with size 4, got one with 3; name another --out"):
        run_claims(out=tmp_path, tell=str)


@pytest.mark.parametrize("content", ["", "{", "[]", '"x"', '{"version": 1}', '{"version": 1, "asked": {}}'])
def test_a_damaged_result_is_refused(content, tmp_path):
    (tmp_path / "cells" / "a").mkdir(parents=True)
    (tmp_path / "cells" / "a" / "one.json").write_text(content)
    with pytest.raises(ValueError, match="one.json: expected a result of version 1, got "):
        read_records(tmp_path)


def test_a_cell_that_fails_leaves_no_file(tmp_path):
    def fails(folder, results):
        raise ValueError("no luck")

    with pytest.raises(ValueError, match="no luck"):
        measure(Cell("a/one", {}, fails), {}, tmp_path)
    assert read_records(tmp_path) == {}


def test_settings_are_compared_as_json_has_them(tmp_path):
    cell = Cell("a/one", {"lengths": (1, 2), "spans": {"a": 1}}, lambda folder, results: {"x": (1, 2)})
    record = measure(cell, {}, tmp_path)
    assert record["result"] == {"x": [1, 2]} and is_measured(cell, read_records(tmp_path), tmp_path)


@pytest.mark.parametrize(
    "content, problem",
    [(None, "No such file"), ("{", "Expecting"), (json.dumps({"version": 2, "page": "claims"}), "got 2")],
)
def test_no_document_to_read(content, problem, tmp_path):
    if content is not None:
        (tmp_path / DOCUMENT).write_text(content)
    with pytest.raises(ValueError, match=f"expected .*{problem}.*; run python -m studies.claims"):
        read_document(tmp_path)


def test_paths_that_are_none(tmp_path):
    with pytest.raises(ValueError, match="expected a folder of data sets, got none"):
        run_claims(data=tmp_path / "none", out=tmp_path / "out", tell=str)
    with pytest.raises(ValueError, match="expected the heads.json of sightline heads, version 1"):
        run_claims(heads=[tmp_path / "none.json"], out=tmp_path / "out", tell=str)
    assert not (tmp_path / "out").exists()
