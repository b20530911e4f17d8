"""The definition of each head's sums over a layer; special tokens are keys, but no queries.

by query and key  `observe.statistics` of the layer: entropy, largest weight, first token, mass received
by piece          weights [S, H, rows, n]: distances, offsets, earlier pieces of the same id
by word           weights [S, W, H, words], summed over the pieces of a key, averaged over those of a query: answers

`kernels/head_sums.c` computes the same several times faster, for float32 on a CPU with a compiler.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

from sightline.head_roles.runs import Runs, Strip
from sightline.head_roles.totals import EDGES, MASSES, SINK, WIDE, by_distance, tally
from sightline.observe.calls import Call, Piece
from sightline.observe.statistics import Statistics, statistics


def add_sums(call: Call, runs: Runs, sums: dict[str, Tensor], answers: Tensor) -> None:
    """Adds the weights of a layer to its sums [H, ...]; sets in answers [questions, H] which heads are right."""
    call = replace(call, lse=call.lse.masked_fill(~runs.is_query[:, None], -torch.inf))
    _by_query_and_key(statistics(call, 1), runs, sums)
    for run in runs.runs:
        piece = Piece(call, run.first, run.count, run.row, run.row, run.n, run.n, slice(0, runs.heads))
        for strip in run.strips():
            weights = piece.logs(strip.start, strip.stop, 0, run.n).exp().unflatten(0, (run.count, runs.heads))
            _by_piece(weights, strip, sums)
            if len(strip.words):
                _by_word(weights.permute(0, 3, 1, 2).contiguous(), strip, sums, answers)


def _by_query_and_key(layer: Statistics, runs: Runs, sums: dict[str, Tensor]) -> None:
    largest, key = layer.weights[..., 0], layer.keys[..., 0]
    sums["entropy"] += layer.entropy.sum(0, dtype=torch.float64)
    sums["confidence"] += largest.sum(0, dtype=torch.float64)
    sums["sink"] += (layer.first > SINK).sum(0)
    sums["offset_best"] += tally((key - runs.place[:, None]).T[None], (largest > 0).T[None])
    for name, mass in zip(MASSES, runs.marked.T.double() @ layer.received.double(), strict=True):
        sums[name] += mass


def _by_piece(weights: Tensor, strip: Strip, sums: dict[str, Tensor]) -> None:
    for name, (s, row, key) in (("duplicate", strip.same), ("induction", strip.after_same)):
        sums[name] += weights[s, :, row, key].sum(0, dtype=torch.float64)
    diagonals, distance, near = _by_distance(weights.sum(0), strip.start)
    sums["offset_weight"][:, distance[near] + WIDE] += diagonals[:, near]
    bins = torch.bucketize(distance.abs(), EDGES.to(distance.device), right=True) - 1
    sums["distances"].index_add_(1, bins, diagonals)


def _by_word(by_key: Tensor, strip: Strip, sums: dict[str, Tensor], answers: Tensor) -> None:
    run, (count, n, heads, rows) = strip.run, by_key.shape
    pieces, bags = run.bags
    summed = embedding_bag(pieces, by_key.view(count * n, -1), bags, mode="sum")
    summed = summed.view(count, run.most_words * heads, rows)
    words = torch.bmm(summed, strip.averaged.to(summed.dtype)).view(count, run.most_words, heads, -1)
    largest, best = words.max(1)  # [S, H, words]
    has_weight = strip.has[:, None] & (largest > 0)
    sums["word_offset_best"] += tally(best - strip.words, has_weight)
    diagonals, distance, near = _by_distance(words.sum(0).permute(1, 2, 0), strip.bounds[0])
    sums["word_offset_weight"][:, distance[near] + WIDE] += diagonals[:, near]
    rarest = words[torch.arange(count), run.rarest.clamp_min(0)]  # [S, H, words]
    sums["rare"] += (rarest * strip.beside_rarest[:, None]).sum((0, 2), dtype=torch.float64)
    _answer(words, best.masked_fill(~has_weight, -1), strip, answers)


def _answer(words: Tensor, best: Tensor, strip: Strip, answers: Tensor) -> None:
    """Notes where a head is right: its word with the largest weight is a right one, of all or of the candidates.

    Shapes: words [S, keys, H, words]; best [S, H, words], -1 where there is none.
    """
    (row, limited), (question, s, query, word, right) = strip.questions
    scores = (best[s, :, query] == word[:, None]).to(words.dtype)
    scores = torch.where(limited[question, None] > 0, words[s, word, :, query], scores)  # [candidates, H]
    index = question[:, None].expand_as(scores)
    largest = scores.new_zeros(len(row), scores.shape[1]).scatter_reduce_(0, index, scores, "amax")
    place = torch.arange(len(scores), device=index.device)[:, None]
    place = torch.where(scores == largest[question], place, len(scores))
    first = place.new_full(largest.shape, len(scores)).scatter_reduce_(0, index, place, "amin")
    right = torch.cat([right, right.new_zeros(1)])[first] > 0
    answers[row] = (right & (largest > 0)).to(answers.dtype)


def _by_distance(weights: Tensor, start: int) -> tuple[Tensor, Tensor, Tensor]:
    """Sums of weights [H, rows, keys] by distance, the distances, key less query, and which are among the offsets."""
    distance = torch.arange(1 - weights.shape[1], weights.shape[2], device=weights.device) - start
    return by_distance(weights), distance, distance.abs() <= WIDE
