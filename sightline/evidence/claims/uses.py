"""Claim 9: an RNN serves as an encoder and as a generator; so do the others, on data of people's own."""

from __future__ import annotations

from sightline.evidence.claims.cell import Cell, Found
from sightline.evidence.claims.claim import Claim, Judged, Stage, listed, not_run
from sightline.evidence.claims.memory import STUDIES as MEMORIES
from sightline.evidence.claims.ngrams import STUDIES as TEXTS
from sightline.evidence.claims.showing import by_bucket
from sightline.evidence.claims.study import Outcome, Study, either

RECURRENT = ("rnn", "lstm")
GOOD, LEARNED = 0.9, 0.2  # of the best skill; the least that is one
TREC, DOCSTRINGS = TEXTS
(SCOPE,) = (study for study in MEMORIES if study.name == "scope")
LANGUAGE = {"context": 128}
SHAKESPEARE = Study("shakespeare", "shakespeare", settings=LANGUAGE, seconds=25)
DOCUMENTATION = Study("documentation", "documentation", settings=LANGUAGE, seconds=25, quick_seconds=10)
BANKING = Study(
    "banking77",
    "banking77",
    settings={"layers": 1, "pool": "max", "dropout": 0.3, "tokens": 512},
    seconds=15,
)
EWT = Study("ewt", "ewt", settings={"layers": 2, "dropout": 0.3}, seconds=15)
STUDIES = (TREC, DOCSTRINGS, BANKING, EWT, SCOPE, SHAKESPEARE, DOCUMENTATION)
GPU = Study(
    "shakespeare-gpu",
    "shakespeare",
    settings={
        "width": 384,
        "layers": 6,
        "context": 256,
        "tokens": 16384,
        "dropout": 0.2,
        "precision": "bfloat16",
    },
    seconds=180,
)
GENERATORS = ("shakespeare", "documentation", "shakespeare-gpu")


def cells(stage: Stage) -> list[Cell]:
    texts = [either(TREC, DOCSTRINGS, stage), either(SHAKESPEARE, DOCUMENTATION, stage)]
    studies = {"quick": texts, "full": [*texts, BANKING, EWT, SCOPE], "gpu": [GPU]}[stage.name]
    return [cell for study in studies for cell in study.cells(stage)]


def judge(found: Found) -> Judged:
    outcomes = [o for study in (*STUDIES, GPU) if (o := study.outcome(found)) and len(o.names) > 1]
    outcomes = [o for o in outcomes if set(RECURRENT) & set(o.names)]
    if not outcomes:
        return not_run("Nothing was run yet.")
    shown = [by_bucket(o) for o in outcomes]
    unlearned = [o.study.name for o in outcomes if _best(o) < LEARNED]
    outcomes = [o for o in outcomes if o.study.name not in unlearned]
    rest = [f"No encoder learned {listed(unlearned)} in its time, so nothing follows from there."] * bool(
        unlearned
    )
    if not outcomes:
        return Judged("not settled", ["No encoder learned anything in its time.", *rest], shown)
    good = {o.study.name: [name for name in o.names if _share(o, name) >= GOOD] for o in outcomes}
    without = [o.study.name for o in outcomes if not set(RECURRENT) & set(good[o.study.name])]
    others = {
        name: [o.study.name for o in outcomes if name in o.names and name not in good[o.study.name]]
        for o in outcomes
        for name in o.names
    }
    lacking = [
        f"{name} on {listed(where)}" for name, where in others.items() if where and name not in RECURRENT
    ]
    verdict = "does not hold" if without else "holds when" if lacking else "holds"
    first = {
        "holds": f"On all of {listed(good)} a recurrence, and every other encoder, reaches {GOOD:.0%} of the best skill.",
        "holds when": f"A recurrence reaches {GOOD:.0%} of the best skill on all of {listed(good)}; the others do too, but for {'; '.join(lacking)}.",
        "does not hold": f"On {listed(without)} no recurrence reaches {GOOD:.0%} of the best skill.",
    }[verdict]
    said = [first, *map(_said, outcomes), *rest]
    kinds = [
        kind
        for kind, some in (("encoder", False), ("generator", True))
        if not any((n in GENERATORS) == some for n in good)
    ]
    said += [f"As a{'n' * (kind == 'encoder')} {kind} nothing was measured yet." for kind in kinds]
    return Judged(verdict, said, shown)


def _best(o: Outcome) -> float:
    return max(o.skill(o.at_end(name)["median"]) for name in o.names)


def _share(o: Outcome, name: str) -> float:
    """The skill as a share of the best one."""
    return o.skill(o.at_end(name)["median"]) / _best(o)


def _said(o: Outcome) -> str:
    bits = "bits per character"
    if all(bits in run["test"] for same in o.runs.values() for run in same):
        each = ", ".join(
            f"{name} {sorted(run['test'][bits] for run in o.runs[name])[len(o.runs[name]) // 2]:.3f}"
            for name in o.names
        )
        return f"{o.study.name}, {bits}, as a generator: {each}."
    each = ", ".join(f"{name} {o.at_end(name)['median']:.1%}" for name in o.names)
    return f"{o.study.name}, {o.measure['name']}, as an encoder: {each}."


USES = Claim(
    9,
    "Encoder and generator",
    "A recurrent network is good as an encoder and as a generator.",
    "Classifying and tagging texts (TREC-6, Banking77, EWT where they are brought along; docstrings and the scope of names in any case), and foreseeing the next character "
    "(tiny Shakespeare where it is brought along, and the interpreter's manual), by all five encoders.",
    f"An encoder is good on data if it has {GOOD:.0%} of the best skill of all five after equal time; skill is the share of the way from the best constant answer to a perfect one, of language in nats; data on which no encoder has {LEARNED:.0%} count as not learned. "
    "Does not hold if on some data neither recurrence is good. Holds if on all data every encoder is good; holds when a recurrence is good on all, and some other is not.",
    (
        "Cho et al. 2014; Sutskever et al. 2014 (encoder and decoder); Graves 2013 (generation)",
        "karpathy/nanoGPT: tiny Shakespeare by characters, loss 1.47 (GPU) and 1.88 (CPU), the best of noisy validation windows",
    ),
    cells,
    judge,
)
