"""Claim 5: what was read long ago fades in a recurrence and stays within reach of self-attention.

Six tasks ask for something read earlier, at a known distance. Correct answers beyond the floor (`floors.py`) count as
memory. The influence of an input on an encoding is measured by distance too, before training (what the wiring brings)
and after (what was learned).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch

from sightline.observe import influence, untrained
from sightline.tasks import Data
from sightline.training.model import Model
from studies.claims.cell import Cell, Results
from studies.claims.claim import (
    RECURRENT,
    Claim,
    Judgement,
    Stage,
    line_picture,
    listed,
    medians,
    table,
    verdict_by_tasks,
)
from studies.claims.floors import Floors, floor_cell
from studies.claims.outcome_tables import picture_by_bucket, table_by_bucket, table_by_test
from studies.claims.study import Outcome, Study, cells_of, outcomes_of

LEARNED = 0.5  # the least skill of a learned task
FADES = 0.1  # the least loss of skill, beyond that of self-attention
NOTHING = 0.05  # the least skill at which anything was learned
SEQUENCES, ROWS = 16, 16  # of the test data; rows of each whose influences are measured
BINS = (0, 1, 2, 4, 8, 16, 32, 64, 128, 256)  # the first distance of each bin


def influence_by_distance(model: Model, data: Data, seed: int) -> dict:
    """Influence by distance of a trained model, and of the same model before training.

    Returns: `before` and `after`: [[first distance of a bin, mean influence of a pair]], for the distances that occur.
    """
    tested = data.test or data.valid
    longest = tested.lengths.argsort(descending=True, stable=True)[:SEQUENCES]
    inputs = tested.take(longest).inputs
    by_time = {}
    for time, one in (("before", untrained(model, seed)), ("after", model)):
        profile = influence(one, inputs, rows=ROWS).profile
        distance, bins = profile.distance.abs(), []
        for first, past in zip(BINS, (*BINS[1:], 2**62), strict=True):
            within = (distance >= first) & (distance < past)
            pairs = int(profile.pairs[within].sum())
            if pairs:
                bins.append([first, float(profile.total[within].sum()) / pairs])
        by_time[time] = bins
    torch.cuda.empty_cache()
    return by_time


SYMBOLS = "keys=32,values=32"
STUDIES = (
    Study(
        "selective-copy",
        "selective-copy:length=8-120,marked=4",
        settings={"causal": True},
        seconds=30,
        quick_seconds=15,
        further=influence_by_distance,
    ),
    Study(
        "agreement",
        "agreement:attractors=0-3,by=distance",
        {f"attractors {n}": f"agreement:attractors={n},by=distance" for n in (0, 1, 2, 3, 5)},
        seconds=10,
        quick_seconds=8,
        further=influence_by_distance,
    ),
    Study("copy", "copy:length=2-64", seconds=30, further=influence_by_distance),
    Study(
        "mqar",
        f"mqar:length=6-256,pairs=1-16,{SYMBOLS},examples=40000",
        {f"length {n}": f"mqar:length={n},pairs=16,{SYMBOLS}" for n in (64, 128, 256)},
        {"layers": 2, "causal": True, "tokens": 3072},
        seconds=45,
        further=influence_by_distance,
    ),
    Study("adding", "adding:length=10-200", seconds=15, further=influence_by_distance),
    Study("scope", "scope", seconds=20, further=influence_by_distance),
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
    floors = [floor_cell(study, stage, study.name == "mqar") for study in studies if stage.name != "gpu"]
    return floors + cells_of(studies, stage)


# ---- the verdict -----------------------------------------------------------------------------------------------------


KINDS = ("unlearned", "empty", "forgets", "remembers")


@dataclass(eq=False)
class Comparison:
    """Self-attention and the better recurrence on one task, in skill above the floor, from near to far."""

    outcome: Outcome
    floors: Floors

    @property
    def task(self) -> str:
        return self.outcome.study.name

    @cached_property
    def recurrence(self) -> str:
        return self.outcome.best(RECURRENT)

    @cached_property
    def ends(self) -> tuple[str, str] | None:
        """The nearest and the farthest bucket in which all encoders were measured; None if there is only one."""
        o = self.outcome
        whole = [b for b in o.buckets() if b != "outside" and all(o.at_end(name, b) for name in o.names)]
        return (whole[0], whole[-1]) if len(whole) > 1 else None

    def skill(self, name: str, bucket: str = "") -> float:
        floor = self.floors.at(bucket, self.outcome.constant)
        return self.outcome.skill(self.outcome.at_end(name, bucket)["median"], floor)

    def loss(self, name: str) -> float:
        """The skill lost from the nearest to the farthest distance."""
        near, far = self.ends
        return self.skill(name, near) - self.skill(name, far)

    def kind(self) -> str:
        """One of KINDS: unlearned by self-attention, empty: nothing to forget, forgets, remembers."""
        if not self.ends or self.skill("self-attention") < LEARNED:
            return "unlearned"
        near, far = self.ends
        if self.skill(self.recurrence, near) < NOTHING:
            return "empty"
        own, other = (self.outcome.at_end(name, far) for name in ("self-attention", self.recurrence))
        loses_more = self.loss(self.recurrence) - self.loss("self-attention") >= FADES
        return "forgets" if loses_more and self.outcome.ahead(own, other) > 0 else "remembers"


def judge(results: Results) -> Judgement:
    outcomes = [outcome for outcome in outcomes_of(STUDIES, results) if "self-attention" in outcome.names]
    grid = outcomes_of(GRID, results)
    grid_tables = [_grid_table(grid)] if grid else []
    if not outcomes:
        return Judgement("not run", ["Nothing was run yet."], grid_tables)
    floors = {outcome: Floors.from_results(outcome.study, results) for outcome in outcomes}
    comparisons = [Comparison(o, floors[o]) for o in outcomes if o.has_recurrence()]
    tasks = {kind: [one.task for one in comparisons if one.kind() == kind] for kind in KINDS}
    learned = [one for one in comparisons if one.task in tasks["forgets"] + tasks["remembers"]]
    sentences = [_distance_sentence(one) for one in learned] + _unlearned_sentences(tasks)
    sentences += [sentence for o in outcomes if (sentence := _recall_sentence(o, floors[o]))]
    sentences += _influence_sentences(outcomes)
    if learned:
        verdict = verdict_by_tasks(tasks["forgets"], learned)
        first = _first_sentence(verdict, [one.task for one in learned], tasks)
    else:
        verdict, first = "not settled", "No task was learned by both self-attention and a recurrence in their time."
    tables = [table_by_bucket(outcome, floors[outcome]) for outcome in outcomes]
    tables += [table_by_test(o, "attractors 0-3") for o in outcomes if o.study.name == "agreement"]
    pictures = [picture for outcome in outcomes if (picture := picture_by_bucket(outcome, floors[outcome]))]
    return Judgement(verdict, [first, *sentences], tables + grid_tables, pictures + _influence_pictures(outcomes))


# ---- sentences -------------------------------------------------------------------------------------------------------


def _first_sentence(verdict: str, learned: list[str], tasks: dict[str, list[str]]) -> str:
    forgets, remembers, empty = tasks["forgets"], tasks["remembers"], tasks["empty"]
    nothing = f"; on {listed(empty)} it learned nothing that could be forgotten" if empty else ""
    return {
        "holds": (
            f"On every task that both learned ({listed(learned)}), the better recurrence loses more with distance "
            "and is behind where it is farthest."
        ),
        "holds when": (
            f"It holds on {listed(forgets)}; on {listed(remembers)} the better recurrence does not lose more with "
            "distance, or is not behind."
        ),
        "does not hold": (
            f"On no task that both learned ({listed(learned)}) does the better recurrence lose more with distance "
            f"and end behind it{nothing}."
        ),
    }[verdict]


def _distance_sentence(one: Comparison) -> str:
    """What both lose from the nearest to the farthest distance; and the convolution, where it does not see that far."""
    (near, far), own, other = one.ends, "self-attention", one.recurrence
    sentence = (
        f"{one.task}: from {near} to {far} tokens the skill of {other} changes by {_points(-one.loss(other))} "
        f"points and that of {own} by {_points(-one.loss(own))}; at {far} they have {one.skill(other, far):.0%} "
        f"and {one.skill(own, far):.0%}"
    )
    beyond = int(far.rstrip("+").partition("-")[0]) > one.outcome.study.convolution_reach
    if beyond and one.outcome.at_end("convolution", far):
        share = one.skill("convolution", far)
        sentence += f", and the convolution, which does not hear that far, {share:.0%}"
    return f"{sentence}."


def _points(share: float) -> str:
    """A share in signed points; 0 without a sign."""
    return f"{round(100 * share):+d}" if round(100 * share) else "0"


def _unlearned_sentences(tasks: dict[str, list[str]]) -> list[str]:
    sentences = []
    if tasks["empty"]:
        sentences.append(
            f"On {listed(tasks['empty'])} the better recurrence learned nothing in its time, not even nearby, so "
            "that there was nothing to forget; self-attention did."
        )
    if tasks["unlearned"]:
        sentences.append(
            f"In its time self-attention did not learn {listed(tasks['unlearned'])}, so nothing follows from there."
        )
    return sentences


def _recall_sentence(outcome: Outcome, floors: Floors) -> str | None:
    """Associative recall at length 256, which the literature reports for all encoders."""
    if outcome.study.name != "mqar":
        return None
    each = medians({name: outcome.on(name, "length 256") for name in outcome.names})
    sentence = f"Associative recall at length 256, width 64, 16 pairs: {each}."
    if not floors.guess:
        return sentence
    return (
        f"{sentence} Answering with the value shown most often, without knowing its key, is right in "
        f"{floors.tests['length 256']:.1%}, and more often where there are fewer pairs, as where questions "
        "are near. That is the floor here: to answer near questions better does not show that far ones are "
        "forgotten."
    )


def _grid_table(grid: list[Outcome]) -> dict:
    names = list(dict.fromkeys(name for outcome in grid for name in outcome.names))
    rows = []
    for outcome in grid:
        size = outcome.study.name.removeprefix("mqar-").replace("-", " × ")
        rows.append([size, *(outcome.on(name, GRID_TEST) if name in outcome.names else None for name in names)])
    return table("Associative recall, length × width: accuracy", ["length × width", *names], rows, "%")


# ---- influence -------------------------------------------------------------------------------------------------------


def _profiles(outcome: Outcome, time: str) -> dict[str, list]:
    """Influence by distance of each encoder's first seed, as a share of that at distance 1; `time`: before or after."""
    series = {}
    for name in outcome.names:
        bins = outcome.runs[name][0]["further"].get(time, [])
        near = next((value for distance, value in bins if distance == 1), 0.0)
        series[name] = [[d, value / near] for d, value in bins if d >= 1 and near > 0]
    return series


