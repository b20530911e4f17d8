"""Times rivals in one run, taking turns, so that other load hits them alike; and keeps the figures.

A benchmark here computes first whether the sides give the same result, and says nothing about speed if they do not.
Its result is a JSON file that holds the machine and its load, the versions and the commit beside the figures. With
--smoke each takes seconds: small sizes and made-up data, the same checks, one turn, and nothing is written.
"""

from __future__ import annotations

import argparse
import datetime
import json
import multiprocessing
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any, NoReturn

import sample_data
import torch
from rich.console import Console
from rich.table import Table

from sightline.tasks import Data, load

HERE = Path(__file__).parent
PACKAGES = ("numpy", "transformers", "tokenizers", "sentence-transformers", "onnxruntime", "triton")
IDLE = 0.1  # cores that other work may take on a machine that is called idle


# --- options --------------------------------------------------------------------------------------------------------


class Options(argparse.ArgumentParser):
    """Options whose defaults are others with --smoke."""

    def __init__(self, description: str, smoke: dict[str, Any]):
        super().__init__(
            description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter, allow_abbrev=False
        )
        self.smoke = smoke

    def parse_args(self, args=None, namespace=None):
        args = sys.argv[1:] if args is None else list(args)
        if "--smoke" in args:
            self.set_defaults(**self.smoke, data=sample_data.folder(), results=None)
        return super().parse_args(args, namespace)


def arguments(description: str, repeats: int | None = None, smoke: dict[str, Any] | None = None) -> Options:
    """The options that all benchmarks have. `smoke` are the defaults of a benchmark's own options with --smoke."""
    parser = Options(description, (smoke or {}) | ({} if repeats is None else {"repeats": 1}))
    parser.add_argument(
        "--data",
        type=Path,
        default=Path(os.environ.get("SIGHTLINE_DATA", HERE.parent.parent / "shared" / "data")),
        help="folder with the data sets; the environment variable SIGHTLINE_DATA names it too",
    )
    parser.add_argument(
        "--results", type=Path, default=HERE / "results", help="folder the JSON is written to; none with --smoke"
    )
    parser.add_argument(
        "--smoke",
        action="store_true",
        help="seconds: small sizes and made-up data, the same checks of values, one turn, nothing is written",
    )
    if repeats is not None:
        parser.add_argument("--repeats", type=int, default=repeats, help="turns each side takes")
    return parser


def stop(sentence: str) -> NoReturn:
    """Ends a benchmark that cannot say anything, with one sentence and exit code 2."""
    print(sentence, file=sys.stderr)
    sys.exit(2)


@contextmanager
def extra(name: str) -> Iterator[None]:
    """Around imports of packages that an extra of this project installs."""
    try:
        yield
    except ModuleNotFoundError as error:
        stop(f"{Path(sys.argv[0]).stem}: expected the package {error.name}, got none; run pip install -e '.[{name}]'")


def needed(path: Path, option: str = "its folder with --data or SIGHTLINE_DATA") -> Path:
    """A path that a benchmark cannot do without, and what names it."""
    if not path.exists():
        stop(f"{path}: expected the data of this benchmark, got no such file; name {option}")
    return path


def ewt(data: Path) -> Data:
    """UD English EWT, tagged with parts of speech."""
    return load(needed(data / "ud-english-ewt"), task="tag")


def agree(what: str, error: float, limit: float) -> float:
    """Stops where a side computes something else, before any speed is printed; returns the error."""
    if not error <= limit:
        stop(
            f"{what}: expected an error of at most {limit:g}, got {error:g}; "
            f"its speed would mean nothing, so none is printed"
        )
    return error


# --- timing, and what else the machine did meanwhile ----------------------------------------------------------------


