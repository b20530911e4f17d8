"""A head that is switched off adds nothing, all else stays as it was, and afterwards every weight is the same bits."""

import copy

import pytest
import torch
from transformers import BertConfig, BertModel

from sightline.encoders.self_attention import SelfAttention
from sightline.head_roles.ablation import Switched, off
from sightline.head_roles.gold import Document, build_corpus
from sightline.head_roles.report import heads
from sightline.head_roles.task_corpora import bindings
from sightline.sequences import Sequences
from sightline.tasks import Classify, Tag, Tokenizer, scope
from sightline.training import Model, RunConfig

LENGTHS = [0, 1, 7, 13]
RELATIONS = [("binding", 1, 0), ("binding:local", 1, 0), ("binding:parameter", 0, 3)]


def fitted():
    torch.manual_seed(0)
    config = RunConfig().changed(width=32, layers=2, heads=4, kind="self-attention")
    task = Tag("tokens", "roles", tuple(scope.ROLES))
    return Model(config, task, Tokenizer.of(list(scope.VOCABULARY))).eval()


@pytest.fixture(scope="module")
def functions():
    whole = bindings()
    return whole.take(range(3, len(whole.documents), 50))


def by_hand(mixer, x, without):
    """Every head's part of the output by itself, dense and in float64, but for one head's."""
    outputs = []
    for rows in x:
        counts = [mixer.heads, mixer.key_heads, mixer.key_heads]
        q, k, v = mixer.project_in(rows).unflatten(1, (sum(counts), mixer.head_width)).split(counts, 1)
        out = mixer.project_out.bias.repeat(len(rows), 1)
        for head in set(range(mixer.heads)) - {without}:
            group = head * mixer.key_heads // mixer.heads
            weights = (q[:, head] @ k[:, group].T / mixer.head_width**0.5).softmax(-1)
            columns = slice(head * mixer.head_width, (head + 1) * mixer.head_width)
            out = out + weights @ v[:, group] @ mixer.project_out.weight[:, columns].T
        outputs.append(out)
    return torch.cat(outputs)


@pytest.mark.parametrize("head", range(4))
def test_off_equals_leaving_its_part_out_by_hand(head):
    torch.manual_seed(1)
    mixer = SelfAttention(24, heads=4, key_heads=2, rotary=0).double()
    x = Sequences.from_list([torch.randn(n, 24, dtype=torch.float64) for n in LENGTHS])
    with torch.no_grad():
        whole = mixer(x).values
        with off(mixer, head):
            without = mixer(x).values
        assert (without - by_hand(mixer, x, head)).abs().max() < 1e-12
        assert (whole - by_hand(mixer, x, None)).abs().max() < 1e-12
        assert (without - whole).abs().max() > 1e-3
        assert torch.equal(mixer(x).values, whole)


def test_the_weights_are_the_same_bits_afterwards_even_after_an_error():
    mixer = SelfAttention(8, heads=2)
    with torch.no_grad():
        mixer.project_out.weight[0, 0] = -0.0
        mixer.project_out.weight[1, 1] = 1e-42
    before = {name: weight.clone().view(torch.int32) for name, weight in mixer.state_dict().items()}
    with pytest.raises(KeyError), off(mixer, 0):
        assert not mixer.project_out.weight[:, :4].any() and mixer.project_out.weight[:, 4:].any()
        raise KeyError
    after = {name: weight.view(torch.int32) for name, weight in mixer.state_dict().items()}
    assert before.keys() == after.keys() and all(torch.equal(before[n], after[n]) for n in before)


def test_the_task_is_measured_without_each_head_and_without_the_others(functions):
    model = fitted()
    before = copy.deepcopy(model.state_dict())
    result = Switched(model, functions).off(RELATIONS)
    assert all(torch.equal(before[name], weight) for name, weight in model.state_dict().items())
    examples = scope.load()["test"].take([document.source for document in functions.documents])
    assert result["texts"] == len(functions.documents) == len(examples)

    def measured(*heads):
        other = copy.deepcopy(model)
        for layer, head in heads:
            other.encoder.blocks[layer].mixer.project_out.weight.data[:, 8 * head : 8 * head + 8] = 0
        return {name: value for name, value in other.evaluate(examples).items() if name.startswith("accuracy")}

    assert result["whole"] == pytest.approx(measured(), abs=1e-6)
    assert [(one["layer"], one["head"], one["relations"]) for one in result["heads"]] == [
        (1, 0, ["binding", "binding:local"]),
        (0, 3, ["binding:parameter"]),
    ]
    for one in result["heads"]:
        layer, head = one["layer"], one["head"]
        assert one["without"] == pytest.approx(measured((layer, head)), abs=1e-6)
        others = [measured((layer, other)) for other in range(4) if other != head]
        expected = {name: sum(other[name] for other in others) / 3 for name in others[0]}
        assert one["others"] == pytest.approx(expected, abs=1e-6)
    assert any(one[part] != result["whole"] for one in result["heads"] for part in ("without", "others"))
    assert any("@" in name for name in result["whole"])


def test_a_layer_of_one_head_has_no_other(functions):
    torch.manual_seed(0)
    config = RunConfig().changed(width=8, layers=1, heads=1, kind="self-attention")
    model = Model(config, Tag("tokens", "roles", tuple(scope.ROLES)), Tokenizer.of(list(scope.VOCABULARY))).eval()
    (one,) = Switched(model, functions.take([0])).off([("binding", 0, 0)])["heads"]
    assert one["others"] is None


def test_other_models_and_other_texts_have_no_task_here(tmp_path):
    texts = build_corpus([Document("a", ("x", "=", "x"), ("", " ", " "))], [], [])
    small = BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8, vocab_size=9)
    reviews = Model(
        RunConfig().changed(width=8, layers=1), Classify("text", "label", ("a", "b")), Tokenizer.train("words", ["a b"])
    )
    for model in (BertModel(small), "prajjwal1/bert-tiny", tmp_path, reviews):
        with pytest.raises(ValueError, match="expected with ablate a model fitted to scope"):
            Switched(model, texts)
    with pytest.raises(ValueError, match="expected with ablate the corpus scope, whose functions"):
        Switched(fitted(), texts)


def test_the_report_holds_it_where_it_is_asked_for(functions, tmp_path):
    model = fitted()
    result = heads(model, functions, functions, ablate=True, out=tmp_path / "out", tell=str)
    best = {(row["layer"], row["head"]) for row in result["relations"]}
    assert {(one["layer"], one["head"]) for one in result["ablation"]["heads"]} == best
    assert result["ablation"]["texts"] == len(functions.documents)
    assert heads(model, functions, functions, out=tmp_path / "out", tell=str)["ablation"] is None
