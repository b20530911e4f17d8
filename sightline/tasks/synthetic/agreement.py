"""A small grammar in which a verb has to agree with its subject, past nouns of the other number that would mislead it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.random import Generator

from sightline.tasks.synthetic.drawing import ASK, Drawn, Span, SyntheticTask, chosen, nothing

NOUNS = (
    "key cabinet door author book teacher student pilot farmer dog cat horse river bridge tower garden window picture letter "
    "machine engine doctor lawyer singer"
).split()
PREPOSITIONS = "near behind beside above under with".split()
VERBS = "saw heard knew found met liked followed helped".split()  # the same for one and for many
AGREEING = 2  # nouns of the subject's own number between subject and verb, at most
PLURAL = len(NOUNS)  # added to a noun


@dataclass(frozen=True)
class Agreement(SyntheticTask):
    """Whether the verb that is missing stands in the singular or the plural.

        reads    near the dogs , the key to the cabinets that saw the door ?        attractors=1
        answers                                                            singular

    The subject is followed by nouns in phrases and relative clauses, up to two of its own number and as many `attractors`,
    of the other number, as are asked for; before it there may be a phrase with a noun of either. `distance` is from the
    subject to the verb. Relative clauses are in the past tense, which shows no number.
    Source: Linzen et al. 2016, section 3 (attractors); the grammar is our own.

    >>> Agreement(attractors=Span(0, 4)).chance
    0.5
    """

    name: ClassVar[str] = "agreement"
    says: ClassVar[str] = "whether a verb is singular or plural"
    harder: ClassVar[str] = "attractors"
    ways: ClassVar[tuple[str, ...]] = ("attractors", "distance")

    attractors: Span = Span(0, 3)

    def least(self) -> dict[str, int]:
        return {"attractors": 0}

    @property
    def vocabulary(self) -> list[str]:
        return [*NOUNS, *(f"{noun}s" for noun in NOUNS), *PREPOSITIONS, *VERBS, "the", "that", ",", ASK]

    @property
    def labels(self) -> list[str]:
        return ["singular", "plural"]

    @property
    def chance(self) -> float:
        return 0.5

    @property
    def widest(self) -> int:
        return 7 + 4 * (self.attractors.most + AGREEING)

    def draw(self, rng: Generator, count: int) -> Drawn:
        """Columns: a phrase `near the dogs ,`, then `the key`, then four for each noun that follows, then the question."""
        ids = {word: i for i, word in enumerate(self.vocabulary)}
        plural, attractors = rng.integers(2, size=count), self.attractors.draw(rng, count)
        nouns = attractors + rng.integers(AGREEING + 1, size=count)
        slots = self.attractors.most + AGREEING
        inside = np.arange(slots) < nouns[:, None]
        misleads = chosen(inside, attractors, rng)
        misleads = (misleads >= 0) & (misleads < attractors[:, None])
        followers = self._followers(rng, ids, plural[:, None] ^ misleads, inside)

        def one(word: str) -> np.ndarray:
            return np.full((count, 1), ids[word])

        first = ids[PREPOSITIONS[0]] + rng.integers(len(PREPOSITIONS), size=(count, 1))
        leading = _noun(rng, rng.integers(2, size=(count, 1)))
        columns = [first, one("the"), leading, one(","), one("the"), _noun(rng, plural[:, None]), followers, one(ASK)]
        values = np.concatenate(columns, 1)
        kept = values >= 0
        kept[:, :4] = rng.integers(2, size=(count, 1))
        targets = nothing(*values.shape)
        targets[:, -1] = plural
        measured = {"attractors": attractors, "distance": kept[:, 6:].sum(1)}
        return Drawn(kept, values, targets, measured)

    @staticmethod
    def _followers(rng: Generator, ids: dict[str, int], plural: np.ndarray, inside: np.ndarray) -> np.ndarray:
        """`near the dogs`, `that saw the dogs` or `that the dogs saw`, -1 where nothing stands: [N, 4 * slots]."""
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
