"""Claim 9: a recurrence is a good encoder and a good generator; all five encoders are compared on people's own data."""

from __future__ import annotations

from statistics import median

from studies.claims.cell import Cell, Results
from studies.claims.claim import RECURRENT, Claim, Judgement, Stage, listed, medians, not_run, verdict_by_tasks
from studies.claims.forgetting import STUDIES as DISTANCE_STUDIES
from studies.claims.ngrams import STUDIES as TEXT_STUDIES
from studies.claims.outcome_tables import table_by_bucket
from studies.claims.study import Outcome, Study, available_study, cells_of, outcomes_of

GOOD, LEARNED = 0.9, 0.2  # share of the best skill; the least best skill that counts
TREC, DOCSTRINGS = TEXT_STUDIES
(SCOPE,) = (study for study in DISTANCE_STUDIES if study.name == "scope")
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
    both = [available_study(TREC, DOCSTRINGS, stage), available_study(SHAKESPEARE, DOCUMENTATION, stage)]
    return cells_of({"quick": both, "full": [*both, BANKING, EWT, SCOPE], "gpu": [GPU]}[stage.name], stage)


def judge(results: Results) -> Judgement:
    outcomes = [o for o in outcomes_of((*STUDIES, GPU), results) if len(o.names) > 1 and o.has_recurrence()]
    if not outcomes:
        return not_run()
    tables = [table_by_bucket(o) for o in outcomes]
    learned = [o for o in outcomes if _best_skill(o) >= LEARNED]
    unlearned = [o.study.name for o in outcomes if o not in learned]
    rest = [f"No encoder learned {listed(unlearned)} in its time, so nothing follows from there."] if unlearned else []
    if not learned:
        return Judgement("not settled", ["No encoder learned anything in its time.", *rest], tables)
    good = {o.study.name: _good(o) for o in learned}
    within = [name for name, encoders in good.items() if set(RECURRENT) & set(encoders)]
    without = [name for name in good if name not in within]
    verdict = verdict_by_tasks(within, good)
    first = {
        "holds": f"On all of {listed(good)} a recurrence reaches {GOOD:.0%} of the best skill.",
        "holds when": (
            f"On {listed(within)} a recurrence reaches {GOOD:.0%} of the best skill; on {listed(without)} none does."
        ),
        "does not hold": f"On none of {listed(good)} does a recurrence reach {GOOD:.0%} of the best skill.",
    }[verdict]
    sentences = [first, _others_sentence(learned, good), *map(_result_sentence, learned), *rest]
    sentences += [_bucket_sentence(o) for o in learned if o.study.name in without and o.buckets()]
    sentences += _natural_language_sentences(learned) + _unmeasured_sentences(good)
    return Judgement(verdict, sentences, tables)


def _skill(o: Outcome, name: str) -> float:
    return o.skill(o.at_end(name)["median"])


def _leader(o: Outcome) -> str:
    return max(o.names, key=lambda name: _skill(o, name))


def _best_skill(o: Outcome) -> float:
    return _skill(o, _leader(o))


def _good(o: Outcome) -> list[str]:
    """The encoders whose skill is at least GOOD of the best one."""
    return [name for name in o.names if _skill(o, name) / _best_skill(o) >= GOOD]


# ---- sentences -------------------------------------------------------------------------------------------------------


def _others_sentence(outcomes: list[Outcome], good: dict[str, list[str]]) -> str:
    """On how many of the data sets each other encoder is good."""
    names = dict.fromkeys(name for o in outcomes for name in o.names if name not in RECURRENT)
    counts = {name: [name in good[o.study.name] for o in outcomes if name in o.names] for name in names}
    each = ", ".join(f"{name} on {sum(some)} of {len(some)}" for name, some in counts.items())
    return f"The other encoders, about which the claim says nothing, reach that too: {each} data sets."


def _result_sentence(o: Outcome) -> str:
    bits = "bits per character"
    if all(bits in run["test"] for same in o.runs.values() for run in same):
        each = ", ".join(f"{name} {median(run['test'][bits] for run in o.runs[name]):.3f}" for name in o.names)
        return f"{o.study.name}, {bits}, as a generator: {each}."
    return f"{o.study.name}, {o.measure['name']}, as an encoder: {medians({name: o.at_end(name) for name in o.names})}."


def _bucket_sentence(o: Outcome) -> str:
    """How far the better recurrence is behind the best encoder, in each bucket."""
    leader, own = _leader(o), o.best(RECURRENT)
    parts = []
    for bucket in o.buckets():
        best, recurrent = o.at_end(leader, bucket), o.at_end(own, bucket)
        if best and recurrent:
            place = bucket if bucket == "outside" else f"at {bucket}"
            parts.append(f"{100 * (recurrent['median'] - best['median']):+.0f} {place}")
    outside = " (where the answer does not lie in the sequence)" if "outside" in o.buckets() else ""
    return (
        f"{o.study.name}, points of {o.measure['name']} by which {own}, the better recurrence, differs from "
        f"{leader}, the best, by {o.unit}: {', '.join(parts)}{outside}."
    )


def _natural_language_sentences(outcomes: list[Outcome]) -> list[str]:
    """The natural-language texts on which self-attention is not ahead of the better recurrence, if there are any."""
    both = [o for o in outcomes if o.study.name in NATURAL and "self-attention" in o.names]
    level = [o.study.name for o in both if o.ahead(o.at_end("self-attention"), o.at_end(o.best(RECURRENT))) <= 0]
    if not level:
        return []
    return [
        f"Among natural-language texts self-attention is not ahead of the better recurrence on {listed(level)}. "
        "Encoders trained for long on much text give another result (Vaswani et al. 2017). Here each is trained "
        "from scratch, for a short time and on little data; we believe that this is the reason."
    ]


def _unmeasured_sentences(names: dict[str, list[str]]) -> list[str]:
    are_generators = {name in GENERATORS for name in names}
    uses = (("an encoder", False), ("a generator", True))
    return [f"As {use} nothing was measured yet." for use, generator in uses if generator not in are_generators]


ENCODER_GENERATOR = Claim(
    9,
    "Encoder and generator",
    "A recurrent network is good as an encoder and as a generator.",
    (
        "Classifying and tagging texts (TREC-6, Banking77 and EWT, if their folder is given; docstrings without "
        "TREC-6; the scope of names), and predicting the next character (tiny Shakespeare, or the interpreter's "
        "manual without it), by all five encoders."
    ),
    (
        f"An encoder is good on data if it has {GOOD:.0%} of the best skill of all five after equal time. Skill "
        "is 0% for the best constant answer and 100% for a perfect one (of language, in nats). Data on which no "
        f"encoder has {LEARNED:.0%} count as not learned. Holds if a recurrence is good on all data, holds when "
        "one is on some, does not hold if none is on any."
    ),
    (
        "Cho et al. 2014; Sutskever et al. 2014 (encoder and decoder); Graves 2013 (generation)",
        (
            "karpathy/nanoGPT: tiny Shakespeare by characters, loss 1.47 (GPU) and 1.88 (CPU), the best of noisy "
            "validation windows"
        ),
    ),
    cells,
    judge,
    beside={
        "holds when": (
            "This agrees with the sentence, and limits it to some data. Generators were measured by how well "
            "they predict, not by what they write."
        )
    },
    needs=" --data FOLDER",
)
