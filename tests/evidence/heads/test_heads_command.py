"""`sightline heads` as it is typed: the folder it leaves, the page in it, another report beside it, and bad input."""

import json

import pytest
from test_planted import corpus, planted, tokenizer  # noqa: F401  fixtures
from typer.testing import CliRunner

from sightline import cli
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
