"""What can be answered at each distance without having kept what was read there: the floor from which forgetting is measured.

At some distances one answer is more frequent than at others. And what was shown can be guessed from, by one who remembers
what there was but not what belonged to what. Neither is memory of the thing that is asked for.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from sightline.tasks import Data, Examples
from sightline.tasks.task import NO_TARGET, distance_masks
from studies.claims.cell import Cell, Found
from studies.claims.claim import Stage
from studies.claims.study import Study, harder, loaded

TASK = "floors"
GUESSED = "guess among the values shown"


def cell(study: Study, stage: Stage, shown: bool) -> Cell:
    """The measurement of a study's floors; `shown` says whether answers can be guessed among the labels that are read."""
    run = partial(_measured, study, stage.data, shown)
    return Cell(f"{TASK}/{study.name}", {"data": study.data, "shown": shown}, run)


def _measured(study: Study, folder: Path | None, shown: bool, place: Path, found: Found) -> dict:
    """Returns: `constant`: {bucket: measure of the best constant answer there}; `guess`: the same of guessing, and "" for all, or {};
    `tests`: {further test: guessing there}."""
    data = loaded(study.data, study.settings_of_data(), folder)
    tested = data.test or data.valid
    asked = torch.ones(len(tested.targets), dtype=torch.bool)
    if not tested.targets.is_floating_point():
        asked = tested.targets != NO_TARGET
    within = {bucket: some & asked for bucket, some in distance_masks(tested)}
    within = {bucket: some for bucket, some in within.items() if some.any()}
    found = {"constant": {bucket: _constant(data, tested.targets[some]) for bucket, some in within.items()}}
    if not shown:
        return found | {"guess": {}, "tests": {}}
    hits = guesses(data, tested)
    beyond = {name: harder(spec) for name, spec in study.tests.items()}
    return found | {
        "guess": {bucket: float(hits[some].mean()) for bucket, some in {"": asked, **within}.items()},
        "tests": {name: float(guesses(data, one)[one.targets != NO_TARGET].mean()) for name, one in beyond.items()},
    }


def _constant(data: Data, targets: Tensor) -> float:
    """The accuracy of the most frequent class, or the mean squared error of the mean."""
    if targets.is_floating_point():
        deviation = torch.tensor(data.task.deviation, dtype=torch.float64)
        return float((targets.double() * deviation).var(0, unbiased=False).mean())
    return float(targets.bincount().max() / len(targets))


def guesses(data: Data, examples: Examples) -> Tensor:
    """How often each row's target [T] is met by the label that stands most often in its sequence; of several one by lot."""
    names = [data.tokenizer.engine.token_to_id(label) for label in data.task.labels]
    ids, sequences = examples.inputs.values, examples.inputs.sequence_ids
    stands = ids[:, None] == torch.tensor(names)  # [T, C]
    counts = torch.zeros(len(examples), len(names)).index_add(0, sequences, stands.float())
    most = (counts == counts.amax(1, keepdim=True)).double()
    return (most / most.sum(1, keepdim=True))[sequences, examples.targets.clamp(min=0)]


@dataclass(frozen=True)
class Floors:
    """Those of one study, by bucket, as far as they were measured; `guess` holds that of all the test data as "" besides."""

    constant: dict[str, float]
    guess: dict[str, float]
    tests: dict[str, float]

    @classmethod
    def of(cls, study: Study, found: Found) -> Floors:
        return cls(**found.get(f"{TASK}/{study.name}", {"constant": {}, "guess": {}, "tests": {}}))

    def at(self, bucket: str, constant: float) -> float:
        """The better of both in a bucket; in all ("") `constant` is the best constant answer."""
        constant = self.constant.get(bucket, constant)
        return max(constant, self.guess[bucket]) if bucket in self.guess else constant
