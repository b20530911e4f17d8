"""All claims as one document, from which the page, the text and the table are made; nothing in them comes from elsewhere.

Written to claims.json in the results folder. Version 1:

    version   1;  page: "claims"
    title     a line
    about     [paragraph]: what was done, for somebody who reads nothing else
    stage     "quick" | "full";  gpu: whether the larger grid was run, wholly or in part
    command   what makes all this
    verdicts  all there are, in their order
    protocol  [sentence]: what is equal between encoders, and what was chosen on which data
    machines  [{name: value}]: what it was measured on, and with which versions; each once
    claims    [claim], ten of them, by number:

        number, title, says (the sentence as it is usually made), measured, rule (how the verdict follows), sources [line]
        verdict   "holds" | "holds when" | "does not hold" | "not settled" (measured, but nothing learned) | "not run"
        said      [sentence]: what the numbers say; the first explains the verdict, the last, of a full run, how it stands to papers
        tables    [table];   pictures  [picture]
        cells     {measured, planned}: how many;   seconds: it took to measure them
        left_out  [{why, what: [{group, missing, planned}]}]: what has not been run, by why it was not; empty where all has
        command   what measures it again

    In all sentences names stand between backticks, as in `fit`, and nothing else is marked up.

    table     {title, columns [name], rows [[value]], unit}: a value is text, a number, null (not measured), or a spread
              {median, low, high} over seeds; with unit "%" numbers are shares of 1, to be shown times 100, else as they are
    picture   {shape, title, caption} and, for shape
      "lines"   x {name, scale: "linear" | "log", ticks?: [name]}     with ticks, x counts them from 0
                y {name, scale, percent: bool}
                series [{name, points [[x, y] or [x, median, low, high]]}]
                levels [{name, y} or {name, points [[x, y]]}]: lines across, such as chance
                marks [{name, x}]: lines upright, such as a trained length
      "maps"    maps [{name, layers [[row of "0" and "1"]]}]: which row (down) hears of which input (across), after each layer
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from studies.claims.cell import Cell, task
from studies.claims.claim import VERDICTS, Claim, Stage
from studies.claims.study import PROTOCOL

DOCUMENT = "claims.json"
ABOUT = [
    "Self-attention is explained with pictures of what it can do and others cannot. Here each of these claims is measured: "
    "five encoders of one size, which differ only in the part that looks across a sequence, on equal terms.",
    "A claim about the wiring is checked exactly. A claim about what is learned holds on the tasks, sizes and budgets "
    "that were tried, which are small; that it held here is evidence and no proof, and where it did not, one "
    "counterexample is enough to say that it does not hold in general.",
]


def document(
    claims: Sequence[Claim], plans: dict[int, list[Cell]], held: dict[str, dict], reasons: dict[str, str], stage: Stage
) -> dict:
    """The document of some claims; `plans` are the cells of each, `held` the files of those measured, `reasons` why a cell was not."""
    done = [cell.name for claim in claims for cell in plans[claim.number] if cell.name in held]
    machines = {json.dumps(held[name]["machine"]): held[name]["machine"] for name in done}
    flags = " --quick" if stage.quick else "".join(dict.fromkeys(claim.needs for claim in claims))
    return {
        "version": 1,
        "page": "claims",
        "title": "Ten claims about self-attention, measured",
        "about": ABOUT,
        "stage": "quick" if stage.quick else "full",
        "gpu": any(held[name]["asked"].get("gpu") for name in done),
        "command": f"python -m studies.claims{flags}",
        "verdicts": list(VERDICTS),
        "protocol": PROTOCOL,
        "machines": list(machines.values()),
        "claims": [_entry(claim, plans[claim.number], held, reasons, stage) for claim in claims],
    }


def _entry(claim: Claim, cells: list[Cell], held: dict[str, dict], reasons: dict[str, str], stage: Stage) -> dict:
    done = [cell.name for cell in cells if cell.name in held]
    judged = claim.judge({name: held[name]["result"] for name in done})
    whole = all(cell.name in held or cell.asked.get("gpu") for cell in cells)
    beside = claim.beside.get(judged.verdict) if whole and not stage.quick else None
    return {
        "number": claim.number,
        "title": claim.title,
        "says": claim.says,
        "measured": claim.measured,
        "rule": claim.rule,
        "sources": list(claim.sources),
        "verdict": judged.verdict,
        "said": judged.said + [beside] * bool(beside),
        "tables": judged.tables,
        "pictures": judged.pictures,
        "cells": {"measured": len(done), "planned": len(cells)},
        "seconds": round(math.fsum(held[name]["seconds"] for name in done), 1),
        "left_out": left_out(cells, held, reasons),
        "command": f"python -m studies.claims{' --quick' if stage.quick else claim.needs} --only {claim.number}",
    }


def left_out(cells: Sequence[Cell], held: dict[str, dict], reasons: dict[str, str]) -> list[dict]:
    """What was not measured: how many of each group of cells, by the reason.

    >>> left_out([Cell("mqar/a", {}, print), Cell("mqar/b", {}, print)], {"mqar/b": {}}, {"mqar/a": "no GPU"})
    [{'why': 'no GPU', 'what': [{'group': 'mqar', 'missing': 1, 'planned': 2}]}]
    """
    planned = Counter(task(cell.name) for cell in cells)
    missing: dict[str, Counter] = {}
    for cell in cells:
        if cell.name not in held:
            missing.setdefault(reasons.get(cell.name, "not yet"), Counter())[task(cell.name)] += 1
    return [
        {"why": why, "what": [{"group": g, "missing": n, "planned": planned[g]} for g, n in what.items()]}
        for why, what in missing.items()
    ]


def in_words(left_out: dict) -> str:
    """One entry of what was left out as a sentence.

    >>> in_words({"why": "no GPU", "what": [{"group": "mqar", "missing": 1, "planned": 2}]})
    'Not run (no GPU): mqar 1 of 2.'
    """
    what = (f"{one['group']} {one['missing']} of {one['planned']}" for one in left_out["what"])
    return f"Not run ({left_out['why']}): {', '.join(what)}."


def read_document(folder: Path) -> dict:
    """The document that a run has left in its folder.

    Raises: ValueError where there is none, or one of another version.
    """
    try:
        found = json.loads((folder / DOCUMENT).read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{folder}: expected a folder with {DOCUMENT}, got none to read ({error}); run python -m studies.claims"
        ) from None
    if found.get("version") != 1 or found.get("page") != "claims":
        raise ValueError(
            f"{folder / DOCUMENT}: expected claims of version 1, got {found.get('version')!r}; run python -m studies.claims"
        )
    return found
