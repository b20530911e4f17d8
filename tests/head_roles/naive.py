"""Sums and answers of a pass over a corpus by loops over pairs of pieces, in float64; toy models whose tokenizers do
everything."""

import numpy as np
import torch

from sightline.attention import watching
from sightline.attention.reference import scores_of
from sightline.encoders import build
from sightline.head_roles.gold import Document, Relation, build_corpus
from sightline.head_roles.totals import COUNTS, EDGES, HEADS, SINK, WIDE
from sightline.models.opening import OpenModel
from sightline.models.word_pieces import WordPieces
from sightline.sequences import Sequences

VOCABULARY = 23
SPECIAL = 20  # ids from here on


def encoder(layers=2, heads=3, **options):
    """One of ours, with weights so large that heads differ."""
    torch.manual_seed(3)
    model = build("self-attention", vocabulary=VOCABULARY, width=8 * heads, layers=layers, heads=heads, **options)
    for weight in model.parameters():
        if weight.dim() > 1:
            torch.nn.init.normal_(weight, std=0.5)
    return model.eval()


def subject(reads, model=None, longest=None, run=None):
    """A subject that reads the document named i as reads[i]."""
    model = encoder() if model is None else model

    def read_words(documents):
        return [reads[int(document.name)] for document in documents]

    return OpenModel(
        "toy", model, model, run or (lambda model, ids: model(ids)), None, read_words,
        longest=longest, ordinary=np.arange(SPECIAL), before=(SPECIAL,), after=(SPECIAL + 1,),
    )  # fmt: skip


def drawn(lengths, seed=0):
    """Random documents of so many words, and their pieces: words of several, of none, and some that share one."""
    rng = np.random.default_rng(seed)
    documents, reads, pairs = [], [], []
    for number, words in enumerate(lengths):
        count = rng.choice([0, 1, 1, 1, 2, 3], words)
        word = np.repeat(np.arange(words), count)
        piece = np.arange(len(word))
        for i in range(1, len(word)):  # the piece of the word before, now and then
            if word[i] != word[i - 1] and rng.random() < 0.15:
                piece[i:] -= 1
        ids = rng.integers(0, SPECIAL - 3, int(piece.max(initial=-1)) + 1)
        around = (rng.random(2) < 0.8).astype(int).tolist()
        ids = np.array([SPECIAL] * around[0] + ids.tolist() + [SPECIAL + 1] * around[1], np.int64)
        special = ids >= SPECIAL
        reads.append(WordPieces.from_pairs(ids, special, ids == SPECIAL + 1, word, piece + around[0], words))
        text = tuple(rng.choice(["a", "b", "c", "d", ",", "--"], words, p=[0.3, 0.1, 0.2, 0.2, 0.15, 0.05]).tolist())
        mentions = np.flatnonzero(rng.random(words) < 0.5)
        documents.append(Document(str(number), text, ("",) * words, mentions, source=number))
        pairs += [(number, rng.integers(2), *rng.integers(words, size=2)) for _ in range(2 * words)]
    return build_corpus(documents, [Relation("plain"), Relation("coref:x", mentions=True)], pairs), reads


