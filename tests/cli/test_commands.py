"""The commands at the edges: pipes, devices, narrow terminals, few letters, and errors that must come early."""

import json
import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from sightline.cli.output import print_measures
from sightline.lens import read_page, write_page
from tests.cli.typed import SMALL, run


def refused(*args):
    result = run(*args)
    assert result.exit_code == 2 and result.stdout == "" and len(result.stderr.splitlines()) == 1, result.output
    return result.stderr


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    """A folder with data and a tagger of them, in letters that not every terminal has."""
    folder = tmp_path_factory.mktemp("commands")
    rows = "".join(
        f"it is {'gut' if i % 2 else 'schlecht'} number {i},{'süß' if i % 2 else 'öde'}\n" for i in range(60)
    )
    (folder / "reviews.csv").write_text(f"review,kind\n{rows}", "utf-8")
    assert run("fit", folder / "reviews.csv", *SMALL, "--encoder", "rnn", "--out", folder / "run").exit_code == 0
    return folder


def started(*args, **options):
    command = [sys.executable, "-m", "sightline.cli", *map(str, args)]
    return subprocess.run(command, stderr=subprocess.PIPE, **options)


# ---- where answers go ------------------------------------------------------------------------------------------------


def test_answers_go_into_a_pipe_and_through_a_link(fitted, here):
    data = fitted / "reviews.csv"
    answers = run("predict", fitted / "run", data).stdout
    (here / "link.jsonl").symlink_to("real.jsonl")
    assert run("predict", fitted / "run", data, "--out", "link.jsonl").exit_code == 0
    assert (here / "link.jsonl").is_symlink() and (here / "real.jsonl").read_text("utf-8") == answers
    os.mkfifo(here / "pipe")
    received = []
    reader = threading.Thread(target=lambda: received.append((here / "pipe").read_text("utf-8")))
    reader.start()
    assert run("predict", fitted / "run", data, "--out", "pipe").exit_code == 0
    reader.join()
    assert received == [answers] and (here / "pipe").is_fifo()


def test_a_page_goes_through_a_link_and_into_a_pipe(fitted, here):
    (here / "link.html").symlink_to("real.html")
    args = ["compare", fitted / "reviews.csv", "--encoders", "rnn", *SMALL, "--report", "link.html"]
    assert run(*args).exit_code == run(*args).exit_code == 0  # its own page may be written over
    assert (here / "link.html").is_symlink() and read_page(here / "real.html")["encoders"]
    os.mkfifo(here / "pipe")
    received = []
    reader = threading.Thread(target=lambda: received.append((here / "pipe").read_text("utf-8")))
    reader.start()
    write_page(read_page(here / "real.html"), here / "pipe")
    reader.join()
    assert received == [(here / "real.html").read_text("utf-8")] and (here / "pipe").is_fifo()


def test_a_terminal_of_few_letters(fitted, here):
    few = os.environ | {"LC_ALL": "C", "PYTHONUTF8": "0"}
    answered = started("predict", fitted / "run", fitted / "reviews.csv", env=few, stdout=subprocess.PIPE)
    assert answered.returncode == 0, answered.stderr
    assert "öde" in answered.stdout.decode("utf-8") or "süß" in answered.stdout.decode("utf-8")
    (here / "few.csv").write_text("tëxt,lâbel\n" + "so so,1\nfine,0\n" * 9, "utf-8")
    noted = started("fit", "few.csv", *SMALL, env=few, stdout=subprocess.PIPE)
    assert noted.returncode == 0 and b"task: classify, since column 'l\\xe2bel' has 2" in noted.stderr, noted.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, a disk that is always full")
@pytest.mark.parametrize("arguments", ["--version", "--help"])
def test_a_full_disk_under_what_is_said_first(arguments):
    with open("/dev/full", "w") as full:
        result = started(arguments, stdout=full)
    assert (result.returncode, result.stderr) == (2, b"sightline: No space left on device\n")


