"""The verdicts on one screen of a terminal: a row for each claim, and the sentence that explains it."""

from __future__ import annotations

from rich.markup import escape
from rich.table import Table

STYLES = {"holds": "green", "holds when": "yellow", "does not hold": "red", "not settled": "blue", "not run": "dim"}
RATIOS = {
    "claim": 1,
    "verdict": None,
    "because": 2,
    "measured": None,
}  # of the columns that wrap; None: a column does not


def verdict_table(document: dict) -> Table:
    """The verdicts as a table; print it with rich."""
    shown = Table(title=escape(document["title"]), title_justify="left", box=None, padding=(0, 1, 0, 0), pad_edge=False)
    shown.add_column("", justify="right", no_wrap=True, header_style="dim")
    for name, ratio in RATIOS.items():
        shown.add_column(name, no_wrap=ratio is None, header_style="dim", ratio=ratio)
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
