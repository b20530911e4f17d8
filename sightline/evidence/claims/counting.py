"""Claim 10, which is left unsaid: that attention has no weakness. Three tasks look for one, within trained lengths and beyond."""

from __future__ import annotations

from sightline.evidence.claims.cell import Cell, Found
from sightline.evidence.claims.claim import Claim, Judged, Stage, listed, not_run
from sightline.evidence.claims.showing import by_test, drawn_by_test
from sightline.evidence.claims.study import Outcome, Study

AHEAD, LEARNED = 0.1, 0.5  # skill
TRAINED = "1-20"
LONGER = ("21-40", "41-80", "81-160")
EACH = {
    "causal": True,
    "tokens": 512,
}  # the answer so far at every token; asked at the end alone nobody learned it in such a time
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
        "reversal",
        f"reversal:length={TRAINED}",
        {span: f"reversal:length={span}" for span in LONGER[:2]},
        seconds=15,
    ),
)


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
            said.append(
                f"{outcome.study.name}: no encoder learned it in its time, so nothing follows from it."
            )
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
    shown = [by_test(o, TRAINED) for o in outcomes]
    pictures = [drawn_by_test(o, TRAINED, "length of the test sequences") for o in outcomes]
    return Judged(
        "does not hold" if weak else "holds" if learned else "not settled", [first, *said], shown, pictures
    )


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
    each = [outcome.on(name, test) if test else outcome.at_end(name) for name in (rival, "self-attention")]
    where = f"at lengths {test}, beyond the trained ones" if test else "at the trained lengths"
    return f"{outcome.study.name}: {where}, {rival} has {each[0]['median']:.1%} and self-attention {each[1]['median']:.1%} (a constant answer {outcome.constant:.1%})."


COUNTING = Claim(
    10,
    "No weakness",
    "(Left unsaid:) self-attention has no weakness.",
    "Parity and modular counting, asked at every token, and reversal, trained on short sequences and tested on longer ones.",
    f"Of the tasks that some encoder learns at the trained lengths (skill of {LEARNED:.0%}): does not hold if on one, at the trained lengths or beyond, another encoder is {100 * AHEAD:.0f} points of skill ahead of self-attention after equal time, with ranges over seeds that "
    "do not meet; skill is the share of the way from the best constant answer to a perfect one. Holds otherwise.",
    (
        "Hahn 2020, Theoretical limitations of self-attention in neural sequence models: parity",
        "Deletang et al. 2023, Neural networks and the Chomsky hierarchy: out of length an RNN has 100 on parity and modular arithmetic, a Transformer 24 to 52",
    ),
    cells,
    judge,
)