def _with_influence(outcomes: list[Outcome]) -> Outcome | None:
    """The study whose influence is shown: one with questions at all distances."""
    return next((o for o in outcomes if o.study.name in ("mqar", "selective-copy")), None)


def _influence_sentences(outcomes: list[Outcome]) -> list[str]:
    if (outcome := _with_influence(outcomes)) is None:
        return []
    parts = []
    for name in outcome.names:
        before, after = (dict(_profiles(outcome, time)[name]) for time in ("before", "after"))
        if distances := sorted(before.keys() & after.keys()):
            last = distances[-1]
            parts.append(f"{name} {_small(before[last])} and {_small(after[last])} ({last} or more tokens away)")
    return [
        f"Influence on {outcome.study.name}, of an input far away as a share of that of a direct neighbour, "
        f"before and after training, first seed: {', '.join(parts)}. 0 means none, or less than float32 "
        "represents. An influence that fades before training may be learned; one that does not fade need not be "
        "used."
    ]


def _small(share: float) -> str:
    return f"{share:.2g}" if share >= 1e-3 else f"{share:.0e}" if share else "0"


def _influence_pictures(outcomes: list[Outcome]) -> list[dict]:
    if (outcome := _with_influence(outcomes)) is None:
        return []
    return [
        line_picture(
            f"Influence by distance, {time} training ({outcome.study.name})",
            "Squared Frobenius norm of the derivative of an encoding by an input, on average over pairs, as a "
            "share of that at distance 1; bins begin where their points stand; first seed.",
            {"name": "distance in tokens", "scale": "log"},
            {"name": "influence", "scale": "log", "percent": False},
            _profiles(outcome, time),
        )
        for time in ("before", "after")
    ]


