"""The committed claims.json follows from the committed cells, and docs/claims.md from claims.json."""

import json
import runpy
import sys
from pathlib import Path

import pytest
from rich.console import Console

from studies.claims import texts, verdict_table
from studies.claims.cell import is_measured, read_records
from studies.claims.claim import VERDICTS, Stage, spread
from studies.claims.document import document, read_document
from studies.claims.markdown import markdown
from studies.claims.run import CLAIMS

ROOT = Path(__file__).parents[3]
RESULTS = ROOT / "benchmarks" / "results" / "claims"


@pytest.fixture(scope="module")
def committed():
    return read_document(RESULTS)


def test_the_text_follows_from_the_results(committed):
    assert (ROOT / "docs" / "claims.md").read_text("utf-8") == markdown(committed)


def test_the_document_follows_from_the_cells(committed, monkeypatch):
    monkeypatch.setattr(texts, "missing", lambda name, folder: "")  # it was made with all data sets there
    records = read_records(RESULTS)
    plans = {claim.number: claim.cells(Stage("full")) + claim.cells(Stage("gpu")) for claim in CLAIMS}
    assert all(
        is_measured(cell, records, RESULTS) for cells in plans.values() for cell in cells if cell.name in records
    )
    remade = json.loads(json.dumps(document(CLAIMS, plans, records, {}, Stage("full"))))
    for one in (remade, committed):
        for claim in one["claims"]:
            del claim["left_out"]  # with its reasons, which hang on what there was
    assert remade == committed


def test_the_comparison_with_the_literature_comes_last(committed):
    for claim, content in zip(CLAIMS, committed["claims"], strict=True):
        assert claim.beside.keys() <= set(VERDICTS)
        sentences = [sentence for sentence in claim.beside.values() if sentence in content["said"]]
        assert sentences in ([], [claim.beside.get(content["verdict"])]) and sentences == content["said"][-1:] * len(
            sentences
        )


def test_what_is_exact_is_committed(committed):
    verdicts = {claim["number"]: claim["verdict"] for claim in committed["claims"]}
    assert verdicts[1] == verdicts[2] == "holds" and verdicts[7] == "holds when"


def values(content):
    for one in content["tables"]:
        for row in one["rows"]:
            yield from row


def test_the_format_is_the_one_written_down():
    records = read_records(RESULTS)
    content = document(CLAIMS, {c.number: c.cells(Stage("quick")) for c in CLAIMS}, records, {}, Stage("quick"))
    assert content["version"] == 1 and content["page"] == "claims" and content["verdicts"] == list(VERDICTS)
    assert json.loads(json.dumps(content, allow_nan=False)) == content
    for claim in content["claims"]:
        assert (
            claim["verdict"] in VERDICTS
            and claim["said"]
            and claim["command"].startswith("python -m studies.claims --quick --only ")
        )
        for value in values(claim):
            assert value is None or isinstance(value, (str, int, float)) or value.keys() == {"median", "low", "high"}
        for picture in claim["pictures"]:
            if picture["shape"] == "lines":
                assert picture["series"] and all(len(p) in (2, 4) for one in picture["series"] for p in one["points"])
                assert {picture[axis]["scale"] for axis in "xy"} <= {"linear", "log"}
            else:
                assert picture["shape"] == "maps"
                assert all(
                    len(row) == len(layer) for one in picture["maps"] for layer in one["layers"] for row in layer
                )


def made_up(sentences):
    claim = {
        "number": 1,
        "title": "A | B",
        "says": "It is so.",
        "measured": "All.",
        "rule": "Holds.",
        "sources": ["A book"],
        "verdict": "holds",
        "said": [sentences],
        "tables": [
            {
                "title": "T",
                "columns": ["encoder", "x|y"],
                "rows": [["rnn", spread([0.25, 0.5, 1.0])], ["lstm", None], ["cnn", "refuses"]],
                "unit": "%",
            }
        ],
        "pictures": [],
        "cells": {"measured": 1, "planned": 2},
        "seconds": 1.0,
        "left_out": [{"why": "not yet", "what": [{"group": "a", "missing": 1, "planned": 2}]}],
        "command": "python -m studies.claims --only 1",
    }
    return {
        "title": "Claims",
        "about": ["All about it."],
        "command": "python -m studies.claims",
        "claims": [claim],
        "protocol": ["Fair."],
        "machines": [{"python": "3.11"}],
    }


