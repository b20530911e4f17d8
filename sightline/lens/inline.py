"""What the page of a look holds: a format small enough to be mailed, as exact as one byte a weight.

Version 1 of the data; a reader passes over what it does not know. A *view* is a head ("5.3": layer 5, head 3), the mean
of a layer's heads ("5") or of all ("all"). A *level* is pieces, or words: the weight between words is the sum over the
pieces attended to, the mean over the pieces attended from.

    page, version   "look", 1
    shows           "weights"; or "influence", for a model whose attention cannot be seen. Then there is one layer with
                    one head, and what is called a weight is the share of an input in all that moves an encoding:
                    |J_ij|^2 / sum_j |J_ij|^2
    title, model    a line; the model's name
    notes           sentences on what is shown of the model, and what is not
    layers, heads   how many
    pieces, words   [[what stands before it, text]]: joined, they are the text, except for special ones
    ends            [what stands after the last piece, after the last word]
    dir             "ltr" or "rtl": how the text is written, by its first letter that has a direction
    unknown         the pieces that the model does not know, and reads one and the same token for
    predicts        null, or what a fitted model predicts, in the format of `sightline.lens.prediction`
    word_of         for each piece the number of its word
    special         the pieces that the tokenizer added
    gold            [[piece, the piece it should look at]], or empty
    statistics      {name: [layers][heads]}: entropy (nats), distance (pieces), previous, next, first, special, and
                    binding where there is gold: means over all pieces that look; all but the first two are shares of
                    the weight
    bins            [[lowest, highest]] distance, key minus query
    profile         [layers][heads][bins]: share of the weight at such distances, to keys that are not special
    within          {view: [d50, d90, d99]}: within how many pieces, to either side, so much of that share lies;
                    null: of nothing
    influence       null, or how far away inputs move the model's output, whatever the head: {profile: [bins] and
                    within, as above, of shares of influence, or [] where there is none; about: how it was estimated,
                    or why not}
    start           {view, from: word, hide: whether the first piece and special ones are hidden}: what is shown first
    opens           a sentence: why the page opens there
    link            null, or {from, to: words; there, back: [[view, weight]], strongest first}, over all heads,
                    also those without a block; rounded as below
    links           how many links each query has in the blocks; 0 where all maps are whole
    size            of a thumbnail
    blocks          {name: base64 of deflated bytes}:
        thumbnails      [views][size][size]: the largest weight in that part of the map, of pieces
        map/VIEW        [n][n] of pieces, whole; or, where that does not fit into the page, both of
        pieces/VIEW     the strongest links of each query, as columns over its N units, k links each:
        words/VIEW      first [N], special [N]: weight on the first unit and on special ones; keys' low bytes [N][k],
                        high bytes [N][k], in rising order (65535: none); weights [N][k]

A weight is one byte b = round(255 sqrt(w)), so that small ones differ: off by at most 0.004, less for small ones.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from sightline.models import Text
from sightline.observe.distances import bins_within

VERSION = 1
LIMIT = 1_800_000  # bytes that the blocks may take; the page around them is the rest of 2 MB
SIZE = 40  # of a thumbnail
LINKS = (8, 7, 6, 5, 4, 3, 2)
LONGEST = 2048  # pieces; beyond, not even two links a query fit


def text_data(text: Text, model: str, layers: int, heads: int, start: dict, opens: str) -> dict:
    """What every page of a look says of its text and its model, whether it holds the maps or asks for them."""
    return {
        "page": "look",
        "version": VERSION,
        "shows": "weights",
        "title": f"{model} looks at: {text.short}",
        "model": model,
        "notes": [],
        "layers": layers,
        "heads": heads,
        "pieces": text.pieces,
        "words": text.words,
        "word_of": text.word_of,
        "special": [i for i, special in enumerate(text.special) if special],
        "unknown": text.unknown,
        "ends": text.ends,
        "dir": text.direction,
        "gold": text.gold,
        "predicts": None,
        "bins": bins_within(len(text.pieces)),
        "influence": None,
        "start": start | {"hide": any(text.special)},
        "opens": opens,
        "size": min(len(text.pieces), SIZE),
    }


def views(layers: int, heads: int) -> list[str]:
    """The names of all views, in the order of their blocks."""
    means = ["all", *map(str, range(layers))]
    return means + [f"{layer}.{head}" for layer in range(layers) for head in range(heads)]


def view_of(layer: int | None, head: int | None, layers: int, heads: int) -> str | None:
    """The view of a layer and a head that a user names; None where no layer is named.

    Raises: ValueError for a layer or head that the model does not have.
    """
    for what, number, count in (("layer", layer, layers), ("head", head, heads)):
        if number is not None and not 0 <= number < count:
            raise ValueError(f"look: expected a {what} from 0 to {count - 1}, got {number}; count from 0")
    if head is not None and layer is None:
        raise ValueError(f"look: expected a layer for head {head}, got none; say which")
    return None if layer is None else str(layer) if head is None else f"{layer}.{head}"


def check_heads(counts: Sequence[int]) -> int:
    """How many heads each layer has. Raises: ValueError where layers have different numbers of heads."""
    other = next((count for count in counts if count != counts[0]), None)
    if other is not None:
        raise ValueError(
            f"look: expected as many heads in each layer, got {counts[0]}, then {other}; "
            "use sightline.watch for this model"
        )
    return counts[0]


class Maps:
    """All weights of one text as bytes, taken layer by layer: `pieces` and `words` are {view: [N, N]}."""

    def __init__(self, text: Text, layers: Iterable[Tensor]):
        self.text = text
        counts = torch.bincount(torch.tensor(text.word_of))
        member = torch.nn.functional.one_hot(torch.tensor(text.word_of)).float()  # [pieces, words]
        self.pieces: dict[str, Tensor] = {}
        self.words: dict[str, Tensor] = {}

        def keep(view: str, weights: Tensor) -> None:
            self.pieces[view] = as_bytes(weights)
            self.words[view] = as_bytes(member.T @ (weights @ member) / counts[:, None])

        total, heads = torch.zeros(()), []
        for number, weights in enumerate(layers):
            self.heads = check_heads([*heads, len(weights)])
            heads.append(self.heads)
            mean = weights.mean(0)
            total = total + mean
            keep(str(number), mean)
            for head, map in enumerate(weights):
                keep(f"{number}.{head}", map)
        self.layers = len(heads)
        keep("all", total / self.layers)

    def between(self, here: int, there: int) -> list[tuple[str, float]]:
        """How strongly each head joins one word to another, strongest first."""
        heads = [view for view in self.words if "." in view]
        weights = [(view, float(as_weight(self.words[view][here, there]))) for view in heads]
        return sorted(weights, key=lambda pair: -pair[1])


def as_bytes(weights: Tensor) -> Tensor:
    """Weights as bytes. Shapes: any -> the same, uint8."""
    return (weights.clamp(0, 1).sqrt() * 255).round().to(torch.uint8)


def as_weight(bytes: Tensor) -> Tensor:
    return (bytes.double() / 255) ** 2


# --- the blocks ---------------------------------------------------------------------------------------------------


def blocks(maps: Maps, shown_first: list[str], limit: int = LIMIT) -> tuple[dict[str, str], int]:
    """The blocks of a page, within `limit` bytes, and how many links a query has in them.

    Where not all maps fit, every view has its links, as many as fit, and as many views as fit have their map: those
    shown first, then those with the most weight off the special and first pieces.
    Raises: ValueError where not even two links a query fit.
    """
    names = views(maps.layers, maps.heads)
    thumbnails = {"thumbnails": deflated(torch.stack([thumbnail(maps.pieces[view]) for view in names]))}
    room = limit - len(thumbnails["thumbnails"])
    if sum(maps.pieces[view].numel() for view in names) < 6 * limit:  # as they may deflate so far
        whole = {f"map/{view}": deflated(maps.pieces[view], zlib.Z_RLE) for view in names}
        if sum(map(len, whole.values())) <= room:
            return thumbnails | whole, 0
    linked, k = _all_linked(maps, names, room)
    room -= _size(*linked.values())
    hidden = hidden_pieces(maps.text.special)
    order = [*shown_first, "all", *sorted(names, key=lambda view: mass_on(maps.pieces[view], hidden))]
    for view in dict.fromkeys(order):
        block = {f"map/{view}": deflated(maps.pieces[view], zlib.Z_RLE)}
        more = _size(block) - _size(linked[view])
        if more <= room:
            room -= more
            linked[view] = block
    return {name: block for blocks in (thumbnails, *linked.values()) for name, block in blocks.items()}, k


def _all_linked(maps: Maps, names: list[str], room: int) -> tuple[dict[str, dict[str, str]], int]:
    """Each view's strongest links, and how many of a query: as many as leave an eighth of the room."""
    for k in LINKS:
        linked = {view: _linked(maps, view, k) for view in names}
        spent = _size(*linked.values())
        if spent <= room - room // 8 or k == LINKS[-1] and spent <= room:
            return linked, k
    raise ValueError(
        f"look: expected a text that fits into one page, got {len(maps.text.pieces)} pieces "
        f"under {len(names)} views; shorten it"
    )


