"""A page must open anywhere, years later, without a network: one HTML file with its style, script and numbers inside.

`render` puts data (a dict that JSON can hold) into the page; the script of the page draws all it shows from that one
embedded JSON, which can therefore also be read back by a program. The data of a look are described in `inline`. Version 1
of those of a comparison:

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
    exhibit        null, or one sequence and what each head looks at in it:
                   {about: [paragraph], layers, heads, chosen {layer, head}, start: the token asked first,
                    masses[layer][head]: share of the weight on the binding, over all tokens that have one,
                    tokens [{space: text before it, text, layout: bool, gold, answer, probability, binding: index}],
                    weights: base64 of uint16, little endian, [layers, heads, n, n] in units of 1/65535}
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

VERSION = 1
SCRIPTS = {  # of each page, in order
    "page": ("elements", "plots", "heads", "page"),
    "look": (
        "elements",
        "look-source",
        "look-data",
        "look-blocks",
        "look-text",
        "look-heads",
        "look-lines",
        "look-map",
        "look-pictures",
        "look-tiles",
        "look-profile",
        "look",
    ),
}


def render(data: dict) -> str:
    """The whole page as one string, of a comparison or of a look; whatever stands in the data is shown as text and never run.

    >>> page = render({"version": 1, "title": "a </script> in the data"})
    >>> page.count("</script>")  # the two of the page itself
    2
    """
    if data.get("version") != VERSION:
        raise ValueError(
            f"lens.render: expected data of version {VERSION}, got {data.get('version')!r}; compare again"
        )
    kind = data.get("page", "page")
    if kind not in SCRIPTS:
        raise ValueError(
            f"lens.render: expected the data of a comparison or of a look, got {kind!r}; make it anew"
        )
    assets = resources.files("sightline.lens") / "assets"
    page, style = ((assets / name).read_text("utf-8") for name in ("page.html", f"{kind}.css"))
    pieces = [(assets / f"{name}.js").read_text("utf-8") for name in SCRIPTS[kind]]
    script = '"use strict";\n' + "".join(pieces)
    parts = {
        "title": html.escape(data["title"]),
        "connect": "; connect-src 'self'" * (data.get("by") == "server"),  # it asks its server
        "style": style,
        "script": script,
        # Only this very script may run, so that nothing could be injected even if the escaping failed.
        "hash": "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        "data": _embeddable(data),
    }
    return re.sub(r"\[\[(\w+)\]\]", lambda found: parts[found[1]], page)


def write_page(data: dict, path: str | os.PathLike) -> Path:
    """Write the page to `path`, aside and then renamed, so that a full disk leaves the old page whole."""
    path = Path(path)
    aside = path.with_name(path.name + ".tmp")
    try:
        aside.write_text(render(data), encoding="utf-8")
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)
    return path


def read_page(path: str | os.PathLike) -> dict:
    """The data embedded in a page, as they were given to `render`."""
    found = re.search(
        r'<script type="application/json" id="data">(.*?)</script>', Path(path).read_text("utf-8"), re.DOTALL
    )
    if found is None:
        raise ValueError(f"{path}: expected a page written by sightline, found no data in it")
    return json.loads(found[1])


def _embeddable(data: dict) -> str:
    """JSON that cannot end its own script element: `<` and the line separators of JavaScript are escaped."""
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for letter in "<>&\u2028\u2029":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    return text
