"""What a watcher has seen shows itself in a notebook: a cell that ends in it draws the page, in a frame.

    with sightline.watch(model) as seen:
        model(**tokenizer(texts, padding=True, return_tensors="pt"))
    seen                                             the first sequence; its words are places
    seen.show(tokenizer(texts), sequence=3)          another, with its pieces and words
    seen.figure("lines", layer=3, head=1)            for a paper; the words are known by now
    seen.widget(sequence=3)                          a long sequence; the kernel computes the parts of its map in sight

No port is opened, and nothing is loaded: the frame holds the page as text, and may run its own script and nothing else.
"""

from __future__ import annotations

import functools
import html
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch

from sightline.files import replacing
from sightline.models import text_of
from sightline.observe import Seen
from sightline.observe import watch as watch_model

AT_ONCE, AT_MOST = 2**23, 2**26  # weights in the page of a cell that ends in what was seen, and in that of `show`
HEIGHT = 720  # of a page, in pixels; its corner can be dragged
MISSING = "with what sightline[notebook] installs"
MEASURES = {  # of a head, in a summary: what it is, and how it is written
    "entropy": ("entropy, nats", "{:.2f}"),
    "distance": ("mean distance, tokens", "{:.4g}"),
    "first": ("share of the weight on the first token", "{:.0%}"),
    "special": ("share of the weight on special tokens", "{:.0%}"),
}
LONGER = "seen.widget() shows a sequence of any length, and so does `sightline look --serve`"
PLACES = "Words are places in the sequence: seen.show(pieces) takes what a tokenizer gave, or a string for each token."


class Page:
    """A page in a cell: `html` is the whole of it, `notes` stand above it."""

    def __init__(self, page: str, notes: Sequence[str], height: int = HEIGHT):
        self.html, self.notes, self.height = page, list(notes), height

    def save(self, path: str | os.PathLike) -> Path:
        """Writes the page, aside and then renamed: a file that opens in any browser."""
        with replacing(path, named=True) as file:
            file.write(self.html.encode("utf-8", "backslashreplace"))
        return Path(path)

    def _repr_html_(self) -> str:
        return _paragraphs(self.notes) + (
            f'<iframe sandbox="allow-scripts" srcdoc="{html.escape(self.html)}" title="what a model looks at" '
            f'style="width:100%;height:{self.height}px;border:0;resize:vertical;overflow:auto"></iframe>'
        )

    def __repr__(self) -> str:
        return f"Page({len(self.html):,} letters; a notebook shows it, `save` writes it)"


