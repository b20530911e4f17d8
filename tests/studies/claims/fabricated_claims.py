"""A fabricated document of ten claims for tests of the page: every verdict, shape and kind of value."""

from __future__ import annotations

import random
from statistics import median

ENCODERS = ("self-attention", "rnn", "lstm", "convolution", "fully-connected")
TITLES = (
    ("One step", "holds"),
    ("The whole sequence", "holds"),
    ("A detector of n-grams", "holds when"),
    ("In parallel", "holds when"),
    ("Forgetting", "holds"),
    ("Hierarchy", "not settled"),
    ("Any length", "holds when"),
    ("Syntax and reference", "not run"),
    ("Encoder and generator", "does not hold"),
    ("No weakness", "does not hold"),
)
DISTANCES = ["1-8", "9-32", "33-128", "129-512"]
LENGTHS = [64, 128, 256, 512, 1024]
KEPT = {"self-attention": 0.01, "rnn": 0.28, "lstm": 0.2, "convolution": 0.24, "fully-connected": 0.12}


def spread(values: list[float]) -> dict[str, float]:
    return {"median": median(values), "low": min(values), "high": max(values)}


def claims_document(seeds: int = 3, run: bool = True) -> dict:
    """The whole of it, the same each time; without `run` as it stands before anything was measured."""
    rng = random.Random(0)
    claims = [_claim(i + 1, *TITLES[i], seeds, rng) for i in range(len(TITLES))]
    if not run:
        claims = [_bare(claim) for claim in claims]
    machine = {"processor": "A made-up CPU", "cores": "1 threads used of 2", "python": "3.11.7"}
    return {
        "version": 1,
        "page": "claims",
        "title": "Ten claims about self-attention, measured",
        "about": ["Five encoders of one size on equal terms.", "What is learned is evidence, and no proof."],
        "stage": "full",
        "gpu": False,
        "command": "python -m studies.claims",
        "verdicts": ["holds", "holds when", "does not hold", "not settled", "not run"],
        "protocol": ["All encoders have the same frame.", "The rate is chosen with `fit` on validation data."],
        "machines": [machine] if run else [],
        "claims": claims,
    }


def _claim(number: int, title: str, verdict: str, seeds: int, rng: random.Random) -> dict:
    pictures, tables = [], []
    if number == 1:
        pictures = [steps()]
    elif number == 2:
        pictures = [steps(), maps()]
    elif number == 4:
        pictures = [times()]
    elif verdict != "not run":
        pictures = [_by_distance(title, seeds, rng)] + [_influence()] * (number == 5)
    if verdict != "not run":
        tables = [_accuracies(seeds, rng), _mixed()]
    planned = 60 if number == 5 else 1 if number == 8 else 10
    left = {
        5: [_left("it needs a GPU, and --gpu", {"mqar-64-64": 15, "mqar-512-64": 15})],
        8: [_left("not yet", {"heads": 1})],
    }.get(number, [])
    return {
        "number": number,
        "title": title,
        "says": f"Claim {number} as it is usually made.",
        "measured": "What was `measured`, in a sentence.",
        "rule": "Holds if so; does not hold otherwise.",
        "sources": ["Somebody et al. 2017, table 1", "Somebody else 2020"],
        "verdict": verdict,
        "said": [f"{title}: the `numbers` say so."]
        + ["A further sentence of what they say, and of what they do not."] * 3,
        "tables": tables,
        "pictures": pictures,
        "cells": {"measured": planned - (30 if number == 5 else 1 if number == 8 else 0), "planned": planned},
        "seconds": 4000.0 if number == 5 else 1.5,
        "left_out": left,
        "command": f"python -m studies.claims --only {number}",
    }


def _left(why: str, groups: dict[str, int]) -> dict:
    return {"why": why, "what": [{"group": g, "missing": n, "planned": n} for g, n in groups.items()]}


def _bare(claim: dict) -> dict:
    planned = claim["cells"]["planned"]
    return claim | {
        "verdict": "not run",
        "said": ["Nothing was run yet."],
        "tables": [],
        "pictures": [],
        "seconds": 0,
        "cells": {"measured": 0, "planned": planned},
        "left_out": [_left("not yet", {"task": planned})],
    }


