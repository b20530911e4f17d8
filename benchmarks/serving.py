"""Measures `sightline look --serve` on 100,000 tokens, over HTTP: the time to the first picture and to each tile.

    python benchmarks/serving.py                     # minutes: it fits a small model first, and reads the text with it
    python benchmarks/serving.py --model runs/book   # with a language model that exists already

The text is the interpreter's own: the topics of its help, and sources of its library. The model is a rotary, causal
self-attention encoder that `sightline fit` fits to it; it has no largest length. The first picture is the whole map of
a head at the zoom that fits the page, timed from the end of reading the text. Tiles are drawn at random: any head, any
zoom, any place; some are requested one after the other, as a reader does, and 200 all at once. Before any figure is
printed, rows and one tile of the server are compared with the weights of queries and keys in float64.
"""

from __future__ import annotations

import json
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

import numpy as np
import torch
from side_by_side import agree, arguments, extra, show, stop, timed, write
from torch import Tensor

from sightline.lens import server as room
from sightline.lens.page_queries import Answers
from sightline.lens.views import SIDE
from sightline.training import Model, fit

with extra("serve"):
    import starlette  # noqa: F401  the server needs both
    import uvicorn  # noqa: F401

LIMIT = 1e-5  # largest error of a weight
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
    parts = [topics[name] for name in sorted(topics)] + [file.read_text("utf-8") for file in files if file.is_file()]
    return "\n\n".join(parts)


def fitted(text: str, seconds: float, width: int) -> Model:
    """A model of this language, small."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "book.txt")
        file.write_text(text, "utf-8")
        return fit(
            file, out=Path(folder, "model"), tokenizer="bpe", layers=2, width=width, seconds=seconds, progress=False
        )


def beginning(model: Model, text: str, tokens: int) -> str:
    """As much of the text as makes so many tokens."""
    ends = [end for _, end in model.tokenizer.engine.encode(text, add_special_tokens=False).offsets]
    if len(ends) < tokens:
        stop(f"book: expected a text of {tokens} tokens, got {len(ends)}; fit a model with smaller pieces")
    return text[: ends[tokens - 1]]


class Asking:
    """One connection that stays open, as a browser's does."""

    def __init__(self, address: str):
        self.parts = urlsplit(address)
        self.connection = HTTPConnection(self.parts.hostname, self.parts.port, timeout=600)

    def __enter__(self) -> Asking:
        return self

    def __exit__(self, *_) -> None:
        self.connection.close()

    def __call__(self, name: str, params: dict) -> tuple[bytes, float]:
        began = perf_counter()
        self.connection.request("GET", f"{self.parts.path}ask/{name}?{urlencode(params)}")
        answer = self.connection.getresponse()
        body = answer.read()
        if answer.status != 200:
            stop(f"serving: expected an answer, got {answer.status} {body[:200]!r}")
        return body, perf_counter() - began


