"""What the weights of one layer say of each head, added to its sums; what special tokens look at is left out.

weights by piece   [S, H, rows, n]   offsets, distances, masses, entropy, what stands twice
weights by word    [S, W, H, words]  summed over the pieces looked at, averaged over those that look: offsets, questions
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

from sightline.head_roles.layout import Part, Run
from sightline.head_roles.totals import EDGES, SINK, WIDE, Sums, by_distance, by_head, tally
from sightline.observe.calls import Call, Piece

MASSES = ("first", "special", "separator", "punctuation")  # as `Run.marks` has them
UNASKED = 1e30  # for lse: all weights of such a query are 0, and so are their logarithms times them


def look(call: Call, runs: list[Run], layer: int, sums: Sums, answers: Tensor) -> None:
    """Reads the weights of a layer in a pack of runs; answers [questions, H] say what its heads found."""
    heads = call.q.shape[1]
    asked = torch.cat([run.query.flatten() for run in runs])
    call = replace(call, lse=call.lse.masked_fill(~asked[:, None], UNASKED))
    for run in runs:
        if run.n == 0:
            continue
        place = run.first, run.count, run.row, run.row, run.n, run.n
        piece = Piece(call, *place, slice(0, heads))
        for part in run.parts(heads):
            if layer == 0:
                part.count(sums)
            _look(piece, part, layer, sums, answers)


def _look(piece: Piece, part: Part, layer: int, sums: Sums, answers: Tensor) -> None:
    run, heads = part.run, piece.call.q.shape[1]
    logs = piece.logs(part.start, part.stop, 0, run.n)
    flat = logs.exp()
    sums["entropy"][layer] -= by_head(logs.mul_(flat).sum(-1), heads)
    weights = flat.view(run.count, heads, *flat.shape[1:])
    by_key = weights.permute(0, 3, 1, 2).contiguous()
    _places(weights, by_key, part, layer, sums)
    for name, (s, row, key) in (("duplicate", part.same), ("induction", part.after_same)):
        sums[name][layer] += weights[s, :, row, key].sum(0, dtype=torch.float64)
    if len(part.words):
        _words(by_key, part, layer, sums, answers)


def _places(weights: Tensor, by_key: Tensor, part: Part, layer: int, sums: Sums) -> None:
    most, best = by_key.max(1)
    sums["confidence"][layer] += most.sum((0, 2), dtype=torch.float64)
    asked = part.query[:, None] & (most > 0)
    sums["offset_best"][layer] += tally(best - part.rows, asked)
    sums["sink"][layer] += (weights[..., 0] > SINK).sum((0, 2))
    masses = torch.bmm(weights.sum(2), part.run.marks.to(weights.dtype)).sum(0, dtype=torch.float64)
    for name, mass in zip(MASSES, masses.T, strict=True):
        sums[name][layer] += mass
    diagonals, distance, near = _by_distance(weights.sum(0), part.start)
    sums["offset_weight"][layer][:, distance[near] + WIDE] += diagonals[:, near]
    bins = torch.bucketize(distance.abs(), EDGES.to(distance.device), right=True) - 1
    sums["distances"][layer].index_add_(1, bins, diagonals)


def _words(by_key: Tensor, part: Part, layer: int, sums: Sums, answers: Tensor) -> None:
    run, (count, n, heads, rows) = part.run, by_key.shape
    pieces, bags = run.bags
    summed = embedding_bag(pieces, by_key.view(count * n, -1), bags, mode="sum")
    summed = summed.view(count, run.most_words * heads, rows)
    words = torch.bmm(summed, part.averaged.to(summed.dtype)).view(count, run.most_words, heads, -1)
    most, best = words.max(1)  # [S, H, words]
    asked = part.has[:, None] & (most > 0)
    sums["word_offset_best"][layer] += tally(best - part.words, asked)
    diagonals, distance, near = _by_distance(words.sum(0).permute(1, 2, 0), int(part.words[0]))
    sums["word_offset_weight"][layer][:, distance[near] + WIDE] += diagonals[:, near]
    rare = words[torch.arange(count), run.rare.clamp_min(0)]  # [S, H, words]
    sums["rare"][layer] += (rare * part.beside_rare[:, None]).sum((0, 2), dtype=torch.float64)
    part.questions.answer(words, best.masked_fill(~asked, -1), answers)


def _by_distance(t: Tensor, start: int) -> tuple[Tensor, Tensor, Tensor]:
    """Sums of t [H, rows, keys] by distance, the distances, key less query, and which of them are among the offsets."""
    distance = torch.arange(1 - t.shape[1], t.shape[2], device=t.device) - start
    return by_distance(t), distance, distance.abs() <= WIDE
