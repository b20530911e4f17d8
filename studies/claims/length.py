"""Claim 7: a weight made from the data fits any length, a weight kept for each pair of places does not.

Three questions that are often taken for one: can an encoder read a length it was not trained on at all; are its weights
made from the input; and are its answers still right there. The first two are exact and need no training.
"""

from __future__ import annotations

from functools import partial
from itertools import combinations
from pathlib import Path

import torch
from torch import Tensor

from sightline.encoders import KINDS, Mixer, build
from sightline.sequences import Sequences
from studies.claims.cell import Cell, Found
from studies.claims.claim import Claim, Judged, Stage, lines, listed, not_run, table
from studies.claims.study import Outcome, Study

BUILT_FOR, ASKED = 64, (1, 64, 65, 256, 1024)
ROWS, WIDTH, INPUTS = 8, 16, 4  # of the Jacobians that are compared
KEPT, ENOUGH = 0.9, 0.1  # of the accuracy above chance; of accuracy, above a constant answer
CODES = {
    "self-attention": ("self-attention", {}),  # half of each head turns with the position
    "self-attention, all rotary": ("self-attention", {"rotary": 1.0}),
    "self-attention, no positions": ("self-attention", {"rotary": 0.0}),
}
OTHERS = {kind: (kind, {}) for kind in KINDS if kind != "self-attention"}
STUDIES = (
    Study(
        "dyck-lengths",
        "dyck:length=2-40",
        {span: f"dyck:length={span}" for span in ("42-80", "82-160", "162-320")},
        seconds=8,
        quick_seconds=6,
        variants=CODES | OTHERS,
    ),
    Study(
        "induction-lengths",
        "induction:length=4-32",
        {span: f"induction:length={span}" for span in ("33-64", "65-128", "129-256")},
        {"causal": True},
        seconds=12,
        variants=CODES | OTHERS,
    ),
)


def cells(stage: Stage) -> list[Cell]:
    exact = [
        Cell(
            f"reading/{kind}",
            {"kind": kind, "built for": BUILT_FOR, "lengths": ASKED, "rows": ROWS, "width": WIDTH, "inputs": INPUTS},
            partial(_read, kind),
            seconds=3,
        )
        for kind in KINDS
    ]
    if stage.name == "gpu":
        return []
    return exact + [cell for study in STUDIES[: 1 if stage.quick else None] for cell in study.cells(stage)]


# ---- what is exact ---------------------------------------------------------------------------------------------------


def _read(kind: str, place: Path, found: Found) -> dict:
    """Which lengths an encoder reads, and the index of how far its weights are made from its input.

    Returns: `reads`: {length: null, or the sentence with which it refuses}; `dependence`, see `dependence`.
    """
    reads = {}
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        encoder = _built(kind)
        for length in ASKED:
            try:
                encoder(Sequences(torch.randn(length, WIDTH), [0, length]))
                reads[str(length)] = None
            except ValueError as refused:
                reads[str(length)] = str(refused)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        mixer = _built(kind).blocks[0].mixer.double()
        return {
            "kind": kind,
            "reads": reads,
            "dependence": dependence(mixer, torch.randn(INPUTS, ROWS, WIDTH).double()),
        }


def _built(kind: str):
    more = {"largest": BUILT_FOR} if kind == "fully-connected" else {}
    return build(kind, features=WIDTH, width=WIDTH, layers=1, **more)


def dependence(mixer: Mixer, inputs: Tensor) -> float:
    """How far a mixer's effective weights change from one input to another: 0 not at all, 1 as if they had nothing in common.

    The effective weights of an input x are the Jacobian J(x), output rows by input rows. The index is the mean of

        |J(x) - J(x')|^2 / (|J(x)|^2 + |J(x')|^2)

    over all pairs of inputs (Frobenius norms). It is exactly 0 for a map that is linear in its rows.
    Shapes: inputs [I, n, E].

    >>> mixer = build("convolution", features=4, width=4, layers=1).blocks[0].mixer
    >>> dependence(mixer, torch.randn(2, 3, 4))
    0.0
    """
    weights = [_jacobian(mixer, x) for x in inputs]
    changes = [
        float((one - other).square().sum() / (one.square().sum() + other.square().sum()))
        for one, other in combinations(weights, 2)
    ]
    return sum(changes) / len(changes)


