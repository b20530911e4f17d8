"""Watching changes nothing, and what was seen is exact."""

import itertools
import threading

import pytest
import torch

from sightline.attention import attention
from sightline.encoders import build
from sightline.observe import watch
from sightline.sequences import Sequences

LENGTHS = [7, 0, 1, 13, 5]


def _pack(vocabulary=11, lengths=LENGTHS):
    offsets = [0, *itertools.accumulate(lengths)]
    return Sequences(torch.randint(vocabulary, (offsets[-1],)), offsets)


def test_outputs_and_gradients_are_bit_identical():
    torch.manual_seed(0)
    encoder = build("self-attention", vocabulary=11, width=16, layers=2)
    x = _pack()

    def run():
        encoder.zero_grad()
        out = encoder(x).values
        out.square().sum().backward()
        return [out.detach(), *(p.grad.clone() for p in encoder.parameters())]

    plain = run()
    with watch(encoder):
        watched = run()
    assert all(map(torch.equal, plain, watched))
    assert all(map(torch.equal, plain, run()))


def test_the_last_pass_is_shown_and_watchers_do_not_meet():
    encoder = build("self-attention", vocabulary=11, width=8, layers=2)
    one, two = _pack(), Sequences(torch.tensor([1, 2]), [0, 2])
    with torch.no_grad(), watch(encoder) as outer:
        encoder(one)
        with watch(encoder) as inner:
            encoder(two)
        other = threading.Thread(target=encoder, args=(one,))
        other.start()
        other.join()
    assert outer.layer(1).offsets.tolist() == [0, 2]
    assert torch.equal(outer.layer(1).weights(0), inner.layer(1).weights(0))


def test_another_model_and_attention_by_itself_are_not_seen():
    one, two = (build("self-attention", vocabulary=11, width=8, layers=1) for _ in range(2))
    with watch(one) as seen:
        two(_pack())
        attention(*(torch.randn(3, 1, 4) for _ in range(3)), torch.tensor([0, 3]))
    assert seen.layers == 0


def test_what_was_not_seen_is_refused():
    encoder = build("self-attention", vocabulary=11, width=8, layers=2)
    with watch(encoder) as seen:
        pass
    with pytest.raises(ValueError, match="expected a forward pass inside the context, got none"):
        seen.layer(0)
    with torch.no_grad(), watch(encoder) as seen:
        encoder(_pack())
    with pytest.raises(ValueError, match="layer from 0 to 1 or one of .*, got 2"):
        seen.layer(2)
    with pytest.raises(ValueError, match="sequence from 0 to 4, got -1"):
        seen.layer(0).weights(-1)
    with (
        pytest.raises(ValueError, match="expected a model with self-attention, got Linear.*influence"),
        watch(torch.nn.Linear(1, 1)),
    ):
        pass
