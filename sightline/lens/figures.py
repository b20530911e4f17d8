"""Figures for papers, of what heads looked at: lines between words, the map of a head, and how far heads look.

lines     two columns of words; a line from each that looks to each it looks at, as opaque as the weight
matrix    a head's map, weight[query, key], with the words along it; of many words, cells of several tokens
profile   share of the weight by signed distance in tokens, key minus query

Weight on special tokens is left out of lines and profiles, never spread over the rest; a line below says how much that
is. Figures are matplotlib's, made without pyplot: nothing outside of them changes.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import matplotlib
import torch
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.colors import LinearSegmentedColormap, PowerNorm, to_rgba
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.path import Path
from torch import Tensor

from sightline.models import Text, text_of
from sightline.observe import Layer
from sightline.observe.distances import bins_within, by_bin

HUES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#3c3f44")  # Okabe and Ito's
MARKERS = "osD^vP"
INK, QUIET, FAINT = "#1b1c1e", "#63676d", "#dcdee2"
SHADES = LinearSegmentedColormap.from_list("sight", ["#ffffff", "#a6d3ee", "#2a83bd", "#00284f"])
LETTERS, SMALL = 8, 7  # points
PITCH, ASIDE = 0.165, 0.022  # inches from word to word, and from line to line
WIDE, HIGH = 3.4, 2.3  # inches: one column of a paper
TOP, CURVE = 0.42, 1.5  # inches above the words of lines, and between their two columns
LARGEST = 6.6  # inches of a matrix
MOST_WORDS = 72  # more are too small to read
MOST_CELLS = 512  # to a side of a matrix
LEAST = 0.01  # a weight below draws no line
TICKS = (0, 0.01, 0.05, 0.1, 0.2, 0.5, 1)  # of the bar beside a matrix
STRIP = 512  # queries at once
SAVED: dict[Any, Any] = {"pdf.fonttype": 42, "svg.fonttype": "none"}  # letters stay letters
DOTS = 192  # to an inch in a notebook, twice those of a screen


class Drawn(Figure):
    """A figure that shows itself in a notebook, and whose letters stay letters in a file."""

    def savefig(self, *arguments, **options) -> None:
        with matplotlib.rc_context(SAVED):
            super().savefig(*arguments, **{"bbox_inches": "tight", "pad_inches": 0.04, "dpi": 300} | options)

    def _repr_png_(self) -> tuple[bytes, dict]:
        file = io.BytesIO()
        self.savefig(file, format="png", dpi=DOTS, facecolor="white")
        picture = file.getvalue()
        width, height = (int.from_bytes(picture[i : i + 4], "big") // 2 for i in (16, 20))
        return picture, {"width": width, "height": height}


@dataclass(frozen=True)
class _Shown:
    """What a figure shows: one sequence in one layer, some heads, and its words."""

    layer: Layer
    name: str
    heads: list[int]
    sequence: int
    text: Text

    @property
    def count(self) -> int:
        return len(self.text.pieces)

    @cached_property
    def words(self) -> list[Tensor]:
        """The map between words of each head. Shapes: [words, words]."""
        ends = torch.bincount(torch.tensor(self.text.word_of)).cumsum(0)
        bounds = torch.cat([torch.zeros(1, dtype=torch.int64), ends])
        return [self.layer.tile(head, None, None, self.sequence, (bounds, bounds)).mean.cpu() for head in self.heads]


def figure(
    seen,
    kind: str = "lines",
    pieces=None,
    sequence: int = 0,
    *,
    layer: int | str = 0,
    head: int | Sequence[int] = 0,
    query: str | int | None = None,
) -> Drawn:
    """A figure of one sequence, of the kind "lines", "matrix" or "profile".

    `pieces` is what `sightline.models.text_of` takes; without, words are places. `head` may be several, one hue each,
    except for a matrix. `query`, a word as `sightline.look` takes it or its number, draws lines from this word alone.

    Raises: ValueError for another kind, a layer, head, sequence or word that is not there, too many heads or words to
    draw, and where the map was not kept.

    >>> import torch, sightline
    >>> encoder = sightline.build("self-attention", vocabulary=9, width=8, layers=2, heads=4)
    >>> with sightline.watch(encoder) as seen:
    ...     encodings = encoder(sightline.Sequences(torch.tensor([1, 2, 3]), [0, 3]))
    >>> figure(seen, "lines", layer=1, head=[0, 3], pieces=["so", "it", "goes"]).savefig("lines.pdf")
    """
    if kind not in KINDS:
        raise ValueError(f"figure: expected a kind out of {', '.join(KINDS)}, got {kind!r}; choose one")
    heads = [head] if isinstance(head, int) else list(head)
    most = 1 if kind == "matrix" else len(HUES)
    if not 0 < len(heads) <= most:
        raise ValueError(
            f"figure: expected from 1 to {most} heads for {kind}, got {len(heads)}; draw one figure for each"
        )
    if query is not None and kind != "lines":
        raise ValueError(f"figure: expected a query for lines alone, got one for {kind}; leave it out")
    observed = seen.layer(layer)
    first = observed.piece(heads[0], sequence)
    if first.n != first.m or first.n == 0:
        raise ValueError(
            "figure: expected a sequence of at least a token that looks at itself, "
            f"got {first.n} queries and {first.m} keys; use seen.layer(...).tile"
        )
    number = layer if isinstance(layer, int) else seen.names.index(layer)
    shown = _Shown(observed, f"layer {number}", heads, sequence, text_of(pieces, sequence, first.n))
    return lines(shown, query) if kind == "lines" else KINDS[kind](shown)


# --- lines ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Columns:
    """Where the two columns of words are, in inches: queries end at `left`, keys begin at `right`, `room` wide each."""

    left: float
    right: float
    room: float
    height: list[float]

    @classmethod
    def of(cls, words: list[str]) -> _Columns:
        room = 0.1 + 0.062 * max(map(len, words))
        return cls(room, room + CURVE, room, [TOP + PITCH * (i + 0.5) for i in range(len(words))])


def lines(shown: _Shown, query: str | int | None = None) -> Drawn:
    """The picture of the article, upright: those that look on the left, what they look at on the right."""
    words, special = [_plain(word.text) for word in shown.text.words], shown.text.special_words
    if len(words) > MOST_WORDS:
        raise ValueError(
            f"figure: expected at most {MOST_WORDS} words for lines, got {len(words)}; take a shorter text, or a matrix"
        )
    query = None if query is None else _place(shown.text, query)
    rows = [i for i in range(len(words)) if i not in special] if query is None else [query]
    columns = _Columns.of(words)
    width, bottom = columns.right + columns.room, TOP + PITCH * len(words)
    drawn, axes = _canvas(width, bottom + 0.04)
    _draw_curves(axes, shown, rows, columns)
    if query is not None:
        _draw_bands(axes, shown, query, columns)
    for i, word in enumerate(words):
        for x, side in ((columns.left, "right"), (columns.right, "left")):
            quiet = i in special or query not in (None, i) and side == "right"
            weight = "bold" if i == query and side == "right" else "normal"
            _write(axes, x, columns.height[i], word, QUIET if quiet else INK, LETTERS, side, weight)
    _write(axes, columns.left, 0.3, "query", QUIET, SMALL, "right")
    _write(axes, columns.right, 0.3, "key", QUIET, SMALL, "left")
    _write_heads(axes, shown, width / 2, 0.1)
    lost = [float(map[rows][:, sorted(special)].sum(1).mean()) for map in shown.words]
    _write(axes, width / 2, bottom + 0.15, _left_out(shown, lost), QUIET, SMALL, "center")
    return drawn


def _draw_curves(axes: Axes, shown: _Shown, rows: list[int], columns: _Columns) -> None:
    """A curve for each weight of these queries, the strongest on top; equal ones of several heads lie side by side."""
    special, strokes = shown.text.special_words, []
    for i, map in enumerate(shown.words):
        aside = ASIDE * (i - (len(shown.heads) - 1) / 2)
        for q in rows:
            for k, weight in enumerate(map[q].tolist()):
                if weight >= LEAST and k not in special:
                    strokes.append((weight, HUES[i], columns.height[q] + aside, columns.height[k] + aside))
    strokes.sort()
    left, middle, right = columns.left + 0.05, (columns.left + columns.right) / 2, columns.right - 0.05
    curve = [Path.MOVETO, Path.CURVE4, Path.CURVE4, Path.CURVE4]
    paths = [Path([(left, a), (middle, a), (middle, b), (right, b)], curve) for _, _, a, b in strokes]
    colors = [to_rgba(hue, min(1, weight)) for weight, hue, _, _ in strokes]
    widths = [0.9 + 1.3 * weight for weight, *_ in strokes]
    axes.add_collection(
        PathCollection(paths, facecolors="none", edgecolors=colors, linewidths=widths, capstyle="round")
    )


def _draw_bands(axes: Axes, shown: _Shown, query: int, columns: _Columns) -> None:
    """Behind each key a band for each head, as opaque as half the weight, so that the word stays legible."""
    high, special = 0.9 * PITCH / len(shown.heads), shown.text.special_words
    for i, (map, hue) in enumerate(zip(shown.words, HUES, strict=False)):
        for k, weight in enumerate(map[query].tolist()):
            if weight >= LEAST and k not in special:
                corner = columns.right - 0.03, columns.height[k] - 0.45 * PITCH + i * high
                axes.add_patch(Rectangle(corner, columns.room, high, color=to_rgba(hue, min(1, weight) / 2), lw=0))


def _place(text: Text, query: str | int) -> int:
    if isinstance(query, str):
        return text.word(query)
    if not 0 <= query < len(text.words):
        raise ValueError(f"figure: expected a word from 0 to {len(text.words) - 1}, got {query}; count words from 0")
    return query


# --- matrix ---------------------------------------------------------------------------------------------------------


def matrix(shown: _Shown) -> Drawn:
    """A head's map; each cell is a word by a word, or, where there are many, some tokens by some tokens."""
    words, (head,) = [_plain(word.text) for word in shown.text.words], shown.heads
    worded = len(words) <= MOST_WORDS
    at = 1 if worded else -(-shown.count // MOST_CELLS)
    map = shown.words[0] if worded else shown.layer.tile(head, None, None, shown.sequence, (at, at)).mean.cpu()
    side = min(LARGEST, max(1.2, PITCH * len(map))) if worded else WIDE
    drawn = Drawn(figsize=(side, side))
    axes = drawn.add_axes((0, 0, 1, 1))
    end = (len(words) if worded else shown.count) - 0.5
    shades = axes.imshow(
        map.numpy(), cmap=SHADES, norm=PowerNorm(0.5, 0, max(float(map.max()), LEAST)), interpolation="none",
        extent=(-0.5, end, end, -0.5),
    )  # fmt: skip
    axes.xaxis.tick_top()
    axes.xaxis.set_label_position("top")
    axes.tick_params(length=0 if worded else 2, labelsize=SMALL, colors=INK, pad=2)
    if worded:
        letters = min(LETTERS, 72 * 0.78 * side / len(words))
        axes.set_xticks(range(len(words)), words, rotation=90, fontsize=letters, parse_math=False)
        axes.set_yticks(range(len(words)), words, fontsize=letters, parse_math=False)
    cells = "" if at == 1 else f"; a cell is {at} \u00d7 {at} tokens, a sum over keys and a mean over queries"
    axes.set_xlabel("key", fontsize=SMALL, color=QUIET)
    axes.set_ylabel("query", fontsize=SMALL, color=QUIET)
    axes.text(
        0.5, -0.03, f"{shown.name}, head {head}{cells}", transform=axes.transAxes, ha="center", va="top",
        fontsize=SMALL, color=INK,
    )  # fmt: skip
    _draw_scale(drawn, shades, side)
    axes.spines[:].set(linewidth=0.5, edgecolor=QUIET)
    return drawn


def _draw_scale(drawn: Drawn, shades, side: float) -> None:
    """The bar beside a matrix that says which shade is which weight."""
    ticks = [tick for tick in TICKS if tick <= shades.norm.vmax]
    place = drawn.add_axes((1 + 0.08 / side, 0, 0.1 / side, 1))
    bar = drawn.colorbar(shades, cax=place, ticks=ticks, format=lambda weight, _: f"{100 * weight:g}%")
    bar.set_label("weight", fontsize=SMALL, color=QUIET)
    bar.ax.tick_params(labelsize=SMALL, length=2)
    bar.outline.set(linewidth=0.5, edgecolor=QUIET)


# --- profile --------------------------------------------------------------------------------------------------------


def profile(shown: _Shown) -> Drawn:
    """Share of the weight by distance, in bins that double: back to the left, ahead to the right."""
    shares, lost = zip(*(_shares(shown, head) for head in shown.heads), strict=True)
    bins = bins_within(shown.count)
    middle = len(bins) // 2
    used = torch.stack(shares).amax(0).nonzero().flatten()
    first, last = (int(used.min()), int(used.max())) if len(used) else (middle, middle)
    places = range(first - middle, last - middle + 1)
    drawn = Drawn(figsize=(WIDE, HIGH))
    axes = drawn.add_axes((0, 0, 1, 1))
    for head, row, hue, marker in zip(shown.heads, shares, HUES, MARKERS, strict=False):
        row = row[first : last + 1].tolist()
        axes.plot(places, row, color=hue, marker=marker, ms=3.5, lw=1.1, label=f"head {head}", clip_on=False)
    axes.axvline(0, color=FAINT, lw=0.8, zorder=0)
    names = ["0", "1", "2", *(f"{2**i + 1}\u2013{2 ** (i + 1)}" for i in range(1, middle))]
    axes.set_xticks(places, [names[abs(i)] for i in places], rotation=60 if len(places) > 9 else 0)
    axes.tick_params(labelsize=SMALL, length=2, colors=INK)
    axes.yaxis.set_major_formatter(lambda share, _: f"{100 * share:g}%")
    axes.set_ylim(0, None)
    axes.grid(axis="y", color=FAINT, lw=0.5)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set(linewidth=0.5, edgecolor=QUIET)
    axes.set_xlabel("\u2190 back     tokens from query to key     ahead \u2192", fontsize=SMALL, color=QUIET)
    axes.set_ylabel("share of the weight", fontsize=SMALL, color=QUIET)
    axes.legend(fontsize=SMALL, frameon=False, title=shown.name, title_fontsize=SMALL, handlelength=1.8)
    _write(axes, 0.5, 1.05, _left_out(shown, lost), QUIET, SMALL, "center", transform=axes.transAxes)
    return drawn


def _shares(shown: _Shown, head: int) -> tuple[Tensor, float]:
    """The share in each bin, and the share on special keys, which is in none."""
    n, special = shown.count, torch.tensor(shown.text.special)
    sums, lost = torch.zeros(len(bins_within(n)), dtype=torch.float64), 0.0
    for rows in torch.arange(n).split(STRIP):
        strip = range(int(rows[0]), int(rows[-1]) + 1)
        weights = shown.layer.tile(head, strip, None, shown.sequence).mean.cpu().double()
        lost += float(weights[:, special].sum())
        sums += by_bin(weights.masked_fill(special, 0), rows)
    return sums / n, lost / n


# --- shared ---------------------------------------------------------------------------------------------------------


def _canvas(width: float, height: float) -> tuple[Drawn, Axes]:
    """A figure in inches from its upper left corner."""
    drawn = Drawn(figsize=(width, height))
    axes = drawn.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, width), ylim=(height, 0))
    axes.set_axis_off()
    return drawn, axes


