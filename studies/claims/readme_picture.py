"""The picture of the README as an SVG: receptive fields (claim 2), and accuracy by distance (claim 5).

python -m studies.claims.readme_picture benchmarks/results/claims docs/why.svg

Its greys and colours are legible on light and on dark backgrounds.
"""

from __future__ import annotations

import re
import sys
from html import escape
from pathlib import Path

from sightline.files import write_files
from studies.claims.document import read_document

COLOURS = {  # as on all pages
    "self-attention": "#0072b2",
    "rnn": "#e69f00",
    "lstm": "#d55e00",
    "convolution": "#009e73",
    "fully-connected": "#cc79a7",
}
TASKS = {"mqar": "Associative recall", "scope": "The scope of names", "adding": "Adding two numbers"}  # in plain words
INK = "#757f8a"
LEFT, TOP, BOTTOM = 318, 84, 332  # the width of the maps; the upper and lower edge of both panels
RIGHT, NAMES, BETWEEN = 372, 240, 76  # the widths of the lines, of their names, and of the gap between the panels
SIDE, ACROSS = 92, 3  # of a map; maps in a row
STYLE = (
    f"text{{font:12.5px system-ui,-apple-system,'Segoe UI',Roboto,'Liberation Sans',Arial,sans-serif;fill:{INK}}}"
    ".title{font-size:14.5px;font-weight:650}.end{text-anchor:end}.middle{text-anchor:middle}"
)


