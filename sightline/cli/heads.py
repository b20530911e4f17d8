"""The command that says which head of a model does what on a corpus: a table, and the same as files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from sightline.cli.app import app


@app.command(short_help="Find out which head of a model does what on a corpus.")
def heads(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL", help="The folder of a fitted or Hugging Face model, or its name on the hub."
        ),
    ],
    corpus: Annotated[
        list[str],
        typer.Argument(
            metavar="CORPUS...",
            help="Files of .conllu, .jsonl, .ann or .txt, a folder of them, or scope; heads are chosen on these.",
        ),
    ],
    report: Annotated[
        list[Path] | None,
        typer.Option(help="Files to report on.  [default: every second text of the corpus]"),
    ] = None,
    kind: Annotated[
        str | None,
        typer.Option(help="dependencies, coreference, links, text or scope.  [default: as the files say]"),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="The folder to write.  [default: runs/heads-MODEL]")
    ] = None,
) -> None:
    """Find out which head of a model does what: for each relation between words the head that finds it best.

    A head is chosen on one part of the corpus and reported on another, beside the best fixed offset and a model with random
    weights. The folder holds heads.json, and every head's measures as Parquet; a run that was stopped goes on there.

    \b
    Examples:
        sightline heads sentence-transformers/all-MiniLM-L6-v2 en_dev.conllu --report en_test.conllu
        sightline heads runs/scope-self-attention scope
    """
    from sightline.cli.huggingface import quiet

    quiet()
    from sightline.evidence.heads.report import heads as run

    source = corpus[0] if len(corpus) == 1 else corpus
    found = run(model, source, report, kind=kind, out=out, progress=True)
    _print(found)
    for part in found["parts"]:
        for note in part["notes"]:
            print(note)


def _print(found: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    title = f"{found['model']}: {found['layers']} layers of {found['heads']} heads"
    table = Table(title=title, title_justify="left")
    for i, name in enumerate(
        ("relation", "questions", "head", "finds", "95%", "best offset", "random", "example")
    ):
        table.add_column(name, justify="right" if 0 < i < 7 else "left", no_wrap=i < 7)
    for row in sorted(found["relations"], key=lambda row: -row["counts"][1]):
        interval = "" if row["interval"] is None else "{:.1%} to {:.1%}".format(*row["interval"])
        offset = f"{_percent(row['by_offset'])} at {row['offset']:+d}"
        example = _example(row["right"][0]) if row["right"] else row["note"]
        cells = f"{row['counts'][1]:,}", f"{row['layer']}.{row['head']}", _percent(row["accuracy"]), interval
        table.add_row(row["relation"], *cells, offset, _percent(row["random"]), example)
    if found["relations"]:
        console = Console()
        Console(width=max(120, console.width)).print(table)


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share:.1%}"


def _example(example: dict[str, Any]) -> str:
    words = example["words"]
    return f"{words[example['query']]} -> {words[example['keys'][0]]}"
