"""Files of vectors: every format read back, a run killed and resumed, two processes as one, and the commands."""

import errno
import io
import json
import os
import re
import shutil
import subprocess
import sys

import numpy as np
import pyarrow.parquet
import pytest
from safetensors.numpy import load_file, save_file
from transformers import BloomConfig
from typer.testing import CliRunner

from sightline.cli import app
from sightline.cli.huggingface import _progress
from sightline.huggingface.vector_files import embed_to_file
from tests.huggingface.folders import MINILM, encode, save_model

pytestmark = pytest.mark.usefixtures("quiet")

TEXTS = ["A cat sat.", "", "word " * 40, "zwei Hunde, 日本語 🙂", "A cat sat."]
MANY = [f"{i} sits" + " again" * (i * i % 7) for i in range(7000)]  # four windows
KILLED = """
import os, signal, sys
from sightline.cli import app
calls, rename = [], os.replace
def deadly(source, target):
    calls.append(target)
    if len(calls) == 4:  # the note and two windows are done, the third is written aside
        os.kill(os.getpid(), signal.SIGKILL)
    rename(source, target)
os.replace = deadly
app(sys.argv[1:])
"""


@pytest.fixture(scope="module")
def many(plain, tmp_path_factory):
    """A file of texts, what they are turned into by one process that is not killed, and how."""
    folder = tmp_path_factory.mktemp("many")
    (folder / "many.txt").write_text("".join(text + "\n" for text in MANY))
    succeed("embed", plain, folder / "many.txt", "--out", folder / "whole.npy", "--pooling", "mean")
    return folder


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "texts.txt").write_text("".join(text + "\n" for text in TEXTS))
    return tmp_path


def run(*args, **options):
    return CliRunner().invoke(app, [str(arg) for arg in args], **options)


def succeed(*args, **options):
    result = run(*args, **options)
    assert result.exit_code == 0, result.output
    return result


def files(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


# ---- what is written -------------------------------------------------------------------------------------------------


def test_each_form_holds_the_vectors_of_sentence_transformers(here):
    expected = encode(MINILM, TEXTS).numpy()
    for suffix in (".npy", ".parquet", ".safetensors"):
        output = succeed("embed", MINILM, "texts.txt", "--out", f"deep/er/v{suffix}")
        assert output.stdout == f"deep/er/v{suffix}: 5 vectors of 384 numbers\n"
    array = np.load("deep/er/v.npy")
    table = pyarrow.parquet.read_table("deep/er/v.parquet")
    assert array.dtype == np.float32 and array.flags.c_contiguous
    np.testing.assert_allclose(array, expected, rtol=0, atol=1e-5)
    assert np.array_equal(load_file("deep/er/v.safetensors")["vectors"], array)
    assert str(table.schema.field("vector").type) == "fixed_size_list<element: float>[384]"
    assert np.array_equal(np.stack(table["vector"].to_numpy()), array) and table["text"].to_pylist() == TEXTS
    assert {p.name for p in (here / "deep" / "er").iterdir()} == {"v.npy", "v.parquet", "v.safetensors"}


def test_every_format_and_standard_input_give_the_same(here, plain):
    rows = [{"id": i, "said": text} for i, text in enumerate(TEXTS)]
    (here / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (here / "t.csv").write_text("id,said\n" + "".join(f'{r["id"]},"{r["said"]}"\n' for r in rows))
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), here / "t.parquet")
    options = ("--pooling", "mean", "--overwrite")
    succeed("embed", plain, "texts.txt", "--out", "a.npy", *options)
    for file in ("t.jsonl", "t.csv", "t.parquet"):
        succeed("embed", plain, file, "--text", "said", "--out", "b.npy", *options)
        assert (here / "b.npy").read_bytes() == (here / "a.npy").read_bytes()
    for text in ((here / "texts.txt").read_text(), "".join(json.dumps({"text": t}) + "\n" for t in TEXTS)):
        succeed("embed", plain, "-", "--out", "b.npy", *options, input=text)
        assert (here / "b.npy").read_bytes() == (here / "a.npy").read_bytes()


