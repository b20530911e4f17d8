"""The page of a look in a real browser: opened from a file, clicked, typed at, without a network."""

import copy
import json

import pytest

from sightline.lens import inline, read_page, render, write_page
from sightline.lens.page_data import look_data
from sightline.models import Text, Unit
from tests.lens.browser import needs_browser, opened
from tests.lens.observed import SENTENCE, long, seen, text, weights

EVIL = '</script><img src=x onerror="window.evil=1"><script>window.evil=1</script>&lt;b&gt;\u2028 [[script]] "\'`${1}'
HEADS = "[...document.querySelectorAll('.head:not(.mean)')].map(b => b.dataset.view)"
SHADES = "[...document.querySelectorAll('.unit')].map(s => s.style.background)"


def page_of(pair=None, whole=None, **options) -> dict:
    """A page whose head 1.2 looks from the first `its` (word 7) to Law (word 2); head 0.0 looks from all to [CLS]."""
    whole = whole or text()
    w = weights(2, 3, len(whole.pieces), sharp=1.0)
    pronoun = whole.word_of.index(7)
    w[1, 2, pronoun] = 0.1 / (w.shape[-1] - 2)
    w[1, 2, pronoun, 2], w[1, 2, pronoun, 0] = 0.7, 0.2
    w[0, 0], w[0, 0, :, 0] = 0.1 / (w.shape[-1] - 1), 0.9
    return look_data(seen(w), whole, "made/up", pair, options.get("layer"), options.get("head"))


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return write_page(page_of(), tmp_path_factory.mktemp("look") / "look.html")


@pytest.fixture(scope="module")
def linked(tmp_path_factory):
    return write_page(page_of(text().pair("its:1:Law")), tmp_path_factory.mktemp("look") / "look.html")


def shown(browser, file, **context):
    return opened(browser, file, ready="body[data-drawn]", **context)


def act(page, what):
    """Do something, and wait until the page is drawn again."""
    before = page.locator("body").get_attribute("data-drawn")
    what()
    page.wait_for_function("before => document.body.dataset.drawn !== before", arg=before)
    page.wait_for_timeout(30)


def click(page, selector, **settings):
    act(page, lambda: page.locator(selector).first.click(**settings))


# ---- the file ------------------------------------------------------------------------------------------------------


def test_the_data_come_back_and_the_page_names_no_other_place(tmp_path):
    data = json.loads(json.dumps(page_of()))
    data["title"] = EVIL
    assert read_page(write_page(data, tmp_path / "look.html")) == data
    page = render(page_of()).replace("http://www.w3.org/2000/svg", "")
    assert page.count("http") == page.count("http-equiv")
    assert "src=" not in page and "@import" not in page and "url(" not in page
    assert len(page) < 150_000


def test_other_data_are_refused():
    with pytest.raises(ValueError, match="a comparison, a look or heads, got 'other'"):
        render({"version": 1, "title": "", "page": "other"})


@needs_browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_opens_without_a_request_or_an_error(browser, file, scheme):
    with shown(browser, file, color_scheme=scheme) as (page, seen):
        read = page.locator(".text").evaluate("e => e.textContent")
        assert read == f"[CLS] {SENTENCE} [SEP]"
        assert "2 layers × 3 heads · 12 words in 14 pieces" in page.inner_text("header")
        assert seen == {"requests": [], "errors": []}
        paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (paper == "rgb(255, 255, 255)") == (scheme == "light")


@needs_browser
def test_it_fits_a_phone(browser, linked):
    with shown(browser, linked, viewport={"width": 360, "height": 740}, has_touch=True) as (page, seen):
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        act(page, lambda: page.locator(".unit[data-i='4']").tap())
        assert page.inner_text(".say").startswith("unbelievable looks at")
        across, down = page.locator(".lines .link").first.get_attribute("d").split("C")[0][1:].split(" ")
        assert float(down) > 0 and not seen["errors"]