def _jacobian(mixer: Mixer, x: Tensor) -> Tensor:
    """dy / dx, one row for each number of the output."""
    x = x.clone().requires_grad_()
    y = mixer(Sequences(x, [0, len(x)])).values.flatten()
    units = torch.eye(len(y), dtype=x.dtype)
    return torch.stack([torch.autograd.grad(y, x, unit.view_as(y), retain_graph=True)[0].flatten() for unit in units])


# ---- the verdict -----------------------------------------------------------------------------------------------------


def judge(found: Found) -> Judged:
    exact = {one["kind"]: one for name, one in found.items() if name.startswith("reading/")}
    if "self-attention" not in exact or "fully-connected" not in exact:
        return not_run("Nothing was tried yet.")
    refuses = {kind: [int(n) for n, said in one["reads"].items() if said] for kind, one in exact.items()}
    reads_all = not refuses["self-attention"]
    fixed = [n for n in refuses["fully-connected"] if n > BUILT_FOR] == [n for n in ASKED if n > BUILT_FOR]
    index = {kind: one["dependence"] for kind, one in exact.items()}
    without = [kind for kind in exact if index[kind] == 0 and not refuses[kind]]
    outcomes = [o for study in STUDIES if (o := study.outcome(found)) and set(CODES) & set(o.names)]
    kept = [_kept(outcome) for outcome in outcomes]
    learned = [k for k in kept if k]
    right = bool(learned) and all(k[1] >= KEPT for k in learned)
    verdict = "does not hold" if not (reads_all and fixed) else "holds" if right and not without else "holds when"
    said = [
        f"Built for {BUILT_FOR} positions, self-attention reads every length tried (up to {ASKED[-1]:,}), and the fully connected encoder "
        f'refuses all that are longer: "{exact["fully-connected"]["reads"][str(BUILT_FOR + 1)]}".'
        if reads_all and fixed
        else "Self-attention refused a length, or the fully connected encoder took one that it was not built for.",
        f"But weights made from the input are not what it takes: {listed(without)} has weights that do not depend on the input (index 0) "
        "and reads any length, because they belong to a way between two positions and not to the positions."
        if without
        else "No encoder whose weights do not depend on the input reads any length.",
        "How far each mixer is from a linear map, untrained (0: linear, with weights that do not depend on the input; 1: nothing in common from one input to another): "
        + ", ".join(f"{kind} {value:.2f}" for kind, value in index.items())
        + ". Any nonlinearity is above 0, so that this tells apart only 0 from the rest.",
    ]
    for outcome, one in zip(outcomes, kept, strict=True):
        said.append(_said(outcome, one))
    if verdict == "holds when":
        said.insert(0, _condition(learned, right))
    return Judged(verdict, said, [_exact_table(exact), *map(_table, outcomes)], list(map(_picture, outcomes)))


def _condition(learned: list, right: bool) -> str:
    """The first sentence of a claim that holds in part."""
    if not learned:
        return "It holds when one asks only whether a length can be read; whether the answers are right there was not measured, or nothing was learned."
    if right:
        return "It holds for self-attention; but that weights made from the data are needed for it does not."
    return f"It holds when one asks only whether a length can be read: far beyond the trained lengths less than {KEPT:.0%} of what was learned is kept on some task."


def _kept(outcome: Outcome) -> tuple[str, float] | None:
    """The position encoding that was best at the trained lengths, and the share of its accuracy above chance kept at the longest."""
    name = outcome.best(CODES)
    above = outcome.at_end(name)["median"] - outcome.constant
    longest = outcome.on(name, list(outcome.study.tests)[-1])
    return None if above < ENOUGH or longest is None else (name, (longest["median"] - outcome.constant) / above)


