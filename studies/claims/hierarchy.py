"""Claim 6: structure inside structure is said to be out of a recurrence's reach; brackets and nested lists test it."""

from __future__ import annotations

from sightline.tasks import Data
from sightline.tasks.synthetic import synthetic_task
from sightline.training.model import Model
from studies.claims.cell import Cell, Results
from studies.claims.claim import (
    RECURRENT,
    Claim,
    Judgement,
    Spread,
    Stage,
    listed,
    medians,
    not_run,
    table,
    verdict_by_tasks,
)
from studies.claims.outcome_tables import picture_by_bucket, picture_by_test, table_by_bucket, table_by_test
from studies.claims.study import Outcome, Study, apart, cells_of, outcomes_of

LEARNED, BEHIND = 0.5, 0.05  # skill
BRACKETS = "dyck:length=2-64,kinds=4,depth=4"
APART = "dyck:length=64,kinds=4,depth=4,by=distance,examples=30000"  # a thousand pairs are far apart


def by_distance(model: Model, data: Data, seed: int) -> dict:
    """Accuracy by the distance to the bracket that is closed. Most are near, where a convolution sees them too."""
    tested = synthetic_task(APART).parts()["test"]
    return {key: value for key, value in model.evaluate(tested).items() if "@" in key}


STUDIES = (
    Study(
        "dyck",
        BRACKETS,
        {"depth 8": "dyck:length=64,kinds=4,depth=8", "length 128": "dyck:length=128,kinds=4,depth=4"},
        seconds=12,
        quick_seconds=8,
        further=by_distance,
    ),
    Study("listops", "listops:depth=1-3", {f"depth {n}": f"listops:depth={n}" for n in (4, 5)}, seconds=20),
)
FARTHEST = {  # the bucket of the hardest depth, and the reason
    "dyck": (0, "where the brackets are outermost and span most (at the deepest a bracket closes at once)"),
    "listops": (-1, "the deepest trained"),
}
TRAINED = {"dyck": "length 2-64, depth 4", "listops": "depth 1-3"}


def cells(stage: Stage) -> list[Cell]:
    return cells_of({"quick": STUDIES[:1], "full": STUDIES, "gpu": ()}[stage.name], stage)


def judge(results: Results) -> Judgement:
    outcomes = [o for o in outcomes_of(STUDIES, results) if "self-attention" in o.names and o.has_recurrence()]
    if not outcomes:
        return not_run()
    learned = [o for o in outcomes if o.skill(o.at_end(o.best(o.names))["median"]) >= LEARNED]
    sentences = [_comparison_sentence(o) for o in learned]
    sentences += [
        f"No encoder learned {o.study.name} in the time there was, so nothing follows from it."
        for o in outcomes
        if o not in learned
    ]
    tables = [one for o in outcomes for one in _tables(o)]
    pictures = [one for o in outcomes for one in _pictures(o)]
    if not learned:
        return Judgement("not settled", ["No encoder learned a task in its time.", *sentences], tables, pictures)
    if any(o.study.name == "dyck" and min(_gaps(o).values()) < 0 for o in learned):
        sentences.append(
            "Self-attention is behind on brackets, where it has to count to find the partner of one. We "
            "believe that with a small width and short training it learns this later, not that it cannot "
            "(Yao et al. 2021)."
        )
    behind = [o.study.name for o in learned if all(gap >= BEHIND for gap in _gaps(o).values())]
    rest = [o.study.name for o in learned if o.study.name not in behind]
    verdict = verdict_by_tasks(behind, learned)
    return Judgement(verdict, [_first_sentence(verdict, behind, rest), *sentences], tables, pictures)


def _first_sentence(verdict: str, behind: list[str], rest: list[str]) -> str:
    return {
        "holds": (
            f"On {listed(behind)} the better recurrence is clearly behind self-attention, at equal time and also "
            "at equal tokens."
        ),
        "holds when": (
            f"On {listed(behind)} the better recurrence is clearly behind self-attention, at equal time and also "
            f"at equal tokens; on {listed(rest)} it is so in one column at most."
        ),
        "does not hold": (
            f"On no task that was learned ({listed(rest)}) is the better recurrence clearly behind self-attention "
            "at equal time and also at equal tokens."
        ),
    }[verdict]