# ---- the text ------------------------------------------------------------------------------------------------------


@needs_browser
def test_a_word_shows_what_it_looks_at_and_what_looks_at_it(browser, file):
    with shown(browser, file) as (page, seen):
        act(page, lambda: page.evaluate("openView('1.2', false)"))
        click(page, ".unit[data-i='7']")
        assert page.inner_text(".say").startswith("its1 looks at Law 70%")
        shades = page.evaluate(SHADES)
        assert "sight) 83." in shades[2] and shades[0] == ""  # the square root of 0.7; [CLS] is left out
        assert page.locator(".unit.query").get_attribute("data-i") == "7"
        assert "20% on [CLS], the first word; 2" in page.inner_text(
            ".rest"
        ) and "not spread over the rest" in page.inner_text(".rest")
        click(page, ".unit[data-i='2']")
        looked_at = page.locator(".two > div").nth(1).locator("button").first
        assert looked_at.inner_text().split() == ["its1", "70%"]
        assert "inset" in page.locator(".unit[data-i='7']").get_attribute("style")
        assert not seen["errors"]


@needs_browser
def test_special_mass_is_hidden_by_a_switch_and_never_renormalised(browser, file):
    with shown(browser, file) as (page, _):
        act(page, lambda: page.evaluate("openView('0.0', false)"))
        click(page, ".unit[data-i='7']")
        before = page.evaluate(SHADES)
        assert before[0] == "" and "90% on [CLS]" in page.inner_text(".rest")
        click(page, "input[name=hide]")
        after = page.evaluate(SHADES)
        assert "sight) 94." in after[0] and after[1:-1] == before[1:-1]
        assert page.inner_text(".say").startswith("its1 looks at [CLS] 90%")


@needs_browser
def test_pieces_sum_to_words(browser, file):
    with shown(browser, file) as (page, _):
        weight = "async () => (await matrix('1.0', current())).row({q})[{k}]"
        word = page.evaluate(weight.format(q=2, k=4))
        act(page, lambda: page.keyboard.press("p"))
        assert page.locator(".unit").count() == 16
        pieces = [page.evaluate(weight.format(q=2, k=k)) for k in (4, 5, 6)]
        assert word == pytest.approx(sum(pieces), abs=1e-5)
        w = weights(2, 3, 16, sharp=1.0)
        assert word == pytest.approx(float(w[1, 0, 2, 4:7].sum()), abs=0.01)


@needs_browser
def test_everything_goes_by_keys(browser, linked):
    with shown(browser, linked) as (page, seen):
        page.locator(".unit.query").focus()
        act(page, lambda: page.keyboard.press("ArrowRight"))
        assert page.locator(".unit.query").get_attribute("data-i") == "8"
        act(page, lambda: page.keyboard.press("ArrowLeft"))
        before = page.locator("select[aria-label=head]").input_value()
        act(page, lambda: page.keyboard.press("["))
        assert page.locator("select[aria-label=head]").input_value() == str(int(before) - 1)
        act(page, lambda: page.keyboard.press("]"))
        act(page, lambda: page.keyboard.press("l"))
        assert page.locator("input[name=every]").is_checked()
        act(page, lambda: page.keyboard.press("Escape"))
        assert not page.locator("#joining").is_visible()
        page.locator(".unit[data-i='2']").focus()
        act(page, lambda: page.keyboard.press("Shift+Enter"))
        assert "Which heads join its1 and Law?" in page.inner_text("#joining")
        assert not seen["errors"]


# ---- heads ---------------------------------------------------------------------------------------------------------


