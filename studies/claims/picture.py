"""One picture for those who read no further: who hears whom (claim 2), and what is kept over a distance (claim 5), as an SVG.

python -m studies.claims.picture benchmarks/results/claims docs/why.svg

Its greys and colours read on light and on dark paper, for it does not know on which it will lie.
"""

from __future__ import annotations

import re
import sys
from html import escape
from pathlib import Path

from sightline.training.checkpoint import write_files
from studies.claims.document import read_document

COLOURS = {  # as everywhere in sightline
    "self-attention": "#0072b2",
    "rnn": "#e69f00",
    "lstm": "#d55e00",
    "convolution": "#009e73",
    "fully-connected": "#cc79a7",
}
PLAIN = {"mqar": "Associative recall", "scope": "The scope of names", "adding": "Adding two numbers"}  # tasks
INK = "#757f8a"
LEFT, TOP, BOTTOM = 318, 84, 332  # the width of the maps; between which heights both panels stand
RIGHT, NAMES, BETWEEN = (372, 240, 76)  # the width of the lines and of their names; what lies between the panels
SIDE, ACROSS = 92, 3  # of a map; so many in a row
STYLE = (
    f"text{{font:12.5px system-ui,-apple-system,'Segoe UI',Roboto,'Liberation Sans',Arial,sans-serif;fill:{INK}}}"
    ".title{font-size:14.5px;font-weight:650}.end{text-anchor:end}.middle{text-anchor:middle}"
)


def picture(document: dict) -> str:
    """The SVG of a document of claims; the maps alone where nothing was measured by distance.

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
    if kept := _farthest(claims[5]["pictures"]):
        left = LEFT + BETWEEN
        parts += [*_heading(left - 30, kept["title"], kept["caption"].rstrip("."), claims[5]), *_lines(kept, left)]  # fmt: skip
        width = left + RIGHT + NAMES
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} 390" width="{width}" height="390" role="img">',
            f"<title>{escape(document['title'])}</title>",
            f"<style>{STYLE}</style>",
            *parts,
            "</svg>\n",
        ]
    )


def _farthest(pictures: list[dict]) -> dict | None:
    """The accuracy by distance that is told apart into most distances, since the claim is about distance, and of equals the first.

    Its title names the task plainly, and says of how many it is one. None of none.
    """
    by_distance = [one for one in pictures if one["shape"] == "lines" and one["x"].get("ticks")]
    some = [one for one in by_distance if one["y"]["percent"]]
    if not some:
        return None
    kept = max(some, key=lambda one: len(one["x"]["ticks"]))
    task, _, _ = kept["title"].replace(",", ":").partition(":")
    among = f", one of {len(by_distance)} tasks" * (len(by_distance) > 1)
    return kept | {"title": f"{PLAIN.get(task, task)} by distance{among}"}


def _heading(left: float, title: str, said: str, claim: dict) -> list[str]:
    under = f"{said}; claim {claim['number']}: {claim['verdict']}"
    return [_text(left, 18, title, "title"), _text(left, 38, under)]


def _text(x: float, y: float, text: str, kind: str = "") -> str:
    named = f' class="{kind}"' if kind else ""
    return f'<text x="{x:.1f}" y="{y:.1f}"{named}>{escape(text)}</text>'


def _maps(picture: dict) -> list[str]:
    """A small map for each encoder, with the share of pairs that are heard."""
    parts = []
    drawn = {one["name"]: one["layers"][0] for one in picture["maps"] if one["name"] in COLOURS}
    for i, name in enumerate(name for name in COLOURS if name in drawn):
        rows = drawn[name]
        down, across = divmod(i, ACROSS)
        left, top = across * (SIDE + 21), 60 + down * (SIDE + 62)
        unit = SIDE / len(rows)
        runs = "".join(
            f"M{run.start()} {y}h{len(run[0])}v1h-{len(run[0])}z"
            for y, row in enumerate(rows)
            for run in re.finditer("1+", row)
        )
        heard = sum(row.count("1") for row in rows) / len(rows) ** 2
        parts += [
            f'<rect x="{left}" y="{top}" width="{SIDE}" height="{SIDE}" fill="{INK}" opacity="0.22"/>',
            f'<path transform="translate({left} {top}) scale({unit:g})" d="{runs}" fill="{COLOURS[name]}" shape-rendering="crispEdges"/>',
            _text(left, top + SIDE + 17, name),
            _text(left, top + SIDE + 33, f"{heard:.0%}"),
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
        parts.append(
            f'<path d="M{left} {y(tenth / 10):.1f}h{RIGHT}" stroke="{INK}" opacity="{0.6 if tenth == 0 else 0.25}"/>'
        )
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
        way = "L".join(f"{place:.1f} {height:.1f}" for place, height in points)
        parts.append(f'<path d="M{way}" fill="none" stroke="{INK}" stroke-width="1.25" stroke-dasharray="4 4"/>')
        ends.append((points[-1][1], points[-1][0], INK, level["name"]))
    return parts + _names(ends, left + RIGHT)


def _line(points: list[tuple[float, ...]], colour: str) -> list[str]:
    def way(places: list[tuple[float, float]]) -> str:
        return "L".join(f"{x:.1f} {y:.1f}" for x, y in places)

    ranged = [point for point in points if len(point) == 4]
    around = [(p[0], p[3]) for p in ranged] + [(p[0], p[2]) for p in reversed(ranged)]
    middle = [(p[0], p[1]) for p in points]
    return [
        f'<path d="M{way(around)}z" fill="{colour}" opacity="0.18"/>' if len(ranged) > 1 else "",
        f'<path d="M{way(middle)}" fill="none" stroke="{colour}" stroke-width="2.25" stroke-linejoin="round"/>',
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
        parts.append(
            f'<path d="M{x:.1f} {height:.1f}L{right + 8:.1f} {place:.1f}h6" fill="none" stroke="{colour}" opacity="0.6" stroke-dasharray="1 3"/>'
        )
        parts.append(_text(right + 19, place + 4.5, name))
    return parts


if __name__ == "__main__":
    source, target = map(Path, sys.argv[1:])
    write_files(target.parent, {target.name: picture(read_document(source)).encode()})
