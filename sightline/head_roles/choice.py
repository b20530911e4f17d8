"""The best head for each relation, chosen on one part of the corpus and reported on another, beside baselines.

The best of a hundred heads does well on the data it was chosen by, even if all are random. So a head, and likewise the
fixed offset it has to beat, is chosen on one part and reported on the other. An interval covers 95% of a thousand
resamples of the documents, with repetition.

A head is *syntactic* for a relation if its accuracy is at least 10 points above that of the best offset, and
*positional* if its largest weight goes to the word before, or to the word after, in at least 90% of the cases.
Source: Voita et al. 2019, section 5; their "10% higher" is read as points, which is stricter, and applied to both
parts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy import ndarray

from sightline.head_roles import baselines
from sightline.head_roles.gold import Corpus

RESAMPLES = 1000
FEWEST = 10  # documents with a relation, below which there is no interval
COMMON = 100  # questions in each part, below which no head is called syntactic
SYNTACTIC, POSITIONAL = 0.10, 0.90
DISTANCES = (1, 2, 5, 10, 20, 50, 100)  # the largest of each range, in words; the last range has no end


@dataclass(frozen=True)
class Finding:
    """One relation: its best head, and what to compare it with. Shares of 1; all but `chosen_at` on the reported part.

    `counts` are the questions of the two parts; `interval` is that of the accuracy, `ahead` that of its difference to
    the offset's; `random` is the accuracy of the best head of the same model with random weights, chosen likewise;
    `distances` holds (from, to, questions, accuracy) in words, the last `to` None. Unknown values are None, and `note`
    says why.
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
    answers: ndarray,
    reported_on: Corpus,
    answers_there: ndarray,
    random: tuple[ndarray, ndarray] | None = None,
) -> list[Finding]:
    """The best head of each group of relations that the first part has, by name.

    `random` are the same two arrays of the same model with random weights.
    Shapes: answers bool [N, layers, heads], whether each head is right on each question of the first part;
    answers_there of the second.
    Raises: ValueError where an array has not a row for each question, or the parts are of different models.
    """
    pairs = [(chosen_on, answers), (reported_on, answers_there)]
    if random is not None:
        pairs += [(chosen_on, random[0]), (reported_on, random[1])]
    for corpus, array in pairs:
        if array.shape != (len(corpus), *answers.shape[1:]) or array.ndim != 3:
            raise ValueError(
                f"choose: expected whether each head answers each question, [{len(corpus)}, layers, heads], got "
                f"{list(array.shape)}; give the arrays of one model, each with its own corpus"
            )
    offsets, offsets_there = baselines.at_offsets(chosen_on), baselines.at_offsets(reported_on)
    nearest, same_word = baselines.nearest(reported_on), baselines.same_word(reported_on)
    resamples = _Resamples(reported_on)
    findings = []
    for name, here in chosen_on.groups.items():
        if not len(here):
            continue
        there = reported_on.groups.get(name, np.zeros(0, np.int64))
        rates = _flat(answers)[here].mean(0)
        best, offset = int(rates.argmax()), int(offsets[here].mean(0).argmax())
        hits, by_offset = _flat(answers_there)[there, best], offsets_there[there, offset]
        control = None
        if random is not None:
            control = _mean(_flat(random[1])[there, int(_flat(random[0])[here].mean(0).argmax())])
        interval, ahead, documents = resamples.intervals(there, hits, by_offset)
        finding = Finding(
            relation=name,
            layer=best // answers.shape[2],
            head=best % answers.shape[2],
            counts=(len(here), len(there)),
            chosen_at=float(rates[best]),
            accuracy=_mean(hits),
            interval=interval,
            offset=int(baselines.OFFSETS[offset]),
            by_offset=_mean(by_offset),
            ahead=ahead,
            by_nearest=_mean(nearest[there]),
            by_same_word=_mean(same_word[there]),
            random=control,
            distances=by_distance(reported_on.distance[there], hits),
            note=_note(len(here), len(there), documents),
        )
        findings.append(finding)
    return findings


def beats(row: dict) -> bool:
    """Whether the head of a finding in heads.json is right more often than every baseline.

    That is the best offset in 95% of the resamples, the nearest word, the same word, and the best head of random
    weights.

    >>> row = {"accuracy": 0.9, "ahead": (0.1, 0.3), "by_nearest": 0.7, "by_same_word": 0.0, "random": None}
    >>> beats(row), beats(row | {"by_nearest": 0.95}), beats(row | {"ahead": None})
    (True, False, False)
    """
    others = [row[name] for name in ("by_nearest", "by_same_word", "random") if row.get(name) is not None]
    ahead = row.get("ahead")
    return bool(row["accuracy"] is not None and ahead and ahead[0] > 0 and row["accuracy"] > max(others, default=-1))


