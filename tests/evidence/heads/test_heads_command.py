"""`sightline heads` as it is typed: the folder it leaves, the page in it, another report beside it, and bad input."""

import json
import subprocess
import sys

import pytest
from test_planted import corpus, planted, tokenizer  # noqa: F401  fixtures
from typer.testing import CliRunner

from sightline import cli
from sightline.evidence.heads.measuring import WINDOW
from sightline.lens import read_page


def run(*args):
    return CliRunner().invoke(cli.app, ["heads", *map(str, args)])


@pytest.fixture(scope="module")
def folder(corpus, tokenizer, tmp_path_factory):  # noqa: F811
    """A planted model and the links of its corpus, as files."""
    folder = tmp_path_factory.mktemp("command")
    model = planted()
    model.save_pretrained(
        folder / "model"
    )  # without the pooler that is read from a folder, and so drawn anew
    tokenizer.save_pretrained(folder / "model")
    lines = []
    for number, document in enumerate(corpus.documents[:40]):
        mine = [i for i in range(len(corpus)) if corpus.document[i] == number and corpus.relation[i] == 0]
        links = [
            {
                "from": document.spans[corpus.query[i]].tolist(),
                "to": document.spans[corpus.keys[corpus.offsets[i]]].tolist(),
                "relation": "det",
            }
            for i in mine
        ]
        lines.append(json.dumps({"text": document.text, "links": links}))
    (folder / "det.jsonl").write_text("\n".join(lines))
    (folder / "others.jsonl").write_text("\n".join(lines[:30]))
    return folder


def test_a_page_stands_in_the_folder_and_another_beside_it(folder):
    result = run(folder / "model", folder / "det.jsonl", "--out", folder / "one")
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[-1] == f"The page: {folder / 'one' / 'heads.html'}"
    alone = read_page(folder / "one" / "heads.html")
    assert [one["name"] for one in alone["relations"]] == ["det"]
    best = alone["relations"][0]["models"][0]
    assert (best["layer"], best["head"], best["accuracy"]) == (0, 3, 1.0) and best["right"]
    result = run(folder / "model", folder / "det.jsonl", "--out", folder / "one", "--beside", folder / "one")
    assert result.exit_code == 0, result.output
    both = read_page(folder / "one" / "heads.html")
    assert both["models"] == alone["models"] * 2
    assert both["relations"][0]["models"] == alone["relations"][0]["models"] * 2


@pytest.mark.long
def test_two_processes_find_the_same_bits_and_one_writes(folder, monkeypatch):
    lines = (folder / "det.jsonl").read_text().splitlines()
    (folder / "many.jsonl").write_text("\n".join(lines * (1 + WINDOW // len(lines))))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # products of several threads are other bits
    for count in (1, 2):
        torchrun = f"-m torch.distributed.run --standalone --nproc_per_node={count} -m sightline.cli".split()
        typed = [
            folder / "model",
            folder / "many.jsonl",
            "--report",
            folder / "many.jsonl",
            "--out",
            folder / str(count),
        ]
        done = subprocess.run(
            [sys.executable, *torchrun, "heads", *map(str, typed)],
            capture_output=True,
            text=True,
            timeout=200,
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("The page: ") == done.stderr.count("The folder: ") == 1
    files = sorted(file.relative_to(folder / "1") for file in (folder / "1").rglob("*") if file.is_file())
    assert files == sorted(
        file.relative_to(folder / "2") for file in (folder / "2").rglob("*") if file.is_file()
    )
    assert sum(file.suffix == ".safetensors" for file in files) == 4 * 2
    for file in files:
        assert (folder / "1" / file).read_bytes() == (folder / "2" / file).read_bytes(), file


def test_bad_input_is_one_sentence(folder):
    result = run(folder / "model", folder / "det.jsonl", "--ablate", "--out", folder / "no")
    assert result.exit_code == 2 and "expected with ablate a model fitted to scope" in result.stderr
    result = run(folder / "model", folder / "det.jsonl", "--beside", folder / "gone", "--out", folder / "no")
    assert result.exit_code == 2 and "expected the heads.json of a report" in result.stderr
    assert not (folder / "no").exists()
    assert run(folder / "model", folder / "others.jsonl", "--out", folder / "others").exit_code == 0
    args = "--beside", folder / "others", "--out", folder / "two"
    result = run(folder / "model", folder / "det.jsonl", *args)
    assert result.exit_code == 2 and "expected beside it a report on the same words" in result.stderr
    assert not (folder / "two" / "heads.html").exists()