def _write(axes: Axes, x: float, y: float, text: str, color: str, size: float, side: str, weight="normal", **options):
    """Writes text as it is: a dollar sign begins no formula."""
    options |= {"color": color, "fontsize": size, "ha": side, "weight": weight}
    axes.text(x, y, text, va="center_baseline", parse_math=False, **options)


def _write_heads(axes: Axes, shown: _Shown, x: float, y: float) -> None:
    """The layer, and each head in its hue, in a line."""
    named = [Line2D([], [], lw=0, label=shown.name)]
    named += [Line2D([], [], color=hue, lw=2, label=f"head {i}") for i, hue in zip(shown.heads, HUES, strict=False)]
    axes.legend(
        handles=named, loc="center", bbox_to_anchor=(x, y), bbox_transform=axes.transData, ncols=len(named),
        frameon=False, fontsize=SMALL, handlelength=1.2, columnspacing=1, handletextpad=0.5, borderpad=0,
    )  # fmt: skip


def _left_out(shown: _Shown, lost: Sequence[float]) -> str:
    """How much weight is not drawn, in words."""
    text = shown.text
    names = list(dict.fromkeys(text.words[i].text for i in sorted(text.special_words)))
    if not names:
        return ""
    shares = ", ".join(f"{100 * share:.0f}%" for share in lost)
    return f"not drawn: {shares} of the weight, on {', '.join(names[:3])}"


def _plain(text: str) -> str:
    """A word on one line."""
    return " ".join(text.split()) or "\u2423"


KINDS = {"lines": lines, "matrix": matrix, "profile": profile}
