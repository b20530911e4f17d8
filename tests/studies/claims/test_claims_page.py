"""The page of the claims as a stranger meets it: in a real browser, from a file, without a network."""

import json
from pathlib import Path

import pytest

from sightline.lens import read_page
from studies.claims.page import render_claims, write_claims
from tests.lens.browser import needs_browser, opened
from tests.lens.test_page import EVIL
from tests.studies.claims.fabricated_claims import DISTANCES, ENCODERS, LENGTHS, TITLES, claims_document, maps, steps

DRAWN = "body[data-drawn]"
WIDE = {"width": 1280, "height": 800}
COMMITTED = Path(__file__).parents[3] / "benchmarks" / "results" / "claims" / "claims.json"


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return write_claims(claims_document(), tmp_path_factory.mktemp("page") / "claims.html")


@pytest.fixture(scope="module")
def shown(browser, file):
    """The page on a wide screen, for tests that leave it as it is."""
    with opened(browser, file, DRAWN, viewport=WIDE) as (page, _):
        yield page


def overflow(page):
    return page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")


def test_the_page_carries_all_it_needs_and_gives_its_data_back(file):
    text = file.read_text("utf-8")
    assert text.replace("http://www.w3.org/2000/svg", "").count("http") == text.count("http-equiv")
    assert "src=" not in text and "@import" not in text and "url(" not in text
    assert read_page(file) == claims_document()


def test_a_document_of_another_version_is_refused():
    with pytest.raises(ValueError, match="expected data of version 1, got 2"):
        render_claims(claims_document() | {"version": 2})


@needs_browser
def test_the_page_itself_refuses_another_version(browser, file, tmp_path):
    later = tmp_path / "later.html"
    later.write_text(file.read_text("utf-8").replace('"version":1', '"version":2'), "utf-8")
    with opened(browser, later, "main") as (page, seen):
        assert any("reads version 1, the data say 2" in error for error in seen["errors"])
        assert page.locator("section").count() == 0


@needs_browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_ten_verdicts_are_on_the_first_screen(browser, file, scheme):
    with opened(browser, file, DRAWN, viewport=WIDE, color_scheme=scheme) as (page, seen):
        rows = page.locator(".verdicts a")
        assert rows.evaluate_all("all => all.map(a => a.getAttribute('href'))") == [
            f"#claim-{i + 1}" for i in range(10)
        ]
        for i, (title, verdict) in enumerate(TITLES):
            row = rows.nth(i)
            assert row.locator(".title").inner_text() == title and row.locator(".badge").inner_text() == verdict
            assert row.locator(".why").inner_text() == f"{title}: the numbers say so."
            assert row.locator(".why code").inner_text() == "numbers"
        assert rows.nth(9).evaluate("a => a.getBoundingClientRect().bottom") <= WIDE["height"]
        assert page.locator(".tally li").all_inner_texts()[:2] == ["3\nholds", "3\nholds when"]
        assert "Not run: the larger grid, which needs a GPU" in page.inner_text(".tally .stage")
        # a word, a colour and a form of its own for each verdict
        looks = page.evaluate(
            """[...document.querySelectorAll('.verdicts .badge')].map(b => [
               b.dataset.verdict, getComputedStyle(b).color,
               [...b.querySelectorAll('.mark *')].map(e => e.tagName).join()])"""
        )
        assert (
            len({tuple(one) for one in looks}) == len({one[1] for one in looks}) == len({one[2] for one in looks}) == 5
        )
        paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (paper == "rgb(255, 255, 255)") == (scheme == "light")
        assert seen == {"requests": [], "errors": []}


def drawn(page, where, name):
    return page.evaluate(
        "([w, n]) => [...document.querySelectorAll(`${w} circle`)].filter(c => c.dataset.name === n)"
        ".map(c => [+c.dataset.x, +c.dataset.y, +c.getAttribute('cx'), +c.getAttribute('cy')])",
        [where, name],
    )


