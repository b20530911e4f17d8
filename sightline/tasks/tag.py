"""One tag for each word, or each row of vectors: part of speech, name or not, which machine state.

words     The   plump  ducks
pieces    The   pl ump duck s
targets   DET   ADJ -  NOUN -      the first piece of each word has the answer, and each word has a piece
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sightline.tasks.examples import Examples
from sightline.tasks.records import Record, short
from sightline.tasks.task import NO_TARGET, LabelTask
from sightline.tasks.tokenizing import Encoded
from sightline.tasks.values import is_untagged


@dataclass(frozen=True)
class Tag(LabelTask):
    """Cross-entropy over tags at the first piece of each word; the answer is a tag for each word.

    A word without a tag (`_` in CoNLL-U, null in JSON, -100) counts in no loss and no measure.

    >>> task = Tag("words", "tags", ("DET", "NOUN"))
    >>> row = Record({"words": ["the", "duck"], "tags": ["DET", "NOUN"]}, "a.jsonl", 1)
    >>> from sightline.sequences import Sequences
    >>> pieces = Encoded(Sequences(torch.tensor([5, 6, 7]), [0, 3]), torch.tensor([0, 1, 1]))
    >>> task.examples([row], pieces).targets
    tensor([   0,    1, -100])
    """

    name = "tag"
    noun = "tags"
    pool = None

    @classmethod
    def values(cls, record: Record, column: str) -> list:
        tags = record.get(column)
        if isinstance(tags, str):  # as a text is split
            tags = tags.split()
        if not isinstance(tags, list):
            raise ValueError(
                f"{record.where}: expected tags in column {column!r}, got {short(tags)}; give a list, or a text with "
                "blanks between, of one for each word"
            )
        return [None if is_untagged(tag) else tag for tag in tags]

    def examples(self, records: Sequence[Record], inputs: Encoded) -> Examples:
        first = _first_pieces(inputs)
        counts = torch.zeros(len(records), dtype=torch.int64)
        counts.index_add_(0, inputs.ids.sequence_ids, first.long())
        numbers: list[int] = []
        for record, count in zip(records, counts.tolist(), strict=True):
            tags = self.values(record, self.label)
            if len(tags) != count:
                raise ValueError(
                    f"{record.where}: expected in column {self.label!r} one tag for each of {count} words or rows, got "
                    f"{len(tags)}; give each one"
                )
            numbers += [NO_TARGET if tag is None else self.number(tag, record) for tag in tags]
        targets = torch.full((len(first),), NO_TARGET)
        targets[first] = torch.tensor(numbers, dtype=torch.int64)
        return Examples(inputs.ids, targets, per_token=True)

    def questions(self, records: Sequence[Record], inputs: Encoded) -> Examples:
        """Targets are 0 where an answer is expected and NO_TARGET elsewhere."""
        return Examples(inputs.ids, torch.where(_first_pieces(inputs), 0, NO_TARGET), per_token=True)

    def answers(self, scores: Tensor, examples: Examples) -> list[dict]:
        tags = [[self.labels[i] for i in row.tolist()] for row in _of_words(scores.argmax(-1), examples)]
        words = examples.texts or [None] * len(tags)  # None for vectors
        return [
            {"words": word, "tags": tag} if isinstance(word, list) else {"tags": tag}
            for word, tag in zip(words, tags, strict=True)
        ]

    def probabilities(self, scores: Tensor, examples: Examples) -> list[list[dict[str, float]]]:
        """For each word of a sequence."""
        return [self._by_label(rows) for rows in _of_words(scores, examples)]


def _of_words(values: Tensor, examples: Examples) -> list[Tensor]:
    """For each sequence, the values [T, ...] of the tokens with a target."""
    lengths = examples.lengths.tolist()
    targets = (examples.targets != NO_TARGET).split(lengths)
    return [rows[has_target] for rows, has_target in zip(values.split(lengths), targets, strict=True)]


def _first_pieces(inputs: Encoded) -> Tensor:
    """bool [T]: where the number of the word, or the sequence, differs from that of the row before."""
    previous = torch.cat([inputs.words.new_full((1,), -1), inputs.words[:-1]])[: len(inputs.words)]
    return (inputs.words != previous) | (inputs.ids.positions == 0)
