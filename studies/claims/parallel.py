"""Claim 4: which operations must wait for which, counted in the graph of a pass; and how long a pass takes, timed.

The longest chain of dependent operations is the time that no number of processors can beat. The time on one machine
depends on how many it has: one core does n steps of a recurrence sooner than n * n pairs.
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

from sightline.encoders import KINDS, Mixer
from sightline.sequences import Sequences
from studies.claims.cell import Cell, Results
from studies.claims.claim import (
    RECURRENT,
    Claim,
    Judgement,
    Stage,
    line_picture,
    listed,
    not_run,
    table,
    verdict_by_rules,
)
from studies.claims.small_encoders import fixed_seed, small_encoder

CHAINED = (8, 16, 32, 64)
WIDTH, REPEATS = 64, 5
LARGEST_FULL = 4096  # the longest sequence of a fully connected layer, which has a weight for each pair
TOGETHER = 16_384  # tokens of a batch that fills the machine
FORMS = {"one": "one sequence of n tokens", "many": f"{TOGETHER:,} tokens in sequences of n"}
CHAIN = "The longest chain of dependent operations"


def cells(stage: Stage) -> list[Cell]:
    if stage.name == "gpu":
        return [_time_cell("gpu", tuple(2**i for i in range(7, 17)))]
    chains = [
        Cell(f"chain/{kind}", {"kind": kind, "lengths": CHAINED}, partial(_chain, kind), seconds=2) for kind in KINDS
    ]
    return [*chains, _time_cell("cpu", tuple(2**i for i in range(6, 12 if stage.quick else 14)))]


def _time_cell(device: str, lengths: tuple[int, ...]) -> Cell:
    settings = {"device": device, "lengths": lengths, "width": WIDTH, "repeats": REPEATS, "together": TOGETHER}
    if device == "gpu":
        settings["gpu"] = True
    return Cell(f"time/{device}", settings, partial(_times, device, lengths), seconds=25 if len(lengths) < 7 else 240)


# ---- chains ----------------------------------------------------------------------------------------------------------


def _chain(kind: str, folder: Path, results: Results) -> dict:
    """The longest chain from any input row to the last output row: {"kind", "chain": [[length, operations]]}."""
    with fixed_seed():
        mixer = small_encoder(kind, max(CHAINED), features=8, width=8, causal=True).blocks[0].mixer
        return {"kind": kind, "chain": [[n, longest_chain(_last_row(mixer, torch.randn(n, 8)))] for n in CHAINED]}


def _last_row(mixer: Mixer, values: Tensor) -> Tensor:
    """The mixer's last output row.

    A recurrence runs row by row, as it is defined: its fused kernel hides the steps inside one operation.
    """
    values = values.requires_grad_()
    if type(mixer).__name__ != "Recurrent":
        return mixer(Sequences(values, [0, len(values)])).values[-1]
    state = mixer.start(1)
    for row in values.split(1):
        out, state = mixer.step(row, state)
    return out[0]


def longest_chain(output: Tensor) -> int:
    """The number of operations in the longest chain of an output's graph, each of which needs the one before.

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
        is_operation = node.name() != "torch::autograd::AccumulateGrad"
        length[node] = max((length[one] for one in before), default=0) + is_operation
    return length[output.grad_fn]


# ---- times -----------------------------------------------------------------------------------------------------------