@needs_browser
def test_lines_stand_where_the_numbers_say(shown):
    claims = claims_document()["claims"]
    for one in claims[4]["pictures"][0]["series"]:  # by distance: medians, and a band from low to high
        assert [p[:2] for p in drawn(shown, "#claim-5 .lead", one["name"])] == [p[:2] for p in one["points"]]
    first = shown.locator("#claim-5 figure").first
    assert first.locator("path.band").count() == first.locator("path.line").count() == len(ENCODERS)
    assert first.locator("path.baseline").count() == 1
    assert first.locator("text.halo").text_content() == "trained"
    names = first.locator("text.name").all_text_contents()
    assert sorted(names) == sorted(ENCODERS)
    assert [tick for tick in first.locator("tspan").all_text_contents() if tick in DISTANCES] == DISTANCES
    # double the length is as far to the right each time, ten times as much as far up
    places = drawn(shown, "#claim-1", "self-attention, window 16")
    steps_right = [b[2] - a[2] for a, b in zip(places, places[1:], strict=False)]
    assert [p[0] for p in places] == LENGTHS and max(steps_right) - min(steps_right) < 0.5
    steps_up = [a[3] - b[3] for a, b in zip(places, places[1:], strict=False)]
    assert min(steps_up) > 0 and max(steps_up) - min(steps_up) < 0.5
    # on even axes they are not
    places = [p[2] for p in drawn(shown, "#claim-4", "lstm")]
    assert places[4] - places[3] == pytest.approx(8 * (places[1] - places[0]), rel=0.01)


@needs_browser
def test_lines_on_each_other_are_striped_and_variants_dashed(shown):
    both = drawn(shown, "#claim-1", "rnn") + drawn(shown, "#claim-1", "lstm")
    assert sorted(p[0] for p in both) == LENGTHS  # they take turns
    style = {
        name: shown.locator(f"#claim-1 path.line[data-name='{name}']").get_attribute("style")
        for name in (one["name"] for one in steps()["series"])
    }
    assert style["rnn"].split("dashoffset")[1] != style["lstm"].split("dashoffset")[1]
    assert "dasharray" not in style["self-attention"]
    assert "dasharray" in style["self-attention, window 16"] and "var(--blue)" in style["self-attention, window 16"]
    assert "var(--green)" in style["dilated convolution"]


@needs_browser
def test_values_off_a_logarithmic_axis_are_reported(shown):
    notes = shown.locator("#claim-5 figcaption").nth(1).inner_text()
    assert "no place for 0: convolution at 8, 16, 32." in notes
    assert "what is smaller still: rnn at 16, 10⁻¹⁵; rnn at 32, 10⁻³¹." in notes
    bottom = {p[3] for p in drawn(shown, "#claim-5 .pictures", "rnn")[-2:]}
    assert len(bottom) == 1


@needs_browser
def test_maps_are_the_rows_of_the_document(shown):
    for one in maps()["maps"]:
        card = shown.locator(f"#claim-2 .card[data-name='{one['name']}']")
        assert card.locator(".of").inner_text() == one["name"]
        for layer, rows in enumerate(one["layers"]):
            seen = card.locator(f"svg[data-layer='{layer}']").evaluate(
                """(canvas, n) => { const path = canvas.querySelector('path');
                return Array.from({ length: n }, (_, i) => Array.from({ length: n }, (_, j) =>
                  +path.isPointInFill(new DOMPoint(10 * j + 5, 10 * i + 5))).join('')); }""",
                len(rows),
            )
            assert seen == rows
    under = shown.locator("#claim-2 .card[data-name='convolution'] .under").all_inner_texts()
    assert [text.replace("\n", " ") for text in under] == ["1 layer 38%", "2 layers 61%", "3 layers 79%"]


@needs_browser
def test_values_stand_under_the_pointer(shown):
    series = claims_document()["claims"][4]["pictures"][0]["series"]
    point = shown.locator("#claim-5 .lead circle[data-name='lstm']").nth(2)
    point.hover()
    tip = shown.locator("#claim-5 .lead .tip").first
    lstm = next(one["points"][2] for one in series if one["name"] == "lstm")
    text = " ".join(tip.inner_text().split())
    assert "33-128" in text and "({:.1%}–{:.1%})".format(*lstm[2:]) in text and f"lstm {lstm[1]:.1%}" in text
    shown.locator("#claim-2 .card[data-name='convolution'] svg").first.hover(position={"x": 2, "y": 2})
    tip = shown.locator("#claim-2 .card[data-name='convolution'] .tip").first
    assert tip.inner_text() == "row 0, input 0: heard"


