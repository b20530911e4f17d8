"""What a claim is: a sentence that is often made, a way to measure it, and a rule that turns the numbers into a verdict.

The rule is written in words beside the function that applies it, and says beforehand what would refute the claim.
Tables and pictures are plain data; `document` says how they look.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Literal

from studies.claims.cell import Cell, Found

Verdict = Literal["holds", "holds when", "does not hold", "not settled", "not run"]
VERDICTS: tuple[Verdict, ...] = ("holds", "holds when", "does not hold", "not settled", "not run")
Spread = dict[str, float]  # {median, low, high}


@dataclass(frozen=True)
class Stage:
    """How much is measured: `quick` for one seed in minutes, `full`, and `gpu` for the larger grid, which needs a GPU.

    `data` is the folder of the data sets that are brought along, `heads` files of results of `sightline heads`.
    """

    name: Literal["quick", "full", "gpu"] = "full"
    data: Path | None = None
    heads: tuple[Path, ...] = ()

    @property
    def quick(self) -> bool:
        return self.name == "quick"


@dataclass
class Judged:
    """A verdict with what it rests on: plain sentences, tables and pictures."""

    verdict: Verdict
    said: list[str]
    tables: list[dict] = field(default_factory=list)
    pictures: list[dict] = field(default_factory=list)


@dataclass(frozen=True)
class Claim:
    """One claim. `says` is the sentence as it is usually made, `measured` what is done about it, `rule` how the verdict follows.

    `cells(stage)` are its measurements; `judge(found)` makes of their results, of which some may be missing, a verdict.
    `beside` says how a verdict stands to papers, and why, where that is not plain; `needs` are the options of the command that
    bring along what it needs.
    """

    number: int
    title: str
    says: str
    measured: str
    rule: str
    sources: tuple[str, ...]
    cells: Callable[[Stage], list[Cell]]
    judge: Callable[[Found], Judged]
    beside: Mapping[Verdict, str] = field(default_factory=dict)
    needs: str = ""


def spread(values: Iterable[float]) -> Spread | None:
    """Median and range; None of nothing.

    >>> spread([0.5, 0.25, 1.0])
    {'median': 0.5, 'low': 0.25, 'high': 1.0}
    """
    values = list(values)
    return {"median": median(values), "low": min(values), "high": max(values)} if values else None


def table(title: str, columns: list[str], rows: list[list[Any]], unit: str = "") -> dict:
    """Rows of words, numbers, spreads or None; `unit` is that of the numbers: "%" for shares, else "" or a word."""
    return {"title": title, "columns": columns, "rows": rows, "unit": unit}


def lines(title: str, caption: str, x: dict, y: dict, series: dict[str, list], **more) -> dict:
    """A picture of points joined by lines, one line for each encoder; `more` are `levels` and `marks`."""
    drawn = [{"name": name, "points": points} for name, points in series.items() if points]
    return {"shape": "lines", "title": title, "caption": caption, "x": x, "y": y, "series": drawn, **more}


def not_run(sentence: str) -> Judged:
    return Judged("not run", [sentence])


def listed(names: Iterable[str]) -> str:
    """Names as a sentence has them.

    >>> listed(["a", "b", "c"])
    'a, b and c'
    """
    names = list(names)
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}" if names else "none"
