"""All heads of a long text at a glance: statistics and thumbnails from queries that are spread over it."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator

import torch
from torch import Tensor

from sightline.lens.inline import SIZE, as_bytes
from sightline.lens.views import View, sampled_rows
from sightline.models import Text
from sightline.observe import Layer
from sightline.observe.distances import bins_within, by_bin, row_statistics


class Sample:
    """Means over the sampled queries of each layer that is added; some thousands of pieces are sampled whole."""

    def __init__(self, text: Text, layers: int, heads: int):
        n = len(text.pieces)
        self.rows, self.layers, self.heads = sampled_rows(n), layers, heads
        self.special, self.gold = torch.tensor(text.special), text.gold
        self.size = min(n, SIZE)
        self.thumbnails = torch.zeros(layers + layers * heads, self.size, self.size, dtype=torch.uint8)
        self.known: list[dict] = []  # one for each layer that was added
        self._lock = threading.Lock()

    def add(self, layer: Layer) -> Iterator[None]:
        """Measures the next layer, pausing after each head."""
        heads, mean = [], torch.zeros(self.size, self.size)
        number = len(self.known)
        for head in layer.heads:
            view = View(layer, [head])
            statistics, picture = self._measured(view)
            if self.gold:
                uses = torch.tensor(sorted(self.gold))
                statistics["binding"] = _rounded(float(view.weights(uses[:, 0]).gather(1, uses[:, 1:]).mean()))
            heads.append(statistics)
            mean += picture / len(layer.heads)
            self.thumbnails[self.layers + number * self.heads + len(heads) - 1] = as_bytes(picture)
            yield
        self.thumbnails[number] = as_bytes(mean)
        with self._lock:
            self.known.append({name: [one[name] for one in heads] for name in heads[0]})

    def numbers(self) -> bytes:
        """The answer to the question `heads` of `page_queries`."""
        with self._lock:
            known = list(self.known)
        names = [name for name in (known[0] if known else {}) if name != "profile"]
        answer = {
            "layers": len(known),
            "rows": len(self.rows),
            "statistics": {name: [layer[name] for layer in known] for name in names},
            "profile": [layer["profile"] for layer in known],
        }
        return json.dumps(answer).encode()

    def _measured(self, view: View) -> tuple[dict, Tensor]:
        """The means of one head, and its picture."""
        sums: dict[str, float] = {}
        profile = torch.zeros(len(bins_within(view.n)), dtype=torch.float64)
        picture = torch.zeros(self.size, self.size)
        for rows, weights in view.strips(self.rows):
            for name, values in row_statistics(weights[None], rows, self.special).items():
                sums[name] = sums.get(name, 0.0) + float(values.sum())
            profile += by_bin(weights.masked_fill(self.special, 0), rows)
            wide = torch.nn.functional.adaptive_max_pool1d(weights[None], self.size)[0]
            for row, line in zip((rows * self.size // view.n).tolist(), wide, strict=True):
                torch.maximum(picture[row], line, out=picture[row])
        count = len(self.rows)
        means = {name: _rounded(total / count) for name, total in sums.items()}
        return means | {"profile": [_rounded(share / count) for share in profile.tolist()]}, picture


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")