@needs_browser
def test_tables_hold_spreads_words_numbers_and_nothing(shown):
    tables = shown.locator("#claim-6 details")
    assert not tables.first.locator("table").is_visible()
    tables.nth(0).locator("summary").click()
    tables.nth(1).locator("summary").click()
    rows = tables.nth(0).locator("tbody tr").all_inner_texts()
    assert rows[0].split() == ["self-attention", "150,788", "93.0", "90.0–96.0", "80.0", "80.0–80.3"]
    assert rows[5].split() == ["best", "constant", "answer", "12.5", "–"]
    assert tables.nth(0).locator("td.best").count() == 1  # the ranges of the first column meet
    assert tables.nth(0).locator("td.best").inner_text().startswith("80.0")
    rows = [row.split("\t") for row in tables.nth(1).locator("tbody tr").all_inner_texts()]
    assert rows[0][:4] == ["rnn", "4,096", "0.123", "refuses"] and rows[1][:4] == ["lstm", "16", "–", "reads"]
    assert "the last of a list" in rows[0][4]


@needs_browser
def test_one_seed_makes_nothing_bold(browser, tmp_path):
    with opened(browser, write_claims(claims_document(seeds=1), tmp_path / "one.html"), DRAWN) as (page, seen):
        assert page.locator("td.best").count() == page.locator("td small").count() == 0
        assert page.locator("circle.point").count() > 100 and not seen["errors"]


@needs_browser
def test_cells_that_were_not_run_are_shown(shown):
    missing = shown.locator("#claim-5 .missing")
    assert "Not run: 30 measurements of 60" in missing.inner_text()
    assert "mqar-64-64 15 of 15, mqar-512-64 15 of 15" in " ".join(missing.inner_text().split())
    assert missing.locator(".chip").inner_text() == "GPU"
    assert shown.locator("#claim-1 .missing").count() == 0
    assert shown.locator("#claim-8 .badge").inner_text() == "not run"
    assert shown.locator("#claim-8 .answer").evaluate("e => getComputedStyle(e).borderTopStyle") == "dashed"
    assert shown.locator("#claim-8 figure, #claim-8 table").count() == 0
    run = shown.locator("#claim-5 .follows dd").all_inner_texts()
    assert run[2] == "30 measurements of 60 planned, in 67 min" and run[3] == "python -m studies.claims --only 5"


@needs_browser
def test_the_keys_go_from_claim_to_claim(browser, file):
    with opened(browser, file, DRAWN, viewport=WIDE) as (page, _):
        presses = [
            ("j", "claim-1"),
            ("ArrowRight", "claim-2"),
            ("k", "claim-1"),
            ("ArrowLeft", "verdicts"),
            ("k", "verdicts"),
            ("j", "claim-1"),
        ]
        for key, place in presses:
            page.keyboard.press(key)
            assert page.evaluate("location.hash") == f"#{place}"
            assert 0 <= page.locator(f"#{place}").evaluate("e => e.getBoundingClientRect().top") < 60
        assert page.evaluate("document.activeElement.textContent") == "One step"
        page.wait_for_selector("nav [aria-current][href='#claim-1']")
        page.keyboard.press("Control+j")  # the browser's own
        assert page.evaluate("location.hash") == "#claim-1"
        for _ in range(12):
            page.keyboard.press("j")
        assert page.evaluate("location.hash") == "#claim-10"
        # the arrows move a table that is wider than its place
        page.locator("#claim-10 summary").first.click()
        page.locator("#claim-10 .scroll").first.focus()
        page.keyboard.press("ArrowLeft")
        assert page.evaluate("location.hash") == "#claim-10"


@needs_browser
def test_a_link_to_a_claim_lands_on_it(browser, file):
    with opened(browser, file, DRAWN, viewport=WIDE) as (page, _):
        page.goto(f"{file.as_uri()}#claim-7")
        page.reload()
        page.wait_for_selector(DRAWN)
        assert 0 <= page.locator("#claim-7").evaluate("e => e.getBoundingClientRect().top") < 60
        page.locator("nav a").nth(3).click()
        assert 0 <= page.locator("#claim-3").evaluate("e => e.getBoundingClientRect().top") < 60


@needs_browser
@pytest.mark.parametrize("width", [360, 1280])
def test_nothing_is_wider_than_the_screen(browser, file, width):
    with opened(browser, file, DRAWN, viewport={"width": width, "height": 740}) as (page, seen):
        assert overflow(page) == 0
        page.evaluate("for (const one of document.querySelectorAll('details')) one.open = true")
        assert overflow(page) == 0 and not seen["errors"]
        legends = page.locator("#claim-5 .lead .keys").count()
        assert (legends > 0) == (width == 360)  # names at the lines, or above them where there is no room


