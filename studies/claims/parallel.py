"""Claim 4: what must wait for what, and what that costs. The one is counted in the graph of a pass, the other is timed.

The longest chain of operations of which each needs the one before is the time that no number of processors can beat. How
long a machine really takes depends on how many it has: one core does n steps of a recurrence sooner than n * n pairs.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter

import torch
from torch import Tensor

from sightline.encoders import KINDS, Mixer, build
from sightline.sequences import Sequences
from studies.claims.cell import Cell, Found
from studies.claims.claim import Claim, Judged, Stage, lines, listed, not_run, table

CHAINED = (8, 16, 32, 64)
WIDTH, REPEATS = 64, 5
RECURRENT = ("rnn", "lstm")
LARGEST_FULL = 4096  # a fully connected layer has a weight for each pair
TOGETHER = 16_384  # tokens, where a batch fills the machine
CHAIN = "The longest chain (operations of which each needs the one before)"


def cells(stage: Stage) -> list[Cell]:
    if stage.name == "gpu":
        return [_timed("gpu", tuple(2**i for i in range(7, 17)))]
    chains = [
        Cell(f"chain/{kind}", {"kind": kind, "lengths": CHAINED}, partial(_chain, kind), seconds=2) for kind in KINDS
    ]
    return [*chains, _timed("cpu", tuple(2**i for i in range(6, 12 if stage.quick else 14)))]


def _timed(device: str, lengths: tuple[int, ...]) -> Cell:
    asked = {"device": device, "lengths": lengths, "width": WIDTH, "repeats": REPEATS, "together": TOGETHER}
    if device == "gpu":
        asked["gpu"] = True
    return Cell(f"time/{device}", asked, partial(_times, device, lengths), seconds=25 if len(lengths) < 7 else 240)


# ---- chains ------------------------------------------------------------------------------------------------------------


def _chain(kind: str, place: Path, found: Found) -> dict:
    """The longest chain of operations from any input row to the last output row, for each length: {"kind", "chain": [[n, operations]]}."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        more = {"largest": max(CHAINED)} if kind == "fully-connected" else {}
        mixer = build(kind, features=8, width=8, layers=1, causal=True, **more).blocks[0].mixer
        return {"kind": kind, "chain": [[n, longest_chain(_last_row(mixer, torch.randn(n, 8)))] for n in CHAINED]}


def _last_row(mixer: Mixer, values: Tensor) -> Tensor:
    """What the mixer makes of the last row. A recurrence goes row by row, as it is defined; its fused kernel hides the steps inside one operation."""
    values = values.requires_grad_()
    if type(mixer).__name__ != "Recurrent":
        return mixer(Sequences(values, [0, len(values)])).values[-1]
    state = mixer.start(1)
    for row in values.split(1):
        out, state = mixer.step(row, state)
    return out[0]


def longest_chain(output: Tensor) -> int:
    """How many operations the longest chain in the graph of an output has, each needing the one before.

    >>> x = torch.ones(2, requires_grad=True)
    >>> longest_chain(((x * 2).exp() + x).sum())
    4
    """
    length: dict = {}
    waiting = [output.grad_fn]
    while waiting:
        node = waiting[-1]
        before = [one for one, _ in node.next_functions if one is not None]
        missing = [one for one in before if one not in length]
        if missing:
            waiting += missing
            continue
        waiting.pop()
        length[node] = max((length[one] for one in before), default=0) + (
            node.name() != "torch::autograd::AccumulateGrad"
        )
    return length[output.grad_fn]


# ---- times -------------------------------------------------------------------------------------------------------------


