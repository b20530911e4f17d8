"""All claims as one document, the only source of the page, the text, the table and the picture.

Written to claims.json in the results folder. Version 1:

    version   1;  page: "claims"
    title     a line
    about     [paragraph]: a summary for somebody who reads nothing else
    stage     "quick" | "full";  gpu: whether any cell of the larger grid was measured
    command   that measures all this
    verdicts  all possible ones, in their order
    protocol  [sentence]: what is equal between encoders, and what was chosen on which data
    machines  [{name: value}]: hardware and versions; each once
    claims    [claim], ten of them, by number:

        number, title, says (the usual sentence), measured, rule (how the verdict follows), sources [line]
        verdict   "holds" | "holds when" | "does not hold" | "not settled" (measured, but nothing learned) | "not run"
        said      [sentence]: the first explains the verdict; the last, of a full run, compares it with the literature
        tables    [table];   pictures  [picture]
        cells     {measured, planned}: counts;   seconds: total duration of the measurements
        left_out  [{why, what: [{group, missing, planned}]}]: what was not measured, by reason; empty if all was
        command   that measures it again

    In all sentences names stand between backticks, as in `fit`; there is no other markup.

    table     {title, columns [name], rows [[value]], unit}: a value is text, a number, null (not measured), or a spread
              {median, low, high} over seeds; with unit "%" numbers are shares of 1, shown times 100, else as they are
    picture   {shape, title, caption} and, for shape
      "lines"   x {name, scale: "linear" | "log", ticks?: [name]}     with ticks, x counts them from 0
                y {name, scale, percent: bool}
                series [{name, points [[x, y] or [x, median, low, high]]}]
                levels [{name, y} or {name, points [[x, y]]}]: horizontal lines, such as chance
                marks [{name, x}]: vertical lines, such as a trained length
      "maps"    maps [{name, layers [[row of "0" and "1"]]}]: which row (down) sees which input (across), layer by layer
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from studies.claims.cell import Cell, task_name
from studies.claims.claim import VERDICTS, Claim, Stage
from studies.claims.study import PROTOCOL

DOCUMENT = "claims.json"
ABOUT = [
    "Self-attention is explained with pictures of what it can do and others cannot. Here each of these claims is "
    "measured: five encoders of one size, which differ only in the part that looks across a sequence, on equal "
    "terms.",
    "A claim about the wiring is checked exactly. A claim about what is learned holds on the tasks, sizes and "
    "budgets that were tried, which are small; that it held here is evidence and no proof, and where it did not, "
    "one counterexample is enough to say that it does not hold in general.",
]


def document(
    claims: Sequence[Claim],
    plans: dict[int, list[Cell]],
    records: dict[str, dict],
    reasons: dict[str, str],
    stage: Stage,
) -> dict:
    """The document of some claims.

    `plans` are the cells of each claim, `records` the files of the measured ones, `reasons` why a cell was not
    measured.
    """
    done = [cell.name for claim in claims for cell in plans[claim.number] if cell.name in records]
    machines = {json.dumps(records[name]["machine"]): records[name]["machine"] for name in done}
    flags = " --quick" if stage.quick else "".join(dict.fromkeys(claim.needs for claim in claims))
    return {
        "version": 1,
        "page": "claims",
        "title": "Ten claims about self-attention, measured",
        "about": ABOUT,
        "stage": "quick" if stage.quick else "full",
        "gpu": any(records[name]["asked"].get("gpu") for name in done),
        "command": f"python -m studies.claims{flags}",
        "verdicts": list(VERDICTS),
        "protocol": PROTOCOL,
        "machines": list(machines.values()),
        "claims": [_entry(claim, plans[claim.number], records, reasons, stage) for claim in claims],
    }


def _entry(claim: Claim, cells: list[Cell], records: dict[str, dict], reasons: dict[str, str], stage: Stage) -> dict:
    done = [cell.name for cell in cells if cell.name in records]
    judgement = claim.judge({name: records[name]["result"] for name in done})
    complete = all(cell.name in records or cell.settings.get("gpu") for cell in cells)
    beside = claim.beside.get(judgement.verdict) if complete and not stage.quick else None
    return {
        "number": claim.number,
        "title": claim.title,
        "says": claim.says,
        "measured": claim.measured,
        "rule": claim.rule,
        "sources": list(claim.sources),
        "verdict": judgement.verdict,
        "said": judgement.sentences + ([beside] if beside else []),
        "tables": judgement.tables,
        "pictures": judgement.pictures,
        "cells": {"measured": len(done), "planned": len(cells)},
        "seconds": round(math.fsum(records[name]["seconds"] for name in done), 1),
        "left_out": left_out(cells, records, reasons),
        "command": f"python -m studies.claims{' --quick' if stage.quick else claim.needs} --only {claim.number}",
    }


def left_out(cells: Sequence[Cell], records: dict[str, dict], reasons: dict[str, str]) -> list[dict]:
    """How many cells of each task were not measured, by the reason.

    >>> left_out([Cell("mqar/a", {}, print), Cell("mqar/b", {}, print)], {"mqar/b": {}}, {"mqar/a": "no GPU"})
    [{'why': 'no GPU', 'what': [{'group': 'mqar', 'missing': 1, 'planned': 2}]}]
    """
    planned = Counter(task_name(cell.name) for cell in cells)
    missing: dict[str, Counter] = {}
    for cell in cells:
        if cell.name not in records:
            missing.setdefault(reasons.get(cell.name, "not yet"), Counter())[task_name(cell.name)] += 1
    return [
        {"why": why, "what": [{"group": g, "missing": n, "planned": planned[g]} for g, n in what.items()]}
        for why, what in missing.items()
    ]


def in_words(left_out: dict) -> str:
    """One entry of `left_out` as a sentence.

    >>> in_words({"why": "no GPU", "what": [{"group": "mqar", "missing": 1, "planned": 2}]})
    'Not run (no GPU): mqar 1 of 2.'
    """
    what = (f"{one['group']} {one['missing']} of {one['planned']}" for one in left_out["what"])
    return f"Not run ({left_out['why']}): {', '.join(what)}."


def read_document(folder: Path) -> dict:
    """The document in a results folder.

    Raises: ValueError if there is none, or one of another version.
    """
    try:
        content = json.loads((folder / DOCUMENT).read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{folder}: expected a folder with {DOCUMENT}, got none to read ({error}); run python -m studies.claims"
        ) from None
    if content.get("version") != 1 or content.get("page") != "claims":
        raise ValueError(
            f"{folder / DOCUMENT}: expected claims of version 1, got {content.get('version')!r}; run python -m "
            "studies.claims"
        )
    return content