def picture(document: dict) -> str:
    """The SVG of a document of claims; the maps alone where no accuracy was measured by distance.

    Raises: ValueError where there are no maps.
    """
    claims = {claim["number"]: claim for claim in document["claims"]}
    maps = [one for one in claims[2]["pictures"] if one["shape"] == "maps"]
    if not maps:
        raise ValueError(
            "claims: expected maps of who hears whom in claim 2, got none; run python -m studies.claims --only 2"
        )
    heading = _heading(0, "Who hears whom after one layer", "a row (down) of an input (across)", claims[2])
    parts, width = [*heading, *_maps(maps[0])], LEFT
    if plot := _finest(claims[5]["pictures"]):
        left = LEFT + BETWEEN
        parts += _heading(left - 30, plot["title"], plot["caption"].rstrip("."), claims[5])
        parts += _lines(plot, left)
        width = left + RIGHT + NAMES
    size = f'viewBox="0 0 {width} 390" width="{width}" height="390"'
    title = f"<title>{escape(document['title'])}</title>"
    style = f"<style>{STYLE}</style>"
    return "\n".join([f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">', title, style, *parts, "</svg>\n"])


def _finest(pictures: list[dict]) -> dict | None:
    """The first plot of accuracy with the most distances, titled by its task in plain words; None without one."""
    by_distance = [one for one in pictures if one["shape"] == "lines" and one["x"].get("ticks")]
    shares = [one for one in by_distance if one["y"]["percent"]]
    if not shares:
        return None
    plot = max(shares, key=lambda one: len(one["x"]["ticks"]))
    task, _, _ = plot["title"].replace(",", ":").partition(":")
    among = f", one of {len(by_distance)} tasks" * (len(by_distance) > 1)
    return plot | {"title": f"{TASKS.get(task, task)} by distance{among}"}


def _heading(left: float, title: str, caption: str, claim: dict) -> list[str]:
    verdict = f"{caption}; claim {claim['number']}: {claim['verdict']}"
    return [_text(left, 18, title, "title"), _text(left, 38, verdict)]


def _text(x: float, y: float, text: str, kind: str = "") -> str:
    named = f' class="{kind}"' if kind else ""
    return f'<text x="{x:.1f}" y="{y:.1f}"{named}>{escape(text)}</text>'


def _maps(picture: dict) -> list[str]:
    """A small map for each encoder, with the share of inputs within the receptive fields."""
    parts = []
    layers = {one["name"]: one["layers"][0] for one in picture["maps"] if one["name"] in COLOURS}
    for i, name in enumerate(name for name in COLOURS if name in layers):
        rows = layers[name]
        down, across = divmod(i, ACROSS)
        left, top = across * (SIDE + 21), 60 + down * (SIDE + 62)
        unit = SIDE / len(rows)
        cells = "".join(
            f"M{run.start()} {y}h{len(run[0])}v1h-{len(run[0])}z"
            for y, row in enumerate(rows)
            for run in re.finditer("1+", row)
        )
        place = f"translate({left} {top}) scale({unit:g})"
        share = sum(row.count("1") for row in rows) / len(rows) ** 2
        parts += [
            f'<rect x="{left}" y="{top}" width="{SIDE}" height="{SIDE}" fill="{INK}" opacity="0.22"/>',
            f'<path transform="{place}" d="{cells}" fill="{COLOURS[name]}" shape-rendering="crispEdges"/>',
            _text(left, top + SIDE + 17, name),
            _text(left, top + SIDE + 33, f"{share:.0%}"),
        ]
    return parts


def _lines(picture: dict, left: float) -> list[str]:
    """A line for each encoder with the range of its seeds, its name at the end."""
    ticks = picture["x"]["ticks"]
    series = sorted(picture["series"], key=lambda one: one["name"] == "self-attention")  # on top of the others

    def x(i: float) -> float:
        return left + (i + 0.5) * RIGHT / len(ticks)

    def y(share: float) -> float:
        return BOTTOM - share * (BOTTOM - TOP)

    parts = [_text(left - 30, TOP - 18, f"{picture['y']['name']}, %")]
    for tenth in range(0, 11, 2):
        opacity = 0.6 if tenth == 0 else 0.25
        parts.append(f'<path d="M{left} {y(tenth / 10):.1f}h{RIGHT}" stroke="{INK}" opacity="{opacity}"/>')
        parts.append(_text(left - 8, y(tenth / 10) + 4, str(10 * tenth), "end"))
    parts += [_text(x(i), BOTTOM + 19, tick, "middle") for i, tick in enumerate(ticks)]
    parts.append(_text(left + RIGHT / 2, BOTTOM + 42, picture["x"]["name"], "middle"))
    ends = []
    for one in series:
        colour = COLOURS.get(one["name"], INK)
        points = [(x(i), y(middle), *map(y, span)) for i, middle, *span in one["points"]]
        parts += _line(points, colour)
        ends.append((points[-1][1], points[-1][0] + 7, colour, one["name"]))
    for level in picture.get("levels", []):
        points = [(x(i), y(share)) for i, share in level.get("points", ())] or [
            (left, y(level["y"])),
            (left + RIGHT, y(level["y"])),
        ]
        parts.append(
            f'<path d="{_path(points)}" fill="none" stroke="{INK}" stroke-width="1.25" stroke-dasharray="4 4"/>'
        )
        ends.append((points[-1][1], points[-1][0], INK, level["name"]))
    return parts + _names(ends, left + RIGHT)


def _path(places: list[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in places)


def _line(points: list[tuple[float, ...]], colour: str) -> list[str]:
    ranged = [point for point in points if len(point) == 4]
    around = [(p[0], p[3]) for p in ranged] + [(p[0], p[2]) for p in reversed(ranged)]
    middle = [(p[0], p[1]) for p in points]
    return [
        f'<path d="{_path(around)}z" fill="{colour}" opacity="0.18"/>' if len(ranged) > 1 else "",
        f'<path d="{_path(middle)}" fill="none" stroke="{colour}" stroke-width="2.25" stroke-linejoin="round"/>',
        *(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{colour}"/>' for x, y in middle),
    ]


def _names(ends: list[tuple[float, float, str, str]], right: float) -> list[str]:
    """Names in the order of their lines, pushed apart where two would touch."""
    ends = sorted(ends)
    places = [height for height, *_ in ends]
    for i in range(1, len(places)):
        places[i] = max(places[i], places[i - 1] + 17)
    places[-1] = min(places[-1], BOTTOM)
    for i in range(len(places) - 2, -1, -1):
        places[i] = min(places[i], places[i + 1] - 17)
    parts = []
    for place, (height, x, colour, name) in zip(places, ends, strict=True):
        leader = f"{_path([(x, height), (right + 8, place)])}h6"
        style = f'fill="none" stroke="{colour}" opacity="0.6" stroke-dasharray="1 3"'
        parts.append(f'<path d="{leader}" {style}/>')
        parts.append(_text(right + 19, place + 4.5, name))
    return parts


if __name__ == "__main__":
    source, target = map(Path, sys.argv[1:])
    write_files(target.parent, {target.name: picture(read_document(source)).encode()})
