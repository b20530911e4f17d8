"""The command that says which head of a model does what on a corpus: a table, and the same as files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from sightline.cli.app import app
from sightline.cli.settings import takes_settings


@app.command(short_help="Find out which head of a model does what on a corpus.")
@takes_settings("encoding")
def heads(
    model: Annotated[
        str,
        typer.Argument(metavar="MODEL", help="The folder of a fitted or Hugging Face model, or its name on the hub."),
    ],
    corpus: Annotated[
        list[str],
        typer.Argument(
            metavar="CORPUS...",
            help="Files of .conllu, .jsonl, .ann or .txt, a folder of them, scope or agreement; to choose heads on.",
        ),
    ],
    report: Annotated[
        list[Path] | None, typer.Option(help="Files to report on.  [default: every second text of the corpus]")
    ] = None,
    kind: Annotated[
        str | None, typer.Option(help="dependencies, coreference, links or text.  [default: as the files say]")
    ] = None,
    ablate: Annotated[
        bool, typer.Option("--ablate", help="Also switch the best heads off; for a model fitted to scope.")
    ] = False,
    beside: Annotated[
        Path | None,
        typer.Option(help="The folder or heads.json of another model's report on the same words, to compare with."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The folder to write.  [default: runs/heads-MODEL]")] = None,
    **settings,
) -> None:
    """Find out which head of a model does what: for each relation between words the head that finds it best.

    A head is chosen on one part of the corpus and reported on another, beside the best fixed offset and a model with
    random weights. The folder holds a page, heads.html, the same as heads.json, and every head's measures as Parquet; a
    run that was stopped goes on there.

    \b
    Examples:
        sightline heads sentence-transformers/all-MiniLM-L6-v2 en_dev.conllu --report en_test.conllu
        sightline heads runs/scope-self-attention scope --ablate
    """
    from sightline.cli.huggingface import quiet

    quiet()
    from sightline.head_roles.page_data import read_report
    from sightline.head_roles.report import folder_for
    from sightline.head_roles.report import heads as run
    from sightline.resumable import processes

    other = None if beside is None else read_report(beside)
    source = corpus[0] if len(corpus) == 1 else corpus
    roles = run(model, source, report, kind=kind, ablate=ablate, out=out, progress=True, beside=other, **settings)
    if processes().is_main_process:  # of those that torchrun started
        _show(roles, other, (out or folder_for(roles["model"])) / "heads.html")


def _show(roles: dict[str, Any], other: dict[str, Any] | None, path: Path) -> None:
    """Prints the report on a model, and writes its page."""
    from sightline.head_roles.page_data import report_page
    from sightline.lens import write_page

    data = report_page(roles, other)
    if roles["relations"]:
        _print_relations(roles)
    if roles["ablation"]:
        _print_ablation(roles["ablation"])
    for note in data["models"][0]["notes"]:
        print(note)
    print(f"The page: {write_page(data, path)}")


def _print_relations(roles: dict[str, Any]) -> None:
    from rich.table import Table

    from sightline.head_roles.choice import beats, in_order
    from sightline.head_roles.page_data import wins

    title = f"{roles['model']}: {roles['layers']} layers of {roles['heads']} heads"
    table = Table(title=title, title_justify="left")
    for i, name in enumerate(("", "relation", "questions", "head", "finds", "95%", "best offset", "random", "example")):
        table.add_column(name, justify="right" if 1 < i < 8 else "left", no_wrap=i < 8)
    for row in in_order(roles["relations"]):
        interval = "" if row["interval"] is None else "{:.1%} to {:.1%}".format(*row["interval"])
        offset = f"{_percent(row['by_offset'])} at {row['offset']:+d}"
        example = _example(row["right"][0]) if row["right"] else row["note"]
        cells = f"{row['counts'][1]:,}", f"{row['layer']}.{row['head']}", _percent(row["accuracy"]), interval
        table.add_row("*" * beats(row), row["relation"], *cells, offset, _percent(row["random"]), example)
    _print_wide(table)
    print(f"* {wins(roles)}")


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share:.1%}"


def _example(example: dict[str, Any]) -> str:
    words = example["words"]
    return f"{words[example['query']]} -> {words[example['keys'][0]]}"


def _print_ablation(ablation: dict[str, Any]) -> None:
    """The task with each of these heads switched off, overall and by distance."""
    from rich.table import Table

    measure, whole = ablation["measure"], ablation["whole"]
    table = Table(title=f"{measure} on {ablation['texts']:,} functions, without a head", title_justify="left")
    table.add_column("", no_wrap=True)
    for name in whole:
        table.add_column("all" if name == measure else name.split("@")[1], justify="right", no_wrap=True)
    rows = [("whole", whole)]
    for one in ablation["heads"]:
        rows.append((f"without {one['layer']}.{one['head']}", one["without"]))
        if one["others"]:
            rows.append((f"without another of layer {one['layer']}, mean", one["others"]))
    for title, values in rows:
        table.add_row(title, *(_percent(values.get(name)) for name in whole))
    _print_wide(table)


def _print_wide(table: Any) -> None:
    from rich.console import Console

    Console(width=max(120, Console().width)).print(table)
