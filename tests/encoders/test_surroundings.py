"""Encoders under inference mode before training, hooks, autocast, another default device, second derivatives."""

import pytest
import torch

from sightline import Sequences, build
from sightline.encoders import Mixer, Readout

KINDS = {"self-attention": {}, "rnn": {}, "lstm": {}, "convolution": {}, "fully-connected": {"largest": 20}}
each_kind = pytest.mark.parametrize(("kind", "more"), KINDS.items(), ids=KINDS)


def encoder(kind, more, **settings):
    torch.manual_seed(0)
    return build(kind, vocabulary=30, width=32, layers=1, **more, **settings)


def batch(*lengths):
    return Sequences(torch.arange(sum(lengths)), torch.tensor([0, *lengths]).cumsum(0))


@each_kind
def test_what_inference_mode_keeps_can_be_trained_with(kind, more):
    one, seen = encoder(kind, more), batch(11, 2, 6)  # lengths that no other test has kept anything of
    readouts = [Readout(32, 3, pool) for pool in ("mean", "attention", "max")]
    with torch.inference_mode():
        for readout in readouts:
            readout(one(seen))
    for again in (seen, batch(11, 2, 6)):
        for readout in readouts:
            readout(one(again)).sum().backward()


@each_kind
def test_hooks_see_what_is_not_changed_afterwards(kind, more):
    one, kept, gradients = encoder(kind, more), [], []
    for part in one.modules():
        if isinstance(part, torch.nn.Linear):
            part.register_forward_hook(lambda _, inputs, output: kept.append((output, output.detach().clone())))
            part.register_full_backward_hook(lambda _, into, out: gradients.append(out[0]))
    outputs = one(batch(5, 3)).values
    outputs.sum().backward()
    assert kept and gradients and all(torch.equal(output, before) for output, before in kept)
    torch.testing.assert_close(outputs, encoder(kind, more)(batch(5, 3)).values)


@each_kind
def test_steps_under_autocast(kind, more):
    one = encoder(kind, more, causal=True)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        state, rows = one.start(2), []
        for token in torch.arange(10).view(5, 2):
            row, state = one.step(token, state)
            rows.append(row)
    whole = one(Sequences(torch.arange(10).view(5, 2).t().flatten(), [0, 5, 10])).values
    torch.testing.assert_close(torch.stack(rows, 1).flatten(0, 1).float(), whole, rtol=0, atol=0.2)


@each_kind
def test_the_default_device_may_be_another(kind, more):
    one = encoder(kind, more, causal=True)
    with torch.device("meta"):
        sequences = Sequences.from_list([torch.arange(4, device="cpu"), torch.arange(3, device="cpu")])
        assert one(sequences).values.device.type == "cpu" and sequences[
            torch.tensor([1], device="cpu")
        ].lengths.tolist() == [3]
        one.step(torch.zeros(2, dtype=torch.long, device="cpu"), one.start(2))


@each_kind
def test_a_second_derivative_is_refused_and_not_lost(kind, more):
    one = encoder(kind, more)
    rows = one(batch(4, 2)).values
    with pytest.raises(RuntimeError, match="expected create_graph=False"):
        torch.autograd.grad(rows.square().sum(), list(one.parameters()), create_graph=True)


@pytest.mark.parametrize("width", [98, 196, 206, 394])
def test_any_rotary_width(width):
    one = build("self-attention", vocabulary=5, width=width, heads=1, layers=1, rotary=1.0)
    assert one(Sequences(torch.tensor([1, 2, 3]), [0, 3])).values.shape == (3, width)


def test_offsets_may_be_filled_anew():
    offsets = torch.tensor([0, 1, 4])
    sequences = Sequences(torch.arange(4), offsets)
    offsets[1] = 3
    assert sequences[0].tolist() == [0] and sequences.lengths.tolist() == [1, 3]


def test_build_takes_a_class_of_mixer():
    class Same(Mixer):
        causal = False

        def __init__(self, width: int, factor: float = 1.0):
            super().__init__()
            self.width, self.factor = width, factor

        def forward(self, x):
            return x.with_values(x.values * self.factor)

    encoder = build(Same, vocabulary=9, width=8, layers=3, factor=0.5)
    assert [(block.mixer.width, block.mixer.factor) for block in encoder.blocks] == [(8, 0.5)] * 3
    assert encoder(Sequences(torch.tensor([1, 2]), [0, 2])).values.shape == (2, 8)
    with pytest.raises(ValueError, match="expected one of self-attention, .*; choose one"):
        build(dict, vocabulary=9)
    with pytest.raises(ValueError, match="expected causal=False for Same, which states it itself, got True; leave"):
        build(Same, vocabulary=9, width=8, causal=True)
    with pytest.raises(TypeError, match="expected largest for fully-connected, got none; give the length"):
        build("fully-connected", vocabulary=9)
