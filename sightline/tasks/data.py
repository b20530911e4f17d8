"""From what a person has (a file, a folder, a name) to what is trained on: task, tokenizer and examples.

What is trained on decides what travels with the model: the tokenizer is trained on the training part alone, and the
labels are those of the file the training part comes from. Where no validation part is given, one tenth is set aside,
and of a single file another tenth for the test: by a seeded hash of the text, so that the order of the records does
not matter and equal texts stay together. One long plain text is cut instead: its last tenth is the test, the one before it
validates. A record without a label is left out of what is fitted, and counted; one to measure on is refused.
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
from typing import Any

import numpy as np

from sightline.tasks import scope
from sightline.tasks import synthetic as generated
from sightline.tasks.classify import Classify
from sightline.tasks.columns import Choice, choose
from sightline.tasks.encoding import encode, texts
from sightline.tasks.examples import Examples
from sightline.tasks.language import Language
from sightline.tasks.readers import SUFFIXES, hub, read_records, source_name
from sightline.tasks.records import Record
from sightline.tasks.regress import Regress
from sightline.tasks.tag import Tag
from sightline.tasks.task import Task
from sightline.tasks.tokenizing import SIZES, Tokenizer, cut
from sightline.tasks.values import is_blank
from sightline.textfiles import printable_path, read_text

PARTS = ("train", "valid", "test")
PART_NAMES = {"dev": "valid", "validation": "valid", "val": "valid"} | {part: part for part in PARTS}
SHORTEST = 20  # characters of a text of which tenths are set aside
SCOPE = Tag("tokens", "roles", tuple(scope.ROLES))
UNITS = {"bytes": "byte", "characters": "character"}  # tokenizers of which a token is one such


@dataclass(frozen=True)
class Data:
    """What a run needs of its data; `tokenizer` is None for vectors.

    `note` says in a sentence what was chosen; `chosen` says it in two lines, of the data and of the task, with the options
    that change it.
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
    """Reads data and says what is learned from it.

    `data` is a file, a folder with train, valid and test files, the name of a dataset on the hub, `scope`, or a generated
    task such as `parity` or `mqar:length=128,pairs=16` (`sightline.tasks.synthetic`); a file or folder that bears one of
    these names is reached as `./scope`. An .npz holds sequences of vectors: `values` [T, F], the rows of all, `offsets` [S + 1],
    where each begins, and under any name a label for each sequence [S] or row [T]. `valid` and `test` are files. Each may also be
    a table in memory: a DataFrame, an Arrow table, a dict of columns or a list of dicts, read as a Parquet file of it would be.
    `task`, `text` and `label` are picked from the
    columns where they are not given. `tokenizer` is bytes, characters, words, bpe or the path of a tokenizer.json (if none
    is given: characters for language, else words), trained to at most `vocabulary` ids. `context` (tokens) cuts what
    language modelling reads. `encoding` is that of text (UTF-8 if None), `separator` what parts the columns of a .csv or .tsv
    (as the file says if None).

    Raises: ValueError, with file and line, where the data does not hold what is asked of it.

    >>> import tempfile, pathlib
    >>> path = pathlib.Path(tempfile.mkdtemp(), "reviews.csv")
    >>> _ = path.write_text("review,stars\\n" + "\\n".join(f"It is number {i},{i % 2}" for i in range(50)))
    >>> load(path).note
    "task: classify (column 'stars' has 2 different whole numbers) from text 'review'; 40 train, 5 valid, 5 test"
    """
    name = source_name(data)
    if name == "scope" or generated.synthetic_task(name):
        own = {"valid": valid, "test": test, "text": text, "label": label, "tokenizer": tokenizer}
        return _built_in(name, task, own | {"vocabulary": vocabulary})
    files = find(data, valid, test)
    plain = "train" in files and all(source_name(file).lower().endswith(".txt") for file in files.values())
    if plain and task in (None, "language"):
        return _stream(files, tokenizer or "characters", vocabulary, context, encoding)
    records = {part: list(read_records(file, encoding, separator)) for part, file in files.items()}
    if "train" not in files:
        records = _from_hub(name) | records
    for part, rows in records.items():
        if not rows:
            raise ValueError(
                f"{source_name(files.get(part, data))}: expected at least one record, got none; check the file"
            )
    choice = choose(records["train"], task, text, label)
    records, left_out = _labelled(records, choice.label)
    whole = records["train"]
    if "valid" not in records:
        records |= split(whole, choice.text, seed, ("valid",) if "test" in records else ("valid", "test"))
    engine = None
    if choice.holds != "vectors":
        kind = tokenizer or ("characters" if (choice.task, choice.holds) == ("language", "text") else "words")
        engine = _tokenizer(texts(records["train"], choice.text, choice.task == "tag"), kind, vocabulary)
    if choice.task == "language":
        made = _language(choice.text, engine, context, kind, stream=False)
    else:
        made = _task(choice, whole, records["train"])
    parts = {part: encode(records[part], made, engine) for part in PARTS if records.get(part)}
    counts = ", ".join(f"{len(records[part])} {part}" for part in parts)
    note = f"task: {choice.task} ({choice.reason}) from text {choice.text!r}; {counts}"
    chosen = _chosen(name, choice, made, len(left_out) + sum(map(len, records.values())), counts, left_out)
    return Data(made, engine, parts["train"], parts["valid"], parts.get("test"), note, chosen)


