"""The built-in data set: the functions of the running Python's library, and the role of each name in them.

Which name is a parameter, a local, imported here, or from outside? `roles.py` answers by the language's rules. A model
sees the tokens with every name replaced by an id that is drawn at random for each function, so spelling does not help:
it must find the other places of the same id, often hundreds of tokens before.

    def area ( side ) : NEWLINE INDENT return side * side NEWLINE DEDENT         as written
    def FUNCTION ( name7 ) : NEWLINE INDENT return name7 * name7 NEWLINE DEDENT  as the model reads it
                                                   parameter   parameter         as it should answer

Which functions: of all modules of the library but its tests, in sorted order, the functions that `roles.py` keeps
(without inner scopes), with at least one use of a name, at most LONGEST tokens and at most NAMES different names. Of
functions that differ only in names the first is kept, so none is both learned and tested. A module goes whole into
train, valid or test, by a hash of its name. The same Python gives the same data.
"""

from __future__ import annotations

import gc
import hashlib
import json
import os
import platform
import sysconfig
import tempfile
import tokenize
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from sightline.sequences import Sequences
from sightline.tasks import roles
from sightline.tasks.examples import Examples

NAMES = 32
LONGEST = 512
ROLES = roles.ROLES
VOCABULARY = (*roles.WORDS, *(f"name{i}" for i in range(NAMES)))
FIRST_NAME = len(roles.WORDS)  # ids from here on are names
WORD_IDS = {word: i for i, word in enumerate(roles.WORDS)}
SKIPPED = {"site-packages", "dist-packages", "test", "tests", "idle_test", "__pycache__", "lib-dynload"}


class Place(NamedTuple):
    """The place of a function in the library, where `spelling` reads it."""

    module: str
    qualname: str
    line: int


def load() -> dict[str, Examples]:
    """The data set as {"train", "valid", "test"}: ids of VOCABULARY; the target of each use of a name is its role.

    `links` are the positions where used names are bound (-1: outside, or not before the use), `distances` the tokens
    between, `texts` the Place of each function. The first call in a Python version reads the library, in a few seconds;
    the result is kept in the user's cache folder.

    Raises: ValueError where Python was installed without the source of its library.

    >>> data = load()
    >>> [VOCABULARY[i] for i in data["test"].inputs[0].tolist()][:3]
    ['def', 'FUNCTION', '(']
    """
    whole = _load_cache() or _save_cache(_extract())
    numbers = {"train": [], "valid": [], "test": []}
    for i, place in enumerate(whole.texts):
        numbers[split_of(place.module)].append(i)
    return {part: whole.take(chosen) for part, chosen in numbers.items()}


def split_of(module: str) -> str:
    """The part of a module: train, valid or test.

    >>> split_of("ast"), split_of("bisect")
    ('valid', 'train')
    """
    tenth = int.from_bytes(hashlib.blake2b(module.encode(), digest_size=8).digest()) % 10
    return {0: "valid", 1: "test"}.get(tenth, "train")


def spelling(place: Place) -> list[str]:
    """The tokens of a function as written in the library, one for each row of its sequence.

    Raises: ValueError where the library has no such function.
    """
    stem = _library().joinpath(*place.module.split("."))
    with _undisturbed():
        for path in (stem.with_suffix(".py"), stem / "__init__.py"):
            for function in roles.functions(_read(path)) if path.is_file() else ():
                if (function.qualname, function.line) == (place.qualname, place.line):
                    return function.spelling
    raise ValueError(
        f"scope.spelling: expected a function of this Python's library, got {place.qualname} at line {place.line} of "
        f"{place.module}; take places from scope.load"
    )


# --- reading the library ----------------------------------------------------------------------------------------------


def _library() -> Path:
    return Path(sysconfig.get_paths()["stdlib"])


def _modules(library: Path) -> Iterator[tuple[str, Path]]:
    for folder, folders, files in os.walk(library):
        folders[:] = sorted(f for f in folders if f not in SKIPPED and f.isidentifier())
        for file in sorted(f for f in files if f.endswith(".py")):
            path = Path(folder, file)
            parts = path.relative_to(library).with_suffix("").parts
            yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


def _read(path: Path) -> str:
    with tokenize.open(path) as file:
        return file.read()


def _extract() -> Examples:
    ids, targets, links, offsets, places, known = [], [], [], [0], [], set()
    with _undisturbed():
        for module, path in _modules(_library()):
            try:
                functions = list(roles.functions(_read(path)))
            except (SyntaxError, ValueError):  # not for this Python, or not text
                continue
            for function in functions:
                numbered = numbered_ids(function) if max(function.roles) >= 0 else None
                if numbered is None or numbered in known:
                    continue
                known.add(numbered)
                places.append(Place(module, function.qualname, function.line))
                ids += _redrawn(numbered, places[-1])
                targets += [-100 if role < 0 else role for role in function.roles]
                links += function.links
                offsets.append(len(ids))
    if not places:
        raise ValueError(
            f"scope: expected the source of Python's library in {_library()}, got no function from it; use a Python "
            "that was installed with its .py files"
        )
    return _examples(places, *map(torch.tensor, (ids, targets, links, offsets)))


