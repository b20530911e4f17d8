"""A cell is one measurement and its file. A file that exists is not measured again; other settings are an error.

A file is `cells/<task>/<name>.json` in the results folder and holds, as JSON,

    version    of the measurements; raised whenever one changes, so that old and new results do not mix
    cell       the name, `<task>/<name>`
    asked      all settings of the measurement
    seconds    the duration;  core: processor time as a share of it, above 1 with several threads
    machine    hardware and versions
    result     what was measured; each claim's file describes its own
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

from sightline.comparison.page_data import machine
from sightline.files import make_folder, write_files

VERSION = 1
CELLS, RUNS = "cells", "runs"

Results = Mapping[str, Any]  # name of a cell -> its result


@dataclass(frozen=True)
class Cell:
    """One measurement: `run(folder, results)` returns its result.

    `run` may write to `folder`, and continues from what is there; `results` are those of earlier cells of the same
    task. `turn` is the order: 0 exact or quick, 1 each encoder once, 2 other rates, then other seeds. Only cells of
    turn 0 use all cores. `seconds` is an estimate. `missing` names what the cell needs and does not have.
    """

    name: str
    settings: dict[str, Any]
    run: Callable[[Path, Results], Any]
    turn: int = 0
    seconds: float = 5.0
    missing: str = ""


def task_name(cell_name: str) -> str:
    """The task of a cell: the folder of its file."""
    return cell_name.partition("/")[0]


def read_records(folder: Path) -> dict[str, dict]:
    """The content of each file of a results folder, by the name of its cell; empty if there is no such folder.

    Raises: ValueError for a damaged file, or one of another version.
    """
    records = {}
    for path in sorted((folder / CELLS).rglob("*.json")):
        name = path.relative_to(folder / CELLS).with_suffix("").as_posix()
        try:
            record = json.loads(path.read_text("utf-8"))
            if record["version"] == VERSION and record.keys() >= {"asked", "result", "machine", "seconds", "core"}:
                records[name] = record
                continue
            problem = f"version {record['version']!r}"
        except (ValueError, KeyError, TypeError, OSError) as error:
            problem = f"a damaged file ({error})"
        raise ValueError(
            f"{path}: expected a result of version {VERSION}, got {problem}; name another --out, or remove it to "
            "measure it again"
        )
    return records


def is_measured(cell: Cell, records: dict[str, dict], folder: Path) -> bool:
    """Whether the cell has a record.

    Raises: ValueError if it was measured with other settings.
    """
    if cell.name not in records:
        return False
    before, now = records[cell.name]["asked"], json.loads(json.dumps(cell.settings))
    if before != now:
        name = next(key for key in [*now, *before] if before.get(key) != now.get(key))
        raise ValueError(
            f"{folder / CELLS / cell.name}.json: expected a result with {name} {now.get(name)}, got one with "
            f"{before.get(name)}; name another --out"
        )
    return True


def measure(cell: Cell, records: dict[str, dict], folder: Path) -> dict:
    """Runs a cell, writes its file and removes its working folder; returns the record."""
    working = folder / RUNS / cell.name
    make_folder(working.parent, inside=folder)
    same_task = {name: one["result"] for name, one in records.items() if task_name(name) == task_name(cell.name)}
    begin, processor = perf_counter(), process_time()
    result = cell.run(working, same_task)
    seconds, processor = perf_counter() - begin, process_time() - processor
    record = {
        "version": VERSION,
        "cell": cell.name,
        "asked": cell.settings,
        "seconds": round(seconds, 2),
        "core": round(processor / seconds, 2),
        "machine": machine(),
        "result": result,
    }
    path = folder / CELLS / f"{cell.name}.json"
    make_folder(path.parent, inside=folder)
    write_files(path.parent, {path.name: (json.dumps(record, allow_nan=False) + "\n").encode()})
    shutil.rmtree(working, ignore_errors=True)
    return json.loads(json.dumps(record))
