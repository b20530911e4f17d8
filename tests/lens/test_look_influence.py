"""Influence on the page of a look: an outline over the weights, with its numbers; and a page of influence alone."""

import numpy as np
import pytest
import torch

from sightline.lens import write_page
from sightline.lens.influence_profile import Shares, influence_data
from sightline.lens.page_data import look_data
from tests.lens.browser import needs_browser
from tests.lens.observed import seen, text, weights
from tests.lens.test_look import SHADES, click, page_of, shown

NOTE = "No attention weights are shown: <b>an encoder of kind lstm has none.</b>"


def beside() -> dict:
    """The page of `test_look`, with influence beside its weights."""
    shares = weights(1, 1, 16, sharp=2.0)[0, 0]
    return page_of() | {"influence": influence_data(shares, torch.arange(16), 3, text()), "notes": [NOTE]}


def alone() -> dict:
    """Influence and nothing else: the first `its` (word 7) is moved by Law (word 2) most."""
    shares = weights(1, 1, 16, sharp=1.0)
    shares[0, 0, 9], shares[0, 0, 9, 2] = 0.3 / 15, 0.7
    return look_data(Shares(shares), text(), "made/up", text().pair("its:1:Law"), None, None) | {
        "shows": "influence",
        "notes": [NOTE],
    }


@needs_browser
def test_a_page_of_influence_speaks_of_influence(browser, tmp_path):
    texts = []
    for data in (page_of(), alone()):
        with shown(browser, write_page(data, tmp_path / "look.html")) as (page, wrong):
            texts.append(page.locator("body").inner_text())
            assert wrong == {"requests": [], "errors": []}
    assert "looks at" in texts[0] and "looked at by" in texts[0] and "encodings depend on" not in texts[0]
    assert "looks at" not in texts[1] and "looked at" not in texts[1]
    assert "encodings depend on" in texts[1] and "depends on" in texts[1]


@needs_browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_an_outline_of_influence_lies_over_the_columns_of_weight(browser, tmp_path, scheme):
    data = beside()
    with shown(browser, write_page(data, tmp_path / "look.html"), color_scheme=scheme) as (page, wrong):
        outline = page.locator("#profile path.influence").get_attribute("d")
        tops = [float(point.split("H")[0].split()[1]) for point in outline.split("L")[1:]]
        bars = page.locator("#profile rect.column")
        heights = [190 - top for top in tops]
        assert np.allclose(
            np.array(heights) / sum(heights),
            np.array(data["influence"]["profile"]) / sum(data["influence"]["profile"]),
            atol=0.005,
        )
        assert bars.count() == len(tops) == len(data["bins"])
        rows = page.locator("table.within tr").all_inner_texts()
        assert rows[1].split("\t")[1:] == [str(far) for far in data["within"][data["start"]["view"]]]
        assert rows[2].split("\t") == ["influence", *map(str, data["influence"]["within"])]
        assert "weight of this head" in page.inner_text("#legend")
        assert "Weight is not cause" in page.inner_text(".limits") and "line" in page.inner_text(".limits")
        assert "each of its 16 rows, with 3 random probes each" in page.inner_text("#influence")
        assert page.inner_text(".note") == NOTE and page.locator(".note b").count() == 0
        assert "; influence " in bars.first.locator("title").text_content()
        assert wrong == {"requests": [], "errors": []}


@needs_browser
def test_where_influence_cannot_be_had_the_weights_stand_alone(browser, tmp_path):
    data = page_of() | {"influence": {"profile": [], "within": [], "about": "Influence is not shown: <i>why."}}
    with shown(browser, write_page(data, tmp_path / "look.html")) as (page, wrong):
        assert page.locator("#profile path.influence").count() == page.locator("#legend").count() == 0
        assert page.inner_text("#influence") == "Influence is not shown: <i>why."
        assert page.inner_text(".limits").endswith("depends on.")
        assert page.locator("table.within tr").count() == 2 and not wrong["errors"]


@needs_browser
@pytest.mark.parametrize("context", [{}, {"viewport": {"width": 360, "height": 740}, "color_scheme": "dark"}])
def test_a_page_of_influence_alone_speaks_of_influence(browser, tmp_path, context):
    with shown(browser, write_page(alone(), tmp_path / "look.html"), **context) as (page, wrong):
        assert page.inner_text("h1") == "What made/up's encodings depend on"
        assert "influence · 12 words in 14 pieces" in page.inner_text("header") and NOTE in page.inner_text("header")
        assert page.inner_text(".say").startswith("its1 depends on Law 70%")
        assert "sight) 83." in page.evaluate(SHADES)[2]
        click(page, ".unit[data-i='2']")
        assert page.locator(".two > div").nth(1).locator("button").first.inner_text().split()[0] == "its1"
        for what in (".chooser", "#heads", "#joining", "footer", "#legend"):
            assert not page.locator(what).is_visible(), what
        assert page.locator("#map canvas").is_visible() and page.locator(".lines .link").count()
        assert page.inner_text("#profile h2").strip() == "Distance" and "influence" in page.inner_text("table.within")
        read = page.inner_text("body").replace("ahead", "")
        assert "head" not in read and "weight" not in read.replace("attention weights", "") and "look" not in read
        assert page.evaluate("document.documentElement.scrollWidth") <= page.viewport_size["width"]
        assert wrong == {"requests": [], "errors": []}


def test_maps_at_hand_stand_for_an_observation():
    w = weights(2, 3, 16)
    assert look_data(Shares(w), text(), "x", None, 1, 2) == look_data(seen(w), text(), "x", None, 1, 2)
