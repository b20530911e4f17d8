"""The questions that a page of a long text asks, answered from an observation: bytes for a name and some parameters.

Version 1 of the questions. Over HTTP, a page asks `GET ask/NAME?parameter=value`. A page in a frame asks its parent:

    it posts     {sightline: 1, id, name, params}
    and awaits   {sightline: 1, id, bytes: an ArrayBuffer}   or   {sightline: 1, id, error: a sentence}

`params` are strings or numbers. A *view* is a head ("5.3": layer 5, head 3) or the mean of a layer's heads ("5"); a
*level* is pieces or words, of which there are N: between words a weight is the sum over the pieces attended to, the
mean over those attended from. Numbers are little endian; a byte b stands for the weight (b / 255)^2.

    rows      view, level, first, stop    float32 [stop - first][N]: what these look at, exact
    columns   view, level, first, stop    float32 [stop - first][N]: how strongly all look at these, exact
    pair      level, from, to             JSON {there, back: [[view, weight]], strongest first}, exact, over all heads
    tile      view, at, row, column       float32 share; then bytes: mean [r][c], peak [r][c]: a part of the map of
                                          pieces, SIDE cells to a side, less at the end; a cell is `at` pieces to a
                                          side, a power of two. `mean` is summed over the keys of a cell and averaged
                                          over its queries, `peak` is the largest weight. `share` of the rows is
                                          known: 1 is exact; ask again for less.
    cell      view, at, row, column       float32 mean, peak: one cell, exact
    heads     -                           JSON {layers: how many are known yet, rows: of how many queries, statistics,
                                          profile}, as in `inline`, of the layers that are known; a mean over queries
                                          that are spread over the text
    thumbnails -                          bytes [views][size][size]: largest weights among the same queries; 0 where
                                          not known yet

The data of such a page are those of `inline.text_data`, and

    link      null, or as in `inline`
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
from sightline.lens.views import CELLS, SIDE, GrowingMap, View, by_word, exact_tile
from sightline.models import Text
from sightline.observe import Seen

VERSION = 1
MOST = 2**24  # numbers in one answer
KEPT = 2**26  # bytes of tiles that are kept
VIEWS = 4  # whose keys are kept
MAPS = 2  # whose whole map is kept
BANDS = 4  # of a map, computed at once
TURN = 0.4  # seconds that the open map grows before the next head is sampled
SHOWN = 0.7  # seconds after which the page sees what the map has gained
STARTS = 8  # words, one of which is shown first
FAR, FARTHEST = 3, 200  # pieces: a link of such a length is worth showing first, and near enough to be read


class Answers:
    """Answers what pages ask about one text under one model; any number of threads may ask.

    In a context, a thread of its own samples all heads, and then completes the map of the view last asked for.

    >>> with Answers(seen, text, "my model") as answers:  # doctest: +SKIP
    ...     answers.answer("rows", {"view": "0.1", "level": "words", "first": 5, "stop": 6})
    """

    def __init__(self, seen: Seen, text: Text, name: str, notes: Sequence[str] = (), predicts: dict | None = None):
        self.seen, self.text, self.name, self.notes, self.predicts = seen, text, name, list(notes), predicts
        self.layers = seen.layers
        self.heads = inline.check_heads([len(seen.layer(i).heads) for i in range(self.layers)])
        self.n = len(text.pieces)
        if self.n != len(seen.layer(0).lse):
            raise ValueError(
                f"look: expected a piece for each of {len(seen.layer(0).lse)} tokens that were seen, got {self.n}; "
                "give the text that was read"
            )
        ends = torch.tensor(text.word_of).bincount().cumsum(0)
        self.levels = {"pieces": torch.arange(self.n + 1), "words": torch.nn.functional.pad(ends, (1, 0))}
        self.sample = Sample(text, self.layers, self.heads)
        self._views: OrderedDict[str, View] = OrderedDict()
        self._maps: OrderedDict[str, GrowingMap] = OrderedDict()
        self._tiles: OrderedDict[tuple, bytes] = OrderedDict()
        self._bytes = 0  # of the tiles
        self._lock, self._map_lock = threading.Lock(), threading.Lock()
        self._changed = threading.Condition()  # guards the next two
        self._busy, self._stopped = 0, False
        self._thread = threading.Thread(target=self._work, daemon=True)

    def __enter__(self) -> Answers:
        self._thread.start()
        return self

    def __exit__(self, *_) -> None:
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        self._thread.join()

    # --- questions ------------------------------------------------------------------------------------------------

    def answer(self, name: str | None, params: dict) -> bytes:
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
        method, names = questions[name]
        if set(params) != set(names):
            raise ValueError(
                f"ask: expected {name} with {', '.join(names) or 'nothing'}, "
                f"got {', '.join(map(str, params)) or 'nothing'}; give just these"
            )
        values = [params[name] if name in ("view", "level") else _number(name, params[name]) for name in names]
        with self._changed:
            self._busy += 1
        try:
            with torch.no_grad():
                return method(*values)
        finally:
            with self._changed:
                self._busy -= 1
                self._changed.notify_all()

    def _rows(self, view: str, level: str, first: int, stop: int) -> bytes:
        units, rows = self._units(level, first, stop)
        weights = by_word(self.view(view).weights(rows), units)
        return _floats(_mean_of(weights, units[first : stop + 1] - units[first]))

    def _columns(self, view: str, level: str, first: int, stop: int) -> bytes:
        units, _ = self._units(level, first, stop)
        a, b = int(units[first]), int(units[stop])
        weights = self.view(view).weights(torch.arange(self.n), a, b)
        return _floats(_mean_of(by_word(weights, units[first : stop + 1] - a), units).T)

    def _pair(self, level: str, one: int, other: int) -> bytes:
        return json.dumps({"there": self.between(level, one, other), "back": self.between(level, other, one)}).encode()

    def between(self, level: str, one: int, other: int) -> list[tuple[str, float]]:
        """How strongly each head joins one unit to another, strongest first."""
        (units, rows), _ = (self._units(level, i, i + 1) for i in (one, other))
        a, b = int(units[other]), int(units[other + 1])
        links = []
        for layer in range(self.layers):
            heads = View(self.seen.layer(layer), self.seen.layer(layer).heads).each(rows, a, b)
            links += [(f"{layer}.{head}", float(weights.sum(1).mean())) for head, weights in enumerate(heads)]
        return sorted(links, key=lambda pair: -pair[1])

    def _cell(self, view: str, at: int, row: int, column: int) -> bytes:
        self._check_cells(at, row, column, 1)
        mean, peak = exact_tile(self.view(view), at, (row, row + 1), (column, column + 1))
        return struct.pack("<2f", float(mean), float(peak))

    def _heads(self) -> bytes:
        return self.sample.numbers()

    def _thumbnails(self) -> bytes:
        return self.sample.thumbnails.numpy().tobytes()

    # --- the map --------------------------------------------------------------------------------------------------

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
        tile = growing.tile(at, rows, columns) if growing else exact_tile(self.view(view), at, rows, columns)
        answer = struct.pack("<f", share) + b"".join(inline.as_bytes(t).numpy().tobytes() for t in tile)
        if share == 1:
            self._keep(key, answer)
        return answer

    def _keep(self, key: tuple, tile: bytes) -> None:
        with self._lock:
            if key not in self._tiles:
                self._tiles[key] = tile
                self._bytes += len(tile)
            while self._bytes > KEPT:
                self._bytes -= len(self._tiles.popitem(last=False)[1])

    @property
    def base(self) -> int:
        """The zoom from which a map is kept whole; finer tiles are computed one by one."""
        at = 1
        while self.n > CELLS * at:
            at *= 2
        return at

    def _check_cells(self, at: int, row: int, column: int, side: int) -> int:
        """How many cells the map has at a zoom; a ValueError for another zoom, or outside the map."""
        if at < 1 or at & (at - 1) or at > 1 and at // 2 * SIDE >= self.n:
            raise ValueError(
                f"ask: expected a zoom of a power of two, at which the map has more than {SIDE // 2} cells, got {at}; "
                "begin with 1"
            )
        cells = -(-self.n // at)
        count = -(-cells // side)
        if not (0 <= row < count and 0 <= column < count):
            raise ValueError(
                f"ask: expected a row and a column from 0 to {count - 1}, got {row} and {column}; stay inside"
            )
        return cells

    def _map(self, view: str) -> GrowingMap:
        with self._map_lock:
            with self._lock:
                map = self._maps.get(view)
            if map is None:
                map = GrowingMap(self.view(view))
            with self._lock:
                _keep_recent(self._maps, view, map, MAPS)
        return map

    def view(self, name: str) -> View:
        """A view by its name.

        Raises: ValueError for a layer or head that the model has not.
        """
        layer, dot, head = str(name).partition(".")
        numbers = [int(part) for part in (layer, head) if part.isascii() and part.isdigit() and len(part) < 6]
        if len(numbers) != 1 + bool(dot) or numbers[0] >= self.layers or (dot and numbers[1] >= self.heads):
            raise ValueError(
                f"ask: expected a view such as 0 or 0.1, of {self.layers} layers and {self.heads} heads, "
                f"got {str(name)[:20]!r}; count from 0"
            )
        with self._lock:
            view = self._views.get(name)
            if view is None:
                seen = self.seen.layer(numbers[0])
                view = View(seen, [seen.heads[numbers[1]]] if dot else seen.heads)
            _keep_recent(self._views, name, view, VIEWS)
        return view

    # --- a thread of its own --------------------------------------------------------------------------------------

    def _work(self) -> None:
        """Samples a head and grows the open map a little, in turn, whenever nobody waits for an answer."""
        heads = (None for layer in range(self.layers) for _ in self.sample.add(self.seen.layer(layer)))
        shown = 0.0
        with torch.no_grad():
            while not self._stopped:
                with self._changed:
                    self._changed.wait_for(lambda: not self._busy or self._stopped)
                sampling = next(heads, self) is None
                with self._lock:
                    map = next((map for map in reversed(self._maps.values()) if map.share < 1), None)
                if map is not None:
                    until = monotonic() + TURN
                    while map.known < 1 and monotonic() < until and not (self._busy or self._stopped):
                        map.grow(BANDS)
                    if map.known == 1 or monotonic() > shown + SHOWN:
                        map.refresh()
                        shown = monotonic()
                elif not sampling:
                    with self._changed:
                        self._changed.wait(0.2)

    # --- the page -------------------------------------------------------------------------------------------------

    def page(self, by: str, link: str | None = None, layer: int | None = None, head: int | None = None) -> dict:
        """The data of a page that asks `by` "server" or "message"; `link`, `layer` and `head` as in `look`.

        Raises: ValueError for a word that is not there or occurs twice, a layer or head out of range.
        """
        named = inline.view_of(layer, head, self.layers, self.heads)
        pair = None if link is None else self.text.pair(link)
        with torch.no_grad():
            if pair is None:
                joined, (view, word, why) = None, self._start(named)
            else:
                joined = json.loads(self._pair("words", *pair)) | {"from": pair[0], "to": pair[1]}
                view, word = named or joined["there"][0][0], pair[0]
                why = "The page opens on the words that were asked for."
        data = inline.text_data(self.text, self.name, self.layers, self.heads, {"view": view, "from": word}, why)
        more = {"asks": VERSION, "by": by, "side": SIDE, "link": joined}
        return data | more | {"notes": self.notes, "predicts": self.predicts}

    def _start(self, named: str | None) -> tuple[str, int, str]:
        """The view and word to show first, and why: of some words, that with the strongest link to a distant one."""
        special = self.text.special_words
        words = [i for i, word in enumerate(self.text.words) if len(word.text) > 2 and i not in special]
        words = words[:: max(1, len(words) // STARTS)] or [0]
        rows = self.levels["words"][torch.tensor(words)]
        far = (torch.arange(self.n) - rows[:, None]).abs()
        near = (far < FAR) | (far > FARTHEST) | torch.tensor(self.text.special)
        best, view, word = -1.0, named or "0.0", words[0]
        for layer in [int(named.partition(".")[0])] if named else range(self.layers):
            seen = self.seen.layer(layer)
            for head, weights in enumerate(View(seen, seen.heads).each(rows, 0, self.n)):
                strongest = float(weights.masked_fill_(near, 0).max())
                if named in (None, str(layer), f"{layer}.{head}") and strongest > best:
                    best, view = strongest, named or f"{layer}.{head}"
                    word = words[int(weights.argmax()) // self.n]
        why = (
            f"The page opens on, of {len(words)} words spread over the text, that with the strongest link "
            f"to one {FAR} to {FARTHEST} pieces away."
        )
        return view, word, why

    def _units(self, level: str, first: int, stop: int) -> tuple[Tensor, Tensor]:
        """The bounds of a level's units in pieces, and the pieces of those from first to stop.

        Raises: ValueError where there is no such level, are not so many units, or are too many for one answer.
        """
        if level not in self.levels:
            raise ValueError(f"ask: expected pieces or words, got {str(level)[:20]!r}; choose one")
        units = self.levels[level]
        count = len(units) - 1
        if not 0 <= first < stop <= count:
            raise ValueError(
                f"ask: expected {level} from 0 to {count}, the first before the stop, got {first} to {stop}; "
                "stay inside"
            )
        pieces = torch.arange(int(units[first]), int(units[stop]))
        if len(pieces) * self.n > MOST and stop > first + 1:
            raise ValueError(
                f"ask: expected fewer {level} at once, got {stop - first} of {count}; ask for them one by one"
            )
        return units, pieces


def _keep_recent(kept: OrderedDict, name: str, value, most: int) -> None:
    """Keeps a value as the last used one, and drops those not used for longest."""
    kept[name] = value
    kept.move_to_end(name)
    while len(kept) > most:
        kept.popitem(last=False)


def _mean_of(t: Tensor, bounds: Tensor) -> Tensor:
    """Rows averaged in runs. Shapes: t [r, c], bounds [runs + 1] -> [runs, c]."""
    return by_word(t.T, bounds).T / bounds.diff()[:, None]


def _floats(t: Tensor) -> bytes:
    return t.float().contiguous().numpy().tobytes()


def _number(name: str, value) -> int:
    text = str(value)
    if not (text.isascii() and text.isdigit() and len(text) < 12):
        raise ValueError(f"ask: expected numbers from 0 up for {name}, got {text[:20]!r}; count from 0")
    return int(text)
