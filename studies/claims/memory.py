"""Claim 5: what was read long ago fades in a recurrence and stays within reach of self-attention.

Six tasks ask for something read earlier, at a known distance. What is right there beyond the floor (`floors.py`) was kept.
Besides, the influence of an input on an encoding is measured by distance, before and after training: what the build brings,
and what was learned.
"""

from __future__ import annotations

import torch

from sightline.observe import influence, untrained
from sightline.tasks import Data
from sightline.training.model import Model
from studies.claims.cell import Cell, Found
from studies.claims.claim import Claim, Judged, Stage, lines, listed, table
from studies.claims.floors import Floors, cell
from studies.claims.outcome_tables import by_bucket, by_test, drawn_by_bucket
from studies.claims.study import Outcome, Study

RECURRENT = ("rnn", "lstm")
LEARNED = 0.5  # skill, from which on a task counts as learned
FADES = 0.1  # of skill, more than self-attention
NOTHING = 0.05  # skill, below which nothing was learned
SEQUENCES, ASKED = 16, 16  # of the test data, and rows of each that are asked what moves them
BINS = (0, 1, 2, 4, 8, 16, 32, 64, 128, 256)  # distances from which on a bin begins


def faded(model: Model, data: Data, seed: int) -> dict:
    """Influence by distance of a model as it is, and of the same build before it learned.

    Returns: `before` and `after`: [[distance, influence of a pair on average]], of the distances that occur; a bin's distance is its first.
    """
    tested = data.test or data.valid
    longest = tested.lengths.argsort(descending=True, stable=True)[:SEQUENCES]
    inputs = tested.take(longest).inputs
    found = {}
    for name, one in (("before", untrained(model, seed)), ("after", model)):
        profile = influence(one, inputs, rows=ASKED).profile
        distance, bins = profile.distance.abs(), []
        for least, past in zip(BINS, (*BINS[1:], 2**62), strict=True):
            within = (distance >= least) & (distance < past)
            pairs = int(profile.pairs[within].sum())
            if pairs:
                bins.append([least, float(profile.total[within].sum()) / pairs])
        found[name] = bins
    torch.cuda.empty_cache()
    return found


SYMBOLS = "keys=32,values=32"
STUDIES = (
    Study(
        "selective-copy",
        "selective-copy:length=8-120,marked=4",
        settings={"causal": True},
        seconds=30,
        quick_seconds=15,
        further=faded,
    ),
    Study(
        "agreement",
        "agreement:attractors=0-3,by=distance",
        {f"attractors {n}": f"agreement:attractors={n},by=distance" for n in (0, 1, 2, 3, 5)},
        seconds=10,
        quick_seconds=8,
        further=faded,
    ),
    Study("copy", "copy:length=2-64", seconds=30, further=faded),
    Study(
        "mqar",
        f"mqar:length=6-256,pairs=1-16,{SYMBOLS},examples=40000",
        {f"length {n}": f"mqar:length={n},pairs=16,{SYMBOLS}" for n in (64, 128, 256)},
        {"layers": 2, "causal": True, "tokens": 3072},
        seconds=45,
        further=faded,
    ),
    Study("adding", "adding:length=10-200", seconds=15, further=faded),
    Study("scope", "scope", seconds=20, further=faded),
)
GRID_TEST = "longest"
GRID = tuple(
    Study(
        f"mqar-{length}-{width}",
        f"mqar:length=8-{length},pairs=1-{length // 16},examples=100000",
        {GRID_TEST: f"mqar:length={length},pairs={length // 16}"},
        {"width": width, "layers": 2, "causal": True, "tokens": 16384},
        seconds=20,
    )
    for length in (64, 128, 256, 512)
    for width in (64, 128, 256)
)


def cells(stage: Stage) -> list[Cell]:
    studies = {"quick": STUDIES[:2], "full": STUDIES, "gpu": GRID}[stage.name]
    floors = [cell(study, stage, study.name == "mqar") for study in studies if stage.name != "gpu"]
    return floors + [one for study in studies for one in study.cells(stage)]


