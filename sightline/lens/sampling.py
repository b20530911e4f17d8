"""All heads of a long text at a glance, from queries that are spread over it: numbers, distances and small pictures, layer by layer."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator

import torch
from torch import Tensor

from sightline.lens.distance import bins
from sightline.lens.inline import SIZE, as_bytes
from sightline.lens.views import View, spread
from sightline.models import Text
from sightline.observe import Layer


class Sample:
    """Means over the sampled queries, of each layer as it is added; a text of some thousands of pieces is sampled whole."""

    def __init__(self, text: Text, layers: int, heads: int):
        n = len(text.pieces)
        self.n, self.rows, self.layers, self.heads = n, spread(n), layers, heads
        self.special, self.gold = torch.tensor(text.special), text.gold
        self.bins = bins(n)
        self.size = min(n, SIZE)
        self.thumbnails = torch.zeros(layers + layers * heads, self.size, self.size, dtype=torch.uint8)
        self.known: list[dict] = []  # of each layer that is known
        self._lock = threading.Lock()

    def add(self, layer: Layer) -> Iterator[None]:
        """Measures the next layer, pausing after each head."""
        heads, mean = [], torch.zeros(self.size, self.size)
        number = len(self.known)
        for head in layer.heads:
            measured, picture = self._measured(View(layer, [head]))
            heads.append(measured)
            mean += picture / len(layer.heads)
            self.thumbnails[self.layers + number * self.heads + len(heads) - 1] = as_bytes(picture)
            yield
        self.thumbnails[number] = as_bytes(mean)
        with self._lock:
            self.known.append({name: [one[name] for one in heads] for name in heads[0]})

    def numbers(self) -> bytes:
        """As `answers` describes it."""
        with self._lock:
            known = list(self.known)
        names = [name for name in (known[0] if known else {}) if name != "profile"]
        told = {
            "layers": len(known),
            "rows": len(self.rows),
            "statistics": {name: [layer[name] for layer in known] for name in names},
            "profile": [layer["profile"] for layer in known],
        }
        return json.dumps(told).encode()

    def _measured(self, view: View) -> tuple[dict, Tensor]:
        """The means of one head, and its picture."""
        sums = torch.zeros(6, dtype=torch.float64)
        profile = torch.zeros(len(self.bins), dtype=torch.float64)
        picture = torch.zeros(self.size, self.size)
        keys = torch.arange(self.n)
        low, high = torch.tensor(self.bins).T
        for rows, weights in view.strips(self.rows):
            entropy = torch.special.entr(weights).sum()
            distance = (weights * (keys - rows[:, None]).abs_()).sum()
            at = torch.nn.functional.pad(weights, (1, 1))  # key j at j + 1
            before, after = (at.gather(1, rows[:, None] + by).sum() for by in (0, 2))
            kept = weights.masked_fill(self.special, 0)
            special = weights.sum() - kept.sum()
            sums += torch.stack([entropy, distance, before, after, weights[:, 0].sum(), special]).double()
            until = torch.nn.functional.pad(kept.double().cumsum(1), (1, 0))
            ends = (until.gather(1, (rows[:, None] + edge).clamp(0, self.n)) for edge in (high + 1, low))
            profile += (next(ends) - next(ends)).sum(0)
            wide = torch.nn.functional.adaptive_max_pool1d(weights[None], self.size)[0]
            for row, line in zip((rows * self.size // self.n).tolist(), wide, strict=True):
                torch.maximum(picture[row], line, out=picture[row])
        names = ("entropy", "distance", "previous", "next", "first", "special")
        count = len(self.rows)
        found = {name: _rounded(value / count) for name, value in zip(names, sums.tolist(), strict=True)}
        if self.gold:
            uses = torch.tensor(sorted(self.gold))
            on = view.weights(uses[:, 0]).gather(1, uses[:, 1:])
            found["binding"] = _rounded(float(on.mean()))
        return found | {"profile": [_rounded(value / count) for value in profile.tolist()]}, picture


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")
