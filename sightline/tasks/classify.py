"""One label out of several for each sequence: which topic, which intent, which sensor fault."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sightline.tasks import task as shared
from sightline.tasks.examples import Examples
from sightline.tasks.records import Record
from sightline.tasks.task import Measures, Task
from sightline.tasks.tokenizing import Encoded


@dataclass(frozen=True)
class Classify(Task):
    """Cross-entropy over labels; the answer is the likeliest label and its probability.

    >>> task = Classify("review", "stars", ("bad", "good"))
    >>> task.answers(torch.tensor([[0.0, 0.0], [-9.0, 9.0]]), examples=None)
    [{'label': 'bad', 'probability': 0.5}, {'label': 'good', 'probability': 1.0}]
    """

    name = "classify"
    pool = "mean"

    text: str
    label: str
    labels: tuple[str, ...]

    @classmethod
    def fit(cls, records: Sequence[Record], text: str, label: str) -> Classify:
        """The task with the labels that occur in these records, sorted.

        Raises: ValueError where there are fewer than two.
        """
        labels = shared.classes(((record.get(label), record) for record in records), label)
        if len(labels) < 2:
            raise ValueError(
                f"{records[0].file}: expected at least two different labels in column {label!r}, got only {labels[0]!r}; "
                "name another column"
            )
        return cls(text, label, tuple(labels))

    @property
    def outputs(self) -> int:
        return len(self.labels)

    def examples(self, records: Sequence[Record], inputs: Encoded) -> Examples:
        numbers = shared.numbered(self.labels)
        targets = [shared.class_number(r.get(self.label), numbers, r, self.label) for r in records]
        return Examples(inputs.ids, torch.tensor(targets, dtype=torch.int64))

    def questions(self, records: Sequence[Record], inputs: Encoded) -> Examples:
        return Examples(inputs.ids)

    def loss(self, scores: Tensor, examples: Examples) -> tuple[Tensor, int]:
        return shared.cross_entropy(scores, examples.targets)

    def measures(self, scores: Tensor, examples: Examples) -> Measures:
        return shared.hits(scores, examples)

    def chance(self, examples: Examples) -> Measures:
        return shared.majority(examples)

    def answers(self, scores: Tensor, examples: Examples) -> list[dict]:
        best = scores.float().softmax(-1).max(-1)
        return [
            {"label": self.labels[i], "probability": round(p, 6)}
            for i, p in zip(best.indices.tolist(), best.values.tolist(), strict=True)
        ]

    def probabilities(self, scores: Tensor, examples: Examples) -> list[dict[str, float]]:
        return shared.by_class(self.labels, scores)
