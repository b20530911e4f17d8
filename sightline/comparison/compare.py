"""Compares encoders on one's own data: all are trained on the same data, in one size, for the same time.

They train one after the other, so that none takes time from another. Each run is a run of `fit` in a folder of its own:
a finished run is not repeated, and a stopped one continues.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from sightline.comparison import report
from sightline.comparison.page_data import document
from sightline.comparison.protocol import SETTINGS, equal, sample, trained
from sightline.encoders import KINDS
from sightline.files import locked, make_folder, write_files
from sightline.tabular import items_of
from sightline.tasks import Data, load
from sightline.training.config import BUDGETS, DEFAULTS, RunConfig
from sightline.training.run_folder import RESULTS, default_folder, split_tables

COMPARISON = "comparison.json"


def compare(
    data: Any,
    *,
    encoders: Iterable[str] = KINDS,
    seeds: int = 1,
    rates: Iterable[float] | None = None,
    out: str | Path | None = None,
    tell: Callable[[str], None] = lambda line: print(line, file=sys.stderr),
    progress: bool = False,
    **settings,
) -> dict:
    """Trains several encoders of one size on the same data and compares them.

    `settings` are those of `fit` and hold for all: `seconds` of training for each (40 where no budget is named), or
    `steps`, ... `seeds` is the number of runs of each, with seeds 0, 1, ...; `rates` are learning rates to choose from,
    with the first seed and on validation data only, each with the whole budget. `out` is `runs/compare-<data>` by
    default; runs that are finished there are not repeated. `tell` gets a line on each run.
    Returns: the comparison, in the format of `sightline.lens.page`, which is also written to comparison.json in `out`.
    Raises: ValueError for bad data, encoders or settings.

    >>> import tempfile, pathlib
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> rows = "".join(f"it is {'good' if i % 3 else 'bad'} {i},{i % 3}\\n" for i in range(60))
    >>> _ = (folder / "a.csv").write_text("text,label\\n" + rows)
    >>> small = {"steps": 3, "width": 8, "layers": 1}
    >>> comparison = compare(folder / "a.csv", encoders=["rnn", "lstm"], out=folder / "runs", tell=str, **small)
    >>> sorted(encoder["kind"] for encoder in comparison["encoders"])
    ['lstm', 'rnn']
    """
    kinds = _checked(encoders, seeds)
    for name, option in (("kind", "encoders"), ("seed", "seeds")):  # each run has its own
        if settings.get(name) is not None:
            raise ValueError(f"compare: expected no {name}, got {settings[name]}; use {option}")
    settings, tables = split_tables(settings | {"data": data})
    if not settings.keys() & set(BUDGETS):
        settings["seconds"] = DEFAULTS["compare"]["seconds"]
    config = RunConfig().changed(**SETTINGS | settings)
    folder = default_folder(out, config.data.data, "compare-{}")
    loaded = load(**config.data.model_dump() | tables)
    tell(loaded.chosen or loaded.note)
    sampled = replace(loaded, valid=sample(loaded.valid))
    configs = equal(config, loaded, kinds, settings)

    with locked(folder):
        runs = _runs(kinds, configs, sampled, list(rates or ()), seeds, folder, tell, progress)
        comparison = document(config, loaded, runs)
        write_files(folder, {COMPARISON: (json.dumps(comparison, allow_nan=False) + "\n").encode()})
    return comparison


def _checked(encoders: Iterable[str], seeds: int) -> list[str]:
    """The kinds of encoders, each once. Raises: ValueError for an unknown one, none, or no seed."""
    kinds = list(dict.fromkeys(items_of(encoders, "compare", "encoders")))
    unknown = ", ".join(kind for kind in kinds if kind not in KINDS)
    if unknown or not kinds:
        raise ValueError(
            f"compare: expected encoders out of {', '.join(KINDS)}, got {unknown or 'none'}; name one or more"
        )
    if seeds < 1:
        raise ValueError(f"compare: expected at least 1 seed, got {seeds}; leave it out for one")
    return kinds


def _runs(kinds, configs, data: Data, rates: list[float], seeds: int, *place) -> list[dict]:
    """Every kind with every rate, then with every other seed at its best rate; `place` is that of `_run`."""
    runs: list[dict] = []
    measure = report.MEASURES[data.task.name]
    for kind in kinds:
        config = configs[kind]
        tried = [_run(config.changed(rate=r, seed=0), data, *place) for r in rates or [config.training.rate]]
        rate = report.best_rate(tried, measure)
        others = [_run(config.changed(rate=rate, seed=seed), data, *place) for seed in range(1, seeds)]
        runs += tried + others
    return runs


def _run(config: RunConfig, data: Data, folder: Path, tell: Callable[[str], None], progress: bool) -> dict:
    """A run in a folder of its own, reported in a line."""
    kind, training = config.encoder.kind, config.training
    place = folder / f"{kind}-rate{training.rate:g}-seed{training.seed}"
    make_folder(place, inside=folder)
    finished = "  (found, not done again)" if (place / RESULTS).exists() else ""
    _, run = trained(config, data, place, progress)
    measure = report.MEASURES[data.task.name]
    value = report.written(run["test"][measure["name"]], measure)
    tell(
        f"{kind:16} seed {training.seed}  rate {training.rate:g}  {measure['name']} {value}  {run['steps']:,} steps  "
        f"{run['tokens'] / run['seconds']:,.0f} tokens/s{finished}"
    )
    return run | {"folder": str(place)}
