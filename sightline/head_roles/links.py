"""Links that somebody wrote for a question of their own, and plain texts without questions.

    {"text": "The cat chased its tail.", "links": [{"from": [15, 18], "to": [4, 7], "relation": "owner"}]}

One JSON object a line is a document. `from` and `to` are characters of the text, the first and past the last: the word
with the question, and a word that is right. The last word of a stretch stands for it. Links of one relation from one
word are one question with several right answers; `relation` is `link` by default.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from sightline.head_roles.gold import Corpus, Document, Relation, build_corpus, document_of
from sightline.tasks.readers import read_records
from sightline.textfiles import read_lines


def linked_texts(paths: list[Path], encoding: str | None = None) -> Corpus:
    """The documents and links of JSON Lines files.

    Raises: ValueError with file and line at what is not as above.
    """
    documents, rows, relations = [], [], {}
    for path in paths:
        for record in read_records(path) if encoding is None else read_records(path, encoding):
            where = f"{path.name}:{record.line}"
            text, links = record.fields.get("text"), record.fields.get("links", [])
            if not isinstance(text, str) or not isinstance(links, list):
                types = ", ".join(f"{key} ({type(value).__name__})" for key, value in record.fields.items())
                raise ValueError(
                    f'{where}: expected "text" with a text and "links" with a list, got {types or "nothing"}; '
                    'write {"text": "...", "links": [{"from": [0, 3], "to": [4, 9]}]}'
                )
            document = document_of(where, text, len(documents))
            for link in links:
                relation, query, key = _link(link, document, where)
                rows.append((len(documents), relations.setdefault(relation, len(relations)), query, key))
            documents.append(document)
    return build_corpus(documents, map(Relation, relations), rows)


def plain_texts(paths: list[Path], encoding: str | None = None) -> Corpus:
    """The lines of plain-text files that hold more than blanks, each a document with no questions.

    Raises: ValueError with file and line where a byte does not decode.
    """
    texts = [
        (f"{path.name}:{number}", line)
        for path in paths
        for number, line in enumerate(read_lines(path, encoding), 1)
        if line.strip()
    ]
    return build_corpus([document_of(name, line, i) for i, (name, line) in enumerate(texts)], [], np.zeros((0, 4)))


def _link(link: object, document: Document, where: str) -> tuple[str, int, int]:
    """(relation, word with the question, word that is right) of one link."""
    if not isinstance(link, dict) or not {"from", "to"} <= link.keys() <= {"from", "to", "relation"}:
        raise ValueError(
            f'{where}: expected a link with "from", "to" and perhaps "relation", got {str(link)[:80]}; '
            "write these alone"
        )
    relation = link.get("relation", "link")
    if not isinstance(relation, str) or not relation.strip():
        raise ValueError(f"{where}: expected the name of a relation, got {relation!r}; write a word")
    return relation, _word(link["from"], "from", document, where), _word(link["to"], "to", document, where)


def _word(stretch: Any, end: str, document: Document, where: str) -> int:
    size = len(document.text)
    is_pair = isinstance(stretch, list) and len(stretch) == 2 and all(type(place) is int for place in stretch)
    if not is_pair or not 0 <= stretch[0] < stretch[1] <= size:
        raise ValueError(
            f'{where}: expected "{end}" as [first character, past the last], inside the {size:,} of the text, '
            f"got {stretch}; count characters from 0"
        )
    word = document.word_of(*stretch)
    if word < 0:
        raise ValueError(
            f'{where}: expected "{end}" to hold a word, got {document.text[stretch[0] : stretch[1]]!r} at {stretch}; '
            "correct it"
        )
    return word
