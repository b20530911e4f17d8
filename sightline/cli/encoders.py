"""The commands for encoders of one's own: fit one, measure it, use it, and compare encoders on one's data."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from time import perf_counter
from typing import Annotated

import typer

from sightline.cli.app import app
from sightline.cli.output import answer_stream, print_measures, print_table, utf8
from sightline.cli.settings import COMPARE, FIT, Others, merged, takes_settings

Model = Annotated[Path, typer.Argument(metavar="MODEL", help="The folder of a fitted model.")]


@app.command()
@takes_settings("data", "encoder", *FIT)
def fit(
    data: str,
    *,
    others: Others = None,
    config: Annotated[Path | None, typer.Option(help="A config.json to start from; every run leaves one.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder to leave the model in.  [default: runs/DATA-ENCODER]")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue a run that was stopped.")] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Remove the run in the folder, and begin a new one.")
    ] = False,
    **settings,
) -> None:
    """Train an encoder on your sequences.

    The task is chosen from the columns: a label of few values is classified, numbers are regressed, tags, one for each
    word, are tagged, and a .txt is learned as language. The choice is printed before training; --task, --text and
    --label change it. --seconds include evaluations; reading the data and the test come on top.

    Besides text, reads .npz: values [T, F], offsets [S + 1] where each sequence begins, and a label for each, [S], or
    row, [T].

    \b
    Examples:
        sightline fit reviews.csv --text review --label stars
        sightline fit treebank/ --encoder lstm --seconds 300
        sightline fit plays.txt --steps 2000 --set context=64 --out runs/plays
        sightline fit sensors.npz --task regress --config runs/old/config.json
    """
    from sightline.training import runs

    began = perf_counter()
    settings = merged(settings, others)
    model = runs.fit(data, config=config, out=out, resume=resume, overwrite=overwrite, **settings)
    print(f"{model.results['parameters']:,} parameters; best at step {model.results['step']:,}")
    if model.config.training.seconds and model.history:
        training = model.history[-1]["seconds"]
        print(f"{perf_counter() - began:.0f} s in all, {training:.0f} of them training; the others went into ", end="")
        print("reading, evaluating and the test")
    print_measures({part: model.results[part] for part in ("valid", "test") if part in model.results})


@app.command(short_help="Measure a fitted model on labelled data.")
@takes_settings("encoding", "separator")
def evaluate(
    model: Model,
    data: Annotated[
        str, typer.Argument(help="A labelled file, or the data the model was fitted on, of which its test part.")
    ],
    *,
    as_json: Annotated[bool, typer.Option("--json", help="One line of JSON instead of a table.")] = False,
    **settings,
) -> None:
    """Measure a fitted model on labelled data.

    A file is measured whole, but of the file that the model was fitted on, as of a folder, scope or a generated task,
    only the test part is.

    \b
    Examples:
        sightline evaluate runs/reviews-lstm held-out.csv
        sightline evaluate runs/scope-self-attention scope --json
    """
    from sightline.training import runs

    measures = runs.evaluate(model, data, **settings)
    if as_json:
        print(json.dumps(measures))
    else:
        print_measures({data: measures})


@app.command()
@takes_settings("encoding", "separator")
def predict(
    model: Model,
    file: Annotated[
        str, typer.Argument(help="Records to answer for; - is standard input: JSON Lines or plain lines.")
    ] = "-",
    *,
    out: Annotated[Path | None, typer.Option(help="A file to write instead of standard output.")] = None,
    probabilities: Annotated[
        bool, typer.Option("--probabilities", help="Also the probability of every label.")
    ] = False,
    **settings,
) -> None:
    """Answer for each record, as JSON Lines.

    \b
    Examples:
        sightline predict runs/reviews-lstm new.csv --out answers.jsonl --probabilities
        echo "A joy to read." | sightline predict runs/reviews-lstm
    """
    from sightline.training import runs

    with answer_stream(out) as stream:
        for answer in runs.predict(model, file, probabilities, **settings):
            stream.write(json.dumps(answer, ensure_ascii=False) + "\n")


@app.command()
def generate(
    model: Model,
    prompt: Annotated[str, typer.Option(help="Text to continue.")] = "",
    length: Annotated[int, typer.Option(help="New tokens at most.")] = 200,
    temperature: Annotated[float, typer.Option(help="0 takes the likeliest token, 1 draws as learned.")] = 1.0,
    top_k: Annotated[int | None, typer.Option(help="Draw from so many likeliest tokens.  [default: all]")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the draws.")] = 0,
) -> None:
    """Continue a prompt with a model of language.

    \b
    Examples:
        sightline fit plays.txt --out runs/plays
        sightline generate runs/plays --prompt "ROMEO:" --length 500 --temperature 0.8
    """
    from sightline.training import runs

    pieces = runs.generate(model, prompt, length=length, temperature=temperature, top_k=top_k, seed=seed)
    utf8(sys.stdout).write(prompt)
    for piece in pieces:
        sys.stdout.write(piece)
        sys.stdout.flush()
    print()


@app.command(short_help="Find out which encoder serves your data.")
@takes_settings("data", *COMPARE)
def compare(
    data: str,
    *,
    others: Others = None,
    encoders: Annotated[str, typer.Option(help="all, or some of them with commas between.")] = "all",
    seeds: Annotated[int, typer.Option(help="Number of runs of each encoder, with seeds 0, 1, ...")] = 1,
    rates: Annotated[
        str, typer.Option(help="Learning rates to choose from, as in 1e-3,3e-3; each costs the whole time.")
    ] = "",
    out: Annotated[Path | None, typer.Option(help="Folder of the runs.  [default: runs/compare-DATA]")] = None,
    report: Annotated[Path | None, typer.Option(help="A page to write: one HTML file that needs no network.")] = None,
    **settings,
) -> None:
    """Find out which encoder serves your data: all in one size, each for the same time, one after the other.

    \b
    Examples:
        sightline compare scope --report report.html
        sightline compare reviews.csv --label stars --seconds 120 --seeds 3
        sightline compare treebank/ --encoders self-attention,lstm --rates 1e-3,3e-3

    --seconds is the training time of each encoder, without evaluations. Runs that are finished in the folder are not
    repeated.
    """
    from sightline.cli.look import check_page  # here, since commands are listed in the order of their import
    from sightline.comparison import compare as run
    from sightline.comparison import table
    from sightline.encoders import KINDS
    from sightline.lens import write_page

    settings = merged(settings, others)
    if report is not None:  # not after the minutes this takes
        check_page(report, "--report")
        report.parent.mkdir(parents=True, exist_ok=True)
    comparison = run(
        data,
        encoders=KINDS if encoders == "all" else [name.strip() for name in encoders.split(",")],
        seeds=seeds,
        rates=_numbers("--rates", rates),
        out=out,
        progress=sys.stderr.isatty(),
        **settings,
    )
    console = print_table(table(comparison))
    console.print()
    for sentence in comparison["sentences"] + comparison["notes"]:
        console.print(sentence, markup=False, highlight=False)
    if report is not None:
        print(f"\nThe page: {write_page(comparison, report)}")


def _numbers(option: str, text: str) -> list[float]:
    try:
        return [float(number) for number in text.split(",") if number.strip()]
    except ValueError:
        raise ValueError(f"{option}: expected numbers with commas between, as in 1e-3,3e-3, got {text!r}") from None
