"""One text and all that a model's heads look at in it, as the data of a page: from the model's name to a dict that JSON can hold.

text -> pieces and words (`wording`) -> the model, watched -> maps, links and statistics (`inline`) -> `write_page`
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from sightline.lens import inline
from sightline.lens.reading import Reader, opened
from sightline.lens.wording import Text
from sightline.observe import watch
from sightline.training import Model

FAR, FARTHEST = 3, 25  # words: a link of such a length is worth showing first, and in sight
BINS = [(-(2**i), -(2 ** (i - 1)) - 1) for i in range(12, 1, -1)] + [
    (-2, -2),
    (-1, -1),
    (0, 0),
    (1, 1),
    (2, 2),
]
BINS += [(2 ** (i - 1) + 1, 2**i) for i in range(2, 13)]


def look(
    model: str | Path | Model,
    text: str,
    *,
    link: str | None = None,
    layer: int | None = None,
    head: int | None = None,
) -> dict:
    """What every head of a model looks at in a text: the data that `lens.write_page` makes a page of.

    `model` is the folder of a fitted model, a fitted model, or the folder or name of a Hugging Face model. `link` names two
    words, as in its:Law (the second of several: its:2): which heads join them is then ranked, under "link" in the data, and the page
    opens there. `layer` and `head` say which head it opens with; a layer alone, the mean of its heads. The format is that of
    `sightline.lens.inline`.

    Raises: ValueError for a model without attention to see, a text of no tokens or too many, a word that is not in it or occurs
    twice, a layer or head out of range.

    >>> from sightline.lens import look, write_page
    >>> write_page(look("all-MiniLM-L6-v2", "The Law is perfect.", link="Law:perfect"), "look.html")  # doctest: +SKIP
    """
    if not isinstance(text, str):
        raise TypeError(f"look: expected a text, got {type(text).__name__}; give one text")
    if any("\ud800" <= letter <= "\udfff" for letter in text):
        raise ValueError("look: expected a text, got half of a surrogate pair in it; decode it anew as UTF-8")
    reader = opened(model)
    words, ids = reader.read(text)
    _check_length(reader, words, ids)
    pair = None if link is None else words.pair(link)
    training = reader.model.training
    try:
        with torch.no_grad(), watch(reader.model.eval(), keep_map=True) as seen:
            reader.run(ids)
    finally:
        reader.model.train(training)
    return looked(seen, words, reader.name, pair, layer, head)


def looked(
    seen, text: Text, name: str, pair: tuple[int, int] | None, layer: int | None, head: int | None
) -> dict:
    """The data of a page, from an observation of the model's last forward pass on this text.

    Raises: ValueError for a layer or head that the model does not have.
    """
    measured: dict[str, list] = {}
    maps = inline.Maps(text, _measuring(seen, text, measured))
    asked = _asked(maps, layer, head)
    there, back = ([], []) if pair is None else (maps.between(*pair), maps.between(*pair[::-1]))
    start = _start(maps, asked, pair, there)
    blocks, links = inline.blocks(maps, [start["view"]] + [view for view, _ in there[:3] + back[:3]])
    profile = measured.pop("profile")
    return {
        "page": "look",
        "version": inline.VERSION,
        "title": f"{name} looks at: {_short(text)}",
        "model": name,
        "layers": maps.layers,
        "heads": maps.heads,
        "pieces": text.pieces,
        "words": text.words,
        "word_of": text.word_of,
        "special": [i for i, special in enumerate(text.special) if special],
        "gold": text.gold,
        "statistics": {name: _rounded(rows) for name, rows in measured.items()},
        "bins": _bins(len(text.pieces)),
        "profile": [_rounded(rows) for rows in profile],
        "start": start,
        "link": pair and {"from": pair[0], "to": pair[1], "there": _rounded(there), "back": _rounded(back)},
        "links": links,
        "size": min(len(text.pieces), inline.SIZE),
        "blocks": blocks,
    }


def _check_length(reader: Reader, text: Text, ids: Tensor) -> None:
    if not len(ids) or all(text.special):
        raise ValueError("look: expected a text, got one without a token; give at least a word")
    for longest, why in (
        (reader.longest, f"as {reader.name} has positions for"),
        (inline.LONGEST, "as fit into a page"),
    ):
        if longest is not None and len(ids) > longest:
            raise ValueError(
                f"look: expected at most {longest} tokens, {why}, got {len(ids)}; shorten the text"
            )


def _asked(maps: inline.Maps, layer: int | None, head: int | None) -> str | None:
    """The view that is asked for by layer and head."""
    for what, number, count in (("layer", layer, maps.layers), ("head", head, maps.heads)):
        if number is not None and not 0 <= number < count:
            raise ValueError(f"look: expected a {what} from 0 to {count - 1}, got {number}; count from 0")
    if head is not None and layer is None:
        raise ValueError(f"look: expected a layer for head {head}, got none; say which")
    return None if layer is None else str(layer) if head is None else f"{layer}.{head}"


def _start(
    maps: inline.Maps, asked: str | None, pair: tuple[int, int] | None, there: list[tuple[str, float]]
) -> dict:
    """The view and word to show first: as asked, else the strongest link between two words that are not neighbours."""
    text = maps.text
    words = [i for i in range(not text.special[0], len(text.words)) if i not in text.special_words]
    words = [i for i in words if len(text.words[i].text) > 2] or words
    views = [asked] if asked else [view for view in maps.words if "." in view]
    best, view, place = -1.0, views[0], words[0] if words else 0
    chosen = torch.tensor(words, dtype=torch.int64)
    for one in views if len(words) else ():
        far = maps.words[one][chosen][:, chosen].float()
        apart = (chosen[:, None] - chosen).abs()
        far[(apart < FAR) | (apart > FARTHEST)] = -0.5
        if float(far.max()) > best:
            best, view, place = float(far.max()), one, words[int(far.argmax()) // len(words)]
    if text.gold and len(text.words) == len(
        text.pieces
    ):  # the use that finds its binding best, of those that are apart
        uses, bindings = torch.tensor([link for link in text.gold if link[0] != link[1]] or text.gold).T
        found = torch.stack([maps.words[one][uses, bindings] for one in views]).int()
        view, place = views[int(found.max(1).values.argmax())], int(uses[found.max(0).values.argmax()])
    if pair is not None:
        view, place = asked or there[0][0], pair[0]
    return {"view": view, "from": place, "hide": any(text.special)}


# --- statistics -----------------------------------------------------------------------------------------------------------


def _measuring(seen, text: Text, measured: dict[str, list]) -> Iterator[Tensor]:
    """The weights of each layer in turn; what is measured of them is put down on the way."""
    for number in range(seen.layers):
        layer = seen.layer(number)
        weights = layer.weights(0).float().cpu()
        for name, values in (_averages(layer) | _measures(weights, text)).items():
            measured.setdefault(name, []).append(values.tolist())
        yield weights


def _averages(layer) -> dict[str, Tensor]:
    """What the observation has for each query, [n, H], as a mean for each head, [H]."""
    return {name: getattr(layer, name).mean(0) for name in ("entropy", "distance", "first")}


def _measures(weights: Tensor, text: Text) -> dict[str, Tensor]:
    """Shapes: weights [H, n, n] -> [H] each; the profile [H, bins]."""
    n = weights.shape[-1]
    place = torch.arange(n)
    distance = place - place[:, None]
    special = torch.tensor(text.special)
    found = {
        "previous": weights.diagonal(-1, 1, 2).sum(-1) / n,
        "next": weights.diagonal(1, 1, 2).sum(-1) / n,
        "special": weights[:, :, special].sum(-1).mean(-1),
    }
    if text.gold:
        uses, bindings = torch.tensor(text.gold).T
        found["binding"] = weights[:, uses, bindings].mean(-1)
    kept = weights.masked_fill(special, 0)
    inside = [(distance >= low) & (distance <= high) for low, high in _bins(n)]
    found["profile"] = torch.stack([kept[:, mask].sum(-1) / n for mask in inside], -1)
    return found


def _bins(n: int) -> list[list[int]]:
    return [[max(low, 1 - n), min(high, n - 1)] for low, high in BINS if low < n and high > -n]


def _rounded(value):
    if isinstance(value, float):
        return float(f"{value:.4g}")
    return [_rounded(one) for one in value] if isinstance(value, (list, tuple)) else value


def _short(text: Text) -> str:
    words = "".join(w.space + w.text for i, w in enumerate(text.words) if i not in text.special_words)
    words = " ".join(words.split())
    return words if len(words) <= 60 else words[:59].rstrip() + "\u2026"
