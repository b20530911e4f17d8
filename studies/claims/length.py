"""Claim 7: a weight made from the data fits any length, a weight kept for each pair of positions does not.

Three questions are often taken for one: does an encoder read a length it was not trained on; are its weights made from
the input; are its answers still right there. The first two are exact and need no training.
"""

from __future__ import annotations

from functools import partial
from itertools import combinations
from pathlib import Path

import torch
from torch import Tensor

from sightline.encoders import KINDS, Encoder, Mixer
from sightline.sequences import Sequences
from studies.claims.cell import Cell, Results
from studies.claims.claim import Claim, Judgement, Stage, listed, medians, not_run, table, verdict_by_rules
from studies.claims.outcome_tables import picture_by_test, table_by_test
from studies.claims.small_encoders import fixed_seed, small_encoder
from studies.claims.study import Outcome, Study, cells_of, outcomes_of

BUILT_FOR, LENGTHS_READ = 64, (1, 64, 65, 256, 1024)
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
    if stage.name == "gpu":
        return []
    settings = {"built for": BUILT_FOR, "lengths": LENGTHS_READ, "rows": ROWS, "width": WIDTH, "inputs": INPUTS}
    exact = [Cell(f"reading/{kind}", {"kind": kind, **settings}, partial(_read, kind), seconds=3) for kind in KINDS]
    return exact + cells_of(STUDIES[:1] if stage.quick else STUDIES, stage)


# ---- exact measurements ----------------------------------------------------------------------------------------------


def _read(kind: str, folder: Path, results: Results) -> dict:
    """Which lengths an encoder reads, and the index of how far its weights depend on its input.

    Returns: `reads`: {length: null, or the sentence with which it refuses}; `dependence`, see `dependence`.
    """
    reads = {}
    with fixed_seed(), torch.no_grad():
        encoder = _encoder(kind)
        for length in LENGTHS_READ:
            try:
                encoder(Sequences(torch.randn(length, WIDTH), [0, length]))
                reads[str(length)] = None
            except ValueError as error:
                reads[str(length)] = str(error)
    with fixed_seed():
        mixer = _encoder(kind).blocks[0].mixer.double()
        index = dependence(mixer, torch.randn(INPUTS, ROWS, WIDTH).double())
    return {"kind": kind, "reads": reads, "dependence": index}


def _encoder(kind: str) -> Encoder:
    return small_encoder(kind, BUILT_FOR, features=WIDTH, width=WIDTH)


