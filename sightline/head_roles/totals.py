"""The totals of each head over a corpus, sums and counts that add up exactly part by part, and its measures.

Every mean is over the queries for which it is possible: the weight on the next piece over the pieces that have a next
one, the weight on an earlier piece of the same id over the pieces that have one. Special tokens are keys, but no
queries.
Units: weights are shares of 1, entropy is in nats, distances in pieces.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

WIDE = 10  # offsets to each side that have sums of their own
SINK = 0.3  # weight on the first key from which it is a sink of the query
MASSES = ("first", "special", "separator", "punctuation")  # kinds of pieces
QUANTILES = (0.1, 0.5, 0.9)
BEYOND = 2 * WIDE + 1  # the index of all other offsets in a tally
# Bins of distances: exact up to 64, then an eighth of an octave wide.
EDGES = torch.tensor([*range(64), *(round(64 * 2 ** (k / 8)) for k in range(8 * 14))])

HEADS = {  # for each layer and head: further axes, and whether it is a count
    "offset_weight": ((BEYOND,), False),
    "offset_best": ((BEYOND,), True),
    "word_offset_weight": ((BEYOND,), False),
    "word_offset_best": ((BEYOND,), True),
    "distances": ((len(EDGES),), False),
    "first": ((), False),
    "special": ((), False),
    "separator": ((), False),
    "punctuation": ((), False),
    "entropy": ((), False),
    "confidence": ((), False),
    "sink": ((), True),
    "duplicate": ((), False),
    "induction": ((), False),
    "rare": ((), False),
}
COUNTS = {  # of the corpus
    "queries": (),
    "offset_queries": (BEYOND,),
    "word_queries": (),
    "word_offset_queries": (BEYOND,),
    "duplicates": (),
    "inductions": (),
    "rare_queries": (),
}
OVER = {"duplicate": "duplicates", "induction": "inductions", "rare": "rare_queries"}  # else over `queries`


class Sums:
    """The tensors of `HEADS` [L, H, ...] and `COUNTS`, by name; float64, or int64 where they count.

    >>> total = Sums.empty(2, 3) + Sums.empty(2, 3)
    >>> total["offset_weight"].shape, total["queries"].dtype
    (torch.Size([2, 3, 21]), torch.int64)
    """

    def __init__(self, tensors: dict[str, Tensor]):
        self.tensors = tensors

    @classmethod
    def empty(cls, layers: int, heads: int, device: torch.device | str = "cpu") -> Sums:
        def zeros(shape: tuple[int, ...], whole: bool) -> Tensor:
            return torch.zeros(shape, dtype=torch.int64 if whole else torch.float64, device=device)

        of_heads = {name: zeros((layers, heads, *axes), whole) for name, (axes, whole) in HEADS.items()}
        return cls(of_heads | {name: zeros(axes, True) for name, axes in COUNTS.items()})

    @classmethod
    def of(cls, tensors: dict[str, Tensor]) -> Sums:
        """The sums of a file, which may hold more."""
        return cls({name: tensors[name] for name in (*HEADS, *COUNTS)})

    def __getitem__(self, name: str) -> Tensor:
        return self.tensors[name]

    def layer(self, number: int) -> dict[str, Tensor]:
        """Views of the sums of one layer [H, ...], by name."""
        return {name: self.tensors[name][number] for name in HEADS}

    def count(self, counts: dict[str, int | np.ndarray]) -> None:
        """Adds counts of some documents."""
        for name, number in counts.items():
            self.tensors[name] += torch.from_numpy(np.asarray(number)).to(self.tensors[name].device)

    def __add__(self, other: Sums) -> Sums:
        return Sums({name: t + other.tensors[name] for name, t in self.tensors.items()})

    def measures(self) -> dict[str, np.ndarray]:
        """Means float64 [L, H, ...] by name; NaN where there are no queries.

        `distance` [L, H, 3] is the distance within which a tenth, half, and nine tenths of the weight lies.
        """
        means = {}
        for name, (axes, _) in HEADS.items():
            if name == "distances":
                continue
            over = self[OVER.get(name, "queries")]
            if axes:
                over = self["word_offset_queries" if name.startswith("word") else "offset_queries"]
            means[name] = self[name].double() / torch.where(over > 0, over.double(), torch.nan)
        means["distance"] = self._quantiles()
        return {name: t.cpu().numpy() for name, t in means.items()}

    def _quantiles(self) -> Tensor:
        share = self["distances"].cumsum(-1)
        total = share[..., -1:]
        quantile = torch.tensor(QUANTILES, dtype=torch.float64, device=total.device) * total
        place = torch.searchsorted(share, quantile.contiguous()).clamp_max(len(EDGES) - 1)
        return torch.where(total > 0, EDGES.to(place.device)[place].double(), torch.nan)


def by_distance(t: Tensor) -> Tensor:
    """Sums of the diagonals of [H, rows, keys], float64 [H, rows + keys - 1], by key less row from 1 - rows on.

    >>> by_distance(torch.tensor([[[1., 2., 4.], [8., 16., 32.]]]))
    tensor([[ 8., 17., 34.,  4.]], dtype=torch.float64)
    """
    heads, rows, keys = t.shape
    pitch = keys + rows - 1
    padded = t.new_zeros(heads, rows * pitch + rows - 1)
    padded[:, : rows * pitch].view(heads, rows, pitch)[..., rows - 1 :] = t
    # With strides that step one place more per row, the columns are the diagonals.
    diagonals = padded.as_strided((heads, rows, pitch), (padded.shape[1], pitch + 1, 1))
    return diagonals.sum(1, dtype=torch.float64)


def tally(offset: Tensor, counted: Tensor) -> Tensor:
    """The numbers of each offset [S, H, queries] from -WIDE to WIDE, where `counted`: int64 [H, 2 WIDE + 1]."""
    heads = offset.shape[1]
    bins = torch.where(counted & (offset.abs() <= WIDE), offset + WIDE, BEYOND)
    bins = bins + torch.arange(heads, device=bins.device)[:, None] * (BEYOND + 1)
    return torch.bincount(bins.flatten(), minlength=heads * (BEYOND + 1)).view(heads, -1)[:, :BEYOND]
