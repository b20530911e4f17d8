"""The next token, given those before it: what a generator learns.

    a record        inputs  <end> a b c     targets  a b c <end>      it begins and ends with <end>
    one long text   inputs  a b | c d       targets  b c | d e        no beginning, no end

Both are cut into chunks of `context` tokens, the last one of a record or text shorter; the last token of a chunk still
has the one that follows as its target, so every token is a target once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sightline.sequences import Sequences
from sightline.tasks.examples import Examples, packed
from sightline.tasks.records import Record
from sightline.tasks.task import ClassTask
from sightline.tasks.tokenizing import Encoded


@dataclass(frozen=True)
class Language(ClassTask):
    """Cross-entropy of the next token; the answer to a text is its loss.

    Units: `loss` in nats per token; where a token is a character or a byte (`unit`), also bits per character or byte.

    >>> task = Language("text", vocabulary=9, end=1, context=3, unit="character", stream=True)
    >>> chunks = task.stream_examples(torch.tensor([5, 6, 7, 8, 5]))
    >>> [ids.tolist() for ids in chunks.inputs], chunks.targets.tolist()
    ([[5, 6, 7], [8]], [6, 7, 8, 5])
    """

    name = "language"
    pool = None
    causal = True
    label = None

    text: str
    vocabulary: int
    end: int
    context: int
    unit: str | None
    stream: bool

    @property
    def outputs(self) -> int:
        return self.vocabulary

    def examples(self, records: Sequence[Record], inputs: Encoded) -> Examples:
        return self._chunked(self.questions(records, inputs))

    def questions(self, records: Sequence[Record], inputs: Encoded) -> Examples:
        """Each record as a whole; for a model of one long text, without beginning and end."""
        ids, offsets = inputs.ids.values, inputs.ids.offsets + torch.arange(len(inputs.ids) + 1)
        place = torch.arange(len(ids)) + inputs.ids.sequence_ids  # one <end> more for each sequence before
        shifted = ids.new_full((2, int(offsets[-1])), self.end)
        shifted[0, place + 1] = ids
        shifted[1, place] = ids
        whole = Examples(Sequences(shifted[0], offsets), shifted[1], per_token=True)
        if not self.stream:
            return whole
        inner = whole.inputs.positions > 0
        inner[offsets[1:] - 1] = False
        lengths = (inputs.ids.lengths - 1).clamp(min=0)
        return Examples(packed(shifted[0, inner], lengths), shifted[1, inner], per_token=True)

    def stream_examples(self, ids: Tensor) -> Examples:
        """The chunks of one long text [T].

        Raises: ValueError where no token follows another.
        """
        if len(ids) < 2:
            raise ValueError(f"language: expected a text of at least 2 tokens, got {len(ids)}; give a longer one")
        return self._chunked(Examples(Sequences(ids[:-1], [0, len(ids) - 1]), ids[1:], per_token=True))

    def _chunked(self, whole: Examples) -> Examples:
        starts = (whole.inputs.positions % self.context == 0).nonzero().flatten()
        offsets = torch.cat([starts, torch.tensor([len(whole.targets)])])
        return Examples(Sequences(whole.inputs.values, offsets), whole.targets, per_token=True)

    def prompt(self, ids: Tensor) -> Tensor:
        """What a generator reads before it writes: the beginning of a record and these ids [T].

        Raises: ValueError for an empty prompt to a model of one long text.
        """
        if not self.stream:
            return torch.cat([ids.new_tensor([self.end]), ids])
        if len(ids) == 0:
            raise ValueError(
                "generate: expected a prompt, since the model learned one long text, which has no beginning, got none; "
                "give at least one character"
            )
        return ids

    def answers(self, scores: Tensor, examples: Examples) -> list[dict]:
        chosen = scores.float().log_softmax(-1).gather(-1, examples.targets[:, None]).squeeze(-1)
        each = chosen.split(examples.lengths.tolist())
        return [{"loss": -float(nats.mean()) if len(nats) else None, "tokens": len(nats)} for nats in each]
