"""A data set in memory: what a model reads, and what it should answer.

Every task and every built-in data set makes `Examples`; the training loop takes sequences from them by number.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from sightline.sequences import Sequences


@dataclass(frozen=True, eq=False)
class Examples:
    """Sequences and their targets, ready to be batched.

    Shapes: S sequences, T tokens in all.
        inputs     ids [T] int64, or vectors [T, F] float32
        targets    per sequence (class int64 [S], or numbers float32 [S, K]) or, if `per_token`, one for every
                   token (int64 [T], or float32 [T, K]); an int64 target of -100 is none
        distances  int64, one for each target, by which measures are split. Usually the distance (tokens) to the
                   answer of a tagged token, -1 = outside the sequence; else `unit` says: length, depth, attractors
        links      int64 [T]: the position, in its own sequence, of the token with the answer; -1 = none
        texts      the original record of each sequence, for display

    >>> pack = Examples(Sequences(torch.tensor([5, 6, 7]), torch.tensor([0, 2, 3])), torch.tensor([1, 0]))
    >>> len(pack), pack.take([1]).inputs.values.tolist(), pack.take([1]).targets.tolist()
    (2, [7], [0])
    """

    inputs: Sequences
    targets: Tensor | Any = None  # Any stands for None, since whoever reads a column knows that it is there
    per_token: bool = False
    distances: Tensor | Any = None
    links: Tensor | Any = None
    texts: list[Any] | Any = None
    unit: str = "distance"

    def __post_init__(self):
        sequences, tokens = len(self.inputs), len(self.inputs.values)
        expected = {
            "targets": tokens if self.per_token else sequences,
            "distances": tokens if self.per_token else sequences,
            "links": tokens,
            "texts": sequences,
        }
        for name, count in expected.items():
            column = getattr(self, name)
            if column is not None and len(column) != count:
                unit = "sequence" if count == sequences else "token"
                raise ValueError(
                    f"Examples: expected one row of {name} for each {unit} ({count}), got {len(column)}; "
                    f"set per_token where there is a target for every token"
                )

    def __len__(self) -> int:
        return len(self.inputs)

    @property
    def lengths(self) -> Tensor:
        """The number of tokens of each sequence, int64 [S] on the CPU."""
        return self.inputs.lengths

    def fingerprint(self) -> str:
        """A hash of inputs and targets, in their order, by which the same data are recognised."""
        digest = hashlib.blake2b(digest_size=16)
        for tensor in (self.inputs.values, self.inputs.offsets, self.targets):
            if tensor is not None:
                digest.update(f"{tensor.dtype} {list(tensor.shape)}".encode())
                digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
        return digest.hexdigest()

    def take(self, indices: list[int] | Tensor) -> "Examples":
        """The sequences of these numbers, in this order."""
        chosen = torch.as_tensor(indices, dtype=torch.int64)
        lengths = self.inputs.lengths[chosen]
        offsets = torch.zeros(len(chosen) + 1, dtype=torch.int64)
        torch.cumsum(lengths, 0, out=offsets[1:])
        first = self.inputs.offsets[:-1][chosen]
        rows = torch.arange(int(offsets[-1])) + (first - offsets[:-1]).repeat_interleave(lengths)
        picked = {"targets": rows if self.per_token else chosen, "links": rows}
        picked["distances"] = picked["targets"]
        inputs = Sequences(self.inputs.values[rows.to(self.inputs.values.device)], offsets)
        texts = None if self.texts is None else [self.texts[i] for i in chosen.tolist()]
        columns = self._columns(lambda name, column: column[picked[name].to(column.device)])
        return replace(self, inputs=inputs, texts=texts, **columns)

    def to(self, device) -> "Examples":
        """The same examples with their tensors on a device."""
        return replace(self, inputs=self.inputs.to(device), **self._columns(lambda _, column: column.to(device)))

    def _columns(self, change: Callable[[str, Tensor], Tensor]) -> dict[str, Tensor]:
        """Each column that is there, changed."""
        columns = {name: getattr(self, name) for name in ("targets", "distances", "links")}
        return {name: change(name, column) for name, column in columns.items() if column is not None}


def packed(values: Tensor, lengths: list[int] | Tensor) -> Sequences:
    """Values [T, ...] cut into sequences of these lengths [S]."""
    offsets = torch.as_tensor(lengths, dtype=torch.int64).cumsum(0)
    return Sequences(values, torch.cat([offsets.new_zeros(1), offsets]))
