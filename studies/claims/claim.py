"""A claim: a sentence that is often made, a way to measure it, and a rule that turns the results into a verdict.

The rule stands in words beside the function that applies it, and says beforehand what would refute the claim.
Tables and pictures are plain data; `document` describes them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Literal

from studies.claims.cell import Cell, Results

Verdict = Literal["holds", "holds when", "does not hold", "not settled", "not run"]
VERDICTS: tuple[Verdict, ...] = ("holds", "holds when", "does not hold", "not settled", "not run")
RECURRENT = ("rnn", "lstm")
Spread = dict[str, float]  # {median, low, high}


@dataclass(frozen=True)
class Stage:
    """How much is measured: `quick` is one seed in minutes, `full` all, `gpu` the larger grid that needs a GPU.

    `data` is the folder of the data sets, `heads` are result files of `sightline heads`; both come from the caller.
    """

    name: Literal["quick", "full", "gpu"] = "full"
    data: Path | None = None
    heads: tuple[Path, ...] = ()

    @property
    def quick(self) -> bool:
        return self.name == "quick"


@dataclass
class Judgement:
    """A verdict and its grounds: plain sentences, of which the first explains the verdict, tables and pictures."""

    verdict: Verdict
    sentences: list[str]
    tables: list[dict] = field(default_factory=list)
    pictures: list[dict] = field(default_factory=list)


@dataclass(frozen=True)
class Claim:
    """One claim: `says` is the usual sentence, `measured` the method, `rule` how the verdict follows.

    `cells(stage)` are its measurements; `judge(results)` judges by those that exist. `beside` compares a verdict with
    the literature. `needs` are the command's options that supply data.
    """

    number: int
    title: str
    says: str
    measured: str
    rule: str
    sources: tuple[str, ...]
    cells: Callable[[Stage], list[Cell]]
    judge: Callable[[Results], Judgement]
    beside: Mapping[Verdict, str] = field(default_factory=dict)
    needs: str = ""


def not_run(sentence: str = "Nothing was run yet.") -> Judgement:
    return Judgement("not run", [sentence])


def verdict_by_rules(*rules: tuple[Any, Verdict]) -> Verdict:
    """The verdict of the first rule whose condition is true.

    >>> verdict_by_rules((False, "does not hold"), (True, "holds"), (True, "holds when"))
    'holds'
    """
    return next(verdict for condition, verdict in rules if condition)


def verdict_by_tasks(seen: Collection, tasks: Collection) -> Verdict:
    """Holds if seen on all tasks, holds when on some, does not hold if on none.

    >>> verdict_by_tasks(["copy"], ["copy", "adding"])
    'holds when'
    """
    return verdict_by_rules((len(seen) == len(tasks), "holds"), (seen, "holds when"), (True, "does not hold"))


# ---- parts of a judgement --------------------------------------------------------------------------------------------


def spread(values: Iterable[float]) -> Spread | None:
    """Median and range; None if there are no values.

    >>> spread([0.5, 0.25, 1.0])
    {'median': 0.5, 'low': 0.25, 'high': 1.0}
    """
    values = list(values)
    return {"median": median(values), "low": min(values), "high": max(values)} if values else None


def table(title: str, columns: list[str], rows: list[list[Any]], unit: str = "") -> dict:
    """Rows of text, numbers, spreads or None; `unit` is that of the numbers: "%" for shares, else "" or a word."""
    return {"title": title, "columns": columns, "rows": rows, "unit": unit}


def line_picture(title: str, caption: str, x: dict, y: dict, series: dict[str, list], **more) -> dict:
    """A picture of points joined by lines, one line for each encoder; `more` are `levels` and `marks`."""
    shown = [{"name": name, "points": points} for name, points in series.items() if points]
    return {"shape": "lines", "title": title, "caption": caption, "x": x, "y": y, "series": shown, **more}


def listed(names: Iterable[str]) -> str:
    """Names as in a sentence.

    >>> listed(["a", "b", "c"])
    'a, b and c'
    """
    names = list(names)
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}" if names else "none"


def medians(spreads: Mapping[str, Spread | None], separator: str = ", ") -> str:
    """The medians as percentages, each after its name, without those that are None.

    >>> medians({"rnn": spread([0.5]), "lstm": None, "convolution": spread([0.25])})
    'rnn 50.0%, convolution 25.0%'
    """
    return separator.join(f"{name} {one['median']:.1%}" for name, one in spreads.items() if one)
