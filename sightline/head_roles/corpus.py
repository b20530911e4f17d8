"""From a path to documents and questions, whatever the format; the one door to everything that is read here.

.conllu               trees; with kind "coreference" its Entity= instead        `conllu.py`
a folder of .ann      coreference, each with the .txt beside it                 `brat.py`
.jsonl                links of your own                                         `links.py`
.txt                  a document a line, no questions                           `links.py`
scope                 where names are bound, in Python's own library            `bindings.py`
agreement             the subjects of the generated task, as `agreement:...`    `sentences.py`
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from sightline.head_roles import bindings, brat, conllu, links
from sightline.head_roles.gold import Corpus
from sightline.head_roles.sentences import sentences
from sightline.tabular import items_of
from sightline.tasks.synthetic import Agreement, synthetic_task

READERS = {
    (".conllu", "dependencies"): conllu.trees,
    (".conllu", "coreference"): conllu.entities,
    (".ann", "coreference"): brat.mentions,
    (".jsonl", "links"): links.links,
    (".txt", "text"): links.texts,
}
KINDS = tuple(dict.fromkeys(kind for _, kind in READERS))


def corpus_of(
    source: str | Path | Sequence[str | Path], kind: str | None = None, encoding: str | None = None
) -> Corpus:
    """The corpus in a file, several files of one format, or a folder of such; or `scope`, or `agreement` with its settings.

    `kind` is one of KINDS; left out, the format says it, and CoNLL-U is read for its trees. `encoding`
    is that of the files; left out, UTF-8, or what a file's own mark says.
    Raises: ValueError where there is nothing to read, or it cannot be, with file and line.

    >>> import tempfile, pathlib
    >>> path = pathlib.Path(tempfile.mkdtemp(), "mine.jsonl")
    >>> _ = path.write_text('{"text": "The cat chased its tail", "links": [{"from": [15, 18], "to": [4, 7]}]}')
    >>> corpus = corpus_of(path)
    >>> corpus.documents[0].words[corpus.query[0]], corpus.documents[0].words[corpus.keys[0]]
    ('its', 'cat')
    """
    if kind is not None and kind not in KINDS:
        raise ValueError(f"heads: expected as kind one of {', '.join(KINDS)}, got {kind!r}; name one, or none")
    if isinstance(source, str) and not Path(source).exists():
        if source == "scope":
            return bindings.bindings()
        if isinstance(task := synthetic_task(source), Agreement):
            return sentences(task)
    paths = [Path(source)] if isinstance(source, (str, Path)) else _paths(source)
    name = ", ".join(map(str, paths)) or "heads"
    files = [file for path in paths for file in _files(path)]
    annotated = {file.with_suffix(".txt") for file in files if file.suffix.lower() == ".ann"}
    files = [file for file in files if file not in annotated]
    suffixes = {file.suffix.lower() for file in files}
    read = next((r for (end, what), r in READERS.items() if {end} == suffixes and kind in (None, what)), None)
    if read is None:
        wanted = f"files of {kind}" if kind else "files of one format (.conllu, .ann, .jsonl or .txt)"
        found = ", ".join(sorted(map(repr, suffixes))) or "none"
        raise ValueError(
            f"{name}: expected {wanted}, got {found}; name a file, a folder of one format, scope or agreement"
        )
    corpus = read(files, encoding)
    unasked = "" if len(corpus) or read is links.texts else "No link between two words was found."
    return _checked(corpus, name, unasked, _entities_unread(files, read, encoding))


def _paths(source: Any) -> list[Path]:
    try:
        return [Path(path) for path in items_of(source, "heads", "paths")]
    except TypeError as error:
        if str(error).startswith("heads"):
            raise
        raise TypeError(f"heads: expected paths of files, got others ({error}); write the texts to a file") from None


def _files(path: Path) -> list[Path]:
    """The file itself, or what a folder holds of the formats."""
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise ValueError(f"{path}: expected a file or a folder, got no such one; check the path")
    suffixes = {suffix for suffix, _ in READERS}
    return sorted(file for file in path.iterdir() if file.suffix.lower() in suffixes)


def _entities_unread(files: list[Path], read, encoding: str | None) -> str:
    if read is conllu.trees and any(conllu.has_entities(file, encoding) for file in files):
        return 'Entity= is there too: kind "coreference" reads it.'
    return ""


def _checked(corpus: Corpus, name: str, *notes: str) -> Corpus:
    """Without documents that have no words, and with all that is to be said about the files."""
    full = [i for i, document in enumerate(corpus.documents) if document.words]
    empty = len(corpus.documents) - len(full)
    if not full:
        raise ValueError(f"{name}: expected at least one sentence with words, got none; give a corpus that has some")
    dropped = f"Left out: {empty:,} text{'s' * (empty > 1)} without words." if empty else ""
    note = " ".join(filter(None, (corpus.note, dropped, *notes)))
    return replace(corpus.take(full) if empty else corpus, note=note)
