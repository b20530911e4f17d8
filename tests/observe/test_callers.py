"""Origins and hooks say who calls attention: on a watched model, while it is watched, and harmless elsewhere."""

import copy
import threading

import pytest
import torch
from transformers import AlbertConfig, AlbertModel

import sightline.huggingface as shf
from sightline.attention import attention, watching
from sightline.encoders import build
from sightline.observe import watch
from sightline.sequences import Sequences
from tests.observe.test_hugging_face import MODELS, SMALL, batch, drawn

OURS = {"ours": lambda: build("self-attention", vocabulary=60, width=16, layers=2, heads=4, causal=True)}


def hooks(model):
    return sum(len(part._forward_hooks) + len(part._forward_pre_hooks) for part in model.modules())


def packed():
    return Sequences(torch.tensor([5, 6, 7, 8, 9, 10]), [0, 2, 6])


@pytest.mark.parametrize("name", [*OURS, *MODELS])
def test_hooks_are_on_a_model_only_while_it_is_watched(name):
    model = (OURS | MODELS)[name]()
    with watch(model):
        count = hooks(model)
        with watch(model), watch(model):
            assert hooks(model) == count > 0
        assert hooks(model) == count
    assert hooks(model) == 0
    with pytest.raises(KeyError), watch(model):
        raise KeyError
    assert hooks(model) == 0


def test_requests_state_their_origin():
    encoder, origins = OURS["ours"](), []
    with torch.no_grad(), watching(lambda request, _: origins.append(request.origin)):
        encoder(packed())
        encoder.step(torch.tensor([5, 6]), encoder.start(2))
        attention(*(torch.randn(3, 1, 4) for _ in range(3)), torch.tensor([0, 3]))
    mixers = [block.mixer for block in encoder.blocks]
    assert [origin and origin.module for origin in origins] == [*mixers, *mixers, None]
    model, origins = drawn(MODELS["bert"]()), []
    model.set_attn_implementation("sightline")
    with torch.no_grad(), watching(lambda request, _: origins.append(request.origin)):
        model(**batch(model))
    assert [origin.module for origin in origins] == [layer.attention.self for layer in model.encoder.layer]
    assert origins[0].shape == (3, 9, 9) and origins[0].keys.tolist() == [*range(9), *range(9, 15), 18, 19]


@pytest.mark.parametrize("name", ["ours", "bert"])
def test_a_copy_of_a_watched_model_is_not_seen_and_works(name):
    model = (OURS | MODELS)[name]().eval()
    inputs = {"x": packed()} if name == "ours" else batch(model)
    with torch.no_grad(), watch(model) as seen:
        other = copy.deepcopy(model)
        other(**inputs)
        assert seen.layers == 0
        model(**inputs)
        assert seen.layers == 2
        with watch(other) as seen_of_copy:
            other(**inputs)
    assert torch.equal(seen_of_copy.layer(1).entropy, seen.layer(1).entropy)
    with torch.no_grad(), watch(other, special=[5, 6]) as seen_of_copy:
        other(**inputs)
        assert seen.layers == seen_of_copy.layers == 2
    assert hooks(model) == 0


def test_a_copy_of_a_watched_model_runs_packed():
    with watch(model := drawn(MODELS["bert"]())):
        other = shf.unpad(copy.deepcopy(model))
    lengths = []
    with torch.no_grad(), watching(lambda request, _: lengths.append(len(request.q))):
        other(**batch(other))
    assert lengths == [17, 17]


def test_special_ids_of_a_model_without_padding():
    plain = drawn(MODELS["bert"]())
    other, special, inputs = shf.unpad(copy.deepcopy(plain)), range(5, 20), batch(plain)
    with torch.no_grad(), watch(plain, special=special) as expected:
        plain(**inputs)
    with torch.no_grad(), watch(other, special=special) as seen:
        other(**inputs)
    torch.testing.assert_close(seen.layer(1).special, expected.layer(1).special, atol=1e-5, rtol=1e-4)
    embeds = other.get_input_embeddings()(inputs.pop("input_ids"))
    with torch.no_grad(), watch(other, special=special) as seen:
        other(inputs_embeds=embeds, **inputs)
    with pytest.raises(ValueError, match="called with token ids, got none for these 17 keys"):
        _ = seen.layer(0).special


