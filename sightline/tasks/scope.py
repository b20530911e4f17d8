"""The data set that is always at hand: the functions of the running Python's own library, and what their names stand for.

Which name is a parameter, which a local, which was imported here and which comes from outside? `roles.py` answers by
the language's rules. A model sees the tokens with every name replaced by an id that is drawn anew for each function, so
spelling gives nothing away: it has to find where else the same id stands, often hundreds of tokens before.

    def area ( side ) : NEWLINE INDENT return side * side NEWLINE DEDENT         as written
    def FUNCTION ( name7 ) : NEWLINE INDENT return name7 * name7 NEWLINE DEDENT  as the model reads it
                                                   parameter   parameter         as it should answer

Which functions: all modules of the library but its tests, in sorted order; of these the functions that `roles.py` keeps,
with at least one use of a name, at most LONGEST tokens and at most NAMES different names. A module goes whole into
train, valid or test, by a hash of its name. The same Python always gives the same data.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import random
import sysconfig
import tempfile
import tokenize
import warnings
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from sightline.sequences import Sequences
from sightline.tasks import roles
from sightline.tasks.examples import Examples
from sightline.tasks.roles import ROLES as ROLES
from sightline.tasks.roles import WORDS

NAMES = 32
LONGEST = 512
VOCABULARY = (*WORDS, *(f"name{i}" for i in range(NAMES)))
SKIPPED_FOLDERS = {
    "site-packages",
    "dist-packages",
    "test",
    "tests",
    "idle_test",
    "__pycache__",
    "lib-dynload",
}
_ID = {word: i for i, word in enumerate(VOCABULARY)}
_FIRST_NAME = len(WORDS)


class Place(NamedTuple):
    """Where a function stands in the library; `spelling` reads it there."""

    module: str
    qualname: str
    line: int


def load() -> dict[str, Examples]:
    """The data set as {"train", "valid", "test"}: ids of VOCABULARY, the index into ROLES of every use of a name as target.

    `links` holds where a used name is bound in its function (-1 = from outside, or used before it is bound),
    `distances` how many tokens before the use that is, and `texts` the Place of each function. The first call of a
    Python version reads the library, in a few seconds; the result is kept in the user's cache folder.

    >>> data = load()                                                         # doctest: +SKIP
    >>> " ".join(VOCABULARY[i] for i in data["test"].inputs[0].tolist())      # doctest: +SKIP
    """
    columns, places = _load_cache() or _save_cache(*_extract())
    offsets, links = columns["offsets"].long(), columns["links"].long()
    inputs = Sequences(columns["ids"].long(), offsets)
    targets = torch.where(columns["roles"] >= 0, columns["roles"].long(), -100)
    distances = torch.where(links >= 0, inputs.positions - links, -1)
    everything = Examples(inputs, targets, per_token=True, distances=distances, links=links, texts=places)
    numbers = {"train": [], "valid": [], "test": []}
    for i, place in enumerate(places):
        numbers[split_of(place.module)].append(i)
    return {split: everything.take(chosen) for split, chosen in numbers.items()}


@cache
def split_of(module: str) -> str:
    """Which of train, valid and test a module belongs to.

    >>> split_of("ast"), split_of("ast")
    ('train', 'train')
    """
    lot = int.from_bytes(hashlib.blake2b(module.encode(), digest_size=8).digest()) % 10
    return {0: "valid", 1: "test"}.get(lot, "train")


def spelling(place: Place) -> list[str]:
    """The tokens of a function as they are written in the library, one for each row of its sequence.

    Raises: ValueError where the library has no such function.
    """
    path = _library() / Path(*place.module.split("."))
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    if path.is_file():
        for function in roles.functions(_read(path)):
            if (function.qualname, function.line) == (place.qualname, place.line):
                return function.spelling
    raise ValueError(
        f"scope.spelling: expected a function of this Python's library, got {place.qualname} at line {place.line} of "
        f"{place.module}; take places from scope.load"
    )


# --- reading the library -------------------------------------------------------------------------------------------------


def _library() -> Path:
    return Path(sysconfig.get_paths()["stdlib"])


def _modules(library: Path) -> Iterator[tuple[str, Path]]:
    for folder, folders, files in os.walk(library):
        folders[:] = sorted(f for f in folders if f not in SKIPPED_FOLDERS and f.isidentifier())
        for file in sorted(f for f in files if f.endswith(".py")):
            path = Path(folder, file)
            parts = path.relative_to(library).with_suffix("").parts
            yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


def _read(path: Path) -> str:
    with tokenize.open(path) as file:
        return file.read()


def _extract() -> tuple[dict[str, Tensor], list[Place]]:
    columns, lengths, places = {"ids": [], "roles": [], "links": []}, [0], []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what the library's own source is warned of
        for module, path in _modules(_library()):
            try:
                found = list(roles.functions(_read(path)))
            except (SyntaxError, UnicodeDecodeError):  # not this Python's: a template, a file of the old 2to3
                continue
            for function in found:
                place = Place(module, function.qualname, function.line)
                ids = encode(function, place)
                if ids is not None:
                    columns["ids"] += ids
                    columns["roles"] += function.roles
                    columns["links"] += function.links
                    lengths.append(len(ids))
                    places.append(place)
    tensors = {name: torch.tensor(column, dtype=torch.int16) for name, column in columns.items()}
    return tensors | {"offsets": torch.tensor(lengths).cumsum(0)}, places


def encode(function: roles.Function, place: Place) -> list[int] | None:
    """The ids of a function's tokens, its names drawn by lot from its place; None where a rule leaves it out."""
    if len(function.words) > LONGEST or max(function.roles) < 0:
        return None
    names = dict.fromkeys(s for s, w in zip(function.spelling, function.words, strict=True) if w is None)
    if len(names) > NAMES:
        return None
    seed = hashlib.blake2b(repr(tuple(place)).encode(), digest_size=8).digest()
    drawn = random.Random(int.from_bytes(seed)).sample(range(_FIRST_NAME, len(VOCABULARY)), len(names))
    of = dict(zip(names, drawn, strict=True))
    return [of[s] if w is None else _ID[w] for s, w in zip(function.spelling, function.words, strict=True)]


