"""The best head for each relation, chosen on one part of the corpus and reported on another, beside what needs no model.

The best of a hundred heads is good on the data it was chosen by, even if all were thrown by lot. So a head, and likewise
the fixed offset it has to beat, is chosen on one part; what is reported comes from the other. The interval says what other
sentences might have given: documents are drawn anew, with repetition, a thousand times, and 95% of the results lie inside.

A head is *syntactic* for a relation if it finds at least 10 points more than the best offset, and *positional* if its
largest weight goes to the word before, or to the word after, in at least 90% of the cases.
Source: Voita et al. 2019, section 5; their "10% higher" is read as points, which is stricter, and asked of both parts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy import ndarray

from sightline.head_roles import baselines
from sightline.head_roles.gold import BUCKETS, Corpus

RESAMPLES = 1000
FEWEST = 10  # documents that hold a relation; of fewer, drawing anew says nothing
COMMON = 100  # questions in each part, before a head is called syntactic
SYNTACTIC, POSITIONAL = 0.10, 0.90


@dataclass(frozen=True)
class Finding:
    """One relation: its best head, and what to hold beside it. All are parts of 1, and but for `chosen_at` of the report.

    `counts` are the questions of the two parts; `interval` is that of the accuracy, `ahead` that of its distance from the
    offset's; `random` is the accuracy of the best head of a model with random weights, chosen likewise; `distances` holds
    (from, to, questions, accuracy) in words, the last `to` None. What cannot be said is None, and `note` says why.
    """

    relation: str
    layer: int
    head: int
    counts: tuple[int, int]
    chosen_at: float
    accuracy: float | None
    interval: tuple[float, float] | None
    offset: int
    by_offset: float | None
    ahead: tuple[float, float] | None
    by_nearest: float | None
    by_same_word: float | None
    random: float | None
    distances: tuple[tuple[int, int | None, int, float], ...]
    note: str


def choose(
    chosen_on: Corpus,
    found: ndarray,
    reported_on: Corpus,
    found_there: ndarray,
    random: tuple[ndarray, ndarray] | None = None,
) -> list[Finding]:
    """The best head of each group of relations that the first part has, by name.

    `random` are the same two arrays of the same model with random weights.
    Shapes: found bool [N, layers, heads], whether each head answers each question of the first part; found_there of the second.
    Raises: ValueError where an array has not a row for each question, or the parts are of different models.
    """
    pairs = [(chosen_on, found), (reported_on, found_there)]
    if random is not None:
        pairs += [(chosen_on, random[0]), (reported_on, random[1])]
    for corpus, array in pairs:
        if array.shape != (len(corpus), *found.shape[1:]) or array.ndim != 3:
            raise ValueError(
                f"choose: expected whether each head answers each question, [{len(corpus)}, layers, heads], got "
                f"{list(array.shape)}; give the arrays of one model, each with its own corpus"
            )
    offsets, offsets_there = baselines.at_offsets(chosen_on), baselines.at_offsets(reported_on)
    plain = baselines.nearest(reported_on), baselines.same_word(reported_on)
    resampled = _Resampled(reported_on)
    findings = []
    for name, here in chosen_on.groups.items():
        if not len(here):
            continue
        there = reported_on.groups.get(name, np.zeros(0, np.int64))
        rates = _flat(found)[here].mean(0)
        best, offset = int(rates.argmax()), int(offsets[here].mean(0).argmax())
        hits, by_offset = _flat(found_there)[there, best], offsets_there[there, offset]
        control = None
        if random is not None:
            control = _mean(_flat(random[1])[there, int(_flat(random[0])[here].mean(0).argmax())])
        interval, ahead, documents = resampled.intervals(there, hits, by_offset)
        findings.append(
            Finding(
                name, *divmod(best, found.shape[2]), (len(here), len(there)), float(rates[best]),
                _mean(hits), interval, int(baselines.OFFSETS[offset]), _mean(by_offset), ahead,
                *(_mean(baseline[there]) for baseline in plain), control,
                by_distance(reported_on.distance[there], hits), _note(len(here), len(there), documents),
            )
        )  # fmt: skip
    return findings


def beats(row: dict) -> bool:
    """Whether the head of a finding, as heads.json has it, answers more than all that needs no trained model.

    More than the best offset in 95% of the resamples, and more than the nearest word, the same word before, and the best head
    of random weights.

    >>> row = {"accuracy": 0.9, "ahead": (0.1, 0.3), "by_nearest": 0.7, "by_same_word": 0.0, "random": None}
    >>> beats(row), beats(row | {"by_nearest": 0.95}), beats(row | {"ahead": None})
    (True, False, False)
    """
    others = [row[name] for name in ("by_nearest", "by_same_word", "random") if row.get(name) is not None]
    ahead = row.get("ahead")
    return bool(row["accuracy"] is not None and ahead and ahead[0] > 0 and row["accuracy"] > max(others, default=-1))


def in_order(rows: list[dict]) -> list[dict]:
    """Findings that beat their baselines first, those with most questions before others."""
    return sorted(rows, key=lambda row: (not beats(row), -row["counts"][1]))


def by_distance(distance: ndarray, found: ndarray) -> tuple[tuple[int, int | None, int, float], ...]:
    """(from, to, questions, part found) for each distance that occurs, in words.

    >>> by_distance(np.array([1, 1, 4, 700]), np.array([True, False, True, True]))
    ((1, 1, 2, 0.5), (3, 5, 1, 1.0), (101, None, 1, 1.0))
    """
    bucket = np.searchsorted(BUCKETS, distance)
    counts = np.bincount(bucket, minlength=len(BUCKETS) + 1)
    right = np.bincount(bucket, weights=found, minlength=len(BUCKETS) + 1)
    edges = [(low + 1, high) for low, high in zip((0, *BUCKETS), (*BUCKETS, None), strict=True)]
    return tuple((*edges[i], int(counts[i]), float(right[i] / counts[i])) for i in np.flatnonzero(counts).tolist())


def syntactic(
    chosen_on: Corpus, found: ndarray, reported_on: Corpus, found_there: ndarray
) -> dict[tuple[int, int], list[str]]:
    """For each head that is syntactic, (layer, head), its relations, in both parts, with COMMON questions in each at least.

    Shapes: found, found_there: bool [N, layers, heads], as `choose` takes them.
    """
    offsets, offsets_there = baselines.at_offsets(chosen_on), baselines.at_offsets(reported_on)
    labels: dict[tuple[int, int], list[str]] = {}
    for name, here in chosen_on.groups.items():
        there = reported_on.groups.get(name, here[:0])
        if min(len(here), len(there)) < COMMON:
            continue
        best = int(offsets[here].mean(0).argmax())
        clear = _flat(found)[here].mean(0) >= offsets[here, best].mean() + SYNTACTIC
        clear &= _flat(found_there)[there].mean(0) >= offsets_there[there, best].mean() + SYNTACTIC
        for head in np.flatnonzero(clear).tolist():
            labels.setdefault(divmod(head, found.shape[2]), []).append(name)
    return dict(sorted(labels.items()))


def positional(before: ndarray, after: ndarray) -> ndarray:
    """Which heads are positional: -1 where they look at the word before, 1 at the one after, 0 at neither.

    Shapes: before, after: [layers, heads], for how many of the words, as a part of 1, the largest weight goes there.

    >>> positional(np.array([[0.95, 0.1, 0.4]]), np.array([[0.01, 0.9, 0.5]]))
    array([[-1,  1,  0]])
    """
    return np.where(before >= POSITIONAL, -1, np.where(after >= POSITIONAL, 1, 0))


def _flat(found: ndarray) -> ndarray:
    return found.reshape(len(found), found.shape[1] * found.shape[2])


def _mean(found: ndarray) -> float | None:
    return float(found.mean()) if len(found) else None


def _note(here: int, there: int, documents: int) -> str:
    if not there:
        return "not in the part reported on"
    if documents < FEWEST:
        return f"in {documents} document{'s' * (documents > 1)} only, too few for an interval"
    return f"chosen by {here} question{'s' * (here > 1)} only" if here < FEWEST else ""


class _Resampled:
    """A corpus drawn anew, document by document; parts of one document that was cut are drawn together."""

    def __init__(self, corpus: Corpus):
        sources = np.array([document.source for document in corpus.documents], np.int64)
        _, self.number = np.unique(sources, return_inverse=True)
        self.number = self.number[corpus.document]
        self.count = len(set(sources.tolist()))
        lots = np.random.default_rng(0).integers(0, self.count, (RESAMPLES, self.count))
        lots += np.arange(RESAMPLES)[:, None] * self.count
        self.times = np.bincount(lots.ravel(), minlength=RESAMPLES * self.count)
        self.times = self.times.reshape(RESAMPLES, self.count).astype(np.float64)

    def intervals(self, questions: ndarray, found: ndarray, other: ndarray):
        """The intervals of what was found and of its distance from another, None of too few; and how many documents ask."""
        number = self.number[questions]
        asking = np.unique(number)
        if len(asking) < FEWEST:
            return None, None, len(asking)
        sums = [np.bincount(number, weights, self.count)[asking] for weights in (None, found, found * 1.0 - other)]
        asked, right, ahead = (self.times[:, asking] @ np.stack(sums, 1)).T
        drawn = asked > 0
        rates = np.stack([right[drawn], ahead[drawn]]) / asked[drawn]
        low, high = np.percentile(rates, [2.5, 97.5], axis=1)
        return (float(low[0]), float(high[0])), (float(low[1]), float(high[1])), len(asking)
