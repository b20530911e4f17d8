"""Says how soon a long text is seen, and how soon each part of its map: `sightline look --serve` on 100,000 tokens, over HTTP.

    python benchmarks/serving.py                        # minutes: it fits a small model first, and reads the text with it
    python benchmarks/serving.py --model runs/book      # with a model of language that is there already

The text is the interpreter's own: the topics of its help, and sources of its library. The model is a rotary, causal self-attention
encoder fitted to it by `sightline fit`, which has no largest length. The first picture is the whole map of a head at the zoom at which
it fits the page, from the time the server has the text read. Tiles are drawn at random: any head, any zoom, any place; some are asked
for one after the other, as by one who looks, and 200 all at once.
"""

from __future__ import annotations

import json
import os
import pydoc_data.topics
import random
import struct
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path
from resource import RUSAGE_SELF, getrusage
from statistics import median, quantiles
from time import monotonic, perf_counter
from urllib.parse import urlencode, urlsplit

import torch
from side_by_side import arguments, show, stop, write

from sightline.lens import server as room
from sightline.lens.views import SIDE
from sightline.training import Model, fit

TOKENS, TILES, AT_ONCE = 100_000, 200, 200
TARGETS = {"first picture, s": 5.0, "tile, 95th percentile, s": 0.1}
SOURCES = (
    "argparse",
    "ast",
    "datetime",
    "difflib",
    "enum",
    "inspect",
    "pathlib",
    "statistics",
    "tarfile",
    "typing",
    "zipfile",
)


def book() -> str:
    library = Path(pydoc_data.topics.__file__).parents[1]
    topics = pydoc_data.topics.topics
    files = [library / f"{name}.py" for name in SOURCES]
    parts = [topics[name] for name in sorted(topics)] + [
        file.read_text("utf-8") for file in files if file.is_file()
    ]
    return "\n\n".join(parts)


def fitted(text: str, seconds: float) -> Model:
    """A model of this language, small."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "book.txt")
        file.write_text(text, "utf-8")
        return fit(file, out=Path(folder, "model"), tokenizer="bpe", layers=2, width=128, seconds=seconds)


def beginning(model: Model, text: str) -> str:
    """As much of the text as makes TOKENS."""
    ends = [end for _, end in model.tokenizer.engine.encode(text, add_special_tokens=False).offsets]
    if len(ends) < TOKENS:
        stop(f"book: expected a text of {TOKENS} tokens, got {len(ends)}; fit a model with smaller pieces")
    return text[: ends[TOKENS - 1]]


class Asking:
    """One connection that stays open, as a browser's does."""

    def __init__(self, address: str):
        self.parts = urlsplit(address)
        self.connection = HTTPConnection(self.parts.hostname, self.parts.port, timeout=600)

    def __call__(self, name: str, params: dict) -> tuple[bytes, float]:
        began = perf_counter()
        self.connection.request("GET", f"{self.parts.path}ask/{name}?{urlencode(params)}")
        answer = self.connection.getresponse()
        body = answer.read()
        if answer.status != 200:
            stop(f"serving: expected an answer, got {answer.status} {body[:200]!r}")
        return body, perf_counter() - began


def drawn(count: int, views: list[str], seed: int) -> list[dict]:
    """Tiles at random zooms and places."""
    chance, found = random.Random(seed), []
    zooms = [1]
    while zooms[-1] * SIDE < TOKENS:
        zooms.append(2 * zooms[-1])
    for _ in range(count):
        at = chance.choice(zooms)
        tiles = -(-TOKENS // (at * SIDE))
        place = {"row": chance.randrange(tiles), "column": chance.randrange(tiles)}
        found.append({"view": chance.choice(views), "at": at} | place)
    return found


def spread(seconds: list[float]) -> dict[str, float]:
    return {"median": median(seconds), "95th": quantiles(seconds, n=20)[-1], "most": max(seconds)}


def share_of(body: bytes) -> float:
    return struct.unpack("<f", body[:4])[0]


def looked(address: str, began: float) -> dict:
    """What one who looks waits for, in seconds."""
    ask = Asking(address)
    whole = {"view": "1.0", "at": drawn(1, ["0"], 0)[0]["at"], "row": 0, "column": 0}
    while whole["at"] * SIDE < TOKENS:
        whole["at"] *= 2
    body, _ = ask("tile", whole)
    figures: dict = {"first picture": perf_counter() - began, "of the rows": share_of(body)}
    views = ["1.0", "0.1"]
    for view in views:
        ask("tile", whole | {"view": view})
    alone = [ask("tile", tile)[1] for tile in drawn(TILES, views, 1)]
    figures["tiles, one by one, while the map is refined"] = spread(alone)
    rows = [
        ask(name, {"view": "1.0", "level": "words", "first": i, "stop": i + 1})[1]
        for i in range(500, 20_500, 1000)
        for name in ("rows", "columns")
    ]
    figures["a word: a row or a column"] = spread(rows)
    until = monotonic() + 1800
    while share_of(ask("tile", whole)[0]) < 1 and monotonic() < until:
        threading.Event().wait(0.5)
    figures["whole map exact"] = perf_counter() - began
    figures["tiles, one by one"] = spread([ask("tile", tile)[1] for tile in drawn(TILES, views, 2)])

    def one(tile: dict) -> float:
        return Asking(address)("tile", tile)[1]

    before = getrusage(RUSAGE_SELF).ru_maxrss
    with ThreadPoolExecutor(AT_ONCE) as pool:
        started = perf_counter()
        each = list(pool.map(one, drawn(AT_ONCE, views, 3)))
        figures["200 at once"] = spread(each) | {"all": perf_counter() - started}
    figures["200 at once"]["more memory, MiB"] = (getrusage(RUSAGE_SELF).ru_maxrss - before) / 1024
    return figures


def main() -> None:
    parser = arguments(__doc__.partition("\n")[0])
    parser.add_argument("--model", type=Path, help="a fitted model of language, instead of fitting one")
    parser.add_argument("--seconds", type=float, default=60, help="of training")
    asked = parser.parse_args()
    text = book()
    model = Model.load(asked.model) if asked.model else fitted(text, asked.seconds)
    text = beginning(model, text)
    began = perf_counter()
    answers = room.observed(model, text, progress=True)
    figures: dict = {
        "targets": TARGETS,
        "tokens": answers.n,
        "words": len(answers.text.words),
        "layers": answers.layers,
        "heads": answers.heads,
    }
    figures["reading the text and the forward pass"] = perf_counter() - began
    figures["load of the machine, of the last minute"] = os.getloadavg()[
        0
    ]  # 1 or so is this program; more are others, and count
    torch.set_num_threads(1)
    with room._listening(0) as listener, answers:
        began = perf_counter()
        server, address = room.server_of(answers, answers.page("server"), listener)
        running = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        running.start()
        figures |= looked(address, began)
        server.should_exit = True
        running.join()
    rows = [
        [name, *(f"{value[part]:.3f}" for part in ("median", "95th", "most"))]
        for name, value in figures.items()
        if isinstance(value, dict) and "median" in value
    ]
    show(
        f"{answers.n:,} tokens, {answers.layers} layers of {answers.heads} heads",
        ["seconds", "median", "95th", "most"],
        rows,
    )
    print(json.dumps({name: value for name, value in figures.items() if isinstance(value, float)}, indent=1))
    write(asked.results, "serving", figures)


if __name__ == "__main__":
    main()