class Shown(Seen):
    """What a watcher has seen, for people to look at; otherwise as `Seen`."""

    def __init__(self, seen: Seen, model: str):
        super().__init__(seen._source)
        self.model = model
        self._pieces: dict[int | None, object] = {}  # of a sequence; under None, of the batch
        self._pieces_of: torch.Tensor | None = None  # the lse of the pass that they belong to

    def show(self, pieces=None, sequence: int = 0, *, layers: Iterable[int | str] | None = None) -> Page:
        """The page of one sequence. Of a long one, or where its map was not kept, a summary of its heads.

        `pieces` is what a tokenizer returned for the batch, or a string for each token, as `sightline.models.text_of`
        takes it; without, those last passed here, to `figure` or to `widget`, or else words are places. `layers` are
        those to show; None: all whose queries and keys are those of the first.

        Raises: ValueError for a sequence or layer that is not there, for layers of different queries, keys or numbers
        of heads, and for other pieces than there are tokens; TypeError for what are no pieces.
        """
        pieces = self._known(pieces, sequence)
        page = show(self, pieces, sequence, layers, AT_MOST)
        self._keep(pieces, sequence)
        return page

    def figure(
        self,
        kind: str = "lines",
        pieces=None,
        sequence: int = 0,
        *,
        layer: int | str = 0,
        head: int | Sequence[int] = 0,
        query: str | int | None = None,
    ):
        """A figure of one sequence, of the kind "lines", "matrix" or "profile"; see `sightline.lens.figures`.

        `pieces` and `sequence` are those of `show`.
        Raises: ValueError without matplotlib, and as `sightline.lens.figures.figure` does.
        """
        try:
            from sightline.lens.figures import figure
        except ImportError:
            raise ValueError(f"figure: expected matplotlib, {MISSING}, got none; install that") from None
        pieces = self._known(pieces, sequence)
        drawn = figure(self, kind, pieces, sequence, layer=layer, head=head, query=query)
        self._keep(pieces, sequence)
        return drawn

    def widget(self, pieces=None, sequence: int = 0, *, layers: Iterable[int | str] | None = None):
        """The page of one sequence of any length, which asks the kernel for what it shows; see `sightline.lens.widget`.

        `pieces` and `sequence` are those of `show`.
        Raises: ValueError without anywidget, where the map was not kept, and as `show` does.
        """
        try:
            from sightline.lens.page_queries import Answers
            from sightline.lens.widget import Widget
        except ImportError:
            raise ValueError(f"widget: expected anywidget, {MISSING}, got none; install that") from None
        chosen = _chosen(self, sequence, layers)
        alone = self.alone(sequence, chosen)
        pieces = self._known(pieces, sequence)
        text = text_of(pieces, sequence, _length(alone, chosen[0], 0))
        self._keep(pieces, sequence)
        return Widget(Answers(alone, text, self.model, _numbers(self, chosen)))

    def _known(self, pieces, sequence: int):
        """The pieces, or those that were passed before and belong to the same forward pass."""
        if pieces is not None:
            return pieces
        old = self._pieces_of
        same = old is not None and self.watched and torch.equal(old, self.layer(self.watched[0]).lse)
        return self._pieces.get(sequence, self._pieces.get(None)) if same else None

    def _keep(self, pieces, sequence: int) -> None:
        """Keeps pieces of the batch for all sequences, and those of one sequence for that alone."""
        if pieces is None:
            return
        now = self.layer(self.watched[0]).lse
        if self._pieces_of is None or not torch.equal(self._pieces_of, now):
            self._pieces, self._pieces_of = {}, now.clone()
        alone = isinstance(pieces, (list, tuple)) and all(isinstance(piece, (str, bytes)) for piece in pieces)
        if alone or hasattr(pieces, "offsets"):
            self._pieces[sequence] = pieces
        else:
            self._pieces = {None: pieces}

    def _repr_html_(self) -> str:
        try:
            return show(self, self._known(None, 0), 0, None, AT_ONCE)._repr_html_()
        except ValueError as why:
            return _paragraphs([str(why)])


@contextmanager
@functools.wraps(watch_model)
def watch(model: torch.nn.Module, *arguments, **options) -> Iterator[Shown]:
    with watch_model(model, *arguments, **options) as seen:
        yield Shown(seen, type(model).__name__)


def show(seen: Shown, pieces, sequence: int, layers: Iterable[int | str] | None, most: int) -> Page:
    """The page of one sequence, or a summary where that has more than `most` weights."""
    from sightline.lens import inline
    from sightline.lens.page import render
    from sightline.lens.page_data import look_data  # imports all that opens models

    chosen = _chosen(seen, sequence, layers)
    n = _length(seen, chosen[0], sequence)
    text = text_of(pieces, sequence, n)
    others, numbers = _others(seen, chosen, sequence), _numbers(seen, chosen)
    heads = len(chosen) * len(seen.layer(chosen[0]).heads)
    if any(seen.layer(name).kept.q is None for name in chosen):
        why = "the map was not kept, since the input was long; watch with keep_map=True"
    elif n > inline.LONGEST:
        why = f"a page holds at most {inline.LONGEST:,} tokens, and this sequence has {n:,}; {LONGER}"
    elif n * n * heads > most:
        other = "seen.show() makes it all the same" if n * n * heads <= AT_MOST else LONGER
        why = f"{n:,} tokens under {heads} heads are many for a page; {other}"
    else:
        try:
            data = look_data(seen.alone(sequence, chosen), text, seen.model, None, None, None)
            return Page(render(data | {"notes": numbers}), [*others, *([PLACES] if pieces is None else [])])
        except ValueError as error:  # so many heads that a page cannot hold them
            why = f"{error}; {LONGER}"
    return _summary(seen, chosen, sequence, [*others, *numbers, f"This is a summary of its heads: {why}."])