def load_test(
    data: Any, task: Task, tokenizer: Tokenizer | None, encoding: str | None = None, separator: str | None = None
) -> Examples:
    """Labelled examples to measure a trained model on: all of a file or table, or the test part of a folder, of a dataset on the
    hub, of `scope` or of a generated task.

    Raises: ValueError, with file and line, where a label was not seen in training or there is no test part.
    """
    name = source_name(data)
    if name == "scope":
        if (task, _symbols(tokenizer)) != (SCOPE, _symbols(_scope_engine())):
            raise ValueError(
                f"{data}: expected the symbols and labels that the model has learned, got others; name the model of a run on "
                f"{data}"
            )
        return scope.load()["test"]
    if drawn := generated.synthetic_task(name):
        if (task, _symbols(tokenizer)) != (drawn.task, _symbols(_engine(drawn))):
            raise ValueError(
                f"{data}: expected the symbols and labels that the model has learned, got others; keep the settings it was "
                "fitted with, but for length and depth"
            )
        return drawn.parts()["test"]
    files = find(data, None, None)
    part = "train" if "train" in files and not Path(name).is_dir() else "test"
    file = files.get(part)
    if isinstance(task, Language) and task.stream and source_name(file).lower().endswith(".txt"):
        return task.stream_examples(tokenizer.encode_stream(_one_line_end(read_text(file, encoding))))
    records = _from_hub(name).get(part) if not files else []
    if part in files:
        records = list(read_records(file, encoding, separator))
    if not records:
        raise ValueError(f"{name}: expected at least one record to test on, got none; name a file that has some")
    named = {column for record in records for column in record.fields}
    if task.label in named and (empty := [r for r in records if is_blank(r.fields.get(task.label))]):
        raise ValueError(
            f"{empty[0].where}: expected a label in column {task.label!r}, got none, as in {len(empty):,} of {len(records):,} records; "
            "fill them in or take them out"
        )
    return encode(records, task, tokenizer)


# --- finding the parts ------------------------------------------------------------------------------------------------


def find(data: Any, valid: Any, test: Any) -> dict[str, Any]:
    """The file, or table, of each part; none where `data` can only be the name of a dataset on the hub.

    Raises: ValueError where a folder has no file for training, or two for one part.
    """
    found: dict[str, Any] = {}
    path = Path(source_name(data))
    if not isinstance(data, (str, os.PathLike)):
        found["train"] = data
    elif path.is_dir():
        for file in sorted(path.iterdir()):
            words = set(re.split(r"[^a-z]+", file.stem.lower())) if file.suffix.lower() in SUFFIXES else set()
            for part in {PART_NAMES[word] for word in words & PART_NAMES.keys()}:
                if part in found:
                    raise ValueError(
                        f"{path}: expected one {part} file, got {found[part].name} and {file.name}; name the files "
                        "one by one"
                    )
                found[part] = file
        if "train" not in found:
            raise ValueError(
                f"{path}: expected a file with 'train' in its name that ends in one of {' '.join(SUFFIXES)}, got "
                f"{', '.join(found) or 'none'}; rename the files or name them one by one"
            )
    elif path.exists() or str(data) == "-" or path.suffix.lower() in SUFFIXES:
        found["train"] = path
    given = {"valid": valid, "test": test}
    return found | {
        part: Path(file) if isinstance(file, str) else file for part, file in given.items() if file is not None
    }


