"""Pooling from a pack is the pooling of each sequence alone, and what sentence-transformers computes on padding."""

import pytest
import torch
from sentence_transformers.sentence_transformer.modules import Pooling

from sightline.huggingface.pooling import MODES, pool
from sightline.sequences import Sequences

LENGTHS = (3, 1, 3, 3, 0, 13, 7, 0, 1, 2)
DEFINITIONS = {  # of the rows of one sequence, whose positions count from 1
    "cls": lambda rows, at: rows[0],
    "max": lambda rows, at: rows.max(0).values,
    "mean": lambda rows, at: rows.sum(0) / len(rows),
    "mean_sqrt_len_tokens": lambda rows, at: rows.sum(0) / len(rows) ** 0.5,
    "weightedmean": lambda rows, at: (rows * at[:, None]).sum(0) / at.sum(),
    "lasttoken": lambda rows, at: rows[-1],
}


def hidden(dtype=torch.float32):
    torch.manual_seed(0)
    return Sequences.from_list([torch.randn(n, 5).to(dtype) for n in LENGTHS])


@pytest.mark.parametrize("skip", [0, 2])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("mode", MODES)
def test_each_mode_is_its_definition(mode, dtype, skip):
    batch = hidden(dtype)
    vectors = pool(batch, [mode], skip)
    assert vectors.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    for rows, vector in zip(batch.to_list(), vectors, strict=True):
        rows = rows.double()
        at = torch.arange(1, len(rows) + 1, dtype=torch.float64)[skip:]
        expected = DEFINITIONS[mode](rows[skip:], at) if len(rows) > skip else torch.zeros(5, dtype=torch.float64)
        torch.testing.assert_close(vector.double(), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("modes", [(mode,) for mode in MODES] + [("cls", "max", "mean"), ("lasttoken", "weightedmean")])
def test_as_sentence_transformers_pools_padding(modes):
    batch = hidden()[torch.tensor([i for i, n in enumerate(LENGTHS) if n])]
    padded, lengths = batch.to_padded(9.0)
    mask = (torch.arange(padded.shape[1]) < lengths[:, None]).long()
    theirs = Pooling(5, pooling_mode=modes)({"token_embeddings": padded, "attention_mask": mask})
    torch.testing.assert_close(pool(batch, modes), theirs["sentence_embedding"], rtol=1e-6, atol=1e-6)


def test_nothing_leaks_from_a_neighbour():
    batch = hidden()
    before = pool(batch, MODES)
    batch.values[int(batch.offsets[5]) : int(batch.offsets[6])] = float("nan")
    after = pool(batch, MODES)
    others = torch.arange(len(LENGTHS)) != 5
    assert torch.equal(after[others], before[others]) and after[5].isnan().all()


def test_gradients_reach_the_rows():
    batch = hidden(torch.float64)
    values = batch.values.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda v: pool(batch.with_values(v), MODES), values)
