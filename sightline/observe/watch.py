"""Looking must not change what is looked at: a watcher keeps each call's queries, keys and lse, and computes weights after.

Any weight follows exactly from what attention already has at hand (w = weight, q and k rows of one head):

    w_ij = exp(s_ij - lse_i)      with the score s_ij as attention defines it, and 0 where the key is hidden
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sightline.attention import Attended, Pattern, Request, watching
from sightline.attention.reference import scores_of
from sightline.encoders import SelfAttention


@dataclass(frozen=True, eq=False)
class Call:
    """What one call of attention leaves behind; views where it can, so that memory grows with the rows, not their square.

    Shapes: q [T, H, D], k [R, G, D], lse [T, H]; offsets and key_offsets [S + 1]; bias [S or 1, H or 1, N, M].
    """

    q: Tensor
    k: Tensor
    lse: Tensor
    offsets: Tensor
    key_offsets: Tensor
    pattern: Pattern
    scale: float
    softcap: float | None = None
    bias: Tensor | None = None

    def weights(self, sequence: int) -> Tensor:
        """The weights of one sequence, float32 or wider; what a sink takes is missing from their sum.

        Shapes: [H, n, m] for n queries and m keys.
        """
        rows, keys = (slice(*o[sequence : sequence + 2].tolist()) for o in (self.offsets, self.key_offsets))
        q, k, lse = self.q[rows].to(self.lse.dtype), self.k[keys].to(self.lse.dtype), self.lse[rows]
        bias = None if self.bias is None else self.bias[sequence if len(self.bias) > 1 else 0]
        scores = scores_of(q, k, self.pattern, self.scale, self.softcap, bias)
        return (scores - lse.masked_fill(lse == -torch.inf, 0).T[..., None]).exp()


class Seen:
    """The attention calls of a watched model, in the order they were made; `layers` of them are one forward pass."""

    def __init__(self, layers: int):
        self.layers = layers
        self.calls: list[Call] = []

    def weights(self, layer: int, sequence: int) -> Tensor:
        """The weights of one sequence in one layer of the last forward pass.

        Shapes: [H, n, n]: weight[head, query, key]; for short sequences.
        Raises: ValueError for a layer or sequence that was not seen.
        """
        last = self.calls[-self.layers :]
        if not 0 <= layer < len(last):
            raise ValueError(
                f"watch: expected a layer from 0 to {self.layers - 1} of a forward pass, got {layer} of {len(last)} seen; "
                f"run the model inside the context"
            )
        if not 0 <= sequence < len(last[layer].offsets) - 1:
            raise ValueError(
                f"watch: expected a sequence from 0 to {len(last[layer].offsets) - 2}, got {sequence}; count them in the batch"
            )
        return last[layer].weights(sequence)


@contextmanager
def watch(model: nn.Module) -> Iterator[Seen]:
    """Keeps what each attention call of the model saw while the context lasts; its outputs stay bit for bit the same.

    Raises: ValueError where the model has no self-attention.

    >>> from sightline.encoders import build
    >>> from sightline.sequences import Sequences
    >>> encoder = build("self-attention", vocabulary=9, width=8, layers=2, heads=4)
    >>> with watch(encoder) as seen:
    ...     encodings = encoder(Sequences(torch.tensor([1, 2, 3, 4]), [0, 3, 4]))
    >>> seen.weights(layer=1, sequence=0).shape
    torch.Size([4, 3, 3])
    """
    layers = sum(isinstance(module, SelfAttention) for module in model.modules())
    if layers == 0:
        raise ValueError(
            f"watch: expected a model with self-attention, got {type(model).__name__} without; its encoder has no weights to see"
        )
    seen = Seen(layers)

    def keep(request: Request, attended: Attended) -> None:
        q, k, _, offsets, key_offsets, pattern, scale, _, softcap, bias, _ = request
        bias = None if bias is None else bias.detach()
        kept = q.detach(), k.detach(), attended.lse.detach(), offsets, key_offsets, pattern, scale
        seen.calls.append(Call(*kept, softcap, bias))

    with watching(keep):
        yield seen
