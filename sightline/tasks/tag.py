"""One tag for each word, or each row of vectors: part of speech, name or not, which machine state.

words     The   plump  ducks
pieces    The   pl ump duck s
targets   DET   ADJ -  NOUN -      a word answers at its first piece, and each word has one
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sightline.tasks import task as shared
from sightline.tasks.examples import Examples
from sightline.tasks.records import Record, short
from sightline.tasks.task import NO_TARGET, Measures, Task
from sightline.tasks.tokenizing import Encoded
from sightline.tasks.values import no_tag


@dataclass(frozen=True)
class Tag(Task):
    """Cross-entropy over tags at the first piece of each word; the answer is a tag for each word.

    Where no tag is known (`_` in CoNLL-U, null in JSON, -100) no answer is asked for: it counts in no loss and no measure.

    >>> task = Tag("words", "tags", ("DET", "NOUN"))
    >>> row = Record({"words": ["the", "duck"], "tags": ["DET", "NOUN"]}, "a.jsonl", 1)
    >>> from sightline.sequences import Sequences
    >>> pieces = Encoded(Sequences(torch.tensor([5, 6, 7]), [0, 3]), torch.tensor([0, 1, 1]))
    >>> task.examples([row], pieces).targets
    tensor([   0,    1, -100])
    """

    name = "tag"
    pool = None

    text: str
    label: str
    labels: tuple[str, ...]

    @classmethod
    def fit(cls, records: Sequence[Record], text: str, label: str) -> Tag:
        """The task with the tags that occur in these records, sorted.

        Raises: ValueError where there are fewer than two.
        """
        labels = shared.classes(((t, r) for r in records for t in _tags(r, label) if not no_tag(t)), label)
        if len(labels) < 2:
            raise ValueError(
                f"{records[0].file}: expected at least two different tags in column {label!r}, got {labels}; name another column"
            )
        return cls(text, label, tuple(labels))

    @property
    def outputs(self) -> int:
        return len(self.labels)

    def examples(self, records: Sequence[Record], inputs: Encoded) -> Examples:
        numbers = shared.numbered(self.labels)
        first = _first_pieces(inputs)
        counts = torch.zeros(len(records), dtype=torch.int64)
        counts.index_add_(0, inputs.ids.sequence_ids, first.long())
        tags: list[int] = []
        for record, count in zip(records, counts.tolist(), strict=True):
            given = _tags(record, self.label)
            if len(given) != count:
                raise ValueError(
                    f"{record.where}: expected in column {self.label!r} one tag for each of {count} words or rows, got "
                    f"{len(given)}; give each one"
                )
            tags += [
                NO_TARGET if no_tag(tag) else shared.class_number(tag, numbers, record, self.label) for tag in given
            ]
        targets = torch.full((len(first),), NO_TARGET)
        targets[first] = torch.tensor(tags, dtype=torch.int64)
        return Examples(inputs.ids, targets, per_token=True)

    def questions(self, records: Sequence[Record], inputs: Encoded) -> Examples:
        """Targets are 0 where an answer is asked for and NONE elsewhere."""
        targets = torch.where(_first_pieces(inputs), 0, NO_TARGET)
        return Examples(inputs.ids, targets, per_token=True)

    def loss(self, scores: Tensor, examples: Examples) -> tuple[Tensor, int]:
        return shared.cross_entropy(scores, examples.targets)

    def measures(self, scores: Tensor, examples: Examples) -> Measures:
        return shared.hits(scores, examples)

    def chance(self, examples: Examples) -> Measures:
        return shared.majority(examples)

    def answers(self, scores: Tensor, examples: Examples) -> list[dict]:
        best = scores.argmax(-1).split(examples.lengths.tolist())
        asked = (examples.targets != NO_TARGET).split(examples.lengths.tolist())
        tags = [[self.labels[i] for i in row[where].tolist()] for row, where in zip(best, asked, strict=True)]
        words = examples.texts or [None] * len(tags)  # none for vectors
        return [
            {"words": word, "tags": tag} if isinstance(word, list) else {"tags": tag}
            for word, tag in zip(words, tags, strict=True)
        ]

    def probabilities(self, scores: Tensor, examples: Examples) -> list[list[dict[str, float]]]:
        """For each word of a sequence."""
        asked = (examples.targets != NO_TARGET).split(examples.lengths.tolist())
        rows = scores.split(examples.lengths.tolist())
        return [shared.by_class(self.labels, some[where]) for some, where in zip(rows, asked, strict=True)]


def _tags(record: Record, column: str) -> list:
    tags = record.get(column)
    if isinstance(tags, str):  # as a text is split
        return tags.split()
    if not isinstance(tags, list):
        raise ValueError(
            f"{record.where}: expected tags in column {column!r}, got {short(tags)}; give a list, or a text with blanks between, "
            "of one for each word"
        )
    return tags


def _first_pieces(inputs: Encoded) -> Tensor:
    """bool [T]: where a word begins, that is, where its number or the sequence differs from that of the row before."""
    previous = torch.cat([inputs.words.new_full((1,), -1), inputs.words[:-1]])[: len(inputs.words)]
    return (inputs.words != previous) | (inputs.ids.positions == 0)
