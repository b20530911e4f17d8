"""Influence: how far an input changes an output, in any model that has gradients, with or without attention weights.

J_ij is the derivative of output row i by input row j, a matrix; the influence of j on i is its squared Frobenius norm,
|J_ij|^2. Exactly, that takes a backward pass for each number of each row. But for a row u of random signs

    E |u^T J_ij|^2 = E u^T (J_ij J_ij^T) u = trace(J_ij J_ij^T) = |J_ij|^2

so one backward pass, which computes u^T J, estimates it for output row i and all inputs at once. A profile by distance
sums over many rows, each with its own signs, and the errors cancel. With the unit vectors in place of u it is exact.

Source: Hutchinson 1990 (trace A = E u^T A u, and of all u with independent numbers, signs vary least), A = J_ij J_ij^T.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

import torch
from torch import Tensor, nn

from sightline import encoders
from sightline.batching import sorted_batches
from sightline.observe.embeddings import Differentiable, as_sequences, differentiable, encoder_of, is_huggingface
from sightline.sequences import Sequences

TOKENS = 4096  # most rows in one graph
ASIDE = 512  # most rows of copies of one sequence in one graph
QUARTERS = 4


@dataclass(frozen=True, eq=False, repr=False)
class Profile:
    """Influence by signed distance j - i of input row j from output row i: below 0 lies what came before.

    Shapes: all [2 N - 1] on the CPU for a longest sequence of N rows. `distance` int64; `total` float64, the influence
    of all pairs at that distance; `pairs` int64, their number.
    Units: tokens; total in squares of (output per input), comparable between models as a share only.

    >>> Profile(torch.tensor([-1, 0, 1]), torch.tensor([3.0, 6.0, 1.0]), torch.tensor([1, 2, 1]))
    Profile(distances -1 to 1; 50% within 0, 90% within 1, 99% within 1)
    """

    distance: Tensor
    total: Tensor
    pairs: Tensor

    @cached_property
    def share(self) -> Tensor:
        """The share of all influence at each distance; sums to 1, or to 0 where there is none."""
        whole = self.total.sum()
        return self.total / whole if whole > 0 else self.total

    @cached_property
    def mean(self) -> Tensor:
        """The average influence of a pair at each distance; 0 where there is no pair."""
        return self.total / self.pairs.clamp(min=1)

    def within(self, share: float) -> int | None:
        """The least distance to either side within which this share of the influence lies; None where there is none.

        Raises: ValueError for a share that is not above 0 and at most 1.
        """
        if not 0 < share <= 1:
            raise ValueError(f"influence: expected a share above 0, up to 1, got {share}; half is 0.5")
        whole = float(self.total.sum())
        if not whole > 0:
            return None
        by_side = self.total.new_zeros(len(self.distance)).index_add(0, self.distance.abs(), self.total)
        beyond = by_side.flip(0).cumsum(0).flip(0)[1:]  # exactly 0 past the last that has any
        return int((beyond > (1 - share) * whole * (1 + 1e-12)).sum())  # 1 - 0.9 is rounded

    d50 = property(lambda self: self.within(0.5))
    d90 = property(lambda self: self.within(0.9))
    d99 = property(lambda self: self.within(0.99))

    def __repr__(self) -> str:
        first, last = self.distance[[0, -1]].tolist()
        return (
            f"Profile(distances {first} to {last}; 50% within {self.d50}, 90% within {self.d90}, 99% within {self.d99})"
        )


@dataclass(frozen=True)
class Influence:
    """The `profile` of all output rows, and the four `quarters` of which it is the sum.

    A row near the start has nothing far before it, and one near the end nothing after: compare rows in the same quarter
    of their sequence. `sampled` of the `rows` output rows were measured and stand for all.
    """

    profile: Profile
    quarters: tuple[Profile, Profile, Profile, Profile]
    sampled: int
    rows: int


@torch.inference_mode(False)
@torch.enable_grad()
def influence(
    model: nn.Module, sequences: Sequences | Iterable, *, rows: int | None = 64, probes: int | None = 1, seed: int = 0
) -> Influence:
    """How much inputs at each distance change an output row, over all sequences; the model itself does not change.

    `model` is one of our encoders, a model that holds one, or any Hugging Face model that takes `inputs_embeds` (its
    base; the encoder, where there are two). For token ids the input is the row of the embedding table; for vectors, the
    vector.

    `rows` output rows of each sequence are measured, one drawn from each of as many equal stretches, for which it
    stands (None: all), each with `probes` rows of signs (None: with all unit vectors). With None for both, the result
    is exact, at n E backward passes for n rows of width E. One row of signs has a relative standard error of at most
    1.4 for a pair (sqrt(2 / probes)), which a profile over many rows averages out.

    Compare with `influence(untrained(model), sequences)` to see what training changed.

    Shapes: token ids, one list or tensor [n] for each sequence, or vectors [n, F]; or `Sequences` of them.
    Raises: TypeError or ValueError for a model or sequences that cannot be used, with the reason.

    >>> from sightline.encoders import build
    >>> encoder = build("convolution", vocabulary=9, width=8, layers=2, kernel=3)
    >>> profile = influence(encoder, [[1, 2, 3, 4, 5, 6, 7], [8, 1]], rows=None, probes=None).profile
    >>> profile.distance[profile.total > 0]  # two layers, one row to each side in each
    tensor([-2, -1,  0,  1,  2])
    >>> influence(untrained(encoder), [[1, 2, 3, 4, 5]]).profile.within(1.0)
    2
    """
    for name, number in (("rows", rows), ("probes", probes)):
        if number is not None and number < 1:
            raise ValueError(f"influence: expected {name} of at least 1, got {number}; None takes all")
    inputs, generator = as_sequences(sequences), torch.Generator().manual_seed(seed)
    longest = max([1, *inputs.lengths.tolist()])
    rows = longest if rows is None else rows
    distance = torch.arange(1 - longest, longest)
    totals = torch.zeros(QUARTERS, len(distance), dtype=torch.float64)
    run = differentiable(model)
    for batch in sorted_batches(inputs.lengths.tolist(), TOKENS):
        if int(inputs.lengths[batch].sum()):
            _add_batch(totals, run, inputs[batch], rows, probes, generator)
    pairs = _pairs(inputs.lengths, distance)
    one, two, three, four = (Profile(distance, *parts) for parts in zip(totals, pairs, strict=True))
    whole = Profile(distance, totals.sum(0), pairs.sum(0))
    return Influence(whole, (one, two, three, four), int(inputs.lengths.clamp(max=rows).sum()), len(inputs.values))


@torch.inference_mode(False)
@torch.enable_grad()
def influence_on(
    model: nn.Module, sequence, row: int | Sequence[int], *, probes: int | None = None, seed: int = 0
) -> Tensor:
    """The influence of each input row on one output row of a sequence, or on several; exact, unless `probes` is given.

    Shapes: token ids [n] or vectors [n, F] -> float64 on the CPU: [n], or for R rows [R, n]. Negative rows count from
    the end.
    Units: squares of (output per input).
    Raises: as `influence`; ValueError for a row that the sequence does not have.

    >>> from sightline.encoders import build
    >>> encoder = build("lstm", vocabulary=9, width=8, layers=1, causal=True)
    >>> influence_on(encoder, [1, 2, 3, 4, 5], row=2) > 0
    tensor([ True,  True,  True, False, False])
    >>> influence_on(encoder, [1, 2, 3, 4, 5], row=range(5)).shape
    torch.Size([5, 5])
    """
    if probes is not None and probes < 1:
        raise ValueError(f"influence_on: expected probes of at least 1, got {probes}; None is exact")
    inputs, generator = as_sequences([sequence]), torch.Generator().manual_seed(seed)
    n, several = len(inputs.values), isinstance(row, Sequence)
    rows = list(row) if isinstance(row, Sequence) else [row]
    for one in rows:
        if not -n <= one < n:
            raise ValueError(f"influence_on: expected a row of the sequence's {n}, got {one}; count from 0")
    if not rows:
        return torch.zeros(0, n, dtype=torch.float64)
    side = max(1, min(len(rows), ASIDE // n))  # copies of the sequence, each for one of the rows at a time
    copies = torch.arange(n).repeat(side)
    entered, outputs = differentiable(model)(Sequences(inputs.values[copies], [n * i for i in range(side + 1)]))
    strengths = []
    for some in (torch.tensor(rows) % n).split(side):
        strength = _strength(entered, outputs, torch.arange(len(some)) * n + some, probes, generator)
        strengths.append(strength.unflatten(0, (side, n))[: len(some)])
    return torch.cat(strengths) if several else strengths[0][0]


def untrained(model: nn.Module, seed: int = 0) -> nn.Module:
    """An untrained copy of the model: same build, dtype and device, new random weights.

    For a model that holds an encoder, the copy is of the encoder. Neither the model nor torch's random state changes.
    Raises: TypeError for what `influence` does not take; ValueError for a module that has weights and no
    `reset_parameters`.

    >>> from sightline.encoders import build
    >>> encoder = build("rnn", vocabulary=9, width=8)
    >>> control = untrained(encoder)
    >>> bool((control.embedding.table.weight == encoder.embedding.table.weight).any())
    False
    """
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        torch.default_generator.manual_seed(seed)
        if is_huggingface(model):
            source = cast(Any, model)
            kind = {"dtype": source.dtype, "attn_implementation": source.config._attn_implementation}
            new = type(source)._from_config(copy.deepcopy(source.config), **kind)
            return new.to(source.device).train(source.training)
        encoder = encoder_of(model)
        new = copy.deepcopy(encoder).cpu()
        new.zero_grad(set_to_none=True)
        _draw(new)
        return new.to(next(encoder.parameters()).device)


def _stratified(lengths: Tensor, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """(rows, number that each stands for), [S, count]: one from each of `count` stretches, as equal as possible.

    A sequence of fewer rows gives all of them, and then rows that stand for none.
    """
    number, most, n = torch.arange(count), lengths.clamp(max=count)[:, None], lengths[:, None]
    first, end = (k.minimum(most) * n // most.clamp(min=1) for k in (number, number + 1))
    within = (torch.rand(first.shape, generator=generator, dtype=torch.float64) * (end - first)).long()
    return first + within.minimum(end - first - 1).clamp(min=0), end - first


def _add_batch(totals: Tensor, run: Differentiable, x: Sequences, rows: int, probes, generator) -> None:
    """Adds one batch to the totals [QUARTERS, 2 N - 1], in turns of one row of each sequence that has more."""
    chosen = _stratified(x.lengths, min(rows, int(x.lengths.max())), generator)
    entered, outputs = run(x)
    of, place = x.sequence_ids.cpu(), x.positions.cpu()
    for row, weight in zip(*(t.unbind(1) for t in chosen), strict=True):
        strength = _strength(entered, outputs, (x.offsets[:-1] + row)[weight > 0], probes, generator)
        quarter = (torch.arange(1, QUARTERS) * x.lengths[:, None] // QUARTERS <= row[:, None]).sum(1)
        index = quarter[of] * totals.shape[1] + totals.shape[1] // 2 + place - row[of]
        totals.view(-1).index_add_(0, index, weight[of] * strength)


def _strength(entered: Tensor, outputs: Tensor, rows: Tensor, probes: int | None, generator) -> Tensor:
    """|J_ij|^2 for output rows i of `rows`, one in each sequence, and all its input rows j: float64 [T]."""
    if not outputs.requires_grad:
        raise ValueError("influence: expected outputs with a gradient, got none; use another model")
    width = outputs.shape[1]
    strength = torch.zeros(len(entered), dtype=torch.float64)
    for probe in range(width if probes is None else probes):
        if probes is None:
            u = torch.zeros(len(rows), width).index_fill(1, torch.tensor(probe), 1)
        else:
            u = torch.randint(2, (len(rows), width), generator=generator) * 2.0 - 1
        cotangent = torch.zeros_like(outputs).index_copy(0, rows.to(outputs.device), u.to(outputs))
        (grad,) = torch.autograd.grad(outputs, entered, cotangent, retain_graph=True, materialize_grads=True)
        wide = grad.to(torch.promote_types(grad.dtype, torch.float32))
        strength += wide.square().flatten(1).sum(1).cpu()
    if not bool(strength.isfinite().all()):
        raise ValueError("influence: expected finite gradients, got NaN or infinity; load the weights again")
    return strength if probes is None else strength / probes


def _pairs(lengths: Tensor, distance: Tensor) -> Tensor:
    """The number of pairs at each distance, by the quarter of the output row: int64 [QUARTERS, 2 N - 1]."""
    pairs = torch.zeros(QUARTERS, len(distance), dtype=torch.int64)
    for n, count in zip(*(t.tolist() for t in lengths.unique(return_counts=True)), strict=True):
        bounds = torch.arange(QUARTERS + 1)[:, None] * n // QUARTERS
        first, end = bounds[:-1].maximum(-distance), bounds[1:].minimum(n - distance)  # 0 <= i + distance < n
        pairs += count * (end - first).clamp(min=0)
    return pairs


def _draw(module: nn.Module) -> None:
    """Draws all weights under a module as when it was built."""
    for name, child in module.named_children():
        if isinstance(child, encoders.Mixer) and (new := _new_mixer(child)) is not None:
            setattr(module, name, new.to(next(child.parameters()).dtype).train(child.training))
        else:
            _draw(child)
    if next(module.parameters(recurse=False), None) is not None:
        reset = getattr(module, "reset_parameters", None)
        if reset is None:
            raise ValueError(
                f"untrained: expected modules whose weights can be drawn again, got {type(module).__name__}; "
                "give it a reset_parameters()"
            )
        reset()


def _new_mixer(mixer: encoders.Mixer) -> encoders.Mixer | None:
    """A new mixer of the same build; None for one that is not ours."""
    match mixer:
        case encoders.SelfAttention(heads=heads, key_heads=key_heads, causal=causal, head_width=width):
            rotary = min(1.0, (mixer.rotary_width + 0.5) / width)  # half more, since it is rounded down
            return encoders.SelfAttention(heads * width, heads, key_heads, causal, mixer.pattern.left, rotary)
        case encoders.Recurrent(causal=causal, directions=cells):
            cell = "lstm" if isinstance(cells[0], nn.LSTM) else "rnn"
            return encoders.Recurrent(cells[0].hidden_size * len(cells), cell, causal)
        case encoders.Convolution(causal=causal, shifts=shifts):
            dilation = shifts[1] - shifts[0] if len(shifts) > 1 else 1
            return encoders.Convolution(mixer.weight.shape[1], len(shifts), dilation, causal)
        case encoders.FullyConnected(width=width, largest=largest, rank=rank, heads=heads, causal=causal):
            return encoders.FullyConnected(width, largest, rank, heads, causal)
    return None
