"""One measurement and its file: what is there is not measured again, and what was measured otherwise is never mixed in.

A file holds, as JSON,

    version    of the measurements; raised whenever one changes, so that old and new results do not meet
    cell       its name, which is also that of the file: `<folder>/<name>.json` under `cells`
    asked      all settings of the measurement
    seconds    it took, all told;  core: the share of them that the processor worked on it, above 1 with several threads
    machine    what it was measured on, and with which versions
    result     what was measured, as the claim's own file says
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

Found = Mapping[str, Any]  # what was measured: name of a cell -> result


@dataclass(frozen=True)
class Cell:
    """One measurement: `run(place, found)` gives the result; it may write in the folder `place`, and go on with what is there.

    `found` holds the cells of its task that came before it. `turn` says when it comes: 0 what is exact or quick, then each encoder
    once, then other rates, then other seeds. `seconds` is about how long it takes; `lacks` says what it
    needs that is not there.

    Only those of turn 0 have all cores.
    """

    name: str
    asked: dict[str, Any]
    run: Callable[[Path, Found], Any]
    turn: int = 0
    seconds: float = 5.0
    lacks: str = ""


def task(name: str) -> str:
    """The task of a cell, by its name: the folder of its file."""
    return name.partition("/")[0]


def read(folder: Path) -> dict[str, dict]:
    """What each file of a results folder holds, by the name of its cell; empty where there is no such folder.

    Raises: ValueError for a file that is damaged, or of another version.
    """
    found = {}
    for path in sorted((folder / CELLS).rglob("*.json")):
        name = path.relative_to(folder / CELLS).with_suffix("").as_posix()
        try:
            held = json.loads(path.read_text("utf-8"))
            if held["version"] == VERSION and held.keys() >= {"asked", "result", "machine", "seconds", "core"}:
                found[name] = held
                continue
            got = f"version {held['version']!r}"
        except (ValueError, KeyError, TypeError, OSError) as error:
            got = f"a damaged file ({error})"
        raise ValueError(
            f"{path}: expected a result of version {VERSION}, got {got}; name another --out, or remove it to measure it again"
        )
    return found


def known(cell: Cell, held: dict[str, dict], folder: Path) -> bool:
    """Whether the cell was measured.

    Raises: ValueError where that was done with other settings.
    """
    if cell.name not in held:
        return False
    before, now = held[cell.name]["asked"], json.loads(json.dumps(cell.asked))
    if before != now:
        name = next(key for key in [*now, *before] if before.get(key) != now.get(key))
        raise ValueError(
            f"{folder / CELLS / cell.name}.json: expected a result with {name} {now.get(name)}, got one with {before.get(name)}; "
            "name another --out"
        )
    return True


def measure(cell: Cell, held: dict[str, dict], folder: Path) -> dict:
    """Runs a cell and writes its file; what it wrote while it ran is then removed."""
    place = folder / RUNS / cell.name
    make_folder(place.parent, inside=folder)
    begin, worked = perf_counter(), process_time()
    result = cell.run(place, {name: one["result"] for name, one in held.items() if task(name) == task(cell.name)})
    seconds, worked = perf_counter() - begin, process_time() - worked
    record = {
        "version": VERSION,
        "cell": cell.name,
        "asked": cell.asked,
        "seconds": round(seconds, 2),
        "core": round(worked / seconds, 2),
        "machine": machine(),
        "result": result,
    }
    path = folder / CELLS / f"{cell.name}.json"
    make_folder(path.parent, inside=folder)
    write_files(path.parent, {path.name: (json.dumps(record, allow_nan=False) + "\n").encode()})
    shutil.rmtree(place, ignore_errors=True)
    return json.loads(json.dumps(record))
