"""A study: one task, learned by all encoders on equal terms. `Study` plans the runs, `Outcome` has their medians.

The protocol is that of `compare`: equal size, equal training time, milestones on validation data for the column at
equal tokens. Each run is one cell, so that a study can stop anywhere. The first seed tries every rate; the other seeds
take the rate that was best on validation data. No choice looks at test data.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from pathlib import Path
from statistics import median

from sightline.comparison import report
from sightline.comparison.protocol import KIND_SETTINGS, SAMPLE, SETTINGS, equal, sample, trained
from sightline.encoders import KINDS
from sightline.tasks import Data, Examples, load
from sightline.tasks.synthetic import synthetic_task
from sightline.training.config import RunConfig
from sightline.training.loop import NotANumber
from sightline.training.model import Model
from studies.claims import texts
from studies.claims.cell import Cell, Results
from studies.claims.claim import RECURRENT, Spread, Stage, listed, spread
from studies.claims.receptive_field import reach

RATES = (3e-3, 1e-3, 1e-2)  # the first is tried first, and alone where there is no time for more
SEEDS = 3
TESTED = 1000  # sequences of each further test
OVERHEAD = 1.2  # of a run, for data, milestones and tests
PROTOCOL = [
    "All encoders have the same frame (embedding, blocks with an mlp, read-out) and differ in the mixer alone; "
    "the mlps are made wider or narrower until all are within 5% of one number of parameters. Recurrences start "
    "as PyTorch starts them, an LSTM with its forget gate open (a bias of 1), self-attention as this library "
    "does, which was chosen by trials on the scope of names and on recall (docs/log.md).",
    (
        "The trained convolution is a dilated one (its steps double from layer to layer, at kernel width 5). The fully "
        "connected encoder's weights for pairs of positions have a low rank where the longest sequence would "
        "otherwise make it larger than the others."
    ),
    "Each is trained for the same time, alone on one core, as many at once as there are cores, on the same "
    "batches in the same order. The column at equal tokens comes from milestones on a fixed sample of the "
    f"validation data ({SAMPLE:,} tokens at most), at as many tokens as the slowest encoder saw, and so at equal "
    "steps too. A faster encoder was then in the middle of its schedule, and its learning rate had yet to fall.",
    (
        f"The learning rate is chosen among {listed(f'{rate:g}' for rate in sorted(RATES))} with the first seed, "
        "of those that were run; the best weights of a run are kept. Both are chosen on that sample of the "
        "validation data, which holds few answers if a task asks few questions. If the best rate is the lowest "
        "or the highest of them, a wider grid might find a better one. No rate, weights or position encodings "
        "are chosen on test data. The training time of each task and its sequence lengths were set beforehand by "
        "trials of single encoders."
    ),
    (
        f"Medians over the seeds that were run, {SEEDS} if nothing is left out, with the range from the lowest to "
        f"the highest; with --quick one seed and one rate, {RATES[0]:g}. The range of one seed is a point, and "
        "says nothing about chance. Seeds differ in the initial weights and in the order of the data, not in the "
        "data."
    ),
    (
        "Train, validation and test data of a generated task share no sequence; where each row asks a question, "
        "a short beginning may have occurred in training. Lengths, depths and attractors beyond the trained ones "
        "are tested with the same weights, and were not used for any choice."
    ),
]

Further = Callable[[Model, Data, int], dict]  # (trained model, its data, seed) -> further measures


@dataclass(frozen=True)
class Study:
    """One task for several encoders.

    `data` is what `fit` takes, or one of `texts.NAMES`. `tests` are further test data by name, generated with the same
    symbols. `seconds` and `quick_seconds` are the training time of one encoder. `variants` are the encoders by name,
    each a kind and its own settings. `further` measures more of a trained model; its result is kept under "further".
    """

    name: str
    data: str
    tests: dict[str, str] = field(default_factory=dict)
    settings: dict = field(default_factory=dict)
    seconds: float = 40.0
    quick_seconds: float = 12.0
    variants: dict[str, tuple[str, dict]] = field(default_factory=lambda: {kind: (kind, {}) for kind in KINDS})
    further: Further | None = None

    def cells(self, stage: Stage) -> list[Cell]:
        """A cell for each run: `study/encoder-rate0.003` with the first seed, `study/encoder-seed1` with the others."""
        seconds = self.quick_seconds if stage.quick else self.seconds
        rates = RATES[:1] if stage.quick else RATES
        seeds = SEEDS if stage.name == "full" else 1
        missing = texts.missing(self.data, stage.data)
        runs = [(f"rate{rate:g}", rate, 0, 1 + (i > 0)) for i, rate in enumerate(rates)]
        runs += [(f"seed{seed}", None, seed, 2 + seed) for seed in range(1, seeds)]
        cells = []
        for name, (kind, own) in self.variants.items():
            shared = {"data": self.data, "kind": kind, "seconds": seconds, "tests": self.tests}
            shared |= SETTINGS | KIND_SETTINGS[kind] | self.settings | own
            if stage.name == "gpu":
                shared["gpu"] = True
            for ending, rate, seed, turn in runs:
                run = partial(self._run, name, rates, seconds, stage.data, rate, seed)
                settings = shared | {"rate": rate or "the best of the first seed", "seed": seed}
                cells.append(Cell(self._cell_name(name, ending), settings, run, turn, OVERHEAD * seconds + 2, missing))
        return cells

    def _cell_name(self, variant: str, ending: str) -> str:
        return f"{self.name}/{variant.replace(',', '').replace(' ', '-')}-{ending}"

    def _run(
        self,
        name: str,
        rates: tuple[float, ...],
        seconds: float,
        data_folder: Path | None,
        rate: float | None,
        seed: int,
        folder: Path,
        results: Results,
    ) -> dict:
        """Trains one encoder and measures it on all test data.

        Returns: the record of `protocol.trained`, and `name`; `measure`; `unit`, what its buckets count; `constant` and
        `constant_valid`, the best constant answer on the test data and on the validation sample; `tests`: {name:
        measures, or {"refused": sentence}}; `further`. Of a run whose loss is not a number only `name`, `rate`, `seed`
        and `diverged`, the sentence.
        """
        kind, own = self.variants[name]
        data = load_data(self.data, self.data_settings(), data_folder)
        rate = self._best_rate(name, rates, results) if rate is None else rate
        config = self.config(kind, data, {**self.settings, **own, "seconds": seconds, "seed": seed, "rate": rate})
        sampled = replace(data, valid=sample(data.valid))
        try:
            model, record = trained(config, sampled, folder, progress=False)
        except NotANumber as error:
            return {"name": name, "rate": config.training.rate, "seed": seed, "diverged": str(error)}
        tested = data.test or data.valid
        record |= {"name": name, "measure": report.MEASURES[data.task.name], "unit": tested.unit}
        record["tests"] = {label: _evaluated(model, spec) for label, spec in self.tests.items()}
        for key, examples in (("constant", tested), ("constant_valid", sampled.valid)):
            total, count = data.task.chance(examples)[record["measure"]["name"]]
            record[key] = total / count
        record["further"] = self.further(model, data, seed) if self.further else {}
        return record

    def config(self, kind: str, data: Data, settings: dict) -> RunConfig:
        """The configuration of an encoder with these settings and as many parameters as all others."""
        base = RunConfig().changed(**{**SETTINGS, **settings, "data": self.data})
        return equal(base, data, [kind], settings)[kind]

    @property
    def convolution_reach(self) -> int:
        """How many rows back the convolution sees."""
        settings = SETTINGS | KIND_SETTINGS["convolution"] | self.settings
        wiring = {"causal": settings.get("causal", False), "dilation": settings["dilation"]}
        return reach("convolution", settings["layers"], **wiring)[-1][0]

    def data_settings(self) -> tuple:
        """Those of the settings that affect how the data are read."""
        return tuple((name, value) for name, value in self.settings.items() if name in ("task", "context", "tokenizer"))

    def _best_rate(self, name: str, rates: tuple, results: Results) -> float:
        """The rate that was best on validation data in the first seed, of those that were run."""
        keys = [self._cell_name(name, f"rate{rate:g}") for rate in rates]
        finished = [results[key] for key in keys if key in results and "diverged" not in results[key]]
        return report.best_rate(finished, finished[0]["measure"]) if finished else rates[0]

    def outcome(self, results: Results) -> Outcome | None:
        """The outcome of the runs; None if there are none.

        With the first seed only rates count that every encoder has tried; if there is no such rate, all count.
        """
        runs = [one for key, one in results.items() if key.startswith(f"{self.name}/")]
        first = [run for run in runs if run["seed"] == 0]
        tried = {name: {run["rate"] for run in first if run["name"] == name} for name in self.variants}
        shared = set.intersection(*(rates for rates in tried.values() if rates)) if first else set()
        runs = [run for run in runs if "diverged" not in run and (run["rate"] in shared or not shared)]
        return Outcome(self, runs) if runs else None


def cells_of(studies: Iterable[Study], stage: Stage) -> list[Cell]:
    """The cells of several studies."""
    return [cell for study in studies for cell in study.cells(stage)]


def outcomes_of(studies: Iterable[Study], results: Results) -> list[Outcome]:
    """The outcomes of those studies that have runs."""
    return [outcome for study in studies if (outcome := study.outcome(results))]


def available_study(own: Study, stand_in: Study, stage: Stage) -> Study:
    """The first study, or the second if the data of the first are missing, or in the quick stage."""
    return stand_in if stage.quick or texts.missing(own.data, stage.data) else own


@lru_cache(maxsize=2)
def load_data(data: str, settings: tuple, folder: Path | None) -> Data:
    return texts.read_text(data, folder, **dict(settings)) if data in texts.NAMES else load(data, **dict(settings))


@lru_cache(maxsize=8)
def further_test_data(spec: str) -> Examples:
    """TESTED test sequences of a generated task: a tenth of those generated are test data."""
    return synthetic_task(f"{spec},examples={TESTED * 10}").parts()["test"]


def _evaluated(model: Model, spec: str) -> dict:
    """Measures on further test data, or the sentence with which the model refuses them."""
    try:
        return model.evaluate(further_test_data(spec))
    except ValueError as error:
        return {"refused": str(error)}


class Outcome:
    """The outcome of a study: for each encoder the runs with its best rate, and medians and ranges over their seeds.

    Attributes: `measure`; `unit`, what buckets count; `names` of the encoders, in the study's order; `constant`, the
    best constant answer on the test data, and `constant_valid` on the validation sample.
    """

    def __init__(self, study: Study, runs: list[dict]):
        self.study, self.measure, self.unit = study, runs[0]["measure"], runs[0]["unit"]
        self.names = [name for name in study.variants if any(run["name"] == name for run in runs)]
        self.runs: dict[str, list[dict]] = {}
        for name in self.names:
            same = [run for run in runs if run["name"] == name]
            rate = report.best_rate(same, self.measure)
            self.runs[name] = sorted((run for run in same if run["rate"] == rate), key=lambda run: run["seed"])
        self.constant, self.constant_valid = runs[0]["constant"], runs[0]["constant_valid"]
        self.shared = report.tokens_in_common([run for same in self.runs.values() for run in same])

    def has_recurrence(self) -> bool:
        return bool(set(RECURRENT) & set(self.names))

    def _key(self, bucket: str) -> str:
        return self.measure["name"] + (f"@{bucket}" if bucket else "")

    def at_end(self, name: str, bucket: str = "") -> Spread | None:
        """The measure on the test data after equal time, or in one of their buckets."""
        key = self._key(bucket)
        return spread(run["test"][key] for run in self.runs[name] if key in run["test"])

    def at_tokens(self, name: str) -> Spread | None:
        """The measure on validation data after as many tokens as the slowest encoder saw."""
        values = [report.at_tokens(run["milestones"], self.shared) for run in self.runs[name]]
        return None if None in values else spread(values)

    def on(self, name: str, test: str, bucket: str = "") -> Spread | None:
        """The measure on further test data; None if the encoder refuses them, or they have no such bucket."""
        key = self._key(bucket)
        return spread(run["tests"][test][key] for run in self.runs[name] if key in run["tests"].get(test, {}))

    def refusal(self, name: str, test: str) -> str | None:
        """The sentence with which an encoder refuses further test data."""
        tests = (run["tests"].get(test, {}) for run in self.runs[name])
        return next((measures["refused"] for measures in tests if "refused" in measures), None)

    def further(self, name: str, key: str) -> Spread | None:
        """One of the further measures of an encoder."""
        return spread(run["further"][key] for run in self.runs[name])

    def buckets(self) -> list[str]:
        keys = dict.fromkeys(key for same in self.runs.values() for run in same for key in run["test"])
        return [key.partition("@")[2] for key in keys if key.startswith(f"{self.measure['name']}@")]

    @property
    def _sign(self) -> int:
        return 1 if self.measure["better"] == "higher" else -1

    def best(self, names: Iterable[str]) -> str:
        """The best encoder of some, by the median on validation data."""
        valid = {name: median(run["valid"] for run in same) for name, same in self.runs.items()}
        return max((name for name in names if name in valid), key=lambda name: self._sign * valid[name])

    def ahead(self, one: Spread, other: Spread) -> float:
        """How much better one median is than another; 0 where the ranges over seeds meet, since that may be chance.

        With one seed the ranges are points.
        """
        return self._sign * (one["median"] - other["median"]) if apart(one, other) else 0.0

    def skill(self, value: float, constant: float | None = None) -> float:
        """0 for the best constant answer (`constant`; by default that on the test data), 1 for a perfect one."""
        perfect = 1.0 if self.measure["better"] == "higher" else 0.0
        constant = self.constant if constant is None else constant
        return (value - constant) / (perfect - constant)

    def skills(self, values: Spread | None, constant: float | None = None) -> Spread | None:
        """A spread of the measure as one of skill."""
        return values and spread(self.skill(value, constant) for value in values.values())


def apart(one: Spread, other: Spread) -> bool:
    """Whether the ranges over seeds do not meet."""
    return one["low"] > other["high"] or other["low"] > one["high"]
