"""Turns finished runs into a table, plain sentences about its numbers, and the data of the page.

A run is a dict of JSON values, the record of `protocol.trained`:

    kind, seed, rate, parameters, steps, tokens, seconds
    encoder     its settings, as in config.json
    loss        [[seconds, tokens, training loss]]        the curve
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

    Of several rates only the best on validation is kept.
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
    """The rate that is best on validation with the first seed, with which all rates were tried."""
    first = min(run["seed"] for run in runs)
    return max((run for run in runs if run["seed"] == first), key=lambda run: _merit(run["valid"], measure))["rate"]


def _merit(value: float, measure: dict) -> float:
    return value if measure["better"] == "higher" else -value


def tokens_in_common(runs: list[dict]) -> int:
    """The tokens of the slowest run, which every run has seen."""
    return min(run["tokens"] for run in runs)


def at_tokens(milestones: list[list[float]], tokens: int) -> float | None:
    """The measure at a number of tokens, interpolated between milestones; None before the first.

    >>> at_tokens([[100, 1.0, 0.5], [200, 2.0, 0.7]], 150)
    0.6
    """
    if not milestones or milestones[0][0] > tokens:
        return None
    (t0, _, v0), *later = milestones[sum(m[0] <= tokens for m in milestones) - 1 :]
    if not later or later[0][0] == t0:
        return v0
    t1, _, v1 = later[0]
    return v0 + (v1 - v0) * (tokens - t0) / (t1 - t0)


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
    known = [value for value in values if value is not None]
    if not known or len(known) < len(values):
        return None
    return {"median": median(known), "low": min(known), "high": max(known)}


# ---- sentences -------------------------------------------------------------------------------------------------------


def sentences(
    encoders: list[dict], measure: dict, baselines: list[dict], budget: str, shared: int, unit: str = "distance"
) -> list[str]:
    """The numbers in words: the best encoder at the end, at equal tokens, at each distance, and against baselines.

    `unit` is that of the buckets (`Examples.unit`).
    """
    lines = [_winner(encoders, "time", measure, f"With {budget},")]
    seen = [e for e in encoders if e["tokens"]]
    if len(seen) > 1:
        lines.append(_winner(seen, "tokens", measure, f"At equal tokens ({_count(shared)}),"))
    return [*lines, *_by_distance(encoders, measure, unit), *_baselines(encoders, measure, baselines)]


def _winner(encoders: list[dict], column: str, measure: dict, opening: str) -> str:
    first, *others = sorted(encoders, key=lambda e: _merit(e[column]["median"], measure), reverse=True)
    best = first[column]
    reached = f"{measure['name']} {written(best['median'], measure)}"
    if not others:
        return f"{opening} {first['kind']} reaches {reached}."
    alike = [e["kind"] for e in (first, *others) if e[column]["median"] == best["median"]]
    sentence = f"{opening} {_praised(alike, encoders)}: {reached}"
    if len(alike) == len(encoders):
        return f"{sentence}."
    second = others[len(alike) - 1]
    next_best = second[column]
    gap = abs(best["median"] - next_best["median"])
    ahead = f"{100 * gap:.1f} points" if measure["percent"] else f"{gap:.3g}"
    overlap = min(best["high"], next_best["high"]) >= max(best["low"], next_best["low"])
    luck = "; their ranges over seeds overlap, so this may be chance" if len(first["runs"]) > 1 and overlap else ""
    return f"{sentence}, {ahead} ahead of {second['kind']} ({written(next_best['median'], measure)}){luck}."


def _by_distance(encoders: list[dict], measure: dict, unit: str) -> list[str]:
    spans = [b for b in buckets(encoders) if b[0].isdigit() and all(e["distance"].get(b) for e in encoders)]
    if len(spans) < 2 or len(encoders) < 2:
        return []
    best = {span: _best_at(span, encoders, measure) for span in spans}
    winners = {kinds: [span for span in spans if best[span] == kinds] for kinds in dict.fromkeys(best.values())}
    near, far = spans[0], spans[-1]
    if len(winners) == 1:
        one = "number of attractors" if unit == "attractors" else unit
        tokens = " tokens" if unit in IN_TOKENS else ""
        sentence = f"At every {one}, from {near} to {far}{tokens}, {_praised(best[near], encoders)}."
    else:
        parts = (f"{_listed(k)}{' equally' * (len(k) > 1)} at {_listed(w)}" for k, w in winners.items())
        sentence = f"By {unit}{' in tokens' * (unit in IN_TOKENS)}, the best is {'; '.join(parts)}."
    least, most = ("nearest", "farthest") if unit == "distance" else ("lowest", "highest")
    changes = ", ".join(f"{e['kind']} {_change(e, near, far, measure)}" for e in encoders)
    return [sentence, f"From the {least} ({near}) to the {most} ({far}) the {measure['name']} changes by: {changes}."]


def _best_at(bucket: str, encoders: list[dict], measure: dict) -> tuple[str, ...]:
    """The best kind in a bucket, or all that are equally good."""
    merits = {e["kind"]: _merit(e["distance"][bucket]["median"], measure) for e in encoders}
    return tuple(kind for kind, merit in merits.items() if merit == max(merits.values()))


def _praised(kinds: Sequence[str], encoders: list[dict]) -> str:
    """One kind is best, or several are equal."""
    if len(kinds) == 1:
        return f"{kinds[0]} is best"
    return f"{_listed(kinds)} are {'best, and ' * (len(kinds) < len(encoders))}equal"


def _change(encoder: dict, near: str, far: str, measure: dict) -> str:
    change = encoder["distance"][far]["median"] - encoder["distance"][near]["median"]
    return (f"{100 * change:+.1f}" if measure["percent"] else f"{change:+.3g}").replace("-", "−")


def _baselines(encoders: list[dict], measure: dict, baselines: list[dict]) -> list[str]:
    lines = []
    for baseline in baselines:
        better = [e["kind"] for e in encoders if _merit(e["time"]["median"] - baseline["value"], measure) > 0]
        who = "no encoder" if not better else "every encoder" if len(better) == len(encoders) else _listed(better)
        verb = "are" if 1 < len(better) < len(encoders) else "is"
        value = written(baseline["value"], measure)
        lines.append(f"A {baseline['name']} without any encoder: {value}; {who} {verb} better.")
    return lines


def notes(encoders: list[dict], measure: dict, budget: str, shared: int, tested: bool, sample: int) -> list[str]:
    """What a reader of the table must know."""
    slowest = min(encoders, key=lambda e: min(run["milestones"][-1][0] for run in e["runs"]))["kind"]
    seeds = max(len(e["runs"]) for e in encoders)
    data = "all test data" if tested else "the validation data: there are no test data"
    lines = [
        f"The last columns are measured after {budget}, on {data}, with the weights that were best on validation.",
        f"At equal tokens: the {measure['name']} when an encoder had seen {_count(shared)} tokens, as many as "
        f"{slowest} saw in all; on a fixed sample of the validation data ({sample:,} tokens at most), between two "
        "milestones on the line that joins them. A faster encoder was then in the middle of its schedule, with a "
        "learning rate that had yet to fall.",
    ]
    apart = [bucket for bucket in buckets(encoders) if not bucket[0].isdigit()]
    if apart:
        lines.append(f"By distance: {_listed(apart)} is where the answer does not lie in the sequence.")
    if seeds > 1:
        lines.append(f"Medians over {seeds} seeds, with the range from the lowest to the highest.")
    if any(e["tokens"] is None for e in encoders):
        lines.append("A dash: the first milestone came later than that.")
    return lines


def captions(measure: dict, budget: str, unit: str = "distance") -> dict[str, str]:
    """The caption above each plot."""
    by = "how many tokens lie between the question and what decides it" if unit == "distance" else unit
    return {
        "distance": f"On test data no encoder has seen, by {by}.",
        "time": f"Training loss as the seconds pass ({budget}); evaluating and saving take nothing from the budget.",
        "tokens": f"The same runs by what they had read: {measure['name']} on the validation sample at each milestone.",
    }


def buckets(encoders: list[dict]) -> list[str]:
    """The names of all distance buckets, in their order."""
    return list(dict.fromkeys(bucket for e in encoders for bucket in e["distance"]))


def written(value: float | None, measure: dict) -> str:
    return "–" if value is None else f"{100 * value:.1f}%" if measure["percent"] else f"{value:.4g}"


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _count(number: float) -> str:
    if number >= 1e6:
        return f"{number / 1e6:.2f} million"
    return f"{number / 1e3:.0f} thousand" if number >= 1e4 else f"{number:,.0f}"


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
    """A number in six characters.

    >>> _short(158634), _short(5698.2), _short(1.24e6)
    ('159 k', '5,698', '1.2 M')
    """
    return f"{number / 1e6:.1f} M" if number >= 1e6 else f"{number / 1e3:.0f} k" if number >= 1e4 else f"{number:,.0f}"


def _bare(value: float | None, measure: dict) -> str:
    return written(value, measure).removesuffix("%")
