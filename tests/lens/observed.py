"""Made-up observations with known weights, so that the page of a look is tested without a model."""

from types import SimpleNamespace

import torch

from sightline.models import Text, Unit, cut

SENTENCE = "The Law is unbelievable, but its use is its own."
SPANS = [(0, 3), (4, 7), (8, 10), (11, 13), (13, 20), (20, 23), (23, 24), (25, 28), (29, 32), (33, 36), (37, 39)]
SPANS += [(40, 43), (44, 47), (47, 48)]


def text(sentence: str = SENTENCE, spans=SPANS) -> Text:
    """The sentence between [CLS] and [SEP]; `un believ able` are the pieces of one word."""
    spans = [(0, 0), *spans, (0, 0)]
    tokens = ["[CLS]", *(sentence[a:b] for a, b in spans[1:-1]), "[SEP]"]
    return cut(sentence, spans, tokens, [True] + [False] * (len(spans) - 2) + [True])


def long(times: int = 6) -> Text:
    """The sentence so many times."""
    step = len(SENTENCE) + 1
    spans = [(a + i * step, b + i * step) for i in range(times) for a, b in SPANS]
    return text(" ".join([SENTENCE] * times), spans)


def plain(count: int) -> Text:
    """So many words, all different, nothing special."""
    words = [Unit(" " * bool(i), f"w{i}") for i in range(count)]
    return Text(words, words, list(range(count)), [False] * count, [])


def weights(layers: int, heads: int, n: int, sharp: float = 3.0) -> torch.Tensor:
    """Rows that sum to one. Shapes: [layers, heads, n, n]."""
    random = torch.Generator().manual_seed(0)
    return (sharp * torch.randn(layers, heads, n, n, generator=random)).softmax(-1)


def seen(inputs: torch.Tensor):
    """What `watch` leaves, of one sequence, with the weights given."""

    def layer(number: int):
        w = inputs[number]
        place = torch.arange(w.shape[-1])
        return SimpleNamespace(
            weights=lambda sequence: w,
            entropy=torch.special.entr(w).sum(-1).T,
            distance=(w * (place - place[:, None]).abs()).sum(-1).T,
            first=w[:, :, 0].T,
        )

    return SimpleNamespace(layers=len(inputs), layer=layer)