def _chosen(seen: Seen, sequence: int, layers: Iterable[int | str] | None) -> list[str]:
    """The names of the layers to show: each of them has the same tokens as queries and keys, and as many heads.

    Raises: ValueError where that is not so.
    """
    names = seen.watched if layers is None else [seen.layer(which).name for which in layers]
    if not names:
        seen.layer(0)  # says that there was no forward pass
        raise ValueError("show: expected a layer at least, got none; name some")
    count = len(seen.layer(names[0]).offsets) - 1
    if not 0 <= sequence < count:
        raise ValueError(f"show: expected a sequence from 0 to {count - 1}, got {sequence}; count them in the batch")

    def shape(name: str) -> tuple[int, int, int]:
        layer = seen.layer(name)
        n, m = (int(o[sequence + 1] - o[sequence]) for o in (layer.offsets, layer.key_offsets))
        return n, m, len(layer.heads)

    n, m, heads = shape(names[0])
    if n != m or n == 0:
        raise ValueError(
            "show: expected a sequence of one token or more that looks at itself, "
            f"got {n} queries and {m} keys in {names[0]}; name other layers, or another sequence"
        )
    alike = [name for name in names if shape(name) == (n, n, heads)]
    if layers is not None and alike != names:
        other = next(name for name in names if name not in alike)
        raise ValueError(
            "show: expected layers of the same tokens and as many heads, got queries, keys and heads "
            f"{(n, n, heads)} in {names[0]} and {shape(other)} in {other}; show them apart"
        )
    return alike


def _length(seen: Seen, name: str, sequence: int) -> int:
    return int(seen.layer(name).offsets.diff()[sequence])


def _others(seen: Seen, chosen: list[str], sequence: int) -> list[str]:
    """A note on how to show the other sequences of a batch."""
    count = len(seen.layer(chosen[0]).offsets) - 1
    other = 3 if count > 3 and sequence != 3 else (sequence + 1) % count
    shown = f"Sequence {sequence} of {count}; seen.show(sequence={other}) shows another."
    return [shown] if count > 1 else []


def _numbers(seen: Seen, chosen: list[str]) -> list[str]:
    """Notes on which layers and heads the numbers on a page stand for, where they are others."""
    notes, heads = [], seen.layer(chosen[0]).heads
    if chosen != seen.names:
        numbered = ", ".join(f"{number} is {name}" for number, name in enumerate(chosen))
        notes.append(f"Of {seen.layers} layers {len(chosen)} are shown, numbered anew: {numbered}.")
    if heads != list(range(len(heads))):
        numbered = ", ".join(f"{number} is {head}" for number, head in enumerate(heads))
        notes.append(f"Heads are numbered anew: {numbered}.")
    return notes


# --- a summary ----------------------------------------------------------------------------------------------------

STYLE = """:root { color-scheme: light dark; } body { margin: 0 .3rem; font: 13px/1.5 system-ui, sans-serif; }
table { border-collapse: collapse; margin: .6rem 0 1.2rem; }
caption, th { font-weight: 400; text-align: left; opacity: .7; }
td, th { padding: .15rem .45rem; } td { text-align: right; font-variant-numeric: tabular-nums; }
tr:hover td { outline: 1px solid color-mix(in srgb, CanvasText 25%, transparent); }"""


def _summary(seen: Shown, chosen: list[str], sequence: int, notes: list[str]) -> Page:
    """A table of layers by heads for each measure, without a script."""
    tables = []
    for measure, (what, form) in MEASURES.items():
        rows = []
        for name in chosen:
            layer = seen.layer(name)
            start, stop = layer.offsets[sequence : sequence + 2].tolist()
            rows.append(getattr(layer, measure)[start:stop].mean(0).tolist())
        most = max(map(max, rows))
        if most > 0:
            tables.append(_table(what, form, rows, most))
    style = "default-src 'none'; style-src 'unsafe-inline'"
    page = (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{style}"><title>{html.escape(seen.model)}</title>'
        f"<style>{STYLE}</style></head><body>{''.join(tables)}</body></html>"
    )
    return Page(page, notes, min(HEIGHT, len(tables) * (110 + 24 * len(chosen))))


def _table(what: str, form: str, rows: list[list[float]], most: float) -> str:
    heads = "".join(f'<th scope="col">{head}</th>' for head in range(len(rows[0])))
    lines = "".join(
        f'<tr><th scope="row">layer {number}</th>' + "".join(_cell(value, form, most) for value in row) + "</tr>"
        for number, row in enumerate(rows)
    )
    return f"<table><caption>{what}</caption><tr><th>head</th>{heads}</tr>{lines}</table>"


def _cell(value: float, form: str, most: float) -> str:
    shade = 0.55 * max(0.0, value / most)
    return f'<td style="background:rgb(86 180 233 / {shade:.2f})">{form.format(value)}</td>'


def _paragraphs(notes: Iterable[str]) -> str:
    return "".join(f'<p style="margin:.2rem 0;opacity:.75">{html.escape(note)}</p>' for note in notes)
