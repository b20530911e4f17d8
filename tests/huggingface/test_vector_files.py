"""Files of vectors: columns that are kept, two runs at once, planted links, damage, and other people's files."""

import csv
import json
import os
import shutil
import subprocess
import sys
import time
from datetime import date
from decimal import Decimal

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from typer.testing import CliRunner

from sightline.cli import app
from sightline.huggingface import vector_files as vectors
from sightline.huggingface.vector_files import embed_to_file

pytestmark = pytest.mark.usefixtures("quiet")

MANY = [f"{i} sits" + " again" * (i % 7) for i in range(5000)]  # three windows


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def whole(plain, tmp_path_factory):
    """The vectors of MANY, by a run that nothing disturbs."""
    out = tmp_path_factory.mktemp("whole") / "v.npy"
    embed_to_file(plain, named(MANY), out)
    return np.load(out)


def named(texts, *columns):
    return [(f"t:{i}", *row) for i, row in enumerate(zip(texts, *columns, strict=True))]


def run(*args, **options):
    return CliRunner().invoke(app, [str(arg) for arg in args], **options)


def refuse(expected, *args, **options):
    result = run(*args, **options)
    sentences = [line for line in result.stderr.splitlines() if "so the mean is taken" not in line]
    assert result.exit_code == 2 and len(sentences) == 1 and expected in sentences[0], result.output


