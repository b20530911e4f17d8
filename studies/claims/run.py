"""Measures the missing cells, the most informative first, until all are done or the time is over; then judges.

The plan is a list of cells that follows from the claims and the stage alone. Cells of turn 0 (exact or timed) are
measured alone; encoders are trained on one core each, as many at once as `jobs`.
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
from studies.claims.cell import Cell, is_measured, measure, read_records, task_name
from studies.claims.claim import Claim, Stage
from studies.claims.counting import COUNTING
from studies.claims.document import DOCUMENT, document, in_words, left_out
from studies.claims.encoder_generator import ENCODER_GENERATOR
from studies.claims.forgetting import FORGETTING
from studies.claims.hierarchy import HIERARCHY
from studies.claims.length import LENGTHS
from studies.claims.ngrams import NGRAMS
from studies.claims.parallel import PARALLEL
from studies.claims.syntax import COPIED, SYNTAX, read_heads
from studies.claims.wiring import FIELDS, PATH

CLAIMS: tuple[Claim, ...] = (
    PATH,
    FIELDS,
    NGRAMS,
    PARALLEL,
    FORGETTING,
    HIERARCHY,
    LENGTHS,
    SYNTAX,
    ENCODER_GENERATOR,
    COUNTING,
)
DISTURBED = 0.9  # share of a core below which other work disturbed a run


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
    """Measures the claims, as far as cells are missing, and judges each by its results.

    `only` are numbers of claims, or names of tasks. `quick` takes one seed and seconds of training; `gpu` adds the
    larger grid. After `minutes` no further cell begins. `jobs` encoders are trained at once, a process each. `out` is
    `runs/claims` by default (`runs/claims-quick`). `data` is a folder with any of trec, banking77, ud-english-ewt and
    tinyshakespeare; `heads` are result files of `sightline heads`.
    Returns: the document (`document.py`), which is also written to claims.json in `out`.
    Raises: ValueError for an unknown claim or task, results of another version, no time, no jobs, or no GPU.

    >>> import tempfile
    >>> document = run_claims(only=[2], out=tempfile.mkdtemp(), tell=str)
    >>> [(claim["number"], claim["verdict"]) for claim in document["claims"] if claim["verdict"] != "not run"]
    [(1, 'holds'), (2, 'holds')]
    """
    begin = perf_counter()
    heads = tuple(map(Path, heads))
    _check_arguments(minutes, jobs, gpu, heads)
    stage = Stage("quick" if quick else "full", _data_folder(data), heads)
    plans = _plans(stage)
    folder = Path(out) if out is not None else Path("runs", "claims-quick" if quick else "claims")
    chosen = _chosen(plans, only)
    with locked(folder):
        records = read_records(folder)
        if heads and any(cell.name == COPIED for cell in chosen):  # replace the copy, since these files may be new
            records.pop(COPIED, None)
        missing = [cell for cell in chosen if not is_measured(cell, records, folder)]
        estimate = sum(
            cell.seconds / (jobs if cell.turn else 1)
            for cell in missing
            if not cell.missing and (gpu or not cell.settings.get("gpu"))
        )
        tell(
            f"{len(chosen)} measurements, {len(chosen) - len(missing)} of them found in {folder}; about "
            f"{estimate / 60:.0f} minutes to go"
        )
        end = None if minutes is None else begin + 60 * minutes
        reasons = _measure_missing(missing, records, folder, gpu, end, jobs, tell)
        judged = document(CLAIMS, plans, records, reasons, stage)
        write_files(folder, {DOCUMENT: (json.dumps(judged, allow_nan=False) + "\n").encode()})
    for entry in left_out(chosen, records, reasons):
        tell(in_words(entry))
    for sentence in _disturbed(chosen, records):
        tell(f"disturbed: {sentence}")
    return judged


def _check_arguments(minutes: float | None, jobs: int, gpu: bool, heads: Iterable[Path]) -> None:
    if minutes is not None and not minutes > 0:
        raise ValueError(f"claims: expected more than 0 minutes, got {minutes:g}; leave it out for as long as it takes")
    if jobs < 1:
        raise ValueError(f"claims: expected one job or more, got {jobs}; give as many as there are cores")
    if gpu and not torch.cuda.is_available():
        raise ValueError("claims: expected a GPU for the larger grid, got none; leave out --gpu")
    for file in heads:  # a damaged file is reported before minutes of measuring
        read_heads(file)


def _data_folder(path: str | Path | None) -> Path | None:
    if path is not None and not Path(path).is_dir():
        raise ValueError(f"{path}: expected a folder of data sets, got none; check the path")
    return None if path is None else Path(path)


def _plans(stage: Stage) -> dict[int, list[Cell]]:
    """The cells of each claim; those for a GPU too, except in the quick stage."""
    larger = Stage("gpu", stage.data, stage.heads)
    return {claim.number: claim.cells(stage) + ([] if stage.quick else claim.cells(larger)) for claim in CLAIMS}


def _chosen(plans: dict[int, list[Cell]], only: Iterable[int | str] | None) -> list[Cell]:
    """The cells of some claims or tasks, each once, by turns."""
    every = {cell.name: cell for cells in plans.values() for cell in cells}
    if only is not None:
        tasks = {task_name(name) for name in every}
        chosen: dict[str, Cell] = {}
        for choice in map(str, only):
            if choice.isdigit() and int(choice) in plans:
                chosen |= {cell.name: cell for cell in plans[int(choice)]}
            elif choice in tasks:
                chosen |= {name: cell for name, cell in every.items() if task_name(name) == choice}
            else:
                raise ValueError(
                    f"claims: expected numbers from {min(plans)} to {max(plans)}, or tasks out of "
                    f"{', '.join(sorted(tasks))}, got {choice}; choose some"
                )
        every = chosen
    return sorted(every.values(), key=lambda cell: cell.turn)


def _disturbed(chosen: list[Cell], records: dict[str, dict]) -> list[str]:
    """The runs that shared their core with other work, so that their time was not equal to that of others."""
    shares = {
        cell.name: records[cell.name]["core"]
        for cell in chosen
        if cell.turn and cell.name in records and not cell.settings.get("gpu")
    }
    return [
        f"{name} had {share:.0%} of a core; remove its file to measure it again"
        for name, share in shares.items()
        if share < DISTURBED
    ]


def _measure_missing(
    missing: list[Cell],
    records: dict[str, dict],
    folder: Path,
    gpu: bool,
    end: float | None,
    jobs: int,
    tell: Callable[[str], None],
) -> dict[str, str]:
    """Measures cells in their order into `records`; returns why some were not measured."""
    reasons: dict[str, str] = {}
    number = 0
    for turn, cells in groupby(missing, lambda cell: cell.turn):  # a cell may use results of earlier turns
        with _one_after_another() if turn == 0 else _side_by_side(jobs) as begin:
            for cell in cells:
                number += 1
                if reason := _reason_to_skip(cell, gpu, end):
                    reasons[cell.name] = reason
                    continue
                tell(f"{number:>4} of {len(missing)}  {cell.name}  (about {cell.seconds:.0f} s)")
                begin(cell, records, folder)
    return reasons


def _reason_to_skip(cell: Cell, gpu: bool, end: float | None) -> str:
    if cell.missing:
        return cell.missing
    if cell.settings.get("gpu") and not gpu:
        return "it needs a GPU, and --gpu"
    if end is not None and perf_counter() + cell.seconds > end:
        return "no time left in the budget; the same command goes on"
    return ""


@contextmanager
def _one_after_another() -> Iterator[Callable]:
    """Measures in this process."""

    def begin(cell: Cell, records: dict[str, dict], folder: Path) -> None:
        records[cell.name] = measure(cell, records, folder)

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

    def finish(done: Iterable[Future]) -> None:
        for future in done:
            name, records = running.pop(future)
            records[name] = future.result()

    def begin(cell: Cell, records: dict[str, dict], folder: Path) -> None:
        same_task = {name: one for name, one in records.items() if task_name(name) == task_name(cell.name)}
        running[pool.submit(measure, cell, same_task, folder)] = cell.name, records
        if len(running) == jobs:
            finish(wait(running, return_when=FIRST_COMPLETED).done)

    with ProcessPoolExecutor(jobs, get_context("spawn"), torch.set_num_threads, (1,)) as pool:
        yield begin
        finish(wait(running).done)