def _from_hub(name: str) -> dict[str, list[Record]]:
    parts = {PART_NAMES[split]: list(rows) for split, rows in hub(name).items() if split in PART_NAMES}
    if "train" not in parts:
        raise ValueError(
            f"{name}: expected a dataset with a train split, got {', '.join(parts) or 'none'}; name another"
        )
    return parts


def split(records: Sequence[Record], column: str, seed: int, aside: Sequence[str]) -> dict[str, list[Record]]:
    """Sets a tenth of the different texts aside for each part named, at least one for the first; the others train.

    Raises: ValueError where all records have the same text.
    """
    lots = [_lot(record.get(column), seed) for record in records]
    drawn = sorted(set(lots))
    if len(drawn) < 2:
        raise ValueError(
            f"{records[0].file}: expected at least two different texts in column {column!r}, one to validate on, got one; "
            "give a file to validate on"
        )
    part_of, tenth = {}, len(drawn) // 10
    for part, count in zip(aside, (max(tenth, 1), tenth), strict=False):
        part_of |= {lot: part for lot in drawn[len(part_of) : len(part_of) + count]}
    parts: dict[str, list[Record]] = {part: [] for part in ("train", *aside)}
    for record, lot in zip(records, lots, strict=True):
        parts[part_of.get(lot, "train")].append(record)
    return parts


def _lot(value, seed: int) -> bytes:
    if not isinstance(value, np.ndarray):
        value = np.frombuffer(json.dumps(value, sort_keys=True, default=str).encode(), np.uint8)
    return hashlib.blake2b(f"{seed}:".encode() + value.tobytes(), digest_size=16).digest()


def _labelled(records: dict[str, list[Record]], label: str | None) -> tuple[dict[str, list[Record]], list[Record]]:
    """Each part without the records that have no label, and these."""
    if label is None:
        return records, []
    kept = {part: [r for r in rows if not is_blank(r.fields.get(label))] for part, rows in records.items()}
    for part, rows in records.items():
        if not kept[part]:
            raise ValueError(
                f"{rows[0].file}: expected labels in column {label!r}, got none in {len(rows):,} records; fill them in"
            )
    return kept, [r for rows in records.values() for r in rows if is_blank(r.fields.get(label))]


def _chosen(data: str, choice: Choice, task: Task, whole: int, counts: str, left_out: list[Record]) -> str:
    """What was read, and what is learned from it: a line each, with the options that change it."""
    columns, others = f"text {choice.text!r}", "--text names another column"
    if choice.label is not None:
        values = f" ({task.outputs:,} values)" if task.name in ("classify", "tag") else ""
        columns, others = f"{columns}, label {choice.label!r}{values}", "--text and --label name other columns"
    without = (
        f"; {len(left_out):,} without a label left out, the first {Path(left_out[0].where).name}" if left_out else ""
    )
    since = choice.reason if choice.reason.startswith("as ") else f"since {choice.reason}"
    return (
        f"data: {whole:,} records of {printable_path(Path(data).name)}: {columns}; {counts}{without}; {others}\n"
        f"task: {choice.task}, {since}{'; ' * bool(choice.instead)}{choice.instead}"
    )


# --- making task and tokenizer ----------------------------------------------------------------------------------------


def _tokenizer(given: list[str] | list[list[str]], kind: str | Path, vocabulary: int | None) -> Tokenizer:
    if str(kind) in SIZES or not Path(kind).exists():
        return Tokenizer.train(str(kind), given, vocabulary)
    if vocabulary is not None:
        raise ValueError(f"{kind}: expected no size beside a tokenizer that is given, got {vocabulary}; leave it out")
    return Tokenizer.load(kind)


