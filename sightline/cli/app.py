"""The application the commands hang on: bad input ends as one sentence, and help comes at once.

What a person can get wrong is said on standard error, with exit code 2; a command that is stopped (Ctrl-C) says how to
go on, and exits with 130.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any, TextIO

import typer
from typer.core import TyperGroup

from sightline.cli.waiting import limit_waiting

GO_ON = {
    "fit": "the same command with --resume goes on",
    "compare": "the same command goes on where it was",
    "embed": "the same command goes on where it was",
    "heads": "the same command goes on where it was",
}


NO_MEMORY = (
    "can't allocate memory",
    "out of memory",
    "size calculation overflowed",
    "integer multiplication overflow",
    "Overflow when unpacking",
)


class Commands(TyperGroup):
    """The commands in the order in which they are defined, with errors as sentences."""

    def list_commands(self, ctx) -> list[str]:
        return list(self.commands)

    def make_context(self, *args, **options) -> Any:
        with errors_as_sentences():  # --version and --help print here
            return super().make_context(*args, **options)

    def invoke(self, ctx) -> Any:
        if hasattr(sys.stdout, "reconfigure"):  # a terminal that knows few letters is no reason to fail
            sys.stdout.reconfigure(errors="backslashreplace")
        with errors_as_sentences():
            try:
                result = super().invoke(ctx)
            except KeyboardInterrupt:
                _fail(f"stopped; {GO_ON.get(ctx.invoked_subcommand, 'nothing was kept')}", code=130)
            sys.stdout.flush()  # a full disk shows here, or too late
            return result


limit_waiting()  # read when torch loads its OpenMP, which no command has done by now; worker processes inherit it


@contextmanager
def errors_as_sentences() -> Iterator[None]:
    """What a person can get wrong, or a machine lack, as one sentence."""
    try:
        yield
    except BrokenPipeError:  # whoever reads has seen enough
        _silence(sys.stdout)
        raise typer.Exit(0) from None
    except OSError as error:
        _silence(sys.stdout)
        where = f"{error.filename}: " if error.filename else ""
        _fail(f"{where}{error.strerror or error}")
    except (ValueError, TypeError, MemoryError, RuntimeError) as error:
        if isinstance(error, MemoryError) or any(said in str(error) for said in NO_MEMORY):
            _fail("expected memory for all that was asked for, got too little; ask for less: width, layers, tokens")
        if isinstance(error, RuntimeError):
            raise
        _fail(" ".join(str(error).split()))


def _fail(sentence: str, code: int = 2) -> None:
    if len(sentence) > 1500:  # it quotes what a file or an option holds
        sentence = f"{sentence[:1000]} ... {sentence[-400:]}"
    print(f"sightline: {sentence}", file=sys.stderr)
    raise typer.Exit(code) from None


def _silence(stream: TextIO) -> None:
    """Lets the stream end quietly if it can take no more."""
    try:
        stream.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


app = typer.Typer(
    cls=Commands, rich_markup_mode=None, pretty_exceptions_enable=False, add_completion=False, no_args_is_help=True
)


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        print(f"sightline {version('sightline')}", flush=True)
        raise typer.Exit()


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Say the version.")
    ] = False,
) -> None:
    """Encoders for sequences of any length: fit one, use it, or find out which serves your data; and any Hugging Face
    model without padding.

    \b
    Begin with one of these:
        sightline compare scope --report report.html      five encoders on Python's own library
        sightline fit reviews.csv --label stars           an encoder for your own data
        sightline predict runs/reviews-self-attention new.csv
        sightline embed MODEL texts.txt --out vectors.npy a vector for each line, by a Hugging Face model
        sightline look MODEL "The cat chased its tail."   what each head of a model looks at
    """
