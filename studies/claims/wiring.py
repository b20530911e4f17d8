"""Claims 1 and 2, which need no training: how many steps lie between two positions, and how much of a sequence one hears.

Both are facts about wiring. They are calculated (`field.reach`, `field.path`), and tried on built encoders, layer by
layer: one row is changed, and what hears it changes; in a recurrence the row becomes NaN, which no step washes out.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import torch

from sightline.encoders import build
from studies.claims.cell import Cell, Found
from studies.claims.claim import Claim, Judged, Stage, lines, listed, not_run, table
from studies.claims.receptive_field import heard, path, reach

VARIANTS = {
    "self-attention": ("self-attention", {}),
    "self-attention, window 16": ("self-attention", {"window": 16}),
    "rnn": ("rnn", {}),
    "lstm": ("lstm", {}),
    "convolution": ("convolution", {"kernel": 5}),
    "dilated convolution": ("convolution", {"kernel": 5, "dilation": "dilated"}),
    "fully-connected": ("fully-connected", {}),
}
KERNEL, LAYERS, DRAWN = 5, 3, 32
TRIED = (1, 2, 7, 16, 32, 64)  # lengths that are tried
FIELD = (*TRIED, 128)  # a field needs fewer layers
CALCULATED = tuple(2**i for i in range(1, 13))


def cells(stage: Stage) -> list[Cell]:
    """One for each encoder; both claims share them."""
    if stage.name == "gpu":
        return []
    return [
        Cell(
            f"wiring/{name.replace(', ', '-').replace(' ', '-')}",
            {"kind": kind, **settings, "layers": LAYERS, "lengths": FIELD},
            partial(_tried, name),
            seconds=4,
        )
        for name, (kind, settings) in VARIANTS.items()
    ]


def _tried(name: str, place: Path, found: Found) -> dict:
    """What calculation and trial give for one encoder.

    Returns: `field`: for each length, of each layer, the pairs (row, input) that are heard, whether they are just those calculated,
    and the inputs that the middle row hears; `path`: for each length the steps calculated, and the layers after which by trial every
    row hears every input (of a recurrence one layer, with the steps inside it); `map`: who hears whom, layer by layer.
    """
    kind, settings = VARIANTS[name]
    field = []
    for length in FIELD:
        layers = zip(_heard(kind, settings, LAYERS, length), reach(kind, LAYERS, **settings), strict=True)
        field.append(
            {
                "length": length,
                "layers": [
                    {
                        "heard": int(seen.sum()),
                        "equal": bool((seen == _band(length, *allowed)).all()),
                        "middle": int(seen[length // 2].sum()),
                    }
                    for seen, allowed in layers
                ],
            }
        )
    paths = [
        {"length": n, "calculated": path(kind, n, **settings), "tried": _layers_needed(kind, settings, n)}
        for n in TRIED
    ]
    drawn = [_rows(seen) for seen in _heard(kind, settings, LAYERS, DRAWN)]
    return {"name": name, "field": field, "path": paths, "map": drawn}


def _heard(kind: str, settings: dict, layers: int, length: int) -> list[torch.Tensor]:
    more = {"largest": length} if kind == "fully-connected" else {}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        encoder = build(kind, features=4, width=8, layers=layers, **settings, **more)
    return heard(encoder, length)


def _band(length: int, left: int | None, right: int | None) -> torch.Tensor:
    back = torch.arange(length)[:, None] - torch.arange(length)
    return (back <= (length if left is None else left)) & (-back <= (length if right is None else right))


def _layers_needed(kind: str, settings: dict, length: int) -> int:
    """The first layer after which every row has heard of every input, by trial; as many layers are built as it takes."""
    layers = 1
    while not bool((seen := _heard(kind, settings, layers, length))[-1].all()):
        layers *= 2
    return 1 + [bool(one.all()) for one in seen].index(True)


def _rows(seen: torch.Tensor) -> list[str]:
    return ["".join("01"[int(bit)] for bit in row) for row in seen]


# ---- claim 1 ---------------------------------------------------------------------------------------------------------


def judge_path(found: Found) -> Judged:
    results = {one["name"]: one for name, one in found.items() if name.startswith("wiring/")}
    if "self-attention" not in results:
        return not_run("Nothing was tried yet.")
    layers_equal = all(
        layer["equal"] for one in results.values() for entry in one["field"] for layer in entry["layers"]
    )
    wrong = [
        name
        for name, one in results.items()
        for p in one["path"]
        if p["tried"] != (1 if VARIANTS[name][0] in ("rnn", "lstm") else p["calculated"])
    ]
    constant = all(p["calculated"] == p["tried"] == 1 for p in results["self-attention"]["path"])
    checked = sum(len(entry["layers"]) for one in results.values() for entry in one["field"])
    said = [
        f"By calculation and by trial, one layer of self-attention joins any two rows, at every length tried ({TRIED[0]} to {TRIED[-1]})."
        if constant and not wrong
        else f"Calculation and trial disagree for {listed(dict.fromkeys(wrong) or ['self-attention'])}.",
        f"{checked} receptive fields (which inputs each row hears; of encoders, lengths and layers) were tried; {'every one is' if layers_equal else 'not all are'} the calculated one, pair by pair.",
        "A recurrence takes as many steps as there are rows from the one to the other, both counted; its field is full after one layer because all steps are taken "
        "inside it, and because rnn and lstm read both ways here. The number of its steps is read from its definition, h[t] from x[t] and h[t-1].",
        "It is the path that is short, not the work: one step of self-attention compares n * n pairs. With a window its path grows "
        "like that of a convolution, and a fully connected layer has the same path of one.",
    ]
    shown = [n for n in CALCULATED if n in (16, 64, 256, 1024, 4096)]
    rows = [[name, *(path(kind, n, **settings) for n in shown)] for name, (kind, settings) in VARIANTS.items()]
    trial = [[one["name"], *(p["tried"] for p in one["path"])] for one in results.values()]
    picture = lines(
        "Steps between the two farthest positions",
        "By calculation. A step is one layer; in a recurrence, the way from one row to the next.",
        {"name": "length n", "scale": "log"},
        {"name": "steps", "scale": "log", "percent": False},
        {name: [[n, path(kind, n, **settings)] for n in CALCULATED] for name, (kind, settings) in VARIANTS.items()},
    )
    tables = [
        table("Longest shortest path, by calculation", ["encoder", *(f"n = {n:,}" for n in shown)], rows),
        table("Layers until all rows hear all inputs, by trial", ["encoder", *(f"n = {n}" for n in TRIED)], trial),
    ]
    return Judged("holds" if constant and layers_equal and not wrong else "does not hold", said, tables, [picture])


# ---- claim 2 ---------------------------------------------------------------------------------------------------------


def judge_field(found: Found) -> Judged:
    results = {one["name"]: one for name, one in found.items() if name.startswith("wiring/")}
    if "self-attention" not in results:
        return not_run("Nothing was tried yet.")
    equal = all(layer["equal"] for one in results.values() for entry in one["field"] for layer in entry["layers"])
    whole = {
        name: [entry["layers"][0]["heard"] == entry["length"] ** 2 for entry in one["field"]]
        for name, one in results.items()
    }
    full = [name for name, lengths in whole.items() if all(lengths)]
    holds = "self-attention" in full and equal
    said = [
        f"After one layer the field (the receptive field) of every row of self-attention is the whole sequence, at every length tried ({FIELD[0]} to {FIELD[-1]})."
        if holds
        else "Self-attention did not hear the whole sequence, or a field is not the one calculated.",
        f"It is not alone: the same is true of {listed(n for n in full if n != 'self-attention')}; of the fully connected layer up to the "
        "length it was built for, and of rnn and lstm because they read both ways here.",
        f"A convolution of kernel width {KERNEL} hears {KERNEL - 1} more rows with each layer, a dilated one twice as many more with each as with the "
        f"one before: {_middle(results, 'convolution')} and {_middle(results, 'dilated convolution')} rows after {LAYERS} layers.",
        "A field is what can be heard, and says nothing of how much is heard: see the claim on forgetting.",
    ]
    series = {}
    for name, (kind, settings) in VARIANTS.items():
        left = reach(kind, LAYERS, **settings)[-1][0]
        series[name] = [[n, n if left is None else min(n, 1 + 2 * left)] for n in CALCULATED]
    maps = [{"name": name, "layers": one["map"]} for name, one in results.items()]
    rows = [[name, *(entry["layers"][-1]["middle"] for entry in one["field"])] for name, one in results.items()]
    pictures = [
        lines(
            f"What the middle row hears after {LAYERS} layers",
            "By calculation; the table holds the trial. Where lines lie on each other the field is the whole sequence.",
            {"name": "length n", "scale": "log"},
            {"name": "rows heard", "scale": "log", "percent": False},
            series,
        ),
        {
            "shape": "maps",
            "title": "Who hears whom",
            "caption": f"By trial, at length {DRAWN}: a row, downwards, hears the inputs that are marked, across; after 1, 2 and {LAYERS} layers.",
            "maps": maps,
        },
    ]
    shown = table(
        f"Rows heard by the middle row after {LAYERS} layers, by trial", ["encoder", *(f"n = {n}" for n in FIELD)], rows
    )
    return Judged("holds" if holds else "does not hold", said, [shown], pictures)


def _middle(results: dict, name: str) -> int | str:
    return max(e["layers"][-1]["middle"] for e in results[name]["field"]) if name in results else "–"


PATH = Claim(
    1,
    "One step",
    "Self-attention joins any two positions in one step, whatever lies between them; a recurrence needs as many steps as there "
    "are positions from the one to the other, a convolution about log n layers (dilated) or 2 n / (k - 1) of kernel width k.",
    "The longest of the shortest paths between two positions, calculated from the wiring; and on built encoders, layer by layer, "
    "which rows change when one is changed. A field is the receptive field: the inputs that a row hears.",
    "Holds if at every length tried every field found by trial is the calculated one, pair by pair and layer by layer, the layers "
    "found by trial are those calculated, and those of self-attention are 1. Does not hold otherwise.",
    (
        "Vaswani et al. 2017, Attention is all you need, table 1",
        "Hochreiter et al. 2001, Gradient flow in recurrent nets: why long paths matter to learning",
    ),
    cells,
    judge_path,
)
FIELDS = Claim(
    2,
    "The whole sequence",
    "The field of self-attention is the whole sequence, whatever its length.",
    "How many rows each row hears after each layer, by calculation and by trial on built encoders, against the length.",
    "Holds if after one layer every row of self-attention hears every input at every length tried, and every field found is the "
    "calculated one. Does not hold otherwise.",
    (
        "Vaswani et al. 2017, section 4",
        "Luo et al. 2016: the effective field of a convolution is smaller than its field",
    ),
    cells,
    judge_field,
)
