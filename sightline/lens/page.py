"""A page must open anywhere, years later, without a network: one HTML file with its style, script and numbers inside.

`render` puts data (a dict that JSON can hold) into the page; the script of the page draws all it shows from that one
embedded JSON, which can therefore also be read back by a program. The data of a look are described in `inline`, those of a
report on heads where they are made, in `head_roles.page_data`. Version 1 of those of a comparison:

    version        1
    title, about   a line; a list of paragraphs, in which `names` may stand between backticks
    measure        {name, better: "higher" | "lower", percent: bool}: what is compared
    equal          the two column headings: the measure at equal time, and at equal tokens
    loss_name      what the training loss is, in words
    buckets        names of the distance buckets, nearest first, as in "9-32"; then those that are no distance, such
                   as "outside"; empty where the task has no distances
    distance_name  what a distance is, in words
    encoders       [{kind, rate, encoder: {setting: value}, parameters, tokens_per_second, steps,
                     time, tokens: spread, distance: {bucket: spread}, shown: the seed whose curves are drawn strong,
                     runs: [{seed, loss: [[seconds, tokens, loss]], milestones: [[tokens, seconds, measure]]}]}]
                   where a spread is {median, low, high} over the seeds, or null
    baselines      [{name, value, distance: {bucket: value}}]: answers that need no encoder
    sentences, notes, captions {distance, time, tokens}, settings {name: value}, machine {name: value}
    exhibit        null, or one sequence and what each head looks at in it, drawn as a look in a frame:
                   {about: [paragraph], layers, heads, chosen {layer, head}, start: the token asked first,
                    tokens [{space: text before it, text, layout: bool, gold, answer, probability, binding: index}],
                    weights: base64 of uint16, little endian, [layers, heads, n, n] in units of 1/65535,
                    influence: likewise [n, n], the share of each input in what moves an encoding, and probes: how it was
                    estimated; older data lack both}
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import os
import re
from importlib import resources
from pathlib import Path
from typing import NamedTuple

from sightline.files import replacing
from sightline.lens.exhibited import look_of

VERSION = 1


class Assets(NamedTuple):
    """The scripts and styles of a page, in order: names of files in `assets`, or paths without ending."""

    scripts: tuple[str | Path, ...]
    styles: tuple[str | Path, ...]


LOOK = "look-source look-data look-blocks look-text look-heads look-lines look-map look-pictures look-tiles look-profile look-predicts"
PAGES = {
    "page": Assets(("elements", "scales", "kinds", "plots", "compared", "exhibit", "page"), ("page",)),
    "heads": Assets(
        ("elements", "scales", "heads-data", "heads-scatter", "heads-table", "heads-sheet", "heads"), ("page", "heads")
    ),
    "look": Assets(("elements", *LOOK.split(), "look", "look-notes"), ("look",)),
}


def render(data: dict, assets: Assets | None = None) -> str:
    """The whole page as one string, of a comparison, a look or heads; whatever stands in the data is shown as text and never run.

    `assets` draw data of another kind.

    >>> page = render({"version": 1, "title": "a </script> in the data"})
    >>> page.count("</script>")  # the two of the page itself
    2
    """
    if data.get("version") != VERSION:
        raise ValueError(f"lens.render: expected data of version {VERSION}, got {data.get('version')!r}; compare again")
    kind = data.get("page", "page")
    if assets is None and kind not in PAGES:
        raise ValueError(f"lens.render: expected the data of a comparison, a look or heads, got {kind!r}; make it anew")
    assets = assets or PAGES[kind]
    style, script = "".join(_asset(name, ".css") for name in assets.styles), _script(assets)
    if data.get("shows") == "influence":
        style += _asset("influence", ".css")
    if not data.get("exhibit"):
        return _laid_out(data["title"], style, [script], [_embeddable(data)], data.get("by") == "server")
    inner = _script(PAGES["look"])
    shown = look_of(data["exhibit"])
    frame = _laid_out(shown["title"], _asset("look", ".css") + _asset("framed", ".css"), [inner], [_embeddable(shown)])
    return _laid_out(data["title"], style, [script, inner], [_embeddable(data), _embeddable(frame)])


def _asset(name: str | Path, ending: str) -> str:
    folder = resources.files("sightline.lens") / "assets"
    return (folder / f"{name}{ending}").read_text("utf-8")  # a whole path stays itself


def _script(assets: Assets) -> str:
    return '"use strict";\n' + "".join(_asset(name, ".js") for name in assets.scripts)


def _laid_out(title: str, style: str, scripts: list[str], data: list[str], served: bool = False) -> str:
    """A page that runs the first of the scripts; the others may run in frames, which are under the rule of the page around them.

    The first of the data are the page's; what follows is a frame.
    """
    hashes = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    parts = {
        "title": html.escape(title),
        "connect": "; connect-src 'self'" * served,  # it asks its server
        "style": style,
        "script": scripts[0],
        # Only these very scripts may run, so that nothing could be injected even if the escaping failed.
        "hash": "' '".join(f"sha256-{hash}" for hash in hashes),
        "data": '</script>\n<script type="application/json" id="frame">'.join(data),
    }
    return re.sub(r"\[\[(\w+)\]\]", lambda found: parts[found[1]], _asset("page", ".html"))


def write_page(data: dict, path: str | os.PathLike, assets: Assets | None = None) -> Path:
    """Write the page to `path`, aside and then renamed, so that a full disk leaves the old page whole.

    A device or a pipe is written into, and of a link what it stands for.
    """
    page = render(data, assets).encode("utf-8", "backslashreplace")  # a file name may be no UTF-8
    with replacing(path, named=True) as file:
        file.write(page)
    return Path(path)


def read_page(path: str | os.PathLike) -> dict:
    """The data embedded in a page, as they were given to `render`."""
    found = re.search(
        r'<script type="application/json" id="data">(.*?)</script>', Path(path).read_text("utf-8"), re.DOTALL
    )
    if found is None:
        raise ValueError(f"{path}: expected a page written by sightline, found no data in it")
    return json.loads(found[1])


def _embeddable(data: dict | str) -> str:
    """JSON that cannot end its own script element: `<` and the line separators of JavaScript are escaped."""
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for letter in "<>&\u2028\u2029":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    return text
