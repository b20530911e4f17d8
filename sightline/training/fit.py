"""The functions that people call, one for each thing they want: fit, evaluate, predict, generate.

Each takes a model or the folder of one. A run's folder holds the model's files (`model.py`) and

    metrics.jsonl  results.json  checkpoint.safetensors  digests.json  tensorboard/

One run at a time writes into it (`files.locked`); evaluate, predict and generate read it at any time.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch

from sightline.files import LOCK, folder_name, is_empty, locked, remove_partial, write_files
from sightline.files import read_bytes as read_file
from sightline.tabular import table_rows
from sightline.tasks import Data, Examples, load, load_test, read_records, task_from_json
from sightline.tasks.readers import TABLE, memory_tables, source_name
from sightline.training import digests
from sightline.training.config import RunConfig
from sightline.training.digests import DIGESTS
from sightline.training.loop import CHECKPOINT, State, processes, train
from sightline.training.model import CONFIG, TASK, TOKENIZER, WEIGHTS, Model
from sightline.training.record import BOARD, METRICS, as_lines

RESULTS = "results.json"
FILES = (CONFIG, TASK, TOKENIZER, WEIGHTS, CHECKPOINT, METRICS, RESULTS, DIGESTS, BOARD)  # of a run


def fit(
    data: Any,
    *,
    encoder: str | None = None,
    out: str | Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: bool = True,
    config: RunConfig | str | Path | None = None,
    **settings,
) -> Model:
    """Trains an encoder on data and leaves the model, with the best weights by validation, in a folder.

    `data` is what `tasks.load` takes (a file, a folder, a name, or a table such as a DataFrame), or gave. `encoder` is
    self-attention, rnn, lstm, convolution or fully-connected.
    `settings` are those of `RunConfig` by name: task, text, label, width, layers, steps or seconds, rate, ... ; one that is
    None is left as it is. What was read and chosen is said in two lines on standard error before the first step, and
    a bar shows how far it is, unless `progress` is False. `config` is a configuration to start from, such as the config.json of
    another run, of which what the data decided (causal, and for other data largest) is decided anew.
    `out` is `runs/<data>-<encoder>` by default. With `resume`, a run that was stopped there goes on; with `overwrite`, a run
    there is removed, once data and settings are known to do. A budget of `seconds` includes the evaluations on validation data
    (reading, and the measures of the test part, come on top), unless `evaluation_counts` is False.
    Raises: ValueError for data, settings or a folder that cannot be, as one in which another run goes on.

    >>> import tempfile, pathlib
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> _ = (folder / "reviews.csv").write_text("review,stars\\n" + "it is good,5\\nit is bad,1\\n" * 20 + "so so,5\\nwell,1\\n")
    >>> model = fit(folder / "reviews.csv", encoder="convolution", width=8, layers=1, steps=3, out=folder / "run", progress=False)
    >>> next(model.predict(["it is good"])).keys()
    dict_keys(['label', 'probability'])
    """
    given = {name: value for name, value in {"kind": encoder, **settings}.items() if value is not None}
    tables = {} if isinstance(data, Data) else memory_tables(given | {"data": data})
    if not isinstance(data, Data):
        given |= {"data": source_name(data)} | dict.fromkeys(tables, TABLE)
    asked = _to_start_from(config, given.get("data")).changed(**given)
    name = folder_name(asked.data.data) or "data"  # of a generated task, its settings too
    folder = Path("runs", f"{name}-{asked.encoder.kind}") if out is None else Path(out)
    main = processes().is_main_process
    with ExitStack() as stack:
        if resume:
            if overwrite:
                raise ValueError("fit: expected resume or overwrite, got both; leave one out")
            if not (folder / CONFIG).is_file():
                raise ValueError(
                    f"{folder}: expected the folder of a run to resume, got one without {CONFIG}; leave out resume to begin anew"
                )
            if main:
                stack.enter_context(locked(folder))
            digests.check(folder, optional={METRICS})
            asked = _as_begun(folder, asked if config else RunConfig.read(folder / CONFIG).changed(**given))
        elif asked.training.seconds and "evaluation_counts" not in given:
            asked = asked.changed(evaluation_counts=True)
        note = ""  # data that comes loaded is known to whoever loaded it
        if not isinstance(data, Data):
            data = load(**asked.data.model_dump() | tables)
            note = data.chosen or data.note
        model = _untrained(asked, data)
        if main:
            if not resume:
                stack.enter_context(locked(folder))
                _clear(folder, overwrite)
            _begin(folder, model, resume)
        return _trained(model, data, folder, resume, progress, main, note)


def _untrained(asked: RunConfig, data: Data) -> Model:
    with torch.random.fork_rng(range(torch.cuda.device_count())):
        torch.manual_seed(asked.training.seed)
        model = Model(_completed(asked, data), data.task, data.tokenizer)
    for name in ("train", "valid", "test"):
        if getattr(data, name) is not None:
            model.check_lengths(getattr(data, name).lengths, f"{name} data")
    return model


def _trained(model: Model, data: Data, folder: Path, resume: bool, progress: bool, main: bool, note: str) -> Model:
    """The model with its best weights, its measures, and all its files in the folder."""
    parts = [part.fingerprint() for part in (data.train, data.valid, data.test) if part is not None]
    known = digests.listed(folder)
    run = "" if known is None or CHECKPOINT in known else digests.identity(model.description())
    config = model.config.training
    model.history, end = train(model, data.train, data.valid, config, folder, resume, progress, parts, run, note)
    model.results, model.trained_on = _results(model, data, end), parts[0]
    if main:
        results = (json.dumps(model.results, indent=2) + "\n").encode()
        files = model.files() | {RESULTS: results, METRICS: as_lines(model.history)}
        digests.save(folder, files, there=[CHECKPOINT])
    return model


def evaluate(
    model: Model | str | Path, data: Any, encoding: str | None = None, separator: str | None = None
) -> dict[str, float]:
    """The measures of a model on labelled data: a file, a table, the test part of a folder or of built-in data, or examples.

    Of the very file or table that the model was fitted on it is the test part, too; any other file is measured whole. `encoding`
    (UTF-8 if None) and `separator` (as the file says if None) are those of this file, whatever the model was fitted with.
    Raises: ValueError where there is no such model, or the data does not go with it.

    >>> evaluate("runs/reviews-lstm", "new-reviews.csv")  # doctest: +SKIP
    {'loss': 0.31, 'accuracy': 0.88}
    """
    model = _loaded(model)
    if not isinstance(data, Examples):
        if not isinstance(data, (str, Path)) and not hasattr(type(data), "features"):
            data = list(table_rows(data, TABLE))  # since some can be gone through only once
        data = _own_test(model, data) or load_test(data, model.task, model.tokenizer, encoding, separator)
    return model.evaluate(data)


def predict(
    model: Model | str | Path,
    data: str | Path | Iterable,
    probabilities: bool = False,
    encoding: str | None = None,
    separator: str | None = None,
) -> Iterator[dict[str, Any]]:
    """An answer for each record of a file, of standard input (`-`), of a table or of an iterable, in order, as soon as it is there.

    With `probabilities`, an answer also has {label: probability} for every label, of a tagger for each word. The answer of a
    tagger has the words and their tags. `encoding` (UTF-8 if None) and `separator` (as the file says if None) are
    those of this file, whatever the model was fitted with.
    Raises: ValueError where there is no such model, it has no classes, or a record cannot be read.

    >>> list(predict("runs/reviews-lstm", ["A joy to read."]))  # doctest: +SKIP
    [{'label': '5', 'probability': 0.93}]
    """
    model = _loaded(model)
    records = read_records(data, encoding, separator) if isinstance(data, (str, Path)) else data
    return model.predict(records, probabilities)


def generate(model: Model | str | Path, prompt: str = "", **options) -> Iterator[str]:
    """Text that goes on from a prompt, in pieces; the options are those of `Model.generate`.

    Raises: ValueError where there is no such model, it did not learn language, or an option cannot be.

    >>> print(*generate("runs/plays-self-attention", "ROMEO:", length=100), sep="")  # doctest: +SKIP
    """
    return _loaded(model).generate(prompt, **options)


def _loaded(model: Model | str | Path) -> Model:
    return model if isinstance(model, Model) else Model.load(model).to(processes().device)


def _own_test(model: Model, data: Any) -> Examples | None:
    """The test part of the file or table that a model was fitted on, split as then; None where `data` is anything else."""
    settings = model.config.data
    same = source_name(data) == settings.data == TABLE
    if model.trained_on is None or not (
        same or Path(source_name(data)).name == Path(settings.data).name and Path(source_name(data)).is_file()
    ):
        return None
    tables = {name: data for name in ("valid", "test") if getattr(settings, name) == TABLE}  # no longer here
    try:
        own = load(**settings.model_dump() | tables | {"data": data})
    except ValueError:  # another file of that name, which need not do for training
        return None
    if own.train.fingerprint() != model.trained_on:
        return None
    if own.test is None or "test" in tables:
        raise ValueError(
            f"{source_name(data)}: expected other data than the model was fitted on, got the same, of which no test part was set "
            "aside; name another file"
        )
    return own.test


def _to_start_from(given: RunConfig | str | Path | None, data: str | None) -> RunConfig:
    """The configuration of a file; of a run's own, without what its data decided, since other data decides it anew."""
    if not given or isinstance(given, RunConfig):
        return given or RunConfig()
    config, task = RunConfig.read(given), Path(given).with_name(TASK)
    if not task.exists():  # written by hand
        return config
    decided: dict[str, Any] = {}
    if config.encoder.causal == task_from_json(json.loads(task.read_text("utf-8"))).causal:
        decided["causal"] = None
    if data != config.data.data:  # on the same, a largest that was asked for is to stay
        decided["largest"] = None
    return config.changed(**decided)


