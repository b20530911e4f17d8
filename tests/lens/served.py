"""Observations with real queries and keys, small enough that every weight can be checked against the dense ones."""

import torch

from sightline.encoders import build
from sightline.lens.page_queries import Answers
from sightline.models import Text, Unit
from sightline.observe import watch
from sightline.sequences import Sequences


def text(n: int, evil: str = "") -> Text:
    """So many pieces in words of one, two and three of them by turns; a line ends every ten words."""
    sizes = [1 + i % 3 for i in range(n)]
    word_of = [word for word, size in enumerate(sizes) for _ in range(size)][:n]
    count = word_of[-1] + 1
    words = [Unit("\n" * (i % 10 == 9) or " " * bool(i), f"w{i}{evil}") for i in range(count)]
    begins = [i for i in range(n) if i == 0 or word_of[i] != word_of[i - 1]]
    pieces = [Unit("", f"p{i}") for i in range(n)]
    for word, piece in enumerate(begins):
        pieces[piece] = Unit(words[word].space, f"p{piece}{evil}")
    return Text(pieces, words, word_of, [False] * n, [])


def answers(n: int, causal: bool = True, name: str = "made up", evil: str = "", heads: int = 3) -> Answers:
    """Of two layers whose heads look sharply."""
    torch.manual_seed(n)
    encoder = build("self-attention", vocabulary=40, width=4 * heads, layers=2, heads=heads, causal=causal).eval()
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.mul_(1.6 if parameter.dim() > 1 else 1)
        with watch(encoder, keep_map=True) as seen:
            encoder(Sequences(torch.randint(0, 40, (n,)), [0, n]))
    return Answers(seen, text(n, evil), name)


def dense(queries: Answers, view: str, rows: slice = slice(None)) -> torch.Tensor:
    """All weights of a view, or those of some queries, by their definition, in float64. Shapes: [n, n]."""
    layer, _, head = view.partition(".")
    call = queries.seen.layer(int(layer)).kept
    heads = [int(head)] if head else list(range(call.q.shape[1]))
    q, k = call.q[rows, heads].double(), call.k[:, call.groups[heads]].double()
    scores = torch.einsum("qhd,khd->hqk", q, k).mul_(call.scale)
    if call.pattern.right == 0:
        hidden = torch.arange(queries.n) > torch.arange(queries.n)[rows, None]
        scores.masked_fill_(hidden, -torch.inf)
    return scores.softmax(-1).mean(0)


def by_words(weights: torch.Tensor, word_of: list[int], rows: slice = slice(None)) -> torch.Tensor:
    """Summed over the pieces attended to, averaged over those attended from."""
    keys = torch.tensor(word_of)
    queries, count = keys[rows].unique(return_inverse=True, return_counts=True)[1:]
    summed = weights.new_zeros(len(weights), int(keys[-1]) + 1).index_add_(1, keys, weights)
    return weights.new_zeros(len(count), summed.shape[1]).index_add_(0, queries, summed) / count[:, None]
