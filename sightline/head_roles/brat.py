"""Reads brat's stand-off files (.ann beside .txt): which stretches of a text are mentions, and which mean the same.

    T0    NOM_PER 122 128        a wife       a mention; PRON, PROP and NOM before the underscore say its type
    T408  a_wife-1 122 128       a wife       its entity: a type that ends in a number names the one in the same place
    T9    Person 0 5;16 23       Jane Austen  a mention in two pieces
    *     Coref T9 T12                        these mean the same; so do the two of a relation called Coref...

Offsets count characters. There is no tree here, so the last word stands for a mention. Other lines are left out.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np

from sightline.head_roles import coreference
from sightline.head_roles.coreference import Mention
from sightline.head_roles.gold import Corpus, Document, asked, document_of
from sightline.textfiles import read_lines, read_text

ENTITY = re.compile(r".+-\d+")
KINDS = {"PRON": "pronoun", "PROP": "name", "NOM": "nominal"}
STRETCH = re.compile(r"(T\d+)\t(\S+) (\d+ \d+(?:;\d+ \d+)*)\t(.*)")
SAME = re.compile(r"\*\tcoref\S*((?: T\d+)+)|R\d+\tcoref\S* Arg1:(T\d+) Arg2:(T\d+)", re.IGNORECASE)


def mentions(paths: list[Path], encoding: str | None = None) -> Corpus:
    """The coreference of .ann files, each a document with the .txt beside it.

    Raises: ValueError with file and line at what is not stand-off, or does not fit the text.
    """
    documents, found = [], [np.zeros((0, 4), np.int64)]
    for number, path in enumerate(paths):
        beside = path.with_suffix(".txt")
        if not beside.is_file():
            raise ValueError(
                f"{path}: expected the text it is about beside it, got no {beside.name}; put the two in one folder"
            )
        document = document_of(path.stem, read_text(beside, encoding), number)
        own = _mentions(path, document, encoding)
        found.append(coreference.links(number, own))
        documents.append(replace(document, mentions=coreference.stood_for(own)))
    return asked(documents, coreference.RELATIONS, np.concatenate(found))


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
            kinds[place] = KINDS.get(kind.partition("_")[0].upper(), "other")
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
    place = tuple(tuple(map(int, piece.split())) for piece in match[3].split(";"))
    for start, end in place:
        if not start < end <= len(document.text):
            raise ValueError(
                f"{where}: expected a stretch inside the {len(document.text):,} characters of the text, got {start} to {end}; "
                "correct the offsets, which count characters"
            )
    there = " ".join(document.text[start:end] for start, end in place)
    if there.split() != match[4].split() or document.word_of(*place[-1]) < 0:
        raise ValueError(
            f"{where}: expected {match[4][:60]!r} in the text at {match[3]}, got {there[:60]!r}; "
            "annotate this very text, with offsets that count characters"
        )
    return match[1], match[2], place