@needs_browser
def test_link_opens_at_the_head_that_joins(browser, linked):
    with shown(browser, linked) as (page, seen):
        assert page.inner_text(".say").split("\n")[0].startswith("its1 looks at Law 70%")
        rows = page.locator("#joining .two > div").first.locator("button").all_inner_texts()
        assert rows[0].split() == ["1.2", "70%"]
        back = page.locator("#joining .two > div").nth(1).locator("button").first
        view = back.get_attribute("data-view")
        act(page, back.click)
        assert page.locator(".head[aria-pressed=true]").get_attribute("data-view") == view
        assert page.inner_text(".say").startswith("Law looks at")
        act(page, lambda: page.select_option("select[aria-label='order of the heads']", "there"))
        assert page.evaluate(HEADS)[0] == "1.2"
        # the same found by clicking, from the links in the page
        click(page, ".plain")
        click(page, ".unit[data-i='7']")
        click(page, ".unit[data-i='2']", modifiers=["Shift"])
        assert page.locator("#joining .two > div").first.locator("button").first.inner_text().split() == ["1.2", "70%"]
        assert not seen["errors"]


@needs_browser
def test_heads_are_sorted_opened_and_laid_side_by_side(browser, file):
    statistics = page_of()["statistics"]
    with shown(browser, file) as (page, seen):
        assert len(page.evaluate(HEADS)) == 6 and page.locator(".head.mean").count() == 3
        for name in ("entropy", "distance", "previous", "next", "first", "special"):
            act(page, lambda name=name: page.select_option("select[aria-label='order of the heads']", name))
            value = {f"{i}.{h}": x for i, row in enumerate(statistics[name]) for h, x in enumerate(row)}
            assert page.evaluate(HEADS) == sorted(value, key=lambda view: -value[view]), name
        click(page, ".turn")
        assert page.evaluate(HEADS) == sorted(value, key=lambda view: value[view])
        click(page, ".head[data-view='1.2']")
        assert page.inner_text("#map h2").endswith("layer 1, head 2")
        click(page, "input[name=adding]")
        click(page, ".head[data-view='0.1']")
        assert page.locator(".chip").count() == 2 and page.locator(".head[aria-pressed=true]").count() == 2
        assert any("linear-gradient" in shade for shade in page.evaluate(SHADES))
        assert len(set(page.evaluate("[...document.querySelectorAll('.lines .link')].map(l => l.style.stroke)"))) == 2
        click(page, ".chip")
        assert page.locator(".head[aria-pressed=true]").get_attribute("data-view") == "0.1"
        act(page, lambda: page.select_option("select[aria-label=layer]", "all"))
        assert "the mean of all heads" in page.inner_text("#profile h2")
        ink = (
            "[...document.querySelectorAll('.head canvas')].map("
            "c => c.getContext('2d').getImageData(0, 0, 16, 16).data.reduce((a, b) => a + b))"
        )
        assert len(set(page.evaluate(ink))) == 6 and not seen["errors"]


# ---- lines, map, profile -------------------------------------------------------------------------------------------


@needs_browser
def test_lines_are_as_strong_as_the_weight(browser, linked):
    with shown(browser, linked) as (page, _):
        line = page.locator(".lines .link[data-from='7'][data-to='2']")
        assert float(line.evaluate("l => l.style.opacity")) == pytest.approx(0.7**0.5, abs=0.02)
        alone = page.locator(".lines .link").count()
        click(page, "input[name=every]")
        assert page.locator(".lines .link").count() > 3 * alone
        act(page, lambda: page.locator(".lines .name[data-i='4']").first.click())
        assert page.inner_text(".say").startswith("unbelievable")