def test_options_reach_the_vectors(here):
    succeed(
        "embed", MINILM, "texts.txt", "--out", "a.npy", "--pooling", "cls, mean", "--no-normalize", "--device", "cpu"
    )
    wide = np.load("a.npy")
    assert wide.shape == (5, 768) and np.linalg.norm(wide, axis=1).min() > 2
    (here / "long.txt").write_text("word " * 400 + "\n")
    succeed("embed", MINILM, "long.txt", "--out", "b.npy", "--truncate", "--precision", "bfloat16", "--tokens", "64")
    exact = encode(MINILM, ["word " * 400]).numpy()
    assert 0 < np.abs(np.load("b.npy") - exact).max() < 0.02 and np.load("b.npy").dtype == np.float32


# ---- stopped, and gone on with ---------------------------------------------------------------------------------------


def test_a_run_that_is_killed_goes_on_with_the_same_command(plain, many, here):
    typed = ["embed", plain, many / "many.txt", "--out", "v.npy", "--pooling", "mean"]
    killed = subprocess.run([sys.executable, "-c", KILLED, *map(str, typed)], capture_output=True, text=True)
    assert (killed.returncode, killed.stdout, killed.stderr) == (-9, "", "")
    left = files(here / "v.npy.partial")
    done = {name for name in left if re.fullmatch(r"0000000[01]-[0-9a-f]{20}-[0-9a-f]{20}\.npy", name)}
    assert len(done) == 2 and len(left) == 5 and not (here / "v.npy").exists()  # also note, lock and a part
    left = {name: content for name, content in left.items() if name in done | {"note.json"}}

    for change, expected in {
        (
            "--pooling",
            "max",
        ): r"v.npy.partial: expected the settings .*pooling \['mean'\] then, \['max'\] now; give the same",
        ("--truncate",): r"v.npy.partial: expected the settings .*truncate None then, True now",
    }.items():
        other = run(*typed, *change)
        assert other.exit_code == 2 and re.search(expected, other.stderr), other.stderr
    (here / "other.txt").write_text("".join(text + "!\n" for text in MANY))
    other = run(*typed[:2], "other.txt", *typed[3:])
    assert (
        other.exit_code == 2 and "v.npy.partial: expected the texts that it was begun with, got others" in other.stderr
    )
    assert files(here / "v.npy.partial") == left

    stamps = {name: (here / "v.npy.partial" / name).stat().st_mtime_ns for name in done}
    seen = []
    original = os.replace

    def note_times(source, target):
        if str(target).endswith("v.npy"):
            seen.append({name: (here / "v.npy.partial" / name).stat().st_mtime_ns for name in done})
        original(source, target)

    os.replace = note_times
    try:
        succeed(*typed, "--tokens", "512")
    finally:
        os.replace = original
    assert seen == [stamps]  # what was done was not done again
    assert {p.name for p in here.iterdir()} == {"v.npy", "texts.txt", "other.txt"}
    whole = np.load(many / "whole.npy")
    np.testing.assert_allclose(np.load("v.npy"), whole, rtol=0, atol=1e-6)
    assert np.array_equal(np.load("v.npy")[:4096], whole[:4096]) and whole.shape == (7000, 16)


