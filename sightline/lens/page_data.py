"""One text and all that a model's heads look at in it, as the data of a page: a dict that JSON can hold.

model's name -> `models.open_model` -> pieces and words -> the model, watched -> maps, links and statistics (`inline`)
-> influence (`influence_profile`) -> what it predicts (`prediction`) -> `write_page`
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from sightline.lens import inline
from sightline.lens.influence_profile import Shares, estimate_map, estimate_profile, within
from sightline.lens.prediction import prediction
from sightline.models import Text, direction, isolated
from sightline.models.opening import OpenModel, evaluating, open_model
from sightline.observe import watch
from sightline.observe.distances import by_distance, in_bins, row_statistics
from sightline.sequences import Sequences
from sightline.training import Model

FAR, FARTHEST = 3, 25  # words: a link of such a length is worth showing first, and in sight


def look(
    model: str | Path | nn.Module,
    text: str,
    *,
    tokenizer=None,
    link: str | None = None,
    layer: int | None = None,
    head: int | None = None,
) -> dict:
    """What every head of a model looks at in a text: the data that `lens.write_page` makes a page of.

    `model` is the folder of a fitted model, or the folder or name of a Hugging Face model; or either kind of model in
    memory, then one of Hugging Face with its `tokenizer`. `link` names two words, as in its:Law (the second of several:
    its:2): which heads join them is then ranked, under "link" in the data, and the page opens there. `layer` and `head`
    say which head it opens with; a layer alone, the mean of its heads. The format is that of `sightline.lens.inline`.
    Where attention cannot be seen, it shows what moves encodings.

    Raises: ValueError for a model that shows neither, a text of no tokens or too many, a word that is not in it or
    occurs twice, a layer or head out of range.

    >>> from sightline.lens import look, write_page
    >>> write_page(look("sentence-transformers/all-MiniLM-L6-v2", "The Law is perfect."), "look.html")  # doctest: +SKIP
    >>> write_page(data, "look.html")  # doctest: +SKIP
    """
    check_text(text)
    opened = open_model(model, tokenizer)
    words, ids = opened.read_text(text)
    check_length(opened, words)
    if not opened.blind and len(ids) > inline.LONGEST:
        raise ValueError(
            f"look: expected at most {inline.LONGEST} tokens, as fit into a page, got {len(ids)}; "
            "serve it with --serve, or shorten the text"
        )
    pair = None if link is None else words.pair(link)
    with evaluating(opened.model):
        return (_influences if opened.blind else _weights)(opened, words, ids, pair, layer, head)


def check_text(text: str) -> None:
    """Raises: TypeError for what is no text; ValueError for one that is not Unicode."""
    if not isinstance(text, str):
        raise TypeError(f"look: expected a text, got {type(text).__name__}; give one text")
    if any("\ud800" <= letter <= "\udfff" for letter in text):
        raise ValueError("look: expected a text, got half of a surrogate pair in it; decode it anew as UTF-8")


def check_length(opened: OpenModel, text: Text) -> None:
    """Raises: ValueError for a text of no tokens, or of more than the model has positions for."""
    count = len(text.pieces)
    if all(text.special):
        raise ValueError("look: expected a text, got one without a token; give at least a word")
    if opened.longest is not None and count > opened.longest:
        raise ValueError(
            f"look: expected at most {opened.longest} tokens, as {opened.name} has positions for, got {count}; "
            "shorten the text"
        )


def unknown_note(text: Text) -> list[str]:
    """What a page says of pieces that the model does not know."""
    if not (count := len(text.unknown)):
        return []
    some = "One piece is" if count == 1 else f"{count:,} pieces are"
    return [f"{some} unknown to the model, which reads one and the same token there; dots underline the text."]


def _weights(opened: OpenModel, text: Text, ids: Tensor, pair, layer: int | None, head: int | None) -> dict:
    """The page's data for a model whose attention can be seen."""
    with torch.no_grad(), watch(opened.encoder, keep_map=True) as seen:
        encodings = opened.encode(Sequences(ids, [0, len(ids)]))
        predicts = prediction(opened.model, encodings, text)
    data = look_data(seen, text, opened.name, pair, layer, head)
    return data | {
        "notes": [*opened.notes, *unknown_note(text)],
        "predicts": predicts,
        "influence": _rounded(estimate_profile(opened.model, ids, text)),
    }


def _influences(opened: OpenModel, text: Text, ids: Tensor, pair, layer: int | None, head: int | None) -> dict:
    """The page's data for a model whose attention cannot be seen: influence in place of weights."""
    if layer is not None or head is not None:
        raise ValueError(
            f"look: expected no layer or head for {opened.name}, as {opened.blind}, "
            f"got {layer if head is None else head}; leave it out"
        )
    try:
        shares, about = estimate_map(opened.model, ids, opened.width)
    except TypeError as error:
        raise ValueError(f"look: {opened.blind}; nor can its influence be measured: {error}") from None
    predicts = None
    if isinstance(opened.model, Model):
        with torch.no_grad():
            predicts = prediction(opened.model, opened.encode(Sequences(ids, [0, len(ids)])), text)
    return look_data(Shares(shares[None, None]), text, opened.name, pair, None, None) | {
        "shows": "influence",
        "title": f"What moves {opened.name}: {text.short}",
        "notes": [
            *opened.notes,
            *unknown_note(text),
            f"No attention weights are shown: {opened.blind}.",
            f"Shown is influence: of all that moves the encoding of a piece, the share of each input. {about}",
        ],
        "predicts": predicts,
    }


