"""Tables and pictures of an outcome: a table with both columns, pictures by distance or depth, and by further tests."""

from __future__ import annotations

from studies.claims.claim import Spread, line_picture, table
from studies.claims.floors import GUESS, Floors
from studies.claims.study import Outcome

UNITS = {
    "distance": "tokens between the question and what decides it",
    "length": "length in tokens",
    "depth": "depth",
    "attractors": "attractors",
}
NO_FLOORS = Floors({}, {}, {})


def unit(outcome: Outcome) -> str:
    return "%" if outcome.measure["percent"] else ""


def seed_count(outcome: Outcome) -> str:
    """How many seeds an encoder has, in words: from the fewest to the most."""
    counts = [len(same) for same in outcome.runs.values()]
    fewest, most = min(counts), max(counts)
    if most == 1:
        return "one seed"
    return f"median and range of {most if fewest == most else f'{fewest} to {most}'} seeds"


def table_by_bucket(outcome: Outcome, floors: Floors = NO_FLOORS) -> dict:
    """A row for each encoder: size, rate, steps; test data at equal time, validation data at equal tokens; buckets."""
    buckets = outcome.buckets()
    rows = []
    for name in outcome.names:
        first = outcome.runs[name][0]
        about = [f"{first['parameters']:,}", f"{first['rate']:g}", f"{first['steps']:,}"]
        both = [outcome.at_end(name), outcome.at_tokens(name)]
        rows.append([name, *about, *both, *(outcome.at_end(name, bucket) for bucket in buckets)])
    constants = [outcome.constant, outcome.constant_valid]
    rows.append(["best constant answer", "", "", "", *constants, *(floors.constant.get(b) for b in buckets)])
    if floors.guess:
        rows.append([GUESS, "", "", "", floors.guess[""], None, *(floors.guess.get(b) for b in buckets)])
    last = f"; last columns by {outcome.unit}" if buckets else ""
    tokens = "at equal tokens: on the validation sample, while the learning rate of faster encoders was still falling"
    return table(
        f"{outcome.study.data}: {outcome.measure['name']}, {seed_count(outcome)}; {tokens}{last}",
        ["encoder", "parameters", "rate", "steps", "at equal time", "at equal tokens", *buckets],
        rows,
        unit(outcome),
    )


def table_by_test(outcome: Outcome, trained: str) -> dict:
    """A row for each encoder: the test data of the trained setting, then the further ones."""
    tests = list(outcome.study.tests)
    rows = []
    for name in outcome.names:
        further = ["refuses" if outcome.refusal(name, test) else outcome.on(name, test) for test in tests]
        rows.append([name, outcome.at_end(name), *further])
    title = f"Trained on {outcome.study.data}: {outcome.measure['name']} there and beyond, {seed_count(outcome)}"
    return table(title, ["encoder", f"{trained} (trained)", *tests], rows, unit(outcome))


def picture_by_bucket(outcome: Outcome, floors: Floors = NO_FLOORS) -> dict | None:
    """The measure by what the buckets count, such as distance or depth; None if there are fewer than two."""
    buckets = [bucket for bucket in outcome.buckets() if bucket != "outside"]
    if len(buckets) < 2:
        return None
    series = {name: [outcome.at_end(name, bucket) for bucket in buckets] for name in outcome.names}
    title = f"{outcome.study.data}, by {outcome.unit}"
    picture = spread_picture(outcome, title, time_caption(outcome), UNITS[outcome.unit], buckets, series)
    if floors.constant:
        name = GUESS if floors.guess else "best constant answer"
        points = [[i, floors.at(bucket, outcome.constant)] for i, bucket in enumerate(buckets)]
        picture["levels"] = [{"name": name, "points": points}]
    return picture


def picture_by_test(outcome: Outcome, trained: str, x_name: str) -> dict:
    """The measure on the trained setting and on the further ones; no points where an encoder refuses."""
    tests = list(outcome.study.tests)
    series = {name: [outcome.at_end(name), *(outcome.on(name, test) for test in tests)] for name in outcome.names}
    title, caption = f"Trained on {outcome.study.data}", time_caption(outcome)
    if any(outcome.refusal(name, test) for name in outcome.names for test in tests):
        caption += " A line that ends: the encoder refuses longer sequences."
    picture = spread_picture(outcome, title, caption, x_name, [trained, *tests], series)
    return picture | {"marks": [{"name": "trained", "x": 0}]}


def time_caption(outcome: Outcome) -> str:
    return f"After equal time, on test data; {seed_count(outcome)}."


def spread_picture(
    outcome: Outcome, title: str, caption: str, x_name: str, ticks: list[str], series: dict[str, list[Spread | None]]
) -> dict:
    """A line for each encoder through the medians at each tick, with their ranges and the best constant answer."""
    points = {
        name: [[i, s["median"], s["low"], s["high"]] for i, s in enumerate(spreads) if s]
        for name, spreads in series.items()
    }
    return line_picture(
        title,
        caption,
        {"name": x_name, "scale": "linear", "ticks": ticks},
        {"name": outcome.measure["name"], "scale": "linear", "percent": outcome.measure["percent"]},
        points,
        levels=[{"name": "best constant answer", "y": outcome.constant}],
    )
