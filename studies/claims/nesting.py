"""Claim 6: structure inside structure is said to be out of a recurrence's reach; brackets and nested lists ask for it."""

from __future__ import annotations

from sightline.tasks import Data
from sightline.tasks.synthetic import synthetic_task
from sightline.training.model import Model
from studies.claims.cell import Cell, Found
from studies.claims.claim import Claim, Judged, Stage, listed, not_run, spread, table
from studies.claims.outcome_tables import by_bucket, by_test, drawn_by_bucket, drawn_by_test
from studies.claims.study import Outcome, Study

RECURRENT = ("rnn", "lstm")
LEARNED, BEHIND = 0.5, 0.05  # skill
BRACKETS = "dyck:length=2-64,kinds=4,depth=4"
APART = "dyck:length=64,kinds=4,depth=4,by=distance,examples=30000"  # of which a thousand stand far apart


def by_distance(model: Model, data: Data, seed: int) -> dict:
    """Accuracy by how far away the bracket stands that is closed: most stand near, where a convolution hears them too."""
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
FARTHEST = {  # the depth that asks most, of the buckets, and why
    "dyck": (0, "where the brackets are outermost and span most (at the deepest a bracket closes at once)"),
    "listops": (-1, "the deepest trained"),
}
TRAINED = {"dyck": "length 2-64, depth 4", "listops": "depth 1-3"}


def cells(stage: Stage) -> list[Cell]:
    studies = {"quick": STUDIES[:1], "full": STUDIES, "gpu": ()}[stage.name]
    return [cell for study in studies for cell in study.cells(stage)]


def judge(found: Found) -> Judged:
    outcomes = [outcome for study in STUDIES if (outcome := study.outcome(found))]
    outcomes = [o for o in outcomes if "self-attention" in o.names and set(RECURRENT) & set(o.names)]
    shown, pictures = [], []
    for o in outcomes:
        trained = TRAINED[o.study.name]
        shown += [by_bucket(o), by_test(o, trained)] + [_distances(o)] * bool(_buckets(o))
        pictures += [p for p in (drawn_by_bucket(o), drawn_by_test(o, trained, "test data")) if p]
    learned = [o for o in outcomes if o.skill(o.at_end(o.best(o.names))["median"]) >= LEARNED]
    said = [_compared(o) for o in learned]
    said += [
        f"No encoder learned {o.study.name} in the time there was, so nothing follows from it."
        for o in outcomes
        if o not in learned
    ]
    if not learned:
        return (
            Judged("not settled", ["No encoder learned a task in its time.", *said], shown, pictures)
            if outcomes
            else not_run("Nothing was run yet.")
        )
    behind = [o.study.name for o in learned if all(gap >= BEHIND for gap in _gaps(o).values())]
    if any(o.study.name == "dyck" and min(_gaps(o).values()) < 0 for o in learned):
        said.append(
            "Self-attention, which is behind on brackets, has to count to find the partner of one; we believe that it is later here, with a small width and short training, and not unable to (Yao et al. 2021)."
        )
    verdict = "holds" if len(behind) == len(learned) else "holds when" if behind else "does not hold"
    rest = [o.study.name for o in learned if o.study.name not in behind]
    first = {
        "holds": f"On {listed(behind)} the better recurrence is clearly behind self-attention, at equal time and also at equal tokens.",
        "holds when": f"On {listed(behind)} the better recurrence is clearly behind self-attention, at equal time and also at equal tokens; on {listed(rest)} it is so in one column at most.",
        "does not hold": f"On no task that was learned ({listed(rest)}) is the better recurrence clearly behind self-attention at equal time and also at equal tokens.",
    }[verdict]
    return Judged(verdict, [first, *said], shown, pictures)


def _skills(o: Outcome) -> dict[str, list[dict | None]]:
    """Skill of self-attention and of the better recurrence, in both columns; None where a milestone came too late to say."""
    pair = ("self-attention", o.best(RECURRENT))
    return {
        "at equal time": [o.skills(o.at_end(name), o.constant) for name in pair],
        "at equal tokens": [o.skills(o.at_tokens(name), o.constant_valid) for name in pair],
    }


