"""One text and all that a model's heads look at in it, as the data of a page: from the model's name to a dict that JSON can hold.

text -> pieces and words (`sightline.models`) -> the model, watched -> maps, links and statistics (`inline`), influence (`moved`) -> `write_page`
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from sightline.lens import distance, inline
from sightline.lens import influence_profile as moved
from sightline.lens.predicted import predicted
from sightline.models import Text, direction, isolated
from sightline.models.opening import OpenModel, evaluating, open_model
from sightline.observe import watch
from sightline.sequences import Sequences
from sightline.training import Model

FAR, FARTHEST = 3, 25  # words: a link of such a length is worth showing first, and in sight


def look(
    model: str | Path | Model, text: str, *, link: str | None = None, layer: int | None = None, head: int | None = None
) -> dict:
    """What every head of a model looks at in a text: the data that `lens.write_page` makes a page of.

    `model` is the folder of a fitted model, a fitted model, or the folder or name of a Hugging Face model. `link` names two
    words, as in its:Law (the second of several: its:2): which heads join them is then ranked, under "link" in the data, and the page
    opens there. `layer` and `head` say which head it opens with; a layer alone, the mean of its heads. The format is that of
    `sightline.lens.inline`. Where a model's attention cannot be seen, as in one that has none, it is what moves its encodings.

    Raises: ValueError for a model that can be asked for neither, a text of no tokens or too many, a word that is not in it or occurs
    twice, a layer or head out of range.

    >>> from sightline.lens import look, write_page
    >>> write_page(look("all-MiniLM-L6-v2", "The Law is perfect.", link="Law:perfect"), "look.html")  # doctest: +SKIP
    """
    if not isinstance(text, str):
        raise TypeError(f"look: expected a text, got {type(text).__name__}; give one text")
    if any("\ud800" <= letter <= "\udfff" for letter in text):
        raise ValueError("look: expected a text, got half of a surrogate pair in it; decode it anew as UTF-8")
    reader = open_model(model)
    words, ids = reader.read_text(text)
    _check_length(reader, words, ids)
    pair = None if link is None else words.pair(link)
    shown = _moved if reader.blind else _seen
    with evaluating(reader.model):
        return shown(reader, words, ids, pair, layer, head)


def _seen(reader: OpenModel, text: Text, ids: Tensor, pair, layer: int | None, head: int | None) -> dict:
    """What its heads look at, and beside it what moves its outputs."""
    with torch.no_grad(), watch(reader.encoder, keep_map=True) as seen:
        encodings = reader.encode(Sequences(ids, [0, len(ids)]))
        predicts = predicted(reader.model, encodings, text)
    data = looked(seen, text, reader.name, pair, layer, head)
    influence = moved.beside(reader.model, ids, text)
    about = {"notes": [*reader.notes, *unread(text)], "predicts": predicts}
    return data | about | {"influence": _rounded(influence)}


def unread(text: Text) -> list[str]:
    """What a page says of pieces that the model does not know."""
    if not (count := len(text.unknown)):
        return []
    some = "One piece is" if count == 1 else f"{count:,} pieces are"
    return [f"{some} unknown to the model, which reads one and the same token there; dots underline the text."]


def _moved(reader: OpenModel, text: Text, ids: Tensor, pair, layer: int | None, head: int | None) -> dict:
    """What moves its encodings, where its heads cannot be seen."""
    if layer is not None or head is not None:
        raise ValueError(
            f"look: expected no layer or head for {reader.name}, as {reader.blind}, got {layer if head is None else head}; leave it out"
        )
    try:
        shares, about = moved.alone(reader.model, ids, reader.width)
    except TypeError as error:
        raise ValueError(f"look: {reader.blind}; nor can its influence be told: {error}") from None
    data = looked(moved.Shares(shares[None, None]), text, reader.name, pair, None, None)
    predicts = None
    if isinstance(reader.model, Model):
        with torch.no_grad():
            encodings = reader.encode(Sequences(ids, [0, len(ids)]))
            predicts = predicted(reader.model, encodings, text)
    notes = unread(text) + [
        f"No attention weights are shown: {reader.blind}.",
        f"Shown is influence: of all that moves the encoding of a piece, the share of each input. {about}",
    ]
    title = f"What moves {reader.name}: {text.short}"
    return data | {"shows": "influence", "title": title, "notes": [*reader.notes, *notes], "predicts": predicts}


def looked(seen, text: Text, name: str, pair: tuple[int, int] | None, layer: int | None, head: int | None) -> dict:
    """The data of a page, from an observation of the model's last forward pass on this text, or from what stands for one.

    Raises: ValueError for a layer or head that the model does not have.
    """
    measured: dict[str, list] = {}
    maps = inline.Maps(text, _measuring(seen, text, measured))
    asked = _asked(maps, layer, head)
    there, back = ([], []) if pair is None else (maps.between(*pair), maps.between(*pair[::-1]))
    start, opens = _start(maps, asked, pair, there)
    blocks, links = inline.blocks(maps, [start["view"]] + [view for view, _ in there[:3] + back[:3]])
    far = measured.pop("far")
    return {
        "page": "look",
        "version": inline.VERSION,
        "shows": "weights",
        "title": f"{name} looks at: {text.short}",
        "model": name,
        "notes": [],
        "layers": maps.layers,
        "heads": maps.heads,
        "pieces": text.pieces,
        "words": text.words,
        "word_of": text.word_of,
        "special": [i for i, special in enumerate(text.special) if special],
        "unknown": text.unknown,
        "ends": text.ends,
        "dir": text.direction,
        "gold": text.gold,
        "predicts": None,
        "statistics": _rounded(measured),
        "bins": distance.bins(len(text.pieces)),
        "profile": _rounded(distance.profile(torch.tensor(far)).tolist()),
        "within": _within(far),
        "influence": None,
        "start": start,
        "opens": opens,
        "link": pair and {"from": pair[0], "to": pair[1], "there": _rounded(there), "back": _rounded(back)},
        "links": links,
        "size": min(len(text.pieces), inline.SIZE),
        "blocks": blocks,
    }


def _check_length(reader: OpenModel, text: Text, ids: Tensor) -> None:
    if not len(ids) or all(text.special):
        raise ValueError("look: expected a text, got one without a token; give at least a word")
    fits = None if reader.blind else inline.LONGEST  # what moves encodings has a limit of its own
    for longest, why, way in (
        (reader.longest, f"as {reader.name} has positions for", "shorten the text"),
        (fits, "as fit into a page", "serve it with --serve, or shorten the text"),
    ):
        if longest is not None and len(ids) > longest:
            raise ValueError(f"look: expected at most {longest} tokens, {why}, got {len(ids)}; {way}")


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
) -> tuple[dict, str]:
    """The view and word to show first, and why: as asked, else the strongest link between two words that are not neighbours."""
    text = maps.text
    words = [i for i in range(not text.special[0], len(text.words)) if i not in text.special_words]
    words = [i for i in words if len(text.words[i].text) > 2] or words
    views = [asked] if asked else [view for view in maps.words if "." in view]
    best, view, place, other = -1.0, views[0], words[0] if words else 0, None
    chosen = torch.tensor(words, dtype=torch.int64)
    for one in views if len(words) else ():
        far = maps.words[one][chosen][:, chosen].float()
        apart = (chosen[:, None] - chosen).abs()
        far[(apart < FAR) | (apart > FARTHEST)] = -0.5
        if float(far.max()) > best:
            best, view = float(far.max()), one
            place, other = (words[i] for i in divmod(int(far.argmax()), len(words)))
    why = f"the strongest link between words that are {FAR} to {FARTHEST} words apart"
    if best <= 0:
        other, why = None, "the first word; no two words are far apart and linked"
    if text.gold and len(text.words) == len(
        text.pieces
    ):  # the use that finds its binding best, of those that are apart
        links = [link for link in text.gold if link[0] != link[1]] or text.gold
        uses, bindings = torch.tensor(links).T
        found = torch.stack([maps.words[one][uses, bindings] for one in views]).int()
        view, (place, other) = views[int(found.max(1).values.argmax())], links[int(found.max(0).values.argmax())]
        why = "the use of a name from which a head looks most at its binding"
    if pair is not None:
        view, (place, other) = asked or there[0][0], pair
        why = "the two words that were asked for" + ("" if asked else ", and the head that joins them most")
    elif asked:
        why += f", in the {'head' if '.' in asked else 'layer'} that was asked for"
    return {"view": view, "from": place, "hide": any(text.special)}, _sentence(text, why, place, other)


def _sentence(text: Text, why: str, place: int, other: int | None) -> str:
    """The sentence that says why a page opens where it does."""
    words = " \u2192 ".join(_apart(text, i) for i in (place, other) if i is not None)
    return f"The page opens on {why}." if other is None else f"The page opens on {why}: {words}."


def _apart(text: Text, word: int) -> str:
    """A word inside another sentence, which keeps its direction."""
    spelled = text.words[word].text.strip()
    return isolated(spelled) if "rtl" in (text.direction, direction(spelled)) else spelled


# --- statistics -----------------------------------------------------------------------------------------------------------


def _measuring(seen, text: Text, measured: dict[str, list]) -> Iterator[Tensor]:
    """The weights of each layer in turn; what is measured of them is put down on the way."""
    n = len(text.pieces)
    for number in range(seen.layers):
        weights = seen.layer(number).weights(0).float().cpu()
        if weights.shape[1:] != (n, n):
            raise ValueError(
                f"look: expected attention of a text's {n} pieces to each other, got {list(weights.shape[1:])} in layer {number}; "
                "use sightline.watch for this model"
            )
        for name, values in _measures(weights, text).items():
            measured.setdefault(name, []).append(values.tolist())
        yield weights


def _measures(weights: Tensor, text: Text) -> dict[str, Tensor]:
    """Shapes: weights [H, n, n] -> [H] each; far [H, 2n - 1], the share at each distance."""
    n = weights.shape[-1]
    place, special = torch.arange(n), torch.tensor(text.special)
    found = {
        "entropy": torch.special.entr(weights).sum(-1).mean(-1),
        "distance": (weights * (place - place[:, None]).abs()).sum(-1).mean(-1),
        "first": weights[:, :, 0].mean(-1),
        "previous": weights.diagonal(-1, 1, 2).sum(-1) / n,
        "next": weights.diagonal(1, 1, 2).sum(-1) / n,
        "special": weights[:, :, special].sum(-1).mean(-1),
    }
    if text.gold:
        uses, bindings = torch.tensor(text.gold).T
        found["binding"] = weights[:, uses, bindings].mean(-1)
    return found | {"far": distance.by_distance(weights, place, special)}


def _within(far: list) -> dict[str, list]:
    """Of each view. Shapes: far [layers][heads][2n - 1]."""
    layers = torch.tensor(far)
    means = [layers.mean((0, 1)), *layers.mean(1)]
    return {
        view: distance.within(one)
        for view, one in zip(inline.views(*layers.shape[:2]), [*means, *layers.flatten(0, 1)], strict=True)
    }


def _rounded(value):
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, dict):
        return {name: _rounded(one) for name, one in value.items()}
    return [_rounded(one) for one in value] if isinstance(value, (list, tuple)) else value
