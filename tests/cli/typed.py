"""Commands as they are typed, run in this process; small settings for those that train."""

from typer.testing import CliRunner

from sightline import cli

SMALL = ["--width", "8", "--layers", "1", "--steps", "3"]


def run(*args, **options):
    return CliRunner().invoke(cli.app, [str(arg) for arg in args], **options)


def succeed(*args, **options):
    result = run(*args, **options)
    assert result.exit_code == 0, result.output
    return result
