"""The commands as they are typed: what they leave, what they print, and how they take bad input."""

import errno
import json
import os
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest

import sightline
from sightline.cli import settings
from sightline.lens import read_page
from sightline.training.config import DEFAULTS, setting_fields
from sightline.training.runs import evaluate as evaluate_in_python
from tests.cli.typed import SMALL, run, succeed

GOOD = "review,stars\n" + "".join(f"it is {'good' if i % 2 else 'bad'} number {i},{i % 2}\n" for i in range(60))


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    """A folder with data and a classifier fitted on it."""
    folder = tmp_path_factory.mktemp("fitted")
    (folder / "reviews.csv").write_text(GOOD)
    succeed("fit", folder / "reviews.csv", *SMALL, "--encoder", "convolution", "--out", folder / "run")
    return folder


# ---- each command ----------------------------------------------------------------------------------------------------


def test_help_names_every_command_and_gives_examples():
    shown = succeed("--help").output
    for command in ("fit", "evaluate", "predict", "generate", "compare", "embed", "check", "look"):
        assert f"  {command}  " in shown
        assert "Examples:\n" in succeed(command, "--help").output
    assert succeed("--version").output == f"sightline {version('sightline')}\n"


@pytest.mark.parametrize(
    "arguments, loaded", [(["--help"], []), (["look", "--help"], ["pydantic"]), (["fit", "--help"], ["pydantic"])]
)
def test_help_loads_nothing_heavy(arguments, loaded):
    """Only the commands with settings read their fields, which need pydantic."""
    heavy = ["torch", "numpy", "pydantic", "accelerate", "pyarrow", "rich", "transformers"]
    code = (
        "import sys, types; package = types.ModuleType('sightline'); package.__path__ = [sys.argv[1]]; "
        "sys.modules['sightline'] = package; import sightline.cli; "
        f"sightline.cli.app({arguments}, standalone_mode=False); "
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    package = str(Path(sightline.__file__).parent)
    done = subprocess.run([sys.executable, "-c", code, package], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1:] == [str(loaded)], done.stderr


DATA_OPTIONS = "task text label tokenizer valid test encoding separator width layers tokens steps seconds precision set"
OPTIONS = {  # frozen: what a user has typed into a script goes on to work
    "fit": f"{DATA_OPTIONS} encoder epochs rate seed config out resume overwrite",
    "evaluate": "json encoding separator",
    "predict": "out encoding separator probabilities",
    "generate": "prompt length temperature top-k seed",
    "compare": f"{DATA_OPTIONS} encoders seeds rates out report",
    "embed": "out text keep encoding pooling normalize no-normalize truncate precision device tokens overwrite",
    "check": "",
    "look": "link layer head out serve port encoding",
    "heads": "report kind encoding ablate beside out",
}


@pytest.mark.parametrize("command, names", OPTIONS.items())
def test_the_options_of_a_command(command, names):
    options = succeed(command, "--help").output.partition("\nOptions:\n")[2]
    shown = re.findall(r"--([a-z-]+)", " ".join(re.findall(r"^  --.*?(?:  |$)", options, re.M)))
    assert set(shown) == {"help", *names.split()}


@pytest.mark.parametrize("command", ["fit", "compare"])
def test_an_option_has_the_help_and_the_default_of_its_field(command):
    shown = " ".join(succeed(command, "--help").output.split())
    for name in settings.FIT if command == "fit" else settings.COMPARE:
        field = setting_fields()[name]
        default = DEFAULTS[command].get(name, field.default)
        default = f" [default: {default}]" if default is not None else ""
        assert re.search(rf"--{name} <\w+> {re.escape(field.description + default.replace('.0]', ']'))}", shown), name


def test_fit_says_what_it_chose_and_leaves_a_model(fitted, here):
    result = succeed("fit", fitted / "reviews.csv", *SMALL, "--set", "heads=2", "--set", "context=9")
    lines = result.stderr.splitlines()
    assert lines[0] == (
        "data: 60 records of reviews.csv: text 'review', label 'stars' (2 values); 48 train, 6 valid, 6 test; "
        "--text and --label name other columns"
    )
    assert lines[1] == (
        "task: classify, since column 'stars' has 2 different whole numbers; --task regress takes them as quantities"
    )
    assert "loss" not in "".join(lines[:2]) and "accuracy" in result.stdout
    folder = here / "runs" / "reviews-self-attention"
    assert (folder / "model.safetensors").exists()
    config = json.loads((folder / "config.json").read_text())
    assert (config["encoder"]["heads"], config["encoder"]["width"], config["data"]["context"]) == (2, 8, 9)
    again = succeed("fit", fitted / "reviews.csv", "--config", folder / "config.json", "--out", "again", "--seed", "1")
    assert json.loads((here / "again" / "config.json").read_text())["encoder"] == config["encoder"]
    assert "best at step" in again.stdout


def test_evaluate_prints_a_table_or_json(fitted):
    table = succeed("evaluate", fitted / "run", fitted / "reviews.csv")
    assert "loss" in table.stdout and "accuracy" in table.stdout
    measures = json.loads(succeed("evaluate", fitted / "run", fitted / "reviews.csv", "--json").stdout)
    assert 0 <= measures["accuracy"] <= 1
    assert measures == evaluate_in_python(fitted / "run", fitted / "reviews.csv")


def test_predict_reads_a_file_or_standard_input(fitted, here):
    from_file = succeed("predict", fitted / "run", fitted / "reviews.csv").stdout.splitlines()
    assert len(from_file) == 60
    assert {"label", "probability"} == json.loads(from_file[0]).keys()
    piped = succeed("predict", fitted / "run", input='it is good number 1\n{"review": "it is bad number 2"}\n')
    assert len(piped.stdout.splitlines()) == 2
    assert succeed("predict", fitted / "run", fitted / "reviews.csv", "--out", "answers.jsonl").stdout == ""
    assert (here / "answers.jsonl").read_text().splitlines() == from_file


def test_generate_streams_from_a_prompt(here):
    (here / "plays.txt").write_text("To be, or not to be, that is the question.\n" * 40)
    succeed("fit", "plays.txt", *SMALL, "--out", "plays", "--set", "context=32")
    options = ("generate", "plays", "--prompt", "To be", "--length", "12")
    once = succeed(*options, "--seed", "1").stdout
    assert once.startswith("To be") and len(once) == len("To be") + 12 + 1
    assert once == succeed(*options, "--seed", "1").stdout != succeed(*options, "--seed", "2").stdout
    assert (
        succeed(*options, "--temperature", "0").stdout == succeed(*options, "--temperature", "0", "--seed", "5").stdout
    )


def test_compare_prints_a_table_and_writes_page_and_json(fitted, here):
    args = ("compare", fitted / "reviews.csv", *SMALL, "--encoders", "rnn,convolution", "--report", "pages/page.html")
    first = succeed(*args)
    assert "on reviews: accuracy, %" in first.stdout and "With 3 steps each, " in first.stdout
    assert "is best" in first.stdout or "equal" in first.stdout
    report = read_page(here / "pages" / "page.html")
    assert {e["kind"] for e in report["encoders"]} == {"rnn", "convolution"}
    assert json.loads((here / "runs" / "compare-reviews" / "comparison.json").read_text()) == report
    second = succeed(*args)
    assert second.stdout == first.stdout and second.stderr.count("found, not done again") == 2


# ---- bad input -------------------------------------------------------------------------------------------------------


def _csv(folder, text, name="bad.csv"):
    (folder / name).write_text(text)
    return folder / name


def missing_column(folder, fitted):
    return ["fit", _csv(folder, GOOD), "--label", "grade"], r"bad.csv.*'grade'"


def empty_file(folder, fitted):
    return ["fit", _csv(folder, "")], r"bad.csv.*empty|bad.csv.*none"


def label_seen_only_in_test(folder, fitted):
    return [
        "fit",
        _csv(folder, GOOD),
        "--test",
        _csv(folder, "review,stars\nso so,7\n", "test.csv"),
    ], r"test.csv.*2.*'7'"


def label_not_learned(folder, fitted):
    return ["evaluate", fitted / "run", _csv(folder, "review,stars\nfine,1\nso so,7\n")], r"bad.csv.*3.*'7'"


def longer_than_largest(folder, fitted):
    return ["fit", _csv(folder, GOOD), "--encoder", "fully-connected", "--set", "largest=2"], r"at most 2 tokens.*got 5"


def nan_in_vectors(folder, fitted):
    rows = [json.dumps({"x": [[0.5, i]], "y": i % 2}) for i in range(30)]
    rows[4] = '{"x": [[0.5, NaN]], "y": 0}'
    return ["fit", _csv(folder, "\n".join(rows), "bad.jsonl")], r"bad.jsonl.*5.*[nN]a[nN]"


def offsets_that_fall(folder, fitted):
    np.savez(folder / "bad.npz", values=np.zeros((9, 2)), offsets=np.array([0, 6, 3, 9]), y=np.arange(3))
    return ["fit", folder / "bad.npz"], r"bad.npz.*offsets.*fall"


def checkpoint_cut_short(folder, fitted):
    succeed("fit", _csv(folder, GOOD), *SMALL, "--out", folder / "cut")
    whole = (folder / "cut" / "checkpoint.safetensors").read_bytes()
    (folder / "cut" / "checkpoint.safetensors").write_bytes(whole[: len(whole) // 2])
    return [
        "fit",
        folder / "bad.csv",
        *SMALL,
        "--out",
        folder / "cut",
        "--resume",
    ], r"cut.checkpoint.safetensors.*bytes instead of .*restore it"


def weights_cut_short(folder, fitted):
    succeed("fit", _csv(folder, GOOD), *SMALL, "--out", folder / "cut")
    whole = (folder / "cut" / "model.safetensors").read_bytes()
    (folder / "cut" / "model.safetensors").write_bytes(whole[:-100])
    return ["predict", folder / "cut", folder / "bad.csv"], r"cut.model.safetensors.*bytes instead of .*restore it"


def config_with_an_unknown_key(folder, fitted):
    config = _csv(folder, '{"encoder": {"widht": 8}}', "bad.json")
    return ["fit", _csv(folder, GOOD), "--config", config], r"bad.json.*widht.*did you mean width"


def conllu_line_with_nine_fields(folder, fitted):
    line = "\t".join(["1", "The", "the", "DET", "DT", "_", "2", "det", "_"])
    return ["fit", _csv(folder, f"# a comment\n{line}\n\n", "bad.conllu")], r"bad.conllu.*2.*10.*9"


def mixed_encodings(folder, fitted):
    (folder / "bad.csv").write_bytes(GOOD.encode() + "café,1\n".encode("latin-1"))
    return ["fit", folder / "bad.csv"], r"bad.csv.*62.*encod"


def no_such_file(folder, fitted):
    return ["predict", fitted / "run", folder / "nowhere.csv"], r"nowhere.csv"


def no_such_model(folder, fitted):
    return ["evaluate", folder, fitted / "reviews.csv"], r"expected the folder of a model"


def unknown_setting(folder, fitted):
    return ["fit", fitted / "reviews.csv", "--set", "kernal=3"], r"kernal.*did you mean kernel"


def setting_without_value(folder, fitted):
    return [
        "fit",
        fitted / "reviews.csv",
        "--set",
        "kernel",
    ], r"--set: expected NAME=VALUE, as in heads=8, got 'kernel'"


def impossible_value(folder, fitted):
    return ["fit", fitted / "reviews.csv", "--width", "-3"], r"width.*-3"


def unknown_encoder(folder, fitted):
    return ["compare", fitted / "reviews.csv", "--encoders", "rnn,gru", *SMALL], r"out of self-attention.*got gru"


def rates_that_are_none(folder, fitted):
    return ["compare", fitted / "reviews.csv", "--rates", "fast"], r"--rates: expected numbers.*'fast'"


def a_report_under_a_file(folder, fitted):
    return ["compare", fitted / "reviews.csv", "--report", fitted / "reviews.csv" / "page.html"], r"reviews.csv.*exists"


BAD = [
    missing_column,
    empty_file,
    label_seen_only_in_test,
    label_not_learned,
    longer_than_largest,
    nan_in_vectors,
    offsets_that_fall,
    checkpoint_cut_short,
    weights_cut_short,
    config_with_an_unknown_key,
    conllu_line_with_nine_fields,
    mixed_encodings,
    no_such_file,
    no_such_model,
    unknown_setting,
    setting_without_value,
    impossible_value,
    unknown_encoder,
    rates_that_are_none,
    a_report_under_a_file,
]


@pytest.mark.parametrize("case", BAD, ids=lambda case: case.__name__)
def test_bad_input_is_one_sentence_and_leaves_nothing(case, fitted, here):
    args, expected = case(here, fitted)
    before = _files(here)
    result = run(*args)
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    sentences = result.stderr.splitlines()
    assert len(sentences) == 1 and sentences[0].startswith("sightline: ") and "Traceback" not in result.output
    assert re.search(expected, sentences[0]), sentences[0]
    assert _files(here) == before


def _files(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_full_disk_while_saving_loses_nothing(fitted, here, monkeypatch):
    succeed("fit", fitted / "reviews.csv", *SMALL, "--out", "run")
    before = _files(here / "run")

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    for args in (
        ["fit", fitted / "reviews.csv", *SMALL, "--out", "run", "--resume"],
        ["fit", fitted / "reviews.csv", *SMALL, "--out", "other"],
    ):
        result = run(*args)
        assert result.exit_code == 2
        assert "No space left" in result.stderr and len(result.stderr.splitlines()) == 1
    assert _files(here / "run") == before
    assert not _files(here / "other")


def test_a_full_disk_under_answers_leaves_no_part_of_them(fitted, here, monkeypatch):
    (here / "answers.jsonl").write_text("the answers of yesterday")

    def full(source, target):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(target))

    monkeypatch.setattr(os, "replace", full)
    result = run("predict", fitted / "run", fitted / "reviews.csv", "--out", "answers.jsonl")
    assert (result.exit_code, result.stderr) == (
        2,
        "sightline: answers.jsonl: expected to write it, got: No space left on device; what was there before is whole; "
        "make room and try again\n",
    )
    assert {p.name for p in here.iterdir()} == {"answers.jsonl"}
    assert (here / "answers.jsonl").read_text() == "the answers of yesterday"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, a disk that is always full")
def test_standard_output_that_is_full_is_said(fitted):
    command = [sys.executable, "-m", "sightline.cli", "predict", fitted / "run", fitted / "reviews.csv"]
    with open("/dev/full", "w") as full:
        result = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
    assert (result.returncode, result.stderr) == (2, "sightline: No space left on device\n")


@pytest.mark.parametrize("command, word", [("fit", "--resume goes on"), ("compare", "goes on where it was")])
def test_ctrl_c_says_how_to_go_on(command, word, fitted, here, monkeypatch):
    def stopped(*args, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("sightline.training.loop._update", stopped)
    result = run(command, fitted / "reviews.csv", *SMALL)
    assert result.exit_code == 130
    assert word in result.stderr and "Traceback" not in result.output