# --- the cache: never needed, never trusted to be writable ---------------------------------------------------------------


def _cache_file() -> Path:
    """Named by the Python, by where its library is, and by the rules: the text of the two files that hold them."""
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    rules = hashlib.blake2b(str(_library()).encode(), digest_size=8)
    for file in (__file__, roles.__file__):
        rules.update(Path(file).read_bytes())
    return folder / "sightline" / f"scope-{platform.python_version()}-{rules.hexdigest()}.safetensors"


def _load_cache() -> tuple[dict[str, Tensor], list[Place]] | None:
    try:
        with safe_open(_cache_file(), "pt") as file:
            places = [Place(*place) for place in json.loads(file.metadata()["places"])]
            return {name: file.get_tensor(name) for name in ("ids", "roles", "links", "offsets")}, places
    except (OSError, RuntimeError, ValueError, TypeError, KeyError, SafetensorError):
        return None


def _save_cache(columns: dict[str, Tensor], places: list[Place]) -> tuple[dict[str, Tensor], list[Place]]:
    try:
        path = _cache_file()
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as aside:
            save_file(columns, Path(aside, path.name), {"places": json.dumps(places)})
            os.replace(Path(aside, path.name), path)
    except (OSError, RuntimeError, SafetensorError):
        pass
    return columns, places


# --- the plain rule ------------------------------------------------------------------------------------------------------


def rule(ids: Tensor) -> Tensor:
    """The role of every name of one function by a plain rule, the score to beat: in the signature it is a parameter, after
    `import` imported, followed by `=` or after `for` or `as` a local, and otherwise from outside; the first that holds.

    Shapes: ids [L]; roles [L], -1 where there is no name.
    """
    words = [VOCABULARY[i] for i in ids.tolist()]
    found: dict[str, int] = {}
    depth, signature, importing = 0, True, False
    for before, word, after in zip(["", *words], words, [*words[1:], ""], strict=False):
        depth += (word in "([{") - (word in ")]}")
        signature = signature and not (word == ":" and depth == 0)
        importing = (importing or word == "import") and word != "NEWLINE"
        if not word.startswith("name"):
            continue
        if signature and depth == 1 and before in ("(", ",", "*", "**"):
            found.setdefault(word, roles.PARAMETER)
        elif importing:
            found.setdefault(word, roles.IMPORTED)
        elif after == "=" or before in ("for", "as"):
            found.setdefault(word, roles.LOCAL)
    return torch.tensor([found.get(w, roles.OUTSIDE) if w.startswith("name") else -1 for w in words])
