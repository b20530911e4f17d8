"""Coreference as questions: which earlier mention of the same person or thing does a mention attend to?

One word stands for a mention: in a tree the word whose head lies outside it, else its last word. A mention has the
relation of its type. Right is any earlier mention of the same entity; the candidates are all earlier mentions. A first
mention has no question, but is a candidate for others; so is a mention of unknown entity.

Here mentions are read from brat's stand-off files (.ann beside .txt); `conllu.py` reads them from `Entity=`.

    T0    NOM_PER 122 128        a wife       a mention; PRON, PROP and NOM before the underscore are its type
    T408  a_wife-1 122 128       a wife       its entity: a type that ends in a number names the one in the same place
    T9    Person 0 5;16 23       Jane Austen  a mention in two pieces
    *     Coref T9 T12                        these are the same; so are the two of a relation called Coref...

Offsets count characters. Other lines are left out.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy import ndarray

from sightline.head_roles.gold import Corpus, Document, Relation, build_corpus, document_of
from sightline.textfiles import read_lines, read_text

TYPES = ("pronoun", "name", "nominal", "other")
RELATIONS = tuple(Relation(f"coref:{kind}", mentions=True) for kind in TYPES)
ENTITY = re.compile(r".+-\d+")
BRAT_TYPES = {"PRON": "pronoun", "PROP": "name", "NOM": "nominal"}
STRETCH = re.compile(r"(T\d+)\t(\S+) (\d+ \d+(?:;\d+ \d+)*)\t(.*)")
SAME = re.compile(r"\*\tcoref\S*((?: T\d+)+)|R\d+\tcoref\S* Arg1:(T\d+) Arg2:(T\d+)", re.IGNORECASE)


class Mention(NamedTuple):
    """The word that stands for a mention, its entity (any name, None where unknown), and which of TYPES it is."""

    word: int
    entity: object
    kind: str


def head_words(mentions: list[Mention]) -> ndarray:
    """The words that stand for mentions, rising, each once."""
    return np.unique(np.array([mention.word for mention in mentions], np.int64))


def pairs_of(document: int, mentions: list[Mention]) -> ndarray:
    """Each mention with each earlier one of its entity, for `build_corpus` with RELATIONS: [M, 4].

    >>> pairs_of(0, [Mention(1, "Ann", "name"), Mention(4, "Bob", "name"), Mention(6, "Ann", "pronoun")])
    array([[0, 0, 6, 1]])
    """
    entities: dict[object, list[tuple[int, int]]] = {}
    for word, entity, kind in mentions:
        if entity is not None:
            entities.setdefault(entity, []).append((word, TYPES.index(kind)))
    pairs = [np.zeros((0, 4), np.int64)]
    for chain in entities.values():
        words, kinds = np.array(sorted(chain), np.int64).T
        later, earlier = np.tril_indices(len(words), -1)
        pairs.append(np.stack([np.full(len(later), document), kinds[later], words[later], words[earlier]], 1))
    return np.concatenate(pairs)


def of_brat(paths: list[Path], encoding: str | None = None) -> Corpus:
    """The coreference of .ann files, each a document with the .txt beside it.

    Raises: ValueError with file and line at what is not stand-off, or does not fit the text.
    """
    documents, pairs = [], [np.zeros((0, 4), np.int64)]
    for number, path in enumerate(paths):
        beside = path.with_suffix(".txt")
        if not beside.is_file():
            raise ValueError(
                f"{path}: expected the text it is about beside it, got no {beside.name}; put the two in one folder"
            )
        document = document_of(path.stem, read_text(beside, encoding), number)
        mentions = _mentions(path, document, encoding)
        pairs.append(pairs_of(number, mentions))
        documents.append(replace(document, mentions=head_words(mentions)))
    return build_corpus(documents, RELATIONS, np.concatenate(pairs))


def _mentions(path: Path, document: Document, encoding: str | None) -> list[Mention]:
    """The mentions of a file; two lines about one place are one mention."""
    stretches: dict[str, tuple[tuple, str]] = {}  # T12 -> place, type
    same: list[tuple[str, list[str]]] = []
    for number, line in enumerate(read_lines(path, encoding), 1):
        where = f"{path.name}:{number}"
        if line.startswith("T"):
            id_, kind, place = _stretch(line, document, where)
            if id_ in stretches:
                raise ValueError(f"{where}: expected a number of its own, got {id_} once more; renumber it")
            stretches[id_] = place, kind
        elif match := SAME.match(line):
            same.append((where, (match[1] or f"{match[2]} {match[3]}").split()))
    kinds, entities = {}, {}
    for place, kind in stretches.values():
        if ENTITY.fullmatch(kind):
            entities[place] = kind
        else:
            kinds[place] = BRAT_TYPES.get(kind.partition("_")[0].upper(), "other")
    for where, ids in same:
        missing = [id_ for id_ in ids if id_ not in stretches]
        if missing:
            raise ValueError(
                f"{where}: expected mentions of this file, got {missing[0]}, which it has not; add its line"
            )
        places = [stretches[id_][0] for id_ in ids]
        joined = {entities.setdefault(place, place) for place in places}
        entities = {place: places[0] if known in joined else known for place, known in entities.items()}
    return [
        Mention(document.word_of(*place[-1]), entities.get(place), kinds.get(place, "other"))
        for place in {**kinds, **entities}
    ]


def _stretch(line: str, document: Document, where: str) -> tuple[str, str, tuple[tuple[int, int], ...]]:
    """(number, type, pieces) of a line that marks a stretch of the text, checked against the text."""
    match = STRETCH.fullmatch(line)
    if not match:
        raise ValueError(
            f"{where}: expected a line as in T1, tab, Person 0 5, tab, the text there; got {line[:60]!r}; correct it"
        )
    bounds = (piece.split() for piece in match[3].split(";"))
    place = tuple((int(start), int(end)) for start, end in bounds)
    for start, end in place:
        if not start < end <= len(document.text):
            raise ValueError(
                f"{where}: expected a stretch inside the {len(document.text):,} characters of the text, got {start} to "
                f"{end}; correct the offsets, which count characters"
            )
    there = " ".join(document.text[start:end] for start, end in place)
    if there.split() != match[4].split() or document.word_of(*place[-1]) < 0:
        raise ValueError(
            f"{where}: expected {match[4][:60]!r} in the text at {match[3]}, got {there[:60]!r}; "
            "annotate this very text, with offsets that count characters"
        )
    return match[1], match[2], place
