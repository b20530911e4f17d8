"""Turns finished runs into what people read: one table, plain sentences drawn from its numbers, and the data of the page.

A run is a dict that JSON can hold; `compare.py` makes and keeps them:

    kind, seed, rate, parameters, steps, tokens, seconds
    encoder     its settings, as in config.json
    loss        [[seconds, tokens, training loss]]        what the curve shows
    milestones  [[tokens, seconds, measure]]              on a fixed validation sample, while training
    valid       the measure on the validation data at the end; rates are chosen by it
    test        {name: value}: all measures on the test data; by distance as "accuracy@1-8"
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from rich.markup import escape
from rich.table import Table

NUMBERS = {1: "One", 2: "Two", 3: "Three", 4: "Four", 5: "Five"}

IN_TOKENS = ("distance", "length")  # the units of buckets that are counted in tokens
MEASURES = {  # of each task: what is compared, and which way is better
    "classify": {"name": "accuracy", "better": "higher", "percent": True},
    "tag": {"name": "accuracy", "better": "higher", "percent": True},
    "regress": {"name": "mse", "better": "lower", "percent": False},
    "language": {"name": "loss", "better": "lower", "percent": False},
}


def summarise(runs: list[dict], measure: dict) -> list[dict]:
    """One entry for each kind of encoder, best first: medians and ranges over seeds, and the curves of each run.

    Of several rates the one that is best on validation counts.
    """
    chosen = []
    for kind in dict.fromkeys(run["kind"] for run in runs):
        same = [run for run in runs if run["kind"] == kind]
        rate = best_rate(same, measure)
        chosen.append([run for run in same if run["rate"] == rate])
    shared = tokens_in_common([run for same in chosen for run in same])
    encoders = [_entry(same, measure, shared) for same in chosen]
    return sorted(encoders, key=lambda e: _merit(e["time"]["median"], measure), reverse=True)


def best_rate(runs: list[dict], measure: dict) -> float:
    """The rate that is best on validation in the first seed, which all rates were tried with."""
    first = min(run["seed"] for run in runs)
    return max((run for run in runs if run["seed"] == first), key=lambda run: _merit(run["valid"], measure))["rate"]


def _merit(value: float, measure: dict) -> float:
    return value if measure["better"] == "higher" else -value


def tokens_in_common(runs: list[dict]) -> int:
    """As many tokens as the slowest run saw in all; every run has seen so many."""
    return min(run["tokens"] for run in runs)


def at_tokens(milestones: list[list[float]], tokens: int) -> float | None:
    """The measure at a number of tokens, on the line between the milestones around it; None before the first.

    >>> at_tokens([[100, 1.0, 0.5], [200, 2.0, 0.7]], 150)
    0.6
    """
    before = [m for m in milestones if m[0] <= tokens]
    if not before:
        return None
    (t0, _, v0), (t1, _, v1) = (before[-1], (milestones[len(before)] if len(before) < len(milestones) else before[-1]))
    return v0 if t1 == t0 else v0 + (v1 - v0) * (tokens - t0) / (t1 - t0)


def _entry(runs: list[dict], measure: dict, shared: int) -> dict:
    name = measure["name"]
    at_end = [run["test"][name] for run in runs]
    middle = sorted(runs, key=lambda run: run["test"][name])[(len(runs) - 1) // 2]
    buckets = dict.fromkeys(key for run in runs for key in run["test"] if key.startswith(f"{name}@"))
    return {
        "kind": runs[0]["kind"],
        "rate": runs[0]["rate"],
        "encoder": runs[0]["encoder"],
        "parameters": runs[0]["parameters"],
        "tokens_per_second": median(run["tokens"] / run["seconds"] for run in runs),
        "steps": int(median(run["steps"] for run in runs)),
        "shown": middle["seed"],
        "time": _spread(at_end),
        "tokens": _spread([at_tokens(run["milestones"], shared) for run in runs]),
        "distance": {key.split("@")[1]: _spread([run["test"].get(key) for run in runs]) for key in buckets},
        "runs": [{key: run[key] for key in ("seed", "rate", "loss", "milestones")} for run in runs],
    }


def _spread(values: list[float | None]) -> dict | None:
    if not values or None in values:
        return None
    return {"median": median(values), "low": min(values), "high": max(values)}


# ---- sentences -------------------------------------------------------------------------------------------------------


def sentences(
    encoders: list[dict], measure: dict, baselines: list[dict], budget: str, shared: int, unit: str = "distance"
) -> list[str]:
    """What the numbers say, in words: who is best at the end, at equal tokens, at which distance, against what.

    `unit` is what the buckets count (`Examples.unit`).
    """
    said = [_winner(encoders, "time", measure, f"With {budget},")]
    seen = [e for e in encoders if e["tokens"]]
    if len(seen) > 1:
        said.append(_winner(seen, "tokens", measure, f"At equal tokens ({_count(shared)}),"))
    return [*said, *_by_distance(encoders, measure, unit), *_baselines(encoders, measure, baselines)]


def _winner(encoders: list[dict], column: str, measure: dict, opening: str) -> str:
    first, *others = sorted(encoders, key=lambda e: _merit(e[column]["median"], measure), reverse=True)
    reached = f"{measure['name']} {written(first[column]['median'], measure)}"
    if not others:
        return f"{opening} {first['kind']} reaches {reached}."
    alike = [e["kind"] for e in (first, *others) if e[column]["median"] == first[column]["median"]]
    best = f"{opening} {_praised(alike, encoders)}: {reached}"
    if len(alike) == len(encoders):
        return f"{best}."
    second = others[len(alike) - 1]
    gap = abs(first[column]["median"] - second[column]["median"])
    ahead = f"{100 * gap:.1f} points" if measure["percent"] else f"{gap:.3g}"
    luck = ""
    if len(first["runs"]) > 1 and min(first[column]["high"], second[column]["high"]) >= max(
        first[column]["low"], second[column]["low"]
    ):
        luck = "; their ranges over seeds overlap, so this may be chance"
    return f"{best}, {ahead} ahead of {second['kind']} ({written(second[column]['median'], measure)}){luck}."


def _by_distance(encoders: list[dict], measure: dict, unit: str) -> list[str]:
    far_and_near = [b for b in buckets(encoders) if b[0].isdigit() and all(e["distance"].get(b) for e in encoders)]
    if len(far_and_near) < 2 or len(encoders) < 2:
        return []
    best = {b: _best_at(b, encoders, measure) for b in far_and_near}
    winners = {kinds: [b for b in far_and_near if best[b] == kinds] for kinds in dict.fromkeys(best.values())}
    near, far = far_and_near[0], far_and_near[-1]
    if len(winners) == 1:
        one = "number of attractors" if unit == "attractors" else unit
        tokens = " tokens" if unit in IN_TOKENS else ""
        said = f"At every {one}, from {near} to {far}{tokens}, {_praised(best[near], encoders)}."
    else:
        said = (
            f"By {unit}{' in tokens' * (unit in IN_TOKENS)}, the best is "
            + "; ".join(f"{_listed(k)}{' equally' * (len(k) > 1)} at {_listed(w)}" for k, w in winners.items())
            + "."
        )
    least, most = ("nearest", "farthest") if unit == "distance" else ("lowest", "highest")
    changes = ", ".join(f"{e['kind']} {_change(e, near, far, measure)}" for e in encoders)
    return [said, f"From the {least} ({near}) to the {most} ({far}) the {measure['name']} changes by: {changes}."]


def _best_at(bucket: str, encoders: list[dict], measure: dict) -> tuple[str, ...]:
    """The kind that is best in a bucket, or all that are equally so."""
    merits = {e["kind"]: _merit(e["distance"][bucket]["median"], measure) for e in encoders}
    return tuple(kind for kind, merit in merits.items() if merit == max(merits.values()))


def _praised(kinds: Sequence[str], encoders: list[dict]) -> str:
    """That one kind is best, or that several are equal."""
    if len(kinds) == 1:
        return f"{kinds[0]} is best"
    return f"{_listed(kinds)} are {'best, and ' * (len(kinds) < len(encoders))}equal"


def _change(encoder: dict, near: str, far: str, measure: dict) -> str:
    change = encoder["distance"][far]["median"] - encoder["distance"][near]["median"]
    return (f"{100 * change:+.1f}" if measure["percent"] else f"{change:+.3g}").replace("-", "−")


def _baselines(encoders: list[dict], measure: dict, baselines: list[dict]) -> list[str]:
    said = []
    for baseline in baselines:
        better = [e["kind"] for e in encoders if _merit(e["time"]["median"] - baseline["value"], measure) > 0]
        who = "no encoder" if not better else "every encoder" if len(better) == len(encoders) else _listed(better)
        verb = "are" if 1 < len(better) < len(encoders) else "is"
        value = written(baseline["value"], measure)
        said.append(f"A {baseline['name']} without any encoder: {value}; {who} {verb} better.")
    return said


def notes(encoders: list[dict], measure: dict, budget: str, shared: int, tested: bool, sample: int) -> list[str]:
    """What one must know to read the table right."""
    slowest = min(encoders, key=lambda e: min(run["milestones"][-1][0] for run in e["runs"]))["kind"]
    seeds = max(len(e["runs"]) for e in encoders)
    said = [
        f"The last columns are measured after {budget}, on {'all test data' if tested else 'the validation data: there are no test data'}"
        ", with the weights that were best on validation.",
        f"At equal tokens: the {measure['name']} when an encoder had seen {_count(shared)} tokens, as many as {slowest} saw in all; "
        f"on a fixed sample of the validation data ({sample:,} tokens at most), between two milestones on the line that joins them. "
        "A faster encoder then was in the middle of its schedule, with a learning rate that had yet to fall.",
    ]
    apart = [bucket for bucket in buckets(encoders) if not bucket[0].isdigit()]
    if apart:
        said.append(f"By distance: {_listed(apart)} is where the answer does not lie in the sequence.")
    if seeds > 1:
        said.append(f"Medians over {seeds} seeds, with the range from the lowest to the highest.")
    if any(e["tokens"] is None for e in encoders):
        said.append("A dash: the first milestone came later than that.")
    return said


def captions(measure: dict, budget: str, unit: str = "distance") -> dict[str, str]:
    """What stands above each plot."""
    by = "how many tokens lie between the question and what decides it" if unit == "distance" else unit
    return {
        "distance": f"On test data no encoder has seen, by {by}.",
        "time": f"Training loss as the seconds pass ({budget}); evaluating and saving take nothing from the budget.",
        "tokens": f"The same runs by what they had read: {measure['name']} on the validation sample at each milestone.",
    }


def buckets(encoders: list[dict]) -> list[str]:
    """The names of the distance buckets that some encoder was measured in, in their order."""
    return list(dict.fromkeys(bucket for e in encoders for bucket in e["distance"]))


def written(value: float | None, measure: dict) -> str:
    return "–" if value is None else f"{100 * value:.1f}%" if measure["percent"] else f"{value:.4g}"


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _count(number: float) -> str:
    return (
        f"{number / 1e6:.2f} million"
        if number >= 1e6
        else f"{number / 1e3:.0f} thousand"
        if number >= 1e4
        else f"{number:,.0f}"
    )


# ---- the table -------------------------------------------------------------------------------------------------------


def table(report: dict) -> Table:
    """The comparison as a table for the terminal; print it with rich."""
    measure, spans = report["measure"], report["buckets"]
    title = f"{report['title']}: {measure['name']}{', %' if measure['percent'] else ''}"
    shown = Table(title=escape(title), title_justify="left", box=None, padding=(0, 1, 0, 0), pad_edge=False)
    shown.add_column("\nencoder", no_wrap=True, header_style="dim")
    equal = [column.removeprefix("at ").replace(" ", "\n") for column in report["equal"]]
    for name in ("para-\nmeters", "tokens\nper s", "\nsteps", *equal, *(f"\n{span}" for span in spans)):
        shown.add_column(name, justify="right", no_wrap=True, header_style="dim")
    best = {key: _best_of(report, key) for key in ("time", "tokens", *spans)}
    for e in report["encoders"]:
        cells = {"time": e["time"], "tokens": e["tokens"], **e["distance"]}
        shown.add_row(
            e["kind"],
            _short(e["parameters"]),
            _short(e["tokens_per_second"]),
            f"{e['steps']:,}",
            *(_cell(cells.get(key), measure, best[key], ranges=key in ("time", "tokens")) for key in best),
        )
    for baseline in report["baselines"]:
        by_distance = [_bare(baseline["distance"].get(bucket), measure) for bucket in spans]
        shown.add_row(baseline["name"], "", "", "", _bare(baseline["value"], measure), "", *by_distance, style="dim")
    return shown


def _best_of(report: dict, key: str) -> float | None:
    spreads = [e[key] if key in ("time", "tokens") else e["distance"].get(key) for e in report["encoders"]]
    medians = [s["median"] for s in spreads if s]
    return (max if report["measure"]["better"] == "higher" else min)(medians, default=None)


def _cell(spread: dict | None, measure: dict, best: float | None, ranges: bool) -> str:
    if spread is None:
        return "–"
    text = _bare(spread["median"], measure)
    text = f"[bold]{text}[/bold]" if spread["median"] == best else text
    if ranges and spread["high"] > spread["low"]:
        text += f"\n[dim]{_bare(spread['low'], measure)}–{_bare(spread['high'], measure)}[/dim]"
    return text


def _short(number: float) -> str:
    """In six characters.

    >>> _short(158634), _short(5698.2), _short(1.24e6)
    ('159 k', '5,698', '1.2 M')
    """
    return f"{number / 1e6:.1f} M" if number >= 1e6 else f"{number / 1e3:.0f} k" if number >= 1e4 else f"{number:,.0f}"


def _bare(value: float | None, measure: dict) -> str:
    return written(value, measure).removesuffix("%")
