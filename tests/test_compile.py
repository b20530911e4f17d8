"""`torch.compile` over attention and encoders: the graph breaks where lengths decide; the values stay the same."""

import random

import pytest
import torch

import sightline
from sightline import Sequences
from sightline.attention import CAUSAL, attention

OF_TRACING = "ignore:The .grad attribute:UserWarning", "ignore:Guards may run slower:RuntimeWarning"  # PyTorch's own
pytestmark = [pytest.mark.usefixtures("forgotten"), pytest.mark.filterwarnings(*OF_TRACING)]


def packs(count: int = 12):
    """More packs than a frame may be compiled for, all of other lengths."""
    dice = random.Random(0)
    for _ in range(count):
        yield [dice.randint(0, 20) for _ in range(dice.randint(1, 6))]


def test_attention():
    def loss(q, offsets):
        return attention(2 * q, q, q, offsets, CAUSAL).out.sin().sum()

    compiled = torch.compile(loss, backend="eager")
    for lengths in packs():
        offsets = torch.tensor([0, *lengths]).cumsum(0)
        q = torch.randn(sum(lengths), 2, 8).requires_grad_()
        result, expected = (torch.autograd.grad(function(q, offsets), q)[0] for function in (compiled, loss))
        torch.testing.assert_close(result, expected)


def test_sequences_made_and_read_inside():
    def places(values):
        x = Sequences(values * 2, [0, 2, len(values)])
        return x.positions + x.values.long() + x.lengths.sum() + x.layout.longest

    compiled = torch.compile(places, backend="eager")
    for rows in (3, 5, 9):
        assert torch.equal(compiled(torch.ones(rows)), places(torch.ones(rows)))


@pytest.mark.parametrize("name", ["self-attention", "rnn", "lstm", "convolution", "fully-connected"])
def test_encoders(name):
    settings = {"largest": 20} if name == "fully-connected" else {}
    encoder = sightline.build(name, vocabulary=10, width=16, layers=1, **settings)
    compiled = torch.compile(encoder, backend="eager")
    for lengths in packs(3):
        batch = Sequences.from_list([torch.randint(0, 10, (n,)) for n in lengths])
        torch.testing.assert_close(compiled(batch).values, encoder(batch).values)
