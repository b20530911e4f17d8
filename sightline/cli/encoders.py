"""The commands for encoders of one's own: fit one, measure it, use it, and find out which serves the data."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from pathlib import Path
from time import perf_counter
from typing import Annotated, Any, TextIO

import typer

from sightline.cli.app import app
from sightline.files import replacing

# What fit and compare share, by the names of the configuration, which checks it; a test holds the defaults said here.
Data = Annotated[
    str,
    typer.Argument(
        help="A file, a folder with train, valid and test files, a name on the hub, scope, or a generated task such as parity:length=1-40 (docs/tasks.md)."
    ),
]
Task = Annotated[str | None, typer.Option(help="classify, tag, regress or language.  [default: by the columns]")]
Text = Annotated[str | None, typer.Option(help="The column to read.  [default: by the columns]")]
Label = Annotated[str | None, typer.Option(help="The column to learn.  [default: by the columns]")]
Tokenizer = Annotated[
    str | None, typer.Option(help="bytes, characters, words, bpe, or a tokenizer.json.  [default: by the task]")
]
Valid = Annotated[str | None, typer.Option(help="A file to validate on.  [default: a tenth of the data]")]
Test = Annotated[str | None, typer.Option(help="A file to test on.  [default: a tenth of a single file]")]
Encoding = Annotated[
    str | None,
    typer.Option(help="Of text files, such as latin-1 or cp1252.  [default: utf-8, or as a file's mark says]"),
]
Separator = Annotated[
    str | None, typer.Option(help="What parts the columns of a .csv or .tsv: ';', tab, ...  [default: by the file]")
]
Width = Annotated[int | None, typer.Option(help="Numbers per row.  [default: 128; compare: 64]")]
Layers = Annotated[int | None, typer.Option(help="Blocks.  [default: 3]")]
Tokens = Annotated[int | None, typer.Option(help="Tokens per batch.  [default: 4096; compare: 1024]")]
Steps = Annotated[int | None, typer.Option(help="Budget: steps.")]
Precision = Annotated[str | None, typer.Option(help="float32 or bfloat16.  [default: float32]")]
Others = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="Any other setting of a run's config.json; may be repeated."),
]
SETTINGS = (
    "task",
    "text",
    "label",
    "tokenizer",
    "valid",
    "test",
    "encoding",
    "separator",
    "width",
    "layers",
    "tokens",
    "steps",
    "epochs",
    "seconds",
)
SETTINGS += ("rate", "seed", "precision")
INSTEAD = {"encoder": "name it with --encoder, of compare with --encoders", "data": "name it as the argument"}
Model = Annotated[Path, typer.Argument(metavar="MODEL", help="The folder of a fitted model.")]


@app.command()
def fit(
    ctx: typer.Context,
    data: Data,
    task: Task = None,
    text: Text = None,
    label: Label = None,
    tokenizer: Tokenizer = None,
    valid: Valid = None,
    test: Test = None,
    encoding: Encoding = None,
    separator: Separator = None,
    encoder: Annotated[
        str | None,
        typer.Option(help="self-attention, rnn, lstm, convolution or fully-connected.  [default: self-attention]"),
    ] = None,
    width: Width = None,
    layers: Layers = None,
    tokens: Tokens = None,
    steps: Steps = None,
    epochs: Annotated[int | None, typer.Option(help="Budget: passes over the data.")] = None,
    seconds: Annotated[
        float | None,
        typer.Option(
            help="Budget: seconds of training with its evaluations; reading and the test come on top.  [default: 1000 steps]"
        ),
    ] = None,
    rate: Annotated[float | None, typer.Option(help="Learning rate at its peak.  [default: 0.001]")] = None,
    seed: Annotated[int | None, typer.Option(help="Of weights, order and dropout.  [default: 0]")] = None,
    precision: Precision = None,
    others: Others = None,
    config: Annotated[Path | None, typer.Option(help="A config.json to start from; every run leaves one.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder to leave the model in.  [default: runs/DATA-ENCODER]")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a run that was stopped.")] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Remove a run that is in the folder, and begin anew.")
    ] = False,
) -> None:
    """Train an encoder on your sequences.

    The task is chosen from the columns: a label of few values is classified, numbers are regressed, tags, one for each word, are
    tagged, and a .txt is learned as language. What was chosen is said before training; --task, --text and --label say otherwise.

    Besides text, reads .npz: values [T, F], offsets [S + 1] where each sequence begins, and a label for each, [S], or row, [T].

    \b
    Examples:
        sightline fit reviews.csv --text review --label stars
        sightline fit treebank/ --encoder lstm --seconds 300
        sightline fit plays.txt --steps 2000 --set context=64 --out runs/plays
        sightline fit sensors.npz --task regress --config runs/old/config.json
    """
    from sightline.training.fit import fit as run

    began = perf_counter()
    model = run(data, encoder=encoder, config=config, out=out, resume=resume, overwrite=overwrite, **_settings(ctx))
    print(f"{model.results['parameters']:,} parameters; best at step {model.results['step']:,}")
    if model.config.training.seconds and model.history:
        print(
            f"{perf_counter() - began:.0f} s in all, {model.history[-1]['seconds']:.0f} of them training; the others went into "
            "reading, evaluating and the test"
        )
    _print_measures({part: model.results[part] for part in ("valid", "test") if part in model.results})


@app.command(short_help="Measure a fitted model on labelled data.")
def evaluate(
    model: Model,
    data: Annotated[
        str, typer.Argument(help="A labelled file, or what the model was fitted on, of which its test part.")
    ],
    as_json: Annotated[bool, typer.Option("--json", help="One line of JSON instead of a table.")] = False,
    encoding: Encoding = None,
    separator: Separator = None,
) -> None:
    """Measure a fitted model on labelled data.

    A file is measured whole, unless it is the one that the model was fitted on: of that it is the part that was set aside to
    test on, as it is of a folder, of scope and of a generated task.

    \b
    Examples:
        sightline evaluate runs/reviews-lstm held-out.csv
        sightline evaluate runs/scope-self-attention scope --json
    """
    from sightline.training.fit import evaluate as run

    measures = run(model, data, encoding=encoding, separator=separator)
    if as_json:
        print(json.dumps(measures))
    else:
        _print_measures({data: measures})


@app.command()
def predict(
    model: Model,
    file: Annotated[
        str, typer.Argument(help="What to answer for; - is standard input: JSON Lines or plain lines.")
    ] = "-",
    out: Annotated[Path | None, typer.Option(help="A file to write instead of standard output.")] = None,
    encoding: Encoding = None,
    separator: Separator = None,
    probabilities: Annotated[
        bool, typer.Option("--probabilities", help="The probability of every label, too.")
    ] = False,
) -> None:
    """Answer for each record, as JSON Lines.

    \b
    Examples:
        sightline predict runs/reviews-lstm new.csv --out answers.jsonl --probabilities
        echo "A joy to read." | sightline predict runs/reviews-lstm
    """
    from sightline.training.fit import predict as run

    with _lines_to(out) as stream:
        for answer in run(model, file, probabilities, encoding=encoding, separator=separator):
            stream.write(json.dumps(answer, ensure_ascii=False) + "\n")


@app.command()
def generate(
    model: Model,
    prompt: Annotated[str, typer.Option(help="What to go on from.")] = "",
    length: Annotated[int, typer.Option(help="New tokens at most.")] = 200,
    temperature: Annotated[float, typer.Option(help="0 takes the likeliest token, 1 draws as learned.")] = 1.0,
    top_k: Annotated[int | None, typer.Option(help="Draw from so many likeliest tokens.  [default: all]")] = None,
    seed: Annotated[int, typer.Option(help="Of the draws.")] = 0,
) -> None:
    """Write on from a prompt with a model of language.

    \b
    Examples:
        sightline fit plays.txt --out runs/plays
        sightline generate runs/plays --prompt "ROMEO:" --length 500 --temperature 0.8
    """
    from sightline.training.fit import generate as run

    pieces = run(model, prompt, length=length, temperature=temperature, top_k=top_k, seed=seed)
    _in_utf8(sys.stdout).write(prompt)
    for piece in pieces:
        sys.stdout.write(piece)
        sys.stdout.flush()
    print()


@app.command(short_help="Find out which encoder serves your data.")
def compare(
    ctx: typer.Context,
    data: Data,
    encoders: Annotated[str, typer.Option(help="all, or some of them with commas between.")] = "all",
    seconds: Annotated[float | None, typer.Option(help="Training time of each.  [default: 40]")] = None,
    steps: Steps = None,
    seeds: Annotated[int, typer.Option(help="How many times, with seeds 0, 1, ...")] = 1,
    rates: Annotated[
        str, typer.Option(help="Learning rates to choose from, as in 1e-3,3e-3; each costs the whole time.")
    ] = "",
    task: Task = None,
    text: Text = None,
    label: Label = None,
    tokenizer: Tokenizer = None,
    valid: Valid = None,
    test: Test = None,
    encoding: Encoding = None,
    separator: Separator = None,
    width: Width = None,
    layers: Layers = None,
    tokens: Tokens = None,
    precision: Precision = None,
    others: Others = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the runs.  [default: runs/compare-DATA]")] = None,
    report: Annotated[Path | None, typer.Option(help="A page to write: one HTML file that needs no network.")] = None,
) -> None:
    """Find out which encoder serves your data: all in one size, each for the same time, one after the other.

    \b
    Examples:
        sightline compare scope --report report.html
        sightline compare reviews.csv --label stars --seconds 120 --seeds 3
        sightline compare treebank/ --encoders self-attention,lstm --rates 1e-3,3e-3

    What is finished in the folder is not done again.
    """
    from sightline.cli.look import check_page  # here, since commands are listed in the order of their import
    from sightline.comparison import compare as run
    from sightline.comparison import table
    from sightline.encoders import KINDS
    from sightline.lens import write_page

    settings = _settings(ctx)
    if report is not None:  # not after the minutes this takes
        check_page(report, "--report")
        report.parent.mkdir(parents=True, exist_ok=True)
    found = run(
        data,
        encoders=KINDS if encoders == "all" else [name.strip() for name in encoders.split(",")],
        seeds=seeds,
        rates=_numbers("--rates", rates),
        out=out,
        progress=sys.stderr.isatty(),
        **settings,
    )
    console = _wide_enough(table(found))
    console.print(table(found))
    console.print()
    for sentence in found["sentences"] + found["notes"]:
        console.print(sentence, markup=False, highlight=False)
    if report is not None:
        print(f"\nThe page: {write_page(found, report)}")


# ---- what the commands share -------------------------------------------------------------------------------------------


def _settings(ctx: typer.Context) -> dict[str, Any]:
    """The options that are settings of a run, by name; of --set, a value that reads as JSON is what it says, else text."""
    from sightline.training.config import nearest, setting_names

    settings = {name: ctx.params[name] for name in SETTINGS if name in ctx.params}
    for pair in ctx.params["others"] or []:
        name, equals, value = pair.partition("=")
        if not equals:
            raise ValueError(f"--set: expected NAME=VALUE, as in heads=8, got {pair!r}")
        if name not in setting_names() or name == "data":
            hint = INSTEAD.get(name) or nearest(name, list(setting_names()))
            raise ValueError(f"--set: expected the name of a setting, got {name}; {hint}")
        try:
            settings[name] = json.loads(value)
        except (ValueError, RecursionError):
            settings[name] = value
    return settings


def _numbers(option: str, given: str) -> list[float]:
    try:
        return [float(number) for number in given.split(",") if number.strip()]
    except ValueError:
        raise ValueError(f"{option}: expected numbers with commas between, as in 1e-3,3e-3, got {given!r}") from None


def _print_measures(parts: dict[str, dict[str, float]]) -> None:
    """A row for each measure, of which there may be many, a column for each part of the data."""
    from rich.markup import escape
    from rich.table import Table

    shown = Table(box=None, pad_edge=False, header_style="dim")
    shown.add_column("")
    for part in parts:
        shown.add_column(escape(part), justify="right")
    for name in dict.fromkeys(name for measures in parts.values() for name in measures):
        cells = (f"{found[name]:.4g}" if name in found else "–" for found in parts.values())
        shown.add_row(escape(name), *cells)
    _wide_enough(shown).print(shown)


def _wide_enough(table: Any) -> Any:
    """A console in which no number of the table is cut in two, nor any heading."""
    from rich.console import Console

    return Console(width=max(Console().width, Console(width=1000).measure(table).maximum))


def _in_utf8(stream: TextIO) -> TextIO:
    """A stream in which programs, too, read what is written, whatever the letters of the terminal are."""
    if hasattr(stream, "reconfigure"):
        stream.reconfigure(encoding="utf-8", errors="backslashreplace")
    return stream


@contextmanager
def _lines_to(path: Path | None) -> Iterator[TextIO]:
    """Standard output, or a file that appears when it is whole and leaves no trace otherwise; a device or pipe stays one."""
    if path is None:
        yield _in_utf8(sys.stdout)
        return
    with replacing(path, named=True) as file:
        stream = TextIOWrapper(file, "utf-8")
        yield stream
        stream.detach()  # flushed, and left open for what follows