FORGETTING = Claim(
    5,
    "Forgetting",
    "A recurrence forgets: what it read fades step by step. Self-attention keeps everything within reach.",
    "Accuracy by the distance between a question and what answers it, on copying, selective copying, associative "
    "recall, adding, agreement (with attractors crossed) and the scope of names in real code; and the influence "
    "of inputs on encodings by distance, before and after training.",
    (
        f"Counted are the tasks that self-attention learns in its time (skill of {LEARNED:.0%}) and that the "
        f"better recurrence learns at least nearby (skill of {NOTHING:.0%}). Skill is 0% at a floor and 100% for "
        "the perfect answer; the floor is the best constant answer at that distance or, for recall, a guess of "
        "the value shown most often. Forgetting is seen on a task if, from the nearest to the farthest distance, "
        f"the better of the two recurrences loses {100 * FADES:.0f} points of skill more than self-attention, and "
        "is behind it at the farthest with ranges over seeds that do not meet. Holds if it is seen on all of "
        "them, holds when on some, does not hold if on none."
    ),
    (
        (
            "Hochreiter and Schmidhuber 1997; Bengio et al. 1994, Learning long-term dependencies with gradient "
            "descent is difficult"
        ),
        (
            "Arora et al. 2023 (zoology): associative recall with many questions, and what it asks of mixers "
            "without attention"
        ),
        (
            "Tang et al. 2018: no gain of self-attention over an RNN in agreement over distance; Tran et al. "
            "2018: LSTM ahead"
        ),
        "Khandelwal et al. 2018, Sharp nearby, fuzzy far away",
    ),
    cells,
    judge,
    beside={
        "does not hold": (
            "This contradicts the sentence as it is usually made: where a recurrence learned a task, it lost no "
            "more over distance than self-attention did, as Tang et al. 2018 find for agreement. The strength of "
            "self-attention is associative recall, at every distance. No recurrence began to learn it here: they "
            "do no better than a guess among the values shown, near or far. Arora et al. 2023 find such a gap "
            "for mixers without attention, whose width has to grow with the sequence. Influence does fade with "
            "distance before training, as Bengio et al. 1994 derived."
        )
    },
)
