"""A data set in memory: what a model reads, what it should answer, and nothing else.

Every task, reader and built-in data set ends here, and the training loop starts here: it takes sequences by
number (`take`), and the per-token columns travel with them.
"""

import hashlib
from dataclasses import dataclass

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
        distances  int64, one for each target: what measures are split by. Usually how far (tokens) the answer of a
                   tagged token lies, -1 = outside the sequence; else what `unit` says: length, depth, attractors
        links      int64 [T]: the position inside its own sequence of the token it answers to; -1 = none
        texts      the original record of each sequence, for display

    >>> pack = Examples(Sequences(torch.tensor([5, 6, 7]), torch.tensor([0, 2, 3])), torch.tensor([1, 0]))
    >>> len(pack), pack.take([1]).inputs.values.tolist(), pack.take([1]).targets.tolist()
    (2, [7], [0])
    """

    inputs: Sequences
    targets: Tensor | None = None
    per_token: bool = False
    distances: Tensor | None = None
    links: Tensor | None = None
    texts: list | None = None
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
        """A hash of inputs and targets, to know the same data again. They are read once; order counts."""
        digest = hashlib.blake2b(digest_size=16)
        for tensor in (self.inputs.values, self.inputs.offsets, self.targets):
            if tensor is not None:
                digest.update(f"{tensor.dtype} {list(tensor.shape)}".encode())
                digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
        return digest.hexdigest()

    def take(self, indices: list[int] | Tensor) -> "Examples":
        """The sequences of these numbers, in this order."""
        chosen = torch.as_tensor(indices, dtype=torch.int64)
        lengths = self.inputs.lengths[chosen]
        offsets = torch.zeros(len(chosen) + 1, dtype=torch.int64)
        torch.cumsum(lengths, 0, out=offsets[1:])
        shift = self.inputs.offsets[:-1][chosen] - offsets[:-1]
        rows = torch.arange(int(offsets[-1])) + shift.repeat_interleave(lengths)

        def pick(column: Tensor | None, where: Tensor) -> Tensor | None:
            return None if column is None else column[where.to(column.device)]

        return Examples(
            Sequences(pick(self.inputs.values, rows), offsets),
            pick(self.targets, rows if self.per_token else chosen),
            self.per_token,
            pick(self.distances, rows if self.per_token else chosen),
            pick(self.links, rows),
            None if self.texts is None else [self.texts[i] for i in chosen.tolist()],
            self.unit,
        )

    def to(self, device) -> "Examples":
        """The same examples with their tensors on a device."""

        def move(column: Tensor | None) -> Tensor | None:
            return None if column is None else column.to(device)

        return Examples(
            self.inputs.to(device),
            move(self.targets),
            self.per_token,
            move(self.distances),
            move(self.links),
            self.texts,
            self.unit,
        )
