"""`sightline heads` as it is typed: the folder it leaves, the page in it, another report beside it, and bad input."""

import json
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from sightline import cli
from sightline.head_roles.measuring import WINDOW
from sightline.lens import read_page
from tests.head_roles.test_planted import corpus, planted, tokenizer  # noqa: F401  fixtures


def run(*args):
    return CliRunner().invoke(cli.app, ["heads", *map(str, args)])


@pytest.fixture(scope="module")
def folder(corpus, tokenizer, tmp_path_factory):  # noqa: F811
    """A planted model and the links of its corpus, as files."""
    folder = tmp_path_factory.mktemp("command")
    model = planted()
    model.save_pretrained(folder / "model")  # without the pooler that is read from a folder, and so drawn anew
    tokenizer.save_pretrained(folder / "model")
    lines = []
    for number, document in enumerate(corpus.documents[:40]):
        questions = [i for i in range(len(corpus)) if corpus.document[i] == number and corpus.relation[i] == 0]
        links = [
            {
                "from": document.spans[corpus.query[i]].tolist(),
                "to": document.spans[corpus.keys[corpus.offsets[i]]].tolist(),
                "relation": "det",
            }
            for i in questions
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
            [sys.executable, *torchrun, "heads", *map(str, typed)], capture_output=True, text=True, timeout=200
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("The page: ") == done.stderr.count("The folder: ") == 1
    files = sorted(file.relative_to(folder / "1") for file in (folder / "1").rglob("*") if file.is_file())
    assert files == sorted(file.relative_to(folder / "2") for file in (folder / "2").rglob("*") if file.is_file())
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


def test_relations_that_beat_their_baselines_are_printed_first_and_marked(capsys):
    from sightline.cli.heads import _print_relations

    def row(name, questions, low):
        by = {"offset": -1, "by_offset": 0.2, "by_nearest": 0.1, "by_same_word": 0.0, "random": 0.1}
        return by | {
            "relation": name, "counts": [9, questions], "layer": 0, "head": 1, "accuracy": 0.5, "interval": [0.4, 0.6],
            "ahead": [low, 0.4], "right": [], "note": "",
        }  # fmt: skip

    rows = [row("nsubj", 900, -0.1), row("amod", 20, 0.2), row("det", 300, 0.1)]
    _print_relations({"model": "m", "layers": 1, "heads": 2, "relations": rows})
    lines = capsys.readouterr().out.splitlines()
    shown = [line for line in lines if any(name in line for name in ("nsubj", "amod", "det"))]
    assert [next(word for word in line.replace("\u2502", " ").split() if word != "*") for line in shown] == [
        "det",
        "amod",
        "nsubj",
    ]
    assert ["*" in line for line in shown] == [True, True, False]
    assert lines[-1].startswith("* In 2 of 3 relations a head of m beats what needs no trained model")


def test_two_runs_do_not_share_a_folder(folder):
    from sightline.files import locked

    with locked(folder / "held"):
        result = run(folder / "model", folder / "det.jsonl", "--out", folder / "held")
    assert result.exit_code == 2 and "held" in result.output


def test_texts_are_read_by_the_one_reader(folder):
    from sightline.head_roles.corpus import corpus_of

    (folder / "ff.txt").write_bytes("\ufeffone two\x0cthree\nfour\u2028five\r\nsix\x85seven\n".encode())
    names = [document.name for document in corpus_of(folder / "ff.txt").documents]
    assert names == ["ff.txt:1", "ff.txt:2", "ff.txt:3"]
    assert corpus_of(folder / "ff.txt").documents[0].words[0] == "one"
    (folder / "latin.txt").write_bytes("caf\u00e9 noir\nun th\u00e9 noir".encode("latin-1"))
    assert corpus_of(folder / "latin.txt", encoding="latin-1").documents[0].words == ("caf\u00e9", "noir")
    (folder / "latin.jsonl").write_bytes(
        '{"text": "caf\u00e9 noir", "links": [{"from": [0, 4], "to": [5, 9]}]}'.encode("latin-1")
    )
    assert corpus_of(folder / "latin.jsonl", encoding="latin-1").documents[0].words[0] == "caf\u00e9"
    result = run(folder / "model", folder / "latin.txt", "--out", folder / "latin")
    assert result.exit_code == 2 and "latin.txt" in result.output
    result = run(folder / "model", folder / "latin.txt", "--encoding", "latin-1", "--out", folder / "latin")
    assert result.exit_code == 0 and (folder / "latin" / "heads.html").exists(), result.output
