"""Measures what is missing, in an order in which a part is worth something, until all is done or the time is over.

The plan is a list of cells that follows from the claims and the stage alone; what is in the folder is not done again.
What is exact or timed is measured alone; encoders are trained on one core each, as many at once as `jobs`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from itertools import groupby
from multiprocessing import get_context
from pathlib import Path
from time import perf_counter

import torch

from sightline.files import locked, write_files
from studies.claims.cell import Cell, known, measure, read, task
from studies.claims.claim import Claim, Stage
from studies.claims.counting import COUNTING
from studies.claims.document import DOCUMENT, document, in_words, left_out
from studies.claims.length import LENGTHS
from studies.claims.memory import MEMORY
from studies.claims.nesting import NESTING
from studies.claims.ngrams import NGRAMS
from studies.claims.parallel import PARALLEL
from studies.claims.syntax import COPIED, SYNTAX, read_heads
from studies.claims.who_uses_it import USES
from studies.claims.wiring import FIELDS, PATH

DISTURBED = 0.9  # of a core

CLAIMS: tuple[Claim, ...] = (PATH, FIELDS, NGRAMS, PARALLEL, MEMORY, NESTING, LENGTHS, SYNTAX, USES, COUNTING)


def run_claims(
    *,
    only: Iterable[int | str] | None = None,
    quick: bool = False,
    gpu: bool = False,
    minutes: float | None = None,
    jobs: int = 1,
    out: str | Path | None = None,
    data: str | Path | None = None,
    heads: Iterable[str | Path] = (),
    tell: Callable[[str], None] = lambda line: print(line, file=sys.stderr),
) -> dict:
    """Measures the claims, or what is missing of them, and judges each by what is there.

    `only` are numbers of claims, or names of tasks. `quick` takes one seed and seconds of training; `gpu` adds the larger
    grid. After `minutes` nothing new is begun. `jobs` encoders are trained at once, a process each. `out` is `runs/claims` by
    default (`runs/claims-quick`). `data` is a folder with trec, banking77, ud-english-ewt and tinyshakespeare, as far as they are
    there; `heads` files of results of `sightline heads`.
    Returns: the document (`document.py`), which is also written to claims.json in `out`.
    Raises: ValueError for an unknown claim or task, results of another version, no time or jobs, or no GPU where one is asked for.

    >>> import tempfile
    >>> found = run_claims(only=[2], out=tempfile.mkdtemp(), tell=str)
    >>> [(claim["number"], claim["verdict"]) for claim in found["claims"] if claim["verdict"] != "not run"]
    [(1, 'holds'), (2, 'holds')]
    """
    if minutes is not None and not minutes > 0:
        raise ValueError(f"claims: expected more than 0 minutes, got {minutes:g}; leave it out for as long as it takes")
    if jobs < 1:
        raise ValueError(f"claims: expected one job or more, got {jobs}; give as many as there are cores")
    if gpu and not torch.cuda.is_available():
        raise ValueError("claims: expected a GPU for the larger grid, got none; leave out --gpu")
    for file in heads:  # not after the minutes this takes
        read_heads(Path(file))
    begin = perf_counter()
    stage = Stage("quick" if quick else "full", _folder(data), tuple(map(Path, heads)))
    plans = {
        claim.number: claim.cells(stage) + claim.cells(Stage("gpu", stage.data, stage.heads)) * (not quick)
        for claim in CLAIMS
    }
    folder = Path(out) if out is not None else Path("runs", "claims-quick" if quick else "claims")
    chosen = _chosen(plans, only)
    with locked(folder):
        held = read(folder)
        if stage.heads and any(cell.name == COPIED for cell in chosen):  # a copy of other results, and these may be new
            held.pop(COPIED, None)
        missing = [cell for cell in chosen if not known(cell, held, folder)]
        some = sum(
            cell.seconds / (jobs if cell.turn else 1)
            for cell in missing
            if not cell.lacks and (gpu or not cell.asked.get("gpu"))
        )
        tell(
            f"{len(chosen)} measurements, {len(chosen) - len(missing)} of them found in {folder}; about {some / 60:.0f} minutes to go"
        )
        reasons = _measured(missing, held, folder, gpu, minutes and begin + 60 * minutes, jobs, tell)
        found = document(CLAIMS, plans, held, reasons, stage)
        write_files(folder, {DOCUMENT: (json.dumps(found, allow_nan=False) + "\n").encode()})
    for entry in left_out(chosen, held, reasons):
        tell(in_words(entry))
    for sentence in _disturbed(chosen, held):
        tell(f"disturbed: {sentence}")
    return found


def _disturbed(chosen: list[Cell], held: dict[str, dict]) -> list[str]:
    """The runs whose time was not theirs alone, so that equal time was not equal."""
    shares = {
        cell.name: held[cell.name]["core"]
        for cell in chosen
        if cell.turn and cell.name in held and not cell.asked.get("gpu")
    }
    return [
        f"{name} had {share:.0%} of a core; remove its file to measure it again"
        for name, share in shares.items()
        if share < DISTURBED
    ]


def _measured(
    missing: list[Cell],
    held: dict[str, dict],
    folder: Path,
    gpu: bool,
    end: float | None,
    jobs: int,
    tell: Callable[[str], None],
) -> dict[str, str]:
    """Measures cells in their order into `held`; returns why some were not."""
    reasons: dict[str, str] = {}
    number = 0
    for turn, cells in groupby(missing, lambda cell: cell.turn):  # a turn may ask for what was found in the one before
        with _one_after_another() if turn == 0 else _side_by_side(jobs) as begin:
            for cell in cells:
                number += 1
                lacks = cell.lacks or ("it needs a GPU, and --gpu" if cell.asked.get("gpu") and not gpu else "")
                if not lacks and end is not None and perf_counter() + cell.seconds > end:
                    lacks = "no time left in the budget; the same command goes on"
                if lacks:
                    reasons[cell.name] = lacks
                    continue
                tell(f"{number:>4} of {len(missing)}  {cell.name}  (about {cell.seconds:.0f} s)")
                begin(cell, held, folder)
    return reasons


@contextmanager
def _one_after_another() -> Iterator[Callable]:
    """Measures in this process."""

    def begin(cell: Cell, held: dict[str, dict], folder: Path) -> None:
        held[cell.name] = measure(cell, held, folder)

    yield begin


@contextmanager
def _side_by_side(jobs: int) -> Iterator[Callable]:
    """Measures on one core each, in as many processes as there are jobs; one job is this process."""
    if jobs == 1:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            with _one_after_another() as begin:
                yield begin
        finally:
            torch.set_num_threads(threads)
        return
    running: dict[Future, tuple[str, dict[str, dict]]] = {}

    def finish(some: Iterable[Future]) -> None:
        for one in some:
            name, held = running.pop(one)
            held[name] = one.result()

    def begin(cell: Cell, held: dict[str, dict], folder: Path) -> None:
        of_its_task = {name: one for name, one in held.items() if task(name) == task(cell.name)}
        running[pool.submit(measure, cell, of_its_task, folder)] = cell.name, held
        if len(running) == jobs:
            finish(wait(running, return_when=FIRST_COMPLETED).done)

    with ProcessPoolExecutor(jobs, get_context("spawn"), torch.set_num_threads, (1,)) as pool:
        yield begin
        finish(wait(running).done)


def _chosen(plans: dict[int, list[Cell]], only: Iterable[int | str] | None) -> list[Cell]:
    """The cells of some claims or tasks, each once, by turns."""
    every = {cell.name: cell for cells in plans.values() for cell in cells}
    if only is not None:
        tasks = {task(name) for name in every}
        picked: dict[str, Cell] = {}
        for asked in map(str, only):
            if asked.isdigit() and int(asked) in plans:
                picked |= {cell.name: cell for cell in plans[int(asked)]}
            elif asked in tasks:
                picked |= {name: cell for name, cell in every.items() if task(name) == asked}
            else:
                raise ValueError(
                    f"claims: expected numbers from {min(plans)} to {max(plans)}, or tasks out of {', '.join(sorted(tasks))}, got {asked}; choose some"
                )
        every = picked
    return sorted(every.values(), key=lambda cell: cell.turn)


def _folder(path: str | Path | None) -> Path | None:
    if path is not None and not Path(path).is_dir():
        raise ValueError(f"{path}: expected a folder of data sets, got none; check the path")
    return None if path is None else Path(path)
