"""A page must open anywhere, years later, without a network: one HTML file with its style, script and numbers inside.

`render` puts data (a dict that JSON can hold) into the page; the script draws everything from that JSON, which a
program can also read back. `inline` describes the data of a look, `head_roles.page_data` those of a report on heads.
Those of a comparison, version 1:

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
    exhibit        null, or one sequence and what each head looks at in it, drawn as a look:
                   {about: [paragraph], layers, heads, chosen {layer, head}, start: the token to start at,
                    tokens [{space: text before it, text, layout: bool, gold, answer, probability, binding: index}],
                    weights: base64 of uint16, little endian, [layers, heads, n, n] in units of 1/65535,
                    influence: likewise [n, n], the share of each input in what moves an encoding,
                    probes: the number of random probes that estimated it}
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

import numpy as np
import torch
from torch import Tensor

from sightline.files import replacing
from sightline.lens.influence_profile import Shares, influence_data
from sightline.lens.page_data import look_data
from sightline.models import Text, Unit

VERSION = 1


class Assets(NamedTuple):
    """The scripts and styles of a page, in order: names of files in `assets`, or paths without ending."""

    scripts: tuple[str | Path, ...]
    styles: tuple[str | Path, ...]

    def joined(self, ending: str) -> str:
        """The text of all files of one ending, which is .js or .css."""
        folder = resources.files("sightline.lens") / "assets"
        names = self.scripts if ending == ".js" else self.styles
        return "".join((folder / f"{name}{ending}").read_text("utf-8") for name in names)  # a whole path stays itself


BASE = ("elements", "numbers", "start")
PLOTS = (*BASE, "scales", "kinds", "plots")
LOOK = tuple(
    f"look-{name}" for name in "source data blocks text heads lines map pictures tiles profile predicts".split()
) + ("look",)
PAGES = {  # scripts of a page share one scope: each uses names of those before it, and in functions of those after
    "comparison": Assets((*PLOTS, "comparison"), ("page", "comparison")),
    "comparison with exhibit": Assets((*PLOTS, *LOOK, "exhibit", "comparison"), ("page", "look", "comparison")),
    "heads": Assets(
        (*BASE, "scales", "heads-data", "heads-scatter", "heads-table", "heads-sheet", "heads"), ("page", "heads")
    ),
    "look": Assets((*BASE, "scales", *LOOK, "look-page"), ("page", "look")),
}


def render(data: dict, assets: Assets | None = None) -> str:
    """The whole page of a comparison, a look or heads as one string; text in the data is shown and never run.

    `assets` draw data of another kind.

    >>> page = render({"version": 1, "title": "a </script> in the data"})
    >>> page.count("</script>")  # the two of the page itself
    2
    """
    if data.get("version") != VERSION:
        raise ValueError(f"lens.render: expected data of version {VERSION}, got {data.get('version')!r}; make it again")
    kind, exhibit = data.get("page", "comparison"), data.get("exhibit")
    if assets is None:
        kind += " with exhibit" if kind == "comparison" and exhibit else ""
        if kind not in PAGES:
            raise ValueError(
                f"lens.render: expected the data of a comparison, a look or heads, got {kind!r}; make it again"
            )
        assets = PAGES[kind]
    script = f'"use strict";\n{assets.joined(".js")}'
    parts = {
        "title": html.escape(data["title"]),
        "connect": "; connect-src 'self'" * (data.get("by") == "server"),  # it asks its server
        "style": assets.joined(".css"),
        "script": script,
        # Only this very script may run, so that nothing could be injected even if the escaping failed.
        "hash": base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        "data": _json_element("data", data) + (_json_element("look", exhibit_look(exhibit)) if exhibit else ""),
    }
    template = (resources.files("sightline.lens") / "assets" / "page.html").read_text("utf-8")
    return re.sub(r"\[\[(\w+)\]\]", lambda match: parts[match[1]], template)


def exhibit_look(exhibit: dict) -> dict:
    """The data of a look at the exhibit of a comparison, with the bindings of its names."""
    tokens, chosen = exhibit["tokens"], exhibit["chosen"]
    units = [Unit(token["space"], token["text"]) for token in tokens]
    gold = [(i, token["binding"]) for i, token in enumerate(tokens) if token["binding"] is not None]
    n = len(units)
    text = Text(units, units, list(range(n)), [False] * n, gold)
    maps = _shares(exhibit["weights"]).view(exhibit["layers"], exhibit["heads"], n, n)
    data = look_data(Shares(maps), text, "self-attention", None, chosen["layer"], chosen["head"])
    data["start"]["from"] = exhibit["start"]
    data["opens"] = ""  # the comparison says why it opens there
    data["influence"] = influence_data(
        _shares(exhibit["influence"]).view(n, n), torch.arange(n), exhibit["probes"], text
    )
    return data


def _shares(shares: str) -> Tensor:
    return torch.from_numpy(np.frombuffer(base64.b64decode(shares), "<u2") / np.float32(65535))


def write_page(data: dict, path: str | os.PathLike, assets: Assets | None = None) -> Path:
    """Write the page to `path`, aside and then renamed, so that a full disk leaves the old page whole.

    A device or a pipe is written to directly; of a link, the target is replaced.
    """
    page = render(data, assets).encode("utf-8", "backslashreplace")  # a file name need not be UTF-8
    with replacing(path, named=True) as file:
        file.write(page)
    return Path(path)


def read_page(path: str | os.PathLike) -> dict:
    """The data embedded in a page, as `render` received them.

    Raises: ValueError where the page has none.
    """
    page = Path(path).read_text("utf-8")
    match = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    if match is None:
        raise ValueError(f"{path}: expected a page written by sightline, found no data in it")
    return json.loads(match[1])


def _json_element(name: str, data: dict) -> str:
    """JSON that cannot end its own script element: `<` and the line separators of JavaScript are escaped."""
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for letter in "<>&\u2028\u2029":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    return f'<script type="application/json" id="{name}">{text}</script>'