def _times(device: str, lengths: tuple[int, ...], place: Path, found: Found) -> dict:
    """Seconds of one layer, forward and backward, in turns: {"one": {kind: [[n, seconds]]}, "many": likewise}.

    `one` is one sequence of n rows, `many` as many of them as make TOGETHER rows. Medians over the turns.
    """
    where = torch.device("cuda" if device == "gpu" else "cpu")
    times: dict[str, dict[str, list]] = {"one": {kind: [] for kind in KINDS}, "many": {kind: [] for kind in KINDS}}
    for n in lengths:
        sides = {kind: _built(kind, n).to(where) for kind in KINDS if kind != "fully-connected" or n <= LARGEST_FULL}
        for name, count in (("one", 1), ("many", TOGETHER // n)):
            if count:
                for kind, seconds in _in_turns(sides, n, count, where).items():
                    times[name][kind].append([n, seconds])
    return {"device": device, "name": torch.cuda.get_device_name() if device == "gpu" else "", **times}


def _built(kind: str, n: int) -> Mixer:
    more = {"largest": n} if kind == "fully-connected" else {}
    return build(kind, features=1, width=WIDTH, layers=1, **more).blocks[0].mixer


def _in_turns(sides: dict[str, Mixer], n: int, count: int, where: torch.device) -> dict[str, float]:
    """The median seconds of each side, which take turns, so that the machine's moods hit all alike."""
    values = torch.randn(n * count, WIDTH, device=where)
    offsets = [n * i for i in range(count + 1)]
    seconds: dict[str, list[float]] = {kind: [] for kind in sides}
    for turn in range(1 + REPEATS):
        for kind, mixer in sides.items():
            taken = _seconds(partial(_pass, mixer, values, offsets), where)
            if turn:  # the first is not counted
                seconds[kind].append(taken)
    return {kind: median(each) for kind, each in seconds.items()}


def _pass(mixer: Mixer, values: Tensor, offsets: list[int]) -> None:
    x = values.clone().requires_grad_()
    mixer(Sequences(x, offsets)).values.sum().backward()


def _seconds(call: Callable[[], None], where: torch.device) -> float:
    begin = perf_counter()
    call()
    if where.type == "cuda":
        torch.cuda.synchronize()
    return perf_counter() - begin


def exponent(times: list[list[float]]) -> float | None:
    """The slope of log time against log n, by least squares over the longer half of the lengths; None of fewer than two.

    >>> round(exponent([[1, 5.0], [2, 4.0], [4, 16.0], [8, 64.0]]), 6)
    2.0
    """
    half = [(math.log(n), math.log(t)) for n, t in times[len(times) // 2 :]]
    if len(half) < 2:
        return None
    x, y = (sum(column) / len(half) for column in zip(*half, strict=True))
    return sum((a - x) * (b - y) for a, b in half) / sum((a - x) ** 2 for a, _ in half)


def crossing(one: list[list[float]], other: list[list[float]]) -> float | None:
    """From which n on, to the longest, the first is slower than the second, on straight lines between logs; None where it ends faster.

    >>> crossing([[1, 1.0], [4, 16.0]], [[1, 2.0], [4, 8.0]])
    2.0
    """
    theirs = dict(map(tuple, other))
    gaps = [(math.log(n), math.log(t / theirs[n])) for n, t in one if n in theirs]
    if not gaps or gaps[-1][1] <= 0:
        return None
    for (x0, y0), (x1, y1) in zip(gaps[-2::-1], gaps[:0:-1], strict=True):
        if y0 <= 0:
            return round(math.exp(x0 - y0 * (x1 - x0) / (y1 - y0)), 6)
    return math.exp(gaps[0][0])


# ---- the verdict -----------------------------------------------------------------------------------------------------


def judge(found: Found) -> Judged:
    chains = {one["kind"]: one["chain"] for name, one in found.items() if name.startswith("chain/")}
    if "self-attention" not in chains or not set(RECURRENT) <= chains.keys():
        return not_run("Nothing was counted yet.")
    constant = len({length for _, length in chains["self-attention"]}) == 1
    grow = {
        kind: (chains[kind][-1][1] - chains[kind][-2][1]) / (chains[kind][-1][0] - chains[kind][-2][0])
        for kind in chains
    }
    waits = constant and all(grow[kind] >= 1 for kind in RECURRENT)
    runs = [found[name] for name in ("time/cpu", "time/gpu") if name in found]
    slower = [s for run in runs for s in _slower(run)]
    verdict = "does not hold" if not waits else "holds" if runs and not slower else "holds when"
    grows = f"{CHAIN} does not grow with n in self-attention and grows with every row in a recurrence"
    first = {
        "holds": f"{grows}, and self-attention was faster at every length timed.",
        "holds when": f"{grows}; whether that is faster depends on the machine and on n."
        if runs
        else f"{grows}; how long it takes was not measured.",
        "does not hold": f"{CHAIN} is not as claimed.",
    }[verdict]
    said = [first, *(f"{one}." for one in slower)]
    if slower:
        said.append(
            "There a shorter chain is not less time: self-attention does n * n work, and a processor with few cores can do little in parallel."
        )
    said.append(
        "Operations in the chain at n = "
        + f"{CHAINED[0]} and {CHAINED[-1]}: "
        + ", ".join(f"{kind} {chain[0][1]} and {chain[-1][1]}" for kind, chain in chains.items())
        + "."
    )
    said += [_exponents(run, form) for run in runs for form in ("one", "many")]
    said.append("Within a batch a recurrence is parallel across its sequences, so that many short ones hide the wait.")
    rows = [[kind, *(length for _, length in chain)] for kind, chain in chains.items()]
    tables = [table("Longest chain of one layer, in operations", ["encoder", *(f"n = {n}" for n in CHAINED)], rows)]
    tables += [_times_table(run, form) for run in runs for form in ("one", "many")]
    return Judged(verdict, said, tables, [_drawn(run, form) for run in runs for form in ("one", "many")])


FORMS = {"one": "one sequence of n tokens", "many": f"{TOGETHER:,} tokens in sequences of n"}


def _slower(run: dict) -> list[str]:
    """Where self-attention is slower than a recurrence, in words."""
    said = []
    for form, what in FORMS.items():
        for kind in RECURRENT:
            at = crossing(run[form]["self-attention"], run[form][kind])
            theirs = dict(map(tuple, run[form][kind]))
            some = [n for n, t in run[form]["self-attention"] if t > theirs[n]]
            if at is not None:
                said.append(
                    f"On this {run['device'].upper()}, {what}, self-attention is slower than {kind} from n = {at:,.0f} on"
                )
            elif some:
                said.append(
                    f"On this {run['device'].upper()}, {what}, self-attention is slower than {kind} at n = {listed(f'{n:,}' for n in some)}"
                )
    return said


def _exponents(run: dict, form: str) -> str:
    each = [f"{kind} {e:.2f}" for kind, times in run[form].items() if (e := exponent(times)) is not None]
    return f"{run['device'].upper()}, {FORMS[form]}: over the longer half of the lengths time grows like n to the power of {', '.join(each)}."


def _times_table(run: dict, form: str) -> dict:
    base = dict(map(tuple, run[form]["self-attention"]))
    rows = [
        [kind, *((dict(map(tuple, times)).get(n, math.nan) / t) for n, t in base.items())]
        for kind, times in run[form].items()
    ]
    rows = [[None if isinstance(v, float) and math.isnan(v) else v for v in row] for row in rows]
    title = f"{run['device'].upper()}, {FORMS[form]}: time of one layer, forward and backward, as a multiple of self-attention's; layers of width {WIDTH}, not of equal size"
    return table(title, ["encoder", *(f"n = {n:,}" for n in base)], rows)


def _drawn(run: dict, form: str) -> dict:
    first = run[form]["self-attention"][0][1]
    series = {kind: [[n, t / first] for n, t in times] for kind, times in run[form].items()}
    return lines(
        f"Time against n: {FORMS[form]}, {run['device'].upper()} {run['name']}".strip(),
        f"One layer of width {WIDTH}, forward and backward, all in turns in one run; of one width, not of equal size; in units of self-attention's first point.",
        {"name": "length n", "scale": "log"},
        {"name": f"time, in units of {1000 * first:.2g} ms", "scale": "log", "percent": False},
        series,
    )


PARALLEL = Claim(
    4,
    "In parallel",
    "A recurrence cannot be computed in parallel over its positions; self-attention can.",
    "The longest chain of dependent operations of one layer, counted in the graph of a causal pass (a recurrence row by row, as it is defined; a sum over all rows counts as one operation, and so does a kernel that does several things); and the time of one layer against n, in turns in one run, "
    f"for one sequence and for a batch that fills the machine, with fitted exponents and crossing points. The layers timed are of one width ({WIDTH}), not of equal size.",
    "Does not hold if the chain of self-attention grows with n, or that of a recurrence by less than one operation for each row. Holds if besides self-attention is faster than both recurrences at every length timed, on every device; "
    "holds when, if it is not, or no time was measured.",
    (
        "Vaswani et al. 2017, table 1 (sequential operations)",
        "Bradbury et al. 2017; Martin and Cundy 2018; Gu and Dao 2023: recurrences that are linear in their state can be computed in parallel, which an LSTM or a tanh RNN is not",
    ),
    cells,
    judge,
    beside={
        "holds when": "The chains grow as those that Vaswani et al. count. That a shorter chain is also less time does not follow from that. That a recurrence cannot do with fewer is read from its "
        "definition, h[t] from x[t] and h[t-1] through a nonlinearity, and not measured."
    },
)
