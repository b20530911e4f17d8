"""The record of a run while it trains: metrics.jsonl, TensorBoard where it is installed, and a progress bar."""

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskProgressColumn, TextColumn

from sightline.files import append, make_folder, read_bytes, write_files

METRICS, BOARD = "metrics.jsonl", "tensorboard"
NUMBERS = ("step", "seconds", "tokens", "loss", "rate", "tokens_per_second")  # of each line


class Record:
    """The lines of a run, `history`, each also appended to metrics.jsonl; a resumed run drops those past its step.

    Other processes than the main one keep the history and write nothing.
    """

    def __init__(self, folder: Path, step: int, main: bool, progress: bool, note: str = ""):
        self.path = folder / METRICS
        self.main = main
        self.history = _lines_until(self.path, step) if step else []
        self.board = None
        if main:
            write_files(folder, {METRICS: as_lines(self.history)})
            if find_spec("tensorboard"):
                from torch.utils.tensorboard import SummaryWriter

                make_folder(folder / BOARD, inside=folder)
                self.board = SummaryWriter(folder / BOARD, purge_step=step + 1)
        self.bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[speed]}"),
            console=Console(stderr=True),
            refresh_per_second=4,
            disable=not (main and progress),
        )
        self.task = self.bar.add_task(folder.name, total=1.0, speed="")
        self.note = note if main and progress else ""

    def __enter__(self) -> "Record":
        if self.note:
            self.bar.console.print(self.note, markup=False, highlight=False, soft_wrap=True)
        self.bar.start()
        return self

    def __exit__(self, *_) -> None:
        self.bar.stop()
        if self.board:
            self.board.close()

    def line(self, line: dict) -> None:
        """Adds a line. Raises: ValueError where it cannot be written."""
        self.history.append(line)
        if not self.main:
            return
        if not append(self.path, as_lines([line])):  # a link stands there now, or nothing
            write_files(self.path.parent, {METRICS: as_lines(self.history)})
        if self.board:
            for name, value in {**line, **{f"valid/{name}": v for name, v in line.get("valid", {}).items()}}.items():
                if name not in ("step", "valid"):
                    self.board.add_scalar(name, value, line["step"])

    def show(self, used: float, seconds: float) -> None:
        """Moves the bar to the used share of the budget, after so many seconds of training."""
        last = self.history[-1] if self.history else {}
        speed = f"loss {last['loss']:.4f}  {last['tokens_per_second']:,.0f} tokens/s  " if last else ""
        left = round(seconds * (1 / used - 1)) if used else 0
        self.bar.update(self.task, completed=used, speed=f"{speed}{left // 60}:{left % 60:02d} left")


def as_lines(history: list[dict]) -> bytes:
    return "".join(json.dumps(line) + "\n" for line in history).encode()


def _lines_until(path: Path, step: int) -> list[dict]:
    """The lines up to a step; later ones will be written again, and the last may have been cut short by a kill."""
    lines = []
    for text in read_bytes(path).splitlines() if path.exists() else []:
        try:
            line = json.loads(text)
        except (ValueError, RecursionError):
            break
        if not _is_line(line) or line["step"] > step:
            break
        lines.append(line)
    return lines


def _is_line(line: Any) -> bool:
    """Whether it is a line as `loop._line` builds it."""
    if not isinstance(line, dict) or not isinstance(line.get("valid", {}), dict):
        return False
    return all(isinstance(line.get(name), (int, float)) for name in NUMBERS)
