"""The page of a long text in a real browser: words in blocks, the map in tiles, each fetched when it is visible."""

from contextlib import contextmanager

import pytest

from sightline.lens import page_queries as room
from sightline.lens import render, views
from sightline.observe.distances import bins_within
from tests.lens.browser import needs_browser
from tests.lens.served import answers, by_words, dense
from tests.lens.test_server import serving

EVIL = '</script><img src=x onerror="window.evil=1"><script>window.evil=1</script>&lt;b&gt;\u2028\u202e[[script]]'
N = 5200  # pieces: more than a page holds, and words in several blocks


@pytest.fixture(scope="module")
def queries():
    with answers(N) as output:
        yield output


@contextmanager
def shown(browser, queries, data=None, **context):
    """The page as it is served; `seen` collects errors, and requests to other places."""
    seen = {"requests": [], "errors": [], "asked": []}
    with serving(queries, data) as address:
        opened = browser.new_context(**context)
        page = opened.new_page()
        page.on("console", lambda message: seen["errors"].append(message.text))
        page.on("pageerror", lambda error: seen["errors"].append(str(error)))

        def note(request):
            own = request.url.startswith((address.geturl(), "data:"))
            seen["asked" if own else "requests"].append(request.url)

        page.on("request", note)
        try:
            page.goto(address.geturl())
            page.wait_for_selector("body[data-drawn]", timeout=30_000)
            yield page, seen
        finally:
            opened.close()


def act(page, what):
    """Do something, and wait until the page is drawn again."""
    page.wait_for_selector(f"body[data-known='{2}']", timeout=30_000, state="attached")  # no more comes by itself
    before = page.locator("body").get_attribute("data-drawn")
    what()
    page.wait_for_selector(f"body[data-drawn]:not([data-drawn='{before}'])", timeout=30_000)


def settled(page) -> str:
    page.wait_for_selector(".share[data-share='1']", timeout=150_000)
    return page.inner_text(".share")


@needs_browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_words_and_map_come_when_they_are_in_sight(browser, queries, scheme):
    with shown(browser, queries, color_scheme=scheme, viewport={"width": 1200, "height": 900}) as (page, seen):
        words = len(queries.text.words)
        assert f"2 layers × 3 heads · {words:,} words in {N:,} pieces" in page.inner_text("header")
        here = page.locator(".unit").count()
        assert 0 < here < words / 2 and page.locator(".block").count() > 4
        page.locator(".text").evaluate("box => { box.scrollTop = box.scrollHeight; }")
        page.wait_for_selector(f".unit[data-i='{words - 1}']", timeout=20_000)
        assert page.locator(".unit").count() < words / 2
        page.locator("#map").scroll_into_view_if_needed()
        assert "Exact." in settled(page)
        assert seen["requests"] == [] and seen["errors"] == []
        tiles = [url for url in seen["asked"] if "ask/tile" in url]
        assert tiles and len(tiles) == len(set(tiles)) or "Exact." in page.inner_text(".share")


@needs_browser
def test_a_word_shows_its_row_and_its_column(browser, queries):
    with shown(browser, queries, queries.page("server", layer=1, head=2)) as (page, seen):
        word = 900
        act(page, lambda: page.evaluate(f"() => change({{ query: levels.words.first[{word}] }})"))
        w = by_words(dense(queries, "1.2"), queries.text.word_of)
        best = int(w[word].argmax())
        assert page.inner_text(".say").startswith(f"w{word} looks at w{best} {float(w[word, best]):.0%}")
        title = page.locator(f".unit[data-i='{word}']").get_attribute("title")
        assert title == f"{100 * float(w[word, word]):.1f}%"
        act(page, lambda: page.locator(f".unit[data-i='{word + 2}']").click())
        back = w[:, word + 2].clone()
        back[word + 2] = 0
        first = page.locator(".two > div").nth(1).locator("button").first
        if float(back.max()) >= 0.01:
            assert first.get_attribute("data-i") == str(int(back.argmax()))
        act(page, lambda: page.keyboard.press("ArrowRight"))
        assert page.locator(".unit.query").get_attribute("data-i") == str(word + 3)
        act(page, lambda: page.locator(".unit.query").evaluate("() => join(903, 17)"))
        heads = page.locator("#joining .two > div").first.locator("button")
        rows = slice(queries.text.word_of.index(903), queries.text.word_of.index(904))
        views = [f"{i}.{h}" for i in range(2) for h in range(3)]
        expected = {
            view: float(by_words(dense(queries, view, rows), queries.text.word_of, rows)[0, 17]) for view in views
        }
        strongest = max(expected, key=expected.get)
        if expected[strongest] >= 0.005:
            assert heads.first.get_attribute("data-view") == strongest
        assert not seen["errors"] and not seen["requests"]


