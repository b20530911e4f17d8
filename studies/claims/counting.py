"""Claim 10, which is left unsaid: that attention has no weakness. Three tasks look for one, within trained lengths and beyond."""

from __future__ import annotations

from studies.claims.cell import Cell, Found
from studies.claims.claim import Claim, Judged, Stage, listed, not_run
from studies.claims.outcome_tables import by_test, drawn_by_test
from studies.claims.study import Outcome, Study

AHEAD, LEARNED = 0.1, 0.5  # skill
TRAINED = "1-20"
LONGER = ("21-40", "41-80", "81-160")
EACH = {
    "causal": True,
    "tokens": 512,
}  # the answer so far at every token; asked at the end alone no encoder learned it in such a time
STUDIES = (
    Study(
        "parity",
        f"parity:length={TRAINED},each=1",
        {span: f"parity:length={span},each=1" for span in LONGER},
        EACH,
        seconds=10,
        quick_seconds=8,
    ),
    Study(
        "modular",
        f"modular:length={TRAINED},modulus=5,each=1",
        {span: f"modular:length={span},modulus=5,each=1" for span in LONGER},
        EACH,
        seconds=15,
    ),
    Study(
        "reversal", f"reversal:length={TRAINED}", {span: f"reversal:length={span}" for span in LONGER[:2]}, seconds=15
    ),
)
RIVALS = len(STUDIES[0].variants) - 1
COMPARED = sum(RIVALS * (1 + len(study.tests)) for study in STUDIES)


def cells(stage: Stage) -> list[Cell]:
    studies = {"quick": STUDIES[:1], "full": STUDIES, "gpu": ()}[stage.name]
    return [cell for study in studies for cell in study.cells(stage)]


def judge(found: Found) -> Judged:
    outcomes = [outcome for study in STUDIES if (outcome := study.outcome(found))]
    outcomes = [o for o in outcomes if "self-attention" in o.names and len(o.names) > 1]
    if not outcomes:
        return not_run("Nothing was run yet.")
    learned = [o for o in outcomes if any(_at(o, name, "")["median"] >= LEARNED for name in o.names)]
    said, weak = [], []
    for outcome in outcomes:
        rivals = ((test, _rival(outcome, test)) for test in ("", *outcome.study.tests))
        if outcome not in learned:
            said.append(f"{outcome.study.name}: no encoder learned it in its time, so nothing follows from it.")
        elif found_one := next(((test, rival) for test, rival in rivals if rival), None):
            weak.append(outcome.study.name)
            said.append(_sentence(outcome, *found_one))
        else:
            said.append(
                f"{outcome.study.name}: no encoder is clearly ahead of self-attention, at the trained lengths or beyond."
            )
    if not learned:
        first = "No encoder learned a task in its time."
    elif weak:
        first = f"Self-attention is behind another encoder on {listed(weak)}: one such task is enough."
    else:
        first = "On no task that an encoder learned is another one clearly ahead of self-attention."
    if {"parity", "modular"} & {*weak}:
        said.append(
            "On counting, the fall with length is in line with Hahn 2020 and Deletang et al. 2023: a recurrence carries the answer so far from token to token; self-attention takes all tokens together "
            "anew at each, with weights that sum to 1, and has no state to carry."
        )
    shown = [by_test(o, TRAINED) for o in outcomes]
    pictures = [drawn_by_test(o, TRAINED, "length of the test sequences") for o in outcomes]
    return Judged("does not hold" if weak else "holds" if learned else "not settled", [first, *said], shown, pictures)


def _at(outcome: Outcome, name: str, test: str):
    return outcome.skills(outcome.on(name, test) if test else outcome.at_end(name))


def _rival(outcome: Outcome, test: str) -> str | None:
    """The best of the encoders that are ahead of self-attention by enough, with ranges over seeds that do not meet."""
    own = _at(outcome, "self-attention", test)
    ahead = {
        name: skills["median"]
        for name in outcome.names
        if (skills := _at(outcome, name, test))
        and skills["low"] > own["high"]
        and skills["median"] - own["median"] >= AHEAD
    }
    return max(ahead, key=ahead.get, default=None)


def _sentence(outcome: Outcome, test: str, rival: str) -> str:
    """What both have at the trained lengths, where the rival is first ahead, and at the farthest lengths."""
    places = dict.fromkeys(["", test, *[*outcome.study.tests][-1:]])
    parts = []
    for place in places:
        each = [_written(outcome, name, place) for name in (rival, "self-attention")]
        where = f"at lengths {place or TRAINED}{' (trained)' * (not place)}{' (first ahead)' * (place == test != '')}"
        parts.append(f"{where} {rival} {each[0]} and self-attention {each[1]}")
    return f"{outcome.study.name}: {'; '.join(parts)} (a constant answer at the trained lengths has {outcome.constant:.1%})."


def _written(outcome: Outcome, name: str, test: str) -> str:
    found = outcome.on(name, test) if test else outcome.at_end(name)
    if found:
        return f"has {found['median']:.1%}"
    return "refuses" if outcome.refusal(name, test) else "was not asked"


COUNTING = Claim(
    10,
    "No weakness",
    "(Left unsaid:) self-attention has no weakness.",
    "Parity and modular counting, asked at every token, and reversal, trained on short sequences and tested on longer ones.",
    f"Of the tasks that some encoder learns at the trained lengths (skill of {LEARNED:.0%}): does not hold if on one, at the trained lengths or beyond, another encoder is {100 * AHEAD:.0f} points of skill ahead of self-attention after equal time, with ranges over seeds that "
    f"do not meet; skill is the share of the way from the best constant answer (at the trained lengths) to a perfect one. These are up to {COMPARED} comparisons, of {RIVALS} rivals at each of the lengths of "
    f"{len(STUDIES)} tasks, of which chance would decide some: that is why ranges which do not meet are asked for, and points besides. Holds otherwise; not settled if no encoder learns a task.",
    (
        "Hahn 2020, Theoretical limitations of self-attention in neural sequence models: parity",
        "Deletang et al. 2023, Neural networks and the Chomsky hierarchy: out of length an RNN has 100 on parity and modular arithmetic, a Transformer 24 to 52",
    ),
    cells,
    judge,
    beside={
        "does not hold": "This is what seconds of training come to, which shows that a task is learned later by self-attention, and not that it cannot be expressed."
    },
)
