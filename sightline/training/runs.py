"""The functions that people call: fit, evaluate, predict, generate. Each takes a model or the folder of one."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch

from sightline.files import locked
from sightline.resumable import processes
from sightline.tabular import table_rows
from sightline.tasks import Data, Examples, load, load_test, read_records
from sightline.tasks.readers import TABLE, source_name
from sightline.training import digests, run_folder
from sightline.training.config import RunConfig
from sightline.training.loop import CHECKPOINT, State, train
from sightline.training.model import CONFIG, Model
from sightline.training.record import METRICS, as_lines
from sightline.training.run_folder import RESULTS

__all__ = ["Model", "RunConfig", "evaluate", "fit", "generate", "predict"]


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

    `data` is what `tasks.load` takes (a file, a folder, a name, or a table such as a DataFrame), or returns. `encoder`
    is self-attention, rnn, lstm, convolution or fully-connected. `settings` are those of `RunConfig` by name: task,
    text, label, width, layers, steps or seconds, rate, ... ; None keeps the default. `config` is a configuration to
    start from, such as the config.json of another run; what its data decided (causal, and for other data largest) is
    decided again.

    `out` is `runs/<data>-<encoder>` by default. `resume` continues a run that was stopped there; `overwrite` removes a
    run there, once data and settings are checked. A budget of `seconds` includes the evaluations on validation data
    (reading, and the measures of the test part, come on top), unless `evaluation_counts` is False. With `progress`,
    standard error shows a bar, and before it two lines that say what was read and chosen.
    Raises: ValueError for bad data or settings, or a folder that cannot be used, as one in which another run is active.

    >>> import tempfile, pathlib
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> rows = "it is good,5\\nit is bad,1\\n" * 20 + "so so,5\\nwell,1\\n"
    >>> _ = (folder / "reviews.csv").write_text("review,stars\\n" + rows)
    >>> small = {"width": 8, "layers": 1, "steps": 3, "progress": False}
    >>> model = fit(folder / "reviews.csv", encoder="convolution", out=folder / "run", **small)
    >>> next(model.predict(["it is good"])).keys()
    dict_keys(['label', 'probability'])
    """
    source = {} if isinstance(data, Data) else {"data": data}
    settings, tables = run_folder.split_tables({"kind": encoder, **settings, **source})
    chosen = run_folder.start_config(config, settings.get("data")).changed(**settings)
    folder = run_folder.default_folder(out, chosen.data.data, f"{{}}-{chosen.encoder.kind}")
    main = processes().is_main_process
    with ExitStack() as stack:
        if resume:
            _check_resumable(folder, overwrite)
            if main:
                stack.enter_context(locked(folder))
            digests.check(folder, optional={METRICS})
            chosen = chosen if config else RunConfig.read(folder / CONFIG).changed(**settings)
            chosen = run_folder.check_same_settings(folder, chosen)
        elif chosen.training.seconds and "evaluation_counts" not in settings:
            chosen = chosen.changed(evaluation_counts=True)
        note = ""  # data that comes loaded is known to whoever loaded it
        if not isinstance(data, Data):
            data = load(**chosen.data.model_dump() | tables)
            note = data.chosen or data.note
        model = _untrained(chosen, data)
        if main:
            if not resume:
                stack.enter_context(locked(folder))
                run_folder.clear(folder, overwrite)
            run_folder.begin(folder, model, resume)
        return _trained(model, data, folder, resume, progress, main, note)


def _check_resumable(folder: Path, overwrite: bool) -> None:
    if overwrite:
        raise ValueError("fit: expected resume or overwrite, got both; leave one out")
    if not (folder / CONFIG).is_file():
        raise ValueError(
            f"{folder}: expected the folder of a run to resume, got one without {CONFIG}; leave out resume to begin "
            "anew"
        )


def _untrained(config: RunConfig, data: Data) -> Model:
    with torch.random.fork_rng(range(torch.cuda.device_count())):
        torch.manual_seed(config.training.seed)
        model = Model(run_folder.completed(config, data), data.task, data.tokenizer)
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
        digests.save(folder, files, present=[CHECKPOINT])
    return model


