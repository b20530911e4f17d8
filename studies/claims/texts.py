"""Texts in people's language: data sets brought along in a folder, and two that every Python interpreter has in it.

trec, banking77      the kind of a question, the intent of a customer      `<folder>/trec`, `<folder>/banking77`
ewt                  the part of speech of each word                       `<folder>/ud-english-ewt`
shakespeare          the next character                                    `<folder>/tinyshakespeare`
docstrings           which package a docstring of the standard library documents
documentation        the next character of the interpreter's own manual

Of a text without parts the first nine tenths train, half of the last validates and half tests.
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
PACKAGES = 8  # of the library, those with most docstrings
SHORTEST, LONGEST = 4, 60  # words of a docstring's first paragraph
APART = {"test", "tests", "idlelib", "lib2to3", "site-packages", "turtledemo", "pydoc_data", "__pycache__"}


def lacks(name: str, folder: Path | None) -> str:
    """What is missing to read a text of this name; empty where nothing is.

    >>> lacks("trec", None), lacks("docstrings", None)
    ('the data set trec is not there; name its folder with --data', '')
    """
    if name not in FILES or (folder is not None and (folder / FILES[name]).exists()):
        return ""
    return f"the data set {name} is not there; name its folder with --data"


def read(name: str, folder: Path | None, **settings) -> Data:
    """A text of this name as data; what has a form of its own becomes CSV first, in a folder that is thrown away."""
    with tempfile.TemporaryDirectory() as made:
        match name:
            case "trec":
                for part in ("train", "test"):
                    rows = (folder / "trec" / f"TREC.{part}.all").read_text("latin-1").splitlines()
                    _write(Path(made, f"{part}.csv"), (row.split(" ", 1)[::-1] for row in rows if row))
                return load(made, task="classify", text="text", label="label", **settings)
            case "docstrings":
                _write(Path(made, "docstrings.csv"), docstrings())
                return load(Path(made, "docstrings.csv"), task="classify", text="text", label="label", **settings)
            case "documentation" | "shakespeare":
                text = documentation() if name == "documentation" else (folder / FILES[name]).read_text("utf-8")
                cuts = [0, int(0.9 * len(text)), int(0.95 * len(text)), len(text)]
                for part, first, past in zip(("train", "valid", "test"), cuts, cuts[1:], strict=False):
                    Path(made, f"{part}.txt").write_text(text[first:past], "utf-8")
                return load(made, **settings)
            case "banking77":
                return load(folder / name, task="classify", text="text", label="category", **settings)
            case _:
                return load(folder / "ud-english-ewt", task="tag", **settings)


def _write(path: Path, rows: Iterable[Iterable[str]]) -> None:
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("text", "label"), *rows])


def docstrings() -> list[tuple[str, str]]:
    """(first paragraph, package) of each docstring of the standard library's largest packages; a text that two share is left out."""
    library = Path(sysconfig.get_paths()["stdlib"])
    found: dict[str, set[str]] = {}
    for path in sorted(library.rglob("*.py")):
        parts = path.relative_to(library).parts
        if len(parts) < 2 or APART & set(parts):
            continue
        try:
            tree = ast.parse(path.read_text("utf-8"))
        except (OSError, ValueError, SyntaxError):  # some files of the library are broken on purpose
            continue
        for node in ast.walk(tree):
            if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
                text = " ".join((ast.get_docstring(node) or "").partition("\n\n")[0].split())
                if SHORTEST <= len(text.split()) <= LONGEST:
                    found.setdefault(text, set()).add(parts[0])
    single = [(text, *packages) for text, packages in found.items() if len(packages) == 1]
    largest = {name for name, _ in Counter(package for _, package in single).most_common(PACKAGES)}
    return [(text, package) for text, package in single if package in largest]


def documentation() -> str:
    """The chapters of the language's manual that `help` shows, one after the other."""
    from pydoc_data.topics import topics

    return "\n\n".join(topics[name] for name in sorted(topics))
