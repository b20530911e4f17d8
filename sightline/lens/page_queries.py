"""Whatever a page asks of a long text, answered from an observation: bytes for a name and some parameters, by whatever way they come.

Version 1 of the questions. Over HTTP, a page asks `GET ask/NAME?parameter=value`. A page inside another one asks its parent:

    it posts     {sightline: 1, id, name, params}
    and awaits   {sightline: 1, id, bytes: an ArrayBuffer}   or   {sightline: 1, id, error: a sentence}

`params` are strings or numbers. A *view* is a head ("5.3": layer 5, head 3) or the mean of a layer's heads ("5"); a *level* is pieces
or words, of which there are N: between words a weight is the sum over the pieces attended to, the mean over those attended from.
Numbers are little endian; a byte b stands for the weight (b / 255)^2.

    rows      view, level, first, stop    float32 [stop - first][N]: what these look at, exact
    columns   view, level, first, stop    float32 [stop - first][N]: how strongly all look at these, exact
    pair      level, from, to             JSON {there, back: [[view, weight]], strongest first}, exact, over all heads
    tile      view, at, row, column       float32 share; then bytes: mean [r][c], peak [r][c]: a part of the map of pieces, SIDE cells
                                          to a side, less at the end; a cell is `at` pieces to a side, a power of two. `mean` is summed
                                          over the keys of a cell and averaged over its queries, `peak` is the largest weight. `share` of
                                          the rows is known: 1 is exact; ask again for less.
    cell      view, at, row, column       float32 mean, peak: one cell, exact
    heads     -                           JSON {layers: how many are known yet, rows: of how many queries, statistics, profile}, as in
                                          `inline`, of the layers that are known; a mean over queries that are spread over the text
    thumbnails -                          bytes [views][size][size]: largest weights among the same queries; 0 where not known yet

The data of such a page are those of `inline`, version 1, without statistics, profile, links and blocks, and with

    asks      1: the version of the questions
    by        "server" or "message": how it asks
    side      SIDE
"""

from __future__ import annotations

import json
import struct
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from time import monotonic

import torch
from torch import Tensor

from sightline.lens import inline
from sightline.lens.sampling import Sample
from sightline.lens.views import CELLS, SIDE, Growing, View, by_word, exact
from sightline.models import Text
from sightline.observe import Seen

VERSION = 1
MOST = 2**24  # numbers in one answer
KEPT = 2**26  # bytes of tiles that are kept
VIEWS = 4  # whose keys are kept
MAPS = 2  # whose whole map is kept
BANDS = 4  # of a map, that are made at once
TURN = 0.4  # seconds that the open map grows, before it is another head's turn to be sampled
SHOWN = 0.7  # seconds after which what has been made is shown
STARTS = 8  # words, one of which is shown first
FAR, FARTHEST = 3, 200  # pieces: a link of such a length is worth showing first, and near enough to be read


