"""The usual measures of heads: eager attention on padded batches, all weights of a layer, sentence by sentence.

The same measures as `sightline.head_roles`, written as one writes them once all weights of a sentence are at hand,
[heads of all layers, n, n]; nothing is looped over but sentences and offsets.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from sightline.head_roles.gold import Corpus, Document
from sightline.head_roles.totals import COUNTS, EDGES, HEADS, OVER, SINK, WIDE
from sightline.head_roles.windows import rarest_word, word_counts
from sightline.models.opening import OpenModel
from sightline.models.word_pieces import WordPieces

BATCH = 32


class Usual:
    """Sums [heads of all layers, ...] over a corpus, and the answers to its queries, bool [N, heads of all layers]."""

    def __init__(self, model, heads: int):
        self.model, self.heads = model, heads
        self.sums = {name: torch.zeros(heads, *axes, dtype=torch.float64) for name, (axes, _) in HEADS.items()}
        self.sums |= {name: torch.zeros(axes, dtype=torch.float64) for name, axes in COUNTS.items()}

    @torch.no_grad()
    def run(self, subject: OpenModel, corpus: Corpus) -> Usual:
        counts = word_counts(corpus)
        self.hits = torch.zeros(len(corpus), self.heads, dtype=torch.uint8)
        for start in range(0, len(corpus.documents), BATCH):
            documents = corpus.documents[start : start + BATCH]
            reads = subject.read_words(documents)
            lengths = [len(read.ids) for read in reads]
            ids = torch.zeros(len(reads), max(lengths), dtype=torch.int64)
            mask = torch.zeros_like(ids)
            for s, read in enumerate(reads):
                ids[s, : lengths[s]], mask[s, : lengths[s]] = torch.from_numpy(read.ids), 1
            maps = self.model(input_ids=ids, attention_mask=mask, output_attentions=True).attentions
            for s, (document, read, n) in enumerate(zip(documents, reads, lengths, strict=True)):
                weights = torch.stack([layer[s, :, :n, :n] for layer in maps]).flatten(0, 1)
                self.pieces(weights, document, read)
                words = self.words(weights, read, rarest_word(document, read, counts))
                self.questions(words, corpus, start + s)
        return self

    def pieces(self, weights: Tensor, document: Document, read: WordPieces) -> None:
        sums, n = self.sums, len(read.ids)
        ids, special, separator = map(torch.from_numpy, (read.ids, read.special, read.separator))
        punctuation = torch.zeros(n, dtype=torch.bool)
        punctuation[read.pieces[document.punctuation[read.word]]] = True
        is_query = ~special
        away = torch.arange(n) - torch.arange(n)[:, None]
        rows = weights[:, is_query]
        most, best = rows.max(-1)
        sums["queries"] += is_query.sum()
        sums["confidence"] += most.sum(-1)
        sums["entropy"] -= torch.special.xlogy(rows, rows).sum((1, 2))
        sums["first"] += rows[..., 0].sum(-1)
        sums["sink"] += (rows[..., 0] > SINK).sum(-1)
        for name, keys in (("special", special), ("separator", separator), ("punctuation", punctuation)):
            sums[name] += rows[..., keys].sum((1, 2))
        best = best - torch.arange(n)[is_query]
        for d in range(-WIDE, WIDE + 1):
            there = (away == d) & is_query[:, None]
            sums["offset_queries"][WIDE + d] += there.sum()
            sums["offset_weight"][:, WIDE + d] += weights[:, there].sum(-1)
            sums["offset_best"][:, WIDE + d] += (best == d).sum(-1)
        bins = torch.bucketize(away[is_query].abs(), EDGES, right=True) - 1
        sums["distances"].index_add_(1, bins.flatten(), rows.flatten(1).double())
        same = (ids[:, None] == ids) & (away < 0) & is_query[:, None]
        after = torch.zeros_like(same)
        after[:, 1:] = same[:, :-1]
        after &= away < 0
        for name, over, pairs in (("duplicate", "duplicates", same), ("induction", "inductions", after)):
            sums[over] += pairs.any(1).sum()
            sums[name] += weights[:, pairs].sum(-1)

    def words(self, weights: Tensor, read: WordPieces, rare: int) -> Tensor:
        """[heads, words, words]"""
        sums, count = self.sums, torch.from_numpy(np.diff(read.offsets))
        to = torch.zeros(len(read.ids), read.words)
        to[read.pieces, read.word] = 1
        words = (to / count.clamp_min(1)).T @ weights @ to
        has = count > 0
        away = torch.arange(read.words) - torch.arange(read.words)[:, None]
        best = words.argmax(-1) - torch.arange(read.words)
        sums["word_queries"] += has.sum()
        for d in range(-WIDE, WIDE + 1):
            there = (away == d) & has & has[:, None]
            sums["word_offset_queries"][WIDE + d] += there.sum()
            sums["word_offset_weight"][:, WIDE + d] += words[:, there].sum(-1)
            sums["word_offset_best"][:, WIDE + d] += ((best == d) & has).sum(-1)
        if rare >= 0:
            others = has & (torch.arange(read.words) != rare)
            sums["rare_queries"] += others.sum()
            sums["rare"] += words[:, others, rare].sum(-1)
        return words

    def questions(self, words: Tensor, corpus: Corpus, number: int) -> None:
        first, past = np.searchsorted(corpus.document, (number, number + 1)).tolist()
        best = words.argmax(-1)[:, corpus.query[first:past]]
        keys = slice(int(corpus.offsets[first]), int(corpus.offsets[past]))
        hits = best[:, corpus.question_of_key[keys] - first] == torch.from_numpy(corpus.keys[keys])
        self.hits.index_put_((torch.from_numpy(corpus.question_of_key[keys]),), hits.T.byte(), accumulate=True)

    def measures(self) -> dict[str, Tensor]:
        """Means over what was asked, but for distances."""
        means = {}
        for name, (axes, _) in HEADS.items():
            over = OVER.get(name, "queries")
            if axes and name != "distances":
                over = "word_offset_queries" if name.startswith("word") else "offset_queries"
            means[name] = self.sums[name] / self.sums[over]
        return means