def _results(model: Model, data: Data, end: State) -> dict[str, Any]:
    """The measures of the best step on the validation data and, if there is some, on the test data."""
    valid = dict(end.best or {})  # not from the lines, of which a damaged metrics.jsonl may lack some
    results = {
        "note": data.note,
        "parameters": sum(p.numel() for p in model.parameters()),
        "step": valid.pop("step"),
        "steps": end.step,
        "valid": valid,
    }
    return results if data.test is None else results | {"test": model.evaluate(data.test)}


def evaluate(
    model: Model | str | Path, data: Any, encoding: str | None = None, separator: str | None = None
) -> dict[str, float]:
    """The measures of a model on labelled data: a file, table, examples, or the test part of a folder or built-in data.

    If `data` is the file or table that the model was fitted on, evaluates only the held-out test part. `encoding`
    (UTF-8 if None) and `separator` (detected if None) are those of this file, whatever the model was fitted with.
    Raises: ValueError where there is no such model, or the data does not suit it.

    >>> evaluate("runs/reviews-lstm", "new-reviews.csv")  # doctest: +SKIP
    {'loss': 0.31, 'accuracy': 0.88}
    """
    model = _loaded(model)
    if not isinstance(data, Examples):
        if not isinstance(data, (str, Path)) and not hasattr(type(data), "features"):
            data = list(table_rows(data, TABLE))  # it is read twice
        data = _held_out(model, data) or load_test(data, model.task, model.tokenizer, encoding, separator)
    return model.evaluate(data)


def _held_out(model: Model, data: Any) -> Examples | None:
    """The test part of `data`, split as when the model was fitted on it; None where it was fitted on other data."""
    settings, name = model.config.data, source_name(data)
    table = name == settings.data == TABLE
    if model.trained_on is None or not (table or Path(name).name == Path(settings.data).name and Path(name).is_file()):
        return None
    parts = {part: data for part in ("valid", "test") if getattr(settings, part) == TABLE}  # no longer here
    try:
        own = load(**settings.model_dump() | parts | {"data": data})
    except ValueError:  # another file of that name
        return None
    if own.train.fingerprint() != model.trained_on:
        return None
    if own.test is None or "test" in parts:
        raise ValueError(
            f"{name}: expected other data than the model was fitted on, got the same, of which no test part was set "
            "aside; name another file"
        )
    return own.test


def predict(
    model: Model | str | Path,
    data: str | Path | Iterable,
    probabilities: bool = False,
    encoding: str | None = None,
    separator: str | None = None,
) -> Iterator[dict[str, Any]]:
    """An answer for each record of a file, of standard input (`-`), of a table or of an iterable, in order, one by one.

    With `probabilities`, an answer also has {label: probability} for every label, of a tagger for each word. The answer
    of a tagger has the words and their tags. `encoding` and `separator` are as in `evaluate`.
    Raises: ValueError where there is no such model, it has no classes, or a record cannot be read.

    >>> list(predict("runs/reviews-lstm", ["A joy to read."]))  # doctest: +SKIP
    [{'label': '5', 'probability': 0.93}]
    """
    model = _loaded(model)
    records = read_records(data, encoding, separator) if isinstance(data, (str, Path)) else data
    return model.predict(records, probabilities)


def generate(model: Model | str | Path, prompt: str = "", **options) -> Iterator[str]:
    """Text that continues a prompt, in pieces; the options are those of `Model.generate`.

    Raises: ValueError where there is no such model, it did not learn language, or an option is out of range.

    >>> print(*generate("runs/plays-self-attention", "ROMEO:", length=100), sep="")  # doctest: +SKIP
    """
    return _loaded(model).generate(prompt, **options)


def _loaded(model: Model | str | Path) -> Model:
    return model if isinstance(model, Model) else Model.load(model).to(processes().device)
