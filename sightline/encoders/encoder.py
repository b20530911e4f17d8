"""The encoder that all mixers share: embedding, blocks, one slot for the mixer; a comparison compares only that.

    x = embedding(tokens or vectors)          [T, E]
    for each block:
        x = x + mixer(norm(x))                the only part that looks at other rows
        x = x + mlp(norm(x))                  row by row
    encodings = norm(x)                       [T, E], same offsets

Source: the pre-norm residual block of Xiong et al. 2020, with GELU. A `Mixer` is an interface; its implementations are
final.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch._compile import _disable_dynamo  # pyright: ignore[reportPrivateUsage]  # no public name imports so little

from sightline.sequences import Sequences


class Mixer(nn.Module):
    """What an encoder's block does across the rows of one sequence: `Sequences` in, `Sequences` out, same offsets.

    Shapes: values [T, E] -> [T, E].
    If `causal`, a row depends on no later row, and `start` and `step` give the same rows one at a time.
    """

    causal: bool

    def forward(self, x: Sequences) -> Sequences:
        raise TypeError(f"{type(self).__name__}: a mixer must define forward")

    def start(self, count: int) -> Any:
        """The state before the first row, for `count` sequences generated side by side."""
        raise TypeError(
            f"{type(self).__name__}: expected a causal mixer to generate with, got one that is not; build it with "
            "causal=True"
        )

    def step(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        """One new row for each sequence. Shapes: x [S, E] -> [S, E]. `state` may be changed in place."""
        raise TypeError(
            f"{type(self).__name__}: expected a causal mixer to step, got one that is not; build it with causal=True"
        )


def _mixed(mixer: Mixer, x: Sequences) -> Sequences:
    return _untraced(mixer, x) if torch.compiler.is_dynamo_compiling() else mixer(x)


_untraced = _disable_dynamo(_mixed)  # a compiled graph breaks here: what a mixer does depends on the lengths


class TokenEmbedding(nn.Module):
    """Token ids [T] to rows [T, E], by a learned table."""

    def __init__(self, vocabulary: int, width: int):
        super().__init__()
        self.table = nn.Embedding(vocabulary, width)
        nn.init.normal_(self.table.weight, std=1.0)

    def forward(self, ids: Tensor) -> Tensor:
        if ids.dim() != 1 or ids.dtype not in (torch.int64, torch.int32):
            raise TypeError(
                f"encoder: expected token ids as integers [T], got {ids.dtype} {list(ids.shape)}; build it with "
                "features= for vectors"
            )
        return self.table(ids)


class VectorEmbedding(nn.Module):
    """Vectors [T, F] to rows [T, E], by one linear layer."""

    def __init__(self, features: int, width: int):
        super().__init__()
        self.project = nn.Linear(features, width)

    def forward(self, vectors: Tensor) -> Tensor:
        if vectors.dim() != 2 or vectors.shape[1] != self.project.in_features:
            raise ValueError(
                f"encoder: expected vectors [T, {self.project.in_features}], got {list(vectors.shape)}; pass rows of "
                "as many features as it was built for"
            )
        return self.project(vectors.to(self.project.weight.dtype))


class Block(nn.Module):
    """x + mixer(norm(x)), then x + mlp(norm(x)); dropout on what is added."""

    def __init__(self, mixer: Mixer, width: int, hidden: int, dropout: float = 0.0):
        super().__init__()
        self.mixer = mixer
        self.norm_mixer = nn.LayerNorm(width)
        self.norm_mlp = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Sequences) -> Sequences:
        mixed = _mixed(self.mixer, x.with_values(self.norm_mixer(x.values)))
        values = x.values + self.dropout(mixed.values)
        return x.with_values(values + self.dropout(self.mlp(self.norm_mlp(values))))

    def step(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        mixed, state = self.mixer.step(self.norm_mixer(x), state)
        x = x + self.dropout(mixed)
        return x + self.dropout(self.mlp(self.norm_mlp(x))), state


class Encoder(nn.Module):
    """A sequence of rows becomes a sequence of encodings, whatever the mixer.

    Shapes: ids int64 [T] or vectors [T, F] -> [T, E], same offsets.
    """

    def __init__(self, embedding: nn.Module, blocks: list[Block], width: int, dropout: float = 0.0):
        super().__init__()
        self.embedding = embedding
        self.blocks: Any = nn.ModuleList(blocks)
        self.norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)
        self.width = width

    @property
    def causal(self) -> bool:
        """Whether no row depends on a later one, so that the encoder can generate."""
        return all(block.mixer.causal for block in self.blocks)

    def forward(self, x: Sequences) -> Sequences:
        if not isinstance(x, Sequences):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(
                f"encoder: expected Sequences, got {type(x).__name__}; make them with Sequences.from_list or "
                "from_padded"
            )
        x = x.with_values(self.dropout(self.embedding(x.values)))
        for block in self.blocks:
            x = block(x)
        return x.with_values(self.norm(x.values))

    def start(self, count: int) -> list[Any]:
        """The state before the first token, for `count` sequences generated side by side."""
        return [block.mixer.start(count) for block in self.blocks]

    def step(self, token: Tensor, state: list[Any]) -> tuple[Tensor, list[Any]]:
        """The encoding of one new token (or vector) of each sequence, equal to the full pass.

        Shapes: token [S] or [S, F] -> [S, E].
        """
        x = self.dropout(self.embedding(token))
        new: list[Any] = []
        for block, old in zip(self.blocks, state, strict=True):
            x, changed = block.step(x, old)
            new.append(changed)
        return self.norm(x), new
