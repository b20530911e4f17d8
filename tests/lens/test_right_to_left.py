"""Text from right to left in a real browser: where each word stands in the text, the lines, a report's examples."""

import pytest

from sightline.head_roles.page_data import report_page as paged
from sightline.lens import write_page
from sightline.lens.page_data import look_data
from sightline.models import WORD, cut, text_of
from tests.lens.browser import needs_browser, opened
from tests.lens.fabricated_heads import report
from tests.lens.observed import seen as observed
from tests.lens.observed import weights

DRAWN = "body[data-drawn]"
HEBREW = "\u05d0\u05de\u05e8 \u05dc\u05d9 (\u05d0\u05ea\u05de\u05d5\u05dc): \u05e9\u05dc\u05d5\u05dd, world 2024!"
ARABIC = (
    "\u0642\u0627\u0644 \u0644\u064a: \u0645\u0631\u062d\u0628\u064b\u0627 \u0628\u0627\u0644\u0639\u0627\u0644\u0645"
    "\u060c \u0643\u062a\u0627\u0628\u064b\u0627\u061f"
)
PERSIAN = (
    "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645 \u06a9\u062a\u0627\u0628\u200c\u0647\u0627"
    " \u0631\u0627 \u0628\u062e\u0648\u0627\u0646\u0645."
)
MIXED = "He said \u05e9\u05dc\u05d5\u05dd \u05e2\u05d5\u05dc\u05dd today; the well-known house."
BOXES = """nodes => nodes.map(node => {
  const box = node.getBoundingClientRect();
  return [node.textContent.replace(/[\\u2066-\\u2069]/g, ""), box.left, box.right, box.top];
})"""


def written(sentence: str):
    spans = [(0, 0), *(match.span() for match in WORD.finditer(sentence)), (0, 0)]
    tokens = ["[CLS]", *(sentence[a:b] for a, b in spans[1:-1]), "[SEP]"]
    return cut(sentence, spans, tokens, [True] + [False] * (len(spans) - 2) + [True])


def page_of(text) -> dict:
    return look_data(observed(weights(2, 3, len(text.pieces))), text, "made up", None, None, None)


def shown(browser, tmp_path, data, **context):
    return opened(browser, write_page(data, tmp_path / "look.html"), DRAWN, **context)


def left_to_right(page, selector: str) -> list[str]:
    """What stands on a line, from the left."""
    boxes = page.locator(selector).evaluate_all(BOXES)
    assert max(top for *_, top in boxes) - min(top for *_, top in boxes) < 12  # one line
    return [name for name, *_ in sorted(boxes, key=lambda box: box[1])]


@needs_browser
@pytest.mark.parametrize("sentence", [ARABIC, PERSIAN])
def test_a_sentence_is_laid_out_from_right_to_left(browser, tmp_path, sentence):
    text = written(sentence)
    words = [word.text for word in text.words]
    assert "\u06a9\u062a\u0627\u0628\u200c\u0647\u0627" in words or sentence != PERSIAN  # a joiner does not end a word
    with shown(browser, tmp_path, page_of(text)) as (page, traffic):
        assert left_to_right(page, ".text .unit") == words[::-1]
        boxes = page.locator(".lines svg .name").evaluate_all(BOXES)
        for row in (boxes[: len(words)], boxes[len(words) :]):  # those that look, and what they look at
            assert [name for name, *_ in sorted(row, key=lambda box: box[1])] == words[::-1]
        page.locator(".text .unit[data-i='1']").click()
        page.keyboard.press("ArrowLeft")  # on, as it is read
        page.wait_for_function("queryUnit() === 2")
        assert traffic == {"requests": [], "errors": []}


@needs_browser
def test_marks_stand_on_their_side_and_latin_words_keep_their_order(browser, tmp_path):
    with shown(browser, tmp_path, page_of(written(HEBREW))) as (page, _):
        assert page.locator(".text").get_attribute("dir") == "rtl"
        order = left_to_right(page, ".text .unit")
        rest = [word for word in order if word not in ("world", "2024")]
        assert rest == [word.text for word in written(HEBREW).words if word.text not in ("world", "2024")][::-1]
        assert order.index("2024") == order.index("world") + 1 == order.index("!") + 2
        assert page.title() == f"made up looks at: \u2068{HEBREW}\u2069"
        assert "\u2068" not in page.inner_text(".text")


@needs_browser
def test_words_from_right_to_left_in_other_text_keep_their_order(browser, tmp_path):
    with shown(browser, tmp_path, page_of(written(MIXED))) as (page, _):
        assert page.locator(".text").get_attribute("dir") == "ltr"
        order = left_to_right(page, ".text .unit")
        assert order[:4] == [
            "[CLS]",
            "He",
            "said",
            "\u05e2\u05d5\u05dc\u05dd",
        ]  # the second of the two comes first from the left
        assert [word for word in order if word.isascii()] == [
            word.text for word in written(MIXED).words if word.text.isascii()
        ]


@needs_browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_word_is_broken_on_a_phone(browser, tmp_path, scheme):
    long = "Donaudampfschifffahrtsgesellschaftskapitaen" * 2
    data = page_of(written(f"{MIXED} {MIXED.replace('He', 'She')} {long}"))
    with shown(browser, tmp_path, data, viewport={"width": 400, "height": 800}, color_scheme=scheme) as (page, _):
        lines = page.locator(".text .unit").evaluate_all(
            "nodes => nodes.map(n => [n.textContent, n.getClientRects().length])"
        )
        assert all(count == 1 for name, count in lines if name != long) and ["well-known", 1] in lines
        assert dict(lines)[long] > 1  # but what is longer than a line
        assert page.locator(".text").evaluate("e => e.scrollWidth <= e.clientWidth")


@needs_browser
def test_an_example_of_a_head_is_laid_out_as_it_is_read(browser, tmp_path):
    output = report()
    words = [word for word in HEBREW.replace(", world 2024!", ".").replace("(", "").replace("):", "").split()]
    example = {"name": "he:1", "words": words, "spaces": ["", *[" "] * (len(words) - 1)], "query": 0, "keys": [2]}
    example |= {"weight": 0.5, "links": [[2, 0.5], [1, 0.2]]}
    for one in [*output["relations"], *output["examples"]]:
        one["right"], one["wrong"] = [example], []
    data = paged(output)
    assert data["examples"][0][0]["right"][0]["dir"] == "rtl"
    with opened(browser, write_page(data, tmp_path / "heads.html"), DRAWN) as (page, traffic):
        assert left_to_right(page, "#sheet figure:has(.drawn) >> nth=0 >> .unit") == words[::-1]
        ends = page.locator("#sheet .links path").first.get_attribute("d")
        assert float(ends[1:].split(" ")[0]) > float(ends.rsplit(" ", 2)[1])  # from the first word, to the left
        assert traffic["errors"] == []


def test_a_figure_writes_hebrew_and_arabic_with_joined_letters():
    pytest.importorskip("matplotlib")
    from matplotlib.ft2font import __libraqm_version__  # which orders and joins letters

    from sightline.lens.figures import _Shown, lines

    text = text_of(["\u05e9\u05dc\u05d5\u05dd", "\u0645\u0631\u062d\u0628\u0627", "so"], 0, 3)
    layer = type("Layer", (), {"tile": lambda *_: type("Tile", (), {"mean": weights(1, 1, 3)[0, 0]})})()
    drawn = lines(_Shown(layer, "layer 0", [0], 0, text))
    assert __libraqm_version__
    assert [one.get_text() for one in drawn.axes[0].texts][:6:2] == [word.text for word in text.words]
