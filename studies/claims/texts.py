"""Texts by people: data sets in a folder of the caller, and two that come with every Python interpreter.

trec, banking77      the kind of a question, the intent of a customer      `<folder>/trec`, `<folder>/banking77`
ewt                  the part of speech of each word                       `<folder>/ud-english-ewt`
shakespeare          the next character                                    `<folder>/tinyshakespeare`
docstrings           which package a docstring of the standard library documents
documentation        the next character of the interpreter's own manual

A text without parts is split: the first nine tenths train, one twentieth validates, one twentieth tests.
"""

from __future__ import annotations

import ast
import csv
import sysconfig
import tempfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from sightline.tasks import Data, load

FILES = {
    "trec": "trec/TREC.train.all",
    "banking77": "banking77/train.csv",
    "ewt": "ud-english-ewt/en_train.conllu",
    "shakespeare": "tinyshakespeare/input.txt",
}
NAMES = (*FILES, "docstrings", "documentation")
PACKAGES = 8  # of the standard library, those with most docstrings
SHORTEST, LONGEST = 4, 60  # words of a docstring's first paragraph
SKIPPED = {"test", "tests", "idlelib", "lib2to3", "site-packages", "turtledemo", "pydoc_data", "__pycache__"}


def missing(name: str, folder: Path | None) -> str:
    """What is missing to read a text of this name; empty if nothing is.

    >>> missing("trec", None), missing("docstrings", None)
    ('the data set trec is not there; name its folder with --data', '')
    """
    if name not in FILES or (folder is not None and (folder / FILES[name]).exists()):
        return ""
    return f"the data set {name} is not there; name its folder with --data"


def read_text(name: str, folder: Path | None, **settings) -> Data:
    """A text of this name as data; other formats are first written as CSV to a temporary folder."""
    with tempfile.TemporaryDirectory() as temporary:
        match name:
            case "trec":
                for part in ("train", "test"):
                    rows = (folder / "trec" / f"TREC.{part}.all").read_text("latin-1").splitlines()
                    _write(Path(temporary, f"{part}.csv"), (row.split(" ", 1)[::-1] for row in rows if row))
                return load(temporary, task="classify", text="text", label="label", **settings)
            case "docstrings":
                _write(Path(temporary, "docstrings.csv"), docstrings())
                return load(Path(temporary, "docstrings.csv"), task="classify", text="text", label="label", **settings)
            case "documentation" | "shakespeare":
                text = documentation() if name == "documentation" else (folder / FILES[name]).read_text("utf-8")
                cuts = [0, int(0.9 * len(text)), int(0.95 * len(text)), len(text)]
                for part, first, past in zip(("train", "valid", "test"), cuts, cuts[1:], strict=False):
                    Path(temporary, f"{part}.txt").write_text(text[first:past], "utf-8")
                return load(temporary, **settings)
            case "banking77":
                return load(folder / name, task="classify", text="text", label="category", **settings)
            case _:
                return load(folder / "ud-english-ewt", task="tag", **settings)


def _write(path: Path, rows: Iterable[Iterable[str]]) -> None:
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("text", "label"), *rows])


def docstrings() -> list[tuple[str, str]]:
    """(first paragraph, package) of each docstring of the standard library's largest packages.

    A text that occurs in two packages is left out.
    """
    library = Path(sysconfig.get_paths()["stdlib"])
    packages_of: dict[str, set[str]] = {}
    for path in sorted(library.rglob("*.py")):
        parts = path.relative_to(library).parts
        if len(parts) < 2 or SKIPPED & set(parts):
            continue
        try:
            tree = ast.parse(path.read_text("utf-8"))
        except (OSError, ValueError, SyntaxError):  # some files of the library are invalid on purpose
            continue
        for node in ast.walk(tree):
            if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
                text = " ".join((ast.get_docstring(node) or "").partition("\n\n")[0].split())
                if SHORTEST <= len(text.split()) <= LONGEST:
                    packages_of.setdefault(text, set()).add(parts[0])
    single = [(text, *packages) for text, packages in packages_of.items() if len(packages) == 1]
    largest = {name for name, _ in Counter(package for _, package in single).most_common(PACKAGES)}
    return [(text, package) for text, package in single if package in largest]


def documentation() -> str:
    """The chapters of the language's manual that `help` shows, in alphabetical order."""
    from pydoc_data.topics import topics

    return "\n\n".join(topics[name] for name in sorted(topics))