def dependence(mixer: Mixer, inputs: Tensor) -> float:
    """How far a mixer's effective weights change between inputs: 0 not at all, 1 as if they had nothing in common.

    The effective weights of an input x are the Jacobian J(x), output rows by input rows. The index is the mean of

        |J(x) - J(x')|^2 / (|J(x)|^2 + |J(x')|^2)

    over all pairs of inputs (Frobenius norms). It is exactly 0 for a map that is linear in its rows.
    Shapes: inputs [I, n, E].

    >>> mixer = small_encoder("convolution", 3, features=4, width=4).blocks[0].mixer
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


def judge(results: Results) -> Judgement:
    exact = {one["kind"]: one for name, one in results.items() if name.startswith("reading/")}
    if "self-attention" not in exact or "fully-connected" not in exact:
        return not_run("Nothing was tried yet.")
    outcomes = [outcome for outcome in outcomes_of(STUDIES, results) if set(CODES) & set(outcome.names)]
    kept = [_kept(outcome) for outcome in outcomes]
    learned = [share for _, share in filter(None, kept)]
    right = bool(learned) and all(share >= KEPT for share in learned)
    as_said, without = _reads_as_said(exact), _without_input_weights(exact)
    verdict = verdict_by_rules((not as_said, "does not hold"), (right and not without, "holds"), (True, "holds when"))
    sentences = [_condition(learned, right)] if verdict == "holds when" else []
    sentences += [_reading_sentence(exact, as_said), _weights_sentence(without), _index_sentence(exact)]
    sentences += [_kept_sentence(outcome, one) for outcome, one in zip(outcomes, kept, strict=True)]
    tables = [_exact_table(exact), *(table_by_test(o, _trained(o)) for o in outcomes)]
    pictures = [picture_by_test(o, _trained(o), "length of the test sequences") for o in outcomes]
    return Judgement(verdict, sentences, tables, pictures)


def _refused(one: dict) -> list[int]:
    return [int(length) for length, refusal in one["reads"].items() if refusal]


def _reads_as_said(exact: dict[str, dict]) -> bool:
    """Whether self-attention reads every length, and the fully connected encoder none beyond BUILT_FOR."""
    longer = [n for n in LENGTHS_READ if n > BUILT_FOR]
    return not _refused(exact["self-attention"]) and longer == [
        n for n in _refused(exact["fully-connected"]) if n > BUILT_FOR
    ]


def _without_input_weights(exact: dict[str, dict]) -> list[str]:
    """The encoders that read every length with weights that do not depend on the input."""
    return [kind for kind, one in exact.items() if one["dependence"] == 0 and not _refused(one)]


def _kept(outcome: Outcome) -> tuple[str, float] | None:
    """The best position encoding at the trained lengths, and the share of its accuracy above chance that it keeps.

    None if it learned too little, or nothing was measured at the longest.
    """
    name = outcome.best(CODES)
    above = outcome.at_end(name)["median"] - outcome.constant
    longest = outcome.on(name, _longest(outcome))
    return None if above < ENOUGH or longest is None else (name, (longest["median"] - outcome.constant) / above)


def _longest(outcome: Outcome) -> str:
    return list(outcome.study.tests)[-1]


def _trained(outcome: Outcome) -> str:
    return outcome.study.data.partition("=")[2]


# ---- sentences and tables --------------------------------------------------------------------------------------------


def _condition(learned: list[float], right: bool) -> str:
    """The first sentence of a claim that holds in part."""
    if not learned:
        return (
            "It holds when one asks only whether a length can be read; whether the answers are right there was "
            "not measured, or nothing was learned."
        )
    if right:
        return "It holds for self-attention, but weights made from the data are not needed for it."
    return (
        "It holds when one asks only whether a length can be read: far beyond the trained lengths less than "
        f"{KEPT:.0%} of what was learned is kept on some task."
    )


def _reading_sentence(exact: dict[str, dict], as_said: bool) -> str:
    if not as_said:
        return "Self-attention refused a length, or the fully connected encoder took one that it was not built for."
    return (
        f"Built for {BUILT_FOR} positions, self-attention reads every length tried (up to "
        f"{LENGTHS_READ[-1]:,}), and the fully connected encoder "
        f'refuses all that are longer: "{exact["fully-connected"]["reads"][str(BUILT_FOR + 1)]}".'
    )


def _weights_sentence(without: list[str]) -> str:
    if not without:
        return "No encoder whose weights do not depend on the input reads any length."
    return (
        f"But weights made from the input are not needed: {listed(without)} has weights that do not depend on the "
        "input (index 0) and reads any length, because they belong to the distance between two positions, not to "
        "the positions."
    )


def _index_sentence(exact: dict[str, dict]) -> str:
    each = ", ".join(f"{kind} {one['dependence']:.2f}" for kind, one in exact.items())
    return (
        "How far each mixer is from a linear map, untrained (0: linear, with weights that do not depend on the "
        f"input; 1: nothing in common from one input to another): {each}. Any nonlinearity is above 0, so that "
        "only 0 can be distinguished."
    )


def _kept_sentence(outcome: Outcome, kept: tuple[str, float] | None) -> str:
    if kept is None:
        return f"On {outcome.study.data} self-attention did not learn enough in its time to ask what it keeps."
    longest = _longest(outcome)
    each = medians({name: outcome.on(name, longest) for name in outcome.names}, "; ")
    return (
        f"Trained on {outcome.study.data}, {kept[0]} (its best position encoding there) keeps "
        f"{max(0.0, kept[1]):.0%} of its accuracy above chance at lengths {longest}; all encoders there: {each}."
    )


def _exact_table(exact: dict[str, dict]) -> dict:
    rows = [
        [kind, f"{one['dependence']:.2f}", *("refuses" if one["reads"][str(n)] else "reads" for n in LENGTHS_READ)]
        for kind, one in exact.items()
    ]
    columns = ["encoder", "index", *(f"n = {n:,}" for n in LENGTHS_READ)]
    return table(f"Built for {BUILT_FOR} positions", columns, rows)


LENGTHS = Claim(
    7,
    "Any length",
    "Weights made from the data are what lets self-attention take any length; a fully connected layer, with a "
    "weight for each pair of positions, cannot.",
    (
        f"Which lengths an encoder reads that was built for {BUILT_FOR} positions; how far its "
        "mixer is from a linear map, whose weights would not depend on the input (an index of "
        "its Jacobians); and the accuracy of each encoder on longer sequences than it was "
        "trained on, of self-attention with three position encodings."
    ),
    (
        "Does not hold if self-attention refuses a length, or the fully connected encoder reads one longer than "
        "it was built for. Otherwise holds if no encoder reads every length without weights made from the input, "
        f"and self-attention (with the position encoding that is best at the trained lengths) keeps {KEPT:.0%} of "
        f"its accuracy above chance at the longest tested, on every task that it learned ({100 * ENOUGH:.0f} "
        'points above a constant answer). The verdict is "holds when" in between.'
    ),
    (
        "Vaswani et al. 2017; Su et al. 2021 (rotary positions)",
        "Press et al. 2022, Train short, test long: most position encodings fail beyond the trained length",
        "Kazemnejad et al. 2023: position encodings compared, out of length",
        "Tolstikhin et al. 2021 (MLP-Mixer): the fully connected encoder",
    ),
    cells,
    judge,
    beside={
        "holds when": (
            "This agrees with Press et al. 2022 for the rotary positions tried here (their own encoding, ALiBi, "
            "is made for lengths beyond the trained ones and was not tried), and corrects the sentence twice. A "
            "fully connected layer is tied to a length because it has a weight for each pair of positions, not "
            "because its weights are learned: those of a convolution are learned too, and it reads any length. "
            "And to read a length is not yet to be right there. (Kazemnejad et al. 2023 found no positions best "
            "beyond the trained length, in a decoder; the tables show what is found here.)"
        )
    },
)
