"""Claims 1 and 2, exact without training: the steps between two positions, and how much of a sequence a row sees.

Both are facts about wiring. They are calculated (`receptive_field.reach`, `longest_path`) and tested on built encoders,
layer by layer, by changing one row at a time (`receptive_field.connections`).
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import torch

from studies.claims.cell import Cell, Results
from studies.claims.claim import RECURRENT, Claim, Judgement, Stage, line_picture, listed, not_run, table
from studies.claims.receptive_field import band, fields_by_trial, longest_path, reach
from studies.claims.small_encoders import fixed_seed, small_encoder

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
TRIED = (1, 2, 7, 16, 32, 64)  # lengths of the paths found by trial
FIELD = (*TRIED, 128)  # lengths of the fields, which need fewer layers
CALCULATED = tuple(2**i for i in range(1, 13))


def cells(stage: Stage) -> list[Cell]:
    """One for each encoder; both claims share them."""
    if stage.name == "gpu":
        return []
    return [
        Cell(
            f"wiring/{name.replace(', ', '-').replace(' ', '-')}",
            {"kind": kind, **settings, "layers": LAYERS, "lengths": FIELD},
            partial(_wiring, name),
            seconds=4,
        )
        for name, (kind, settings) in VARIANTS.items()
    ]


def _wiring(name: str, folder: Path, results: Results) -> dict:
    """Calculation and trial for one encoder.

    Returns: `field`: for each length and layer the number of pairs (row, input) in the field, whether they are exactly
    those calculated, and the inputs of the middle row; `path`: for each length the steps calculated, and by trial the
    layers after which every row depends on every input (in a recurrence one layer, with the steps inside it); `map`:
    the fields at length DRAWN, layer by layer.
    """
    kind, settings = VARIANTS[name]
    paths = [
        {"length": n, "calculated": longest_path(kind, n, **settings), "tried": _layers_needed(kind, settings, n)}
        for n in TRIED
    ]
    maps = [_as_text(field) for field in _fields(kind, settings, LAYERS, DRAWN)]
    field = [{"length": length, "layers": _field_by_layer(kind, settings, length)} for length in FIELD]
    return {"name": name, "field": field, "path": paths, "map": maps}


def _field_by_layer(kind: str, settings: dict, length: int) -> list[dict]:
    pairs = zip(_fields(kind, settings, LAYERS, length), reach(kind, LAYERS, **settings), strict=True)
    return [
        {
            "heard": int(field.sum()),
            "equal": bool((field == band(length, *allowed)).all()),
            "middle": int(field[length // 2].sum()),
        }
        for field, allowed in pairs
    ]


def _fields(kind: str, settings: dict, layers: int, length: int) -> list[torch.Tensor]:
    with fixed_seed():
        encoder = small_encoder(kind, length, features=4, width=8, layers=layers, **settings)
    return fields_by_trial(encoder, length)


def _layers_needed(kind: str, settings: dict, length: int) -> int:
    """The first layer after which every row depends on every input, by trial; as many layers are built as needed."""
    layers = 1
    while not bool((fields := _fields(kind, settings, layers, length))[-1].all()):
        layers *= 2
    return 1 + [bool(field.all()) for field in fields].index(True)


def _as_text(field: torch.Tensor) -> list[str]:
    return ["".join("01"[int(bit)] for bit in row) for row in field]


def _by_encoder(results: Results) -> dict[str, dict]:
    return {one["name"]: one for name, one in results.items() if name.startswith("wiring/")}


def _layers(encoders: dict[str, dict]) -> list[dict]:
    """All measured layers: of each encoder, length and depth."""
    return [layer for one in encoders.values() for entry in one["field"] for layer in entry["layers"]]


def _columns(lengths: tuple[int, ...]) -> list[str]:
    return ["encoder", *(f"n = {n:,}" for n in lengths)]


def _calculated_picture(title: str, caption: str, y_name: str, series: dict[str, list]) -> dict:
    x = {"name": "length n", "scale": "log"}
    return line_picture(title, caption, x, {"name": y_name, "scale": "log", "percent": False}, series)


# ---- claim 1 ---------------------------------------------------------------------------------------------------------


def judge_path(results: Results) -> Judgement:
    encoders = _by_encoder(results)
    if "self-attention" not in encoders:
        return not_run("Nothing was tried yet.")
    layers = _layers(encoders)
    fields_equal = all(layer["equal"] for layer in layers)
    wrong = [name for name, one in encoders.items() for path in one["path"] if path["tried"] != _expected(name, path)]
    one_step = all(path["calculated"] == path["tried"] == 1 for path in encoders["self-attention"]["path"])
    sentences = [
        "By calculation and by trial, one layer of self-attention joins any two rows, at every length tried "
        f"({TRIED[0]} to {TRIED[-1]})."
        if one_step and not wrong
        else f"Calculation and trial disagree for {listed(dict.fromkeys(wrong) or ['self-attention'])}.",
        f"{len(layers)} receptive fields (the inputs that each row hears), of all encoders, lengths and layers, "
        f"were tried; {'every one equals' if fields_equal else 'not all equal'} the calculated one, pair by pair.",
        (
            "A recurrence needs as many steps as there are rows from one to the other, both included. Its field "
            "is full after one layer because all steps are inside it, and because rnn and lstm read both ways "
            "here. The number of steps follows from its definition, h[t] from x[t] and h[t-1]."
        ),
        "The path is short, not the work: one step of self-attention compares n * n pairs. With a window its "
        "path grows like that of a convolution; a fully connected layer has a path of one too.",
    ]
    verdict = "holds" if one_step and fields_equal and not wrong else "does not hold"
    return Judgement(verdict, sentences, _path_tables(encoders), [_path_picture()])


def _expected(name: str, path: dict) -> int:
    """The layers that a trial must find: those calculated, or 1 for a recurrence, whose steps lie inside its layer."""
    return 1 if VARIANTS[name][0] in RECURRENT else path["calculated"]


def _path_tables(encoders: dict[str, dict]) -> list[dict]:
    lengths = tuple(n for n in CALCULATED if n in (16, 64, 256, 1024, 4096))
    calculated = [
        [name, *(longest_path(kind, n, **settings) for n in lengths)] for name, (kind, settings) in VARIANTS.items()
    ]
    tried = [[name, *(path["tried"] for path in one["path"])] for name, one in encoders.items()]
    return [
        table("Longest shortest path, by calculation", _columns(lengths), calculated),
        table("Layers until all rows hear all inputs, by trial", _columns(TRIED), tried),
    ]


def _path_picture() -> dict:
    return _calculated_picture(
        "Steps between the two farthest positions",
        "By calculation. A step is one layer; in a recurrence, the transition from one row to the next.",
        "steps",
        {
            name: [[n, longest_path(kind, n, **settings)] for n in CALCULATED]
            for name, (kind, settings) in VARIANTS.items()
        },
    )


# ---- claim 2 ---------------------------------------------------------------------------------------------------------


def judge_field(results: Results) -> Judgement:
    encoders = _by_encoder(results)
    if "self-attention" not in encoders:
        return not_run("Nothing was tried yet.")
    full = [
        name
        for name, one in encoders.items()
        if all(entry["layers"][0]["heard"] == entry["length"] ** 2 for entry in one["field"])
    ]
    holds = "self-attention" in full and all(layer["equal"] for layer in _layers(encoders))
    sentences = [
        (
            "After one layer the field (the receptive field) of every row of self-attention is the whole "
            f"sequence, at every length tried ({FIELD[0]} to {FIELD[-1]})."
        )
        if holds
        else "Self-attention did not hear the whole sequence, or a field is not the one calculated.",
        f"The same is true of {listed(n for n in full if n != 'self-attention')}: of the fully connected layer up "
        "to the length it was built for, and of rnn and lstm because they read both ways here.",
        f"A convolution of kernel width {KERNEL} hears {KERNEL - 1} more rows with each layer; a dilated one "
        f"doubles this increase from layer to layer. They hear {_middle(encoders, 'convolution')} and "
        f"{_middle(encoders, 'dilated convolution')} rows after {LAYERS} layers.",
        "A field says what can be heard, not how much: see the claim on forgetting.",
    ]
    rows = [[name, *(entry["layers"][-1]["middle"] for entry in one["field"])] for name, one in encoders.items()]
    shown = table(f"Rows heard by the middle row after {LAYERS} layers, by trial", _columns(FIELD), rows)
    pictures = [_field_picture(), _field_maps(encoders)]
    return Judgement("holds" if holds else "does not hold", sentences, [shown], pictures)


def _middle(encoders: dict, name: str) -> int | str:
    """The largest number of inputs that the middle row sees after all layers."""
    return max(e["layers"][-1]["middle"] for e in encoders[name]["field"]) if name in encoders else "–"


def _field_picture() -> dict:
    series = {}
    for name, (kind, settings) in VARIANTS.items():
        left = reach(kind, LAYERS, **settings)[-1][0]
        series[name] = [[n, n if left is None else min(n, 1 + 2 * left)] for n in CALCULATED]
    return _calculated_picture(
        f"What the middle row hears after {LAYERS} layers",
        "By calculation; the table holds the trial. Where lines lie on each other the field is the whole sequence.",
        "rows heard",
        series,
    )


def _field_maps(encoders: dict[str, dict]) -> dict:
    return {
        "shape": "maps",
        "title": "Who hears whom",
        "caption": (
            f"By trial, at length {DRAWN}: a row, downwards, hears the inputs that are marked, across; after 1, 2 "
            f"and {LAYERS} layers."
        ),
        "maps": [{"name": name, "layers": one["map"]} for name, one in encoders.items()],
    }


PATH = Claim(
    1,
    "One step",
    "Self-attention joins any two positions in one step, whatever lies between them; a recurrence needs as many "
    "steps as there are positions from the one to the other, a convolution about log n layers (dilated) or 2 n / "
    "(k - 1) of kernel width k.",
    "The longest of the shortest paths between two positions, calculated from the wiring; and on built encoders, "
    "layer by layer, which rows change when one is changed. A field is the receptive field: the inputs that a "
    "row hears.",
    (
        "Holds if, at every length tried, every field found by trial equals the calculated one (pair by pair, "
        "layer by layer), the numbers of layers found by trial equal those calculated, and self-attention needs "
        "1. Does not hold otherwise."
    ),
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
    (
        "Holds if, at every length tried, every row of self-attention hears every input after one layer, and "
        "every field found by trial equals the calculated one. Does not hold otherwise."
    ),
    (
        "Vaswani et al. 2017, section 4",
        "Luo et al. 2016: the effective field of a convolution is smaller than its field",
    ),
    cells,
    judge_field,
)