def _completed(config: RunConfig, data: Data) -> RunConfig:
    """With what the data decides: whether the encoder must be causal, how long its input is, and how wide."""
    settings: dict[str, Any] = {}
    if config.encoder.causal is None:
        settings["causal"] = data.task.causal
    if config.encoder.kind == "fully-connected" and config.encoder.largest is None:
        parts = [part.lengths for part in (data.train, data.valid, data.test) if part is not None]
        settings["largest"] = int(torch.cat(parts).max())
    settings["features"] = data.train.inputs.values.shape[1] if data.tokenizer is None else None
    return config.changed(**settings)


def _as_begun(folder: Path, asked: RunConfig) -> RunConfig:
    """The configuration of a run to resume, if what is asked now, where it is not None, does not contradict it."""
    begun = RunConfig.read(folder / CONFIG)
    for section, wanted in asked:
        for name, value in wanted:
            before = getattr(getattr(begun, section), name)
            if value is not None and value != before:
                name = "encoder" if name == "kind" else name
                raise ValueError(
                    f"{folder}: expected the settings the run began with, {name} {before}, got {value}; leave it out, or "
                    "start anew in another folder"
                )
    return begun


def _clear(folder: Path, overwrite: bool) -> None:
    """Leaves an empty folder. Raises: ValueError where files are in it, but for those of a run to be written over."""
    remove_partial(folder)
    if is_empty(folder):
        return
    others = sorted(path.name for path in folder.iterdir() if path.name not in {*FILES, LOCK})
    if not overwrite or others or not (folder / CONFIG).is_file():
        got = f"one with files of another kind ({others[0]})" if overwrite and others else "one with files"
        way = "name another out" if overwrite else "resume the run, write over it with overwrite, or name another out"
        raise ValueError(f"{folder}: expected a new or empty folder, got {got}; {way}")
    for path in sorted(map(folder.joinpath, FILES), key=lambda path: path.name != DIGESTS):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _begin(folder: Path, model: Model, resume: bool) -> None:
    """Writes what is known of the model before it is trained, or checks that a run to resume began with the same."""
    files = model.description()
    remove_partial(folder)
    for name, content in files.items() if resume else ():
        if (folder / name).exists() and read_file(folder / name) != content:
            raise ValueError(
                f"{folder / name}: expected the same as the data gives now, got another; restore the data, or start anew "
                "in another folder"
            )
    if resume and digests.listed(folder) is None:  # of an earlier version, or killed before these were written
        write_files(folder, files)
    else:
        digests.save(folder, files)


def _results(model: Model, data: Data, end: State) -> dict[str, Any]:
    """What came of it: the measures of the best step on the validation data and, if there is some, on the test data."""
    valid = dict(end.best)  # not from the lines, of which a damaged metrics.jsonl may lack some
    results = {
        "note": data.note,
        "parameters": sum(p.numel() for p in model.parameters()),
        "step": valid.pop("step"),
        "steps": end.step,
        "valid": valid,
    }
    return results if data.test is None else results | {"test": model.evaluate(data.test)}