def _times(device: str, lengths: tuple[int, ...], folder: Path, results: Results) -> dict:
    """Seconds of one layer, forward and backward, in turns: {"one": {kind: [[n, seconds]]}, "many": likewise}.

    `one` is one sequence of n rows, `many` as many of them as make TOGETHER rows. Medians over the turns.
    """
    where = torch.device("cuda" if device == "gpu" else "cpu")
    times: dict[str, dict[str, list]] = {form: {kind: [] for kind in KINDS} for form in FORMS}
    for n in lengths:
        mixers = {
            kind: small_encoder(kind, n, features=1, width=WIDTH).blocks[0].mixer.to(where)
            for kind in KINDS
            if kind != "fully-connected" or n <= LARGEST_FULL
        }
        for form, count in (("one", 1), ("many", TOGETHER // n)):
            if count:
                for kind, seconds in _in_turns(mixers, n, count, where).items():
                    times[form][kind].append([n, seconds])
    return {"device": device, "name": torch.cuda.get_device_name() if device == "gpu" else "", **times}


def _in_turns(mixers: dict[str, Mixer], n: int, count: int, where: torch.device) -> dict[str, float]:
    """The median seconds of each mixer; they take turns, so that changes of the machine's speed affect all alike."""
    values = torch.randn(n * count, WIDTH, device=where)
    offsets = [n * i for i in range(count + 1)]
    seconds: dict[str, list[float]] = {kind: [] for kind in mixers}
    for turn in range(1 + REPEATS):
        for kind, mixer in mixers.items():
            duration = _seconds(partial(_pass, mixer, values, offsets), where)
            if turn:  # the first warms up
                seconds[kind].append(duration)
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
    """The slope of log time against log n, by least squares over the longer half of the lengths; None below two.

    >>> round(exponent([[1, 5.0], [2, 4.0], [4, 16.0], [8, 64.0]]), 6)
    2.0
    """
    half = [(math.log(n), math.log(t)) for n, t in times[len(times) // 2 :]]
    if len(half) < 2:
        return None
    x, y = (sum(column) / len(half) for column in zip(*half, strict=True))
    return sum((a - x) * (b - y) for a, b in half) / sum((a - x) ** 2 for a, _ in half)


def crossing(one: list[list[float]], other: list[list[float]]) -> float | None:
    """From which n on the first is slower than the second, interpolated between logs; None if it is faster at the end.

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


def judge(results: Results) -> Judgement:
    chains = {one["kind"]: one["chain"] for name, one in results.items() if name.startswith("chain/")}
    if "self-attention" not in chains or not set(RECURRENT) <= chains.keys():
        return not_run("Nothing was counted yet.")
    runs = [results[name] for name in ("time/cpu", "time/gpu") if name in results]
    timed = [(run, form) for run in runs for form in FORMS]
    slower = [sentence for run, form in timed for sentence in _slower(run, form)]
    constant = len({operations for _, operations in chains["self-attention"]}) == 1
    waits = constant and all(_growth(chains[kind]) >= 1 for kind in RECURRENT)
    verdict = verdict_by_rules((not waits, "does not hold"), (runs and not slower, "holds"), (True, "holds when"))
    sentences = [_first_sentence(verdict, bool(runs)), *slower]
    if slower:
        sentences.append(
            "There a shorter chain does not save time: self-attention does n * n work, and a processor with few "
            "cores can do little in parallel."
        )
    sentences.append(_chain_sentence(chains))
    sentences += [_exponents(run, form) for run, form in timed]
    sentences.append(
        "Within a batch a recurrence runs in parallel across sequences, so that many short ones hide the wait."
    )
    tables = [_chain_table(chains), *(_times_table(run, form) for run, form in timed)]
    return Judgement(verdict, sentences, tables, [_times_picture(run, form) for run, form in timed])


def _growth(chain: list[list[int]]) -> float:
    """Operations for each further row, between the two longest lengths."""
    (n0, operations0), (n1, operations1) = chain[-2:]
    return (operations1 - operations0) / (n1 - n0)


def _slower(run: dict, form: str) -> list[str]:
    """Where self-attention is slower than a recurrence, in words."""
    sentences = []
    attention = run[form]["self-attention"]
    for kind in RECURRENT:
        recurrent = dict(map(tuple, run[form][kind]))
        lengths = [n for n, seconds in attention if seconds > recurrent[n]]
        start = crossing(attention, run[form][kind])
        if start is not None:
            where = f"from n = {start:,.0f} on"
        elif lengths:
            where = f"at n = {listed(f'{n:,}' for n in lengths)}"
        else:
            continue
        sentences.append(f"On this {_device(run)}, {FORMS[form]}, self-attention is slower than {kind} {where}.")
    return sentences


def _device(run: dict) -> str:
    return run["device"].upper()


def _first_sentence(verdict: str, timed: bool) -> str:
    if verdict == "does not hold":
        return f"{CHAIN} is not as claimed."
    grows = f"{CHAIN} does not grow with n in self-attention and grows with every row in a recurrence"
    if verdict == "holds":
        return f"{grows}, and self-attention was faster at every length timed."
    if timed:
        return f"{grows}; whether that is faster depends on the machine and on n."
    return f"{grows}; how long it takes was not measured."


def _chain_sentence(chains: dict[str, list]) -> str:
    each = ", ".join(f"{kind} {chain[0][1]} and {chain[-1][1]}" for kind, chain in chains.items())
    return f"Operations in the chain at n = {CHAINED[0]} and {CHAINED[-1]}: {each}."


def _exponents(run: dict, form: str) -> str:
    each = [f"{kind} {e:.2f}" for kind, times in run[form].items() if (e := exponent(times)) is not None]
    return (
        f"{_device(run)}, {FORMS[form]}: over the longer half of the lengths time grows like n to the power of "
        f"{', '.join(each)}."
    )


def _chain_table(chains: dict[str, list]) -> dict:
    rows = [[kind, *(operations for _, operations in chain)] for kind, chain in chains.items()]
    return table("Longest chain of one layer, in operations", ["encoder", *(f"n = {n}" for n in CHAINED)], rows)


def _times_table(run: dict, form: str) -> dict:
    attention = dict(map(tuple, run[form]["self-attention"]))
    rows = []
    for kind, times in run[form].items():
        seconds = dict(map(tuple, times))
        rows.append([kind, *(seconds[n] / base if n in seconds else None for n, base in attention.items())])
    title = (
        f"{_device(run)}, {FORMS[form]}: time of one layer, forward and backward, as a multiple of "
        f"self-attention's; layers of width {WIDTH}, not of equal size"
    )
    return table(title, ["encoder", *(f"n = {n:,}" for n in attention)], rows)


def _times_picture(run: dict, form: str) -> dict:
    first = run[form]["self-attention"][0][1]
    series = {kind: [[n, t / first] for n, t in times] for kind, times in run[form].items()}
    return line_picture(
        f"Time against n: {FORMS[form]}, {_device(run)} {run['name']}".strip(),
        (
            f"One layer of width {WIDTH}, forward and backward, all in turns in one run; of one width, not of "
            "equal size; in units of self-attention's first point."
        ),
        {"name": "length n", "scale": "log"},
        {"name": f"time, in units of {1000 * first:.2g} ms", "scale": "log", "percent": False},
        series,
    )


PARALLEL = Claim(
    4,
    "In parallel",
    "A recurrence cannot be computed in parallel over its positions; self-attention can.",
    (
        "The longest chain of dependent operations of one layer, counted in the graph of a causal pass; a "
        "recurrence runs row by row, as it is defined, and a sum over all rows or a fused kernel counts as one "
        "operation. And the time of one layer against n, in turns in one run, for one sequence and for a batch "
        "that fills the machine, with fitted exponents and crossing points. The layers timed are of one width "
        f"({WIDTH}), not of equal size."
    ),
    (
        "Does not hold if the chain of self-attention grows with n, or that of a recurrence grows by less than "
        "one operation per row. Otherwise holds if self-attention is faster than both recurrences at every "
        'length timed, on every device. The verdict is "holds when" if it is not, or if no time was measured.'
    ),
    (
        "Vaswani et al. 2017, table 1 (sequential operations)",
        (
            "Bradbury et al. 2017; Martin and Cundy 2018; Gu and Dao 2023: recurrences that are linear in their "
            "state can be computed in parallel, which an LSTM or a tanh RNN is not"
        ),
    ),
    cells,
    judge,
    beside={
        "holds when": (
            "The chains grow as those that Vaswani et al. count. A shorter chain need not take less time. That a "
            "recurrence needs its chain follows from its definition, h[t] from x[t] and h[t-1] through a "
            "nonlinearity; it is not measured."
        )
    },
)