def weights_of(subject, ids):
    """[L, H, n, n] in float64, from the arguments of each call of attention."""
    weights = []

    def look(request, _):
        q, k = request.q.double(), request.k.double()
        k = k.repeat_interleave(q.shape[1] // k.shape[1], 1)
        bias = None if request.bias is None else request.bias[0].double()
        weights.append(scores_of(q, k, request.pattern, request.scale, request.softcap, bias).softmax(-1))

    with torch.no_grad(), watching(look):
        subject.encode(Sequences(torch.as_tensor(ids), [0, len(ids)]))
    return torch.stack(weights).numpy()


def measured(subject, corpus, reads):
    """(sums by name, answers) by loops."""
    words = [word for document in corpus.documents for word in document.words]
    counts = {word: words.count(word) for word in words}
    sums, answers = None, []
    for number, read in enumerate(reads):
        n, questions = len(read.ids), np.flatnonzero(corpus.document == number)
        weights = weights_of(subject, read.ids) if n else None
        if n and sums is None:
            layers, heads = weights.shape[:2]
            sums = {name: np.zeros((layers, heads, *axes)) for name, (axes, _) in HEADS.items()}
            sums |= {name: np.zeros(axes) for name, axes in COUNTS.items()}
        if n:
            _pieces(sums, weights, read, corpus.documents[number])
            weight = _words(weights, read)
            _offsets_by_word(sums, weight, read, corpus.documents[number], counts)
        for question in questions.tolist():
            keys = corpus.keys[corpus.offsets[question] : corpus.offsets[question + 1]].tolist()
            query, among = int(corpus.query[question]), range(read.words)
            if corpus.among_mentions[question]:
                among = [m for m in corpus.documents[number].mentions.tolist() if m < query]
            right = np.zeros((2, 3) if sums is None else sums["first"].shape, bool)
            for layer, head in np.ndindex(*right.shape) if n and bag(read, query) else ():
                row = weight[layer, head, query]
                best = max(among, key=lambda w: (row[w], -w), default=None)
                right[layer, head] = best in keys and row[best] > 0
            answers.append(right)
    return sums, np.array(answers)


def bag(read, word):
    return read.pieces[read.offsets[word] : read.offsets[word + 1]].tolist()


def _pieces(sums, weights, read, document):
    n, ids, special, edges = len(read.ids), read.ids.tolist(), read.special, EDGES.tolist()
    punctuation = {p for w in range(read.words) if document.punctuation[w] for p in bag(read, w)}
    for i in range(n):
        if special[i]:
            continue
        sums["queries"] += 1
        earlier = [j for j in range(i) if ids[j] == ids[i]]
        after = [j + 1 for j in earlier if j + 1 < i]
        sums["duplicates"] += bool(earlier)
        sums["inductions"] += bool(after)
        for d in range(-WIDE, WIDE + 1):
            sums["offset_queries"][WIDE + d] += 0 <= i + d < n
        row = weights[:, :, i]  # [L, H, n]
        sums["first"] += row[..., 0]
        sums["sink"] += row[..., 0] > SINK
        sums["entropy"] -= np.where(row > 0, row * np.log(np.where(row > 0, row, 1)), 0).sum(-1)
        sums["confidence"] += row.max(-1)
        sums["duplicate"] += row[..., earlier].sum(-1)
        sums["induction"] += row[..., after].sum(-1)
        for j in range(n):
            sums["special"] += row[..., j] * special[j]
            sums["separator"] += row[..., j] * read.separator[j]
            sums["punctuation"] += row[..., j] * (j in punctuation)
            place = max(e for e, edge in enumerate(edges) if edge <= abs(i - j))
            sums["distances"][..., place] += row[..., j]
            if abs(j - i) <= WIDE:
                sums["offset_weight"][..., WIDE + j - i] += row[..., j]
                sums["offset_best"][..., WIDE + j - i] += row.argmax(-1) == j


def _words(weights, read):
    """[L, H, W, W]: summed over the pieces looked at, averaged over those that look; 0 from a word without pieces."""
    by_word = np.zeros((*weights.shape[:2], read.words, read.words))
    for a in range(read.words):
        for b in range(read.words):
            for i in bag(read, a):
                for j in bag(read, b):
                    by_word[..., a, b] += weights[..., i, j] / len(bag(read, a))
    return by_word


def _offsets_by_word(sums, words, read, document, counts):
    rarity = {w: counts[document.words[w]] for w in range(read.words) if bag(read, w)}
    rare = min(rarity, key=lambda w: (rarity[w], w)) if rarity else None
    for a in rarity:
        sums["word_queries"] += 1
        if a != rare:
            sums["rare_queries"] += 1
            sums["rare"] += words[..., a, rare]
        for d in range(-WIDE, WIDE + 1):
            if a + d in rarity:
                sums["word_offset_queries"][WIDE + d] += 1
                sums["word_offset_weight"][..., WIDE + d] += words[..., a, a + d]
                sums["word_offset_best"][..., WIDE + d] += words[..., a, :].argmax(-1) == a + d
