"""A comparison as one document for people and programs: the numbers, sentences about them, and the machine."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from pathlib import Path

import torch
from torch import Tensor

from sightline.comparison import report
from sightline.comparison.exhibit import exhibit
from sightline.comparison.protocol import SAMPLE
from sightline.tasks import Data, Examples, Task, scope
from sightline.training.config import RunConfig, TrainingConfig
from sightline.training.model import Model


def document(config: RunConfig, data: Data, runs: list[dict]) -> dict:
    """The whole comparison in the format of `sightline.lens.page`, from finished runs (their fields: see `report.py`).

    `config` is shared by all runs.
    """
    measure, training = report.MEASURES[data.task.name], config.training
    scoped, tested = config.data.data == "scope", data.test or data.valid
    encoders = report.summarise(runs, measure)
    chosen = [run for run in runs for e in encoders if (run["kind"], run["rate"]) == (e["kind"], e["rate"])]
    shared = report.tokens_in_common(chosen)
    budget = _budget(training)
    baselines = _baselines(scoped, data, tested, measure["name"])
    count = f"{report.NUMBERS.get(len(encoders), len(encoders))} encoder{'s' * (len(encoders) > 1)}"
    return {
        "version": 1,
        "title": f"{count} on {Path(config.data.data).stem or 'data'}",
        "about": _about(scoped, data, encoders),
        "measure": measure,
        "equal": ["at equal time" if training.seconds else "at the end", "at equal tokens"],
        "loss_name": "squared error, standardised" if data.task.name == "regress" else "training loss, nats",
        "buckets": report.buckets(encoders),
        "distance_name": _distance_name(scoped, tested.unit),
        "encoders": encoders,
        "baselines": baselines,
        "sentences": report.sentences(encoders, measure, baselines, budget, shared, tested.unit),
        "notes": report.notes(encoders, measure, budget, shared, data.test is not None, SAMPLE),
        "captions": report.captions(measure, budget, tested.unit),
        "settings": _settings(config, data, runs, encoders),
        "machine": machine(),
        "exhibit": _exhibit(data, chosen, encoders) if scoped else None,
    }


def _distance_name(scoped: bool, unit: str) -> str:
    if scoped:
        return "tokens from the use of a name back to its binding"
    return f"{unit} in tokens" if unit in report.IN_TOKENS else unit


def _budget(training: TrainingConfig) -> str:
    if training.seconds:
        return f"{training.seconds:g} s each"
    return f"{training.steps:,} steps each" if training.steps else f"{training.epochs} epochs each"


def _about(scoped: bool, data: Data, encoders: list[dict]) -> list[str]:
    """The question and the conditions, in one or two paragraphs."""
    sizes = [e["parameters"] for e in encoders]
    conditions = (
        "All have the same frame and differ in the part that looks across a sequence; the width of the layers between "
        f"was set so that all are of one size, {min(sizes):,} to {max(sizes):,} parameters. Each saw the same data in "
        "the same order, with the same budget, one after the other on one machine."
    )
    if not scoped:
        return [f"{data.note[0].upper()}{data.note[1:]}.", conditions]
    return [
        "Every function of Python's own library is a sequence of tokens. Its names are replaced by numbers drawn "
        "anew for each function, so that spelling gives nothing away. For each use of a name the encoder is asked "
        "what it stands for: a parameter, a local, something imported in the function, or something from outside. "
        "The answer is often decided by one token far back.",
        conditions,
    ]


def _baselines(scoped: bool, data: Data, tested: Examples, measure: str) -> list[dict]:
    """The measures without an encoder: of one constant answer and, on scope, of a plain rule."""
    measured = {"constant answer": data.task.chance(tested)}
    if measure == "accuracy":
        targets = tested.targets[tested.targets >= 0]
        constant = torch.full_like(tested.targets, int(targets.bincount().argmax()))
        measured["constant answer"] = _measures(data.task, constant, tested)
    if scoped:
        measured["plain rule"] = _measures(data.task, torch.cat([scope.rule(ids) for ids in tested.inputs]), tested)
    baselines = []
    for title, measures in measured.items():
        values = {key: total / count for key, (total, count) in measures.items() if count}
        distance = {key.split("@")[1]: value for key, value in values.items() if "@" in key}
        baselines.append({"name": title, "value": values[measure], "distance": distance})
    return baselines


def _measures(task: Task, answers: Tensor, tested: Examples) -> dict[str, tuple[float, float]]:
    """The task's measures of fixed answers. Shapes: [S] or [T], as the targets; below 0 is none."""
    return task.measures(torch.nn.functional.one_hot(answers.clamp(min=0), task.outputs).float(), tested)


def _settings(config: RunConfig, data: Data, runs: list[dict], encoders: list[dict]) -> dict[str, str]:
    training, encoder = config.training, config.encoder
    seeds = sorted({run["seed"] for run in runs})
    return {
        "data": data.note,
        "training tokens": f"{len(data.train.inputs.values):,}",
        "budget": _budget(training),
        "layers": str(encoder.layers),
        "widths": "; ".join(f"{e['kind']} {_widths(e['encoder'])}" for e in encoders),
        "tokens per batch": f"{training.tokens:,}",
        "learning rate": ", ".join(f"{e['kind']} {e['rate']:g}" for e in encoders),
        "rates tried": ", ".join(f"{rate:g}" for rate in sorted({run["rate"] for run in runs})),
        "seeds": ", ".join(map(str, seeds)),
        "precision": training.precision,
    }


def _widths(encoder: dict) -> str:
    rank = f", rank {encoder['rank']}" if "rank" in encoder else ""
    return f"{encoder['width']}, mlp {encoder.get('hidden', 4 * encoder['width'])}{rank}"


def _exhibit(data: Data, runs: list[dict], encoders: list[dict]) -> dict | None:
    for e in encoders:
        if e["kind"] == "self-attention" and data.test is not None:
            shown = next(run for run in runs if run["kind"] == e["kind"] and run["seed"] == e["shown"])
            return exhibit(Model.load(shown["folder"]), data.valid, data.test)
    return None


def machine() -> dict[str, str]:
    """The machine and the versions of a measurement."""
    return {
        "processor": _processor(),
        "cores": f"{torch.get_num_threads()} threads used of {os.cpu_count()}",
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "sightline": version("sightline"),
    }


def _processor() -> str:
    """The name of the processor, where the system knows it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