def test_a_direct_forward_is_one_pass():
    model = drawn(AlbertModel(AlbertConfig(**SMALL, embedding_size=16)))
    inputs = batch(model)
    with torch.no_grad(), watch(model, special=range(5, 20)) as expected:
        model(**inputs)
    with torch.no_grad(), watch(model, special=range(5, 20)) as seen:
        model.forward(**inputs)
        model.forward(**inputs)
    assert seen.names == expected.names and len(seen.names) == 2
    for name in seen.names:
        assert torch.equal(seen.layer(name).special, expected.layer(name).special)


def test_parts_called_by_themselves():
    encoder = OURS["ours"]()
    with torch.no_grad(), watch(encoder, special=[5]) as seen:
        x = packed()
        rows = x.with_values(encoder.embedding(x.values))
        for block in encoder.blocks:
            rows = block(rows)
    with torch.no_grad(), watch(encoder, special=[5]) as whole:
        encoder(x)
    assert seen.names == whole.names
    for i in range(2):
        assert torch.equal(seen.layer(i).entropy, whole.layer(i).entropy)
        assert torch.equal(seen.layer(i).special, whole.layer(i).special)
    mixer = encoder.blocks[0].mixer
    with torch.no_grad(), watch(mixer) as seen:
        mixer(rows)
        mixer(rows)
        state = mixer.start(2)
        for _ in range(3):
            _, state = mixer.step(rows.values[:2], state)
    assert seen.names == ["SelfAttention"] and seen.layer(0).offsets.tolist() == [0, 3, 6]


def test_attention_without_origin_is_named_by_the_module_that_runs():
    class Pool(torch.nn.Module):
        def forward(self, rows, offsets):
            return attention(rows[:, None], rows[:, None], rows[:, None], offsets).out[:, 0]

    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder, self.pool = OURS["ours"](), Pool()

        def forward(self, x):
            return self.pool(self.encoder(x).values, x.offsets)

    model = Model()
    with torch.no_grad(), watch(model) as seen:
        model(packed())
        model(packed())
    assert seen.names == ["encoder.blocks.0.mixer", "encoder.blocks.1.mixer", "pool"]


def test_another_thread_may_run_a_model_while_it_is_watched_for_a_moment():
    model, inside, go = OURS["ours"](), threading.Event(), threading.Event()
    names = []

    class Wait(torch.nn.Module):
        def forward(self, x):
            inside.set()
            go.wait(20)
            return x

    model.norm.register_forward_hook(lambda *_: Wait()(None) if threading.current_thread().name == "slow" else None)

    def run():
        with torch.no_grad(), watch(model) as seen:
            model(packed())
            model(packed())
            names.extend(seen.names)

    thread = threading.Thread(target=run, name="slow")
    thread.start()
    inside.wait(20)
    with torch.no_grad(), watch(model) as seen:  # begins and ends while the other's pass runs
        model(packed())
    go.set()
    thread.join(60)
    assert names == seen.names == ["blocks.0.mixer", "blocks.1.mixer"]


def test_an_exception_in_a_forward_ends_the_pass():
    model = drawn(MODELS["bart"]())
    inputs = batch(model)
    handle = model.model.decoder.register_forward_pre_hook(lambda *_: {}["missing"])
    with torch.no_grad(), watch(model) as seen:
        with pytest.raises(KeyError, match="missing"):
            model(**inputs)
        handle.remove()
        model(**inputs)
    with torch.no_grad(), watch(model) as expected:
        model(**inputs)
    assert seen.names == expected.names
    for name in seen.names:
        assert torch.equal(seen.layer(name).entropy, expected.layer(name).entropy)


@pytest.mark.parametrize("name", ["bert", "bart"])
def test_a_compiled_model_is_seen_as_it_is(name):
    torch._dynamo.reset()
    model = drawn(MODELS[name]())
    model.set_attn_implementation("sightline")
    compiled, inputs, special = torch.compile(model, backend="eager"), batch(model), range(5, 20)
    with torch.no_grad():
        plain = compiled(**inputs)[0]
        with watch(compiled, special=special) as outer, watch(model, special=special) as seen:
            assert torch.equal(compiled(**inputs)[0], plain)
        with watch(model, special=special) as expected:
            model(**inputs)
    assert seen.names == expected.names == [name.removeprefix("_orig_mod.") for name in outer.names]
    for name in seen.names:
        assert torch.equal(seen.layer(name).lse, expected.layer(name).lse)
        assert torch.equal(seen.layer(name).special, expected.layer(name).special)