@needs_browser
def test_the_map_zooms_moves_and_tells_its_values(browser, linked):
    with shown(browser, linked, viewport={"width": 1200, "height": 900}) as (page, seen):
        canvas = page.locator("#map canvas")
        canvas.scroll_into_view_if_needed()

        def at(q, k):
            d = {name: float(v) for name, v in canvas.evaluate("c => ({...c.dataset})").items()}
            return {
                "x": d["gutter"] + (k + 0.5 - d["x"]) * d["cell"],
                "y": d["gutter"] + (q + 0.5 - d["y"]) * d["cell"],
            }

        canvas.hover(position=at(7, 2))
        assert page.inner_text("#map .tip").split()[:-1] == ["its1", "→", "Law"]
        assert abs(float(page.inner_text("#map .tip").split()[-1].rstrip("%")) - 70) < 0.5
        least = float(canvas.get_attribute("data-cell"))
        canvas.focus()
        page.keyboard.press("+")
        assert float(canvas.get_attribute("data-cell")) == pytest.approx(1.5 * least, abs=0.01)
        x = float(canvas.get_attribute("data-x"))
        page.keyboard.press("ArrowRight")
        assert float(canvas.get_attribute("data-x")) > x
        box = canvas.bounding_box()
        page.mouse.move(box["x"] + 300, box["y"] + 300)
        page.mouse.down()
        page.mouse.move(box["x"] + 340, box["y"] + 340)
        page.mouse.up()
        assert float(canvas.get_attribute("data-y")) < 3
        page.mouse.wheel(0, -400)
        page.wait_for_timeout(100)
        assert float(canvas.get_attribute("data-cell")) > 1.5 * least
        page.keyboard.press("0")
        assert float(canvas.get_attribute("data-cell")) == pytest.approx(least)
        act(page, lambda: canvas.click(position=at(4, 1)))
        assert page.locator(".unit.query").get_attribute("data-i") == "4"
        assert not seen["errors"]


@needs_browser
def test_the_profile_holds_the_numbers(browser, linked):
    data = page_of()
    with shown(browser, linked) as (page, _):
        drawn = page.evaluate("[...document.querySelectorAll('#profile rect')].map(r => +r.dataset.share)")
        assert drawn == data["profile"][1][2]
        assert "Weight is not cause" in page.inner_text("#profile")
        assert f"{data['statistics']['entropy'][1][2]:.2f} nats" in page.inner_text(".numbers")


@needs_browser
def test_a_long_text_has_links_and_says_so(browser, tmp_path, monkeypatch):
    monkeypatch.setattr(inline.blocks, "__defaults__", (55_000,))
    monkeypatch.setattr(inline, "LINKS", (4,))
    data = page_of(whole=long())
    with shown(browser, write_page(data, tmp_path / "long.html")) as (page, seen):
        (bare,) = [view for view in ["0.1", "0.2", "1.0", "1.1", "1.2", "0.0"] if f"words/{view}" in data["blocks"]][:1]
        act(page, lambda: page.evaluate(f"openView('{bare}', false)"))
        assert "holds the 4 strongest links of each word" in page.inner_text(".rest")
        assert "4 strongest links of each row, exact, in blue" in page.inner_text("#map")
        titles = page.evaluate("[...document.querySelectorAll('.unit')].map(s => s.title)")
        assert sum("at most" in numbers for numbers in titles) == len(titles) - 4
        assert not seen["errors"]


# ---- hostile text --------------------------------------------------------------------------------------------------


@needs_browser
def test_nothing_in_the_data_is_run(browser, tmp_path):
    units = [
        Unit("", EVIL),
        Unit(EVIL, "<b>"),
        *(Unit(" ", f"</title><script>window.evil={i}</script>") for i in range(6)),
    ]
    whole = Text(units, units, list(range(8)), [False] * 8, [(3, 1)])
    data = copy.deepcopy(look_data(seen(weights(2, 2, 8)), whole, EVIL, (3, 1), None, None))
    with shown(browser, write_page(data, tmp_path / "evil <b>.html")) as (page, seen_):
        click(page, ".unit[data-i='0']")
        page.locator("#map canvas").hover()
        click(page, ".bars button")
        act(page, lambda: page.keyboard.press("p"))
        page.wait_for_timeout(100)
        assert page.evaluate("window.evil") is None
        assert page.locator("img").count() == 0
        assert seen_ == {"requests": [], "errors": []}
        assert EVIL.split("\u2028")[0] in page.locator(".text").evaluate("e => e.textContent")
        assert page.locator("h1").evaluate("e => e.textContent") == f"What {EVIL} looks at"