def stopped(plain, monkeypatch, texts=MANY, out="v.npy", **options):
    """A run that did all windows and was stopped before they were joined."""
    with monkeypatch.context() as patch:
        patch.setattr(vectors, "_join", lambda *arguments: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            embed_to_file(plain, texts if options else named(texts), out, **options)


# ---- columns that are kept -------------------------------------------------------------------------------------------


def test_columns_are_kept_from_every_format(plain, here):
    rows = [{"id": 7 - i, "said": text, "day": f"2024-01-0{i + 1}"} for i, text in enumerate(["b", "", "a"])]
    with open("t.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    (here / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), "t.parquet")
    for file, options in {
        "t.csv": ("--keep", "id", "--keep", "day", "--text", "said"),
        "t.jsonl": ("--keep", "id, day"),  # of the columns left there is one
        "t.parquet": ("--keep", "id,day", "--text", "said"),
    }.items():
        result = run("embed", plain, file, "--out", "v.parquet", "--overwrite", *options)
        assert result.exit_code == 0, result.output
        table = pyarrow.parquet.read_table("v.parquet")
        assert table.column_names == ["id", "day", "text", "vector"]
        kind = str if file == "t.csv" else int
        assert table["id"].to_pylist() == [kind(7), kind(6), kind(5)]
        assert table["day"].to_pylist() == [row["day"] for row in rows]
        assert table["text"].to_pylist() == ["b", "", "a"]


def test_values_of_all_kinds_are_kept_over_windows(plain, here, monkeypatch):
    monkeypatch.setattr(vectors, "WINDOW", 3)
    monkeypatch.setattr(sys.modules["sightline.huggingface.embed"], "WINDOW", 3)
    columns = {
        "some": [None] * 4 + [1, 2.5],  # first nothing, then whole numbers, then a half
        "day": [date(2024, 1, i + 1) for i in range(6)],
        "price": [Decimal("1.50"), None, Decimal("100.25"), Decimal("7"), Decimal("12345.678"), None],
        "tags": [["a"], [], None, ["b", "c"], [], []],
        "yes": [True, False, None, True, True, False],
    }
    embed_to_file(plain, named("abcdef", *columns.values()), "v.parquet", keep=list(columns))
    table = pyarrow.parquet.read_table("v.parquet")
    assert {name: table[name].to_pylist() for name in columns} == columns


NO_KEEPING = {
    "a file without columns": (dict(out="v.npy"), "v.npy: expected a file that holds columns, to keep id in, got .npy"),
    "safetensors": (dict(out="v.safetensors"), "to keep id in, got .safetensors"),
    "a column of ours": (dict(keep=["vector"]), "--keep: expected other columns than text and vector, .* got vector"),
    "a text among numbers": (dict(values=[1, 2, "x"]),
        "t:2: expected in column 'id' a number, as in those before, got a str"),
    "a number among texts": (dict(values=["a", None, 3.5]), "t:2: expected in column 'id' a str, .* got a number"),
    "truth among numbers": (dict(values=[1, 2, True]), "t:2: expected in column 'id' a number, .* got a bool"),
    "a number too large": (dict(values=[1, 2, 2**70]),
        "t:0: expected from here on in column 'id' values that Parquet holds"),
    "lists of unlike things": (dict(values=[[1], ["a"], [1]]),
        "t:0: expected from here on in column 'id' values that Parquet holds"),
}  # fmt: skip


@pytest.mark.parametrize("case", NO_KEEPING)
def test_what_is_not_kept(case, plain, here):
    change, expected = NO_KEEPING[case]
    change = {"out": "v.parquet", "keep": ["id"], "values": [1, 2, 3], **change}
    with pytest.raises(ValueError, match=expected):
        embed_to_file(plain, named("abc", change["values"]), change["out"], keep=change["keep"])
    assert not list(here.iterdir())


def test_columns_and_places_are_checked_before_the_model_is_loaded(here):
    (here / "a.csv").write_text("id,said\n1,so\n")
    (here / "a.npy").mkdir()
    (here / "b.parquet").touch()
    known = [sys.executable, "a.csv"]  # no model there, which is not what is said
    refuse(
        "a.csv:2: expected a column 'ident', got the columns id, said",
        *("embed", *known, "--text", "said", "--keep", "ident", "--out", "v.parquet"),
    )
    refuse("a.csv:2: expected a column 'text', or no other", "embed", *known, "--out", "v.npy")
    refuse("a.npy: expected a file to write, got a folder", "embed", *known, "--out", "a.npy", "--overwrite")
    refuse("v.csv: expected a name that ends in .npy", "embed", *known, "--out", "v.csv")
    refuse("expected a new file, got one that exists", "embed", *known, "--out", "b.parquet")
    refuse(
        "b.parquet: expected another file to write than the one to read, got the same",
        *("embed", sys.executable, "b.parquet", "--out", "b.parquet", "--overwrite"),
    )
    refuse("a.csv/v.npy.partial: expected to make a folder", "embed", *known, "--text", "said", "--out", "a.csv/v.npy")
    refuse("expected the name of an encoding", "embed", *known, "--encoding", "klingon", "--out", "v.npy")
    assert {p.name for p in here.iterdir()} == {"a.csv", "a.npy", "b.parquet"}


def test_lines_and_letters_are_as_in_every_command(plain, here):
    (here / "a.txt").write_bytes("\ufeffone\ftwo\r\nthree\u2028four\x85\x1c\r\n\r\nfive".encode())
    (here / "b.csv").write_bytes("text\nna\u00efve\n".encode("cp1252"))
    assert run("embed", plain, "a.txt", "--out", "a.parquet").exit_code == 0
    texts = pyarrow.parquet.read_table("a.parquet")["text"].to_pylist()
    assert texts == ["one\ftwo", "three\u2028four\x85\x1c", "", "five"]
    refuse("b.csv:2: expected UTF-8, got the byte 0xef", "embed", plain, "b.csv", "--out", "b.parquet")
    assert run("embed", plain, "b.csv", "--encoding", "cp1252", "--out", "b.parquet").exit_code == 0
    assert pyarrow.parquet.read_table("b.parquet")["text"].to_pylist() == ["na\u00efve"]
    refuse("expected a name in UTF-8, got other bytes", "embed", plain, "a.txt", "--out", "v\udcff.npy")


def test_a_long_text_at_the_end_of_a_file_is_said_before_anything_is_computed(plain, here, monkeypatch):
    (here / "a.txt").write_text("short\n" * 4000 + "long " * 90 + "\n" + "short\n" + "long " * 95 + "\n")
    monkeypatch.setattr(vectors, "_write_npy", lambda *arguments: pytest.fail("computed"))
    refuse("a.txt:4001: expected at most 80 tokens, as many as", *("embed", plain, "a.txt", "--out", "v.npy"))
    others = "got 92, and 1 more that are too long: a.txt:4003 (97); shorten them"
    refuse(others, "embed", plain, "a.txt", "--out", "v.npy")
    assert not list(here.glob("v.*"))


# ---- other runs, other files -----------------------------------------------------------------------------------------

HOLDS = """
import time
from pathlib import Path
from sightline.files import locked
with locked(Path("v.npy.partial")):
    open("begun", "w").close()
    time.sleep(120)
"""


def test_two_runs_into_one_file_do_not_meet(plain, here):
    with subprocess.Popen([sys.executable, "-c", HOLDS]) as other:
        try:
            until = time.monotonic() + 100
            while not (here / "begun").exists() and time.monotonic() < until:
                time.sleep(0.05)
            with pytest.raises(
                ValueError, match=f"v.npy.partial: expected a folder that no other run uses, .*{other.pid}"
            ):
                embed_to_file(plain, [("one", "a")], "v.npy")
            assert (here / "v.npy.partial").exists()  # the other's, which stays
        finally:
            other.kill()
    assert embed_to_file(plain, [("one", "a")], "v.npy") == (1, 16)  # a dead one's is no obstacle


def test_nothing_outside_is_written_whatever_links_are_there(plain, here, whole, monkeypatch):
    outside = here / "precious"
    outside.mkdir()
    (outside / "file").write_text("mine")
    (here / "v.npy.partial").symlink_to(outside, target_is_directory=True)
    with pytest.raises(ValueError, match="v.npy.partial: expected a folder, got a link"):
        embed_to_file(plain, named(MANY), "v.npy")
    (here / "v.npy.partial").unlink()

    stopped(plain, monkeypatch)
    for path in list((here / "v.npy.partial").iterdir()):
        path.with_name(f"{path.name}.{os.getpid()}").symlink_to(outside / "file")  # as earlier versions wrote aside
        path.with_name(f"{path.name}.0123456789ab.partial").symlink_to(outside / "file")
    (here / "v.npy.partial" / "whole.npy").symlink_to(outside / "file")
    with pytest.raises(ValueError, match="v.npy.partial: expected what a run that was stopped left, got"):
        embed_to_file(plain, named(MANY), "v.npy")
    shutil.rmtree(here / "v.npy.partial")
    (here / "v.npy").symlink_to(outside / "file")
    embed_to_file(plain, named(MANY), "v.npy", overwrite=True)
    assert np.array_equal(np.load("v.npy"), whole)
    assert {p.name: p.read_text() for p in outside.iterdir()} == {"file": "mine"}


@pytest.mark.parametrize("damage", ["cut", "a flipped bit", "empty", "another's", "gone"])
def test_a_damaged_window_is_made_anew(damage, plain, here, whole, monkeypatch):
    stopped(plain, monkeypatch)
    chunks = sorted((here / "v.npy.partial").glob("*.npy"))
    raw = bytearray(chunks[1].read_bytes())
    raw[-7] ^= 1
    if damage == "gone":
        chunks[1].unlink()
    else:
        content = {"cut": raw[:-9], "a flipped bit": raw, "empty": b"", "another's": chunks[0].read_bytes()}
        chunks[1].write_bytes(content[damage])
    done = []
    embed_to_file(plain, named(MANY), "v.npy", advance=done.append)
    assert np.array_equal(np.load("v.npy"), whole) and sum(done) == 5000
    assert done.count(2048) + done.count(5000 - 4096) == 2  # two windows were there


def test_what_is_damaged_while_it_is_joined_is_named(plain, here, monkeypatch):
    stopped(plain, monkeypatch)
    chunks = sorted((here / "v.npy.partial").glob("*.npy"))
    monkeypatch.setattr(vectors.Run, "compute", lambda *arguments: chunks[1].write_bytes(b"\0"))
    with pytest.raises(ValueError, match=f"{chunks[1].name}: expected what was written, got another content"):
        embed_to_file(plain, named(MANY), "v.npy")


def test_other_columns_are_other_texts(plain, here, monkeypatch):
    texts = named("abc", [1, 2, 3])
    stopped(plain, monkeypatch, texts, "v.parquet", keep=["id"])
    with pytest.raises(ValueError, match="expected the texts that it was begun with, got others"):
        embed_to_file(plain, named("abc", [1, 2, 4]), "v.parquet", keep=["id"])
    with pytest.raises(ValueError, match=r"keep \['id'\] then, \['other'\] now"):
        embed_to_file(plain, texts, "v.parquet", keep=["other"])
    embed_to_file(plain, texts, "v.parquet", keep=["id"])
    assert pyarrow.parquet.read_table("v.parquet")["id"].to_pylist() == [1, 2, 3]


def test_a_folder_of_somebody_else_is_left_alone(plain, here):
    (here / "v.npy.partial").mkdir()
    (here / "v.npy.partial" / "thesis.tex").write_text("mine")
    with pytest.raises(ValueError, match="expected what a run that was stopped left, got thesis.tex; move it away"):
        embed_to_file(plain, [("one", "a")], "v.npy")
    assert (here / "v.npy.partial" / "thesis.tex").read_text() == "mine"
    for note in ("[1]", "3", "[" * 10_000, '{"model": 1, "model": 2}'):
        (here / "w.npy.partial").mkdir(exist_ok=True)
        (here / "w.npy.partial" / "note.json").write_text(note)
        with pytest.raises(ValueError, match="w.npy.partial: expected what a run .* got a note.json that is damaged"):
            embed_to_file(plain, [("one", "a")], "w.npy")
        (here / "w.npy.partial" / "00000000-0123456789abcdef0123-0123456789abcdef0123.npy").touch()
