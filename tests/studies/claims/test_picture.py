"""The picture of the README holds what the committed results hold, and stands where the numbers say."""

import re
import runpy
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from studies.claims.document import read_document
from studies.claims.readme_picture import BOTTOM, COLOURS, TOP, picture

ROOT = Path(__file__).parents[3]
RESULTS = ROOT / "benchmarks" / "results" / "claims"
SVG = "{http://www.w3.org/2000/svg}"
EVIL = "</text><script>\"&'<b>"


def test_the_picture_follows_from_the_results():
    assert (ROOT / "docs" / "why.svg").read_text("utf-8") == picture(read_document(RESULTS))


def test_its_colours_are_those_of_the_pages():
    assets = ROOT / "sightline" / "lens" / "assets"
    names = re.search(r"const KINDS = {(.*?)};", (assets / "kinds.js").read_text("utf-8"), re.DOTALL)[1]
    light = (assets / "page.css").read_text("utf-8").split("@media")[0]
    shown = {
        kind: re.search(rf"--{name}: (#\w+)", light)[1] for kind, name in re.findall(r'"?([\w-]+)"?: "(\w+)"', names)
    }
    assert shown == COLOURS


def lines(title, ticks, series, percent=True, **more):
    return {
        "shape": "lines",
        "title": title,
        "caption": "Three seeds.",
        "x": {"name": "distance", "scale": "linear", "ticks": ticks},
        "y": {"name": "accuracy", "scale": "linear", "percent": percent},
        "series": [{"name": n, "points": p} for n, p in series.items()],
        **more,
    }


def document(*kept, title="Claims"):
    band = ["110", "111", "011"]
    maps = [{"name": "self-attention", "layers": [["111"] * 3]}, {"name": "convolution", "layers": [band]}]
    other = {"name": "dilated convolution", "layers": [band]}
    return {
        "title": title,
        "claims": [
            {"number": 2, "verdict": "holds", "pictures": [{"shape": "maps", "maps": [*maps, other]}]},
            {"number": 5, "verdict": "holds when", "pictures": list(kept)},
        ],
    }


def drawn(text):
    return ElementTree.fromstring(text)


def test_maps_and_lines_stand_where_the_numbers_say():
    near = lines("near, by distance", ["1"], {"rnn": [[0, 1, 1, 1]]})
    loss = lines("adding:length=9, by distance", ["1", "2", "3"], {"rnn": [[0, 1, 1, 1]]}, percent=False)
    series = {
        "self-attention": [[0, 1.0, 0.9, 1.0], [1, 0.5, 0.25, 0.75]],
        "rnn": [[0, 0.5, 0.5, 0.5], [1, 0.0, 0.0, 0.0]],
    }
    far = lines(
        "mqar:length=6-256,pairs=1-16, by distance", ["1-8", "9-32"], series, levels=[{"name": "constant", "y": 0.25}]
    )
    canvas = drawn(picture(document(near, loss, far)))
    text = [one.text for one in canvas.iter(f"{SVG}text")]
    assert "Associative recall by distance, one of 3 tasks" in text
    assert not any(word in one for one in text for word in ("near", "adding"))
    assert "Three seeds; claim 5: holds when" in text and {"100%", "78%", "constant", "9-32"} <= {*text}
    assert "dilated convolution" not in text
    heights = [float(one.get("cy")) for one in canvas.iter(f"{SVG}circle")]
    assert heights == [(TOP + BOTTOM) / 2, BOTTOM, TOP, (TOP + BOTTOM) / 2]  # self-attention is on top
    filled = [one.get("d") for one in canvas.iter(f"{SVG}path") if one.get("transform")]
    assert filled == ["M0 0h3v1h-3zM0 1h3v1h-3zM0 2h3v1h-3z", "M0 0h2v1h-2zM0 1h3v1h-3zM1 2h2v1h-2z"]
    named = [one for one in canvas.iter(f"{SVG}text") if one.text in ("self-attention", "rnn", "constant")][-3:]
    places = sorted(float(one.get("y")) for one in named)
    assert places[1] - places[0] >= 17 and places[2] - places[1] >= 17
    width = float(canvas.get("width"))
    assert all(0 <= float(one.get("x")) < width for one in canvas.iter(f"{SVG}text"))


def test_without_distances_the_maps_stand_alone():
    alone, both = (drawn(picture(document())), drawn(picture(document(lines("Far", ["1"], {"rnn": [[0, 1.0]]})))))
    assert float(alone.get("width")) < 400 < float(both.get("width"))
    assert not list(alone.iter(f"{SVG}circle")) and len(list(both.iter(f"{SVG}circle"))) == 1
    assert "Far by distance" in [one.text for one in both.iter(f"{SVG}text")]


def test_without_maps_it_is_refused():
    empty = document()
    empty["claims"][0]["pictures"] = []
    with pytest.raises(
        ValueError, match="expected maps of who hears whom in claim 2, got none; run python -m studies.claims"
    ):
        picture(empty)


def test_names_are_text():
    svg = picture(document(lines(EVIL, [EVIL], {EVIL: [[0, 1.0]]}, levels=[{"name": EVIL, "y": 0}]), title=EVIL))
    assert "<script" not in svg
    text = [one.text for one in drawn(svg).iter(f"{SVG}text")]
    assert text.count(EVIL) == 3 and f"{EVIL} by distance" in text


def test_it_is_written_by_a_command(tmp_path, monkeypatch):
    monkeypatch.delitem(sys.modules, "studies.claims.readme_picture")  # it runs as the main module instead
    monkeypatch.setattr(sys, "argv", ["picture", str(RESULTS), str(tmp_path / "why.svg")])
    runpy.run_module("studies.claims.readme_picture", run_name="__main__")
    assert drawn((tmp_path / "why.svg").read_text("utf-8")).tag == f"{SVG}svg"
