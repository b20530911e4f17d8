"""How what a study found is shown: one table with both columns, one picture by distance or depth, one by further tests."""

from __future__ import annotations

from studies.claims.claim import Spread, lines, table
from studies.claims.floors import GUESSED, Floors
from studies.claims.study import Outcome

UNITS = {
    "distance": "tokens between the question and what decides it",
    "length": "length in tokens",
    "depth": "depth",
    "attractors": "attractors",
}


def unit(outcome: Outcome) -> str:
    return "%" if outcome.measure["percent"] else ""


def seeds(outcome: Outcome) -> str:
    """How many seeds an encoder has, in words: from the fewest to the most."""
    counts = [len(same) for same in outcome.runs.values()]
    fewest, most = min(counts), max(counts)
    if most == 1:
        return "one seed"
    return f"median and range of {most if fewest == most else f'{fewest} to {most}'} seeds"


NO_FLOORS = Floors({}, {}, {})


def by_bucket(outcome: Outcome, floors: Floors = NO_FLOORS) -> dict:
    """A row for each encoder: its size, rate and steps; at equal time on all test data, at equal tokens on validation data; then by bucket."""
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
        guess = [floors.guess[""], None, *(floors.guess.get(b) for b in buckets)]
        rows.append([GUESSED, "", "", "", *guess])
    what = f"; last columns by {outcome.unit}" * bool(buckets)
    how = "at equal tokens: on the validation sample, while the learning rate of faster encoders was still falling"
    return table(
        f"{outcome.study.data}: {outcome.measure['name']}, {seeds(outcome)}; {how}{what}",
        ["encoder", "parameters", "rate", "steps", "at equal time", "at equal tokens", *buckets],
        rows,
        unit(outcome),
    )


def by_test(outcome: Outcome, trained: str) -> dict:
    """A row for each encoder: on the test data of the trained setting, then on the further ones."""
    tests = list(outcome.study.tests)
    rows = []
    for name in outcome.names:
        further = ["refuses" if outcome.refusal(name, test) else outcome.on(name, test) for test in tests]
        rows.append([name, outcome.at_end(name), *further])
    title = f"Trained on {outcome.study.data}: {outcome.measure['name']} there and beyond, {seeds(outcome)}"
    return table(title, ["encoder", f"{trained} (trained)", *tests], rows, unit(outcome))


def drawn_by_bucket(outcome: Outcome, floors: Floors = NO_FLOORS) -> dict | None:
    """The measure by distance, depth or what the buckets count; None where there are fewer than two."""
    buckets = [bucket for bucket in outcome.buckets() if bucket != "outside"]
    if len(buckets) < 2:
        return None
    series = {name: [outcome.at_end(name, bucket) for bucket in buckets] for name in outcome.names}
    drawn = _drawn(outcome, f"{outcome.study.data}, by {outcome.unit}", UNITS[outcome.unit], buckets, series)
    if floors.constant:
        name = GUESSED if floors.guess else "best constant answer"
        points = [[i, floors.at(bucket, outcome.constant)] for i, bucket in enumerate(buckets)]
        drawn["levels"] = [{"name": name, "points": points}]
    return drawn


def drawn_by_test(outcome: Outcome, trained: str, what: str) -> dict:
    """The measure on the trained setting and on the further ones; a line ends where an encoder refuses."""
    tests = list(outcome.study.tests)
    series = {name: [outcome.at_end(name), *(outcome.on(name, test) for test in tests)] for name in outcome.names}
    picture = _drawn(outcome, f"Trained on {outcome.study.data}", what, [trained, *tests], series)
    return picture | {"marks": [{"name": "trained", "x": 0}]}


def _drawn(outcome: Outcome, title: str, what: str, ticks: list[str], series: dict[str, list[Spread | None]]) -> dict:
    points = {
        name: [[i, s["median"], s["low"], s["high"]] for i, s in enumerate(spreads) if s]
        for name, spreads in series.items()
    }
    return lines(
        title,
        f"After equal time, on test data; {seeds(outcome)}.",
        {"name": what, "scale": "linear", "ticks": ticks},
        {"name": outcome.measure["name"], "scale": "linear", "percent": outcome.measure["percent"]},
        points,
        levels=[{"name": "best constant answer", "y": outcome.constant}],
    )
