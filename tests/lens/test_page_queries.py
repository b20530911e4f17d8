"""A page's queries of a long text against dense float64 weights: rows, columns, pairs, tiles, cells, head overviews."""

import json
import struct
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from sightline.encoders import build
from sightline.lens import page_queries as room
from sightline.lens import views
from sightline.lens.page_queries import Answers
from sightline.lens.views import GrowingMap, View, exact_tile
from sightline.observe import recording, watch
from sightline.observe.distances import bins_within
from sightline.sequences import Sequences
from tests.lens.served import answers, by_words, dense, text


def numbers(queries: Answers, name: str, **params) -> np.ndarray:
    units = queries.n if params["level"] == "pieces" else len(queries.text.words)
    return np.frombuffer(queries.answer(name, params), "<f4").reshape(-1, units)


def tile(queries: Answers, view: str, at: int, row: int, column: int) -> tuple[float, np.ndarray, np.ndarray]:
    output = queries.answer("tile", {"view": view, "at": at, "row": row, "column": column})
    cells = -(-queries.n // at)
    high, wide = (min(views.SIDE, cells - views.SIDE * i) for i in (row, column))
    mean, peak = np.frombuffer(output[4:], np.uint8).reshape(2, high, wide)
    return struct.unpack("<f", output[:4])[0], (mean / 255.0) ** 2, (peak / 255.0) ** 2


def zoomed(weights: torch.Tensor, at: int) -> tuple[np.ndarray, np.ndarray]:
    """The definition of a tile's two channels, over the whole map."""
    n = len(weights)
    cells = -(-n // at)
    mean, peak = np.zeros((cells, cells)), np.zeros((cells, cells))
    w = weights.numpy()
    for a in range(cells):
        rows = w[a * at : (a + 1) * at]
        for b in range(cells):
            part = rows[:, b * at : (b + 1) * at]
            mean[a, b], peak[a, b] = part.sum() / len(rows), part.max()
    return mean, peak


# --- rows, columns, pairs -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n, causal", [(1, True), (2, False), (97, True), (211, False)])
@pytest.mark.parametrize("view", ["1.2", "0"])
def test_rows_and_columns_are_those_of_the_weights(n, causal, view):
    queries = answers(n, causal)
    pieces = dense(queries, view)
    for level, w in (("pieces", pieces), ("words", by_words(pieces, queries.text.word_of))):
        last = len(w)
        for first, stop in {(0, 1), (last - 1, last), (last // 2, last), (0, last)}:
            some = {"view": view, "level": level, "first": first, "stop": stop}
            assert np.abs(numbers(queries, "rows", **some) - w[first:stop].numpy()).max() < 2e-6
            assert np.abs(numbers(queries, "columns", **some) - w[:, first:stop].T.numpy()).max() < 2e-6


def test_heads_that_join_two_words_are_ranked():
    queries = answers(60)
    summary = json.loads(queries.answer("pair", {"level": "words", "from": 17, "to": "4"}))
    heads = [f"{layer}.{head}" for layer in range(2) for head in range(3)]
    for result, (q, k) in ((summary["there"], (17, 4)), (summary["back"], (4, 17))):
        expected = {view: float(by_words(dense(queries, view), queries.text.word_of)[q, k]) for view in heads}
        assert [view for view, _ in result] == sorted(heads, key=lambda view: -expected[view])
        assert all(abs(expected[view] - weight) < 1e-6 for view, weight in result)


# --- the map --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n, causal", [(1, True), (300, True), (523, False)])
@pytest.mark.parametrize("view", ["1.1", "1"])
def test_tiles_cover_the_map_at_every_zoom(n, causal, view):
    queries = answers(n, causal)
    weights = dense(queries, view)
    at = 1
    while at == 1 or at // 2 * views.SIDE < n:
        mean, peak = zoomed(weights, at)
        count = -(-len(mean) // views.SIDE)
        for row in range(count):
            for column in range(count):
                share, result, most = tile(queries, view, at, row, column)
                part = np.s_[row * views.SIDE : (row + 1) * views.SIDE, column * views.SIDE : (column + 1) * views.SIDE]
                assert share == 1
                assert np.abs(np.sqrt(result) - np.sqrt(mean[part].clip(0, 1))).max() < 0.0021  # half a byte
                assert np.abs(np.sqrt(most) - np.sqrt(peak[part])).max() < 0.0021
        at *= 2
    q, k = (n - 1) // 4, (n - 1) // 8
    mean, peak = zoomed(weights, 2) if n > views.SIDE else zoomed(weights, 1)
    cell = {"view": view, "at": 2 if n > views.SIDE else 1, "row": q, "column": k}
    assert struct.unpack("<2f", queries.answer("cell", cell)) == pytest.approx((mean[q, k], peak[q, k]), abs=2e-6)


def test_a_first_picture_is_a_sample_of_rows_and_becomes_exact(monkeypatch):
    monkeypatch.setattr(views, "CELLS", 80)
    monkeypatch.setattr(room, "CELLS", 80)
    for module in (views, room):
        monkeypatch.setattr(module, "SIDE", 128)
    monkeypatch.setattr(views, "SAMPLED", 20 * 601)
    monkeypatch.setattr(room, "SHOWN", 0)
    queries = answers(601)
    weights = dense(queries, "0.2")
    assert queries.base == 8
    mean, peak = zoomed(weights, 8)
    share, result, most = tile(queries, "0.2", 8, 0, 0)
    assert share == pytest.approx(20 / 601)
    rows = views.sampled_rows(601)
    assert len(rows) == 20
    for cell in (0, 31, 75):  # a row of cells before it is known: as the nearest of the sampled queries has it
        nearest = int(rows[min((cell * 8 + min(cell * 8 + 8, 601)) // 2 * 20 // 601, 19)])
        line = torch.nn.functional.pad(weights[nearest], (0, 608 - 601)).view(76, 8)
        assert np.abs(np.sqrt(result[cell]) - line.sum(-1).sqrt().numpy()).max() < 0.0021
        assert np.abs(np.sqrt(most[cell]) - line.amax(-1).sqrt().numpy()).max() < 0.0021
    exact_share, _, _ = tile(queries, "0.2", 4, 0, 0)
    assert exact_share == 1  # finer than what is kept: at once
    with queries:
        shares = [share]
        end = time.monotonic() + 30
        while shares[-1] < 1 and time.monotonic() < end:
            shares.append(tile(queries, "0.2", 8, 0, 0)[0])
    assert shares[-1] == 1 and shares == sorted(shares)
    _, result, most = tile(queries, "0.2", 8, 0, 0)
    assert np.abs(np.sqrt(result) - np.sqrt(mean.clip(0, 1))).max() < 0.0021
    assert np.abs(np.sqrt(most) - np.sqrt(peak)).max() < 0.0021


def test_coarser_zooms_of_a_map_that_is_kept_are_those_of_the_definition(monkeypatch):
    monkeypatch.setattr(views, "CELLS", 70)
    monkeypatch.setattr(views, "SIDE", 8)
    queries = answers(521, causal=False)
    map = GrowingMap(View(queries.seen.layer(1), [0]))
    while map.known < 1:
        map.grow(3)
    map.refresh()
    weights = dense(queries, "1.0")
    assert map.at == 8 and max(map.zooms) * 8 >= 521
    for at in map.zooms:
        mean, peak = zoomed(weights, at)
        result = map.tile(at, (0, len(mean)), (0, len(mean)))
        assert np.abs(result.mean.numpy() - mean).max() < 5e-6 and np.abs(result.peak.numpy() - peak).max() < 5e-6


def test_views_agree_with_a_softcap_a_bias_and_a_window():
    torch.manual_seed(0)
    from sightline.attention import Pattern
    from sightline.observe.calls import Call
    from sightline.observe.layer import Layer

    n, heads = 37, 4
    q, k = torch.randn(n, heads, 8), torch.randn(n, 2, 8)
    bias = torch.randn(heads, n, n)
    groups = torch.tensor([0, 0, 1, 1])
    scores = torch.einsum("qhd,khd->hqk", q.double(), k[:, groups].double()) * 0.3
    scores = 2 * (scores / 2).tanh() + bias
    distance = torch.arange(n) - torch.arange(n)[:, None]
    scores = scores.masked_fill((distance < -9) | (distance > 4), -torch.inf)
    lse, offsets = scores.logsumexp(-1).T.float(), torch.tensor([0, n])
    call = Call(q, k, lse, offsets, offsets, Pattern(9, 4), 0.3, groups, 2.0, (bias,))
    layer = Layer("made up", [0, 1, 2, 3], call, None)
    expected = scores.softmax(-1)
    for chosen in ([0], [3], [0, 1, 2, 3]):
        view, w = View(layer, chosen), expected[chosen].mean(0)
        assert (view.weights(torch.arange(n)) - w).abs().max() < 1e-6
        assert (view.weights(torch.tensor([3, 11, 36]), 5, 20) - w[[3, 11, 36], 5:20]).abs().max() < 1e-6
        result = exact_tile(view, 2, (0, 19), (0, 19))
        assert np.abs(result.mean.numpy() - zoomed(w, 2)[0]).max() < 1e-6


# --- the heads ------------------------------------------------------------------------------------------------------


def heads_of(queries: Answers) -> dict:
    for layer in range(queries.layers):
        with torch.no_grad():
            list(queries.sample.add(queries.seen.layer(layer)))
    return json.loads(queries.answer("heads", {}))


def test_numbers_of_a_short_text_are_those_of_the_definition():
    queries = answers(90)
    queries.sample.special[[0, 40]] = True
    summary = heads_of(queries)
    assert summary["layers"] == 2 and summary["rows"] == 90
    w = torch.stack([torch.stack([dense(queries, f"{i}.{h}") for h in range(3)]) for i in range(2)])
    place = torch.arange(90)
    away = place - place[:, None]
    expected = {
        "entropy": torch.special.entr(w).sum(-1).mean(-1),
        "distance": (w * away.abs()).sum(-1).mean(-1),
        "previous": w.diagonal(-1, -2, -1).sum(-1) / 90,
        "next": w.diagonal(1, -2, -1).sum(-1) / 90,
        "first": w[..., 0].mean(-1),
        "special": w[..., [0, 40]].sum(-1).mean(-1),
    }
    for name, value in expected.items():
        assert np.allclose(summary["statistics"][name], value, rtol=2e-3, atol=1e-6), name
    kept = w.clone()
    kept[..., [0, 40]] = 0
    for (low, high), share in zip(bins_within(90), np.moveaxis(np.array(summary["profile"]), -1, 0), strict=True):
        inside = (away >= low) & (away <= high)
        assert np.allclose(share, kept[..., inside].sum(-1) / 90, rtol=2e-3, atol=1e-6)
    pictures = np.frombuffer(queries.answer("thumbnails", {}), np.uint8).reshape(2 + 6, 40, 40)
    cells = place * 40 // 90
    most = max(
        float(w[1, 2][q, k]) for q in range(90) for k in range(90) if cells[q] == 21 and 3 * 90 / 40 <= k < 4 * 90 / 40
    )
    assert (pictures[2 + 5][21, 3] / 255) ** 2 >= most - 0.004


def test_numbers_of_a_long_text_are_means_of_the_sampled_queries(monkeypatch):
    monkeypatch.setattr(views, "SAMPLED", 30 * 400)
    queries = answers(400)
    summary = heads_of(queries)
    rows = views.sampled_rows(400)
    assert summary["rows"] == len(rows) == 30 and rows.diff().min() >= 13
    w = dense(queries, "1.0")[rows]
    assert summary["statistics"]["entropy"][1][0] == pytest.approx(
        float(torch.special.entr(w).sum(-1).mean()), rel=1e-3
    )


def test_long_input_waits_for_its_statistics(monkeypatch):
    monkeypatch.setattr(recording, "KEPT", 0)
    monkeypatch.setattr(recording, "statistics", lambda *_: pytest.fail("nobody asked for them"))
    encoder = build("self-attention", vocabulary=9, width=8, layers=2, heads=2).eval()
    with torch.no_grad(), watch(encoder, keep_map=True) as seen:
        encoder(Sequences(torch.tensor([1, 2, 3, 4, 5]), [0, 5]))
    queries = Answers(seen, text(5), "made up")
    some = {"view": "1.1", "level": "pieces", "first": 0, "stop": 5}
    assert np.abs(numbers(queries, "rows", **some) - dense(queries, "1.1").numpy()).max() < 1e-6


# --- many at once, and what cannot be answered ----------------------------------------------------------------------


def test_threads_that_ask_at_once_get_what_one_gets(monkeypatch):
    monkeypatch.setattr(room, "KEPT", 300_000)
    queries, alone = answers(700), answers(700)
    questions = [
        ("tile", {"view": view, "at": at, "row": row, "column": 0})
        for view in ("0.0", "1.2", "1", "0.1", "1.1")
        for at, row in ((1, 0), (1, 2), (2, 1))
    ] * 3
    expected = [alone.answer(*question) for question in questions]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda question: queries.answer(*question), questions)) == expected
    assert queries._bytes == sum(map(len, queries._tiles.values())) <= 300_000
    assert len(queries._views) <= room.VIEWS and len(queries._maps) <= room.MAPS


@pytest.mark.parametrize(
    "name, params, sentence",
    [
        ("tales", {}, "expected one of rows, columns, pair, tile, cell, heads, thumbnails, got 'tales'"),
        ("rows", {"view": "0.0"}, "expected rows with view, level, first, stop, got view"),
        ("heads", {"x": "1"}, "expected heads with nothing, got x"),
        ("rows", {"view": "0.3", "level": "words", "first": 0, "stop": 1}, "of 2 layers and 3 heads, got '0.3'"),
        ("rows", {"view": "2", "level": "words", "first": 0, "stop": 1}, "got '2'; count from 0"),
        ("rows", {"view": "all", "level": "words", "first": 0, "stop": 1}, "got 'all'"),
        ("rows", {"view": "0.0", "level": "lines", "first": 0, "stop": 1}, "expected pieces or words, got 'lines'"),
        ("rows", {"view": "0.0", "level": "pieces", "first": 49, "stop": 51}, "expected pieces from 0 to 50"),
        ("rows", {"view": "0.0", "level": "pieces", "first": 3, "stop": 3}, "the first before the stop, got 3 to 3"),
        ("rows", {"view": "0.0", "level": "pieces", "first": "-1", "stop": 3}, "numbers from 0 up for first, got '-1'"),
        ("rows", {"view": "0.0", "level": "pieces", "first": "9" * 5000, "stop": 3}, "numbers from 0 up"),
        ("tile", {"view": "0.0", "at": 3, "row": 0, "column": 0}, "a zoom of a power of two"),
        ("tile", {"view": "0.0", "at": 2, "row": 0, "column": 0}, "more than 128 cells, got 2"),
        ("tile", {"view": "0.0", "at": 1, "row": 0, "column": 1}, "from 0 to 0, got 0 and 1"),
        ("cell", {"view": "0.0", "at": 1, "row": 50, "column": 1}, "from 0 to 49, got 50 and 1"),
    ],
)
def test_what_cannot_be_answered(name, params, sentence):
    with pytest.raises(ValueError) as raised:
        answers(50).answer(name, params)
    assert sentence in str(raised.value) and len(str(raised.value)) < 300


def test_what_is_too_much_for_one_answer(monkeypatch):
    monkeypatch.setattr(room, "MOST", 50 * 7)
    some = {"view": "0.0", "level": "pieces", "first": 0}
    answers(50).answer("rows", some | {"stop": 7})
    with pytest.raises(ValueError, match="expected fewer pieces at once, got 8 of 50"):
        answers(50).answer("columns", some | {"stop": 8})


def test_a_text_of_another_length_is_refused():
    queries = answers(20)
    with pytest.raises(ValueError, match="a piece for each of 20 tokens that were seen, got 19"):
        Answers(queries.seen, text(19), "made up")


# --- the page -------------------------------------------------------------------------------------------------------


def test_the_page_opens_where_it_is_asked_to():
    queries = answers(60)
    assert queries.page("server", layer=1, head=2)["start"]["view"] == "1.2"
    assert queries.page("server", layer=1)["start"]["view"] == "1"
    data = queries.page("summary", link="w17:w4")
    assert data["link"]["there"][0][0] == data["start"]["view"] and data["start"]["from"] == 17
    assert data["by"] == "summary" and "blocks" not in data and json.loads(json.dumps(data))["link"]["to"] == 4
    view, word = (queries.page("server")["start"][name] for name in ("view", "from"))
    w = dense(queries, view)[queries.text.word_of.index(word)]
    assert float(w.max()) > 0 and "." in view
    for layer, head, sentence in (
        (2, None, "layer from 0 to 1, got 2"),
        (0, 3, "head from 0 to 2, got 3"),
        (None, 1, "a layer for head 1"),
    ):
        with pytest.raises(ValueError, match=sentence):
            queries.page("server", layer=layer, head=head)


def test_bins_reach_as_far_as_the_text():
    for n in (1, 2, 5000, 100_000):
        edges = [edge for low, high in bins_within(n) for edge in (low, high + 1)]
        assert edges[0] == 1 - n and edges[-1] == n and edges[1:-1:2] == edges[2::2]
