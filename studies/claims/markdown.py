"""The claims as Markdown: docs/claims.md, generated from the committed results alone.

python -m studies.claims.markdown benchmarks/results/claims docs/claims.md
"""

from __future__ import annotations

import sys
from pathlib import Path

from sightline.files import write_files
from studies.claims.document import in_words, read_document

COMMAND = "python -m studies.claims.markdown benchmarks/results/claims docs/claims.md"
OPENING = f"<!-- Made from the results by `{COMMAND}`; not written by hand. -->"


def markdown(document: dict) -> str:
    """The document of all claims as Markdown."""
    parts = [f"# {document['title']}", OPENING, *document["about"], _verdicts(document["claims"])]
    for claim in document["claims"]:
        parts += _claim(claim)
    parts += ["## How it was measured", "\n".join(f"- {sentence}" for sentence in document["protocol"])]
    parts.append(f"Everything is made by `{document['command']}`, which continues where it stopped.")
    for machine in document["machines"]:
        parts.append("Machine: " + "; ".join(f"{name} {value}" for name, value in machine.items()) + ".")
    return "\n\n".join(parts) + "\n"


def _verdicts(claims: list[dict]) -> str:
    rows = ["| | claim | verdict | because |", "| ---: | --- | --- | --- |"]
    rows += [f"| {c['number']} | {_cell(c['title'])} | **{c['verdict']}** | {_cell(c['said'][0])} |" for c in claims]
    return "\n".join(rows)


def _claim(claim: dict) -> list[str]:
    parts = [
        f"## {claim['number']}. {claim['title']}: {claim['verdict']}",
        f"> {claim['says']}",
        "\n".join(f"- {sentence}" for sentence in claim["said"]),
        f"**Measured.** {claim['measured']}",
        f"**Rule.** {claim['rule']}",
    ]
    for table in claim["tables"]:
        parts += [f"*{table['title']}{', %' * (table['unit'] == '%')}*", _table(table)]
    parts += map(in_words, claim["left_out"])
    parts.append("**Sources.** " + "; ".join(claim["sources"]) + f". **Command.** `{claim['command']}`")
    return parts


def _table(table: dict) -> str:
    rows = ["| " + " | ".join(map(_cell, table["columns"])) + " |", "| --- |" + " ---: |" * (len(table["columns"]) - 1)]
    rows += ["| " + " | ".join(_value(value, table["unit"]) for value in row) + " |" for row in table["rows"]]
    return "\n".join(rows)


def _value(value, unit: str) -> str:
    """A value of a table as text; a spread as its median, with the range if it is not a point.

    >>> _value({"median": 0.5, "low": 0.25, "high": 0.75}, "%"), _value(65536, ""), _value(None, "")
    ('50.0 (25.0-75.0)', '65,536', '')
    """
    match value:
        case None:
            return ""
        case str():
            return _cell(value)
        case {"median": median, "low": low, "high": high}:
            text = _value(median, unit)
            return text if low == high else f"{text} ({_value(low, unit)}-{_value(high, unit)})"
        case int():
            return f"{value:,}"
    return f"{100 * value:.1f}" if unit == "%" else f"{value:.3g}"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    source, target = map(Path, sys.argv[1:])
    write_files(target.parent, {target.name: markdown(read_document(source)).encode()})
