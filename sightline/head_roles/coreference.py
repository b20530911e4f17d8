"""From the mentions of a text to questions: which earlier mention of the same person or thing does a mention look at?

A mention is stood for by one word: where there is a tree, the word whose head lies outside the mention; else its last
word. It is counted by its type, and right is any earlier mention of the same entity; what could be is every earlier
mention. A first mention asks nothing, but can be found by others; so can a mention of which no entity is known.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy import ndarray

from sightline.head_roles.gold import Relation

TYPES = ("pronoun", "name", "nominal", "other")
RELATIONS = tuple(Relation(f"coref:{kind}", mentions=True) for kind in TYPES)


class Mention(NamedTuple):
    """The word that stands for a mention, its entity (any name, None where unknown), and which of TYPES it is."""

    word: int
    entity: object
    kind: str


def stood_for(mentions: list[Mention]) -> ndarray:
    """The words that stand for mentions, rising, each once."""
    return np.unique(np.array([mention.word for mention in mentions], np.int64))


def links(document: int, mentions: list[Mention]) -> ndarray:
    """Each mention with each earlier one of its entity, as `asked` takes them, for RELATIONS: [M, 4].

    >>> links(0, [Mention(1, "Ann", "name"), Mention(4, "Bob", "name"), Mention(6, "Ann", "pronoun")])
    array([[0, 0, 6, 1]])
    """
    entities: dict[object, list[tuple[int, int]]] = {}
    for word, entity, kind in mentions:
        if entity is not None:
            entities.setdefault(entity, []).append((word, TYPES.index(kind)))
    found = [np.zeros((0, 4), np.int64)]
    for chain in entities.values():
        words, kinds = np.array(sorted(chain), np.int64).T
        later, earlier = np.tril_indices(len(words), -1)
        found.append(np.stack([np.full(len(later), document), kinds[later], words[later], words[earlier]], 1))
    return np.concatenate(found)
