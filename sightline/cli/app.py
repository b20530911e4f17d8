"""The application with all commands: an error of the user ends as one sentence, and help comes at once.

Such a sentence goes to standard error, with exit code 2; a command that is stopped (Ctrl-C) says how to continue, and
exits with 130.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from typing import Annotated, Any, TextIO

import typer
from typer.core import TyperGroup

from sightline.cli.settings import with_settings
from sightline.cli.waiting import limit_waiting

CONTINUE: dict[str | None, str] = dict.fromkeys(("compare", "embed", "heads"), "the same command goes on where it was")
CONTINUE["fit"] = "the same command with --resume goes on"
NO_MEMORY = (
    "can't allocate memory",
    "out of memory",
    "size calculation overflowed",
    "integer multiplication overflow",
    "Overflow when unpacking",
)


class Commands(TyperGroup):
    """The commands, with the options of their settings, and with errors as sentences."""

    def resolve_command(self, ctx, args) -> Any:
        name, command, rest = super().resolve_command(ctx, args)
        return name, command and with_settings(command, name or ""), rest

    def make_context(self, *args, **options) -> Any:
        with errors_as_sentences():  # --version and --help print here
            return super().make_context(*args, **options)

    def invoke(self, ctx) -> Any:
        if isinstance(sys.stdout, TextIOWrapper):  # a terminal of few letters is no reason to fail
            sys.stdout.reconfigure(errors="backslashreplace")
        with errors_as_sentences():
            try:
                result = super().invoke(ctx)
            except KeyboardInterrupt:
                _fail(f"stopped; {CONTINUE.get(ctx.invoked_subcommand, 'nothing was kept')}", code=130)
            sys.stdout.flush()  # a full disk shows here, else too late
            return result


limit_waiting()  # before a command imports torch, whose OpenMP reads it; worker processes inherit it


@contextmanager
def errors_as_sentences() -> Iterator[None]:
    """Ends with one sentence on an error of the user, or on a lack of memory or disk."""
    try:
        yield
    except BrokenPipeError:  # the reader has closed the pipe
        _silence(sys.stdout)
        raise typer.Exit(0) from None
    except OSError as error:
        _silence(sys.stdout)
        where = f"{error.filename}: " if error.filename else ""
        _fail(f"{where}{error.strerror or error}")
    except (ValueError, TypeError, MemoryError, RuntimeError) as error:
        if isinstance(error, MemoryError) or any(text in str(error) for text in NO_MEMORY):
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
    """Redirects a stream that takes no more to nowhere, so that it closes without an error."""
    try:
        stream.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


app = typer.Typer(
    cls=Commands, rich_markup_mode=None, pretty_exceptions_enable=False, add_completion=False, no_args_is_help=True
)


def _version(requested: bool) -> None:
    if requested:
        from importlib.metadata import version

        print(f"sightline {version('sightline')}", flush=True)
        raise typer.Exit()


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
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
