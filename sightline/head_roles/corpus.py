"""From a path to a corpus of documents and questions, in any format.

.conllu               trees; with kind "coreference" its Entity= instead        `conllu.py`
a folder of .ann      coreference, each with the .txt beside it                 `coreference.py`
.jsonl                links of your own                                         `links.py`
.txt                  a document a line, no questions                           `links.py`
scope                 where names are bound, in Python's own library            `task_corpora.py`
agreement             the subjects of the synthetic task, as `agreement:...`    `task_corpora.py`
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from sightline.head_roles import conllu, coreference, links, task_corpora
from sightline.head_roles.gold import Corpus
from sightline.tabular import items_of
from sightline.tasks.synthetic import Agreement, synthetic_task

READERS = {
    (".conllu", "dependencies"): conllu.dependencies,
    (".conllu", "coreference"): conllu.entities,
    (".ann", "coreference"): coreference.of_brat,
    (".jsonl", "links"): links.linked_texts,
    (".txt", "text"): links.plain_texts,
}
KINDS = tuple(dict.fromkeys(kind for _, kind in READERS))


def corpus_of(
    source: str | Path | Sequence[str | Path], kind: str | None = None, encoding: str | None = None
) -> Corpus:
    """The corpus in files or folders of one format; or `scope`, or `agreement` with its settings.

    `kind` is one of KINDS; None: that of the format, and of CoNLL-U the trees. `encoding` is that of the files; None:
    UTF-8, or that of a file's byte-order mark.
    Raises: ValueError where there is nothing to read, or it cannot be read, with file and line.

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
            return task_corpora.bindings()
        if isinstance(task := synthetic_task(source), Agreement):
            return task_corpora.subjects(task)
    paths = [Path(source)] if isinstance(source, (str, Path)) else _paths(source)
    name = ", ".join(map(str, paths)) or "heads"
    files = [file for path in paths for file in _files(path)]
    annotated = {file.with_suffix(".txt") for file in files if file.suffix.lower() == ".ann"}
    files = [file for file in files if file not in annotated]
    suffixes = {file.suffix.lower() for file in files}
    reader = next((r for (suffix, k), r in READERS.items() if {suffix} == suffixes and kind in (None, k)), None)
    if reader is None:
        expected = f"files of {kind}" if kind else "files of one format (.conllu, .ann, .jsonl or .txt)"
        suffixes = ", ".join(sorted(map(repr, suffixes))) or "none"
        raise ValueError(
            f"{name}: expected {expected}, got {suffixes}; name a file, a folder of one format, scope or agreement"
        )
    corpus = reader(files, encoding)
    notes = [] if len(corpus) or reader is links.plain_texts else ["No link between two words was found."]
    if reader is conllu.dependencies and any(conllu.has_entities(file, encoding) for file in files):
        notes.append('Entity= is there too: kind "coreference" reads it.')
    return _without_empty(corpus, name, notes)


def _paths(source: Any) -> list[Path]:
    try:
        return [Path(path) for path in items_of(source, "heads", "paths")]
    except TypeError as error:
        if str(error).startswith("heads"):
            raise
        raise TypeError(f"heads: expected paths of files, got others ({error}); write the texts to a file") from None


def _files(path: Path) -> list[Path]:
    """The file itself, or the files of a folder in one of the formats."""
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise ValueError(f"{path}: expected a file or a folder, got no such one; check the path")
    suffixes = {suffix for suffix, _ in READERS}
    return sorted(file for file in path.iterdir() if file.suffix.lower() in suffixes)


def _without_empty(corpus: Corpus, name: str, notes: list[str]) -> Corpus:
    """The corpus without documents that have no words, with all notes about its files."""
    full = [i for i, document in enumerate(corpus.documents) if document.words]
    empty = len(corpus.documents) - len(full)
    if not full:
        raise ValueError(f"{name}: expected at least one sentence with words, got none; give a corpus that has some")
    dropped = f"Left out: {empty:,} text{'s' * (empty > 1)} without words." if empty else ""
    note = " ".join(filter(None, (corpus.note, dropped, *notes)))
    return replace(corpus.take(full) if empty else corpus, note=note)