def drawn(n: int, count: int, views: list[str], seed: int) -> list[dict]:
    """Tiles of a text of n tokens, at random zooms and places."""
    chance, tiles = random.Random(seed), []
    zooms = [1]
    while zooms[-1] * SIDE < n:
        zooms.append(2 * zooms[-1])
    for _ in range(count):
        at = chance.choice(zooms)
        side = -(-n // (at * SIDE))
        place = {"row": chance.randrange(side), "column": chance.randrange(side)}
        tiles.append({"view": chance.choice(views), "at": at} | place)
    return tiles


def weights(answers: Answers, layer: int, head: int, rows: Tensor) -> Tensor:
    """The definition, in float64: the weights [r, n] of some queries of a causal head."""
    call = answers.seen.layer(layer).mapped(0)
    q, k = call.q[rows, head].double(), call.k[:, int(call.groups[head])].double()
    scores = q @ k.T * call.scale
    return scores.masked_fill(torch.arange(answers.n) > rows[:, None], -torch.inf).softmax(-1)


def check(ask: Asking, answers: Answers) -> float:
    """The largest error of the served rows of weights; stops where one is too large, or a tile differs from them."""
    worst, n = 0.0, answers.n
    for view in ("1.0", "0.1"):
        for i in (0, n // 2, n - 1):
            body, _ = ask("rows", {"view": view, "level": "pieces", "first": i, "stop": i + 1})
            right = weights(answers, *map(int, view.split(".")), torch.tensor([i]))[0]
            error = float((torch.from_numpy(np.frombuffer(body, "<f4").copy()) - right).abs().max())
            worst = max(worst, agree(f"serving, weights of token {i}, head {view}", error, LIMIT))
    place = (n - 1) // SIDE
    body, _ = ask("tile", {"view": "1.0", "at": 1, "row": place, "column": place})
    right = weights(answers, 1, 0, torch.arange(place * SIDE, n))[:, place * SIDE :].sqrt() * 255
    levels = torch.from_numpy(np.frombuffer(body[4:], np.uint8).reshape(2, *right.shape)[0].copy())
    agree("serving, a tile, in its 255 levels", float((levels - right).abs().max()), 1.0)
    return worst


def spread(seconds: list[float]) -> dict[str, float]:
    return {"median": median(seconds), "95th": quantiles(seconds, n=20)[-1], "most": max(seconds)}


def share_of(body: bytes) -> float:
    return struct.unpack("<f", body[:4])[0]


def looked(ask: Asking, address: str, n: int, count: int, began: float) -> dict:
    """Waiting times of a reader, in seconds, with `count` tiles."""
    whole = {"view": "1.0", "at": 1, "row": 0, "column": 0}
    while whole["at"] * SIDE < n:
        whole["at"] *= 2
    body, _ = ask("tile", whole)
    figures: dict = {"first picture": perf_counter() - began, "of the rows": share_of(body)}
    views = ["1.0", "0.1"]
    for view in views:
        ask("tile", whole | {"view": view})
    alone = [ask("tile", tile)[1] for tile in drawn(n, count, views, 1)]
    figures["tiles, one by one, while the map is refined"] = spread(alone)
    rows = [
        ask(name, {"view": "1.0", "level": "words", "first": i, "stop": i + 1})[1]
        for i in range(n // 200, n // 5, n // 100)
        for name in ("rows", "columns")
    ]
    figures["a word: a row or a column"] = spread(rows)
    until = monotonic() + 1800
    while share_of(ask("tile", whole)[0]) < 1 and monotonic() < until:
        threading.Event().wait(0.5)
    figures["whole map exact"] = perf_counter() - began
    figures["tiles, one by one"] = spread([ask("tile", tile)[1] for tile in drawn(n, count, views, 2)])

    def one(tile: dict) -> float:
        with Asking(address) as another:
            return another("tile", tile)[1]

    before = getrusage(RUSAGE_SELF).ru_maxrss
    with ThreadPoolExecutor(count) as pool:
        started = perf_counter()
        each = list(pool.map(one, drawn(n, count, views, 3)))
        together = spread(each) | {"all": perf_counter() - started}
    together["more memory, MiB"] = (getrusage(RUSAGE_SELF).ru_maxrss - before) / 1024
    figures[f"{count} at once"] = together
    return figures


def main() -> None:
    parser = arguments(__doc__.partition("\n")[0], smoke={"seconds": 0.2, "width": 64, "tokens": 700, "tiles": 4})
    parser.add_argument("--model", type=Path, help="a fitted model of language, instead of fitting one")
    parser.add_argument("--seconds", type=float, default=60, help="of training")
    parser.add_argument("--width", type=int, default=128, help="of the model that is fitted")
    parser.add_argument("--tokens", type=int, default=100_000, help="of the text")
    parser.add_argument("--tiles", type=int, default=200, help="asked for one by one, and all at once")
    options = parser.parse_args()
    text = book()[:10_000] if options.smoke else book()
    model = Model.load(options.model) if options.model else fitted(text, options.seconds, options.width)
    text = beginning(model, text, options.tokens)
    began = perf_counter()
    with timed():
        answers = room.observed(model, text, progress=not options.smoke)
    figures: dict = {
        "targets": TARGETS,
        "tokens": answers.n,
        "words": len(answers.text.words),
        "layers": answers.layers,
        "heads": answers.heads,
    }
    figures["reading the text and the forward pass"] = perf_counter() - began
    torch.set_num_threads(1)
    with room._listening(0) as listener, answers:
        began = perf_counter()
        server, address = room.server_of(answers, answers.page("server"), listener)
        running = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        running.start()
        try:
            with Asking(address) as ask:
                with timed():
                    figures |= looked(ask, address, answers.n, options.tiles, began)
                figures["error"] = check(ask, answers)  # after, since what was asked before is kept
        finally:
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
    write(options.results, "serving", figures)


if __name__ == "__main__":
    main()
