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
from statistics import fmean
from typing import Any

import torch

from sightline.encoders import KINDS
from sightline.evidence import report
from sightline.evidence.document import document
from sightline.evidence.match import matched, parameters
from sightline.tasks import Data, Examples, load
from sightline.training.checkpoint import write
from sightline.training.config import RunConfig
from sightline.training.fit import fit

COMPARISON = "comparison.json"
SECONDS = 40.0  # of training for each encoder
SAMPLE = 10_000  # tokens of validation data that the milestones, and the choice of a rate, are measured on
CURVE = 60  # points of a loss curve at most, so that it is a curve and no noise
# Small enough that minutes say something.
SETTINGS: dict[str, Any] = {"width": 64, "layers": 3, "tokens": 1024, "evaluate_every": "5%"}
# Of 1e-3, 3e-3 and 1e-2 the rate that did well for every kind on scope, in one seed; dilation was not searched.
KIND_SETTINGS: dict[str, dict[str, Any]] = {
    "self-attention": {"rate": 3e-3},
    "rnn": {"rate": 3e-3},
    "lstm": {"rate": 3e-3},
    "convolution": {"rate": 3e-3, "dilation": "dilated"},
    "fully-connected": {"rate": 3e-3},
}


def compare(
    data: str | Path,
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
    given = {"seconds": seconds, "steps": steps, **settings}
    given = {name: value for name, value in given.items() if value is not None}
    if not given.keys() & {"seconds", "steps", "epochs"}:
        given["seconds"] = SECONDS
    config = RunConfig().changed(**{**SETTINGS, **given, "data": str(data)})
    folder = Path("runs", f"compare-{Path(data).stem or 'data'}") if out is None else Path(out)
    loaded = load(**config.data.model_dump())
    tell(loaded.note)
    sampled = replace(loaded, valid=sample(loaded.valid))
    configs = _equal(config, loaded, kinds, given)

    runs: list[dict] = []
    for kind in kinds:
        rate, choices = configs[kind].training.rate, list(rates or ())
        for choice in choices or [rate]:
            runs.append(_run(configs[kind].changed(rate=choice, seed=0), sampled, folder, tell, progress))
        measure = report.MEASURES[loaded.task.name]
        rate = report.best_rate([run for run in runs if run["kind"] == kind], measure)
        for seed in range(1, seeds):
            runs.append(_run(configs[kind].changed(rate=rate, seed=seed), sampled, folder, tell, progress))
    comparison = document(config, loaded, runs, SAMPLE)
    write(folder, {COMPARISON: (json.dumps(comparison, allow_nan=False) + "\n").encode()})
    return comparison


def _checked(encoders: Iterable[str], seeds: int) -> list[str]:
    kinds = list(dict.fromkeys(encoders))
    unknown = [kind for kind in kinds if kind not in KINDS]
    if unknown or not kinds:
        raise ValueError(
            f"compare: expected encoders out of {', '.join(KINDS)}, got {', '.join(unknown) or 'none'}; name one or more"
        )
    if seeds < 1:
        raise ValueError(f"compare: expected at least 1 seed, got {seeds}; leave it out for one")
    return kinds


def sample(valid: Examples) -> Examples:
    """A fixed part of the validation data, small enough to be measured many times."""
    order = torch.randperm(len(valid), generator=torch.Generator().manual_seed(0))
    kept = order[valid.lengths[order].cumsum(0) <= SAMPLE]
    return valid.take(kept if len(kept) else order[:1])


def _equal(config: RunConfig, data: Data, kinds: list[str], given: dict) -> dict[str, RunConfig]:
    """The configuration of each kind, with as many parameters as self-attention has at the width that was asked for."""
    features = data.train.inputs.values.shape[1] if data.tokenizer is None else None
    vocabulary = None if data.tokenizer is None else data.tokenizer.size
    longest = max(
        int(part.lengths.max())
        for part in (data.train, data.valid, data.test)
        if part is not None and len(part)
    )
    base = config.changed(features=features, causal=data.task.causal)
    target = parameters(base.encoder, vocabulary)
    configs = {"self-attention": base.changed(**{**KIND_SETTINGS["self-attention"], **given})}
    for kind in kinds:
        if kind != "self-attention":
            asked = base.changed(**{"kind": kind, **KIND_SETTINGS[kind], **given})
            encoder = matched(asked.encoder, vocabulary, target, longest)
            configs[kind] = asked.changed(**encoder.model_dump(exclude={"kind"}))
    return configs


def _run(config: RunConfig, data: Data, folder: Path, tell: Callable[[str], None], progress: bool) -> dict:
    """One run of `fit`, or what is left of it, as a record for the report."""
    kind, training = config.encoder.kind, config.training
    place = folder / f"{kind}-rate{training.rate:g}-seed{training.seed}"
    done = (place / "results.json").exists()
    sections = (config.data, config.encoder, config.training)
    settings = {name: value for section in sections for name, value in section if value is not None}
    del (
        settings["data"],
        settings["kind"],
    )  # named, and not only configured, so that a run that goes on checks them
    model = fit(
        data, encoder=kind, config=config, out=place, resume=place.exists(), progress=progress, **settings
    )
    measure = report.MEASURES[data.task.name]
    lines = [line for line in model.history if "valid" in line]
    last = model.history[-1]
    run = {
        "kind": kind,
        "seed": training.seed,
        "rate": training.rate,
        "encoder": model.config.encoder.model_dump(exclude_none=True),
        "parameters": model.results["parameters"],
        "steps": last["step"],
        "tokens": last["tokens"],
        "seconds": last["seconds"],
        "loss": _curve(model.history),
        "milestones": [
            [line["tokens"], round(line["seconds"], 3), round(line["valid"][measure["name"]], 6)]
            for line in lines
        ],
        "valid": model.results["valid"][measure["name"]],
        "test": model.results.get("test") or model.evaluate(data.valid),
        "folder": str(place),
    }
    tell(
        f"{kind:16} seed {training.seed}  rate {training.rate:g}  {measure['name']} "
        f"{report.written(run['test'][measure['name']], measure)}  {last['step']:,} steps  "
        f"{last['tokens'] / last['seconds']:,.0f} tokens/s{'  (found, not done again)' if done else ''}"
    )
    return run


def _curve(history: list[dict]) -> list[list[float]]:
    """[[seconds, tokens, loss]], the mean of neighbouring lines where there are more than can be seen."""
    size = -(-len(history) // CURVE)
    groups = [history[i : i + size] for i in range(0, len(history), size)]
    return [
        [round(g[-1]["seconds"], 3), g[-1]["tokens"], round(fmean(line["loss"] for line in g), 5)]
        for g in groups
    ]