def _skills(o: Outcome) -> dict[str, list[Spread | None]]:
    """Skill of self-attention and of the better recurrence in both columns; None if the first milestone is later."""
    pair = ("self-attention", o.best(RECURRENT))
    return {
        "at equal time": [o.skills(o.at_end(name), o.constant) for name in pair],
        "at equal tokens": [o.skills(o.at_tokens(name), o.constant_valid) for name in pair],
    }


def _gaps(o: Outcome) -> dict[str, float]:
    """How much less skill the better recurrence has, in both columns; 0 if ranges over seeds meet or one is unknown."""
    return {
        column: own["median"] - other["median"] if own and other and apart(own, other) else 0.0
        for column, (own, other) in _skills(o).items()
    }


def _comparison_sentence(o: Outcome) -> str:
    parts = [f"{o.study.name}, after equal time: {medians({name: o.at_end(name) for name in o.names})}."]
    if buckets := [b for b in o.buckets() if all(o.at_end(name, b) for name in o.names)]:
        index, reason = FARTHEST[o.study.name]
        at_depth = medians({name: o.at_end(name, buckets[index]) for name in o.names})
        parts.append(f"At depth {buckets[index]}, {reason}: {at_depth}.")
    if distances := _distances(o):
        far = medians({name: o.further(name, f"accuracy@{distances[-1]}") for name in o.names})
        parts.append(
            f"Where the bracket that is closed stands {distances[-1]} tokens away (the convolution hears "
            f"{o.study.convolution_reach}): {far}."
        )
    both = " and ".join(
        f"{100 * other['median']:.0f}% {column} (self-attention {100 * own['median']:.0f}%)"
        for column, (own, other) in _skills(o).items()
        if own and other
    )
    parts.append(f"In skill, {o.best(RECURRENT)} has {both}.")
    return " ".join(parts)


def _distances(o: Outcome) -> list[str]:
    """The distances between brackets at which all runs were tested."""
    runs = [run["further"] for same in o.runs.values() for run in same]
    return [key.partition("@")[2] for key in runs[0] if all(key in run for run in runs)]


def _tables(o: Outcome) -> list[dict]:
    tables = [table_by_bucket(o), table_by_test(o, TRAINED[o.study.name])]
    if distances := _distances(o):
        rows = [[name, *(o.further(name, f"accuracy@{distance}") for distance in distances)] for name in o.names]
        title = f"Trained on {BRACKETS}, tested on {APART}: accuracy by how far apart the two brackets stand, in tokens"
        tables.append(table(title, ["encoder", *distances], rows, "%"))
    return tables


def _pictures(o: Outcome) -> list[dict]:
    by_bucket, by_test = picture_by_bucket(o), picture_by_test(o, TRAINED[o.study.name], "test data")
    return [by_bucket, by_test] if by_bucket else [by_test]


HIERARCHY = Claim(
    6,
    "Hierarchy",
    "A recurrence cannot express hierarchy well.",
    (
        "Accuracy by depth on brackets, Dyck-(4, 4), and on nested lists (ListOps), within the trained depths "
        "and beyond; on brackets also by how far apart they stand."
    ),
    (
        f"Counted are the tasks that some encoder learns in its time (skill of {LEARNED:.0%}; skill is 0% for the "
        "best constant answer and 100% for a perfect one). On a task the better recurrence (by validation data) "
        f"is clearly behind if it has {100 * BEHIND:.0f} points of skill less than self-attention at equal time "
        "and at equal tokens, with ranges over seeds that do not meet. Both columns count, since the claim is "
        "about what can be expressed and not about speed. Holds if it is behind on all, holds when on some, does "
        "not hold if on none."
    ),
    (
        "Hewitt et al. 2020: an RNN generates Dyck-(k, m) with a memory as small as any could be",
        (
            "Nangia and Bowman 2018 (ListOps); Tran et al. 2018, The importance of being recurrent for modeling "
            "hierarchical structure: LSTM ahead"
        ),
        "Hahn 2020; Yao et al. 2021: what self-attention can and cannot express of bounded hierarchy",
    ),
    cells,
    judge,
    beside={
        "does not hold": (
            "This contradicts the sentence, and agrees with Hewitt et al. 2020 and Tran et al. 2018. Brackets of "
            "bounded depth need a stack of few items. Such a stack fits into the state of a recurrence, and "
            "changes by one item at a time, as a recurrence works."
        )
    },
)
