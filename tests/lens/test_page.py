"""The page in a real browser: opened from a file, without a network."""

import base64
import copy
import json
import zlib

import numpy as np
import pytest

from sightline.lens import read_page, render, write_page
from sightline.lens.page import exhibit_look
from tests.lens.browser import needs_browser, opened
from tests.lens.fabricated import BUCKETS, KINDS, comparison

EVIL = '</script><img src=x onerror="window.evil=1"><script>window.evil=1</script>&lt;b&gt;\u2028 [[script]] "\'`${1}'


def test_the_data_come_back_from_the_page(tmp_path):
    report = comparison()
    report["title"] = EVIL
    assert read_page(write_page(report, tmp_path / "page.html")) == report


def test_the_page_carries_all_it_needs_and_names_no_other_place():
    page = render(comparison())
    assert "http://www.w3.org/2000/svg" in page  # the name of a language, not an address that is asked
    assert page.replace("http://www.w3.org/2000/svg", "").count("http") == page.count("http-equiv")
    assert "src=" not in page and "@import" not in page and "url(" not in page
    assert len(page) < 1_500_000


def test_other_versions_and_other_files_are_refused(tmp_path):
    with pytest.raises(ValueError, match="version 1, got 2"):
        render({"version": 2, "title": "later"})
    (tmp_path / "other.html").write_text("<html></html>")
    with pytest.raises(ValueError, match="found no data in it"):
        read_page(tmp_path / "other.html")


