"""Claim 10, usually left unsaid: attention has no weakness. Three tasks look for one, at trained lengths and beyond."""

from __future__ import annotations

from studies.claims.cell import Cell, Results
from studies.claims.claim import Claim, Judgement, Spread, Stage, listed, not_run, verdict_by_rules
from studies.claims.outcome_tables import picture_by_test, table_by_test
from studies.claims.study import Outcome, Study, cells_of, outcomes_of

AHEAD, LEARNED = 0.1, 0.5  # skill
TRAINED = "1-20"
LONGER = ("21-40", "41-80", "81-160")
# The answer is asked at every token: with one question at the end no encoder learned a task in this time.
EACH = {"causal": True, "tokens": 512}
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
    return cells_of({"quick": STUDIES[:1], "full": STUDIES, "gpu": ()}[stage.name], stage)


def judge(results: Results) -> Judgement:
    outcomes = [o for o in outcomes_of(STUDIES, results) if "self-attention" in o.names and len(o.names) > 1]
    if not outcomes:
        return not_run()
    learned = [o for o in outcomes if any(_skills(o, name, "")["median"] >= LEARNED for name in o.names)]
    rivals = {o: _first_rival(o) for o in learned}
    weak = [o.study.name for o, rival in rivals.items() if rival]
    verdict = verdict_by_rules((weak, "does not hold"), (learned, "holds"), (True, "not settled"))
    sentences = [
        {
            "does not hold": f"Self-attention is behind another encoder on {listed(weak)}: one such task is enough.",
            "holds": "On no task that an encoder learned is another one clearly ahead of self-attention.",
            "not settled": "No encoder learned a task in its time.",
        }[verdict]
    ]
    sentences += [_task_sentence(o, o in learned, rivals.get(o)) for o in outcomes]
    if {"parity", "modular"} & {*weak}:
        sentences.append(
            "On counting, the fall with length is in line with Hahn 2020 and Deletang et al. 2023: a recurrence "
            "carries the answer so far from token to token; self-attention combines all tokens again at each "
            "one, with weights that sum to 1, and has no state to carry."
        )
    tables = [table_by_test(o, TRAINED) for o in outcomes]
    pictures = [picture_by_test(o, TRAINED, "length of the test sequences") for o in outcomes]
    return Judgement(verdict, sentences, tables, pictures)


def _measured(outcome: Outcome, name: str, test: str) -> Spread | None:
    """The measure on further test data, or at the trained lengths ("")."""
    return outcome.on(name, test) if test else outcome.at_end(name)


def _skills(outcome: Outcome, name: str, test: str) -> Spread | None:
    return outcome.skills(_measured(outcome, name, test))


def _first_rival(outcome: Outcome) -> tuple[str, str] | None:
    """The first of the tested lengths at which an encoder is ahead of self-attention, and the best such encoder."""
    rivals = ((test, _rival(outcome, test)) for test in ("", *outcome.study.tests))
    return next(((test, rival) for test, rival in rivals if rival), None)


def _rival(outcome: Outcome, test: str) -> str | None:
    """The best of the encoders that are ahead of self-attention by enough, with ranges over seeds that do not meet."""
    own = _skills(outcome, "self-attention", test)
    skills = {name: one for name in outcome.names if (one := _skills(outcome, name, test))}
    ahead = {
        name: one["median"]
        for name, one in skills.items()
        if one["low"] > own["high"] and one["median"] - own["median"] >= AHEAD
    }
    return max(ahead, key=ahead.get, default=None)


def _task_sentence(outcome: Outcome, learned: bool, rival: tuple[str, str] | None) -> str:
    name = outcome.study.name
    if not learned:
        return f"{name}: no encoder learned it in its time, so nothing follows from it."
    if rival is None:
        return f"{name}: no encoder is clearly ahead of self-attention, at the trained lengths or beyond."
    return _rival_sentence(outcome, *rival)


def _rival_sentence(outcome: Outcome, first: str, rival: str) -> str:
    """Both encoders at the trained lengths, at the length where the rival is first ahead, and at the longest."""
    parts = []
    for test in dict.fromkeys(["", first, *[*outcome.study.tests][-1:]]):
        if not test:
            lengths = f"{TRAINED} (trained)"
        else:
            lengths = f"{test} (first ahead)" if test == first else test
        rivals, own = (_result_in_words(outcome, name, test) for name in (rival, "self-attention"))
        parts.append(f"at lengths {lengths} {rival} {rivals} and self-attention {own}")
    constant = f"(a constant answer at the trained lengths has {outcome.constant:.1%})"
    return f"{outcome.study.name}: {'; '.join(parts)} {constant}."


def _result_in_words(outcome: Outcome, name: str, test: str) -> str:
    if measured := _measured(outcome, name, test):
        return f"has {measured['median']:.1%}"
    return "refuses" if outcome.refusal(name, test) else "was not tested"


COUNTING = Claim(
    10,
    "No weakness",
    "(Left unsaid:) self-attention has no weakness.",
    (
        "Parity and modular counting, asked at every token, and reversal, trained on short sequences and tested "
        "on longer ones."
    ),
    (
        f"Counted are the tasks that some encoder learns at the trained lengths (skill of {LEARNED:.0%}; skill is "
        "0% for the best constant answer at the trained lengths and 100% for a perfect one). Does not hold if, "
        f"on one of them, another encoder is {100 * AHEAD:.0f} points of skill ahead of self-attention after "
        "equal time, at the trained lengths or beyond, with ranges over seeds that do not meet. These are up to "
        f"{COMPARED} comparisons, of {RIVALS} rivals at each of the lengths of {len(STUDIES)} tasks; some would "
        "differ by chance, which is why separate ranges and a number of points are both required. Holds "
        "otherwise; not settled if no encoder learns a task."
    ),
    (
        "Hahn 2020, Theoretical limitations of self-attention in neural sequence models: parity",
        (
            "Deletang et al. 2023, Neural networks and the Chomsky hierarchy: out of length an RNN has 100 on "
            "parity and modular arithmetic, a Transformer 24 to 52"
        ),
    ),
    cells,
    judge,
    beside={
        "does not hold": (
            "This is the result of seconds of training. It shows that self-attention learns these tasks "
            "later, not that it cannot express them."
        )
    },
)
