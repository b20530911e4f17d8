"""The command that measures and judges ten claims about self-attention."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sightline.cli.app import errors_as_sentences

app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False, add_completion=False)


@app.command()
def claims(
    only: Annotated[str, typer.Option(help="Numbers of claims or names of tasks, as in 1,2,7 or mqar.")] = "",
    quick: Annotated[
        bool, typer.Option("--quick", help="Minutes instead of hours: one seed, seconds of training.")
    ] = False,
    minutes: Annotated[
        float | None, typer.Option(help="Begin no measurement after this time.  [default: no end]")
    ] = None,
    jobs: Annotated[
        int | None, typer.Option(help="Encoders trained at once, on a core each.  [default: all cores; with a GPU 1]")
    ] = None,
    gpu: Annotated[bool, typer.Option("--gpu", help="Also the larger grid, which needs a GPU.")] = False,
    data: Annotated[
        Path | None, typer.Option(help="Folder with trec, banking77, ud-english-ewt, tinyshakespeare.")
    ] = None,
    heads: Annotated[list[Path] | None, typer.Option(help="Result file of sightline heads; may be repeated.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the results.  [default: runs/claims, runs/claims-quick]")
    ] = None,
) -> None:
    """Check ten claims about self-attention, exactly or by training five encoders on equal terms.

    \b
    Examples:
        python -m studies.claims --quick
        python -m studies.claims --only 1,2,7
        python -m studies.claims --minutes 30 --out results
        python -m studies.claims --gpu --out results

    What is measured already is not measured again: the same command continues an interrupted run.
    """
    with errors_as_sentences():
        import os

        import torch
        from rich.console import Console

        from studies.claims import run_claims, verdict_table
        from studies.claims.page import write_claims

        out = out or Path("runs", "claims-quick" if quick else "claims")
        document = run_claims(
            only=[name.strip() for name in only.split(",") if name.strip()] or None,
            quick=quick,
            gpu=gpu,
            minutes=minutes,
            jobs=jobs if jobs is not None else 1 if torch.cuda.is_available() else os.cpu_count(),
            out=out,
            data=data,
            heads=heads or (),
        )
        Console().print(verdict_table(document))
        print(f"The page: {write_claims(document, out / 'claims.html')}")


if __name__ == "__main__":
    app(prog_name="python -m studies.claims")