def _said(outcome: Outcome, kept: tuple[str, float] | None) -> str:
    longest = list(outcome.study.tests)[-1]
    if kept is None:
        return f"On {outcome.study.data} self-attention did not learn enough in its time to ask what it keeps."
    most = "; ".join(
        f"{name} {at['median']:.1%}" for name in outcome.names if (at := outcome.on(name, longest)) is not None
    )
    return (
        f"Trained on {outcome.study.data}, {kept[0]} (best of its codes there) keeps {max(0.0, kept[1]):.0%} of its accuracy above chance at lengths "
        f"{longest}; all there: {most}."
    )


def _exact_table(exact: dict[str, dict]) -> dict:
    rows = [
        [kind, f"{one['dependence']:.2f}", *("refuses" if one["reads"][str(n)] else "reads" for n in ASKED)]
        for kind, one in exact.items()
    ]
    return table(f"Built for {BUILT_FOR} positions", ["encoder", "index", *(f"n = {n:,}" for n in ASKED)], rows)


def _table(outcome: Outcome) -> dict:
    tests = list(outcome.study.tests)
    rows = [
        [
            name,
            outcome.at_end(name),
            *("refuses" if outcome.refusal(name, test) else outcome.on(name, test) for test in tests),
        ]
        for name in outcome.names
    ]
    trained = outcome.study.data.partition("=")[2]
    return table(
        f"Accuracy on {outcome.study.data}, and longer", ["encoder", f"{trained} (trained)", *tests], rows, "%"
    )


def _picture(outcome: Outcome) -> dict:
    tests = list(outcome.study.tests)
    series = {}
    for name in outcome.names:
        spreads = [outcome.at_end(name), *(outcome.on(name, test) for test in tests)]
        series[name] = [[i, s["median"], s["low"], s["high"]] for i, s in enumerate(spreads) if s]
    return lines(
        f"Accuracy by length, trained on {outcome.study.data}",
        "A line that ends: the encoder refuses longer sequences.",
        {
            "name": "length of the test sequences",
            "scale": "linear",
            "ticks": [outcome.study.data.partition("=")[2], *tests],
        },
        {"name": "accuracy", "scale": "linear", "percent": True},
        series,
        levels=[{"name": "constant answer", "y": outcome.constant}],
        marks=[{"name": "trained", "x": 0}],
    )


LENGTHS = Claim(
    7,
    "Any length",
    "Weights made from the data are what lets self-attention take any length; a fully connected layer, with a weight for each pair of "
    "positions, cannot.",
    "Which lengths each encoder reads that was built for fewer; how far its mixer is from a linear map, whose weights would not depend on the input (an index of its Jacobians); and, "
    "trained on short sequences, its accuracy on longer ones, for self-attention with three position encodings.",
    f"Does not hold if self-attention refuses a length or the fully connected encoder takes a longer one. Holds if besides no encoder without input-made weights "
    f"reads every length, and self-attention (the position encoding that is best at the trained lengths) keeps {KEPT:.0%} of its accuracy above chance at the longest tested, on every "
    f"task that it learned ({100 * ENOUGH:.0f} points above a constant answer). Holds when, in between.",
    (
        "Vaswani et al. 2017; Su et al. 2021 (rotary positions)",
        "Press et al. 2022, Train short, test long: most position encodings fail beyond the trained length",
        "Kazemnejad et al. 2023: position encodings compared, out of length",
        "Tolstikhin et al. 2021 (MLP-Mixer): the fully connected encoder",
    ),
    cells,
    judge,
    beside={
        "holds when": "This agrees with Press et al. 2022, of the rotary positions tried here, which are not all there are (theirs, ALiBi, is made to be read beyond them), and corrects the sentence twice. What ties a fully connected layer to a length is that it has a weight for each pair of "
        "positions, not that its weights are learned rather than made: a convolution's are learned, and it reads any length. And to read a length is not yet to be right there. "
        "(Kazemnejad et al. 2023 found no positions best beyond the trained length, in a decoder; what is found here stands in the tables.)"
    },
)
