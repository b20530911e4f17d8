"""Floors: what can be answered at each distance without memory of what was read there; the zero point of forgetting.

Two kinds: the best constant answer at that distance, since answers are not equally frequent everywhere; and a guess
among the values shown, by one who remembers which values occurred but not what belonged to what.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from sightline.tasks import Data, Examples
from sightline.tasks.task import NO_TARGET, distance_masks
from studies.claims.cell import Cell, Results
from studies.claims.claim import Stage
from studies.claims.study import Study, further_test_data, load_data

TASK = "floors"
GUESS = "guess among the values shown"


def floor_cell(study: Study, stage: Stage, guessable: bool) -> Cell:
    """The measurement of a study's floors; `guessable`: answers occur in the sequence as labels that are read."""
    run = partial(_floors, study, stage.data, guessable)
    return Cell(f"{TASK}/{study.name}", {"data": study.data, "shown": guessable}, run)


def _floors(study: Study, data_folder: Path | None, guessable: bool, folder: Path, results: Results) -> dict:
    """The floors of a study on its test data.

    Returns: `constant`: {bucket: measure of the best constant answer}; `guess`: {bucket: accuracy of guessing}, with ""
    for all buckets; `tests`: {further test: accuracy of guessing}; the last two are {} if answers cannot be guessed.
    """
    data = load_data(study.data, study.data_settings(), data_folder)
    tested = data.test or data.valid
    scored = torch.ones(len(tested.targets), dtype=torch.bool)
    if not tested.targets.is_floating_point():
        scored = tested.targets != NO_TARGET
    within = {bucket: mask & scored for bucket, mask in distance_masks(tested)}
    within = {bucket: mask for bucket, mask in within.items() if mask.any()}
    floors = {"constant": {bucket: _constant(data, tested.targets[mask]) for bucket, mask in within.items()}}
    if not guessable:
        return floors | {"guess": {}, "tests": {}}
    hits = guess_hits(data, tested)
    further = {name: further_test_data(spec) for name, spec in study.tests.items()}
    return floors | {
        "guess": {bucket: float(hits[mask].mean()) for bucket, mask in {"": scored, **within}.items()},
        "tests": {
            name: float(guess_hits(data, examples)[examples.targets != NO_TARGET].mean())
            for name, examples in further.items()
        },
    }


def _constant(data: Data, targets: Tensor) -> float:
    """The accuracy of the most frequent class, or the mean squared error of the mean."""
    if targets.is_floating_point():
        deviation = torch.tensor(data.task.deviation, dtype=torch.float64)
        return float((targets.double() * deviation).var(0, unbiased=False).mean())
    return float(targets.bincount().max() / len(targets))


def guess_hits(data: Data, examples: Examples) -> Tensor:
    """The probability [T] that a guess meets each row's target; the guess is a most frequent label of the sequence."""
    names = [data.tokenizer.engine.token_to_id(label) for label in data.task.labels]
    ids, sequences = examples.inputs.values, examples.inputs.sequence_ids
    label_at = ids[:, None] == torch.tensor(names)  # [T, C]
    counts = torch.zeros(len(examples), len(names)).index_add(0, sequences, label_at.float())
    most = (counts == counts.amax(1, keepdim=True)).double()
    return (most / most.sum(1, keepdim=True))[sequences, examples.targets.clamp(min=0)]


@dataclass(frozen=True)
class Floors:
    """The floors of one study by bucket, as far as they were measured; `guess[""]` is that of all test data."""

    constant: dict[str, float]
    guess: dict[str, float]
    tests: dict[str, float]

    @classmethod
    def from_results(cls, study: Study, results: Results) -> Floors:
        return cls(**results.get(f"{TASK}/{study.name}", {"constant": {}, "guess": {}, "tests": {}}))

    def at(self, bucket: str, constant: float) -> float:
        """The higher floor in a bucket; for all test data ("") the best constant answer is `constant`."""
        constant = self.constant.get(bucket, constant)
        return max(constant, self.guess[bucket]) if bucket in self.guess else constant
