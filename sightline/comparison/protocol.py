"""The protocol of every comparison of encoders: equal size, equal budget, the same data in the same order.

`compare` uses it on one's own data, and the claims on theirs. Only the mixer differs; the size is that of
self-attention at the same width, which the others reach by their mlp (`matching.py`); a rate is chosen on validation
data.
"""

from __future__ import annotations

from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from sightline.comparison import report
from sightline.comparison.matching import matched, parameters
from sightline.tasks import Data, Examples
from sightline.training.config import DEFAULTS, RunConfig
from sightline.training.model import CONFIG, Model
from sightline.training.record import METRICS
from sightline.training.runs import fit

SAMPLE = 10_000  # tokens of validation data that the milestones, and the choice of a rate, are measured on
CURVE = 60  # points of a loss curve at most, so that it is a curve and no noise
SETTINGS = {name: value for name, value in DEFAULTS["compare"].items() if name != "seconds"}
# The best rate of 1e-3, 3e-3 and 1e-2 for every kind on scope, in one seed; dilation was not searched.
KIND_SETTINGS: dict[str, dict[str, Any]] = {
    "self-attention": {"rate": 3e-3},
    "rnn": {"rate": 3e-3},
    "lstm": {"rate": 3e-3},
    "convolution": {"rate": 3e-3, "dilation": "dilated"},
    "fully-connected": {"rate": 3e-3},
}


def sample(valid: Examples) -> Examples:
    """A fixed part of the validation data, small enough to be measured often."""
    order = torch.randperm(len(valid), generator=torch.Generator().manual_seed(0))
    kept = order[valid.lengths[order].cumsum(0) <= SAMPLE]
    return valid.take(kept if len(kept) else order[:1])


def equal(config: RunConfig, data: Data, kinds: list[str], settings: dict) -> dict[str, RunConfig]:
    """The configuration of each kind, with as many parameters as self-attention has at the width of `config`."""
    features = data.train.inputs.values.shape[1] if data.tokenizer is None else None
    vocabulary = None if data.tokenizer is None else data.tokenizer.size
    parts = [part.lengths for part in (data.train, data.valid, data.test) if part is not None and len(part)]
    longest = max(int(lengths.max()) for lengths in parts)
    base = config.changed(features=features, causal=data.task.causal)
    target = parameters(base.encoder, vocabulary)
    configs = {"self-attention": base.changed(**KIND_SETTINGS["self-attention"] | settings)}
    for kind in kinds:
        if kind != "self-attention":
            config = base.changed(**{"kind": kind} | KIND_SETTINGS[kind] | settings)
            encoder = matched(config.encoder, vocabulary, target, longest)
            configs[kind] = config.changed(**encoder.model_dump(exclude={"kind"}))
    return configs


def trained(config: RunConfig, data: Data, place: Path, progress: bool) -> tuple[Model, dict]:
    """A run of `fit` in its folder, new, continued or finished before: the model, and its record for the report.

    The validation data of `data` are those that the milestones are measured on.
    """
    settings = {name: value for name, value in config.settings().items() if name != "data"}
    settings["encoder"] = kind = settings.pop("kind")
    resume = (place / CONFIG).exists()  # which compares settings that are named, not those of a configuration only
    model = fit(data, config=config, out=place, resume=resume, progress=progress, **settings)
    measure = report.MEASURES[data.task.name]
    lines = [line for line in model.history if "valid" in line]
    last = model.history[-1] if model.history else {"step": 0}
    if last["step"] != model.results["steps"]:  # where the curves, the seconds and the tokens are read
        raise ValueError(
            f"{place / METRICS}: expected the lines of the run up to its last step, {model.results['steps']}, got them "
            f"up to {last['step']}; move {place} away to repeat the run"
        )
    return model, {
        "kind": kind,
        "seed": config.training.seed,
        "rate": config.training.rate,
        "encoder": model.config.encoder.model_dump(exclude_none=True),
        "parameters": model.results["parameters"],
        "steps": last["step"],
        "tokens": last["tokens"],
        "seconds": last["seconds"],
        "loss": _curve(model.history),
        "milestones": [
            [line["tokens"], round(line["seconds"], 3), round(line["valid"][measure["name"]], 6)] for line in lines
        ],
        "valid": model.results["valid"][measure["name"]],
        "test": model.results.get("test") or model.evaluate(data.valid),
    }


def _curve(history: list[dict]) -> list[list[float]]:
    """[[seconds, tokens, loss]], means of neighbouring lines where there are more than CURVE."""
    size = -(-len(history) // CURVE)
    groups = [history[i : i + size] for i in range(0, len(history), size)]
    return [[round(g[-1]["seconds"], 3), g[-1]["tokens"], round(fmean(line["loss"] for line in g), 5)] for g in groups]
