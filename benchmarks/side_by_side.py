"""Times rivals in one run, taking turns, so that the machine's moods hit them alike; and keeps what was measured.

A benchmark here computes first whether the sides give the same result, and says nothing about speed if they do not.
Its result is a JSON file that holds the machine, the versions and the commit beside the figures.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any, NoReturn

import torch
from rich.console import Console
from rich.table import Table

from sightline.tasks import Data, load

HERE = Path(__file__).parent


def arguments(description: str, repeats: int | None = None) -> argparse.ArgumentParser:
    """The options that all benchmarks have."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument(
        "--data",
        type=Path,
        default=Path(os.environ.get("SIGHTLINE_DATA", HERE.parent.parent / "shared" / "data")),
        help="folder with the data sets; the environment variable SIGHTLINE_DATA names it too",
    )
    parser.add_argument(
        "--results", type=Path, default=HERE / "results", help="folder the JSON is written to"
    )
    if repeats is not None:
        parser.add_argument("--repeats", type=int, default=repeats, help="turns each side takes")
    return parser


def stop(sentence: str) -> NoReturn:
    """Ends a benchmark that cannot say anything, with one sentence and exit code 2."""
    print(sentence, file=sys.stderr)
    sys.exit(2)


def needed(path: Path) -> Path:
    """A path that a benchmark cannot do without."""
    if not path.exists():
        stop(
            f"{path}: expected the data of this benchmark, got no such file; name its folder with --data or SIGHTLINE_DATA"
        )
    return path


def ewt(data: Path) -> Data:
    """UD English EWT, tagged with parts of speech."""
    return load(needed(data / "ud-english-ewt"), task="tag")


def agree(what: str, error: float, limit: float) -> float:
    """Stops where a side computes something else, before any speed is printed; returns the error."""
    if not error <= limit:
        stop(
            f"{what}: expected an error of at most {limit:g}, got {error:g}; its speed would mean nothing, so none is printed"
        )
    return error


def take_turns(sides: dict[str, Callable[[], Any]], repeats: int) -> dict[str, list[float]]:
    """Seconds of each turn of each side: A, B, A, B, ... after one turn that is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(repeats + 1):
        for name, side in sides.items():
            began = perf_counter()
            side()
            if turn:
                seconds[name].append(perf_counter() - began)
    return seconds


def summary(values: list[float]) -> dict[str, float]:
    return {"median": median(values), "least": min(values), "most": max(values)}


def surroundings() -> dict[str, Any]:
    """What the figures depend on besides the code."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        cpu = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        cpu = platform.processor() or platform.machine()
    git = ["git", "-C", str(HERE), "describe", "--always", "--dirty", "--abbrev=12"]
    commit = subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip()
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": commit or "unknown",
        "machine": {"cpu": cpu, "cores": os.cpu_count(), "system": platform.system()},
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def write(folder: Path, name: str, figures: dict[str, Any]) -> None:
    """Puts NAME.json into a folder, written aside and renamed."""
    folder.mkdir(parents=True, exist_ok=True)
    aside = folder / f"{name}.json.partial"
    aside.write_text(json.dumps({**surroundings(), **figures}, indent=1) + "\n", encoding="utf-8")
    os.replace(aside, folder / f"{name}.json")
    print(f"written: {folder / name}.json")


def show(title: str, columns: list[str], rows: list[list[Any]]) -> None:
    """Prints a table, the first column to the left and figures to the right."""
    table = Table(title=title, title_justify="left")
    for i, column in enumerate(columns):
        table.add_column(column, justify="right" if i else "left")
    for row in rows:
        table.add_row(*map(str, row))
    Console(width=max(110, Console().width)).print(table)


def against(ratio: float, target: float | None) -> str:
    """A ratio beside its target, as a table shows it."""
    if target is None:
        return f"{ratio:.2f}x"
    return f"{ratio:.2f}x {'≥' if ratio >= target else '< (!)'} {target:g}x"