@pytest.mark.parametrize("columns", ["20", "40", "80"])
def test_measures_are_never_cut(columns, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", columns)
    names = ["loss", "accuracy", *(f"accuracy@{bucket}" for bucket in ("1-8", "9-32", "33-128", "129+", "outside"))]
    print_measures({part: {name: 0.12345 for name in names} for part in ("valid", "test [x]")})
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["valid", "test", "[x]"]
    assert [line.split() for line in lines[1:]] == [[name, "0.1235", "0.1235"] for name in names]


# ---- what is refused, before it costs anything -----------------------------------------------------------------------


def test_a_report_is_not_written_over_anything_else(fitted, here):
    compare = ["compare", fitted / "reviews.csv", "--encoders", "rnn", *SMALL, "--report"]
    (here / "thesis.html").write_text("mine")
    assert "thesis.html: expected a page of ours to write over, got another file; name another --report" in refused(
        *compare, "thesis.html"
    )
    assert "expected a file to write the page to, got a folder" in refused(*compare, here)
    assert [path.name for path in here.iterdir()] == ["thesis.html"]


@pytest.mark.parametrize("command", ["fit", "compare"])
@pytest.mark.parametrize("name", ["encoder", "out", "tell", "data", "self"])
def test_only_settings_can_be_set(command, name, fitted, here):
    stderr = refused(command, fitted / "reviews.csv", "--set", f"{name}=2")
    assert f"--set: expected the name of a setting, got {name}; " in stderr


def test_memory_that_is_not_there(fitted, here):
    stderr = refused("fit", fitted / "reviews.csv", "--width", 2 * 10**9)
    assert stderr.startswith("sightline: expected memory for all that was asked for, got too little; ask for less")
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


# ---- the files people bring ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def western(tmp_path_factory):
    """A folder with data in latin-1, the same in UTF-8, and a classifier of the former."""
    folder = tmp_path_factory.mktemp("western")
    content = "text;label\n" + "".join(
        f"le caf\u00e9 est {'bon' if i % 2 else 'froid'} {i};{'ni'[i % 2]}\n" for i in range(60)
    )
    (folder / "latin.csv").write_bytes(content.encode("latin-1"))
    (folder / "again.csv").write_bytes(content.encode("latin-1"))
    (folder / "utf8.csv").write_bytes(content.encode())
    fitted = run(
        "fit", folder / "latin.csv", *SMALL, "--encoder", "rnn", "--encoding", "latin-1", "--out", folder / "run"
    )
    assert fitted.exit_code == 0, fitted.output
    return folder


@pytest.mark.parametrize("command", ["fit", "compare", "evaluate", "predict", "look"])
def test_every_command_that_reads_takes_an_encoding(command, western, here):
    (here / "short.txt").write_bytes("le caf\u00e9 est bon".encode("latin-1"))
    (here / "utf8.txt").write_bytes("le caf\u00e9 est bon".encode())
    model = [] if command in ("fit", "compare") else [western / "run"]
    other, utf8 = (
        (here / "short.txt", here / "utf8.txt") if command == "look" else (western / "again.csv", western / "utf8.csv")
    )
    small = {
        "fit": [*SMALL, "--out", "new"],
        "compare": [*SMALL, "--encoders", "rnn", "--out", "new"],
        "look": ["--out", "a.html"],
    }
    args = [command, *model, other, *small.get(command, [])]
    assert ": expected UTF-8, got the byte 0xe9 (byte 7 of the line), which is not; add --encoding latin-1" in refused(
        *args
    )
    for encoding in ("klingon", "hex"):
        assert "expected the name of an encoding" in refused(*args, "--encoding", encoding)
    if command != "predict":  # which answers as it reads
        stderr = refused(command, *model, utf8, *small.get(command, []), "--encoding", "latin-1")
        assert "expected latin-1, as the encoding is named, got a file that is UTF-8 in every line" in stderr
    named = run(*args, "--encoding", "latin-1")
    assert named.exit_code == 0, named.output


def test_the_encoding_of_a_run_is_not_that_of_other_files(western):
    for name, options in (("utf8.csv", []), ("again.csv", ["--encoding", "cp1252"])):
        measured = run("evaluate", western / "run", western / name, "--json", *options)
        assert measured.exit_code == 0, measured.output
    own = run(
        "evaluate", western / "run", western / "latin.csv", "--json"
    )  # its own file, which it knows by its contents
    assert own.exit_code == 0, own.output
    answers = [run("predict", western / "run", western / "utf8.csv").stdout]
    answers.append(run("predict", western / "run", western / "again.csv", "--encoding", "latin-1").stdout)
    assert answers[0] == answers[1] and answers[0].count("\n") == 60


def test_a_separator_is_named_where_it_is_open(western, here):
    (here / "open.csv").write_text("text,more;label\n" + "".join(f"it is {i}, number {i};{i % 2}\n" for i in range(60)))
    stderr = refused("fit", "open.csv", *SMALL)
    assert (
        "open.csv:1: expected one separator" in stderr
        and "comma (',') and semicolon (';'); name it, as in --separator ';'" in stderr
    )
    assert run("fit", "open.csv", *SMALL, "--separator", ";", "--out", "run").exit_code == 0
    for command in ("evaluate", "predict"):
        (here / "other.csv").write_text((here / "open.csv").read_text())
        assert "name it, as in --separator" in refused(command, "run", "other.csv")
        assert run(command, "run", "other.csv", "--separator", ";").exit_code == 0


def test_a_file_whose_name_is_no_utf8(western, here):
    name = "caf\udce9.csv"
    (here / name).write_bytes((western / "utf8.csv").read_bytes())
    fitted = run("fit", name, *SMALL, "--out", "run")
    assert fitted.exit_code == 0 and "data: 60 records of caf\\xe9.csv: " in fitted.stderr, fitted.output
    for command in ("evaluate", "predict"):
        assert run(command, "run", name).exit_code == 0
    assert run("fit", name, *SMALL, "--out", "run", "--resume").exit_code == 0
    (here / name).write_bytes(b"text,label\na\n")
    assert refused("evaluate", "run", name).startswith("sightline: caf\\xe9.csv:2: expected 2 fields")


def test_what_standard_input_may_be(western):
    for content, count in {
        b'\xef\xbb\xbf{"text": "un"}\n{"text": "deux"}': 2,
        b'[\n{"text": "un"},\n{"text": "deux"}\n]\n': 2,
        "un\x0cdeux\u2028trois\nquatre".encode(): 2,
        b"[un]\n": 1,
        "caf\u00e9\n".encode("utf-16"): 1,
    }.items():
        result = run("predict", western / "run", input=content)
        assert result.exit_code == 0 and result.stdout.count("\n") == count, result.output
    for content, message in {
        b"caf\xe9\n": "expected UTF-8, got the byte 0xe9",
        b"a\0\n": "expected UTF-8, got a NUL byte",
    }.items():
        result = run("predict", western / "run", input=content)
        assert result.exit_code == 2 and f"sightline: standard input:1: {message}" in result.stderr
    assert run("predict", western / "run", "--encoding", "latin-1", input=b"caf\xe9\n").exit_code == 0


def test_look_reads_a_file_without_its_mark_and_no_folder(western, here):
    (here / "a.txt").write_bytes(b"\xef\xbb\xbfThe cat chased its tail.")
    (here / "b.txt").write_bytes(b"The cat chased its tail.")
    for name in "ab":
        assert run("look", western / "run", f"{name}.txt", "--out", f"{name}.html").exit_code == 0
    assert (here / "a.html").read_bytes() == (here / "b.html").read_bytes()
    assert "expected a file, got a folder" in refused("look", western / "run", western, "--out", "c.html")


def test_the_layout_of_arrays_stands_in_the_help():
    shown = " ".join(run("fit", "--help").output.split())
    assert "values [T, F]" in shown and "offsets [S + 1]" in shown


# ---- what is said, and what is set, before anything heavy is loaded --------------------------------------------------


def test_the_probability_of_every_label(fitted, here):
    arguments = ["predict", fitted / "run", fitted / "reviews.csv"]
    plain = [json.loads(line) for line in run(*arguments).stdout.splitlines()]
    every = [json.loads(line) for line in run(*arguments, "--probabilities").stdout.splitlines()]
    for one, more in zip(plain, every, strict=True):
        chances = more.pop("probabilities")
        assert one == more and chances.keys() == {"süß", "öde"}
        assert sum(chances.values()) == pytest.approx(1, abs=1e-5)
        assert chances[one["label"]] == max(chances.values()) == one["probability"]
    (here / "n.csv").write_text("text,y\n" + "".join(f"a {i},{i / 7}\n" for i in range(60)))
    assert run("fit", "n.csv", "--task", "regress", *SMALL, "--out", "n").exit_code == 0
    assert (
        "predict: expected a model that classifies or tags for probabilities, got one of regress; leave the option out"
        in refused("predict", "n", "n.csv", "--probabilities")
    )


def test_the_probability_of_every_tag_of_every_word(here):
    rows = [{"words": ["a", "b", "a"][: 1 + i % 3], "tags": ["x", "y", "x"][: 1 + i % 3]} for i in range(60)]
    (here / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert run("fit", "t.jsonl", "--text", "words", "--label", "tags", *SMALL, "--out", "t").exit_code == 0
    for row, line in zip(rows, run("predict", "t", "t.jsonl", "--probabilities").stdout.splitlines(), strict=True):
        answer = json.loads(line)
        assert len(answer["tags"]) == len(answer["probabilities"]) == len(row["words"])
        assert [max(each, key=each.get) for each in answer["probabilities"]] == answer["tags"]


@pytest.mark.parametrize(
    "setting, takes",
    [
        (
            "checkpoint_every=100",
            "a share or a number with its unit, as in 10%, 500 steps, 100000 tokens or 30 seconds",
        ),
        ("evaluate_every=true", "a share or a number with its unit"),
        ("betas=[0.9]", "two numbers, as in [0.9, 0.99]"),
        ("tokens=1e30", "a whole number below 1099511627776"),
        ("encoding=7", "a text: encoding of text files"),
    ],
)
def test_a_setting_says_what_it_takes(fitted, here, setting, takes):
    name = setting.partition("=")[0]
    stderr = refused("fit", fitted / "reviews.csv", "--set", setting)
    assert f"settings: expected {name}" in stderr and f"to be {takes}" in stderr and len(stderr) < 300
    assert "expected encoder to be 'self-attention', " in refused("fit", fitted / "reviews.csv", "--encoder", "gru")


def test_only_what_is_there_is_resumed_and_a_run_is_written_over_when_said(fitted, here):
    data = fitted / "reviews.csv"
    assert "run: expected the folder of a run to resume, got one without config.json" in refused(
        "fit", data, *SMALL, "--out", "run", "--resume"
    )
    assert not (here / "run").exists()
    assert run("fit", data, *SMALL, "--out", "run").exit_code == 0
    assert "write over it with overwrite, or name another out" in refused("fit", data, *SMALL, "--out", "run")
    assert run("fit", data, *SMALL, "--out", "run", "--overwrite").exit_code == 0


def test_what_a_budget_of_seconds_went_into(fitted, here):
    budget = ["--width", "8", "--layers", "1", "--seconds", "0.3", "--out", "run"]
    done = run("fit", fitted / "reviews.csv", *budget)
    assert done.exit_code == 0 and re.search(r"\n\d+ s in all, \d+ of them training; the others", done.stdout)
    saved = json.loads((here / "run" / "config.json").read_text())
    assert saved["training"]["evaluation_counts"] is True