def in_order(rows: list[dict]) -> list[dict]:
    """Findings that beat their baselines first, then by number of questions."""
    return sorted(rows, key=lambda row: (not beats(row), -row["counts"][1]))


def by_distance(distance: ndarray, right: ndarray) -> tuple[tuple[int, int | None, int, float], ...]:
    """(from, to, questions, share that is right) for each range of distances that occurs, in words.

    >>> by_distance(np.array([1, 1, 4, 700]), np.array([True, False, True, True]))
    ((1, 1, 2, 0.5), (3, 5, 1, 1.0), (101, None, 1, 1.0))
    """
    place = np.searchsorted(DISTANCES, distance)
    counts, hits = np.bincount(place), np.bincount(place, weights=right)
    ranges = [(low + 1, high) for low, high in zip((0, *DISTANCES), (*DISTANCES, None), strict=True)]
    return tuple((*ranges[i], int(counts[i]), float(hits[i] / counts[i])) for i in np.flatnonzero(counts).tolist())


def syntactic(
    chosen_on: Corpus, answers: ndarray, reported_on: Corpus, answers_there: ndarray
) -> dict[tuple[int, int], list[str]]:
    """The relations of each syntactic head (layer, head), in both parts, with at least COMMON questions in each.

    Shapes: answers, answers_there: bool [N, layers, heads], as in `choose`.
    """
    offsets, offsets_there = baselines.at_offsets(chosen_on), baselines.at_offsets(reported_on)
    labels: dict[tuple[int, int], list[str]] = {}
    for name, here in chosen_on.groups.items():
        there = reported_on.groups.get(name, here[:0])
        if min(len(here), len(there)) < COMMON:
            continue
        best = int(offsets[here].mean(0).argmax())
        clear = _flat(answers)[here].mean(0) >= offsets[here, best].mean() + SYNTACTIC
        clear &= _flat(answers_there)[there].mean(0) >= offsets_there[there, best].mean() + SYNTACTIC
        for head in np.flatnonzero(clear).tolist():
            labels.setdefault(divmod(head, answers.shape[2]), []).append(name)
    return dict(sorted(labels.items()))


def positional(before: ndarray, after: ndarray) -> ndarray:
    """Which heads are positional: -1 for the word before, 1 for the word after, 0 for neither.

    Shapes: before, after: [layers, heads], the share of words whose largest weight goes there.

    >>> positional(np.array([[0.95, 0.1, 0.4]]), np.array([[0.01, 0.9, 0.5]]))
    array([[-1,  1,  0]])
    """
    return np.where(before >= POSITIONAL, -1, np.where(after >= POSITIONAL, 1, 0))


def _flat(answers: ndarray) -> ndarray:
    return answers.reshape(len(answers), answers.shape[1] * answers.shape[2])


def _mean(right: ndarray) -> float | None:
    return float(right.mean()) if len(right) else None


def _note(here: int, there: int, documents: int) -> str:
    if not there:
        return "not in the part reported on"
    if documents < FEWEST:
        return f"in {documents} document{'s' * (documents > 1)} only, too few for an interval"
    return f"chosen by {here} question{'s' * (here > 1)} only" if here < FEWEST else ""


class _Resamples:
    """Samples of the documents of a corpus with repetition; parts of one document stay together."""

    def __init__(self, corpus: Corpus):
        sources = np.array([document.source for document in corpus.documents], np.int64)
        self.count = len(np.unique(sources))
        self.source = np.unique(sources, return_inverse=True)[1][corpus.document]  # of each question
        draws = np.random.default_rng(0).integers(0, self.count, (RESAMPLES, self.count))
        draws += np.arange(RESAMPLES)[:, None] * self.count
        times = np.bincount(draws.ravel(), minlength=RESAMPLES * self.count)
        self.times = times.reshape(RESAMPLES, self.count).astype(np.float64)  # each document in each sample

    def intervals(self, questions: ndarray, right: ndarray, other: ndarray):
        """(interval of `right`, that of its difference to `other`, number of documents); None of too few documents."""
        source = self.source[questions]
        present = np.unique(source)
        if len(present) < FEWEST:
            return None, None, len(present)
        sums = [np.bincount(source, weights, self.count)[present] for weights in (None, right, right * 1.0 - other)]
        counts, hits, ahead = (self.times[:, present] @ np.stack(sums, 1)).T
        drawn = counts > 0
        rates = np.stack([hits[drawn], ahead[drawn]]) / counts[drawn]
        low, high = np.percentile(rates, [2.5, 97.5], axis=1)
        return (float(low[0]), float(high[0])), (float(low[1]), float(high[1])), len(present)
