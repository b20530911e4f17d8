"""A small grammar in which a verb agrees with its subject, past nouns of the other number."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from sightline.tasks.synthetic.drawing import ASK, Drawn, Span, SyntheticTask, sampled
from sightline.tasks.task import NO_TARGET

NOUNS = (
    "key cabinet door author book teacher student pilot farmer dog cat horse river bridge tower garden window picture "
    "letter machine engine doctor lawyer singer"
).split()
PREPOSITIONS = "near behind beside above under with".split()
VERBS = "saw heard knew found met liked followed helped".split()  # the same for one and for many
AGREEING = 2  # nouns of the subject's own number between subject and verb, at most
PLURAL = len(NOUNS)  # added to a noun


@dataclass(frozen=True)
class Agreement(SyntheticTask):
    """Whether the missing verb is singular or plural.

        reads    near the dogs , the key to the cabinets that saw the door ?        attractors=1
        answers                                                            singular

    Nouns follow the subject in phrases and relative clauses: up to two of its own number, and `attractors` of the other
    number; a phrase with a noun of either number may come first. `distance` is from the subject to the verb. Relative
    clauses are in the past tense, which shows no number.
    Source: Linzen et al. 2016, section 3 (attractors); the grammar is our own.

    >>> Agreement(attractors=Span(0, 4)).chance
    0.5
    """

    name = "agreement"
    says = "whether a verb is singular or plural"
    harder = "attractors"
    units = ("attractors", "distance")
    minimum = {"attractors": 0}

    attractors: Span = Span(0, 3)

    @property
    def vocabulary(self) -> list[str]:
        return [*NOUNS, *(f"{noun}s" for noun in NOUNS), *PREPOSITIONS, *VERBS, "the", "that", ",", ASK]

    @property
    def labels(self) -> list[str]:
        return ["singular", "plural"]

    @property
    def max_length(self) -> int:
        return 7 + 4 * (self.attractors.most + AGREEING)

    def draw(self, rng: Generator, count: int) -> Drawn:
        """Columns: a phrase `near the dogs ,`, then `the key`, then four for each noun that follows, then `?`."""
        ids = {word: i for i, word in enumerate(self.vocabulary)}
        plural, attractors = rng.integers(2, size=count), self.attractors.draw(rng, count)
        nouns = attractors + rng.integers(AGREEING + 1, size=count)
        slots = self.attractors.most + AGREEING
        inside = np.arange(slots) < nouns[:, None]
        rank = sampled(inside, attractors, rng)
        is_attractor = (rank >= 0) & (rank < attractors[:, None])
        followers = self._followers(rng, ids, plural[:, None] ^ is_attractor, inside)

        def column(word: str) -> np.ndarray:
            return np.full((count, 1), ids[word])

        first = ids[PREPOSITIONS[0]] + rng.integers(len(PREPOSITIONS), size=(count, 1))
        leading, the = _noun(rng, rng.integers(2, size=(count, 1))), column("the")
        columns = [first, the, leading, column(","), the, _noun(rng, plural[:, None]), followers, column(ASK)]
        values = np.concatenate(columns, 1)
        kept = values >= 0
        kept[:, :4] = rng.integers(2, size=(count, 1))
        targets = np.full(values.shape, NO_TARGET, np.int64)
        targets[:, -1] = plural
        return Drawn(kept, values, targets, {"attractors": attractors, "distance": kept[:, 6:].sum(1)})

    @staticmethod
    def _followers(rng: Generator, ids: dict[str, int], plural: np.ndarray, inside: np.ndarray) -> np.ndarray:
        """`near the dogs`, `that saw the dogs` or `that the dogs saw`, -1 for no word: [N, 4 * slots]."""
        shape = plural.shape
        noun = _noun(rng, plural)
        near = ids[PREPOSITIONS[0]] + rng.integers(len(PREPOSITIONS), size=shape)
        saw = ids[VERBS[0]] + rng.integers(len(VERBS), size=shape)
        that, the, none = (np.full(shape, number) for number in (ids["that"], ids["the"], -1))
        kinds = ((near, the, noun, none), (that, saw, the, noun), (that, the, noun, saw))
        words = np.choose(rng.integers(3, size=shape)[..., None], [np.stack(kind, -1) for kind in kinds])
        return np.where(inside[..., None], words, -1).reshape(len(plural), -1)


def _noun(rng: Generator, plural: np.ndarray) -> np.ndarray:
    return rng.integers(len(NOUNS), size=plural.shape) + PLURAL * plural