def test_a_page_that_cannot_be_written_leaves_the_old_one(tmp_path):
    path = write_page(comparison(), tmp_path / "page.html")
    before = path.read_bytes()
    broken = comparison()
    broken["about"] = [float("nan")]
    with pytest.raises(ValueError):
        write_page(broken, path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["page.html"]


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return write_page(comparison(), tmp_path_factory.mktemp("page") / "report.html")


@needs_browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_opens_without_a_request_or_an_error(browser, file, scheme):
    with opened(browser, file, color_scheme=scheme) as (page, seen):
        assert page.inner_text("h1") == "Five encoders on scope"
        assert seen == {"requests": [], "errors": []}
        paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (paper == "rgb(255, 255, 255)") == (scheme == "light")


@needs_browser
def test_it_fits_a_phone(browser, file):
    with opened(browser, file, viewport={"width": 360, "height": 740}) as (page, seen):
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        assert page.locator("#distance .keys span:not(.dot)").count() == len(KINDS) + 2
        page.set_viewport_size({"width": 1000, "height": 740})
        page.wait_for_function("!document.querySelector('.keys')")
        assert page.locator("#distance text.name").all_inner_texts()


@needs_browser
def test_the_table_and_plots_hold_the_numbers(browser, file):
    report = comparison()
    with opened(browser, file) as (page, _):
        rows = page.locator(".results tbody tr").all_inner_texts()
        assert [row.split("\t")[0].strip() for row in rows] == KINDS + ["most frequent", "plain rule"]
        assert "91.6" in rows[0] and "90.8–92.2" in rows[0]
        for encoder in report["encoders"]:
            drawn = _points(page, "#distance", encoder["kind"])
            assert drawn == [[i, encoder["distance"][bucket]["median"]] for i, bucket in enumerate(BUCKETS)]
            drawn = _points(page, "#tokens", encoder["kind"])
            assert drawn == [[tokens, measure] for tokens, _, measure in encoder["runs"][0]["milestones"]]
            line = page.locator(f"#time path.line[data-kind={encoder['kind']}]:not(.other)").get_attribute("d")
            assert line.count("L") + 1 == len(encoder["runs"][0]["loss"])
            assert page.locator(f"#time path.other[data-kind={encoder['kind']}]").count() == 2
        # higher is drawn higher
        ends = page.evaluate(
            "[...document.querySelectorAll('#distance circle[data-x=\"4\"]')]"
            ".map(c => [+c.dataset.y, +c.getAttribute('cy')])"
        )
        assert sorted(ends) == sorted(ends, key=lambda end: -end[1])


def _points(page, where, kind):
    return page.evaluate(
        "([w, k]) => [...document.querySelectorAll(`${w} circle[data-kind=${k}]`)]"
        ".map(c => [+c.dataset.x, +c.dataset.y])",
        [where, kind],
    )


@needs_browser
def test_values_stand_under_the_pointer(browser, file):
    with opened(browser, file, viewport={"width": 1100, "height": 900}) as (page, _):
        point = page.locator("#distance circle[data-kind=lstm]").nth(2)
        point.hover()
        tip = page.locator("#distance .tip")
        assert tip.is_visible()
        assert "16-63" in tip.inner_text() and "70.1%" in tip.inner_text()
        page.mouse.move(2, 2)
        assert not tip.is_visible()


@needs_browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_function_is_a_look_in_the_page_with_the_answers_beside_it(browser, file, scheme):
    show = comparison()["exhibit"]
    uses = [i for i, token in enumerate(show["tokens"]) if token["binding"] not in (None, i)]
    with opened(browser, file, ready="body[data-drawn]", color_scheme=scheme) as (page, seen):
        look = page.locator("#sight .look")
        assert page.locator("iframe").count() == 0 and page.locator("script:not([type])").count() == 1
        code = "".join(token["space"] + token["text"] for token in show["tokens"])
        assert look.locator(".text").evaluate("e => e.textContent") == code
        assert look.locator(".head[aria-pressed=true]").get_attribute("data-view") == "1.2"
        assert look.locator(".unit.query").get_attribute("data-i") == str(show["start"])
        wrong = [i for i, token in enumerate(show["tokens"]) if token["answer"] != token["gold"]]
        marked = look.locator(".unit.wrong").evaluate_all("spans => spans.map(span => +span.dataset.i)")
        assert marked == wrong and wrong
        for use in (uses[2], wrong[0]):
            token, unit = show["tokens"][use], look.locator(f".unit[data-i='{use}']")
            unit.click()
            look.locator(f".unit.query[data-i='{use}']").wait_for()
            answer = page.inner_text(".prediction")
            assert f"{token['text']}: {token['gold']}; predicted: {token['answer']} (93%)." in answer
            if token["binding"] is not None:
                assert look.locator(".unit.gold").get_attribute("data-i") == str(token["binding"])
                assert f"{use - token['binding']} tokens back" in answer
        look.locator(".unit[data-i='0']").click()
        page.wait_for_function("document.querySelector('.prediction').innerText.includes('no use of a name')")
        assert look.locator("#profile path.influence").count() == 1 and page.locator("header").count() == 1
        assert not look.locator(".segments").first.is_visible()  # words and pieces are the same tokens
        look.locator(".head[data-view='0.3']").click()
        look.locator("#map h2 >> text=layer 0, head 3").wait_for()
        paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (paper == "rgb(255, 255, 255)") == (scheme == "light")
        assert seen == {"requests": [], "errors": []}


@needs_browser
def test_the_keys_of_a_look_act_inside_it_alone(browser, file):
    with opened(browser, file, ready="body[data-drawn]", viewport={"width": 1200, "height": 900}) as (page, seen):
        views = page.locator("#sight select[aria-label=head]")
        page.locator("#time").click()
        page.keyboard.press("]")
        page.keyboard.press("l")
        page.wait_for_timeout(100)
        assert views.input_value() == "2" and not page.locator("input[name=every]").is_checked()
        page.locator("#sight .unit.query").click()
        page.keyboard.press("]")
        page.wait_for_selector("#sight .head[data-view='1.3'][aria-pressed=true]")
        assert views.input_value() == "3" and not seen["errors"]


@needs_browser
@pytest.mark.parametrize("width", [400, 1280])
def test_the_look_keeps_its_lines_of_code_whole_where_there_is_room(browser, file, width):
    with opened(browser, file, ready="body[data-drawn]", viewport={"width": width, "height": 800}) as (page, _):
        look, main = (page.locator(part).bounding_box() for part in ("#sight .look", "main"))
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert (look["width"] > main["width"]) == (width == 1280)
        sizes = page.evaluate(
            """['#sight .look', '.lede'].map(part => {
              const style = getComputedStyle(document.querySelector(part));
              return parseFloat(style.lineHeight) / 16;
            })"""
        )
        assert sizes == pytest.approx([1.5, 1.7], abs=0.01)  # the styles of a look end at its edge


def test_the_look_of_an_exhibit_holds_its_weights():
    show = comparison()["exhibit"]
    n = len(show["tokens"])
    weights = np.frombuffer(base64.b64decode(show["weights"]), "<u2").reshape(3, 4, n, n) / 65535
    data = exhibit_look(show)
    stored = np.frombuffer(zlib.decompress(base64.b64decode(data["blocks"]["map/1.2"]), -15), np.uint8)
    assert np.abs((stored.reshape(n, n) / 255.0) ** 2 - weights[1, 2]).max() < 0.004
    uses = [(i, token["binding"]) for i, token in enumerate(show["tokens"]) if token["binding"] is not None]
    expected = np.mean([weights[:, :, i, binding] for i, binding in uses], 0)
    assert np.allclose(data["statistics"]["binding"], expected, atol=1e-3)
    assert sum(data["influence"]["profile"]) == pytest.approx(1, abs=0.01)
    assert data["start"]["from"] == show["start"] and data["opens"] == ""  # it opens elsewhere than a look would


@needs_browser
def test_nothing_in_the_data_is_run(browser, tmp_path):
    report = json.loads(json.dumps(comparison()).replace("most frequent", "placeholder"))
    report = _poisoned(report)
    report["buckets"] = []
    with opened(browser, write_page(report, tmp_path / "evil <b>.html"), ready="body[data-drawn]") as (page, seen):
        page.locator("#sight .unit").first.click()
        page.hover("#time svg")
        page.wait_for_timeout(100)
        assert page.evaluate("window.evil") is None
        assert page.locator("img").count() == 0
        assert seen == {"requests": [], "errors": []}
        assert EVIL.split("\u2028")[0] in page.locator("h1").evaluate("e => e.textContent")


def _poisoned(report):
    report = copy.deepcopy(report)
    report["title"] = report["loss_name"] = report["distance_name"] = report["measure"]["name"] = EVIL
    for key in ("about", "sentences", "notes", "equal"):
        report[key] = [EVIL] * 2
    report["captions"] = dict.fromkeys(report["captions"], EVIL)
    report["settings"] = report["machine"] = {EVIL: EVIL}
    for encoder in report["encoders"]:
        encoder["kind"] = EVIL
    for baseline in report["baselines"]:
        baseline["name"] = EVIL
    for token in report["exhibit"]["tokens"]:
        token["text"] += EVIL
        token["answer"] = token["answer"] and EVIL
    return report


@needs_browser
def test_one_seed_no_distances_and_a_measure_that_falls(browser, tmp_path):
    report = comparison(seeds=1, buckets=[], exhibit=False)
    report["measure"] = {"name": "squared error", "better": "lower", "percent": False}
    with opened(browser, write_page(report, tmp_path / "report.html")) as (page, seen):
        assert page.locator("#distance").count() == page.locator("#sight").count() == 0
        best = page.locator("td.best").first.locator("xpath=..").get_attribute("data-kind")
        assert best == "fully-connected"
        assert page.locator(".results small").count() == 0
        assert not seen["errors"]
