"""The interface of what is learned, and what classify, tag and language share.

A task holds what must travel with the model (labels, units, names of columns) and no tensors. It turns records into
examples, and scores (the read-out, [T, outputs] per token or [S, outputs] per sequence) into a loss, measures and
answers. Measures are sums with counts, so that those of batches, ranks and folds add up.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor

from sightline.tasks.examples import Examples
from sightline.tasks.records import Record, short
from sightline.tasks.tokenizing import Encoded
from sightline.tasks.values import is_blank, label_of

NO_TARGET = -100  # the int64 target of a row without an answer
BUCKETS = {"1-8": (1, 8), "9-32": (9, 32), "33-128": (33, 128), "129+": (129, 2**62), "outside": (-1, -1)}
COUNTS = {str(i): (i, i) for i in range(8)} | {"8+": (8, 2**62)}
BUCKETS_OF = {"distance": BUCKETS, "length": BUCKETS, "depth": COUNTS, "attractors": COUNTS}  # by `Examples.unit`
Measures = dict[str, tuple[float, float]]


class Task(ABC):
    """What is learned; implemented by Classify, Regress, Tag and Language, which are final.

    Attributes: `text` and `label` are the columns it reads; `pool` is the usual read-out over a sequence (None: one
    answer per token); `causal` requires an encoder that sees nothing to the right.
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
        """Examples without labels, one sequence for each record."""

    @abstractmethod
    def loss(self, scores: Tensor, examples: Examples) -> tuple[Tensor, int]:
        """The loss summed over targets, and the number of targets."""

    @abstractmethod
    def measures(self, scores: Tensor, examples: Examples) -> Measures:
        """Name -> (sum, count): add up, then divide."""

    @abstractmethod
    def chance(self, examples: Examples) -> Measures:
        """The measures of the best constant answer on these examples."""

    @abstractmethod
    def answers(self, scores: Tensor, examples: Examples) -> list[dict[str, Any]]:
        """One answer for each sequence, ready for JSON."""

    def probabilities(self, scores: Tensor, examples: Examples) -> list[Any]:
        """The probability of every class, for each sequence, ready for JSON.

        Raises: ValueError where there are no classes.
        """
        raise ValueError(
            f"predict: expected a model that classifies or tags for probabilities, got one of {self.name}; "
            "leave the option out"
        )

    def to_json(self) -> dict[str, Any]:
        return {"task": self.name, **asdict(self)}  # pyright: ignore[reportArgumentType]  # every task is a dataclass


def distance_masks(examples: Examples) -> Iterator[tuple[str, Tensor]]:
    """Each bucket of distances by name, and which targets fall in it; nothing for examples without distances."""
    if examples.distances is not None:
        for bucket, (least, most) in BUCKETS_OF[examples.unit].items():
            yield bucket, (examples.distances >= least) & (examples.distances <= most)


class ClassTask(Task):
    """A task whose answer is one of several: cross-entropy, accuracy, and the most frequent class as chance.

    `unit` names the token where it is a character or a byte; then there is a measure in bits, too.
    """

    unit: str | None

    def loss(self, scores: Tensor, examples: Examples) -> tuple[Tensor, int]:
        targets = examples.targets
        total = F.cross_entropy(scores.float(), targets, ignore_index=NO_TARGET, reduction="sum")
        return total, int((targets != NO_TARGET).sum())

    def measures(self, scores: Tensor, examples: Examples) -> Measures:
        total, count = self.loss(scores, examples)
        hit, valid = scores.argmax(-1) == examples.targets, examples.targets != NO_TARGET
        measures = self._measures(total.item(), int(hit.sum()), count)
        for bucket, within in distance_masks(examples):
            measures[f"accuracy@{bucket}"] = (int((hit & within).sum()), int((valid & within).sum()))
        return measures

    def chance(self, examples: Examples) -> Measures:
        """The loss of always giving the frequencies of the classes, the accuracy of giving the most frequent one."""
        targets = examples.targets[examples.targets != NO_TARGET]
        if len(targets) == 0:
            return self._measures(0.0, 0, 0)
        counts = torch.bincount(targets).double()
        nats = torch.special.entr(counts / len(targets)).sum() * len(targets)
        return self._measures(float(nats), int(counts.max()), len(targets))

    def _measures(self, nats: float, hits: int, count: int) -> Measures:
        bits = {f"bits per {self.unit}": (nats / math.log(2), count)} if self.unit else {}
        return {"loss": (nats, count), "accuracy": (hits, count), **bits}


@dataclass(frozen=True)
class LabelTask(ClassTask):
    """A class task whose classes are the labels in a column."""

    noun: ClassVar[str]
    unit = None

    text: str
    label: str
    labels: tuple[str, ...]

    @classmethod
    @abstractmethod
    def values(cls, record: Record, column: str) -> list:
        """The label of a record, or of each of its words; None for a word without one."""

    @classmethod
    def fit(cls, records: Sequence[Record], text: str, label: str) -> Self:
        """The task with the labels in these records, sorted.

        Raises: ValueError where there are fewer than two, or where true and false stand beside 0 and 1.
        """
        first: dict[str, Record] = {}
        for record in records:
            for value in cls.values(record, label):
                if value is not None:
                    first.setdefault(_class_name(value, record, label), record)
        for pair in (("true", "1"), ("false", "0")):
            if set(pair) <= first.keys():
                both = " and ".join(f"{name} ({first[name].where})" for name in pair)
                raise ValueError(
                    f"{first[pair[1]].where}: expected one way to write a label in column {label!r}, got {both}; "
                    "keep one"
                )
        if len(first) < 2:
            actual = f"only {next(iter(first))!r}" if first else "none"
            raise ValueError(
                f"{records[0].file}: expected at least two different {cls.noun} in column {label!r}, got {actual}; "
                "name another column"
            )
        return cls(text, label, tuple(sorted(first)))

    @property
    def outputs(self) -> int:
        return len(self.labels)

    @cached_property
    def _numbers(self) -> dict[str, int]:
        """The number of each label; models of earlier versions may hold labels in another spelling, as 1.0 for 1."""
        return {label_of(label) or label: i for i, label in enumerate(self.labels)}

    def number(self, value: Any, record: Record) -> int:
        """The number of a label.

        Raises: ValueError with file and line for one that is not among the labels.
        """
        name = _class_name(value, record, self.label)
        if name not in self._numbers:
            seen = f"{', '.join(list(self._numbers)[:6])}{', ...' * (len(self.labels) > 6)}"
            raise ValueError(
                f"{record.where}: expected in column {self.label!r} one of the {len(self._numbers)} labels seen in "
                f"training ({seen}), got {name!r}; correct it, train on it or leave the record out"
            )
        return self._numbers[name]

    def _by_label(self, scores: Tensor) -> list[dict[str, float]]:
        """The probability of every label, for each row of scores [N, C]."""
        rows = scores.float().softmax(-1).tolist()
        return [{label: round(p, 6) for label, p in zip(self.labels, row, strict=True)} for row in rows]


def _class_name(value: Any, record: Record, column: str) -> str:
    if is_blank(value):
        raise ValueError(f"{record.where}: expected a label in column {column!r}, got none; fill it in")
    if (name := label_of(value)) is None:
        raise ValueError(
            f"{record.where}: expected one label in column {column!r}, got {short(value)}; give a text or a number"
        )
    return name