class Answers:
    """What is known of one text under one model, for pages that ask. Any number of threads may ask.

    In a context, a thread of its own goes through the heads, and then makes the map of the view last asked for exact.

    >>> with Answers(seen, text, "my model") as answers:  # doctest: +SKIP
    ...     answers.answer("rows", {"view": "0.1", "level": "words", "first": 5, "stop": 6})
    """

    def __init__(self, seen: Seen, text: Text, name: str, notes: Sequence[str] = (), predicts: dict | None = None):
        self.seen, self.text, self.name, self.notes, self.predicts = seen, text, name, list(notes), predicts
        self.layers = seen.layers
        self.heads = len(seen.layer(0).heads)
        uneven = next(
            (len(seen.layer(i).heads) for i in range(self.layers) if len(seen.layer(i).heads) != self.heads), None
        )
        if uneven is not None:
            raise ValueError(
                f"look: expected as many heads in each layer, got {self.heads}, then {uneven}; use sightline.watch for this model"
            )
        self.n = len(text.pieces)
        if self.n != len(seen.layer(0).lse):
            raise ValueError(
                f"look: expected a piece for each of {len(seen.layer(0).lse)} tokens that were seen, got {self.n}; give the text that was read"
            )
        ends = torch.tensor(text.word_of).bincount().cumsum(0)
        self.levels = {"pieces": torch.arange(self.n + 1), "words": torch.nn.functional.pad(ends, (1, 0))}
        self.sample = Sample(text, self.layers, self.heads)
        self._views: OrderedDict[str, View] = OrderedDict()
        self._maps: OrderedDict[str, Growing] = OrderedDict()
        self._tiles: OrderedDict[tuple, bytes] = OrderedDict()
        self._held = 0
        self._lock, self._making = threading.Lock(), threading.Lock()
        self._asked = threading.Condition()
        self._busy, self._stopped = 0, False
        self._thread = threading.Thread(target=self._work, daemon=True)

    def __enter__(self) -> Answers:
        self._thread.start()
        return self

    def __exit__(self, *_) -> None:
        with self._asked:
            self._stopped = True
            self._asked.notify_all()
        self._thread.join()

    # --- questions --------------------------------------------------------------------------------------------------------

    def answer(self, name: str, params: dict) -> bytes:
        """The answer to one question.

        Raises: ValueError for a question that is none, or about what is not there.
        """
        questions: dict[str, tuple[Callable[..., bytes], tuple[str, ...]]] = {
            "rows": (self._rows, ("view", "level", "first", "stop")),
            "columns": (self._columns, ("view", "level", "first", "stop")),
            "pair": (self._pair, ("level", "from", "to")),
            "tile": (self._tile, ("view", "at", "row", "column")),
            "cell": (self._cell, ("view", "at", "row", "column")),
            "heads": (self._heads, ()),
            "thumbnails": (self._thumbnails, ()),
        }
        if name not in questions:
            raise ValueError(f"ask: expected one of {', '.join(questions)}, got {name!r}; ask one of these")
        method, wanted = questions[name]
        if set(params) != set(wanted):
            raise ValueError(
                f"ask: expected {name} with {', '.join(wanted) or 'nothing'}, got {', '.join(map(str, params)) or 'nothing'}; give just these"
            )
        with self._asked:
            self._busy += 1
        try:
            with torch.no_grad():
                return method(
                    *(params[name] if name in ("view", "level") else _number(name, params[name]) for name in wanted)
                )
        finally:
            with self._asked:
                self._busy -= 1
                self._asked.notify_all()

    def _rows(self, view: str, level: str, first: int, stop: int) -> bytes:
        units, some = self._some(level, first, stop)
        seen = self.view(view).weights(some)
        return _floats(_mean_of(by_word(seen, units), units[first : stop + 1] - units[first]))

    def _columns(self, view: str, level: str, first: int, stop: int) -> bytes:
        units, some = self._some(level, first, stop)
        a, b = int(units[first]), int(units[stop])
        seen = self.view(view).weights(torch.arange(self.n), a, b)
        return _floats(_mean_of(by_word(seen, units[first : stop + 1] - a), units).T)

    def _pair(self, level: str, one: int, other: int) -> bytes:
        return json.dumps({"there": self.between(level, one, other), "back": self.between(level, other, one)}).encode()

    def between(self, level: str, one: int, other: int) -> list[tuple[str, float]]:
        """How strongly each head joins one unit to another, strongest first."""
        (units, rows), (_, keys) = (self._some(level, i, i + 1) for i in (one, other))
        a, b = int(units[other]), int(units[other + 1])
        found = []
        for layer in range(self.layers):
            heads = View(self.seen.layer(layer), self.seen.layer(layer).heads)
            found += [
                (f"{layer}.{head}", float(weights.sum(1).mean())) for head, weights in enumerate(heads.each(rows, a, b))
            ]
        return sorted(found, key=lambda pair: -pair[1])

    def _cell(self, view: str, at: int, row: int, column: int) -> bytes:
        self._check_cells(at, row, column, 1)
        mean, peak = exact(self.view(view), at, (row, row + 1), (column, column + 1))
        return struct.pack("<2f", float(mean), float(peak))

    def _heads(self) -> bytes:
        return self.sample.numbers()

    def _thumbnails(self) -> bytes:
        return self.sample.thumbnails.numpy().tobytes()

    # --- the map ----------------------------------------------------------------------------------------------------------

    def _tile(self, view: str, at: int, row: int, column: int) -> bytes:
        cells = self._check_cells(at, row, column, SIDE)
        key = (view, at, row, column)
        with self._lock:
            if key in self._tiles:
                self._tiles.move_to_end(key)
                return self._tiles[key]
        rows, columns = ((SIDE * i, min(SIDE * (i + 1), cells)) for i in (row, column))
        growing, share = None, 1.0
        if at >= self.base:
            growing = self._map(view)
            share = growing.share
        tile = growing.tile(at, rows, columns) if growing else exact(self.view(view), at, rows, columns)
        made = struct.pack("<f", share) + b"".join(inline.as_bytes(t).numpy().tobytes() for t in tile)
        if share == 1:
            with self._lock:
                self._keep(key, made)
        return made

    def _keep(self, key: tuple, made: bytes) -> None:
        if key not in self._tiles:
            self._tiles[key] = made
            self._held += len(made)
        while self._held > KEPT:
            self._held -= len(self._tiles.popitem(last=False)[1])

    @property
    def base(self) -> int:
        """The zoom from which a map is kept whole; finer tiles are made when they are asked for."""
        at = 1
        while self.n > CELLS * at:
            at *= 2
        return at

    def _check_cells(self, at: int, row: int, column: int, side: int) -> int:
        """How many cells the map has at a zoom; a ValueError for another zoom, or outside the map."""
        if at < 1 or at & (at - 1) or at > 1 and at // 2 * SIDE >= self.n:
            raise ValueError(
                f"ask: expected a zoom of a power of two, at which the map has more than {SIDE // 2} cells, got {at}; begin with 1"
            )
        cells = -(-self.n // at)
        count = -(-cells // side)
        if not (0 <= row < count and 0 <= column < count):
            raise ValueError(
                f"ask: expected a row and a column from 0 to {count - 1}, got {row} and {column}; stay inside"
            )
        return cells

    def _map(self, view: str) -> Growing:
        with self._making:
            with self._lock:
                made = self._maps.get(view)
            if made is None:
                made = Growing(self.view(view))
            with self._lock:
                self._maps[view] = made
                self._maps.move_to_end(view)
                while len(self._maps) > MAPS:
                    self._maps.popitem(last=False)
        return made

    def view(self, name: str) -> View:
        """A view by its name.

        Raises: ValueError for a layer or head that the model has not.
        """
        layer, dot, head = str(name).partition(".")
        numbers = [int(part) for part in (layer, head) if part.isascii() and part.isdigit() and len(part) < 6]
        if len(numbers) != 1 + bool(dot) or numbers[0] >= self.layers or (dot and numbers[1] >= self.heads):
            raise ValueError(
                f"ask: expected a view such as 0 or 0.1, of {self.layers} layers and {self.heads} heads, got {str(name)[:20]!r}; count from 0"
            )
        with self._lock:
            if name not in self._views:
                known = self.seen.layer(numbers[0])
                self._views[name] = View(known, [known.heads[numbers[1]]] if dot else known.heads)
            self._views.move_to_end(name)
            while len(self._views) > VIEWS:
                self._views.popitem(last=False)
            return self._views[name]

    # --- a thread of its own ----------------------------------------------------------------------------------------------

    def _work(self) -> None:
        """A head of the sample and a little of the open map by turns, whenever nobody waits for an answer."""
        heads = (None for layer in range(self.layers) for _ in self.sample.add(self.seen.layer(layer)))
        shown = 0.0
        with torch.no_grad():
            while not self._stopped:
                with self._asked:
                    self._asked.wait_for(lambda: not self._busy or self._stopped)
                sampling = next(heads, self) is None
                with self._lock:
                    map = next((map for map in reversed(self._maps.values()) if map.share < 1), None)
                if map is not None:
                    until = monotonic() + TURN
                    while map.known < 1 and monotonic() < until and not (self._busy or self._stopped):
                        map.grow(BANDS)
                    if map.known == 1 or monotonic() > shown + SHOWN:
                        map.settle()
                        shown = monotonic()
                elif not sampling:
                    with self._asked:
                        self._asked.wait(0.2)

    # --- the page ---------------------------------------------------------------------------------------------------------

    def page(self, by: str, link: str | None = None, layer: int | None = None, head: int | None = None) -> dict:
        """The data of a page that asks `by` "server" or "message"; `link`, `layer` and `head` say what it opens with, as in `look`.

        Raises: ValueError for a word that is not there or occurs twice, a layer or head out of range.
        """
        for what, number, count in (("layer", layer, self.layers), ("head", head, self.heads)):
            if number is not None and not 0 <= number < count:
                raise ValueError(f"look: expected a {what} from 0 to {count - 1}, got {number}; count from 0")
        if head is not None and layer is None:
            raise ValueError(f"look: expected a layer for head {head}, got none; say which")
        asked = None if layer is None else str(layer) if head is None else f"{layer}.{head}"
        text, pair = self.text, None if link is None else self.text.pair(link)
        with torch.no_grad():
            joined = None if pair is None else json.loads(self._pair("words", *pair))
            opened = pair and (
                asked or joined["there"][0][0],
                pair[0],
                "The page opens on the words that were asked for.",
            )
            view, word, why = opened or self._start(asked)
        return {
            "page": "look",
            "version": inline.VERSION,
            "asks": VERSION,
            "by": by,
            "shows": "weights",
            "notes": self.notes,
            "influence": None,
            "side": SIDE,
            "title": f"{self.name} looks at: {text.short}",
            "model": self.name,
            "layers": self.layers,
            "heads": self.heads,
            "pieces": text.pieces,
            "words": text.words,
            "word_of": text.word_of,
            "special": [i for i, special in enumerate(text.special) if special],
            "unknown": text.unknown,
            "ends": text.ends,
            "dir": text.direction,
            "gold": text.gold,
            "predicts": self.predicts,
            "bins": self.sample.bins,
            "size": self.sample.size,
            "start": {"view": view, "from": word, "hide": any(text.special)},
            "opens": why,
            "link": pair and {"from": pair[0], "to": pair[1], **joined},
        }

    def _start(self, asked: str | None) -> tuple[str, int, str]:
        """The view and word to show first, and why: of a few words, the one with the strongest link to one further off."""
        special = self.text.special_words
        words = [i for i, word in enumerate(self.text.words) if len(word.text) > 2 and i not in special]
        words = words[:: max(1, len(words) // STARTS)] or [0]
        rows = self.levels["words"][torch.tensor(words)]
        far = (torch.arange(self.n) - rows[:, None]).abs()
        near = (far < FAR) | (far > FARTHEST) | torch.tensor(self.text.special)
        best, found = -1.0, (asked or "0.0", words[0])
        for layer in [int(asked.partition(".")[0])] if asked else range(self.layers):
            known = self.seen.layer(layer)
            for head, weights in enumerate(View(known, known.heads).each(rows, 0, self.n)):
                if asked in (None, str(layer), f"{layer}.{head}") and float(weights.masked_fill_(near, 0).max()) > best:
                    best = float(weights.max())
                    found = asked or f"{layer}.{head}", words[int(weights.argmax()) // self.n]
        some = f"of {len(words)} words spread over the text, that with the strongest link to one {FAR} to {FARTHEST} pieces away"
        return *found, f"The page opens on, {some}."

    def _some(self, level: str, first: int, stop: int) -> tuple[Tensor, Tensor]:
        """The bounds of a level's units in pieces, and the pieces of those from first to stop.

        Raises: ValueError where there is no such level, are not so many units, or are too many for one answer.
        """
        if level not in self.levels:
            raise ValueError(f"ask: expected pieces or words, got {str(level)[:20]!r}; choose one")
        units = self.levels[level]
        count = len(units) - 1
        if not 0 <= first < stop <= count:
            raise ValueError(
                f"ask: expected {level} from 0 to {count}, the first before the stop, got {first} to {stop}; stay inside"
            )
        some = torch.arange(int(units[first]), int(units[stop]))
        if len(some) * self.n > MOST and stop > first + 1:
            raise ValueError(
                f"ask: expected fewer {level} at once, got {stop - first} of {count}; ask for them one by one"
            )
        return units, some


def _mean_of(t: Tensor, bounds: Tensor) -> Tensor:
    """Rows averaged in runs. Shapes: t [r, c], bounds [runs + 1] -> [runs, c]."""
    return by_word(t.T, bounds).T / bounds.diff()[:, None]


def _floats(t: Tensor) -> bytes:
    return t.float().contiguous().numpy().tobytes()


def _number(name: str, value) -> int:
    said = str(value)
    if not (said.isascii() and said.isdigit() and len(said) < 12):
        raise ValueError(f"ask: expected numbers from 0 up for {name}, got {said[:20]!r}; count from 0")
    return int(said)
