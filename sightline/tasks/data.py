"""From a file, a folder or a name to what is trained on: task, tokenizer and examples. Begin with `load`.

The training part decides what travels with the model: the tokenizer is trained on it alone, the labels are those of the
file it comes from. Without a validation part, a tenth is set aside, and of a single file another tenth for the test:
by a seeded hash of the text, so the order of records does not matter and equal texts stay together. One long plain text
is cut instead: its last tenth is the test, the one before it validates. Records without a label are left out of
training, and counted; in a test they are refused.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from sightline.tasks import scope
from sightline.tasks.classify import Classify
from sightline.tasks.columns import Choice, choose
from sightline.tasks.encoding import encode, texts
from sightline.tasks.examples import Examples
from sightline.tasks.language import Language
from sightline.tasks.readers import SUFFIXES, hub, read_records, source_name
from sightline.tasks.records import Record
from sightline.tasks.regress import Regress
from sightline.tasks.synthetic import SyntheticTask, synthetic_task
from sightline.tasks.tag import Tag
from sightline.tasks.task import Task
from sightline.tasks.tokenizing import SIZES, Tokenizer, text_chunks
from sightline.tasks.values import is_blank
from sightline.textfiles import printable_path, read_text

PARTS = ("train", "valid", "test")
PART_NAMES = {"dev": "valid", "validation": "valid", "val": "valid"} | {part: part for part in PARTS}
SHORTEST = 20  # characters of a text to be cut into parts
SCOPE = Tag("tokens", "roles", tuple(scope.ROLES))
UNITS = {"bytes": "byte", "characters": "character"}  # the tokens of these tokenizers
FITTED = {kind.name: kind for kind in (Classify, Tag, Regress)}  # tasks with labels


@dataclass(frozen=True)
class Data:
    """What a run needs of its data; `tokenizer` is None for vectors.

    `note` says in a sentence what was chosen; `chosen` in two lines, of the data and of the task, with the options that
    change it.
    """

    task: Task
    tokenizer: Tokenizer | None
    train: Examples
    valid: Examples
    test: Examples | None
    note: str
    chosen: str = ""


def load(
    data: Any,
    *,
    valid: Any = None,
    test: Any = None,
    task: str | None = None,
    text: str | None = None,
    label: str | None = None,
    tokenizer: str | Path | None = None,
    vocabulary: int | None = None,
    context: int = 256,
    encoding: str | None = None,
    separator: str | None = None,
    seed: int = 0,
) -> Data:
    """Reads data and decides what is learned from it.

    `data` is a file, a folder with train, valid and test files, the name of a dataset on the hub, `scope`, or a
    synthetic task such as `parity` or `mqar:length=128,pairs=16` (`sightline.tasks.synthetic`); write `./scope` for a
    file of that name. An .npz holds sequences of vectors: `values` [T, F], the rows of all, `offsets` [S + 1], where
    each begins, and under any name a label for each sequence [S] or row [T]. `valid` and `test` are files. Each may
    also be a table in memory: a DataFrame, an Arrow table, a dict of columns or a list of dicts, read as Parquet.
    The columns decide on `task`, `text` and `label` if these are None. `tokenizer` is bytes, characters, words, bpe or
    the path of a tokenizer.json (None: characters for language, else words), trained to at most `vocabulary` ids.
    `context` (tokens) cuts what language modelling reads. `encoding` is that of text (None: UTF-8), `separator` that of
    the columns of a .csv or .tsv (None: the file decides).

    Raises: ValueError, with file and line, where the data do not fit the arguments.

    >>> import tempfile, pathlib
    >>> path = pathlib.Path(tempfile.mkdtemp(), "reviews.csv")
    >>> _ = path.write_text("review,stars\\n" + "\\n".join(f"It is number {i},{i % 2}" for i in range(50)))
    >>> load(path).note
    "task: classify (column 'stars' has 2 different whole numbers) from text 'review'; 40 train, 5 valid, 5 test"
    """
    name = source_name(data)
    if synthetic := name == "scope" or synthetic_task(name):
        options = {"valid": valid, "test": test, "text": text, "label": label, "tokenizer": tokenizer}
        return _built_in(name, synthetic, options | {"vocabulary": vocabulary, "task": task})
    files = find(data, valid, test)
    if task in (None, "language") and "train" in files and all(map(_is_plain_text, files.values())):
        return _stream(files, tokenizer or "characters", vocabulary, context, encoding)
    records = {part: list(read_records(file, encoding, separator)) for part, file in files.items()}
    if "train" not in files:
        records = _from_hub(name) | records
    for part, rows in records.items():
        if not rows:
            file = source_name(files.get(part, data))
            raise ValueError(f"{file}: expected at least one record, got none; check the file")
    choice = choose(records["train"], task, text, label)
    records, unlabelled = _labelled(records, choice.label)
    whole = records["train"]
    if "valid" not in records:
        records |= split(whole, choice.text, seed, ("valid",) if "test" in records else ("valid", "test"))
    trained, kind = None, tokenizer or "words"
    if choice.holds != "vectors":
        if tokenizer is None and (choice.task, choice.holds) == ("language", "text"):
            kind = "characters"
        trained = _tokenizer(texts(records["train"], choice.text, choice.task == "tag"), kind, vocabulary)
    if choice.task == "language" and trained is not None:
        learned = _language(choice.text, trained, context, kind, stream=False)
    else:
        fitted_on = records["train"] if choice.task == "regress" else whole
        learned = FITTED[choice.task].fit(fitted_on, choice.text, choice.label or "")
    parts = {part: encode(records[part], learned, trained) for part in PARTS if records.get(part)}
    counts = _listed({part: len(records[part]) for part in parts})
    note = f"task: {choice.task} ({choice.reason}) from text {choice.text!r}; {counts}"
    total = len(unlabelled) + sum(map(len, records.values()))
    return _data(learned, trained, parts, note, _chosen(name, choice, learned, total, counts, unlabelled))


def load_test(
    data: Any, task: Task, tokenizer: Tokenizer | None, encoding: str | None = None, separator: str | None = None
) -> Examples:
    """Labelled examples to measure a trained model on: all of a file or table, or the test part of a folder, of a
    dataset on the hub, of `scope` or of a synthetic task.

    Raises: ValueError, with file and line, for a label that was not seen in training, or without a test part.
    """
    name = source_name(data)
    if synthetic := name == "scope" or synthetic_task(name):
        own = _built_in(name, synthetic, {})
        if (task, _symbols(tokenizer)) != (own.task, _symbols(own.tokenizer)):
            advice = "keep the settings it was fitted with, but for length and depth"
            advice = f"name the model of a run on {data}" if name == "scope" else advice
            raise ValueError(
                f"{data}: expected the symbols and labels that the model has learned, got others; {advice}"
            )
        return cast(Examples, own.test)
    files = find(data, None, None)
    part = "train" if "train" in files and not Path(name).is_dir() else "test"
    file = files.get(part)
    if isinstance(task, Language) and tokenizer and task.stream and file is not None and _is_plain_text(file):
        return task.stream_examples(tokenizer.encode_stream(_long_text(file, encoding)))
    records = _from_hub(name).get(part) if not files else []
    if part in files:
        records = list(read_records(file, encoding, separator))
    if not records:
        raise ValueError(f"{name}: expected at least one record to test on, got none; name a file that has some")
    if (label := task.label) is not None and any(label in record.fields for record in records):
        empty = [record for record in records if is_blank(record.fields.get(label))]
        if empty:
            raise ValueError(
                f"{empty[0].where}: expected a label in column {label!r}, got none, as in {len(empty):,} of "
                f"{len(records):,} records; fill them in or take them out"
            )
    return encode(records, task, tokenizer)


def _data(task: Task, tokenizer: Tokenizer | None, parts: dict[str, Examples], note: str, chosen: str = "") -> Data:
    return Data(task, tokenizer, parts["train"], parts["valid"], parts.get("test"), note, chosen)


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{counts[part]} {part}" for part in PARTS if part in counts)


# --- the files and records of each part -------------------------------------------------------------------------------


def find(data: Any, valid: Any, test: Any) -> dict[str, Any]:
    """The file, or table, of each part; none if `data` can only be the name of a dataset on the hub.

    Raises: ValueError where a folder has no file for training, or two for one part.
    """
    sources: dict[str, Any] = {}
    path = Path(source_name(data))
    if not isinstance(data, (str, os.PathLike)):
        sources["train"] = data
    elif path.is_dir():
        for file in sorted(path.iterdir()):
            words = set(re.split(r"[^a-z]+", file.stem.lower())) if file.suffix.lower() in SUFFIXES else set()
            for part in {PART_NAMES[word] for word in words & PART_NAMES.keys()}:
                if part in sources:
                    raise ValueError(
                        f"{path}: expected one {part} file, got {sources[part].name} and {file.name}; name the files "
                        "one by one"
                    )
                sources[part] = file
        if "train" not in sources:
            raise ValueError(
                f"{path}: expected a file with 'train' in its name that ends in one of {' '.join(SUFFIXES)}, got "
                f"{', '.join(sources) or 'none'}; rename the files or name them one by one"
            )
    elif path.exists() or str(data) == "-" or path.suffix.lower() in SUFFIXES:
        sources["train"] = path
    named = {"valid": valid, "test": test}
    return sources | {
        part: Path(file) if isinstance(file, str) else file for part, file in named.items() if file is not None
    }


def _is_plain_text(source: Any) -> bool:
    return source_name(source).lower().endswith(".txt")


def _from_hub(name: str) -> dict[str, list[Record]]:
    parts = {PART_NAMES[split]: list(rows) for split, rows in hub(name).items() if split in PART_NAMES}
    if "train" not in parts:
        raise ValueError(
            f"{name}: expected a dataset with a train split, got {', '.join(parts) or 'none'}; name another"
        )
    return parts


def split(records: Sequence[Record], column: str, seed: int, aside: Sequence[str]) -> dict[str, list[Record]]:
    """Sets a tenth of the different texts aside for each part in `aside`, at least one for the first; the others train.

    Raises: ValueError where all records have the same text.
    """
    hashes = [_hash(record.get(column), seed) for record in records]
    different = sorted(set(hashes))
    if len(different) < 2:
        raise ValueError(
            f"{records[0].file}: expected at least two different texts in column {column!r}, one to validate on, got "
            "one; give a file to validate on"
        )
    part_of, tenth = {}, len(different) // 10
    for part, count in zip(aside, (max(tenth, 1), tenth), strict=False):
        part_of |= dict.fromkeys(different[len(part_of) : len(part_of) + count], part)
    parts: dict[str, list[Record]] = {part: [] for part in ("train", *aside)}
    for record, key in zip(records, hashes, strict=True):
        parts[part_of.get(key, "train")].append(record)
    return parts


def _hash(value, seed: int) -> bytes:
    if not isinstance(value, np.ndarray):
        value = np.frombuffer(json.dumps(value, sort_keys=True, default=str).encode(), np.uint8)
    return hashlib.blake2b(f"{seed}:".encode() + value.tobytes(), digest_size=16).digest()


def _labelled(records: dict[str, list[Record]], label: str | None) -> tuple[dict[str, list[Record]], list[Record]]:
    """The records of each part with a label, and all records without one."""
    if label is None:
        return records, []
    kept = {part: [r for r in rows if not is_blank(r.fields.get(label))] for part, rows in records.items()}
    for part, rows in records.items():
        if not kept[part]:
            raise ValueError(
                f"{rows[0].file}: expected labels in column {label!r}, got none in {len(rows):,} records; fill them in"
            )
    return kept, [r for rows in records.values() for r in rows if is_blank(r.fields.get(label))]


def _chosen(data: str, choice: Choice, task: Task, total: int, counts: str, unlabelled: list[Record]) -> str:
    """A line of the data and one of the task, with the options that change them."""
    columns, option = f"text {choice.text!r}", "--text names another column"
    if choice.label is not None:
        values = f" ({task.outputs:,} values)" if task.name in ("classify", "tag") else ""
        columns, option = f"{columns}, label {choice.label!r}{values}", "--text and --label name other columns"
    left_out = ""
    if unlabelled:
        first = Path(unlabelled[0].where).name
        left_out = f"; {len(unlabelled):,} without a label left out, the first {first}"
    reason = choice.reason if choice.reason.startswith("as ") else f"since {choice.reason}"
    return (
        f"data: {total:,} records of {printable_path(Path(data).name)}: {columns}; {counts}{left_out}; {option}\n"
        f"task: {choice.task}, {reason}{'; ' * bool(choice.instead)}{choice.instead}"
    )


# --- tokenizer and language -------------------------------------------------------------------------------------------


def _tokenizer(strings: list[str] | list[list[str]], kind: str | Path, vocabulary: int | None) -> Tokenizer:
    if str(kind) in SIZES or not Path(kind).exists():
        return Tokenizer.train(str(kind), strings, vocabulary)
    if vocabulary is not None:
        raise ValueError(f"{kind}: expected no size beside a tokenizer that is given, got {vocabulary}; leave it out")
    return Tokenizer.load(kind)


def _language(column: str, tokenizer: Tokenizer, context: int, kind: str | Path, stream: bool) -> Language:
    if context < 1:
        raise ValueError(f"context: expected at least 1 token, got {context}; take 64 or more")
    return Language(column, tokenizer.size, tokenizer.end, context, UNITS.get(str(kind)), stream)


def _long_text(file: Path, encoding: str | None) -> str:
    """A whole text, with line ends of one kind."""
    return read_text(file, encoding).replace("\r\n", "\n").replace("\r", "\n")


def _stream(
    files: dict[str, Path], kind: str | Path, vocabulary: int | None, context: int, encoding: str | None
) -> Data:
    long_texts = {part: _long_text(file, encoding) for part, file in files.items()}
    for part, long_text in long_texts.items():
        if not long_text:
            raise ValueError(f"{files[part]}: expected a text, got an empty file; check the file")
    if "valid" not in long_texts:
        whole = long_texts["train"]
        if len(whole) < SHORTEST:
            raise ValueError(
                f"{files['train']}: expected at least {SHORTEST} characters, to train, validate and test on, got "
                f"{len(whole)}; give a longer text"
            )
        tenth = len(whole) // 10
        stop = len(whole) if "test" in long_texts else len(whole) - tenth
        cuts = {"train": whole[: stop - tenth], "valid": whole[stop - tenth : stop], "test": whole[stop:]}
        long_texts = cuts | {part: text for part, text in long_texts.items() if part == "test"}
    tokenizer = _tokenizer(text_chunks(long_texts["train"]), kind, vocabulary)
    task = _language("text", tokenizer, context, kind, stream=True)
    parts = {part: task.stream_examples(tokenizer.encode_stream(t)) for part, t in long_texts.items()}
    counts = _listed({part: len(examples.targets) for part, examples in parts.items()})
    chosen = (
        f"data: the text of {printable_path(files['train'].name)}; tokens: {counts}\n"
        "task: language, since a .txt is plain text; labels are learned from a table, such as a .csv"
    )
    return _data(task, tokenizer, parts, f"task: language (a plain text); tokens: {counts}", chosen)


# --- data that are built in -------------------------------------------------------------------------------------------


def _built_in(name: str, synthetic: SyntheticTask | Any, options: dict) -> Data:
    """`scope`, or a synthetic task; both have their own columns, parts and symbols."""
    is_scope = name == "scope"
    task = SCOPE if is_scope else synthetic.task
    for option, value in options.items():
        if value is not None and (option, value) != ("task", task.name):
            raise ValueError(
                f"{name}: expected no {option}, since this data set has its own, got {value}; leave it out"
            )
    vocabulary = list(scope.VOCABULARY) if is_scope else synthetic.vocabulary
    tokenizer = None if vocabulary is None else Tokenizer.of(vocabulary)
    parts = scope.load() if is_scope else synthetic.parts()
    counts = _listed({part: len(examples) for part, examples in parts.items()})
    if is_scope:
        python = platform.python_version()
        note = f"task: tag (what each use of a name stands for) in the functions of Python {python}; {counts}"
    else:
        chance = synthetic.test_task().chance
        score = f"an mse of {chance:.4g}" if task.name == "regress" else f"{chance:.1%}"
        note = f"task: {task.name} ({synthetic.says}), generated; {counts}; chance is {score}"
    return _data(task, tokenizer, parts, note)


def _symbols(tokenizer: Tokenizer | None) -> dict[str, int] | None:
    return None if tokenizer is None else tokenizer.engine.get_vocab()