def _examples(places: list[Place], ids: Tensor, targets: Tensor, links: Tensor, offsets: Tensor) -> Examples:
    inputs = Sequences(ids, offsets)
    distances = torch.where(links < 0, -1, inputs.positions - links)
    return Examples(inputs, targets, per_token=True, distances=distances, links=links, texts=places)


@contextmanager
def _undisturbed() -> Iterator[None]:
    """No warnings about the library's source, and no garbage collector, which takes a quarter of the time."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        if collecting:
            gc.enable()


def numbered_ids(function: roles.Function) -> tuple[int, ...] | None:
    """The function's ids with its names numbered as they come; None if it is too long or has too many names."""
    if len(function.words) > LONGEST:
        return None
    names: dict[str, int] = {}
    ids = tuple(
        names.setdefault(spelled, FIRST_NAME + len(names)) if word is None else WORD_IDS[word]
        for word, spelled in zip(function.words, function.spelling, strict=True)
    )
    return ids if len(names) <= NAMES else None


def _redrawn(numbered: tuple[int, ...], place: Place) -> list[int]:
    """The same with its names drawn at random; the place is the seed."""
    keys = hashlib.blake2b(json.dumps(place).encode(), digest_size=2 * NAMES).digest()
    drawn = sorted(range(FIRST_NAME, len(VOCABULARY)), key=lambda i: keys[2 * (i - FIRST_NAME) :][:2])
    return [i if i < FIRST_NAME else drawn[i - FIRST_NAME] for i in numbered]


# --- the cache: never needed, never trusted ---------------------------------------------------------------------------


def _cache_file() -> Path:
    """Its name is made of Python's version, the path of its library, and the text of the two files with the rules."""
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    rules = hashlib.blake2b(str(_library()).encode(), digest_size=8)
    for file in (__file__, roles.__file__):
        rules.update(Path(file).read_bytes())
    return folder / "sightline" / f"scope-{platform.python_version()}-{rules.hexdigest()}.safetensors"


def _load_cache() -> Examples | None:
    try:
        with safe_open(_cache_file(), "pt") as file:
            columns = [file.get_tensor(name).long() for name in ("ids", "targets", "links", "offsets")]
            places = [Place(*place) for place in json.loads(file.metadata()["places"])]
        return _examples(places, *columns)
    except (OSError, RuntimeError, ValueError, TypeError, KeyError, SafetensorError):
        return None


def _save_cache(examples: Examples) -> Examples:
    columns = {"ids": examples.inputs.values, "targets": examples.targets, "links": examples.links}
    columns = {name: column.short() for name, column in columns.items()} | {"offsets": examples.inputs.offsets}
    try:
        path = _cache_file()
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as aside:
            save_file(columns, Path(aside, path.name), {"places": json.dumps(examples.texts)})
            os.replace(Path(aside, path.name), path)
    except (OSError, RuntimeError, SafetensorError):
        pass
    return examples


# --- the plain rule ---------------------------------------------------------------------------------------------------


def rule(ids: Tensor) -> Tensor:
    """The role of every name in one function by a plain rule, the baseline of this data set.

    A name is a parameter if it follows `(`, `,`, `*` or `**` in the signature; else imported if it stands in an import;
    else local if `=` follows it, or it follows `for` or `as`; else from outside.

    Shapes: ids [L]; roles [L], -1 where there is no name.

    >>> words = "def FUNCTION ( name3 ) : return name3 + name1".split()
    >>> rule(torch.tensor([VOCABULARY.index(word) for word in words]))
    tensor([-1, -1, -1,  0, -1, -1, -1,  0, -1,  3])
    """
    words = [VOCABULARY[i] for i in ids.tolist()]
    is_name = [i >= FIRST_NAME for i in ids.tolist()]
    roles_of: dict[str, int] = {}
    depth, signature, importing = 0, True, False
    for before, word, after, name in zip(["", *words[:-1]], words, [*words[1:], ""], is_name, strict=True):
        depth += (word in ("(", "[", "{")) - (word in (")", "]", "}"))
        signature = signature and not (word == ":" and depth == 0)
        importing = (importing or word == "import") and word != "NEWLINE"
        if not name:
            continue
        if signature and depth == 1 and before in ("(", ",", "*", "**"):
            roles_of.setdefault(word, roles.PARAMETER)
        elif importing:
            roles_of.setdefault(word, roles.IMPORTED)
        elif after == "=" or before in ("for", "as"):
            roles_of.setdefault(word, roles.LOCAL)
    guesses = [roles_of.get(word, roles.OUTSIDE) if name else -1 for word, name in zip(words, is_name, strict=True)]
    return torch.tensor(guesses, dtype=torch.int64)
