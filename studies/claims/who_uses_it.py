"""Claim 9: an RNN serves as an encoder and as a generator; so do the others, on data of people's own."""

from __future__ import annotations

from statistics import median

from studies.claims.cell import Cell, Found
from studies.claims.claim import Claim, Judged, Stage, listed, not_run
from studies.claims.memory import STUDIES as MEMORIES
from studies.claims.ngrams import STUDIES as TEXTS
from studies.claims.outcome_tables import by_bucket
from studies.claims.study import Outcome, Study, either

RECURRENT = ("rnn", "lstm")
GOOD, LEARNED = 0.9, 0.2  # of the best skill; the least that is one
TREC, DOCSTRINGS = TEXTS
(SCOPE,) = (study for study in MEMORIES if study.name == "scope")
LANGUAGE = {"context": 128}
SHAKESPEARE = Study("shakespeare", "shakespeare", settings=LANGUAGE, seconds=25)
DOCUMENTATION = Study("documentation", "documentation", settings=LANGUAGE, seconds=25, quick_seconds=10)
BANKING = Study(
    "banking77", "banking77", settings={"layers": 1, "pool": "max", "dropout": 0.3, "tokens": 512}, seconds=15
)
EWT = Study("ewt", "ewt", settings={"layers": 2, "dropout": 0.3}, seconds=15)
STUDIES = (TREC, DOCSTRINGS, BANKING, EWT, SCOPE, SHAKESPEARE, DOCUMENTATION)
GPU = Study(
    "shakespeare-gpu",
    "shakespeare",
    settings={"width": 384, "layers": 6, "context": 256, "tokens": 16384, "dropout": 0.2, "precision": "bfloat16"},
    seconds=180,
)
NATURAL = ("trec", "docstrings", "banking77", "ewt", "shakespeare", "documentation", "shakespeare-gpu")
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
    rest = [f"No encoder learned {listed(unlearned)} in its time, so nothing follows from there."] * bool(unlearned)
    if not outcomes:
        return Judged("not settled", ["No encoder learned anything in its time.", *rest], shown)
    good = {o.study.name: [name for name in o.names if _share(o, name) >= GOOD] for o in outcomes}
    within = [name for name, some in good.items() if set(RECURRENT) & set(some)]
    without = [name for name in good if name not in within]
    verdict = "does not hold" if not within else "holds when" if without else "holds"
    first = {
        "holds": f"On all of {listed(good)} a recurrence reaches {GOOD:.0%} of the best skill.",
        "holds when": f"On {listed(within)} a recurrence reaches {GOOD:.0%} of the best skill; on {listed(without)} none does.",
        "does not hold": f"On none of {listed(good)} does a recurrence reach {GOOD:.0%} of the best skill.",
    }[verdict]
    said = [first, _others(outcomes, good), *map(_said, outcomes), *rest]
    said += [_apart(o) for o in outcomes if o.study.name in without and o.buckets()]
    said += [_level(outcomes)] * bool(_level(outcomes))
    kinds = [
        kind
        for kind, some in (("encoder", False), ("generator", True))
        if not any((n in GENERATORS) == some for n in good)
    ]
    said += [f"As a{'n' * (kind == 'encoder')} {kind} nothing was measured yet." for kind in kinds]
    return Judged(verdict, said, shown)


def _best(o: Outcome) -> float:
    return o.skill(o.at_end(_leader(o))["median"])


def _leader(o: Outcome) -> str:
    return max(o.names, key=lambda name: o.skill(o.at_end(name)["median"]))


def _share(o: Outcome, name: str) -> float:
    """The skill as a share of the best one."""
    return o.skill(o.at_end(name)["median"]) / _best(o)


def _others(outcomes: list[Outcome], good: dict[str, list[str]]) -> str:
    """How many of the data each other encoder is good on."""
    names = dict.fromkeys(name for o in outcomes for name in o.names if name not in RECURRENT)
    counts = {name: [name in good[o.study.name] for o in outcomes if name in o.names] for name in names}
    each = ", ".join(f"{name} on {sum(some)} of {len(some)}" for name, some in counts.items())
    return f"The other encoders, of which the claim does not speak, reach as much as that: {each} data sets."


def _apart(o: Outcome) -> str:
    """By how much the better recurrence is behind the best encoder, in each bucket."""
    leader, own = _leader(o), o.best(RECURRENT)
    gaps = {b: (o.at_end(leader, b), o.at_end(own, b)) for b in o.buckets()}
    each = ", ".join(
        f"{100 * (other['median'] - one['median']):+.0f} {'' if bucket == 'outside' else 'at '}{bucket}"
        for bucket, (one, other) in gaps.items()
        if one and other
    )
    outside = " (where the answer does not lie in the sequence)" * ("outside" in gaps)
    return f"{o.study.name}, points of {o.measure['name']} of {own}, the better recurrence, to {leader}, the best, by {o.unit}: {each}{outside}."


def _level(outcomes: list[Outcome]) -> str:
    """On which natural-language texts self-attention is not ahead of the better recurrence, where there are such."""
    level = [
        o.study.name
        for o in outcomes
        if o.study.name in NATURAL
        and "self-attention" in o.names
        and o.ahead(o.at_end("self-attention"), o.at_end(o.best(RECURRENT))) <= 0
    ]
    if not level:
        return ""
    return (
        f"Among natural-language texts self-attention is not ahead of the better recurrence on {listed(level)}. Encoders trained at length on much text come out otherwise (Vaswani et al. 2017): here each is trained from nothing, for a short "
        "time and on little data, and we believe that this is why."
    )


def _said(o: Outcome) -> str:
    bits = "bits per character"
    if all(bits in run["test"] for same in o.runs.values() for run in same):
        each = ", ".join(f"{name} {median(run['test'][bits] for run in o.runs[name]):.3f}" for name in o.names)
        return f"{o.study.name}, {bits}, as a generator: {each}."
    each = ", ".join(f"{name} {o.at_end(name)['median']:.1%}" for name in o.names)
    return f"{o.study.name}, {o.measure['name']}, as an encoder: {each}."


USES = Claim(
    9,
    "Encoder and generator",
    "A recurrent network is good as an encoder and as a generator.",
    "Classifying and tagging texts (TREC-6, Banking77, EWT where they are brought along; docstrings and the scope of names in any case), and predicting the next character "
    "(tiny Shakespeare where it is brought along, and the interpreter's manual), by all five encoders.",
    f"An encoder is good on data if it has {GOOD:.0%} of the best skill of all five after equal time; skill is the share of the way from the best constant answer to a perfect one, of language in nats; data on which no encoder has {LEARNED:.0%} count as not learned. "
    "Holds if a recurrence is good on all data; holds when one is on some; does not hold if none is on any.",
    (
        "Cho et al. 2014; Sutskever et al. 2014 (encoder and decoder); Graves 2013 (generation)",
        "karpathy/nanoGPT: tiny Shakespeare by characters, loss 1.47 (GPU) and 1.88 (CPU), the best of noisy validation windows",
    ),
    cells,
    judge,
    beside={
        "holds when": "This agrees with the sentence, and narrows it: it has to be said on which data. As a generator it was measured by how well it predicts, not by what it writes."
    },
    needs=" --data FOLDER",
)
