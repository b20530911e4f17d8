"""One number, or a fixed list of numbers, for each sequence: a price, a rating between the stars, a remaining life."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sightline.tasks.examples import Examples
from sightline.tasks.records import Record, short
from sightline.tasks.task import Measures, Task, distance_masks
from sightline.tasks.tokenizing import Encoded
from sightline.tasks.values import number_of

LARGEST = 1e140  # so that squares and their sums are finite


@dataclass(frozen=True)
class Regress(Task):
    """Squared error on targets brought to mean 0 and deviation 1; measures and answers are in the data's own units.

    Units: `loss` in squared standard deviations of the training data, `mse` and `mae` in those of the column.

    >>> task = Regress("text", "price", mean=(10.0,), deviation=(2.0,))
    >>> task.answers(torch.tensor([[0.0], [-1.5]]), examples=None)
    [{'value': 10.0}, {'value': 7.0}]
    """

    name = "regress"

    text: str
    label: str
    mean: tuple[float, ...]
    deviation: tuple[float, ...]
    pool: str = "mean"

    @classmethod
    def fit(cls, records: Sequence[Record], text: str, label: str) -> Regress:
        """The task with mean and standard deviation of the numbers in these records (1 if they are constant)."""
        numbers = torch.tensor(_all_numbers(records, label, None), dtype=torch.float64)
        deviation = numbers.std(0, correction=0)
        deviation = torch.where(deviation > 0, deviation, 1.0)
        return cls(text, label, tuple(numbers.mean(0).tolist()), tuple(deviation.tolist()))

    @property
    def outputs(self) -> int:
        return len(self.mean)

    def examples(self, records: Sequence[Record], inputs: Encoded) -> Examples:
        """Targets are standardised, as the read-out is."""
        rows = _all_numbers(records, self.label, self.outputs)
        numbers = torch.tensor(rows, dtype=torch.float64).reshape(-1, self.outputs)
        targets = ((numbers - _row(self.mean)) / _row(self.deviation)).float()
        if not targets.isfinite().all():
            first = int((~targets.isfinite()).any(1).nonzero()[0])
            raise ValueError(
                f"{records[first].where}: expected in column {self.label!r} a number like those the model was fitted "
                f"on, got {short(records[first].get(self.label))}; correct it, train on it or leave the record out"
            )
        return Examples(inputs.ids, targets)

    def questions(self, records: Sequence[Record], inputs: Encoded) -> Examples:
        return Examples(inputs.ids)

    def loss(self, scores: Tensor, examples: Examples) -> tuple[Tensor, int]:
        return (scores.float() - examples.targets).square().sum(), examples.targets.numel()

    def measures(self, scores: Tensor, examples: Examples) -> Measures:
        error = (scores.detach().float() - examples.targets).cpu().double()
        in_units = error * _row(self.deviation)
        measures: Measures = {
            "loss": (float(error.square().sum()), error.numel()),
            "mse": (float(in_units.square().sum()), error.numel()),
            "mae": (float(in_units.abs().sum()), error.numel()),
        }
        for bucket, within in distance_masks(examples):
            here = in_units[within.cpu()]
            measures[f"mse@{bucket}"] = (float(here.square().sum()), here.numel())
        return measures

    def chance(self, examples: Examples) -> Measures:
        """The mean of the training data as the answer to all; 1 - mse / (this mse) is the usual R squared."""
        return self.measures(torch.zeros_like(examples.targets), examples)

    def answers(self, scores: Tensor, examples: Examples | None = None) -> list[dict]:
        values = (scores.cpu().double() * _row(self.deviation) + _row(self.mean)).tolist()
        return [{"value": row[0] if self.outputs == 1 else row} for row in values]


def _row(numbers: tuple[float, ...]) -> Tensor:
    return torch.tensor(numbers, dtype=torch.float64)


def _all_numbers(records: Sequence[Record], column: str, count: int | None) -> list[list[float]]:
    """A row of numbers from each record, all as long as the first, or as `count`."""
    rows: list[list[float]] = []
    for record in records:
        row = _numbers(record.get(column), record, column)
        count = count or len(row)
        if len(row) != count:
            raise ValueError(
                f"{record.where}: expected {count} numbers in column {column!r}, got {len(row)}; "
                "give each record as many"
            )
        rows.append(row)
    return rows


def _numbers(value: Any, record: Record, column: str) -> list[float]:
    values = value if isinstance(value, list) else [value]
    numbers = [number for one in values if (number := number_of(one)) is not None]
    if not numbers or len(numbers) < len(values):
        advice = "write it with digits and a point, as in 1000.5" if isinstance(value, str) else "correct it"
        raise ValueError(f"{record.where}: expected a finite number in column {column!r}, got {short(value)}; {advice}")
    if max(map(abs, numbers)) > LARGEST:
        raise ValueError(
            f"{record.where}: expected numbers up to {LARGEST:g} in column {column!r}, got {short(value)}; "
            "write it in a larger unit"
        )
    return numbers