def judge(found: Found) -> Judged:
    outcomes = [outcome for study in STUDIES if (outcome := study.outcome(found)) and "self-attention" in outcome.names]
    grid = [outcome for study in GRID if (outcome := study.outcome(found))]
    asked = [(outcome, _near_and_far(outcome)) for outcome in outcomes if set(RECURRENT) & set(outcome.names)]
    if not outcomes:
        return Judged("not run", ["Nothing was run yet."], [_grid_table(grid)] * bool(grid))
    floors = {o: Floors.of(o.study, found) for o in outcomes}
    learned = [(o, ends) for o, ends in asked if ends and _skill(o, floors[o], "self-attention") >= LEARNED]
    empty = [o for o, (near, _) in learned if _skill(o, floors[o], o.best(RECURRENT), near) < NOTHING]
    learned = [(o, ends) for o, ends in learned if o not in empty]
    said, seen = [], []
    for outcome, ends in learned:
        sentence, forgets = _forgets(outcome, floors[outcome], *ends)
        said.append(sentence)
        seen += [outcome.study.name] * forgets
    if empty:
        said.append(
            f"On {listed(o.study.name for o in empty)} the better recurrence learned nothing in its time, not even nearby, so that there was nothing to forget; self-attention did."
        )
    others = [o.study.name for o, _ in asked if o not in [*empty, *(one for one, _ in learned)]]
    if others:
        said.append(f"In its time self-attention did not learn {listed(others)}, so nothing follows from there.")
    said += [s for o in outcomes if (s := _recall(o, floors[o]))] + _influence_said(outcomes)
    shown = [by_bucket(outcome, floors[outcome]) for outcome in outcomes]
    shown += [by_test(o, "attractors 0-3") for o in outcomes if o.study.name == "agreement"]
    shown += [_grid_table(grid)] * bool(grid)
    pictures = [p for outcome in outcomes if (p := drawn_by_bucket(outcome, floors[outcome]))]
    pictures += _influence_drawn(outcomes)
    if not learned:
        return Judged(
            "not settled",
            ["No task was learned by both self-attention and a recurrence in their time.", *said],
            shown,
            pictures,
        )
    verdict = "holds" if len(seen) == len(learned) else "holds when" if seen else "does not hold"
    names = [outcome.study.name for outcome, _ in learned]
    nothing = f"; on {listed(o.study.name for o in empty)} it learned nothing that could be forgotten" * bool(empty)
    first = {
        "holds": f"On every task that both learned ({listed(names)}), the better recurrence loses more with distance and is behind where it is farthest.",
        "holds when": f"It holds on {listed(seen)}; on {listed(n for n in names if n not in seen)} the better recurrence does not lose more with distance, or is not behind.",
        "does not hold": f"On no task that both learned ({listed(names)}) does the better recurrence lose more with distance and end behind it{nothing}.",
    }[verdict]
    return Judged(verdict, [first, *said], shown, pictures)


def _skill(outcome: Outcome, floors: Floors, name: str, bucket: str = "") -> float:
    return outcome.skill(outcome.at_end(name, bucket)["median"], floors.at(bucket, outcome.constant))


def _near_and_far(outcome: Outcome) -> tuple[str, str] | None:
    """The nearest and the farthest bucket in which all were measured."""
    whole = [b for b in outcome.buckets() if b != "outside" and all(outcome.at_end(name, b) for name in outcome.names)]
    return (whole[0], whole[-1]) if len(whole) > 1 else None


def _forgets(outcome: Outcome, floors: Floors, near: str, far: str) -> tuple[str, bool]:
    """Whether the better recurrence fades more than self-attention and ends behind it, and a sentence on it."""
    recurrent = outcome.best(RECURRENT)
    both = (recurrent, "self-attention")
    ends = {name: [_skill(outcome, floors, name, bucket) for bucket in (near, far)] for name in both}
    falls = {name: at_near - at_far for name, (at_near, at_far) in ends.items()}
    behind = outcome.ahead(outcome.at_end("self-attention", far), outcome.at_end(recurrent, far)) > 0
    forgets = falls[recurrent] - falls["self-attention"] >= FADES and behind
    changes = {name: f"{round(-100 * fall):+d}" if round(100 * fall) else "0" for name, fall in falls.items()}
    sentence = (
        f"{outcome.study.name}: from {near} to {far} tokens the skill of {recurrent} changes by {changes[recurrent]} points and that of self-attention "
        f"by {changes['self-attention']}; at {far} they have {ends[recurrent][1]:.0%} and {ends['self-attention'][1]:.0%}"
    )
    beyond = int(far.rstrip("+").partition("-")[0]) > outcome.study.heard
    if beyond and outcome.at_end("convolution", far):
        sentence += (
            f", and the convolution, which does not hear that far, {_skill(outcome, floors, 'convolution', far):.0%}"
        )
    return f"{sentence}.", forgets


def _recall(outcome: Outcome, floors: Floors) -> str | None:
    """Associative recall at length 256, which the literature reports for all."""
    if outcome.study.name != "mqar":
        return None
    at = {name: outcome.on(name, "length 256") for name in outcome.names}
    each = ", ".join(f"{name} {s['median']:.1%}" for name, s in at.items() if s)
    said = f"Associative recall at length 256, width 64, 16 pairs: {each}."
    if not floors.guess:
        return said
    return (
        f"{said} Who keeps the values and not what belongs to what, and answers with the one shown most often, is right in {floors.tests['length 256']:.1%}, and more often where there are "
        "fewer pairs, as there are where questions are near: that is the floor here, and to answer near questions better is not yet to forget far ones."
    )


