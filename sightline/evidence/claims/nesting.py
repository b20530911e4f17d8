"""Claim 6: structure inside structure is said to be out of a recurrence's reach; brackets and nested lists ask for it."""

from __future__ import annotations

from sightline.evidence.claims.cell import Cell, Found
from sightline.evidence.claims.claim import Claim, Judged, Stage, listed, not_run
from sightline.evidence.claims.showing import by_bucket, by_test, drawn_by_bucket, drawn_by_test
from sightline.evidence.claims.study import Outcome, Study

RECURRENT = ("rnn", "lstm")
LEARNED, BEHIND = 0.3, 0.05  # skill
STUDIES = (
    Study(
        "dyck",
        "dyck:length=2-64,kinds=4,depth=4",
        {"depth 8": "dyck:length=64,kinds=4,depth=8", "length 128": "dyck:length=128,kinds=4,depth=4"},
        seconds=12,
        quick_seconds=8,
    ),
    Study("listops", "listops:depth=1-3", {f"depth {n}": f"listops:depth={n}" for n in (4, 5)}, seconds=20),
)
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
        shown += [by_bucket(o), by_test(o, trained)]
        pictures += [p for p in (drawn_by_bucket(o), drawn_by_test(o, trained, "test data")) if p]
    learned = [o for o in outcomes if o.skill(o.at_end(o.best(o.names))["median"]) >= LEARNED]
    said = [_compared(o) for o in learned]
    said += [
        f"Nobody learned {o.study.name} in the time there was, so nothing follows from it."
        for o in outcomes
        if o not in learned
    ]
    if not learned:
        return (
            Judged(
                "not settled",
                ["No encoder learned a task in its time.", *said],
                shown,
                pictures,
            )
            if outcomes
            else not_run("Nothing was run yet.")
        )
    behind = [o.study.name for o in learned if _behind(o)]
    verdict = "holds" if len(behind) == len(learned) else "holds when" if behind else "does not hold"
    rest = [o.study.name for o in learned if o.study.name not in behind]
    first = {
        "holds": f"On {listed(behind)} the better recurrence is behind self-attention, at equal time and at equal tokens.",
        "holds when": f"On {listed(behind)} the better recurrence is behind self-attention, at equal time and at equal tokens; on {listed(rest)} it is not.",
        "does not hold": f"On {listed(rest)} the better recurrence is not behind self-attention both at equal time and at equal tokens.",
    }[verdict]
    return Judged(verdict, [first, *said], shown, pictures)


def _behind(outcome: Outcome) -> bool:
    return all(_gap(outcome, column) >= BEHIND for column in (outcome.at_end, outcome.at_tokens))


def _gap(outcome: Outcome, column) -> float:
    """How much skill the better recurrence lacks; 0 where ranges over seeds meet, or a milestone came too late to say."""
    attention, other = (outcome.skills(column(name)) for name in ("self-attention", outcome.best(RECURRENT)))
    if (
        attention is None
        or other is None
        or attention["low"] <= other["high"]
        and other["low"] <= attention["high"]
    ):
        return 0.0
    return attention["median"] - other["median"]


def _compared(o: Outcome) -> str:
    buckets = [b for b in o.buckets() if all(o.at_end(name, b) for name in o.names)]
    deepest = ""
    if buckets:
        each = ", ".join(f"{name} {o.at_end(name, buckets[-1])['median']:.1%}" for name in o.names)
        deepest = f" At depth {buckets[-1]}: {each}."
    each = ", ".join(f"{name} {o.at_end(name)['median']:.1%}" for name in o.names)
    return f"{o.study.name}, after equal time: {each}.{deepest}"


NESTING = Claim(
    6,
    "Hierarchy",
    "A recurrence cannot express hierarchy well.",
    "Accuracy by depth on brackets, Dyck-(4, 4), and on nested lists (ListOps), within the trained depths and beyond.",
    f"Of the tasks that some encoder learns in its time (skill of {LEARNED:.0%}): on one, the better recurrence is behind if it lacks {100 * BEHIND:.0f} points of skill to self-attention "
    "at equal time and at equal tokens, with ranges over seeds that do not meet; both columns, since the claim is about what can be expressed and not about speed. Holds if it is behind on all, holds when on some, does not hold on none.",
    (
        "Hewitt et al. 2020: an RNN generates Dyck-(k, m) with a memory as small as any could be",
        "Nangia and Bowman 2018 (ListOps); Tran et al. 2018, The importance of being recurrent for modeling hierarchical structure: LSTM ahead",
        "Hahn 2020; Yao et al. 2021: what self-attention can and cannot express of bounded hierarchy",
    ),
    cells,
    judge,
)
