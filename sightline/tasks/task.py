"""What a task is: the one interface behind which a model is trained, measured and asked, whatever it learns.

A task holds what must travel with the model (labels, units, the columns it was learned from) and no tensors. It turns
records into examples, and scores (the read-out, [T, outputs] per token or [S, outputs] per sequence) into a loss,
measures and answers. Measures are sums with counts, so that those of batches, ranks and folds add up.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from sightline.tasks.examples import Examples
from sightline.tasks.records import Record, short
from sightline.tasks.tokenizing import Encoded
from sightline.tasks.values import is_blank, label_of

NO_TARGET = -100  # an int64 target that is none
BUCKETS = {"1-8": (1, 8), "9-32": (9, 32), "33-128": (33, 128), "129+": (129, 2**62), "outside": (-1, -1)}
COUNTS = {str(i): (i, i) for i in range(8)} | {"8+": (8, 2**62)}
OF_UNIT = {"distance": BUCKETS, "length": BUCKETS, "depth": COUNTS, "attractors": COUNTS}  # what `Examples.unit` names
Measures = dict[str, tuple[float, float]]


class Task(ABC):
    """What is learned: implemented by Classify, Regress, Tag and Language, which are final.

    Attributes: `text` and `label` are the columns it reads; `pool` is the usual read-out over a sequence (None: one
    answer per token); `causal` asks for an encoder that sees nothing to the right.
    """

    name: ClassVar[str]
    pool: ClassVar[str | None]
    causal: ClassVar[bool] = False
    text: str
    label: str | None

    @property
    @abstractmethod
    def outputs(self) -> int:
        """The width of the read-out."""

    @abstractmethod
    def examples(self, records: Sequence[Record], inputs: Encoded) -> Examples:
        """Examples with targets, from records and their encoded texts.

        Raises: ValueError with file and line where a target is missing or unknown.
        """

    @abstractmethod
    def questions(self, records: Sequence[Record], inputs: Encoded) -> Examples:
        """Examples to be answered: as `examples`, but no label is read, and there is one sequence for each record."""

    @abstractmethod
    def loss(self, scores: Tensor, examples: Examples) -> tuple[Tensor, int]:
        """The loss summed over targets, and the number of targets."""

    @abstractmethod
    def measures(self, scores: Tensor, examples: Examples) -> Measures:
        """Name -> (sum, count): divide when all are added up."""

    @abstractmethod
    def chance(self, examples: Examples) -> Measures:
        """What the best constant answer would measure on these examples, under the same names."""

    @abstractmethod
    def answers(self, scores: Tensor, examples: Examples) -> list[dict[str, Any]]:
        """One answer for each sequence, ready for JSON."""

    def probabilities(self, scores: Tensor, examples: Examples) -> list[Any]:
        """The probability of every class, for each sequence, ready for JSON. Raises: ValueError where there are no classes."""
        raise ValueError(
            f"predict: expected a model that classifies or tags for probabilities, got one of {self.name}; leave the option out"
        )

    def to_json(self) -> dict[str, Any]:
        return {"task": self.name, **asdict(self)}


# --- shared by the tasks whose answer is one of several ---------------------------------------------------------------


def cross_entropy(scores: Tensor, targets: Tensor) -> tuple[Tensor, int]:
    """In nats, summed; scores [N, C], targets [N] with NONE where there is none."""
    total = F.cross_entropy(scores.float(), targets, ignore_index=NO_TARGET, reduction="sum")
    return total, int((targets != NO_TARGET).sum())


def hits(scores: Tensor, examples: Examples) -> Measures:
    """Loss and accuracy, the latter also by distance where the examples have distances."""
    targets = examples.targets
    total, count = cross_entropy(scores, targets)
    hit = scores.argmax(-1) == targets
    measures = {"loss": (total.item(), count), "accuracy": (int(hit.sum()), count)}
    for bucket, within in distance_masks(examples):
        within = within & (targets != NO_TARGET)
        measures[f"accuracy@{bucket}"] = (int((hit & within).sum()), int(within.sum()))
    return measures


def distance_masks(examples: Examples) -> Iterator[tuple[str, Tensor]]:
    """The name of each bucket that measures are split by, and which targets fall in it; none without distances."""
    if examples.distances is not None:
        for bucket, (least, most) in OF_UNIT[examples.unit].items():
            yield bucket, (examples.distances >= least) & (examples.distances <= most)


def majority(examples: Examples) -> Measures:
    """The loss of always giving the frequencies of the classes, and the accuracy of always giving the most frequent."""
    targets = examples.targets[examples.targets != NO_TARGET]
    if len(targets) == 0:
        return {"loss": (0.0, 0), "accuracy": (0, 0)}
    counts = torch.bincount(targets).double()
    nats = torch.special.entr(counts / len(targets)).sum() * len(targets)
    return {"loss": (float(nats), len(targets)), "accuracy": (int(counts.max()), len(targets))}


def as_class(value: Any, record: Record, column: str) -> str:
    """A class as it is called, whatever the format spells it like.

    Raises: ValueError with file and line where there is no label, or more than one.
    """
    if is_blank(value):
        raise ValueError(f"{record.where}: expected a label in column {column!r}, got none; fill it in")
    if (name := label_of(value)) is None:
        raise ValueError(
            f"{record.where}: expected one label in column {column!r}, got {short(value)}; give a text or a number"
        )
    return name


def classes(values: Iterable[tuple[Any, Record]], column: str) -> list[str]:
    """The classes that occur, sorted.

    Raises: ValueError with file and line where one is none, or where true and false stand beside 0 and 1.
    """
    first: dict[str, Record] = {}
    for value, record in values:
        first.setdefault(as_class(value, record, column), record)
    for pair in (("true", "1"), ("false", "0")):
        if set(pair) <= first.keys():
            both = " and ".join(f"{name} ({first[name].where})" for name in pair)
            raise ValueError(
                f"{first[pair[1]].where}: expected one way to write a label in column {column!r}, got {both}; keep one"
            )
    return sorted(first)


def by_class(labels: Sequence[str], scores: Tensor) -> list[dict[str, float]]:
    """The probability of every class by its name, for each row of scores [N, C]."""
    return [
        {label: round(p, 6) for label, p in zip(labels, row, strict=True)}
        for row in scores.float().softmax(-1).tolist()
    ]


def numbered(labels: Sequence[str]) -> dict[str, int]:
    """The number of each label, by the one way to write it, which those of earlier versions may not be (1.0 for 1)."""
    return {label_of(label) or label: i for i, label in enumerate(labels)}


def class_number(value: Any, numbers: dict[str, int], record: Record, column: str) -> int:
    """The number of a class.

    Raises: ValueError with file and line for one that was not learned.
    """
    name = as_class(value, record, column)
    if name not in numbers:
        raise ValueError(
            f"{record.where}: expected in column {column!r} one of the {len(numbers)} labels seen in training "
            f"({', '.join(list(numbers)[:6])}{', ...' * (len(numbers) > 6)}), got {name!r}; correct it, train on it or "
            "leave the record out"
        )
    return numbers[name]
