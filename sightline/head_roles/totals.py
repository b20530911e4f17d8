"""What is known of each head after a corpus: sums and counts that add up exactly, part by part, and the measures that follow.

Every mean is over the queries that could do it: the weight on the next piece over the pieces that have a next one, the
weight on an earlier piece of the same id over the pieces that have such. Special tokens do not ask, but may be looked at.
Units: weights are shares of 1, entropy is in nats, distances in pieces.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

WIDE = 10  # offsets to each side that are kept one by one
SINK = 0.3  # a query that gives the first key more than this looks nowhere else in earnest
QUANTILES = (0.1, 0.5, 0.9)
BEYOND = 2 * WIDE + 1  # where a tally counts what is not among the offsets
# Distances are exact up to 64, then kept to an eighth of an octave.
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
    "words_asked": (),
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

        made = {name: zeros((layers, heads, *axes), whole) for name, (axes, whole) in HEADS.items()}
        return cls(made | {name: zeros(axes, True) for name, axes in COUNTS.items()})

    @classmethod
    def of(cls, tensors: dict[str, Tensor]) -> Sums:
        """Those of a file, among what else it holds."""
        return cls({name: tensors[name] for name in (*HEADS, *COUNTS)})

    def __getitem__(self, name: str) -> Tensor:
        return self.tensors[name]

    def __setitem__(self, name: str, value: Tensor) -> None:
        self.tensors[name] = value

    def __add__(self, other: Sums) -> Sums:
        return Sums({name: t + other.tensors[name] for name, t in self.tensors.items()})

    def measures(self) -> dict[str, np.ndarray]:
        """Means float64 [L, H, ...] by name; NaN where nothing was asked.

        `distance` [L, H, 3] is how far the nearest tenth, half, and nine tenths of the weight lies.
        """
        found = {}
        for name, (axes, _) in HEADS.items():
            if name == "distances":
                continue
            over = self[OVER.get(name, "queries")]
            if axes:
                over = self["word_offset_queries" if name.startswith("word") else "offset_queries"]
            found[name] = self[name].double() / torch.where(over > 0, over.double(), torch.nan)
        found["distance"] = self._quantiles()
        return {name: t.cpu().numpy() for name, t in found.items()}

    def _quantiles(self) -> Tensor:
        share = self["distances"].cumsum(-1)
        total = share[..., -1:]
        asked = torch.tensor(QUANTILES, dtype=torch.float64, device=total.device) * total
        place = torch.searchsorted(share, asked.contiguous()).clamp_max(len(EDGES) - 1)
        return torch.where(total > 0, EDGES.to(place.device)[place].double(), torch.nan)


def by_head(t: Tensor, heads: int) -> Tensor:
    """Sums of t [S x H, ...] for each head, float64 [H]."""
    return t.view(-1, heads, t[0].numel()).sum((0, 2), dtype=torch.float64)


def by_distance(t: Tensor) -> Tensor:
    """Sums of the diagonals of each matrix [H, rows, keys], float64 [H, rows + keys - 1]: of key less row, rising from 1 - rows.

    >>> by_distance(torch.tensor([[[1., 2., 4.], [8., 16., 32.]]]))
    tensor([[ 8., 17., 34.,  4.]], dtype=torch.float64)
    """
    heads, rows, keys = t.shape
    pitch = keys + rows - 1
    room = t.new_zeros(heads, rows * pitch + rows - 1)
    room[:, : rows * pitch].view(heads, rows, pitch)[..., rows - 1 :] = t
    # Through strides that step one place more per row, the columns are the diagonals.
    diagonals = room.as_strided((heads, rows, pitch), (room.shape[1], pitch + 1, 1))
    return diagonals.sum(1, dtype=torch.float64)


def tally(away: Tensor, asked: Tensor) -> Tensor:
    """How many of away [S, H, queries], where asked, are each offset from -WIDE to WIDE: int64 [H, 2 WIDE + 1]."""
    heads = away.shape[1]
    bins = torch.where(asked & (away.abs() <= WIDE), away + WIDE, BEYOND)
    bins = bins + torch.arange(heads, device=bins.device)[:, None] * (BEYOND + 1)
    return torch.bincount(bins.flatten(), minlength=heads * (BEYOND + 1)).view(heads, -1)[:, :BEYOND]
