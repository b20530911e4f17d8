"""The data of a look against dense weights: what stands in the blocks, what is measured, and what is refused."""

import base64
import json
import zlib

import numpy as np
import pytest
import torch

from sightline.lens import inline
from sightline.lens.page_data import look_data
from tests.lens.observed import long, plain, seen, text, weights


def block(data: dict, name: str) -> np.ndarray:
    return np.frombuffer(zlib.decompress(base64.b64decode(data["blocks"][name]), -15), np.uint8)


def decoded(bytes: np.ndarray) -> np.ndarray:
    return (bytes / 255.0) ** 2


def by_words(w: torch.Tensor, word_of: list[int]) -> np.ndarray:
    """The definition: summed over the pieces attended to, averaged over those attended from."""
    count = max(word_of) + 1
    out = np.zeros((count, count))
    for q in range(count):
        rows = [i for i, word in enumerate(word_of) if word == q]
        for i in rows:
            for k, word in enumerate(word_of):
                out[q, word] += float(w[i, k]) / len(rows)
    return out


def test_whole_maps_of_a_short_text():
    w = weights(2, 3, 16)
    data = look_data(seen(w), text(), "made up", None, None, None)
    assert json.loads(json.dumps(data)) is not None and data["links"] == 0
    assert sum(name.startswith("map/") for name in data["blocks"]) == len(inline.views(2, 3)) == 9
    for view, expected in {"1.2": w[1, 2], "0": w[0].mean(0), "all": w.mean((0, 1))}.items():
        result = decoded(block(data, f"map/{view}")).reshape(16, 16)
        assert np.abs(result - expected.numpy()).max() < 0.004
        small = expected.numpy() < 1e-3
        assert np.abs(result - expected.numpy())[small].max() < 2e-4
    assert block(data, "thumbnails").reshape(9, 16, 16).shape[0] == 9


def test_links_where_maps_do_not_fit(monkeypatch):
    whole = long()
    w = weights(2, 3, len(whole.pieces))
    monkeypatch.setattr(inline, "LINKS", (4,))
    monkeypatch.setattr(inline.blocks, "__defaults__", (55_000,))
    data = look_data(seen(w), whole, "made up", None, None, None)
    assert data["links"] == 4 and sum(map(len, data["blocks"].values())) <= 55_000
    linked = [view for view in inline.views(2, 3) if f"words/{view}" in data["blocks"]]
    assert 0 < len(linked) < 9 and not any(f"map/{view}" in data["blocks"] for view in linked)
    for view in (view for view in linked if "." in view):
        layer, head = map(int, view.split("."))
        for kind, expected in (("pieces", w[layer, head].numpy()), ("words", by_words(w[layer, head], whole.word_of))):
            n = len(expected)
            result = block(data, f"{kind}/{view}")
            first, special, low, high, value = np.split(result, np.cumsum([n, n, 4 * n, 4 * n]))
            assert np.abs(decoded(first) - expected[:, 0]).max() < 0.004
            assert np.abs(decoded(special) - expected[:, 0] - expected[:, -1]).max() < 0.008
            keys = (low + 256 * high.astype(int)).reshape(n, 4)
            assert (np.diff(keys) > 0).all()
            for q in range(n):
                assert np.abs(decoded(value).reshape(n, 4)[q] - expected[q, keys[q]]).max() < 0.004
                assert expected[q, keys[q]].min() >= np.sort(expected[q])[-5] - 0.008


def test_statistics_are_those_of_the_definition():
    w = weights(2, 3, 16).double()
    data = look_data(seen(w.float()), text(), "made up", None, None, None)
    place = np.arange(16)
    expected = {
        "entropy": -(w * w.log()).sum(-1).mean(-1),
        "previous": torch.stack([w[..., i, i - 1] for i in range(1, 16)]).sum(0) / 16,
        "special": (w[..., 0] + w[..., 15]).mean(-1),
    }
    for name, values in expected.items():
        assert np.allclose(data["statistics"][name], values, rtol=1e-3)
    apart = place - place[:, None]
    for (low, high), share in zip(data["bins"], np.moveaxis(np.array(data["profile"]), -1, 0), strict=True):
        kept = w.clone()
        kept[..., [0, 15]] = 0
        assert np.allclose(share, kept[..., torch.tensor((apart >= low) & (apart <= high))].sum(-1) / 16, rtol=1e-3)
    assert data["bins"][0][0] == -15 and data["bins"][-1][1] == 15
    assert [b for b in range(-15, 16) if sum(low <= b <= high for low, high in data["bins"]) != 1] == []


def test_heads_that_join_two_words_are_ranked():
    w = weights(2, 3, 16)
    whole = text()
    there, back = whole.pair("its:1:unbelievable"), whole.pair("unbelievable:its:1")
    data = look_data(seen(w), whole, "made up", there, None, None)
    for ranked, (q, k) in ((data["link"]["there"], there), (data["link"]["back"], back)):
        expected = {f"{i}.{h}": by_words(w[i, h], whole.word_of)[q, k] for i in range(2) for h in range(3)}
        assert [view for view, _ in ranked] == sorted(expected, key=lambda view: -expected[view])
        assert all(abs(expected[view] - result) < 0.004 for view, result in ranked)
    assert data["start"] == {"view": data["link"]["there"][0][0], "from": there[0], "hide": True}


def test_opens_with_what_is_asked():
    w = weights(2, 3, 16)
    assert look_data(seen(w), text(), "made up", None, 1, 2)["start"]["view"] == "1.2"
    assert look_data(seen(w), text(), "made up", None, 0, None)["start"]["view"] == "0"
    for layer, head, message in (
        (2, None, "layer from 0 to 1, got 2"),
        (0, 3, "head from 0 to 2, got 3"),
        (None, 1, "a layer for head 1"),
    ):
        with pytest.raises(ValueError, match=message):
            look_data(seen(w), text(), "made up", None, layer, head)


@pytest.mark.parametrize("n", [1, 2, 3, 41, 97])
def test_any_length(n):
    data = look_data(seen(weights(1, 2, n)), plain(n), "made up", None, None, None)
    assert data["size"] == min(n, 40) and len(data["words"]) == n
    assert sum(np.array(data["profile"])[0, 0]) == pytest.approx(1, abs=0.01)


def test_what_cannot_be_laid_out_is_refused():
    with pytest.raises(ValueError, match="as many heads in each layer, got 3, then 2"):
        uneven = seen(weights(2, 3, 16))
        layer = uneven.layer
        uneven.layer = lambda i: layer(i) if i == 0 else seen(weights(2, 2, 16)).layer(1)
        look_data(uneven, text(), "made up", None, None, None)
    with pytest.raises(ValueError, match="a text's 16 pieces to each other, got .15, 15. in layer 0"):
        look_data(seen(weights(2, 2, 15)), text(), "made up", None, None, None)
    maps = inline.Maps(plain(60), weights(3, 3, 60))
    with pytest.raises(ValueError, match="fits into one page, got 60 pieces under 13 views"):
        inline.blocks(maps, [], limit=20_000)