def look_data(seen, text: Text, name: str, pair: tuple[int, int] | None, layer: int | None, head: int | None) -> dict:
    """The data of a page, from an observation of the model's last forward pass on this text, or from `Shares`.

    Raises: ValueError for a layer or head that the model does not have.
    """
    statistics: dict[str, list] = {}
    maps = inline.Maps(text, _measured(seen, text, statistics))
    view = inline.view_of(layer, head, maps.layers, maps.heads)
    there, back = ([], []) if pair is None else (maps.between(*pair), maps.between(*pair[::-1]))
    start, opens = _start(maps, view, pair, there)
    blocks, links = inline.blocks(maps, [start["view"]] + [view for view, _ in there[:3] + back[:3]])
    far = torch.tensor(statistics.pop("far"))
    return inline.text_data(text, name, maps.layers, maps.heads, start, opens) | {
        "statistics": _rounded(statistics),
        "profile": _rounded(in_bins(far).tolist()),
        "within": _within(far),
        "link": pair and {"from": pair[0], "to": pair[1], "there": _rounded(there), "back": _rounded(back)},
        "links": links,
        "blocks": blocks,
    }


# --- what is shown first ------------------------------------------------------------------------------------------


def _start(
    maps: inline.Maps, view: str | None, pair: tuple[int, int] | None, there: list[tuple[str, float]]
) -> tuple[dict, str]:
    """The view and word to show first, and a sentence that says why: those that are named, else a strong link."""
    text = maps.text
    strong, word, other, why = _strongest_link(maps, [view] if view else [name for name in maps.words if "." in name])
    if text.gold and len(text.words) == len(text.pieces):
        strong, word, other = _strongest_binding(maps, [view] if view else [name for name in maps.words if "." in name])
        why = "the use of a name from which a head looks most at its binding"
    if pair is not None:
        strong, (word, other) = view or there[0][0], pair
        why = "the two words that were asked for" + ("" if view else ", and the head that joins them most")
    elif view:
        why += f", in the {'head' if '.' in view else 'layer'} that was asked for"
    words = " \u2192 ".join(_apart(text, i) for i in (word, other) if i is not None)
    return {"view": strong, "from": word}, f"The page opens on {why}{'' if other is None else f': {words}'}."


def _strongest_link(maps: inline.Maps, views: list[str]) -> tuple[str, int, int | None, str]:
    """The view and the two words of the strongest link between words that are not neighbours, and what it is."""
    text = maps.text
    words = [i for i in range(not text.special[0], len(text.words)) if i not in text.special_words]
    words = [i for i in words if len(text.words[i].text) > 2] or words
    places = torch.tensor(words, dtype=torch.int64)
    apart = (places[:, None] - places).abs()
    hidden = (apart < FAR) | (apart > FARTHEST)
    best, link = 0.0, None
    for view in views if words else ():
        weights = maps.words[view][places][:, places].float().masked_fill_(hidden, -1)
        if float(weights.max()) > best:
            query, key = divmod(int(weights.argmax()), len(words))
            best, link = float(weights.max()), (view, words[query], words[key])
    if link is None:
        return views[0], words[0] if words else 0, None, "the first word; no two words are far apart and linked"
    return *link, f"the strongest link between words that are {FAR} to {FARTHEST} words apart"


def _strongest_binding(maps: inline.Maps, views: list[str]) -> tuple[str, int, int]:
    """The view and the use of a name that looks most at its binding, if possible not at itself."""
    gold = maps.text.gold
    links = [link for link in gold if link[0] != link[1]] or gold
    uses, bindings = torch.tensor(links).T
    weights = torch.stack([maps.words[view][uses, bindings] for view in views]).int()
    return views[int(weights.max(1).values.argmax())], *links[int(weights.max(0).values.argmax())]


def _apart(text: Text, word: int) -> str:
    """A word inside another sentence, which keeps its direction."""
    spelled = text.words[word].text.strip()
    return isolated(spelled) if "rtl" in (text.direction, direction(spelled)) else spelled


# --- statistics ---------------------------------------------------------------------------------------------------


def _measured(seen, text: Text, statistics: dict[str, list]) -> Iterator[Tensor]:
    """The weights of each layer in turn; their statistics are added on the way."""
    n = len(text.pieces)
    for number in range(seen.layers):
        weights = seen.layer(number).weights(0).float().cpu()
        if weights.shape[1:] != (n, n):
            raise ValueError(
                f"look: expected attention of a text's {n} pieces to each other, "
                f"got {list(weights.shape[1:])} in layer {number}; use sightline.watch for this model"
            )
        for name, values in _statistics(weights, text).items():
            statistics.setdefault(name, []).append(values.tolist())
        yield weights


def _statistics(weights: Tensor, text: Text) -> dict[str, Tensor]:
    """Means over all queries. Shapes: weights [H, n, n] -> [H] each; far [H, 2n - 1], the share at each distance."""
    rows, special = torch.arange(weights.shape[-1]), torch.tensor(text.special)
    means = {name: values.mean(-1) for name, values in row_statistics(weights, rows, special).items()}
    if text.gold:
        uses, bindings = torch.tensor(text.gold).T
        means["binding"] = weights[:, uses, bindings].mean(-1)
    return means | {"far": by_distance(weights.masked_fill(special, 0), rows) / len(rows)}


def _within(far: Tensor) -> dict[str, list]:
    """Of each view. Shapes: far [layers, heads, 2n - 1]."""
    views = [far.mean((0, 1)), *far.mean(1), *far.flatten(0, 1)]
    return {view: within(one) for view, one in zip(inline.views(*far.shape[:2]), views, strict=True)}


def _rounded(value):
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, dict):
        return {name: _rounded(one) for name, one in value.items()}
    return [_rounded(one) for one in value] if isinstance(value, (list, tuple)) else value
