"""A layer as an Arrow table, for pandas, DuckDB or Polars: one row for each query and head."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import torch


def table_of(layer) -> pa.Table:
    """A `Layer` in columns: sequence, query (its place), head; lse, entropy, distance, first, special; for
    self-attention `received`, of the row as a key; and lists of the links' keys, distances and weights, strongest
    first.
    """
    rows, heads = layer.lse.shape
    lengths = layer.offsets.diff()
    sequence = torch.repeat_interleave(torch.arange(len(lengths)), lengths)
    place = torch.arange(rows) - layer.offsets[:-1][sequence]
    columns = {
        "sequence": sequence.int()[:, None].expand(rows, heads),
        "query": place.int()[:, None].expand(rows, heads),
        "head": torch.tensor(layer.heads, dtype=torch.int32).expand(rows, heads),
        **{name: getattr(layer, name) for name in ("lse", "entropy", "distance", "first", "special")},
    }
    if torch.equal(layer.offsets, layer.key_offsets):
        columns["received"] = layer.received
    arrays = {name: pa.array(_flat(t)) for name, t in columns.items()}
    links = layer.links
    exists = links.keys.flatten(0, 1).cpu() >= 0
    bounds = torch.cat([torch.zeros(1, dtype=torch.int64), exists.sum(1).cumsum(0)])
    bounds = pa.array(bounds.int().numpy())
    for name, t in (("keys", links.keys), ("distances", layer.link_distances), ("weights", links.weights)):
        values = pa.array(t.flatten(0, 1).cpu()[exists].numpy())
        arrays[f"link_{name}"] = pa.ListArray.from_arrays(bounds, values)
    return pa.table(arrays)


def _flat(t: torch.Tensor) -> np.ndarray:
    return t.detach().cpu().contiguous().flatten().numpy()