def _lines(title: str, x: dict, y: dict, series: dict[str, list], **more) -> dict:
    drawn = [{"name": name, "points": points} for name, points in series.items()]
    return {"shape": "lines", "title": title, "caption": "A `caption`.", "x": x, "y": y, "series": drawn, **more}


def steps() -> dict:
    """Two encoders lie on each other, and two are variants of others."""
    series = {
        "self-attention": [[n, 1] for n in LENGTHS],
        "self-attention, window 16": [[n, n // 16] for n in LENGTHS],
        "rnn": [[n, n] for n in LENGTHS],
        "lstm": [[n, n] for n in LENGTHS],
        "dilated convolution": [[n, 6 + i] for i, n in enumerate(LENGTHS)],
    }
    log = {"scale": "log"}
    return _lines("Steps", {"name": "length n", **log}, {"name": "steps", "percent": False, **log}, series)


def times() -> dict:
    """On even axes, with a mark and a level."""
    series = {
        name: [[n, (i + 1) * n / 64, (i + 0.8) * n / 64, (i + 1.5) * n / 64] for n in LENGTHS]
        for i, name in enumerate(ENCODERS)
    }
    return _lines(
        "Time",
        {"name": "length n", "scale": "linear"},
        {"name": "time", "scale": "linear", "percent": False},
        series,
        levels=[{"name": "one unit", "y": 1.0}],
        marks=[{"name": "trained length", "x": 256}],
    )


def _by_distance(title: str, seeds: int, rng: random.Random) -> dict:
    series = {}
    for name, lost in KEPT.items():
        series[name] = []
        for i in range(len(DISTANCES) - (name == "fully-connected")):
            values = [max(0.05, 0.97 - lost * i - rng.random() * 0.08) for _ in range(seeds)]
            series[name].append([i, median(values), min(values), max(values)])
    return _lines(
        f"{title}, by distance",
        {"name": "tokens between the question and what decides it", "scale": "linear", "ticks": DISTANCES},
        {"name": "accuracy", "scale": "linear", "percent": True},
        series,
        levels=[{"name": "best constant answer", "y": 0.125}],
        marks=[{"name": "trained", "x": 0}],
    )


def _influence() -> dict:
    """Over many powers of ten; the convolution is 0 beyond its field, and the recurrence falls out of sight."""
    series = {
        "self-attention": [[d, 1 / d**0.5] for d in (1, 2, 4, 8, 16, 32)],
        "rnn": [[d, 10.0 ** (1 - d)] for d in (1, 2, 4, 8, 16, 32)],
        "convolution": [[d, 1.0 if d < 8 else 0.0] for d in (1, 2, 4, 8, 16, 32)],
    }
    log = {"scale": "log"}
    return _lines("Influence", {"name": "distance", **log}, {"name": "influence", "percent": False, **log}, series)


def maps() -> dict:
    n = 12

    def band(width: int) -> list[str]:
        return ["".join("01"[abs(i - j) <= width] for j in range(n)) for i in range(n)]

    drawn = {name: [band(n)] * 3 for name in ENCODERS} | {
        "convolution": [band(2), band(4), band(6)],
        "dilated convolution": [band(2), band(6), band(n)],
    }
    return {
        "shape": "maps",
        "title": "Who hears whom",
        "caption": "By trial.",
        "maps": [{"name": name, "layers": layers} for name, layers in drawn.items()],
    }


def _accuracies(seeds: int, rng: random.Random) -> dict:
    """In the first column the ranges of the two highest meet, in the second those of none."""
    rows = []
    for i, name in enumerate(ENCODERS):
        near = [0.9 - 0.02 * min(i, 1) - 0.1 * (i > 1) + 0.03 * k for k in range(seeds)]
        far = [0.8 - 0.15 * i + 0.01 * rng.random() * k for k in range(seeds)]
        rows.append([name, "150,788", spread(near), spread(far)])
    rows.append(["best constant answer", "", 0.125, None])
    return {"title": "mqar: accuracy", "columns": ["encoder", "parameters", "near", "far"], "rows": rows, "unit": "%"}


def _mixed() -> dict:
    long = "the first of a list / the next of a list / the last of a list of what is long"
    rows = [["rnn", 4096, 0.1234, "refuses", long], ["lstm", 16, None, "reads", long]]
    return {
        "title": "Of all kinds",
        "columns": ["encoder", "steps", "index", "n = 65", "words"],
        "rows": rows,
        "unit": "",
    }
