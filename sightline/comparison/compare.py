"""Which encoder serves these sequences? All of them are trained on the same data, in one size, for the same time.

One after the other, so that none takes time from another. Each run is an ordinary run of `fit` in a folder of its own:
what is finished is not done again, and what was stopped goes on.
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
from sightline.comparison.protocol import SAMPLE, SETTINGS, equal, sample, trained
from sightline.encoders import KINDS
from sightline.files import folder_name, locked, make_folder, write_files
from sightline.tabular import items_of
from sightline.tasks import Data, load
from sightline.tasks.readers import TABLE, memory_tables, source_name
from sightline.training.config import RunConfig

COMPARISON = "comparison.json"
SECONDS = 40.0  # of training for each encoder


def compare(
    data: Any,
    *,
    encoders: Iterable[str] = KINDS,
    seconds: float | None = None,
    steps: int | None = None,
    seeds: int = 1,
    rates: Iterable[float] | None = None,
    out: str | Path | None = None,
    tell: Callable[[str], None] = lambda line: print(line, file=sys.stderr),
    progress: bool = False,
    **settings,
) -> dict:
    """Trains several encoders of one size on the same data and says what came of it.

    Each has `seconds` of training (40 where no budget is given), or `steps`. `seeds` are how many times, with seeds
    0, 1, ...; `rates` are learning rates to choose from, with the first seed and on validation data only, each with the
    whole budget. `settings` are those of `fit` and hold for all. `out` is `runs/compare-<data>` by default; what is
    finished there is taken as it is. `tell` gets a line on each run.
    Returns: the comparison, in the format of `sightline.lens.page`, which is also written to comparison.json in `out`.
    Raises: ValueError for data, encoders or settings that cannot be.

    >>> import tempfile, pathlib
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> _ = (folder / "a.csv").write_text("text,label\\n" + "".join(f"it is {'good' if i % 3 else 'bad'} {i},{i % 3}\\n" for i in range(60)))
    >>> found = compare(folder / "a.csv", encoders=["rnn", "lstm"], steps=3, width=8, layers=1, out=folder / "runs", tell=str)
    >>> sorted(encoder["kind"] for encoder in found["encoders"])
    ['lstm', 'rnn']
    """
    kinds = _checked(encoders, seeds)
    for name, option in (("kind", "encoders"), ("seed", "seeds")):  # each run has its own
        if settings.get(name) is not None:
            raise ValueError(f"compare: expected no {name}, got {settings[name]}; say it by {option}")
    given = {"seconds": seconds, "steps": steps, **settings}
    given = {name: value for name, value in given.items() if value is not None}
    if not given.keys() & {"seconds", "steps", "epochs"}:
        given["seconds"] = SECONDS
    tables, name = memory_tables(given | {"data": data}), source_name(data)
    config = RunConfig().changed(**{**SETTINGS, **given, "data": name, **dict.fromkeys(tables, TABLE)})
    folder = Path("runs", f"compare-{folder_name(name) or 'data'}") if out is None else Path(out)
    loaded = load(**config.data.model_dump() | tables)
    tell(loaded.chosen or loaded.note)
    sampled = replace(loaded, valid=sample(loaded.valid))
    configs = equal(config, loaded, kinds, given)

    with locked(folder):
        runs = _runs(kinds, configs, sampled, rates, seeds, folder, tell, progress)
        comparison = document(config, loaded, runs, SAMPLE)
        write_files(folder, {COMPARISON: (json.dumps(comparison, allow_nan=False) + "\n").encode()})
    return comparison


def _runs(kinds, configs, data: Data, rates, seeds: int, folder: Path, tell, progress: bool) -> list[dict]:
    """Every kind with every rate, then with every other seed at its best rate."""
    runs: list[dict] = []
    measure = report.MEASURES[data.task.name]
    for kind in kinds:
        rate, choices = configs[kind].training.rate, list(rates or ())
        for choice in choices or [rate]:
            runs.append(_run(configs[kind].changed(rate=choice, seed=0), data, folder, tell, progress))
        rate = report.best_rate([run for run in runs if run["kind"] == kind], measure)
        for seed in range(1, seeds):
            runs.append(_run(configs[kind].changed(rate=rate, seed=seed), data, folder, tell, progress))
    return runs


def _checked(encoders: Iterable[str], seeds: int) -> list[str]:
    kinds = list(dict.fromkeys(items_of(encoders, "compare", "encoders")))
    unknown = [kind for kind in kinds if kind not in KINDS]
    if unknown or not kinds:
        raise ValueError(
            f"compare: expected encoders out of {', '.join(KINDS)}, got {', '.join(unknown) or 'none'}; name one or more"
        )
    if seeds < 1:
        raise ValueError(f"compare: expected at least 1 seed, got {seeds}; leave it out for one")
    return kinds


def _run(config: RunConfig, data: Data, folder: Path, tell: Callable[[str], None], progress: bool) -> dict:
    """A run in a folder of its own, told of in a line."""
    kind, training = config.encoder.kind, config.training
    place = folder / f"{kind}-rate{training.rate:g}-seed{training.seed}"
    make_folder(place, inside=folder)
    done = (place / "results.json").exists()
    _, run = trained(config, data, place, progress)
    measure = report.MEASURES[data.task.name]
    tell(
        f"{kind:16} seed {training.seed}  rate {training.rate:g}  {measure['name']} "
        f"{report.written(run['test'][measure['name']], measure)}  {run['steps']:,} steps  "
        f"{run['tokens'] / run['seconds']:,.0f} tokens/s{'  (found, not done again)' if done else ''}"
    )
    return run | {"folder": str(place)}
