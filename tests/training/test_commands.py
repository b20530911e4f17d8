"""What the commands do at the edges: pipes, devices, narrow terminals, few letters, and what would cost minutes to find out."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from typer.testing import CliRunner

from sightline import cli
from sightline.lens import read_page, write_page

SMALL = ["--width", "8", "--layers", "1", "--steps", "3"]


def run(*args, **options):
    return CliRunner().invoke(cli.app, [str(arg) for arg in args], **options)


def refused(*args):
    result = run(*args)
    assert result.exit_code == 2 and result.stdout == "" and len(result.stderr.splitlines()) == 1, (
        result.output
    )
    return result.stderr


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    """A folder with data and a tagger of them, in letters that not every terminal has."""
    folder = tmp_path_factory.mktemp("commands")
    rows = "".join(
        f"it is {'gut' if i % 2 else 'schlecht'} number {i},{'süß' if i % 2 else 'öde'}\n" for i in range(60)
    )
    (folder / "reviews.csv").write_text(f"review,kind\n{rows}", "utf-8")
    assert (
        run("fit", folder / "reviews.csv", *SMALL, "--encoder", "rnn", "--out", folder / "run").exit_code == 0
    )
    return folder


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def started(*args, **options):
    command = [sys.executable, "-m", "sightline.cli", *map(str, args)]
    return subprocess.run(command, stderr=subprocess.PIPE, **options)


# ---- where answers go ------------------------------------------------------------------------------------------------------


def test_answers_go_into_a_pipe_and_through_a_link(fitted, here):
    data = fitted / "reviews.csv"
    answers = run("predict", fitted / "run", data).stdout
    (here / "link.jsonl").symlink_to("real.jsonl")
    assert run("predict", fitted / "run", data, "--out", "link.jsonl").exit_code == 0
    assert (here / "link.jsonl").is_symlink() and (here / "real.jsonl").read_text("utf-8") == answers
    os.mkfifo(here / "pipe")
    got = []
    reader = threading.Thread(target=lambda: got.append((here / "pipe").read_text("utf-8")))
    reader.start()
    assert run("predict", fitted / "run", data, "--out", "pipe").exit_code == 0
    reader.join()
    assert got == [answers] and (here / "pipe").is_fifo()


def test_a_page_goes_through_a_link_and_into_a_pipe(fitted, here):
    (here / "link.html").symlink_to("real.html")
    args = ["compare", fitted / "reviews.csv", "--encoders", "rnn", *SMALL, "--report", "link.html"]
    assert run(*args).exit_code == run(*args).exit_code == 0  # its own page may be written over
    assert (here / "link.html").is_symlink() and read_page(here / "real.html")["encoders"]
    os.mkfifo(here / "pipe")
    got = []
    reader = threading.Thread(target=lambda: got.append((here / "pipe").read_text("utf-8")))
    reader.start()
    write_page(read_page(here / "real.html"), here / "pipe")
    reader.join()
    assert got == [(here / "real.html").read_text("utf-8")] and (here / "pipe").is_fifo()


def test_a_terminal_of_few_letters(fitted, here):
    few = os.environ | {"LC_ALL": "C", "PYTHONUTF8": "0"}
    answered = started("predict", fitted / "run", fitted / "reviews.csv", env=few, stdout=subprocess.PIPE)
    assert answered.returncode == 0, answered.stderr
    assert "öde" in answered.stdout.decode("utf-8") or "süß" in answered.stdout.decode("utf-8")
    (here / "few.csv").write_text("tëxt,lâbel\n" + "so so,1\nfine,0\n" * 9, "utf-8")
    noted = started("fit", "few.csv", *SMALL, env=few, stdout=subprocess.PIPE)
    assert noted.returncode == 0 and b"task: classify, since column 'l\\xe2bel' has 2" in noted.stderr, noted.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, a disk that is always full")
@pytest.mark.parametrize("asked", ["--version", "--help"])
def test_a_full_disk_under_what_is_said_first(asked):
    with open("/dev/full", "w") as full:
        result = started(asked, stdout=full)
    assert (result.returncode, result.stderr) == (2, b"sightline: No space left on device\n")


@pytest.mark.parametrize("columns", ["20", "40", "80"])
def test_measures_are_never_cut(columns, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", columns)
    names = [
        "loss",
        "accuracy",
        *(f"accuracy@{bucket}" for bucket in ("1-8", "9-32", "33-128", "129+", "outside")),
    ]
    cli.encoders._print_measures({part: {name: 0.12345 for name in names} for part in ("valid", "test [x]")})
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["valid", "test", "[x]"]
    assert [line.split() for line in lines[1:]] == [[name, "0.1235", "0.1235"] for name in names]


# ---- what is refused, before it costs anything -----------------------------------------------------------------------------


def test_a_report_is_not_written_over_anything_else(fitted, here):
    compare = ["compare", fitted / "reviews.csv", "--encoders", "rnn", *SMALL, "--report"]
    (here / "thesis.html").write_text("mine")
    assert (
        "thesis.html: expected a page of ours to write over, got another file; name another --report"
        in refused(*compare, "thesis.html")
    )
    assert "expected a file to write the page to, got a folder" in refused(*compare, here)
    assert [path.name for path in here.iterdir()] == ["thesis.html"]


@pytest.mark.parametrize("command", ["fit", "compare"])
@pytest.mark.parametrize("name", ["encoder", "out", "tell", "data", "self"])
def test_only_settings_can_be_set(command, name, fitted, here):
    said = refused(command, fitted / "reviews.csv", "--set", f"{name}=2")
    assert f"--set: expected the name of a setting, got {name}; " in said


def test_memory_that_is_not_there(fitted, here):
    said = refused("fit", fitted / "reviews.csv", "--width", 2 * 10**9)
    assert said.startswith(
        "sightline: expected memory for all that was asked for, got too little; ask for less"
    )
    for width in (10**15, 10**20):  # no tensor is so wide
        assert "expected width to be less than 2147483648, got 1000" in refused(
            "fit", fitted / "reviews.csv", "--width", width
        )


def test_a_fault_of_ours_is_not_called_a_lack_of_memory(fitted, monkeypatch):
    def broken(*args, **options):
        raise RuntimeError("a tensor of the wrong shape")

    monkeypatch.setattr("sightline.training.model.Model.evaluate", broken)
    assert isinstance(run("evaluate", fitted / "run", fitted / "reviews.csv").exception, RuntimeError)


def test_a_prompt_that_is_no_text(fitted, here):
    (here / "plays.txt").write_text("To be, or not to be.\n" * 40)
    assert run("fit", "plays.txt", *SMALL, "--out", "plays").exit_code == 0
    assert "generate: expected a text, got half of a surrogate pair" in refused(
        "generate", "plays", "--prompt", "a\udcff"
    )