def _size(*blocks: dict[str, str]) -> int:
    return sum(len(block) for some in blocks for block in some.values())


def _linked(maps: Maps, view: str, k: int) -> dict[str, str]:
    text = maps.text
    special = torch.zeros(len(text.words), dtype=torch.bool)
    special[sorted(text.special_words)] = True
    return {
        f"pieces/{view}": deflated(links(maps.pieces[view], torch.tensor(text.special), k)),
        f"words/{view}": deflated(links(maps.words[view], special, k)),
    }


def links(map: Tensor, special: Tensor, k: int) -> Tensor:
    """The block of one view at one level. Shapes: map [N, N] and special [N] -> [N * (2 + 3k)]."""
    weights, keys = map.to(torch.int16).topk(min(k, len(map)))
    keys, order = keys.masked_fill(weights == 0, 65535).sort(1)
    weights = weights.gather(1, order)
    on_special = as_bytes(as_weight(map[:, special]).sum(1))
    columns = (part.flatten().to(torch.uint8) for part in (keys & 255, keys >> 8, weights))
    return torch.cat([map[:, 0], on_special, *columns])


def thumbnail(map: Tensor) -> Tensor:
    """The largest weight in each part of a map. Shapes: [n, n] -> [s, s], s = min(n, SIZE)."""
    size = min(len(map), SIZE)
    return torch.nn.functional.adaptive_max_pool2d(map[None].float(), size)[0].to(torch.uint8)


def deflated(bytes: Tensor, strategy: int = zlib.Z_DEFAULT_STRATEGY) -> str:
    """Deflated; in maps only runs of zeros repeat, and looking for more takes a hundred times as long."""
    deflate = zlib.compressobj(6, wbits=-15, strategy=strategy)
    return base64.b64encode(deflate.compress(bytes.numpy().tobytes()) + deflate.flush()).decode()


def hidden_pieces(special: list[bool]) -> Tensor:
    """The pieces that the page can leave out of its shading: special ones and the first."""
    hidden = torch.tensor(special)
    hidden[0] = True
    return hidden


def mass_on(map: Tensor, keys: Tensor) -> float:
    """The weight a query gives to some of the keys, on average."""
    return float(as_weight(map[:, keys]).sum(1).mean())