@needs_browser
def test_the_map_goes_from_the_whole_to_a_single_weight(browser, queries):
    data = queries.page("server", layer=0, head=1)
    with shown(browser, queries, data, viewport={"width": 1200, "height": 900}) as (page, seen):
        canvas = page.locator("#map canvas")
        canvas.scroll_into_view_if_needed()
        assert "pieces: summed" in settled(page)
        page.locator("[data-channel=peak]").click()
        assert "the strongest weight in it" in page.inner_text(".share")
        canvas.focus()
        for _ in range(14):
            page.keyboard.press("+")
        page.wait_for_timeout(100)
        assert "A cell is one piece by one. Exact." in settled(page)
        place = {name: float(v) for name, v in canvas.evaluate("c => ({...c.dataset})").items()}
        q = k = int(place["x"]) + 2
        if int(place["y"]) + 1 > q:
            q = int(place["y"]) + 2
        at = {
            "x": place["gutter"] + (k + 0.5 - place["x"]) * place["cell"],
            "y": place["gutter"] + (q + 0.5 - place["y"]) * place["cell"],
        }
        canvas.hover(position=at)
        page.wait_for_selector("#map .tip .number:has-text('%')", timeout=20_000)
        weight = float(dense(queries, "0.1")[q, k])
        numbers = page.inner_text("#map .tip .number").strip()
        assert abs(float(numbers.rstrip("%")) - 100 * weight) < max(0.06, 20 * weight)
        act(page, lambda: canvas.click(position=at))
        assert page.evaluate("() => state.query") == q
        page.keyboard.press("0")
        page.wait_for_timeout(100)
        assert "pieces" in settled(page) and not seen["errors"]


@needs_browser
def test_numbers_and_small_pictures_come_in(browser, queries):
    with shown(browser, queries, queries.page("server", layer=1, head=0)) as (page, seen):
        page.wait_for_selector("body[data-known='2']", timeout=60_000, state="attached")
        assert f"{'5,200'} of the" in page.inner_text("#sampled") or page.inner_text("#sampled") == ""
        bars = page.evaluate("() => [...document.querySelectorAll('#profile rect')].map(r => +r.dataset.share)")
        assert len(bars) == len(bins_within(queries.n)) and 0.9 < sum(bars) < 1.1
        drawn = "[...document.querySelectorAll('.head canvas')].map(c => c.toDataURL())"
        page.wait_for_function(f"() => new Set({drawn}).size === 8", timeout=30_000)
        act(page, lambda: page.select_option("select[aria-label='order of the heads']", "entropy"))
        assert not seen["errors"]


@needs_browser
def test_it_fits_a_phone(browser, queries):
    with shown(browser, queries, viewport={"width": 360, "height": 740}, has_touch=True) as (page, seen):
        assert page.evaluate("() => document.documentElement.scrollWidth") <= 360
        act(page, lambda: page.locator(".unit.query + .unit").first.tap())
        assert not seen["errors"]


@needs_browser
def test_nothing_in_the_text_or_its_name_is_run(browser):
    with answers(700, name=EVIL, evil=EVIL) as evil, shown(browser, evil) as (page, seen):
        act(page, lambda: page.locator(".unit").nth(3).click())
        page.locator("#map canvas").hover()
        page.wait_for_timeout(300)
        assert page.evaluate("() => window.evil") is None and page.locator("img").count() == 0
        assert page.locator("h1").evaluate("e => e.textContent") == f"What {EVIL} looks at"
        assert EVIL in page.locator(".unit").nth(3).evaluate("e => e.textContent")
        assert seen["requests"] == [] and seen["errors"] == []


@needs_browser
def test_a_server_that_has_gone_is_said_once(browser):
    with answers(3000) as brief:
        with serving(brief) as address:
            page = browser.new_page()
            page.goto(address.geturl())
            page.wait_for_selector("body[data-known='2']", timeout=30_000, state="attached")
        page.evaluate("() => change({ query: 1234 })")
        page.wait_for_selector("#lost:not([hidden])", timeout=10_000)
        assert page.locator(".unit").count() > 0
        page.close()


@needs_browser
def test_a_page_in_a_frame_asks_the_page_around_it(browser, tmp_path):
    queries = answers(2600)
    with queries:
        (tmp_path / "inner.html").write_text(render(queries.page("message", layer=0, head=2)), "utf-8")
        page = browser.new_page()
        errors = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.expose_function("answer", lambda name, params: list(queries.answer(name, params)))
        (tmp_path / "outer.html").write_text(
            """<iframe sandbox="allow-scripts" width="1000" height="900" src="inner.html"></iframe><script>
            addEventListener("message", async ({ data, source }) => {
              try {
                const bytes = new Uint8Array(await answer(data.name, data.params)).buffer;
                source.postMessage({ sightline: 1, id: data.id, bytes }, "*", [bytes]);
              } catch (error) { source.postMessage({ sightline: 1, id: data.id, error: String(error) }, "*"); }
            });</script>"""
        )
        page.goto((tmp_path / "outer.html").as_uri())
        frame = page.frame_locator("iframe")
        frame.locator("body[data-known='2']").wait_for(timeout=60_000, state="attached")
        frame.locator(".share[data-share='1']").wait_for(timeout=150_000)
        assert "looks at" in frame.locator(".say").inner_text() and not errors
        page.close()


def test_tiles_are_as_large_as_the_page_thinks():
    assert room.SIDE == views.SIDE == answers(5).page("server")["side"]
