"""The page of a fitted model shows prediction and probability; every page says why it opens where it does."""

import pytest
import torch

from sightline.lens import look, write_page
from sightline.lens.page_data import look_data
from sightline.sequences import Sequences
from sightline.tasks import Classify, Language, Regress, Tag, Tokenizer
from tests.lens.browser import needs_browser, opened
from tests.lens.observed import seen as observed
from tests.lens.observed import text, weights
from tests.lens.test_reading import LAW, ours

DRAWN = "body[data-drawn]"
LABELS = ("bad", "good", "<b>so</b>")


@pytest.fixture(scope="module")
def words():
    return Tokenizer.train("words", [LAW] * 2)


@pytest.mark.parametrize("kind", ["self-attention", "lstm"])  # seen, and moved
def test_a_classifier_predicts_as_predict_does(words, kind):
    settings = {} if kind == "self-attention" else {"kind": kind, "heads": None}
    model = ours(Classify("text", "stars", LABELS), words, **settings)
    predicts = look(model, LAW)["predicts"]
    (answer,) = model.predict([LAW])
    assert predicts["choices"][0] == pytest.approx([answer["label"], answer["probability"]])
    assert sum(p for _, p in predicts["choices"]) == pytest.approx(1, abs=1e-5)
    assert (predicts["column"], predicts["of"]) == ("stars", 3)
    assert sorted(name for name, _ in predicts["choices"]) == sorted(LABELS)


def test_numbers_tags_and_the_next_token_are_predicted_too(words):
    model = ours(Regress("text", "price", (10.0,), (2.0,)), words)
    assert look(model, LAW)["predicts"] == {"column": "price", "values": [next(model.predict([LAW]))["value"]]}
    model = ours(Tag("words", "tags", ("A", "B")), words)
    data = look(model, LAW)
    tags = next(model.predict([LAW.split()]))["tags"]
    assert len(data["predicts"]["tags"]) == len(data["words"])
    assert all(tag in ("A", "B") and 0.5 <= p <= 1 for tag, p in data["predicts"]["tags"])
    if len(tags) == len(data["words"]):
        assert [tag for tag, _ in data["predicts"]["tags"]] == tags
    model = ours(Language("text", words.size, words.end, 64, None, True), words)
    (best, p), *_ = look(model, LAW)["predicts"]["choices"]
    ids = model.tokenizer.engine.encode(LAW).ids
    with torch.no_grad():
        scores = model(Sequences(torch.tensor(ids), [0, len(ids)]))[-1].softmax(-1)
    assert p == pytest.approx(float(scores.max()), abs=1e-5)
    assert best in (model.tokenizer.engine.decode([int(scores.argmax())]), "<end>", "<unk>")


@needs_browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_shows_it_with_its_probability(browser, words, tmp_path, scheme):
    data = look(ours(Classify("text", "stars", LABELS), words), LAW)
    file = write_page(data, tmp_path / "look.html")
    with opened(browser, file, DRAWN, color_scheme=scheme) as (page, traffic):
        message = page.inner_text("#predicts")
        (best, p), (second, q), _ = data["predicts"]["choices"]
        assert message.startswith(f"Predicts stars: {best} {100 * p:.1f}%; then {second} {100 * q:.1f}%")
        assert traffic == {"requests": [], "errors": []}
    data = look(ours(Tag("words", "tags", ("A", "B")), words), LAW)
    with opened(browser, write_page(data, tmp_path / "look.html"), DRAWN) as (page, traffic):
        options = int(page.locator(".unit.query").get_attribute("data-i"))
        tag, p = data["predicts"]["tags"][options]
        assert f"predicted tags: {tag} {100 * p:.1f}%" in page.inner_text(".say") and not traffic["errors"]


def test_a_page_says_why_it_opens_where_it_does():
    whole = text()
    inputs = torch.full((2, 2, 16, 16), 1e-3)
    inputs[1, 0, 9, 2] = 0.8  # "its" to "Law"
    data = look_data(observed(inputs), whole, "made up", None, None, None)
    assert data["start"]["view"] == "1.0"
    assert (
        data["opens"]
        == "The page opens on the strongest link between words that are 3 to 25 words apart: its \u2192 Law."
    )
    data = look_data(observed(inputs), whole, "made up", None, 0, 1)
    assert (
        data["opens"].startswith("The page opens on the strongest link")
        and ", in the head that was asked for: " in data["opens"]
    )
    data = look_data(observed(inputs), whole, "made up", (7, 2), None, None)
    assert (
        data["opens"]
        == "The page opens on the two words that were asked for, and the head that joins them most: its \u2192 Law."
    )
    short = text("Law is", [(0, 3), (4, 6)])
    data = look_data(observed(weights(1, 1, 4)), short, "made up", None, None, None)
    assert data["opens"] == "The page opens on the first word; no two words are far apart and linked."


@needs_browser
def test_the_reason_stands_there_until_something_else_is_chosen(browser, tmp_path):
    data = look_data(observed(weights(2, 3, 16)), text(), "made up", None, None, None)
    with opened(browser, write_page(data, tmp_path / "look.html"), DRAWN) as (page, _):
        assert page.inner_text("#opens") == data["opens"]
        page.keyboard.press("]")
        page.locator("#opens").wait_for(state="detached")


@needs_browser
def test_a_word_that_the_model_does_not_know_is_marked(browser, words, tmp_path):
    data = look(ours(Classify("text", "stars", LABELS), words), f"{LAW} Zebra")
    assert [data["pieces"][i][1] for i in data["unknown"]] == ["Zebra"]
    with opened(browser, write_page(data, tmp_path / "look.html"), DRAWN) as (page, _):
        assert page.locator(".unit.unread").all_inner_texts() == ["Zebra"]
        assert page.locator(".unit.unread").get_attribute("title").startswith("the model reads an unknown token here; ")
        assert "One piece is unknown to the model" in page.inner_text("header")