def _task(choice: Choice, whole: list[Record], train: list[Record]) -> Task:
    match choice.task:
        case "classify":
            return Classify.fit(whole, choice.text, choice.label)
        case "tag":
            return Tag.fit(whole, choice.text, choice.label)
        case _:
            return Regress.fit(train, choice.text, choice.label)


def _language(column: str, engine: Tokenizer, context: int, kind: str | Path, stream: bool) -> Language:
    if context < 1:
        raise ValueError(f"context: expected at least 1 token, got {context}; take 64 or more")
    return Language(column, engine.size, engine.end, context, UNITS.get(str(kind)), stream)


def _one_line_end(text: str) -> str:
    """A text with line ends of one kind, so that it is the same from every system."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _stream(
    files: dict[str, Path], kind: str | Path, vocabulary: int | None, context: int, encoding: str | None
) -> Data:
    long_texts = {part: _one_line_end(read_text(file, encoding)) for part, file in files.items()}
    for part, long_text in long_texts.items():
        if not long_text:
            raise ValueError(f"{files[part]}: expected a text, got an empty file; check the file")
    if "valid" not in long_texts:
        whole = long_texts["train"]
        if len(whole) < SHORTEST:
            raise ValueError(
                f"{files['train']}: expected at least {SHORTEST} characters, to train, validate and test on, got {len(whole)}; "
                "give a longer text"
            )
        tenth = len(whole) // 10
        stop = len(whole) if "test" in long_texts else len(whole) - tenth
        cuts = {"train": whole[: stop - tenth], "valid": whole[stop - tenth : stop], "test": whole[stop:]}
        long_texts = cuts | {part: text for part, text in long_texts.items() if part == "test"}
    engine = _tokenizer(cut(long_texts["train"]), kind, vocabulary)
    task = _language("text", engine, context, kind, stream=True)
    parts = {part: task.stream_examples(engine.encode_stream(t)) for part, t in long_texts.items()}
    counts = ", ".join(f"{len(parts[part].targets)} {part}" for part in PARTS if part in parts)
    note = f"task: language (a plain text); tokens: {counts}"
    chosen = (
        f"data: the text of {printable_path(files['train'].name)}; tokens: {counts}\n"
        "task: language, since a .txt is plain text; labels are learned from a table, such as a .csv"
    )
    return Data(task, engine, parts["train"], parts["valid"], parts.get("test"), note, chosen)


# --- data that are built in ---------------------------------------------------------------------------------------------


def _built_in(name: str, task: str | None, given: dict) -> Data:
    """`scope` or a generated task, which have everything of their own."""
    drawn = generated.synthetic_task(name)
    own = drawn.task.name if drawn else "tag"
    for option, value in (given | {"task": None if task == own else task}).items():
        if value is not None:
            raise ValueError(
                f"{name}: expected no {option}, since this data set has its own, got {value}; leave it out"
            )
    return _generated(drawn) if drawn else _scope()


def _scope() -> Data:
    parts = scope.load()
    counts = ", ".join(f"{len(parts[part])} {part}" for part in PARTS)
    note = f"task: tag (what each use of a name stands for) in the functions of Python {platform.python_version()}; {counts}"
    return Data(SCOPE, _scope_engine(), parts["train"], parts["valid"], parts["test"], note)


def _scope_engine() -> Tokenizer:
    return Tokenizer.of(list(scope.VOCABULARY))


def _generated(drawn: generated.SyntheticTask) -> Data:
    parts, task = drawn.parts(), drawn.task
    counts = ", ".join(f"{len(parts[part])} {part}" for part in PARTS)
    chance = (
        f"an mse of {drawn.test_task().chance:.4g}" if task.name == "regress" else f"{drawn.test_task().chance:.1%}"
    )
    note = f"task: {task.name} ({drawn.says}), generated; {counts}; chance is {chance}"
    return Data(task, _engine(drawn), parts["train"], parts["valid"], parts["test"], note)


def _engine(drawn: generated.SyntheticTask) -> Tokenizer | None:
    return None if drawn.vocabulary is None else Tokenizer.of(drawn.vocabulary)


def _symbols(tokenizer: Tokenizer | None) -> dict[str, int] | None:
    return None if tokenizer is None else tokenizer.engine.get_vocab()
