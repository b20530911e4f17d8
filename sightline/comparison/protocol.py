"""Fair means one thing wherever encoders are compared: equal size, equal budget, the same data in the same order.

Used by `compare` on anybody's data and by the claims on theirs. Everything is shared but the mixer; the size is that of
self-attention at the width asked for, which the others meet by their mlp (`match`); a rate is chosen on validation data.
"""

from __future__ import annotations

from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from sightline.comparison import report
from sightline.comparison.matching import matched, parameters
from sightline.tasks import Data, Examples
from sightline.training.config import RunConfig
from sightline.training.fit import fit
from sightline.training.model import CONFIG, Model
from sightline.training.record import METRICS

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


def sample(valid: Examples) -> Examples:
    """A fixed part of the validation data, small enough to be measured many times."""
    order = torch.randperm(len(valid), generator=torch.Generator().manual_seed(0))
    kept = order[valid.lengths[order].cumsum(0) <= SAMPLE]
    return valid.take(kept if len(kept) else order[:1])


def equal(config: RunConfig, data: Data, kinds: list[str], given: dict) -> dict[str, RunConfig]:
    """The configuration of each kind, with as many parameters as self-attention has at the width that was asked for."""
    features = data.train.inputs.values.shape[1] if data.tokenizer is None else None
    vocabulary = None if data.tokenizer is None else data.tokenizer.size
    longest = max(
        int(part.lengths.max()) for part in (data.train, data.valid, data.test) if part is not None and len(part)
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


def trained(config: RunConfig, data: Data, place: Path, progress: bool) -> tuple[Model, dict]:
    """One run of `fit` in its folder, or what is left of it, as a model and as a record for the report.

    The validation data are those that the milestones are measured on.
    """
    sections = (config.data, config.encoder, config.training)
    settings = {name: value for section in sections for name, value in section if value is not None}
    kind = settings.pop("kind")
    del settings["data"]
    # Named, and not only configured, so that a run that goes on checks them.
    model = fit(
        data, encoder=kind, config=config, out=place, resume=(place / CONFIG).exists(), progress=progress, **settings
    )
    measure = report.MEASURES[data.task.name]
    lines = [line for line in model.history if "valid" in line]
    last = model.history[-1] if model.history else {"step": 0}
    if last["step"] != model.results["steps"]:  # where the curves, the seconds and the tokens are read
        raise ValueError(
            f"{place / METRICS}: expected the lines of the run up to its last step, {model.results['steps']}, got them up "
            f"to {last['step']}; move {place} away, so that the run is done anew"
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
    """[[seconds, tokens, loss]], the mean of neighbouring lines where there are more than can be seen."""
    size = -(-len(history) // CURVE)
    groups = [history[i : i + size] for i in range(0, len(history), size)]
    return [[round(g[-1]["seconds"], 3), g[-1]["tokens"], round(fmean(line["loss"] for line in g), 5)] for g in groups]