@needs_browser
def test_paper_has_no_folds(browser, file):
    with opened(browser, file, DRAWN, viewport=WIDE) as (page, _):
        page.emulate_media(media="print")
        page.evaluate("dispatchEvent(new Event('beforeprint'))")
        assert not page.locator("nav").is_visible() and page.locator("details:not([open])").count() == 0
        page.evaluate("dispatchEvent(new Event('afterprint'))")
        assert page.locator("details[open]").count() == 0


def poisoned(value):
    """Every text of a document made hostile, but for those that say how it is to be read."""
    if isinstance(value, dict):
        kept = ("page", "shape", "scale", "unit", "stage")
        return {name: one if name in kept else poisoned(one) for name, one in value.items()}
    if isinstance(value, list):
        return [poisoned(one) for one in value]
    return value if not isinstance(value, str) or set(value) <= {"0", "1"} else EVIL + value


@needs_browser
def test_nothing_in_the_data_is_run(browser, tmp_path):
    evil = poisoned(claims_document())
    evil["claims"][0]["pictures"].append({"shape": EVIL, "title": EVIL, "caption": EVIL})
    evil["claims"][1]["verdict"] = "constructor"
    for one in evil["claims"]:
        one["left_out"].append({"why": EVIL, "what": [{"group": EVIL, "missing": EVIL, "planned": EVIL}]})
    evil["machines"] = [{EVIL: EVIL}]
    with opened(browser, write_claims(evil, tmp_path / "evil <b>.html"), DRAWN, viewport=WIDE) as (page, seen):
        page.evaluate("for (const one of document.querySelectorAll('details')) one.open = true")
        for where in ("#claim-5 circle.point >> nth=-1", "#claim-2 .map svg"):
            page.locator(where).first.evaluate("e => e.scrollIntoView({ block: 'center' })")
            page.locator(where).first.hover()
        page.keyboard.press("j")
        assert page.evaluate("window.evil") is None and page.locator("img, iframe").count() == 0
        assert page.locator("script").count() == 2 and seen == {"requests": [], "errors": []}
        start = EVIL.split("\u2028")[0]
        for where in ("h1", "#claim-1 h2", "#claim-1 h3", "#claim-1 td", "#claim-2 .of", ".missing dd", ".settings th"):
            assert start in page.locator(where).first.evaluate("e => e.textContent"), where
        assert page.locator("#claim-2 .badge").get_attribute("data-verdict") == "not run"


@needs_browser
def test_nothing_was_run(browser, tmp_path):
    file = write_claims(claims_document(run=False), tmp_path / "none.html")
    with opened(browser, file, DRAWN, viewport=WIDE) as (page, seen):
        assert page.inner_text(".tally .stage") == "Nothing has been run yet."
        assert page.locator(".verdicts [data-verdict='not run'] .mark").count() == 10
        assert page.locator(".missing").count() == 10 and page.locator("figure, details").count() == 0
        assert overflow(page) == 0 and not seen["errors"]


@needs_browser
def test_a_picture_without_a_point_says_so(browser, tmp_path):
    document = claims_document()
    [picture] = document["claims"][0]["pictures"]
    picture["series"] = [{"name": "rnn", "points": [[64, 0]]}]
    document["claims"][0]["pictures"].append(picture | {"series": []})
    with opened(browser, write_claims(document, tmp_path / "empty.html"), DRAWN) as (page, seen):
        assert page.locator("#claim-1 .nothing").count() == 2 and not seen["errors"]


@needs_browser
def test_the_committed_results_are_drawn(browser, tmp_path):
    committed = json.loads(COMMITTED.read_text("utf-8"))
    with opened(browser, write_claims(committed, tmp_path / "claims.html"), DRAWN) as (page, seen):
        assert page.locator(".claim").count() == len(committed["claims"]) and not seen["errors"]
        pictures = sum(len(claim["pictures"]) for claim in committed["claims"])
        assert page.locator("figure svg[role=img]").count() >= pictures == page.locator("figure").count()
        assert page.locator(".nothing").count() == 0


def test_the_command_writes_the_page_and_says_where(tmp_path):
    from typer.testing import CliRunner

    from studies.claims.__main__ import app

    done = CliRunner().invoke(app, ["--only", "chain", "--quick", "--out", str(tmp_path)])
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines()[-1] == f"The page: {tmp_path / 'claims.html'}"
    assert read_page(tmp_path / "claims.html") == json.loads((tmp_path / "claims.json").read_text("utf-8"))
