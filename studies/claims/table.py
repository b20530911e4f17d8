"""The verdicts on one screen of a terminal: a row for each claim, and the sentence that explains it."""

from __future__ import annotations

from rich.markup import escape
from rich.table import Table

STYLES = {"holds": "green", "holds when": "yellow", "does not hold": "red", "not settled": "blue", "not run": "dim"}


def table(document: dict) -> Table:
    """The verdicts as a table; print it with rich."""
    shown = Table(title=escape(document["title"]), title_justify="left", box=None, padding=(0, 1, 0, 0), pad_edge=False)
    shown.add_column("", justify="right", no_wrap=True, header_style="dim")
    for name in ("claim", "verdict", "because", "measured"):
        wraps = name in ("claim", "because")
        shown.add_column(
            name, no_wrap=not wraps, header_style="dim", ratio=(2 if name == "because" else 1) if wraps else None
        )
    for claim in document["claims"]:
        style, cells = STYLES[claim["verdict"]], claim["cells"]
        shown.add_row(
            str(claim["number"]),
            escape(claim["title"]),
            f"[{style}]{claim['verdict']}[/{style}]",
            escape(claim["said"][0]),
            f"{cells['measured']} of {cells['planned']}",
        )
    return shown