def test_the_text_of_a_document():
    text = markdown(made_up("One | two."))
    assert "| 1 | A \\| B | **holds** | One \\| two. |" in text
    assert "| rnn | 50.0 (25.0-100.0) |\n| lstm |  |\n| cnn | refuses |" in text and "*T, %*" in text
    assert "Not run (not yet): a 1 of 2." in text and "| encoder | x\\|y |" in text
    assert "Machine: python 3.11." in text


def test_the_table_of_verdicts():
    console = Console(width=200)
    with console.capture() as shown:
        console.print(verdict_table(made_up("Because [of] this.")))
    text = shown.get()
    assert "A | B" in text and "Because [of] this." in text and "1 of 2" in text


def test_the_text_is_written_by_a_command(tmp_path, monkeypatch):
    (tmp_path / "claims.json").write_text(json.dumps(made_up("So.") | {"version": 1, "page": "claims"}))
    monkeypatch.delitem(sys.modules, "studies.claims.markdown")  # it runs as the main module instead
    monkeypatch.setattr(sys, "argv", ["prose", str(tmp_path), str(tmp_path / "claims.md")])
    runpy.run_module("studies.claims.markdown", run_name="__main__")
    assert (tmp_path / "claims.md").read_text().startswith("# Claims\n")


# ---- the command -----------------------------------------------------------------------------------------------------


def run(*args):
    from typer.testing import CliRunner

    from studies.claims.__main__ import app

    return CliRunner().invoke(app, [*map(str, args)])


def test_the_command_goes_on_and_shows_the_verdicts(tmp_path):
    first = run("--only", "chain", "--out", tmp_path)
    assert first.exit_code == 0, first.output
    assert (
        "In parallel" in first.stdout
        and "holds when" in first.stdout
        and "5 measurements, 0 of them found" in first.stderr
    )
    again = run("--only", "chain", "--out", tmp_path)
    assert again.stdout == first.stdout and "5 measurements, 5 of them found" in again.stderr
    other = run("--only", "mqar", "--minutes", "0.01", "--out", tmp_path)
    assert other.exit_code == 0
    sentence = "Not run (no time left in the budget; the same command goes on): mqar 25 of 25."
    assert sentence in other.stderr


@pytest.mark.parametrize(
    "args, sentence",
    [
        (["--only", "11"], "expected numbers from 1 to 10, or tasks out of"),
        (["--only", "mqra"], "got mqra; choose some"),
        (["--minutes", "0"], "expected more than 0 minutes, got 0"),
        (["--data", "nowhere"], "nowhere: expected a folder of data sets"),
        (["--heads", "nowhere.json"], "nowhere.json: expected the heads.json"),
    ],
)
def test_bad_input_is_one_sentence(args, sentence, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run(*args)
    assert result.exit_code == 2 and result.stdout == ""
    assert len(result.stderr.splitlines()) == 1 and sentence in result.stderr
    assert not list(tmp_path.iterdir())


def test_new_results_of_heads_take_the_place_of_old_ones(tmp_path):
    results = {"format": "sightline heads", "version": 1, "relations": []}
    for model in ("one", "two"):
        (tmp_path / "heads.json").write_text(json.dumps(results | {"model": model}))
        assert run("--only", "8", "--heads", tmp_path / "heads.json", "--out", tmp_path / "out").exit_code == 0
        assert read_records(tmp_path / "out")["heads/relations"]["result"]["files"] == [
            {"model": model, "relations": []}
        ]
    kept = run("--only", "8", "--out", tmp_path / "out")  # without them, what was copied stays
    assert "1 measurements, 1 of them found" in kept.stderr
