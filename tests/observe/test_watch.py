"""Watching changes nothing, and what was seen is exact."""

import gc
import itertools
import threading
import weakref

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


@pytest.mark.parametrize("window", [None, 3])
def test_steps_are_one_text(window):
    torch.manual_seed(0)
    encoder = build("self-attention", vocabulary=11, width=16, layers=2, heads=4, causal=True, window=window)
    tokens = torch.randint(11, (2, 9))
    with torch.no_grad(), watch(encoder, special=[3, 4]) as steps:
        state = encoder.start(2)
        for token in tokens.T:
            _, state = encoder.step(token, state)
    with torch.no_grad(), watch(encoder, special=(tokens.flatten() == 3) | (tokens.flatten() == 4)) as once:
        encoder(Sequences(tokens.flatten(), [0, 9, 18]))
    assert steps.layers == 2
    for a, b in ((steps.layer(i), once.layer(i)) for i in range(2)):
        assert a.offsets.tolist() == a.key_offsets.tolist() == [0, 9, 18]
        for what in ("lse", "entropy", "distance", "received", "first", "special", "histogram"):
            torch.testing.assert_close(getattr(a, what), getattr(b, what), atol=1e-5, rtol=1e-5, msg=what)
        for s in range(2):
            torch.testing.assert_close(a.weights(s), b.weights(s), atol=1e-6, rtol=1e-5)


def test_special_tokens_by_their_ids_in_our_own_encoder():
    encoder, x = build("self-attention", vocabulary=11, width=8, layers=2), _pack()
    for call in (lambda: encoder(x), lambda: encoder(x=x), lambda: torch.nn.Sequential(encoder)(x)):
        with torch.no_grad(), watch(encoder, special=[3, 4]) as by_id:
            call()
        with torch.no_grad(), watch(encoder, special=(x.values == 3) | (x.values == 4)) as by_row:
            call()
        for layer in range(2):
            assert torch.equal(by_id.layer(layer).special, by_row.layer(layer).special)


@pytest.mark.parametrize("links", [-1, 1.5])
def test_a_number_of_links_that_is_none_is_refused(links):
    encoder = build("self-attention", vocabulary=11, width=8, layers=1)
    with pytest.raises(ValueError, match="expected links as a number of keys, 0 or more, got"):
        with watch(encoder, links=links):
            pass


def test_layers_heads_and_links_are_chosen():
    encoder = build("self-attention", vocabulary=11, width=16, layers=3, heads=4, key_heads=2)
    with torch.no_grad(), watch(encoder) as whole:
        encoder(_pack())
    with torch.no_grad(), watch(encoder, layers=[0, whole.names[2]], heads=[3, 0], links=2) as seen:
        encoder(_pack())
    assert seen.names == whole.names and seen.watched == [whole.names[0], whole.names[2]]
    with torch.no_grad(), watch(encoder) as whole, watch(encoder, layers=[2], heads=[3, 0], links=2) as seen:
        encoder(_pack())
    a, b = whole.layer(2), seen.layer(whole.names[2])
    assert a.heads == [0, 1, 2, 3] and b.heads == [3, 0] and b.links.keys.shape == (26, 2, 2)
    for what in ("lse", "entropy", "distance", "received", "first"):
        torch.testing.assert_close(getattr(a, what)[:, [3, 0]], getattr(b, what))
    torch.testing.assert_close(a.histogram[[3, 0]], b.histogram)
    torch.testing.assert_close(a.tile(3, sequence=3).mean, b.tile(3, sequence=3).mean)
    torch.testing.assert_close(seen.tile(2, 0, (1, 3), sequence=3).mean, a.weights(3)[0, 1:3])
    with pytest.raises(ValueError, match="expected a layer that was watched, got 1, which `layers` leaves out"):
        seen.layer(1)


def test_layers_and_heads_that_are_not_there():
    encoder = build("self-attention", vocabulary=11, width=16, layers=2, heads=4)
    with (
        pytest.raises(ValueError, match=r"watch: expected layers from 0 to 1 or names .*, got \[2, 'first'\]"),
        watch(encoder, layers=[1, 2, "first"]),
    ):
        encoder(_pack())
    with pytest.raises(ValueError, match=r"watch: expected heads from 0 to 3, got \[4\]"), watch(encoder, heads=[4]):
        encoder(_pack())
    with pytest.raises(TypeError, match="watch: expected a model, a torch.nn.Module, got str"), watch("bert"):
        pass


def test_an_exception_inside_ends_the_watching():
    encoder = build("self-attention", vocabulary=11, width=8, layers=1)
    with pytest.raises(KeyError), watch(encoder) as seen:
        encoder(_pack())
        raise KeyError("inside")
    encoder(_pack(lengths=[2]))
    assert seen.layer(0).offsets.tolist() == [0, 7, 7, 8, 21, 26]


def test_nothing_of_the_forward_is_held_but_queries_and_keys():
    encoder = build("self-attention", vocabulary=11, width=8, layers=1)
    references = []

    class Probe(torch.nn.Module):
        def forward(self, x):
            outputs = encoder(x)
            references.append(weakref.ref(outputs.values))
            return None

    probe = Probe()
    probe.inner = encoder
    with torch.no_grad(), watch(probe) as seen:
        probe(_pack())
    gc.collect()
    assert references[0]() is None and seen.layers == 1


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
