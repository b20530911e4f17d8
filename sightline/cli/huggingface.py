"""The commands for models of the Hugging Face hub: vectors of texts without padding, and a check that this is exact."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from sightline.cli.app import app
from sightline.cli.settings import takes_settings
from sightline.textfiles import printable_path

Model = Annotated[str, typer.Argument(metavar="MODEL", help="The folder of a model, or its name on the hub.")]


Tokens = Annotated[int | None, typer.Option(help="Tokens per batch.  [default: 2048 on a CPU, else 16384]")]
File = Annotated[
    str, typer.Argument(help="Texts: .txt (one a line), .jsonl, .csv, .tsv or .parquet; - is standard input.")
]
Out = Annotated[Path, typer.Option(help="What to write: a name that ends in .npy, .parquet or .safetensors.")]
Text = Annotated[str | None, typer.Option(help="The column to read.  [default: text, or the only one]")]
Keep = Annotated[
    list[str] | None,
    typer.Option(metavar="COLUMN", help="A column to keep beside text and vector, in .parquet; may be repeated."),
]
Pooling = Annotated[
    str | None,
    typer.Option(
        help="cls, max, mean, mean_sqrt_len_tokens, weightedmean, lasttoken, or several with commas between.  "
        "[default: as the model says]"
    ),
]
Normalize = Annotated[
    bool | None,
    typer.Option("--normalize/--no-normalize", help="Vectors of length 1, or not.  [default: as the model says]"),
]


@app.command(short_help="Vectors of texts by any Hugging Face model, without padding.")
@takes_settings("encoding")
def embed(
    model: Model,
    file: File,
    out: Out,
    text: Text = None,
    keep: Keep = None,
    pooling: Pooling = None,
    normalize: Normalize = None,
    truncate: Annotated[
        bool, typer.Option("--truncate", help="Cut texts that are longer than the model takes.")
    ] = False,
    precision: Annotated[str, typer.Option(help="float32 or bfloat16, of the model; vectors are float32.")] = "float32",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, ...")] = "auto",
    tokens: Tokens = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Write over a file that exists.")] = False,
    **settings,
) -> None:
    """Vectors of texts by any Hugging Face model, without padding: one for each line or record, in their order.

    Pooling, normalisation, the longest text and a prompt are as the model's folder says. The file may be of any size;
    memory is bounded, and all texts are looked at before the first is computed, unless they come from a pipe. A run
    that was stopped goes on with the same command; what is done waits in OUT.partial.

    \b
    Examples:
        sightline embed sentence-transformers/all-MiniLM-L6-v2 texts.txt --out vectors.npy
        sightline embed models/e5 reviews.csv --text review --keep id --out reviews.parquet --truncate
        zcat pages.jsonl.gz | sightline embed models/e5 - --out pages.safetensors --precision bfloat16
        torchrun --nproc-per-node 4 -m sightline.cli embed models/e5 texts.txt --out vectors.npy
    """
    quiet()
    if file == "-" and int(os.environ.get("WORLD_SIZE", 1)) > 1:
        raise ValueError(
            "embed: expected a file that each of several processes can read, got standard input; write it to a file "
            "first"
        )
    if file != "-" and out.exists() and Path(file).exists() and out.samefile(file):
        raise ValueError(
            f"{out}: expected another file to write than the one to read, got the same; name another --out"
        )
    keep = [name.strip() for names in keep or () for name in names.split(",")]
    texts = _Texts(file, text, keep, **settings)
    from sightline.huggingface.vector_files import embed_to_file

    with _progress(file) as advance:
        count, width = embed_to_file(
            model,
            texts if Path(file).is_file() else iter(texts),  # a pipe is read once
            out,
            keep=keep,
            pooling=pooling and [mode.strip() for mode in pooling.split(",")],
            normalize=normalize,
            truncate=truncate,
            precision=precision,
            device=None if device == "auto" else device,
            tokens=tokens,
            overwrite=overwrite,
            advance=advance,
        )
    if width:  # the main process
        print(f"{printable_path(out)}: {count:,} vectors of {width:,} numbers")


@app.command(short_help="Say whether a Hugging Face model can be run without padding, exactly.")
def check(model: Model) -> None:
    """Say whether a Hugging Face model can be run without padding, exactly: each way of use beside eager attention.

    \b
    Examples:
        sightline check sentence-transformers/all-MiniLM-L6-v2
        sightline check models/my-own && sightline embed models/my-own texts.txt --out vectors.npy

    The exit code is 0 only if the model is exact.
    """
    quiet()
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from sightline.huggingface import check as run
    from sightline.huggingface.loading import load_model

    loaded = load_model(model, headed=True)
    checked = run(loaded)
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in (type(loaded).__name__, "outcome", "error", ""):
        table.add_column(name, justify="right" if name == "error" else "left")
    for row in checked.rows:
        error = "" if row.error is None else f"{row.error:.1e}"
        table.add_row(*map(escape, (row.what, row.outcome, error, row.sentence)))
    Console().print(table)
    print("exact" if checked.exact else "not exact: use this model as it is")
    raise typer.Exit(0 if checked.exact else 1)


def quiet() -> None:
    """Others' reports of loading go nowhere; their bars only to a terminal. A setting of the user's own stays."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    if not sys.stderr.isatty():
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")


class _Texts:
    """The texts of a file, each with its file and line, and the values of the columns that are kept."""

    def __init__(self, file: str, column: str | None, keep: list[str], encoding: str | None = None):
        self.file, self.column, self.keep, self.encoding = file, column, keep, encoding

    def __iter__(self) -> Iterator[tuple]:
        from sightline.tasks import read_records

        column = self.column
        for record in read_records(self.file, self.encoding):
            for name in self.keep:
                if name not in record.fields:
                    record.get(name)  # raises
            if column is None:
                columns = [name for name in record.fields if name not in self.keep]
                if "text" not in columns and len(columns) != 1:
                    raise ValueError(
                        f"{record.where}: expected a column 'text', or no other, got {', '.join(columns) or 'none'}; "
                        "name it with --text"
                    )
                column = "text" if "text" in columns else columns[0]
            yield record.where, record.get(column), *(record.fields[name] for name in self.keep)


@contextmanager
def _progress(file: str) -> Iterator:
    """A bar on a terminal: how many texts of how many, how many a second, how long still. Gives what moves it."""
    from rich import progress as rich
    from rich.console import Console

    class Rate(rich.ProgressColumn):
        def render(self, task) -> str:
            return f"{task.finished_speed or task.speed or 0:,.0f} texts/s"

    bar = rich.Progress(
        rich.TextColumn("{task.description}"),
        rich.BarColumn(),
        rich.MofNCompleteColumn(),
        Rate(),
        rich.TimeRemainingColumn(elapsed_when_finished=True),
        console=Console(stderr=True),
        disable=not sys.stderr.isatty(),
    )
    with bar:
        task = bar.add_task("embed", total=_lines(file) if sys.stderr.isatty() else None)
        yield lambda done: bar.advance(task, done)


def _lines(file: str) -> int | None:
    """About how many texts a file has: its lines; None where that takes reading it in another way."""
    path = Path(file)
    if path.suffix.lower() not in (".txt", ".csv", ".tsv", ".jsonl", ".ndjson") or not path.is_file():
        return None
    with open(path, "rb") as stream:
        return sum(part.count(b"\n") for part in iter(lambda: stream.read(1 << 20), b""))
