"""Weight is not cause: what moves a model's output, beside what its heads look at, or alone where no head can be seen.

An input's share is its part of all influence on an output row, |J_ij|^2 of `sightline.observe.influence`, so that the
shares of a row sum to one as its weights do.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sightline.models import Text
from sightline.observe import Profile, influence_on
from sightline.observe.distances import by_distance, in_bins

WITHIN = (0.5, 0.9, 0.99)
# Work is counted in weights times pieces, which a backward pass goes through.
PROFILE_WORK = 1e11  # for a profile: seconds
MAP_WORK = 2e12  # for a whole map: a minute or two
SMALL = 2_000_000  # weights; a smaller model is not faster for it
FEWEST, MOST = 8, 64  # backward passes for a profile
PROBES = 32  # of a row; more say little more
LONGEST = 400  # pieces of a whole map


@dataclass(frozen=True)
class Shares:
    """An observation of maps that are at hand. Shapes: maps [layers, H, n, n], a share or weight[row, column]."""

    maps: Tensor

    layers = property(lambda self: len(self.maps))

    def layer(self, number: int) -> Shares:
        return Shares(self.maps[number])

    def weights(self, sequence: int) -> Tensor:
        return self.maps


def within(far: Tensor) -> list[int | None]:
    """Within how many pieces, to either side, half, 90% and 99% lie; None if there is nothing. Shapes: [2n - 1]."""
    n = (len(far) + 1) // 2
    profile = Profile(torch.arange(1 - n, n), far, torch.ones(len(far)))
    return [profile.within(share) for share in WITHIN]


def estimate_profile(model: nn.Module, ids: Tensor, text: Text) -> dict:
    """How far away inputs move the model's outputs in this text: "influence" in the data of a page."""
    n = len(ids)
    passes = int(max(FEWEST, min(MOST, PROFILE_WORK // (_size(model) * n))))
    rows = torch.arange(min(n, passes)) * n // min(n, passes)
    probes = passes // len(rows)
    try:
        shares = _shares(influence_on(model, ids, rows.tolist(), probes=probes))
    except (ValueError, TypeError) as error:
        return {"profile": [], "within": [], "about": f"Influence is not shown: {error}."}
    return influence_data(shares, rows, probes, text)


def influence_data(shares: Tensor, rows: Tensor, probes: int, text: Text) -> dict:
    """The same from shares of influence on the outputs `rows`. Shapes: shares [R, n], rows [R]."""
    n = shares.shape[1]
    far = by_distance(shares[None].masked_fill(torch.tensor(text.special), 0), rows)[0] / len(rows)
    sample = f"{len(rows)} of its {n} rows" if len(rows) < n else f"each of its {n} rows"
    return {
        "profile": in_bins(far).tolist(),
        "within": within(far),
        "about": f"Estimated from {sample}, with {probes} random probe{'s' * (probes > 1)} each.",
    }


def estimate_map(model: nn.Module, ids: Tensor, width: int | None) -> tuple[Tensor, str]:
    """The whole map of shares [n, n], and a sentence on how exact it is.

    Raises: ValueError for a text that is too long, as each piece takes backward passes of its own; as `influence_on`.
    """
    n, size = len(ids), _size(model)
    longest = min(LONGEST, int((MAP_WORK / (2 * size)) ** 0.5))
    if n > longest:
        raise ValueError(
            f"look: expected at most {longest} tokens for a model of {size / 1e6:.0f} million weights without "
            f"attention to see, since each token is asked what moves it, got {n}; shorten the text"
        )
    probes = int(MAP_WORK // (size * n * n))
    if width is not None and probes >= width:
        return _shares(influence_on(model, ids, range(n))), "It is exact."
    probes = min(probes, PROBES)
    about = f"It is estimated with {probes} random probes for each piece."
    return _shares(influence_on(model, ids, range(n), probes=probes)), about


def _shares(influence: Tensor) -> Tensor:
    """Parts of each row's sum; a row that nothing moves has none. Shapes: [R, n] -> the same, float32."""
    whole = influence.sum(-1, keepdim=True)
    return (influence / whole.where(whole > 0, 1)).float()


def _size(model: nn.Module) -> int:
    """The weights that a pass goes through: all but the tables that ids are looked up in."""
    tables = {id(part.weight) for part in model.modules() if isinstance(part, nn.Embedding)}
    return max(SMALL, sum(weight.numel() for weight in model.parameters() if id(weight) not in tables))
