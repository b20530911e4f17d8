"""One label out of several for each sequence: which topic, which intent, which sensor fault."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sightline.tasks.examples import Examples
from sightline.tasks.records import Record
from sightline.tasks.task import LabelTask
from sightline.tasks.tokenizing import Encoded


@dataclass(frozen=True)
class Classify(LabelTask):
    """Cross-entropy over labels; the answer is the most likely label and its probability.

    >>> task = Classify("review", "stars", ("bad", "good"))
    >>> task.answers(torch.tensor([[0.0, 0.0], [-9.0, 9.0]]), examples=None)
    [{'label': 'bad', 'probability': 0.5}, {'label': 'good', 'probability': 1.0}]
    """

    name = "classify"
    noun = "labels"
    pool = "mean"

    @classmethod
    def values(cls, record: Record, column: str) -> list:
        return [record.get(column)]

    def examples(self, records: Sequence[Record], inputs: Encoded) -> Examples:
        targets = [self.number(record.get(self.label), record) for record in records]
        return Examples(inputs.ids, torch.tensor(targets, dtype=torch.int64))

    def questions(self, records: Sequence[Record], inputs: Encoded) -> Examples:
        return Examples(inputs.ids)

    def answers(self, scores: Tensor, examples: Examples) -> list[dict]:
        best = scores.float().softmax(-1).max(-1)
        return [
            {"label": self.labels[i], "probability": round(p, 6)}
            for i, p in zip(best.indices.tolist(), best.values.tolist(), strict=True)
        ]

    def probabilities(self, scores: Tensor, examples: Examples) -> list[dict[str, float]]:
        return self._by_label(scores)