def test_gone_on_with_the_bytes_are_those_of_a_run_that_was_not_stopped(plain, many, here, monkeypatch):
    typed = ["embed", plain, many / "many.txt", "--out", "v.npy", "--pooling", "mean"]

    def stopped(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("sightline.huggingface.vector_files._join", stopped)
    result = run(*typed)
    assert result.exit_code == 130 and "the same command goes on where it was" in result.stderr
    monkeypatch.undo()
    os.chdir(here)
    next((here / "v.npy.partial").glob("00000002-*")).unlink()
    succeed(*typed)
    assert (here / "v.npy").read_bytes() == (many / "whole.npy").read_bytes()


def test_other_weights_are_not_gone_on_with(plain, here, monkeypatch):
    folder = shutil.copytree(plain, here / "model")
    monkeypatch.setattr("sightline.huggingface.vector_files._join", lambda *arguments: (5, 16))
    succeed("embed", folder, "texts.txt", "--out", "v.npy")
    os.utime(folder / "model.safetensors")
    result = run("embed", folder, "texts.txt", "--out", "v.npy")
    assert (
        result.exit_code == 2
        and "settings and inputs that it was begun with, got different weights; give" in result.stderr
    )


def test_two_processes_write_what_one_does(plain, many, here):
    torchrun = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc_per_node=2",
        "-m",
        "sightline.cli",
    ]
    typed = ["embed", plain, many / "many.txt", "--out", "v.npy", "--pooling", "mean"]
    done = subprocess.run([*torchrun, *map(str, typed)], capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "v.npy: 7,000 vectors of 16 numbers\n"  # said once
    assert (here / "v.npy").read_bytes() == (many / "whole.npy").read_bytes()
    assert not (here / "v.npy.partial").exists()


# ---- bad input -------------------------------------------------------------------------------------------------------


def spoilt(here, plain, name, content):
    folder = shutil.copytree(plain, here / "model")
    (folder / name).write_text(content)
    return ["embed", folder, "texts.txt", "--out", "v.npy"]


def nan_in_a_word(here, plain):
    folder = shutil.copytree(plain, here / "model")
    weights = load_file(folder / "model.safetensors")
    weights["embeddings.word_embeddings.weight"][4937] = np.nan  # "cat"
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    (here / "cats.txt").write_text("a dog\na cat\ncat\n")
    return ["embed", folder, "cats.txt", "--out", "v.npy"]


BAD = {
    "out exists": (lambda h, m: ["embed", m, "texts.txt", "--out", "texts.npy"],
        "texts.npy: expected a new file, got one that exists; .*--overwrite"),
    "out of no form": (lambda h, m: ["embed", m, "texts.txt", "--out", "v.bin"],
        r"v.bin: expected a name that ends in .npy, .parquet, .safetensors, got .bin"),
    "out under a file": (lambda h, m: ["embed", m, "texts.txt", "--out", "texts.txt/v.npy"],
        "texts.txt/v.npy.partial: expected to make a folder, got: (File exists|Not a directory)"),
    "no such file": (lambda h, m: ["embed", m, "none.txt", "--out", "v.npy"], "none.txt: cannot be read"),
    "a file of no format": (lambda h, m: ["embed", m, "notes.md", "--out", "v.npy"],
        "notes.md: expected a file whose name ends"),
    "an empty file": (lambda h, m: ["embed", m, "empty.txt", "--out", "v.npy"],
        "expected at least one text, got none; check the file"),
    "no such column": (lambda h, m: ["embed", m, "a.csv", "--text", "say", "--out", "v.npy"],
        "a.csv:2: expected a column 'say', got the columns id, said"),
    "which column": (lambda h, m: ["embed", m, "a.csv", "--out", "v.npy"],
        "a.csv:2: expected a column 'text', or no other, got id, said; name it with --text"),
    "no text": (lambda h, m: ["embed", m, "a.jsonl", "--out", "v.npy"], "a.jsonl:2: expected a text, got int"),
    "too long": (lambda h, m: ["embed", m, "long.txt", "--out", "v.npy"],
        "long.txt:2: expected at most 80 tokens, .* got 102; .*--truncate"),
    "no such model": (lambda h, m: ["embed", "no/where", "texts.txt", "--out", "v.npy"],
        "no/where: expected the folder of a Hugging Face model or a name on the hub, got no folder of this name"),
    "a config that does not read": (lambda h, m: spoilt(h, m, "config.json", "{"),
        "model: expected the folder of a Hugging Face model .*got one that does not load"),
    "a tokenizer that does not read": (lambda h, m: spoilt(h, m, "tokenizer.json", "{"),
        "model: expected a tokenizer beside the model"),
    "a mode that is none": (lambda h, m: ["embed", m, "texts.txt", "--out", "v.npy", "--pooling", "mean,best"],
        "pooling: .*got best"),
    "a precision that is none": (lambda h, m: ["embed", m, "texts.txt", "--out", "v.npy", "--precision", "int4"],
        "precision: expected float32 or bfloat16"),
    "NaN weights": (nan_in_a_word,
        "cats.txt:2: expected a vector of numbers, got one that is not finite; .* in embeddings.word_embeddings"),
    "nothing to check": (lambda h, m: ["check", "no/where"], "no/where: expected the folder of a Hugging Face model"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_sentence_and_leaves_nothing(case, here, plain, monkeypatch, capfd):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    (here / "texts.npy").write_text("the vectors of yesterday")
    (here / "empty.txt").touch()
    (here / "notes.md").write_text("# notes\n")
    (here / "a.csv").write_text("id,said\n1,so\n")
    (here / "a.jsonl").write_text('{"text": "a"}\n{"text": 3}\n')
    (here / "long.txt").write_text("short\n" + "long " * 100 + "\n")
    make, expected = BAD[case]
    typed = make(here, plain)
    before = files(here)
    capfd.readouterr()
    result = run(*typed)
    assert result.exit_code == 2, result.output
    sentences = [line for line in result.stderr.splitlines() if "so the mean is taken" not in line]
    assert len(sentences) == 1 and sentences[0].startswith("sightline: ") and result.stdout == ""
    assert re.search(expected, sentences[0]), sentences[0]
    assert files(here) == before and not list(here.glob("*.partial"))


def test_a_full_disk_loses_nothing_of_what_is_done(plain, many, here, monkeypatch):
    typed = ["embed", plain, many / "many.txt", "--out", "v.npy", "--pooling", "mean"]
    left, sync = [6], os.fsync  # a file and its folder, three times

    def full(descriptor):
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    result = run(*typed)
    assert result.exit_code == 2
    assert re.search(r"v.npy.partial/00000002-.*npy: .*No space left .*make room and try again", result.stderr)
    assert len(list((here / "v.npy.partial").iterdir())) == 3  # the note and two windows
    left[0] = 4  # for the other two, not for the whole
    result = run(*typed)
    assert result.exit_code == 2 and "whole.npy: expected to write it, got: No space left" in result.stderr
    left[0] = 99
    succeed(*typed)
    assert (here / "v.npy").read_bytes() == (many / "whole.npy").read_bytes()


def test_standard_input_is_not_shared(plain, here, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    result = run("embed", plain, "-", "--out", "v.npy", input="a\n")
    assert result.exit_code == 2 and "each of several processes can read, got standard input" in result.stderr


def test_a_folder_that_is_something_else_is_not_taken(plain, here):
    (here / "v.npy.partial").mkdir()
    (here / "v.npy.partial" / "note.json").write_text("{")
    with pytest.raises(
        ValueError, match="v.npy.partial: expected what a run that was stopped left, got a note.json that is damaged"
    ):
        embed_to_file(plain, [("one", "a")], here / "v.npy")


# ---- check, and the bar ----------------------------------------------------------------------------------------------


def test_check_prints_a_row_for_each_use_and_exits_by_them(plain, tmp_path):
    output = succeed("check", plain).stdout
    for what in ("BertModel", "routed", "padded = eager", "run = alone", "gradient = eager", "exact"):
        assert what in output
    config = BloomConfig(vocab_size=97, hidden_size=16, n_layer=1, n_head=2)
    result = run("check", save_model(tmp_path / "bloom", config))
    assert (
        result.exit_code == 1 and "refused" in result.stdout and "not exact: use this model as it is" in result.stdout
    )


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_terminal_sees_how_far_and_how_fast_and_a_file_nothing(here, monkeypatch):
    seen = {}
    for kind in (Terminal, io.StringIO):
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stderr", kind())
            patch.setenv("COLUMNS", "120")
            with _progress(str(here / "texts.txt")) as advance:
                advance(5)
            seen[kind] = sys.stderr.getvalue()
    assert "5/5" in seen[Terminal] and "texts/s" in seen[Terminal] and seen[io.StringIO] == ""


def test_a_torch_built_for_a_gpu_that_is_not_here_works_on_the_cpu(plain, no_gpu):
    from sightline.huggingface import embed

    assert embed(plain, ["The cat sat."], pooling="mean").device.type == "cpu"
