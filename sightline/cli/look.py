"""The command that shows what a model looks at in a text: one page, and on request which heads join two words."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from sightline.cli.app import app
from sightline.cli.settings import takes_settings
from sightline.textfiles import printable_path, read_text

LISTED = 5  # heads, of those that join two words
FILES = (".txt", ".md", ".rst", ".py", ".csv", ".tsv", ".json", ".jsonl", ".html", ".xml", ".log")


@app.command(short_help="See what each head of a model looks at in a text.")
@takes_settings("encoding")
def look(
    model: Annotated[
        str,
        typer.Argument(metavar="MODEL", help="The folder of a fitted or Hugging Face model, or its name on the hub."),
    ],
    text: Annotated[str, typer.Argument(metavar="TEXT|FILE", help="The text, or a file of it; - is standard input.")],
    link: Annotated[
        str | None,
        typer.Option(help="Two words with a colon between: which heads join them? its:2:Law takes the second its."),
    ] = None,
    layer: Annotated[int | None, typer.Option(help="The layer the page opens with, from 0.")] = None,
    head: Annotated[int | None, typer.Option(help="The head of it, from 0.  [default: their mean]")] = None,
    out: Annotated[Path | None, typer.Option(help="The page to write.  [default: look.html]")] = None,
    serve: Annotated[
        bool, typer.Option("--serve", help="Serve the page to a browser on this machine; for long texts.")
    ] = False,
    port: Annotated[int | None, typer.Option(help="Of the server.  [default: any that is free]")] = None,
    **settings,
) -> None:
    """See what each head of a model looks at in a text: one HTML file that needs no network.

    Click a word to see what it looks at and what looks at it; every layer and head stands beside it. A text too long
    for a file is served: the browser asks for what is in sight, and Ctrl-C ends it.

    \b
    Examples:
        sightline look sentence-transformers/all-MiniLM-L6-v2 "The cat that chased its tail is tired." --link its:cat
        sightline look runs/reviews-self-attention review.txt --layer 2 --head 0 --out review.html
        sightline look runs/book book.txt --serve
    """
    if serve and out is not None:
        raise ValueError(f"look: expected --serve or a page to write, got both; leave out --serve or --out {out}")
    if port is not None and not serve:
        raise ValueError(f"look: expected --serve with --port, got --port {port} alone; add --serve")
    from sightline.cli.huggingface import quiet
    from sightline.lens import look as run
    from sightline.lens import write_page
    from sightline.lens.server import serve as run_server

    quiet()
    options = {"link": link, "layer": layer, "head": head}
    if serve:
        text, progress = _read(text, **settings), sys.stderr.isatty()
        return run_server(model, text, **options, port=port or 0, progress=progress, announce=_print_address)
    out = out or Path("look.html")
    check_page(out, "--out")  # not after the seconds this takes
    data = run(model, _read(text, **settings), **options)
    if data["link"]:
        _print_link(data)
    out.parent.mkdir(parents=True, exist_ok=True)
    print(f"The page: {write_page(data, out)}")


def _print_address(address: str) -> None:
    print(f"The page: {address}\nCtrl-C ends it.", flush=True)


def check_page(path: Path, option: str) -> None:
    """Raises: ValueError where `path` is a file that is no page of ours, which is not overwritten."""
    from sightline.lens import read_page

    if path.is_dir():
        raise ValueError(f"{path}: expected a file to write the page to, got a folder; name a file in it with {option}")
    if not path.is_file():  # none yet, or a device or a pipe, in which nothing is lost
        return
    try:
        read_page(path)
    except (ValueError, RecursionError):
        raise ValueError(
            f"{path}: expected a page of ours to write over, got another file; name another {option}"
        ) from None


def _read(text: str, encoding: str | None = None) -> str:
    """The text itself, that of a file, or that of standard input."""
    try:
        is_name = text == "-" or Path(text).exists() and (os.sep in text or not Path(text).is_dir())
    except (OSError, ValueError):  # too long for a name, or holds what no name may
        return text
    if is_name:
        return read_text(text, encoding)
    if not any(map(str.isspace, text)) and text.lower().endswith(FILES):
        raise ValueError(f"{printable_path(text)}: expected a text or a file, got the name of no file; check the path")
    return text


def _print_link(data: dict) -> None:
    link, spelled = data["link"], [text for _, text in data["words"]]
    words = [
        f"{word}:{spelled[: i + 1].count(word)}" if spelled.count(word) > 1 else word for i, word in enumerate(spelled)
    ]
    for ranked, one, other in ((link["there"], "from", "to"), (link["back"], "to", "from")):
        print(f"{words[link[one]]} -> {words[link[other]]}")
        for view, weight in ranked[:LISTED]:
            layer, head = view.split(".")
            print(f"  layer {layer}, head {head}: {weight:.0%}")
