"""The exhibit of a comparison, drawn as every other look is: from the weights that a comparison keeps to the data of a page."""

from __future__ import annotations

import base64

import numpy as np
import torch
from torch import Tensor

from sightline.lens.influence_profile import Shares, profiled
from sightline.lens.page_data import looked
from sightline.models import Text, Unit


def look_of(exhibit: dict) -> dict:
    """The data of a look, of one function with the bindings of its names; `page` has the format of an exhibit."""
    tokens = exhibit["tokens"]
    units = [Unit(token["space"], token["text"]) for token in tokens]
    gold = [(i, token["binding"]) for i, token in enumerate(tokens) if token["binding"] is not None]
    text = Text(units, units, list(range(len(units))), [False] * len(units), gold)
    n, chosen = len(units), exhibit["chosen"]
    maps = _numbers(exhibit["weights"]).view(exhibit["layers"], exhibit["heads"], n, n)
    data = looked(Shares(maps), text, "self-attention", None, chosen["layer"], chosen["head"])
    data["start"]["from"] = exhibit["start"]
    if "influence" not in exhibit:  # as comparisons were kept before it was measured
        return data
    influence = _numbers(exhibit["influence"]).view(n, n)
    return data | {"influence": profiled(influence, torch.arange(n), exhibit["probes"], text)}


def _numbers(packed: str) -> Tensor:
    return torch.from_numpy(np.frombuffer(base64.b64decode(packed), "<u2") / np.float32(65535))