# ---- influence ---------------------------------------------------------------------------------------------------------


def _profiles(outcome: Outcome, when: str) -> dict[str, list]:
    """Influence by distance of each encoder's first seed, as a share of that of the nearest neighbours."""
    series = {}
    for name in outcome.names:
        bins = outcome.runs[name][0]["further"].get(when, [])
        near = next((value for distance, value in bins if distance == 1), 0.0)
        series[name] = [[d, value / near] for d, value in bins if d >= 1 and near > 0]
    return series


def _shown(outcomes: list[Outcome]) -> Outcome | None:
    """The study whose influence is shown: one that asks at all distances."""
    return next((o for o in outcomes if o.study.name in ("mqar", "selective-copy")), None)


def _influence_said(outcomes: list[Outcome]) -> list[str]:
    if (outcome := _shown(outcomes)) is None:
        return []
    parts = []
    for name in outcome.names:
        before, after = (dict(_profiles(outcome, when)[name]) for when in ("before", "after"))
        if both := sorted(before.keys() & after.keys()):
            parts.append(
                f"{name} {_small(before[both[-1]])} and {_small(after[both[-1]])} ({both[-1]} or more tokens away)"
            )
    return [
        f"Influence on {outcome.study.name}, of an input far away as a share of that of a direct neighbour, before and after training, first seed: "
        f"{', '.join(parts)}. 0 is none, or less than float32 can hold. What fades before may be learned, and what does not fade need not be used."
    ]


def _small(share: float) -> str:
    return f"{share:.2g}" if share >= 1e-3 else f"{share:.0e}" if share else "0"


def _influence_drawn(outcomes: list[Outcome]) -> list[dict]:
    if (outcome := _shown(outcomes)) is None:
        return []
    return [
        lines(
            f"Influence by distance, {when} training ({outcome.study.name})",
            "Squared Frobenius norm of the derivative of an encoding by an input, on average over pairs, as a share of that at "
            "distance 1; bins begin where their points stand; first seed.",
            {"name": "distance in tokens", "scale": "log"},
            {"name": "influence", "scale": "log", "percent": False},
            _profiles(outcome, when),
        )
        for when in ("before", "after")
    ]


def _grid_table(grid: list[Outcome]) -> dict:
    names = list(dict.fromkeys(name for outcome in grid for name in outcome.names))
    rows = [
        [
            o.study.name.removeprefix("mqar-").replace("-", " × "),
            *(o.on(n, GRID_TEST) if n in o.names else None for n in names),
        ]
        for o in grid
    ]
    return table("Associative recall, length × width: accuracy", ["length × width", *names], rows, "%")


MEMORY = Claim(
    5,
    "Forgetting",
    "A recurrence forgets: what it read fades step by step. Self-attention keeps everything within reach.",
    "Accuracy by the distance between a question and what answers it, on copying, selective copying, associative recall, adding, agreement (with attractors crossed) and "
    "the scope of names in real code; and the influence of inputs on encodings by distance, before and after training.",
    f"Of the tasks that self-attention learns in its time (skill of {LEARNED:.0%}; skill is the share of the way from a floor to the perfect answer; the floor is the best constant "
    f"answer at that distance, or, of recall, guessing the value shown most often) and the better recurrence at least nearby (skill of {NOTHING:.0%}), forgetting is seen on one if from the nearest to the farthest distance the better of the two recurrences loses {100 * FADES:.0f} points of skill more than "
    "self-attention, and is behind it at the farthest with ranges over seeds that do not meet. Holds if it is seen on all of them, holds when on some, does not hold on none.",
    (
        "Hochreiter and Schmidhuber 1997; Bengio et al. 1994, Learning long-term dependencies with gradient descent is difficult",
        "Arora et al. 2023 (zoology): associative recall with many questions, and what it asks of mixers without attention",
        "Tang et al. 2018: no gain of self-attention over an RNN in agreement over distance; Tran et al. 2018: LSTM ahead",
        "Khandelwal et al. 2018, Sharp nearby, fuzzy far away",
    ),
    cells,
    judge,
    beside={
        "does not hold": "This contradicts the sentence as it is usually made: where a recurrence learned a task, it lost no more over distance than self-attention did, as Tang et al. 2018 find "
        "of agreement. What self-attention has is associative recall, at every distance, which no recurrence began to learn here: they do no better than a guess among the values shown, near or far. "
        "Arora et al. 2023 find such a gap for mixers without attention, whose width has to grow with the sequence. Influence does fade with distance before training, as Bengio et al. 1994 derived."
    },
)