def _gaps(o: Outcome) -> dict[str, float]:
    """How much skill the better recurrence lacks, in both columns; 0 where ranges over seeds meet, or nothing can be said."""
    gaps = {}
    for column, (attention, other) in _skills(o).items():
        apart = attention and other and (attention["low"] > other["high"] or other["low"] > attention["high"])
        gaps[column] = attention["median"] - other["median"] if apart else 0.0
    return gaps


def _compared(o: Outcome) -> str:
    each = ", ".join(f"{name} {o.at_end(name)['median']:.1%}" for name in o.names)
    buckets = [b for b in o.buckets() if all(o.at_end(name, b) for name in o.names)]
    far = ""
    if buckets:
        depth, why = FARTHEST[o.study.name]
        there = ", ".join(f"{name} {o.at_end(name, buckets[depth])['median']:.1%}" for name in o.names)
        far = f" At depth {buckets[depth]}, {why}: {there}."
    if farthest := _buckets(o)[-1:]:
        there = ", ".join(f"{name} {_at_distance(o, name, farthest[0])['median']:.1%}" for name in o.names)
        far += f" Where the bracket that is closed stands {farthest[0]} tokens away (the convolution hears {o.study.heard}): {there}."
    both = " and ".join(
        f"{100 * other['median']:.0f}% {column} (self-attention {100 * attention['median']:.0f}%)"
        for column, (attention, other) in _skills(o).items()
        if attention and other
    )
    return f"{o.study.name}, after equal time: {each}.{far} In skill, {o.best(RECURRENT)} has {both}."


def _buckets(o: Outcome) -> list[str]:
    """The distances that all runs were asked at."""
    every = [one["further"] for same in o.runs.values() for one in same]
    return [key.partition("@")[2] for key in every[0] if all(key in one for one in every)]


def _at_distance(o: Outcome, name: str, bucket: str) -> dict:
    return spread(one["further"][f"accuracy@{bucket}"] for one in o.runs[name])


def _distances(o: Outcome) -> dict:
    buckets = _buckets(o)
    rows = [[name, *(_at_distance(o, name, bucket) for bucket in buckets)] for name in o.names]
    return table(
        f"Trained on {BRACKETS}, tested on {APART}: accuracy by how far apart the two brackets stand, in tokens",
        ["encoder", *buckets],
        rows,
        "%",
    )


NESTING = Claim(
    6,
    "Hierarchy",
    "A recurrence cannot express hierarchy well.",
    "Accuracy by depth on brackets, Dyck-(4, 4), and on nested lists (ListOps), within the trained depths and beyond; on brackets also by how far apart they stand.",
    f"Of the tasks that some encoder learns in its time (skill of {LEARNED:.0%}): on one, the better recurrence (by validation data) is clearly behind if it has {100 * BEHIND:.0f} points of skill less than self-attention "
    "at equal time and at equal tokens, with ranges over seeds that do not meet; skill is the share of the way from the best constant answer to a perfect one. Both columns count, since the claim is about what can be expressed and not about speed. Holds if it is behind on all, holds when on some, does not hold on none.",
    (
        "Hewitt et al. 2020: an RNN generates Dyck-(k, m) with a memory as small as any could be",
        "Nangia and Bowman 2018 (ListOps); Tran et al. 2018, The importance of being recurrent for modeling hierarchical structure: LSTM ahead",
        "Hahn 2020; Yao et al. 2021: what self-attention can and cannot express of bounded hierarchy",
    ),
    cells,
    judge,
    beside={
        "does not hold": "This contradicts the sentence, and agrees with Hewitt et al. 2020 and Tran et al. 2018. Brackets of bounded depth need a stack of few items, which fits into the "
        "state of a recurrence, and a stack is worked one item after another, as a recurrence works."
    },
)