def take_turns(sides: dict[str, Callable[[], Any]], repeats: int) -> dict[str, list[float]]:
    """Seconds of each turn of each side: A, B, A, B, ... If there are several, an uncounted turn comes first."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(-1 if repeats > 1 else 0, repeats):
        for name, side in sides.items():
            with timed():
                began = perf_counter()
                side()
                if torch.cuda.is_initialized():
                    torch.cuda.synchronize()  # a call has returned before its kernels have run
                took = perf_counter() - began
            if turn >= 0:
                seconds[name].append(took)
    return seconds


def summary(values: list[float]) -> dict[str, float]:
    return {"median": median(values), "least": min(values), "most": max(values)}


class Load:
    """Core-seconds of this process and its children, and of all others, over the parts that were timed."""

    def __init__(self):
        self.average_before = _load_average()
        self.seconds = self.own = self.others = 0.0

    def add(self, seconds: float, own: float, all_of_them: float | None) -> None:
        self.seconds += seconds
        self.own += own
        self.others += max(0.0, (all_of_them or own) - own)

    def report(self) -> dict[str, Any]:
        """Load averages, and how many cores were used in the timed parts; a note where the machine was not idle."""
        seconds = self.seconds or 1.0
        report = {
            "average_before": self.average_before,
            "average_after": _load_average(),
            "timed_seconds": self.seconds,
            "own_cores": self.own / seconds,
            "other_cores": None if _core_seconds() is None else self.others / seconds,
        }
        if report["other_cores"] is None:
            report["note"] = "what other work took is unknown: this system has no /proc/stat"
        elif report["other_cores"] > IDLE:
            report["note"] = f"not idle: other work took {report['other_cores']:.2f} of {os.cpu_count()} cores"
        return report


def _load_average() -> float | None:
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None


def _own_seconds() -> float:
    """User and system time of this process and its children; of those that still run, only of multiprocessing's."""
    running = 0
    for child in multiprocessing.active_children():
        with suppress(OSError):
            line = Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()
            running += sum(map(int, line[11:15]))
    return sum(os.times()[:4]) + (running / os.sysconf("SC_CLK_TCK") if running else 0.0)


def _core_seconds() -> float | None:
    """Of all processes since the system started, with what a hypervisor took; Linux counts."""
    try:
        user, nice, system, _, _, irq, softirq, steal = Path("/proc/stat").read_text().split(None, 9)[1:9]
    except (OSError, ValueError):
        return None
    ticks = sum(map(int, (user, nice, system, irq, softirq, steal)))
    return ticks / os.sysconf("SC_CLK_TCK")


LOAD = Load()


@contextmanager
def timed() -> Iterator[None]:
    """Around what is timed: adds it to the load that the result reports."""
    began, own, everything = perf_counter(), _own_seconds(), _core_seconds()
    yield
    now = _core_seconds()
    LOAD.add(
        perf_counter() - began, _own_seconds() - own, None if now is None or everything is None else now - everything
    )


# --- results --------------------------------------------------------------------------------------------------------


def surroundings() -> dict[str, Any]:
    """What the figures depend on besides the code."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        cpu = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        cpu = platform.processor() or platform.machine()
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": _first_line("git", "-C", str(HERE), "describe", "--always", "--dirty", "--abbrev=12"),
        "machine": {
            "cpu": cpu,
            "cores": os.cpu_count(),
            "system": platform.system(),
            "compiler": _first_line("cc", "--version"),
            "load": LOAD.report(),
        },
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "packages": _versions(),
    }


def _first_line(*command: str) -> str:
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    except OSError:
        answer = ""
    return answer.partition("\n")[0] or "unknown"


def _versions() -> dict[str, str]:
    """Of the packages that were loaded."""
    versions = {}
    for name in PACKAGES:
        if name.replace("-", "_") in sys.modules:
            try:
                versions[name] = version(name)
            except PackageNotFoundError:
                versions[name] = "unknown"
    return versions


def write(folder: Path | None, name: str, figures: dict[str, Any]) -> None:
    """Puts NAME.json into a folder, written aside and renamed; without a folder, only what would be in it is made."""
    text = json.dumps({**surroundings(), **figures}, indent=1) + "\n"
    if folder is None:
        print(f"{name}: the checks passed; nothing is written")
        return
    folder.mkdir(parents=True, exist_ok=True)
    aside = folder / f"{name}.json.partial"
    aside.write_text(text, encoding="utf-8")
    os.replace(aside, folder / f"{name}.json")
    print(f"written: {folder / name}.json")
    if "note" in LOAD.report():
        print(LOAD.report()["note"])


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
